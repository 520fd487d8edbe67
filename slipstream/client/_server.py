"""The process that drives a client: it follows the link's events and calls the callbacks."""

import logging
import math
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Final

import attrs
import trio

from slipstream.config import Config
from slipstream.connection import (
    Connection,
    ConnectionEnded,
    ConnectionOpened,
    Inbox,
    Link,
    Nudge,
    WaitsOverflowed,
)
from slipstream.errors import (
    AwaitTimeoutError,
    LinkError,
    StartError,
    SupervisorGaveUpError,
    WrongTaskError,
)
from slipstream.interfaces import Message
from slipstream.otp import (
    Caller,
    Down,
    Reply,
    ServerRef,
    Status,
    Stop,
    Supervisor,
    SupervisorRef,
)
from slipstream.protocol import (
    PushFailed,
    ReplyReceived,
    TopicClosed,
    TopicJoined,
    TopicJoinFailed,
    TopicLeft,
)
from slipstream.reasons import (
    Crashed,
    ExitReason,
    TopicCloseReason,
)

from ._dispatch import Dispatcher
from ._health import Health, health_of, without_payload
from ._presence import Presences
from ._pushes import Pushes
from ._ref import ClientRef, Raised
from ._socket import Socket
from ._topic import Alarm, Topic, TopicStatus
from ._topics import Topics
from .awaiting import Messages, check_seconds

if TYPE_CHECKING:  # a cycle by nature: a client class starts servers, a server drives a client
    from ._client import SlipstreamClient

__all__ = ["ClientServer"]

logger: Final = logging.getLogger("slipstream.client")

_TOPIC_EVENTS = (TopicJoined, TopicJoinFailed, TopicClosed, TopicLeft)
_INBOUND = (
    Message,
    ReplyReceived,
    PushFailed,
    *_TOPIC_EVENTS,
    ConnectionOpened,
    ConnectionEnded,
    Nudge,
)
_CODE_BY_CAUSE: Final = {"asked": 1000, "cancelled": 1001, "failed": 1001}


