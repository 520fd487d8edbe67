"""Links: two processes that hear of each other's end. A process without any pays nothing."""

from typing import TYPE_CHECKING

from trio.lowlevel import enable_ki_protection

from slipstream.reasons import NOPROC, ExitReason

from ._ref import ServerRef, target_of
from ._results import Exited, StopCause

if TYPE_CHECKING:
    from ._shell import Shell

__all__ = ["Links", "link", "links_of", "sever", "tell_links", "unlink"]


class Links:
    """What a process that was ever linked knows of its links.

    Attributes:
        peers: the processes it is linked to, and by which reference it is told of each.
        signal: the reason of the exit signal that stops it, once one does.
    """

    __slots__ = ("peers", "signal")

    def __init__(self) -> None:
        self.peers: dict[Shell, ServerRef] = {}
        self.signal: ExitReason | None = None


def links_of(process: "Shell") -> Links:
    """Give the links of *process*, made when first needed."""
    if process.links is None:
        process.links = Links()
    return process.links


@enable_ki_protection
def link(process: "Shell", ref: ServerRef, other: "Shell | None") -> None:
    """Link *process* and *other*, which *ref* leads to; if there is no such, it hears so at once."""
    if other is process:
        return
    if other is None or other.exit_reason is not None:
        process.exit_signal(ref, NOPROC, "failed")
        return
    links_of(process).peers.setdefault(other, ref)
    links_of(other).peers.setdefault(process, process.make_ref())


@enable_ki_protection
def unlink(process: "Shell", ref: ServerRef) -> None:
    """Take back the link of *process* to where *ref* leads, with what it has been told of it."""
    if process.links is not None:
        target = target_of(ref)
        for other in [peer for peer in process.links.peers if target in (peer, peer.address)]:
            sever(process, other)
    address = _address_of(ref)
    process.mailbox.remove(
        lambda message: isinstance(message, Exited) and _address_of(message.ref) is address
    )


@enable_ki_protection
def sever(one: "Shell", other: "Shell") -> None:
    """Take back the link of two processes, if there is one."""
    for process, peer in ((one, other), (other, one)):
        if process.links is not None:
            process.links.peers.pop(peer, None)


def _address_of(ref: ServerRef) -> object:
    target: object = target_of(ref)
    return getattr(target, "address", target)


@enable_ki_protection
def tell_links(process: "Shell", reason: ExitReason) -> None:
    """Have every process that *process* is linked to hear that it has ended for *reason*."""
    if process.links is None:
        return
    cause: StopCause = process.stop_cause or "failed"
    while process.links.peers:
        other = next(iter(process.links.peers))
        del process.links.peers[other]
        ref = links_of(other).peers.pop(process)
        other.exit_signal(ref, reason, cause)
