"""Which faults stand, and on which connections they are."""

import itertools
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from slipstream.errors import ConfigError

from ._faults_line import Line, Undo
from ._wire import Wire

if TYPE_CHECKING:  # a cycle by nature: the server's sockets have lines, faults are on the lines
    from ._socket import ServerSocket
    from .faults import Fault

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
        faults: "Sequence[Fault]",
        *,
        tell: Callable[[], None],
        forget: Callable[["Injected"], None],
    ) -> None:
        self.faults = tuple(faults)
        self.struck = 0
        self._tell = tell
        self._forget = forget
        self._undos: list[Undo] = []

    def lift(self) -> None:
        """Take the faults back: what they hold up goes on; what they ended stays ended."""
        self._forget(self)
        undos, self._undos = self._undos, []
        for undo in reversed(undos):
            undo()

    def begin_on(self, line: Line) -> None:
        """Let the faults begin on a connection."""
        self._undos += [fault.begin(line, self._note) for fault in self.faults]

    def _note(self) -> None:
        self.struck += 1
        self._tell()


class Injections:
    """The faults of a server, and its connections."""

    def __init__(self, tell: Callable[[], None]) -> None:
        self._tell = tell
        self._standing: list[Injected] = []
        self._next: deque[Injected] = deque()
        self._lines: list[Line] = []
        self._numbers = itertools.count(1)

    def new_line(self, socket: "ServerSocket", wire: Wire) -> Line:
        """Make the line of a new connection, with the faults that it is to have."""
        line = Line(socket, wire, next(self._numbers))
        self._lines.append(line)
        mine = [*self._standing, *([self._next.popleft()] if self._next else [])]
        for injected in mine:
            injected.begin_on(line)
        return line

    def line_ended(self, line: Line) -> None:
        """Note that a connection is over."""
        if line in self._lines:
            self._lines.remove(line)

    def inject(self, faults: "Sequence[Fault]", to: To) -> Injected:
        """Let *faults* happen *to* connections.

        Raises:
            ConfigError: with what is accepted.
        """
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
                    raise ConfigError(f"{fault!r} is for connects to come: to='all' or to='next'")
        for line in lines:
            injected.begin_on(line)
        return injected

    def _forget(self, injected: Injected) -> None:
        """Let no further connection have *injected*."""
        for kept in (self._standing, self._next):
            if injected in kept:
                kept.remove(injected)


def _line_of(to: Any) -> Line:
    line = getattr(to, "line", None)
    if not isinstance(line, Line):
        raise ConfigError(f"to is {to!r}; accepted are 'all', 'open', 'next' and a ServerSocket")
    return line
