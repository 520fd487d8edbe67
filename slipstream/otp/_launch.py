"""How a process is started, by whoever will be its parent."""

import math

import trio
from trio.lowlevel import enable_ki_protection

from slipstream.errors import AlreadyStartedError, StartError
from slipstream.reasons import NORMAL, Crashed, Shutdown

from ._child_spec import ChildSpec, Start, label_of
from ._process import Process
from ._ref import Target
from ._reports import join_path, show
from ._results import FailedToStart
from ._shell import Parent
from ._tree import Tree
from ._waits import Host, blocked_on, wait_for

__all__ = ["PROCESS_CLASSES", "launch", "make_process"]


@enable_ki_protection
async def launch(
    process: Process, nursery: trio.Nursery, *, host: Host | None, blocked: Host | None
) -> None:
    """Start *process* in *nursery* and wait until it has started, or failed to.

    *host* is the process that the wait is inside of; it is *blocked* meanwhile, unless one of its
    helpers waits.

    Raises:
        StartError: if it did not start; it has ended then.
        Exit: if *host* is being stopped; the process may still be starting.
    """
    nursery.start_soon(process.run, name=process.label)
    limit = process.spec.start_timeout
    deadline = limit if limit == math.inf else trio.current_time() + limit
    with blocked_on(blocked, process, until=process.started):
        in_time = await wait_for(
            process.started, timers=process.timers, host=host, deadline=deadline
        )
        if not in_time:
            process.kill("failed")
            await wait_for(process.done, timers=process.timers, host=None)
            raise StartError(
                f"{process.label} did not start within {process.spec.start_timeout:g} s",
                reason=process.last_reason(),
            )
    if not process.was_started and not process.ignored:
        raise start_error(process)


def start_error(process: Process) -> StartError:
    """Make the error that tells why *process* did not start."""
    reason = process.last_reason()
    cause = process.start_cause
    if cause is None and isinstance(reason, Crashed):
        cause = reason.exception
    if isinstance(cause, AlreadyStartedError):
        return AlreadyStartedError(str(cause), reason=cause.reason, ref=cause.ref)
    inner, path = reason, [process.label]
    while isinstance(inner, Shutdown) and isinstance(inner.detail, FailedToStart):
        path.append(label_of(inner.detail.id))
        inner = inner.detail.reason
    why = show(cause if cause is not None else inner)
    if cause is None and inner == NORMAL:
        why = "it ended at once"
    error = StartError(f"{join_path(path)} did not start: {why}", reason=reason)
    error.__cause__ = cause
    return error


PROCESS_CLASSES: dict[str, type[Process]] = {}
"""What runs a child, by its type or by its class; filled in by the modules that define them."""


def make_process(
    spec: ChildSpec, *, tree: Tree, parent: Parent, address: Target | None = None
) -> Process:
    """Make a process for *spec*, not yet started; its name is taken from here on.

    Raises:
        AlreadyStartedError: if the name is taken.
        StartError: if the class of its start is none that can be a process.
    """
    chosen = PROCESS_CLASSES[spec.type]
    if isinstance(spec.start, Start):
        for candidate in PROCESS_CLASSES.values():
            if issubclass(spec.start.cls, candidate.serves):
                chosen = candidate
                break
        else:
            raise StartError(
                f"{spec.start.cls!r} cannot be a process: it is no GenServer and no supervisor",
                reason=NORMAL,
            )
    return chosen(spec, tree=tree, parent=parent, address=address)
