"""What happened in a test, in order: frames, callbacks, connections; for people and for assertions."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs
import trio

from slipstream.interfaces import Message
from slipstream.reasons import ExitReason

__all__ = ["Call", "End", "Entry", "Timeline", "Watcher"]

_SHOWN: Final = 25
"""So many of the newest entries stand in the message of a failed assertion."""
_WIDTH: Final = 160


@attrs.define(eq=False)
class Call:
    """A callback of the client that has been called.

    Attributes:
        name: of the callback.
        args: its arguments, without the socket.
        captures: what the patterns of its ``@on_message`` gave it by keyword.
        result: what it returned.
        error: what left it instead; a ``LinkError`` has ended that callback only.
        at: when it began, on trio's clock.
        done: whether it has ended.
    """

    name: str
    args: tuple[Any, ...]
    captures: Mapping[str, Any] = attrs.field(factory=dict[str, Any], kw_only=True)
    result: Any = None
    error: BaseException | None = None
    at: float = 0.0
    done: bool = False


@attrs.define(eq=False)
class End:
    """The end of one incarnation of the client; *forgiven* if the test had meant it to crash."""

    reason: ExitReason
    forgiven: bool = False


@attrs.frozen
class Entry:
    """Something that happened: *who* did *what*, *at* that moment."""

    at: float
    who: str
    what: str


class Watcher:
    """Whoever wants to be told at once what happens. This one looks away."""

    def attempted(self, attempt: Any) -> None:
        """Note that the client wants to connect."""

    def attempt_failed(self, attempt: Any) -> None:
        """Note that such an attempt came to nothing."""

    def opened(self, wire: Any) -> None:
        """Note that a connection is open."""

    def closed(self, wire: Any) -> None:
        """Note that a connection has ended."""

    def said(self, wire: Any, message: Message) -> None:
        """Note that the server sends *message*."""

    def stalled(self) -> None:
        """Note that the server reads nothing from now on."""

    def heard(self, wire: Any, message: Message) -> None:
        """Note that *message* of the client's has come."""

    def began(self, call: "Call") -> None:
        """Note that a callback is called."""

    def ended(self, call: "Call") -> None:
        """Note that it has ended."""

    def life_ended(self, end: "End") -> None:
        """Note that an incarnation has ended."""


class Timeline:
    """Everything that happened so far.

    Attributes:
        watcher: is told at once.
    """

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.watcher = Watcher()
        self.began = trio.current_time()
        self._changed = trio.Event()

    def note(self, who: str, what: str) -> None:
        """Note that *who* did *what*, and wake whoever waits for something to happen."""
        self.entries.append(Entry(trio.current_time(), who, what))
        self.tell()

    def tell(self) -> None:
        """Wake whoever waits for something to happen."""
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    @property
    def changed(self) -> trio.Event:
        """What is set when something more has happened."""
        return self._changed

    def render(self, keep: Callable[[Entry], bool] = lambda _: True) -> str:
        """Write the newest entries, a line each, with the seconds since the beginning."""
        entries = [entry for entry in self.entries if keep(entry)]
        if not entries:
            return "    nothing at all"
        lines = [
            f"    {entry.at - self.began:8.3f} s  {entry.who:<9} {_cut(entry.what)}"
            for entry in entries[-_SHOWN:]
        ]
        left_out = len(entries) - len(lines)
        return "\n".join([f"    … {left_out} more before"] * bool(left_out) + lines)


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _WIDTH else f"{line[: _WIDTH - 1]}…"
