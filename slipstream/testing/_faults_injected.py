"""Which faults stand, and on which connections they are."""

import itertools
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from slipstream.errors import ConfigError

from ._faults_line import Line, Undo
from ._wire import Wire
from .faults import Fault, check_faults

if TYPE_CHECKING:  # a cycle by nature: the server's sockets have lines, faults are on the lines
    from ._socket import ServerSocket

__all__ = ["Injected", "Injections", "To"]

To: TypeAlias = "Literal['all', 'open', 'next'] | ServerSocket"


class Injected:
    """Faults that were injected, until they are lifted.

    Attributes:
        faults: which.
        struck: how often one of them has begun to act so far.
    """

    def __init__(
        self,
        faults: Sequence[Fault],
        *,
        tell: Callable[[], None],
        forget: Callable[["Injected"], None],
    ) -> None:
        self.faults = tuple(faults)
        self.struck = 0
        self._tell = tell
        self._forget = forget
        self._undos: dict[Line, list[Undo]] = {}

    def lift(self) -> None:
        """Take the faults back: what they hold up goes on; what they ended stays ended."""
        self._forget(self)
        undos, self._undos = self._undos, {}
        for mine in undos.values():
            for undo in reversed(mine):
                undo()

    def begin_on(self, line: Line) -> None:
        """Let the faults begin on a connection."""
        self._undos[line] = [fault.begin(line, self._note) for fault in self.faults]

    def end_on(self, line: Line) -> None:
        """Note that a connection is over: there is nothing to take back on it."""
        self._undos.pop(line, None)

    def _note(self) -> None:
        self.struck += 1
        self._tell()


class Injections:
    """The faults of a server, and its connections."""

    def __init__(self, tell: Callable[[], None]) -> None:
        self._tell = tell
        self._standing: list[Injected] = []
        self._next: deque[Injected] = deque()
        self._lines: dict[Line, set[Injected]] = {}
        self._numbers = itertools.count(1)

    def new_line(self, socket: "ServerSocket", wire: Wire) -> Line:
        """Make the line of a new connection, with the faults that it is to have."""
        line = Line(socket, wire, next(self._numbers))
        self._lines[line] = set()
        mine = [*self._standing, *([self._next.popleft()] if self._next else [])]
        try:
            for injected in mine:
                self._begin(injected, line)
        except Exception:
            self.line_ended(line)
            raise
        return line

    def line_ended(self, line: Line) -> None:
        """Note that a connection is over."""
        for injected in self._lines.pop(line, ()):
            injected.end_on(line)

    def inject(self, faults: Sequence[Fault], to: To) -> Injected:
        """Let *faults* happen *to* connections.

        Raises:
            ConfigError: with what is accepted.
        """
        check_faults(faults)
        injected = Injected(faults, tell=self._tell, forget=self._forget)
        lines: list[Line] = []
        match to:
            case "all":
                self._standing.append(injected)
                lines = list(self._lines)
            case "next":
                self._next.append(injected)
            case "open":
                lines = [line for line in self._lines if line.open]
            case _:
                lines = [_line_of(to)]
        if to not in {"all", "next"}:
            for fault in faults:
                if fault.at_connect:
                    raise ConfigError(
                        f"to is {to!r}; accepted is 'all' or 'next' for what happens at a connect "
                        "(refuse, never_answer)"
                    )
        for line in lines:
            self._begin(injected, line)
        return injected

    def _begin(self, injected: Injected, line: Line) -> None:
        if line in self._lines:
            self._lines[line].add(injected)
        injected.begin_on(line)

    def _forget(self, injected: Injected) -> None:
        """Let no further connection have *injected*."""
        for kept in (self._standing, self._next):
            if injected in kept:
                kept.remove(injected)
        for begun in self._lines.values():
            begun.discard(injected)


def _line_of(to: Any) -> Line:
    line = getattr(to, "line", None)
    if not isinstance(line, Line):
        raise ConfigError(f"to is {to!r}; accepted are 'all', 'open', 'next' and a ServerSocket")
    return line
