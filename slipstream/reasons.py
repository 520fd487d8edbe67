"""Why things ended, as values: nobody compares strings.

Four families: how a process ended (:class:`ExitReason`), how a connection ended
(:class:`DisconnectReason`), how a topic ended (:class:`TopicCloseReason`) and why a push came to
nothing (:class:`PushFailure`). All are frozen, compare by value and print briefly; an error inside
is kept as the object it was.
"""

from collections.abc import Mapping
from typing import Any, Final

import attrs

__all__ = [
    "KILLED",
    "NOPROC",
    "NORMAL",
    "RESTARTING",
    "SHUTDOWN",
    "ChannelClosed",
    "ChannelCrashed",
    "ClosedByClient",
    "ClosedByServer",
    "ConnectFailed",
    "ConnectionCrashed",
    "ConnectionLost",
    "ConsumerTooSlow",
    "Crashed",
    "DisconnectReason",
    "ExitReason",
    "HeartbeatTimeout",
    "JoinFailed",
    "JoinRefused",
    "JoinTimedOut",
    "Killed",
    "NoProc",
    "Normal",
    "PushFailure",
    "PushTimedOut",
    "Restarting",
    "Shutdown",
    "TopicCloseReason",
    "TopicGone",
    "TransportFailed",
]


class ExitReason:
    """How a process ended; the base of all exit reasons."""

    __slots__ = ()

    @property
    def abnormal(self) -> bool:
        """Whether it is any reason other than normal and shutdown (with or without a detail)."""
        return not isinstance(self, Normal | Shutdown)

    @property
    def exception(self) -> BaseException | None:
        """The exception that the process ended by, if it crashed."""
        return None


@attrs.frozen
class Normal(ExitReason):
    """The process had done its work."""


@attrs.frozen
class Shutdown(ExitReason):
    """The process was asked to stop, or stopped in an orderly way, with a *detail* or without."""

    detail: Any = None


@attrs.frozen
class Killed(ExitReason):
    """The process was killed: it did not stop in the time it had, or had none."""


@attrs.frozen
class NoProc(ExitReason):
    """There is no such process (any more)."""


@attrs.frozen
class Restarting(ExitReason):
    """The process ended and its supervisor has not started the next one yet."""


@attrs.frozen
class Crashed(ExitReason):
    """The process ended by an *exception* that left one of its callbacks."""

    exception: BaseException  # pyright: ignore[reportIncompatibleMethodOverride]  # it is read-only, too


NORMAL: Final = Normal()
SHUTDOWN: Final = Shutdown()
KILLED: Final = Killed()
NOPROC: Final = NoProc()
RESTARTING: Final = Restarting()


class DisconnectReason:
    """Why a connection ended, or why an attempt at one failed; the base of those reasons."""

    __slots__ = ()


@attrs.frozen
class ClosedByClient(DisconnectReason):
    """We closed it: ``disconnect()``, or the client stopped."""


@attrs.frozen
class ClosedByServer(DisconnectReason):
    """The server sent a close frame: its *code* (1005 for none) and its *reason* text."""

    code: int
    reason: str = ""


@attrs.frozen
class HeartbeatTimeout(DisconnectReason):
    """Nothing at all was received within ``heartbeat_timeout`` of a heartbeat."""


@attrs.frozen
class ConnectFailed(DisconnectReason):
    """An attempt to connect failed with *error*.

    Where the server answered the upgrade with an HTTP response, *status*, *headers* (names in
    lower case) and the beginning of its *body* are its own, and not shown: cookies are in them.
    """

    error: BaseException
    status: int | None = None
    headers: tuple[tuple[str, str], ...] = attrs.field(default=(), repr=False)
    body: bytes = attrs.field(default=b"", repr=False)


@attrs.frozen
class TransportFailed(DisconnectReason):
    """The network or the peer broke the connection without a close frame, or against the rules."""

    error: BaseException


@attrs.frozen
class ConsumerTooSlow(DisconnectReason):
    """The client did not keep up: reading was paused for *seconds*, longer than ``max_pause``.

    With ``on_overflow="disconnect"`` the pause is 0.0.
    """

    seconds: float


@attrs.frozen
class ConnectionCrashed(DisconnectReason):
    """The connection process itself failed with *error*: a bug, not an outage."""

    error: BaseException


class TopicCloseReason:
    """Why a topic is not joined, or no longer joined; the base of those reasons."""

    __slots__ = ()


@attrs.frozen
class JoinRefused(TopicCloseReason):
    """The server answered the join with an error; *response* is the payload it sent."""

    response: Any


@attrs.frozen
class JoinFailed(TopicCloseReason):
    """The join could not be sent: its params could not be had, or not be encoded."""

    error: BaseException


@attrs.frozen
class JoinTimedOut(TopicCloseReason):
    """The server did not answer the join within ``join_timeout``."""


@attrs.frozen
class ChannelCrashed(TopicCloseReason):
    """The server's channel process crashed (``phx_error``, or it turned out to be gone)."""

    payload: Any = attrs.field(factory=lambda: _EMPTY)


@attrs.frozen
class ChannelClosed(TopicCloseReason):
    """The server stopped the channel in an orderly way (``phx_close``)."""


class PushFailure:
    """Why a push came to nothing; the base of those reasons."""

    __slots__ = ()


@attrs.frozen
class PushTimedOut(PushFailure):
    """No reply came within the push's deadline."""


@attrs.frozen
class ConnectionLost(PushFailure):
    """The connection ended first, or there was none.

    *written* tells whether the frame had been handed to the network; the server may then have
    handled it, and nobody can know.
    """

    written: bool


@attrs.frozen
class TopicGone(PushFailure):
    """The topic was closed, left, or crashed first, or is not joined just now."""


_EMPTY: Final[Mapping[str, Any]] = {}