class ClientServer(Dispatcher, restart="permanent"):
    """The process of one incarnation of a client."""

    ref_class: ClassVar[type[ServerRef]] = ClientRef

    async def init(self, client_class: "type[SlipstreamClient]", argument: Any = None, /) -> Any:
        """Make the client and its socket, and call its ``init``."""
        self._thread = threading.get_ident()
        self.applied_end = 0
        self.applied_open = 0
        self.uplink = Link(Inbox(self._mail()), client=self._process.label)
        self.topics = Topics(self)
        self.pushes = Pushes(self, self.topics)
        self.socket = Socket(self)
        self.client = client_class()
        self.presences = Presences(self)
        self.client._slipstream_server = self  # pyright: ignore[reportPrivateUsage]  # the two halves of one client
        self.connections: SupervisorRef | None = None
        self._supervisor_monitor: Any = None
        self._prepare()
        try:
            return await self.call_back("init", argument, self.socket, raises=True)
        finally:
            self._look_again()

    def connect(self, config: Config) -> None:
        """Want a connection with *config*; the connection supervisor starts with the first."""
        self.uplink.connect(config)
        self.topics.watches = self.topics.watches or config.last_seen is not None
        if self._supervisor_monitor is None:
            self._supervisor_monitor = False
            self.start_soon(self._start_connections, config)

    async def _start_connections(self, config: Config) -> None:
        # A client that is stopped before this ever ran is cancelled here, and starts nothing.
        await trio.lowlevel.checkpoint()
        spec = Connection.child_spec(
            self.uplink,
            id="connection",
            restart="permanent",
            # The close handshake, a second for the end of TCP, and some for the process itself.
            shutdown=config.close_timeout + 2.0,
            backoff=_uncounted_unless_a_bug,
        )
        supervisor = Supervisor.child_spec(
            [spec],
            id="connections",
            max_restarts=config.max_restarts,
            max_seconds=config.max_seconds,
            shutdown=config.close_timeout + 3.0,
        )
        try:
            connections = await self.start_owned(supervisor)
        except StartError:
            # A client that ends stops its supervisor, also one that is only just starting.
            if self._process.phase.value == "running" and not self._process.stopping:
                raise
            return
        assert isinstance(connections, SupervisorRef)  # noqa: S101 - for the type checkers
        self.connections = connections
        self._supervisor_monitor = self.monitor(connections)

    # The GenServer's callbacks

    async def handle_call(self, request: Any, caller: Caller, /) -> Any:
        """Hand a call to the client. A ``LinkError`` is raised where the call was made."""
        try:
            return await self.call_back("handle_call", request, caller, self.socket, raises=True)
        except LinkError as error:
            return Reply(Raised(error))
        finally:
            self._look_again()

    async def handle_cast(self, message: Any, /) -> Any:
        """Hand a cast to the client."""
        result = await self.call_back("handle_cast", message, self.socket)
        self._look_again()
        return result

    async def handle_continue(self, argument: Any, /) -> Any:
        """Hand a continue to the client."""
        result = await self.call_back("handle_continue", argument, self.socket)
        self._look_again()
        return result

    async def handle_info(self, item: Any, /) -> Any:
        """Follow an event of the link, or hand any other message to the client."""
        if type(item) is Message:
            return await self.run(item)
        if isinstance(item, _INBOUND):
            self.uplink.inbox.taken(item)
        match item:
            case TopicJoined() | TopicJoinFailed() | TopicClosed() | TopicLeft():
                result = await self._topic_event(item)
            case ReplyReceived(ref=ref, reply=reply):
                result = await self.call_back("handle_reply", ref, reply, self.socket)
            case PushFailed(ref=ref, reason=reason):
                result = await self.call_back("handle_push_failed", ref, reason, self.socket)
            case ConnectionOpened():
                self.follow_opened(item, flush=False)
                result = await self.call_back("handle_connect", self.socket)
                self.topics.flush()
            case ConnectionEnded():
                self.follow_ended(item)
                result = await self.call_back("handle_disconnect", item.reason, self.socket)
                self.uplink.decide()
            case Nudge() | WaitsOverflowed():
                result = None
            case Down(monitor=monitor, reason=reason) if monitor is self._supervisor_monitor:
                raise self._gave_up(reason)
            case _:
                result = await self.call_back("handle_info", item, self.socket)
        return await self.or_gave_up(result)

    async def terminate(self, reason: ExitReason, /) -> None:
        """Let the client clean up; the connection is closed after it, whatever it does."""
        crashed = isinstance(reason, Crashed)
        cause = self.stop_cause or "asked"
        self.uplink.close_code = (
            1011 if crashed and self.uplink.fatal is None else _CODE_BY_CAUSE[cause]
        )
        await self.call_back("terminate", reason, self.socket)

    @property
    def ended(self) -> bool:
        """Whether the process has ended."""
        return self._process.exit_reason is not None

    @property
    def exit_reason(self) -> ExitReason | None:
        """How the process ended, once it has."""
        return self._process.exit_reason

    # What topics and pushes need of their host

    def call_at(self, when: float, function: Callable[[], None], /) -> Alarm:
        """Call *function* at *when*, on trio's clock, unless the process is ending by then."""
        process = self._process
        # An end may last, as a close does; what a topic or a push does later needs helpers.
        return process.timers.at(when, lambda: None if process.helpers_over else function())

    def post(self, *events: Any) -> None:
        """Let the client handle *events* as if the network had brought them."""
        self.uplink.inbox.deliver(list(events), 0)

    def topic_ended(self, topic: str, reason: TopicCloseReason | None) -> None:
        """Fail what waits for *topic*."""
        self.pushes.topic_ended(topic, reason)

    # What awaiting needs

    def check_thread(self) -> None:
        """Refuse any other thread than trio's.

        Raises:
            WrongTaskError: in any other thread.
        """
        if threading.get_ident() != self._thread:
            raise WrongTaskError(
                f"the socket of {self.ref} is of a trio run in another thread: go through "
                "trio.from_thread"
            )

    def runs_here(self) -> bool:
        """Tell whether this is the task that runs the callbacks."""
        return trio.lowlevel.current_task() is self._process.task

    def check_owner(self, what: str) -> None:
        """Refuse an await from any other task than the client's own.

        Raises:
            WrongTaskError: in any other task.
        """
        if not self.runs_here():
            raise WrongTaskError(
                f"{what} belongs to the task that runs the callbacks of {self.ref}; elsewhere use "
                "request, or a call to the client"
            )

    def take(self, matching: Callable[[Any], bool]) -> Any:
        """Take the first event that is *matching* out of the mailbox, or give ``None``."""
        found = self._mail().remove(matching, limit=1)
        if not found:
            return None
        if isinstance(found[0], _INBOUND):
            self.taken(found[0])
        return found[0]

    def taken(self, item: Any) -> None:
        """Note that *item* was taken out of the mailbox for one who waited for it."""
        self.uplink.inbox.taken(item)
        if self.topics.watches and type(item) is Message:
            self.topics.see(item)

    async def next_item(
        self,
        matching: Callable[[Any], bool],
        check: Callable[[], LinkError | None],
        timeout: float | None,
        what: str,
        *,
        done: Callable[[], bool] = bool,
    ) -> Any:
        """Take the first event that is *matching*, or give ``None`` as soon as *done* says so.

        *check* is asked at each change what ends the wait. Always a checkpoint. Safe to cancel.
        """
        check_seconds("timeout", timeout)
        inbox = self.uplink.inbox
        deadline = math.inf if timeout is None else trio.current_time() + timeout
        inbox.start_awaiting()
        try:
            await trio.lowlevel.checkpoint()
            while not done():
                item = self.take(matching)
                if item is not None:
                    return item
                error = check()
                if error is not None:
                    raise error
                left = None if timeout is None else max(0.0, deadline - trio.current_time())
                item = await self._receive(
                    lambda other: isinstance(other, Nudge | WaitsOverflowed) or matching(other),
                    left,
                )
                if isinstance(item, WaitsOverflowed):
                    raise item.error
                self.taken(item)
                if not isinstance(item, Nudge):
                    return item
        except AwaitTimeoutError:
            raise AwaitTimeoutError(what, timeout or 0.0) from None
        finally:
            inbox.stop_awaiting()
        return None

    def follow_opened(self, opened: ConnectionOpened, *, flush: bool = True) -> None:
        """Follow the news that a connection is open."""
        if opened.generation > self.applied_open:
            self.catch_up()
            self.applied_open = opened.generation
        if flush:
            self.topics.flush()

    def follow_ended(self, ended: ConnectionEnded) -> None:
        """Follow the news that a connection ended."""
        if ended.generation > self.applied_end:
            self.applied_end = ended.generation
            self.topics.disconnected(ended)

    def catch_up(self) -> None:
        """Follow the end of the last connection, though it still lies in the mailbox."""
        ended = self.uplink.last_end
        if ended is not None:
            self.follow_ended(ended)

    def follow_topic(self, event: Any) -> bool:
        """Follow an event of a topic; tell whether it was news."""
        news = self.topics.apply(event)
        if not news:
            self.uplink.counters["stale"] += 1
        elif isinstance(event, TopicJoined):
            self.pushes.joined(event.topic)
        return news

    def has_ended(self, topic: Topic) -> bool:
        """Tell whether no message of *topic* can come any more, as the wire stands."""
        connection = self.uplink.connection
        if topic.status in {TopicStatus.CLOSED, TopicStatus.WAITING}:
            return True
        return (
            topic.status is TopicStatus.JOINED
            and connection is not None
            and connection.state(topic.name).name == "CLOSED"
        )

    def topic_of_push(self, ref: str) -> str | None:
        """Give the topic that the push *ref* went to, where the wire still knows it."""
        connection = self.uplink.connection
        return connection.topic_of_push(ref) if connection is not None else None

    @property
    def push_timeout(self) -> float:
        """How long a request waits for its reply, where nothing else is said."""
        return self.uplink.config.push_timeout if self.uplink.config is not None else 10.0

    def health(self) -> Health:
        """Take a snapshot of how the link is doing."""
        return health_of(self)

    def format_status(self, status: Status, /) -> Status:
        """Show the last frames in reports, and no payload unless that is wanted."""
        message = status.message if self.shows_payloads else without_payload(status.message)
        shown = attrs.evolve(status, message=message, log=self.uplink.log())
        return self.client.format_status(shown)

    @property
    def _slipstream_state(self) -> object:
        return self.client

    def messages(self, topic: Any, event: Any, payload: Any, limit: int) -> Messages:
        """Give the block of ``socket.messages``; in a client, the mailbox has a limit of its own."""
        del limit
        return Messages(self, topic, event, payload)

    # Inside

    def _prepare(self) -> None:
        """Get ready for events; a script follows them in its own way."""

    def _mail(self) -> Any:
        return self.mailbox

    async def _receive(self, matching: Callable[[Any], bool], timeout: float | None) -> Any:
        return await self.receive(matching, timeout)

    async def _topic_event(self, event: Any) -> Any:
        if not self.follow_topic(event):
            return None
        match event:
            case TopicJoined(topic=topic, response=response):
                result = await self.call_back("handle_join", topic, response, self.socket)
                return await self._then_gap(topic, result)
            case TopicLeft(topic=topic):
                return await self.call_back("handle_leave", topic, self.socket)
            case _:
                return await self.call_back(
                    "handle_topic_close", event.topic, event.reason, self.socket
                )

    async def _then_gap(self, name: str, result: Any) -> Any:
        """Tell of the gap before this join, if there was one, unless the client ends."""
        topic = self.topics.get(name)
        over = isinstance(result, Stop) or self._process.stopping
        if over or topic is None or topic.status is not TopicStatus.JOINED or not topic.gap:
            return result
        after = await self.call_back("handle_gap", name, topic.last_seen, self.socket)
        return result if after is None else after

    def _gave_up(self, reason: ExitReason) -> SupervisorGaveUpError:
        story = self.connections.gave_up if self.connections is not None else None
        return story or SupervisorGaveUpError("the connection supervisor ended", reason=reason)

    def _look_again(self) -> None:
        """Let the policy's giving up be handled, where a wait in this callback brought it about."""
        if self.uplink.fatal is not None and not self.uplink.gave_up_told:
            self.post(Nudge())


def _uncounted_unless_a_bug(reason: ExitReason, _: int) -> float | None:
    # The delay of a reconnect is waited for by the connection itself (Link.wait_turn), since a
    # callback may still shorten, lengthen or cancel it; only a bug counts against max_restarts.
    is_bug = isinstance(reason, Crashed) and not isinstance(reason.exception, LinkError)
    return None if is_bug else 0.0
