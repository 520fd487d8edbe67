"""Faults by script: what may go wrong between a client and a server.

Each function gives a value; :meth:`slipstream.testing.PhoenixServer.inject` lets it happen. Faults
compose: of several, messages pass through each in turn. What depends on chance depends on a *seed*
and on which connection of the server's it is, and so comes out the same every time. All of them exist
over TCP and in memory::

    server.inject(refuse(503, retry_after=2), to="next")
    server.inject(after("phx_join", half_open()))
    noise = server.inject(duplicate_frames(), reorder(seed=7))
    ...
    noise.lift()
"""

import math
import random
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import attrs

from slipstream.errors import ConfigError
from slipstream.interfaces import Message

from ._faults_line import Line, Undo
from ._faults_stages import Delaying, Garbling, Reordering, Repeating, Stage
from ._handshake import Reject

__all__ = [
    "Fault",
    "Moment",
    "after",
    "close",
    "drop",
    "drop_after",
    "duplicate_frames",
    "garble",
    "half_open",
    "never_answer",
    "refuse",
    "reorder",
    "reply_late",
    "restart",
    "slow",
    "stall_reads",
    "stall_writes",
]

Moment: TypeAlias = float | str | Callable[[Message], bool]
"""Seconds, the event of a message either way, or a predicate on messages."""


def _nothing() -> None:
    """Undo what leaves nothing to undo."""


class Fault:
    """Something that goes wrong on a connection; made by the functions of this module."""

    at_connect = False

    def begin(self, line: Line, note: Callable[[], None]) -> Undo:
        """Let it happen on *line*, once its client has been let in; give what takes it back."""

        def start() -> Undo:
            note()
            return self.act(line) or _nothing

        return line.when_open(start)

    def act(self, line: Line) -> Undo | None:
        """Happen now."""
        raise NotImplementedError


# At the connect


class _AtConnect(Fault):
    at_connect = True

    def begin(self, line: Line, note: Callable[[], None]) -> Undo:
        if line.open:
            return _nothing  # it came earlier
        note()
        return self.act(line) or _nothing


@attrs.frozen
class _Refuse(_AtConnect):
    reject: Reject

    def act(self, line: Line) -> Undo:
        return line.refuse(self.reject)


@attrs.frozen
class _NeverAnswer(_AtConnect):
    def act(self, line: Line) -> Undo:
        return line.silence()


def refuse(
    status: int = 503, *, retry_after: float | None = None, body: bytes = b"", **headers: str
) -> Fault:
    """Refuse the connect with an HTTP *status*.

    *retry_after* is in seconds. Other *headers* are given by name, with ``_`` for ``-``.
    """
    _check("status", status, type(status) is int and 300 <= status <= 599, "300 to 599")
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    if retry_after is not None:
        _check("retry_after", retry_after, retry_after >= 0, "seconds, 0 or more")
        fields["retry-after"] = f"{retry_after:g}"
    return _Refuse(Reject(status, body, fields))


def never_answer() -> Fault:
    """Take the connection, read the upgrade request, and never answer it; not until it is lifted."""
    return _NeverAnswer()


# At a moment


@attrs.frozen
class _Drop(Fault):
    def act(self, line: Line) -> None:
        line.cut()


@attrs.frozen
class _Close(Fault):
    code: int
    reason: str

    def act(self, line: Line) -> None:
        line.socket.close(self.code, self.reason)


@attrs.frozen
class _Restart(Fault):
    code: int
    down_for: float

    def act(self, line: Line) -> None:
        line.socket.close(self.code)
        line.socket.server.restart_soon(code=self.code, down_for=self.down_for)


def drop() -> Fault:
    """Cut the connection without a close frame."""
    return _Drop()


def close(code: int = 1000, reason: str = "") -> Fault:
    """Close the connection with a close frame, after what is queued."""
    return _Close(_check_code(code), reason)


def restart(*, code: int = 1012, down_for: float = 0.0) -> Fault:
    """Restart the whole server: every connection is closed with *code*, then none is accepted.

    *down_for* is in seconds.
    """
    _check("down_for", down_for, down_for >= 0, "seconds, 0 or more")
    return _Restart(_check_code(code), down_for)


@attrs.frozen
class After(Fault):
    """Faults that wait for a moment; made by :func:`after`."""

    what: Moment
    count: int
    faults: tuple[Fault, ...]

    def begin(self, line: Line, note: Callable[[], None]) -> Undo:
        return line.when_open(lambda: line.arm(self, note))


def after(what: Moment, *faults: Fault, count: int = 1) -> Fault:
    """Let *faults* happen after something, once on each connection.

    *what* is a time in seconds, since the connection was opened or since the fault was injected;
    or the event of a message, such as ``"phx_join"``; or a function that tells whether a message is
    meant. They begin when the *count*-th such message of the client's has been read and nothing has
    been done about it, or when one of the server's has been sent.
    """
    if isinstance(what, float | int) and not isinstance(what, bool):
        _check("what", what, what >= 0, "seconds, an event, or a function of a message")
        _check("count", count, count == 1, "1, where a time is given")
    else:
        fits = isinstance(what, str) or callable(what)
        _check("what", what, fits, "seconds, an event, or a function of a message")
        _check("count", count, type(count) is int and count >= 1, "1 or more")
    check_faults(faults)
    for fault in faults:
        _check("faults", fault, not fault.at_connect, "what happens to a client that is in")
    return After(what, count, faults)


