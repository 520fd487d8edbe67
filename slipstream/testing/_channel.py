"""What a test writes to have a server: channels, as in Phoenix."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeAlias

import attrs

from slipstream.errors import ConfigError
from slipstream.interfaces import Payload
from slipstream.otp import ServerRef, check_callbacks
from slipstream.reasons import NORMAL, ExitReason

from ._presence import Presence

if TYPE_CHECKING:  # a cycle by nature: a socket starts channels, a channel acts on its socket
    from ._socket import ServerSocket

__all__ = ["WAKE", "Answer", "Channel", "Error", "Ok", "Refuse", "ReplyRef", "ReplyWith"]

_CALLBACKS: Final = {
    "join": "topic, payload, socket",
    "handle_in": "event, payload, socket",
    "handle_out": "event, payload, socket",
    "handle_info": "message",
    "terminate": "reason",
}
WAKE: Final = object()
"""Makes a channel look whether it is to stop."""


@attrs.frozen
class ReplyWith:
    """Answer with any *status*."""

    status: str
    response: Payload = attrs.field(factory=dict[str, Any])


@attrs.frozen
class Ok:
    """Answer ``ok``; to a join: let it in."""

    response: Payload = attrs.field(factory=dict[str, Any])

    @property
    def status(self) -> str:
        """The status on the wire."""
        return "ok"


@attrs.frozen
class Error:
    """Answer ``error``; to a join: refuse it."""

    response: Payload = attrs.field(factory=dict[str, Any])

    @property
    def status(self) -> str:
        """The status on the wire."""
        return "error"


Refuse = Error
"""The name of :class:`Error` in a ``join``."""

Answer: TypeAlias = Ok | Error | ReplyWith


@attrs.frozen
class ReplyRef:
    """What a later :meth:`Channel.reply` needs to know."""

    ref: str | None
    join_ref: str | None


class Channel:
    """A channel of a topic: subclass it and hand it to a :class:`PhoenixServer`.

    All callbacks are ``async``. One object serves one join of one client. What a callback raises
    crashes the channel, as in Phoenix: the client gets ``phx_error``, the server goes on.

    Attributes:
        topic: the topic that was joined.
        socket: the connection that it was joined on.
        reply_ref: the push that is being handled, for a later :meth:`reply`.
        stop_reason: why it stops after this callback, if it does.
        assigns: a dict for whatever the channel wants to keep.
        presence: who is in the topic, and what this channel tracks.
        intercept: events whose broadcasts go to :meth:`handle_out` instead of the client; they are a
            keyword of the class: ``class Room(Channel, intercept=["news"])``.
    """

    intercept: ClassVar[frozenset[str]] = frozenset()
    topic: str
    assigns: dict[str, Any]
    socket: "ServerSocket"

    def __init_subclass__(cls, *, intercept: Iterable[str] | None = None) -> None:
        super().__init_subclass__()
        if isinstance(intercept, str):
            raise ConfigError(
                f"intercept is {intercept!r}; accepted are the names of events, in a list"
            )
        if intercept is not None:
            cls.intercept = frozenset(intercept)
        check_callbacks(cls, async_callbacks=_CALLBACKS)

    def __init__(self) -> None:
        self.assigns = {}
        self.presence = Presence(self)
        self.stop_reason: ExitReason | None = None
        self.reply_ref = ReplyRef(None, None)
        self._process: ServerRef | None = None
        self._early: list[Any] = []

    def attach(
        self, socket: "ServerSocket", topic: str, ref: str | None, join_ref: str | None
    ) -> None:
        """Tell the channel where it belongs; its socket does, before the join."""
        self.socket, self.topic = socket, topic
        self.reply_ref = ReplyRef(ref, join_ref)

    def let_in(self, process: ServerRef) -> None:
        """Tell the channel that the client is in; its socket does, after its reply."""
        self._process = process
        for message in [*self._early, "after_join"]:
            process.send(message)

    async def join(
        self, topic: str, payload: Payload, socket: "ServerSocket", /
    ) -> Ok | Error | None:
        """Let a client in (``None`` or ``Ok(response)``), or refuse it (``Refuse(response)``)."""
        return None

    async def handle_in(
        self, event: str, payload: Payload, socket: "ServerSocket", /
    ) -> Answer | None:
        """Handle a push; an answer is its reply, ``None`` is none."""
        return None

    async def handle_out(self, event: str, payload: Payload, socket: "ServerSocket", /) -> None:
        """Handle a broadcast of an event in ``intercept``: push it on, changed, or do not."""
        self.push(event, payload)

    async def handle_info(self, message: Any, /) -> None:
        """Handle what was sent with :meth:`send`; ``"after_join"`` comes after each join."""

    async def terminate(self, reason: ExitReason, /) -> None:
        """Clean up."""

    # For use in callbacks

    def reply(self, ref: ReplyRef, answer: Answer) -> None:
        """Answer a push now: later, twice, or from another task."""
        self.socket.send_reply(ref.join_ref, ref.ref, self.topic, answer)

    def push(self, event: str, payload: Payload) -> None:
        """Push to this client.

        Raises:
            RuntimeError: within ``join``, as in Phoenix: the client is not in yet. Do it in
                ``handle_info``, on ``"after_join"``.
        """
        self._check_joined("push")
        self.socket.send(self.reply_ref.join_ref, None, self.topic, event, payload)

    def broadcast(self, event: str, payload: Payload) -> None:
        """Send to every client that has joined the topic; not within ``join``."""
        self._check_joined("broadcast")
        self.socket.server.broadcast(self.topic, event, payload)

    def broadcast_from(self, event: str, payload: Payload) -> None:
        """Send to every other client that has joined the topic; not within ``join``."""
        self._check_joined("broadcast_from")
        self.socket.server.broadcast(self.topic, event, payload, but=self)

    def send(self, message: Any) -> None:
        """Have :meth:`handle_info` called with *message*."""
        if self._process is None:
            self._early.append(message)
        else:
            self._process.send(message)

    def stop(self, reason: ExitReason = NORMAL) -> None:
        """Stop the channel: ``phx_close``, or ``phx_error`` if *reason* is abnormal.

        The callback that runs, and the reply that it gives, come first.
        """
        self.stop_reason = reason
        self.send(WAKE)

    def _check_joined(self, action: str) -> None:
        if self._process is None:
            raise RuntimeError(
                f"cannot {action} to {self.topic!r} within join: the client is not in yet; do it "
                'in handle_info, on "after_join"'
            )
