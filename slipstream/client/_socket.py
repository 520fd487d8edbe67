"""The socket: a client's handle on its link, one an incarnation, always current."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

from slipstream.config import Config
from slipstream.connection import Phase, RecordedFrame
from slipstream.errors import ConfigError, ReplyError, ServerGoneError
from slipstream.interfaces import Message, Payload
from slipstream.presence import Presence
from slipstream.protocol import ChannelReply
from slipstream.reasons import NOPROC, DisconnectReason

from . import awaiting
from ._health import Health
from ._pushes import WhenUnjoined
from ._topic import TopicStatus
from .awaiting import ANY

if TYPE_CHECKING:  # a cycle by nature: the server makes the socket, the socket acts on the server
    from ._server import ClientServer

__all__ = ["Socket"]

T = TypeVar("T")

_UNCHANGED: Final[Any] = object()
_REPLY: Final[Any] = object()


class Socket:
    """A client's handle on its link.

    Plain methods never block: they note what is wanted, and it is done as soon as it can be.
    Async ones are safe to cancel. All these actions raise ``ServerGoneError`` once the client's process
    has ended, and ``WrongTaskError`` in a foreign thread.

    Attributes:
        assigns: a dict for whatever the client wants to keep; fresh in each incarnation.
    """

    def __init__(self, server: "ClientServer") -> None:
        self._server = server
        self.assigns: dict[str, Any] = {}

    def __repr__(self) -> str:
        link = self._server.uplink
        return f"<Socket {link.phase.value} {link.config!r}>"

    # Views

    @property
    def connected(self) -> bool:
        """Whether the connection is open; it is while its close is under way."""
        return self._server.uplink.phase is Phase.OPEN

    @property
    def config(self) -> Config | None:
        """The configuration of the last ``connect``."""
        return self._server.uplink.config

    @property
    def topics(self) -> Mapping[str, str]:
        """Every topic that was asked for, with its status."""
        return {topic.name: str(self._status(topic.name)) for topic in self._server.topics}

    def joined(self, topic: str) -> bool:
        """Tell whether *topic* is joined: whether a push would be sent now."""
        return self._status(topic) is TopicStatus.JOINED

    def join_status(self, topic: str) -> str | None:
        """Tell what has become of *topic*.

        ``None`` (never asked for), ``"requested"``, ``"joined"``, ``"leaving"``, ``"closed"`` or
        ``"waiting"`` (for its rejoin).
        """
        status = self._status(topic)
        return None if status is None else str(status)

    def presences(self, topic: str) -> Mapping[str, Presence]:
        """Give who is there on *topic*, by key: a snapshot, empty where nothing is known.

        While the topic waits for its rejoin it is what was known last.

        Raises:
            LocalProtocolError: if the client does not override ``handle_presence``; presence comes
                as messages then, and nobody keeps it.
        """
        return self._server.presences.of(topic)

    def last_seen(self, topic: str) -> Any:
        """Give what the newest message of *topic* that was handed over is known by on the server.

        That is what ``Config.last_seen``, or that of the ``join``, gave for it; ``None`` for none.
        """
        known = self._server.topics.get(topic)
        return known.last_seen if known is not None else None

    def health(self) -> Health:
        """Take a snapshot of how the link is doing; also of a client that has ended."""
        self._server.check_thread()
        return self._server.health()

    def recorded_frames(self) -> tuple[RecordedFrame, ...]:
        """Give the last frames, the oldest first: the flight recorder; also of an ended client.

        ``Config.flight_recorder`` says how many are kept; their payloads are shown only with
        ``Config.log_payloads``.
        """
        self._server.check_thread()
        return self._server.uplink.recorded_frames()

    def _status(self, name: str) -> TopicStatus | None:
        topic = self._server.topics.get(name)
        if topic is None:
            return None
        link = self._server.uplink
        lost = not self.connected or link.ending or topic.generation != link.generation
        if topic.status is TopicStatus.JOINED and lost:
            return TopicStatus.WAITING  # the news has not been handled yet
        return topic.status

    # Plain actions

    def connect(self, config: Config | str | Sequence[str] | Mapping[str, Any]) -> None:
        """Want a connection with *config*: a URI or several, a mapping of options, or a ``Config``.

        With the configuration that is in use already this changes nothing; with another one the
        old connection is closed first.

        Raises:
            ConfigError: if the configuration is wrong.
        """
        self._live().connect(Config.of(config))

    def reconnect(self, after: float | None = None) -> None:
        """Want a connection again: *after* so many seconds, or at once.

        An open connection, or one being opened, is left alone.

        Raises:
            ConfigError: if no configuration was ever given, or *after* is no duration.
        """
        server = self._live()
        if server.uplink.config is None:
            raise ConfigError("there is no configuration to reconnect with: call socket.connect")
        awaiting.check_seconds("after", after)
        if after == math.inf:
            raise ConfigError("after is inf, which is never: call socket.disconnect instead")
        server.uplink.reconnect(after)

    def reconnect_now(self) -> None:
        """Make the next attempt at once, as the first of a row: for when the network came back.

        It ends the wait for an attempt, and the rest after giving up. An open connection, an attempt
        under way and a client that wants no connection are left alone; so it may be called often.
        """
        self._live().uplink.reconnect_now()

    def disconnect(self) -> None:
        """Want no connection: close it with 1000, or give up the attempt. Topics stay wanted."""
        self._live().uplink.disconnect()

    def join(
        self,
        topic: str,
        params: Any = None,
        *,
        rejoin: bool = True,
        timeout: float | None = None,
        last_seen: Callable[[Message], Any] | None = None,
    ) -> None:
        """Want *topic* joined, now and after each reconnect (unless *rejoin* is false).

        *params* is a JSON value (by default ``{}``), or a sync or async function that gives one
        and is called for every join; one that takes an argument gets a
        :class:`~slipstream.interfaces.JoinContext`. *timeout* is in seconds, by default
        ``Config.join_timeout``. *last_seen* is used in place of ``Config.last_seen``. A topic that is
        joined, or asked for, is left as it is.

        Raises:
            EncodeError: if the topic or its params cannot be put on the wire.
            ConfigError: if an argument is none that can be.
        """
        server = self._live()
        awaiting.check_seconds("timeout", timeout)
        given: Any = last_seen
        if given is not None and not callable(given):
            raise ConfigError(
                f"last_seen is {given!r}; accepted is a function (message) -> value, or None"
            )
        server.topics.join(
            topic,
            {} if params is None else params,
            rejoin=rejoin,
            timeout=timeout,
            last_seen=last_seen,
        )

    def rejoin(self, topic: str, params: Any = _UNCHANGED) -> None:
        """Join *topic* anew: with other *params*, or at once where it waits or is closed.

        A topic that is joined is left alone unless *params* are given.

        Raises:
            NotJoinedError: if it was never asked for.
        """
        changed = params is not _UNCHANGED
        self._live().topics.rejoin(topic, params if changed else None, changed=changed)

    def leave(self, topic: str, *, timeout: float | None = None) -> None:
        """Want *topic* no longer. Leaving twice is leaving once.

        It counts as left *timeout* seconds after the leave is written, if the server does not answer;
        by default ``Config.leave_timeout``.

        Raises:
            ConfigError: if *timeout* is no duration.
        """
        server = self._live()
        awaiting.check_seconds("timeout", timeout)
        server.topics.leave(topic, timeout)

    # Async actions

    async def push(
        self,
        topic: str,
        event: str,
        payload: Payload = None,
        *,
        timeout: float | None = None,
        when_unjoined: WhenUnjoined = "fail",
    ) -> str:
        """Push *event* to *topic* and give the ref. Waits for room in the outbox only.

        *payload* is a JSON value (by default ``{}``), or ``bytes``. Without a *timeout* the push
        owes nothing: a reply, if one comes, goes to ``handle_reply``. With one (seconds, from the
        moment it is written) it ends exactly once, in ``handle_reply`` or in
        ``handle_push_failed``. *when_unjoined* says what becomes of it where the topic is not
        joined just now. Safe to cancel: it is queued whole or not at all.

        Raises:
            NotJoinedError: if the topic was never asked for.
            EncodeError: if the payload cannot be put on the wire.
            DisconnectedError, TopicClosedError: with ``when_unjoined="raise"``.
        """
        server = self._live()
        awaiting.check_seconds("timeout", timeout)
        return await server.pushes.push(
            topic,
            event,
            {} if payload is None else payload,
            timeout=timeout,
            when_unjoined=when_unjoined,
        )

    @overload
    async def request(
        self,
        topic: str,
        event: str,
        payload: Payload = None,
        *,
        timeout: float | None = None,
        when_unjoined: WhenUnjoined = "fail",
    ) -> ChannelReply: ...
    @overload
    async def request(
        self,
        topic: str,
        event: str,
        payload: Payload = None,
        *,
        response: type[T],
        timeout: float | None = None,
        when_unjoined: WhenUnjoined = "fail",
    ) -> T: ...
    @overload
    async def request(
        self,
        topic: str,
        event: str,
        payload: Payload = None,
        *,
        response: Any,
        timeout: float | None = None,
        when_unjoined: WhenUnjoined = "fail",
    ) -> Any: ...
    async def request(
        self,
        topic: str,
        event: str,
        payload: Payload = None,
        *,
        response: Any = _REPLY,
        timeout: float | None = None,
        when_unjoined: WhenUnjoined = "fail",
    ) -> Any:
        """Push *event* to *topic* and wait for the reply. From any task.

        With *response*, a type as :meth:`~slipstream.protocol.ChannelReply.decode` takes it, the
        result is the response of an ``"ok"`` reply, of that type. *timeout* is in seconds, by
        default ``Config.push_timeout``. When cancelled, a reply that comes later is dropped and
        counted.

        Raises:
            PushTimeoutError: if no reply comes in time.
            DisconnectedError: if the connection ends first, or there is none.
            TopicClosedError: if the topic ends first, or is not joined.
            NotJoinedError: if the topic was never asked for.
            EncodeError: if the payload cannot be put on the wire.
            InboundOverflowError: if too much lies unread before the reply.
            ReplyError: with *response*, if the reply has another status than ``"ok"``.
            DecodeError: with *response*, if it does not fit; it names the path.
        """
        server = self._live()
        awaiting.check_seconds("timeout", timeout)
        reply = await awaiting.request(
            server, topic, event, {} if payload is None else payload, timeout, when_unjoined
        )
        if response is _REPLY:
            return reply
        if not reply.ok:
            raise ReplyError(topic, event, reply)
        return reply.decode(response)

    # Awaiting, in the client's own task

    async def await_connect(self, timeout: float | None = None) -> None:
        """Wait until the connection is open; ``handle_connect`` is then not called.

        Without a *timeout* (seconds): until the present or next attempt has ended.

        Raises:
            ConnectError, DisconnectedError: if that attempt fails, or none is wanted;
                ``handle_disconnect`` is called all the same.
            AwaitTimeoutError: after *timeout*.
        """
        await awaiting.await_connect(self._live(), timeout)

    async def await_disconnect(self, timeout: float | None = None) -> DisconnectReason:
        """Wait until the connection has ended, and give the reason; no ``handle_disconnect`` then.

        Raises:
            AwaitTimeoutError: after *timeout* seconds; without one there is no limit.
        """
        return await awaiting.await_disconnect(self._live(), timeout)

    async def await_join(self, topic: str, timeout: float | None = None) -> Any:
        """Wait until *topic* is joined, and give the server's response; no ``handle_join`` then.

        Without a *timeout* (seconds): until the connection is there and the join has ended.

        Raises:
            JoinError: if the join came to nothing.
            ConnectError, DisconnectedError: if there is no connection to join on.
            NotJoinedError: if it was never asked for.
            AwaitTimeoutError: after *timeout*.
        """
        return await awaiting.await_join(self._live(), topic, timeout)

    async def await_leave(self, topic: str, timeout: float | None = None) -> None:
        """Wait until *topic* has been left; ``handle_leave`` is then not called.

        Raises:
            AwaitTimeoutError: after *timeout* seconds; ``leave_timeout`` ends a leave in any case.
        """
        await awaiting.await_leave(self._live(), topic, timeout)

    async def await_reply(self, ref: str, timeout: float | None = None) -> ChannelReply:
        """Wait for the reply to the push *ref*; no ``handle_reply`` then.

        *timeout* is in seconds, by default ``Config.push_timeout``.

        Raises:
            PushTimeoutError: if it does not come in time; a later one is dropped and counted.
            DisconnectedError, TopicClosedError: if connection or topic end first.
        """
        return await awaiting.await_reply(self._live(), ref, timeout)

    async def await_message(
        self,
        topic: Any = ANY,
        event: Any = ANY,
        payload: Any = ANY,
        *,
        timeout: float = 5.0,
    ) -> Message:
        """Wait for the oldest message that fits, and give it; no ``handle_message`` then.

        *topic*, *event* and *payload* are values to equal, ``ANY``, types, predicates, or mappings
        that the payload must contain. What does not fit stays where it is, in order.

        Raises:
            AwaitTimeoutError: after *timeout* seconds.
            DisconnectedError, TopicClosedError: if connection or topic end first.
        """
        return await awaiting.await_message(self._live(), topic, event, payload, timeout)

    def messages(
        self, topic: Any, event: Any = ANY, payload: Any = ANY, *, limit: int = 1024
    ) -> "awaiting.Messages":
        """Iterate over the messages that fit: ``async with socket.messages(topic) as messages``.

        The patterns are those of :meth:`await_message`. In a script, messages that fit go to the
        block from its beginning on, and to nobody else; any task may iterate. At most *limit* of
        them are kept, then the oldest is dropped, and counted in ``messages.dropped``; what nobody
        has taken when the block ends can still be awaited. In a client, the block belongs to a
        callback, and takes from what waits for the callbacks.

        Messages that have come are given first; then the iteration ends with an error.

        Raises:
            ConfigError: if *limit* is no whole number from 1.
            NotJoinedError: on entering, if *topic* is a name that was never asked for.
            DisconnectedError, TopicClosedError: from the iteration, if connection or topic end.
        """
        given: Any = limit
        if not isinstance(given, int) or isinstance(given, bool) or given < 1:
            raise ConfigError(f"limit is {limit!r}; accepted is a whole number from 1")
        return self._live().messages(topic, event, payload, limit)

    def _live(self) -> "ClientServer":
        server = self._server
        if server.ended:
            raise ServerGoneError(server.ref, server.exit_reason or NOPROC)
        server.check_thread()
        return server