def drop_after(event: str, *, count: int = 1) -> Fault:
    """Cut the connection after the *count*-th message of *event*, before it is answered."""
    return after(event, drop(), count=count)


# From a moment on


@attrs.frozen
class _Stall(Fault):
    reads: bool = False
    writes: bool = False

    def act(self, line: Line) -> Undo:
        flow = line.wire.flow
        flow.stall(reads=self.reads, writes=self.writes)
        return lambda: flow.resume(reads=self.reads, writes=self.writes)


@attrs.frozen
class _Slow(Fault):
    bytes_per_second: float

    def act(self, line: Line) -> Undo:
        flow = line.wire.flow
        flow.slow_down(self.bytes_per_second)
        return lambda: flow.speed_up(self.bytes_per_second)


def stall_reads() -> Fault:
    """Read nothing more of what the client sends; the sockets between them hold some of it."""
    return _Stall(reads=True)


def stall_writes() -> Fault:
    """Send nothing more to the client, though everything is read and acted on.

    A server that is stuck in a write may not notice that the client has gone; it stays among
    :attr:`~slipstream.testing.PhoenixServer.sockets` until the fault is lifted or the server ends.
    """
    return _Stall(writes=True)


def half_open() -> Fault:
    """Let nothing through either way, as where the path is dead and neither end is told."""
    return _Stall(reads=True, writes=True)


def slow(bytes_per_second: float) -> Fault:
    """Let through so many bytes in a second, each way; of several such faults the slowest counts."""
    fits = 0 < bytes_per_second < math.inf
    _check("bytes_per_second", bytes_per_second, fits, "a finite number of more than 0")
    return _Slow(bytes_per_second)


# To messages


class _ToMessages(Fault):
    def act(self, line: Line) -> Undo:
        return line.add(self.stage(line))

    def stage(self, line: Line) -> Stage:
        raise NotImplementedError


@attrs.frozen
class _Duplicate(_ToMessages):
    event: str | None

    def stage(self, line: Line) -> Stage:
        return Repeating(self.event)


@attrs.frozen
class _Garble(_ToMessages):
    event: str | None
    times: int | None
    seed: int

    def stage(self, line: Line) -> Stage:
        return Garbling(self.event, self.times, _chance(self.seed, line), line.decode)


@attrs.frozen
class _Late(_ToMessages):
    seconds: float
    to: str | None

    def stage(self, line: Line) -> Stage:
        return Delaying(self.seconds, self.to)


@attrs.frozen
class _Reorder(_ToMessages):
    event: str | None
    window: int
    within: float
    seed: int

    def stage(self, line: Line) -> Stage:
        return Reordering(self.event, self.window, self.within, _chance(self.seed, line))


def garble(event: str | None = None, *, times: int | None = None, seed: int = 0) -> Fault:
    """Spoil the server's messages: none of them is one of Phoenix's any more.

    Only those of *event*, and the first *times* of them; by default all. The WebSocket stays whole.
    """
    _check("times", times, times is None or times >= 0, "0 or more, or None for no limit")
    return _Garble(event, times, seed)


def reply_late(seconds: float, *, to: str | None = None) -> Fault:
    """Hold the server's replies back for *seconds*: all, or those *to* pushes of an event.

    All are those to joins (``to="phx_join"``) and heartbeats, too. What is held when the connection
    is closed never comes.
    """
    _check("seconds", seconds, seconds >= 0, "seconds, 0 or more")
    return _Late(seconds, to)


def duplicate_frames(event: str | None = None) -> Fault:
    """Send each of the server's messages twice; with *event* those alone."""
    return _Duplicate(event)


def reorder(
    event: str | None = None, *, window: int = 4, within: float = 0.05, seed: int = 0
) -> Fault:
    """Change the order of the server's messages: of each *window*, or of those *within* seconds.

    With *event* those alone.
    """
    _check("window", window, type(window) is int and window >= 2, "2 or more")
    _check("within", within, within >= 0, "seconds, 0 or more")
    return _Reorder(event, window, within, seed)


def _chance(seed: int, line: Line) -> random.Random:
    return random.Random(f"{seed}/{line.number}")  # noqa: S311 - to be repeatable is its purpose


def check_faults(faults: Sequence[Any]) -> None:
    """Refuse what is no fault.

    Raises:
        ConfigError: with what was given.
    """
    for fault in faults:
        made = isinstance(fault, Fault)
        _check(
            "faults",
            fault,
            made,
            "what functions of slipstream.testing.faults give, such as drop()",
        )


def _check_code(code: int) -> int:
    fits = type(code) is int and 1000 <= code <= 4999 and code not in {1004, 1006, 1015}
    _check("code", code, fits, "1000 to 4999 without 1004, 1006, 1015, which nobody may send")
    return code


def _check(name: str, value: Any, fits: bool, accepted: str) -> None:  # noqa: FBT001 - it is the point
    if not fits:
        raise ConfigError(f"{name} is {value!r}; accepted is {accepted}")
