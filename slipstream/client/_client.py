"""What applications subclass."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Final, Unpack

from slipstream.config import Config
from slipstream.errors import ChildSpecError, DecodeError
from slipstream.interfaces import Message, Payload
from slipstream.otp import (
    Caller,
    ChildDefaults,
    ChildKeywords,
    ChildSpec,
    Ignore,
    Name,
    NoReply,
    Reply,
    ServerRef,
    Start,
    Status,
    Stop,
    StopCause,
    check_callbacks,
    child_keywords,
)
from slipstream.presence import PresenceDiff
from slipstream.protocol import ChannelReply
from slipstream.reasons import Crashed, DisconnectReason, ExitReason, PushFailure, TopicCloseReason

from ._on_message import Routes, collect_routes
from ._presence import PresenceEvents, check_presence_events
from ._socket import Socket

if TYPE_CHECKING:  # a cycle by nature: a client class starts servers, a server drives a client
    from ._server import ClientServer

__all__ = ["SlipstreamClient"]

logger: Final = logging.getLogger("slipstream.client")


_CALLBACKS: Final = {
    "init": "argument, socket",
    "handle_connect": "socket",
    "handle_disconnect": "reason, socket",
    "handle_gave_up": "reason, socket",
    "handle_join": "topic, response, socket",
    "handle_gap": "topic, last_seen, socket",
    "handle_topic_close": "topic, reason, socket",
    "handle_leave": "topic, socket",
    "handle_message": "topic, event, payload, socket",
    "handle_presence": "topic, diff, socket",
    "handle_messages": "messages, socket",
    "handle_bad_payload": "topic, event, payload, error, socket",
    "handle_reply": "ref, reply, socket",
    "handle_push_failed": "ref, reason, socket",
    "handle_call": "request, caller, socket",
    "handle_cast": "message, socket",
    "handle_info": "message, socket",
    "handle_continue": "argument, socket",
    "terminate": "reason, socket",
}


class SlipstreamClient(ChildDefaults):
    """A client of a Phoenix server: subclass it, and start it in a supervision tree.

    All callbacks are optional, ``async``, and get the socket last. They run one at a time, and
    return ``None``, ``NoReply(...)`` or ``Stop(reason)`` (``handle_call`` also ``Reply(value)``).
    A ``LinkError`` that leaves a callback ends that callback only; any other exception is a crash:
    ``terminate`` runs, the connection is closed, and the supervisor decides.

    State lives on ``self``, which is made anew for each incarnation, or in ``socket.assigns``.

    Class keywords are a class's defaults as a child: ``restart shutdown id name significant
    start_timeout drain interrupt_after kill_grace backoff slow_after``. A client has 10 s to stop.

    Attributes:
        presence_events: the names of the events that bring presence, its state and its diffs, where
            they are not Phoenix' own.
    """

    presence_events: ClassVar[PresenceEvents] = ("presence_state", "presence_diff")
    routes: ClassVar[Routes] = Routes([])
    wants_presence: ClassVar[bool] = False
    wants_batches: ClassVar[bool] = False
    is_plain: ClassVar[bool] = True
    """Whether every message is for ``handle_message``."""
    _slipstream_server: "ClientServer"

    def __init_subclass__(cls, **keywords: Unpack[ChildKeywords]) -> None:
        super().__init_subclass__(**keywords)
        cls.routes = collect_routes(cls)
        cls.wants_presence = cls.handle_presence is not SlipstreamClient.handle_presence
        check_presence_events(cls, cls.presence_events)
        cls.wants_batches = cls.handle_messages is not SlipstreamClient.handle_messages
        cls.is_plain = cls.routes.empty and not cls.wants_presence and not cls.wants_batches
        check_callbacks(cls, async_callbacks=_CALLBACKS, own_names=cls.routes.methods)

    @classmethod
    def child_spec(cls, *args: Any, **overrides: Unpack[ChildKeywords]) -> ChildSpec:
        """Give the child specification of this client, whose ``init`` gets the one argument.

        Raises:
            ChildSpecError: if an override is unknown or wrong, or there are several arguments.
        """
        from ._server import ClientServer  # noqa: PLC0415 - a cycle by nature, see above

        if len(args) > 1:
            raise ChildSpecError(f"{cls.__qualname__} takes one argument, not {len(args)}")
        keywords: dict[str, Any] = {"id": cls, "shutdown": 10.0, **child_keywords(cls), **overrides}
        return ChildSpec(start=Start(ClientServer, args, bound=(cls,)), **keywords)

    # Callbacks

    async def init(self, argument: Any, socket: Socket, /) -> NoReply | Stop | Ignore | None:
        """Prepare; by default, connect to *argument*: a ``Config``, a mapping, a URI or several.

        The supervisor waits for it. Its ``LinkError`` is a start failure.
        """
        socket.connect(Config.of(argument))
        return None

    async def handle_connect(self, socket: Socket, /) -> NoReply | Stop | None:
        """Note that the connection is open; join topics here. Wanted topics are rejoined after it."""
        return None

    async def handle_disconnect(
        self, reason: DisconnectReason, socket: Socket, /
    ) -> NoReply | Stop | None:
        """Note that the connection ended, or an attempt failed; a reconnect follows by policy.

        To override the policy: ``socket.disconnect()`` stays down, ``socket.connect(other)`` goes
        elsewhere, ``socket.reconnect(after=seconds)`` sets the delay, ``Stop`` ends the client.
        """
        return None

    async def handle_gave_up(
        self, reason: DisconnectReason, socket: Socket, /
    ) -> NoReply | Stop | None:
        """Decide what follows where the policy has given up; *reason* was the last straw.

        By default the client exits ``Crashed`` with the error, and its supervisor decides. Return
        ``None`` to stay down until ``socket.reconnect()`` (``socket.health().gave_up`` says why), or
        ``Stop(...)`` with a reason of your own; ``socket.connect(other)`` goes elsewhere.
        """
        return Stop(Crashed(self._slipstream_server.uplink.error_of_end()))

    async def handle_join(
        self, topic: str, response: Any, socket: Socket, /
    ) -> NoReply | Stop | None:
        """Note that *topic* is joined; *response* is the payload of the server's reply."""
        return None

    async def handle_gap(
        self, topic: str, last_seen: Any, socket: Socket, /
    ) -> NoReply | Stop | None:
        """Note that *topic* is joined again, and that messages in between may have been missed.

        It runs right after ``handle_join``, for every join but the first, and the first after a
        leave. *last_seen* is what ``Config.last_seen``, or that of the ``join``, gave for the newest
        message that was handed to the client; ask for the rest here, unless the server replays by itself
        what comes after the ``last_seen`` that it found in the join params.
        """
        return None

    async def handle_topic_close(
        self, topic: str, reason: TopicCloseReason, socket: Socket, /
    ) -> NoReply | Stop | None:
        """Note that *topic* is not joined, or no longer; a rejoin follows by policy.

        To override the policy: ``socket.leave(topic)`` stays away, ``socket.rejoin(topic)`` joins
        at once. By default a warning is logged where none follows: its status is ``"closed"``.
        """
        if socket.join_status(topic) == "closed":
            logger.warning(
                "%s: %r is closed and will not be joined again: %s",
                self.ref, topic, type(reason).__name__,
            )  # fmt: skip
        return None

    async def handle_leave(self, topic: str, socket: Socket, /) -> NoReply | Stop | None:
        """Note that *topic* has been left, as the client asked."""
        return None

    async def handle_message(
        self, topic: str, event: str, payload: Payload, socket: Socket, /
    ) -> NoReply | Stop | None:
        """Handle a message that no ``@on_message`` takes; by default it is ignored."""
        return None

    async def handle_presence(
        self, topic: str, diff: PresenceDiff, socket: Socket, /
    ) -> NoReply | Stop | None:
        """Note who came and went on *topic*; ``socket.presences(topic)`` is who is there after it.

        Called once for each ``presence_state`` (with the diffs that came before it) and for each
        ``presence_diff`` after it, also where nothing has changed. What was known stays over a
        rejoin, so that the next state is told as what changed meanwhile; it is forgotten when the
        topic is left or closed.

        Where this is overridden, these messages go nowhere else: not to ``@on_message``, not to
        ``await_message``; but a malformed one is counted and handled like any other message. Where
        it is not, all of them are.
        """

    async def handle_messages(
        self, messages: list[Message], socket: Socket, /
    ) -> NoReply | Stop | None:
        """Handle several messages at once; where this is overridden, ``handle_message`` is not called.

        *messages* are all that wait, of whatever topics, oldest first, up to the first thing that
        has a callback of its own: a message that an ``@on_message`` takes, a reply, a join, a cast.
        So the order of everything is kept. The messages have been taken: an ``await_message`` in here
        finds only later ones. Called by hand, the default gives them to ``handle_message`` one by
        one, up to a ``Stop``.
        """
        result: NoReply | Stop | None = None
        for topic, event, payload in [(each.topic, each.event, each.payload) for each in messages]:
            result = await self.handle_message(topic, event, payload, socket)
            if isinstance(result, Stop):
                break
        return result

    async def handle_bad_payload(
        self, topic: str, event: str, payload: Payload, error: DecodeError, socket: Socket, /
    ) -> NoReply | Stop | None:
        """Note that *payload* does not fit the type that its ``@on_message`` asks for.

        *error* names the part that does not. By default a warning is logged; in any case it is
        counted, as ``bad_payloads`` in ``health().counters``.
        """
        logger.warning("%s: %r on %r was not handled: %s", self.ref, event, topic, error)
        return None

    async def handle_reply(
        self, ref: str, reply: ChannelReply, socket: Socket, /
    ) -> NoReply | Stop | None:
        """Handle the reply to the push *ref*."""
        return None

    async def handle_push_failed(
        self, ref: str, reason: PushFailure, socket: Socket, /
    ) -> NoReply | Stop | None:
        """Note that the push *ref* came to nothing; by default a warning is logged."""
        logger.warning("%s: push %s failed: %s", self.ref, ref, reason)
        return None

    async def handle_call(
        self, request: Any, caller: Caller, socket: Socket, /
    ) -> Reply | NoReply | Stop:
        """Answer a call. A ``LinkError`` that leaves it is raised by the caller's ``call``."""
        raise NotImplementedError(f"{type(self).__name__} has no handle_call for {request!r}")

    async def handle_cast(self, message: Any, socket: Socket, /) -> NoReply | Stop | None:
        """Handle a cast."""
        raise NotImplementedError(f"{type(self).__name__} has no handle_cast for {message!r}")

    async def handle_info(self, message: Any, socket: Socket, /) -> NoReply | Stop | None:
        """Handle any other message; by default a warning is logged."""
        logger.warning("%s got a message that it does not handle: %r", self.ref, message)
        return None

    async def handle_continue(self, argument: Any, socket: Socket, /) -> NoReply | Stop | None:
        """Go on with what a result's ``continue_with`` named."""
        raise NotImplementedError(f"{type(self).__name__} has no handle_continue for {argument!r}")

    async def terminate(self, reason: ExitReason, socket: Socket, /) -> None:
        """Clean up; the connection is still open, and is closed after it."""
        return

    def format_status(self, status: Status, /) -> Status:
        """Redact *status* before it stands in a report; by default, it stands as it is.

        Its state is the client's attributes, which may hold secrets; payloads are not in it unless
        ``Config.log_payloads`` says so.
        """
        return status

    # Inside

    @property
    def ref(self) -> ServerRef:
        """The client's own reference."""
        return self._slipstream_server.ref

    @property
    def stop_cause(self) -> StopCause | None:
        """Why the client is being stopped: ``"asked"``, ``"cancelled"`` or ``"failed"``."""
        return self._slipstream_server.stop_cause

    def whereis(self, name: Name) -> ServerRef | None:
        """Find the process of that *name* in this tree."""
        return self._slipstream_server.whereis(name)

    def cast(self, name: Any, message: Any) -> None:
        """Send *message* to the ``handle_cast`` of a process, by name or reference."""
        self._slipstream_server.cast(name, message)

    async def call(self, to: Name | ServerRef, request: Any, *, timeout: float | None = 5.0) -> Any:
        """Call a process, by name or reference; see :meth:`slipstream.otp.ServerRef.call`."""
        return await self._slipstream_server.call(to, request, timeout=timeout)

    def monitor(self, ref: ServerRef) -> Any:
        """Have ``handle_info`` told when *ref* ends, with a ``Down``."""
        return self._slipstream_server.monitor(ref)

    def start_soon(self, function: Callable[..., Any], /, *args: Any) -> None:
        """Run a helper task that lives and dies with this process; its crash is the process's."""
        self._slipstream_server.start_soon(function, *args)

    def send_after(self, seconds: float, message: Any) -> Any:
        """Send *message* to the own ``handle_info`` in *seconds*."""
        return self._slipstream_server.send_after(seconds, message)

    def send_every(self, seconds: float, message: Any) -> Any:
        """Send *message* to the own ``handle_info`` every so many *seconds*."""
        return self._slipstream_server.send_every(seconds, message)
