"""Awaiting inside a callback or a script: connect, join, leave, a reply, a message.

A client's callbacks run one at a time, so nothing is handled while one of them waits. What these
functions do instead: they look at what has been learnt, then take from the mailbox the first event
that concerns them (the rest keeps its order), follow it, and look again. A *nudge* in the mailbox
tells them that the link or a topic has changed in a way that may end the wait.
"""

import math
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, cast

import trio

from slipstream import telemetry
from slipstream.connection import (
    ConnectionEnded,
    ConnectionOpened,
    Phase,
    Waiter,
)
from slipstream.errors import (
    AwaitTimeoutError,
    ConfigError,
    DisconnectedError,
    JoinError,
    LinkError,
    LocalProtocolError,
    NotJoinedError,
    PushTimeoutError,
    TopicClosedError,
)
from slipstream.interfaces import Message, Payload
from slipstream.otp import wait_event
from slipstream.protocol import (
    ChannelReply,
    PushFailed,
    ReplyReceived,
    TopicClosed,
    TopicJoined,
    TopicJoinFailed,
    TopicLeft,
)
from slipstream.reasons import DisconnectReason

from ._pushes import WhenUnjoined
from ._topic import Topic, TopicStatus

if TYPE_CHECKING:  # a cycle by nature: the server awaits through these, these act on the server
    from ._server import ClientServer

__all__ = ["ANY", "Messages", "end_of_messages", "matches", "matches_message"]


class _Any:
    """Fits everything. It equals everything too, so that it works inside of other values."""

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "ANY"


ANY: Final[Any] = _Any()
"""A pattern that fits everything."""


def matches(pattern: Any, value: Any) -> bool:
    """Tell whether *value* fits *pattern*.

    A pattern is ``ANY``, a type, a predicate, a mapping whose entries *value* must have (and fit,
    in turn), a list or tuple whose items must fit one by one, or a value to equal.
    """
    match pattern:
        case _Any():
            return True
        case type():
            return isinstance(value, pattern)
        case Mapping():
            parts = cast("dict[Any, Any]", pattern)
            whole: Any = value
            return isinstance(value, Mapping) and all(
                key in whole and matches(part, whole[key]) for key, part in parts.items()
            )
        case list() | tuple():
            items, others = cast("list[Any]", pattern), cast("list[Any]", value)
            is_list = isinstance(value, list | tuple)
            return is_list and len(items) == len(others) and all(map(matches, items, others))
        case _ if callable(pattern):
            return bool(pattern(value))
        case _:
            return bool(pattern == value)


def check_seconds(name: str, seconds: float | None) -> None:
    """Refuse what is no duration.

    Raises:
        ConfigError: if *seconds* is neither ``None`` nor a number from 0.
    """
    given: Any = seconds
    number = isinstance(given, int | float) and not isinstance(given, bool)
    if given is not None and (not number or math.isnan(given) or given < 0):
        raise ConfigError(f"{name} is {given!r}; accepted is a number of seconds from 0, or None")


def _deadline(timeout: float | None) -> float:
    check_seconds("timeout", timeout)
    return math.inf if timeout is None else trio.current_time() + timeout


async def await_connect(server: "ClientServer", timeout: float | None) -> None:
    """Wait for the present or next attempt, and take its event out of the mailbox."""
    server.check_owner("await_connect")
    await _connected(server, timeout)
    # The wire may be ahead of the mailbox: what was the last connection's is followed first.
    opened = server.take(lambda item: isinstance(item, ConnectionOpened))
    if opened is not None:
        server.follow_opened(opened)


async def _connected(server: "ClientServer", timeout: float | None) -> None:
    link = server.uplink
    deadline = _deadline(timeout)
    link.decide()
    seen = link.last_end
    over = link.generation if link.ending is not None else None
    await trio.lowlevel.checkpoint()
    while not link.up:
        ended = link.last_end
        if ended is not None and ended is not seen and ended.generation == over:
            # What was about to end when the wait began, as where the client has moved, is not meant.
            seen = ended
            link.decide()
            continue
        if ended is not seen or link.fatal is not None:
            raise link.error_of_end()
        if not link.wanted:
            raise DisconnectedError(
                seen.reason if seen is not None else None,
                "not connected, and no connection is asked for: call socket.connect",
            )
        if not await wait_event(link.changed, deadline=deadline):
            raise AwaitTimeoutError("a connection", timeout or 0.0)


async def await_disconnect(server: "ClientServer", timeout: float | None) -> DisconnectReason:
    """Wait for the end of the connection, and take its event out of the mailbox."""
    server.check_owner("await_disconnect")

    def check() -> LinkError | None:
        quiet = server.uplink.connection is None and server.applied_end == server.uplink.generation
        return server.uplink.error_of_end() if quiet else None

    try:
        ended: ConnectionEnded = await server.next_item(
            lambda item: isinstance(item, ConnectionEnded), check, timeout, "a disconnect"
        )
    except DisconnectedError as error:
        if error.reason is None:
            raise
        return error.reason  # it had ended before, and that was handled
    server.follow_ended(ended)
    # Its beginning, where it still lies unread, is old news by now: no handle_connect for it.
    server.take(
        lambda item: isinstance(item, ConnectionOpened) and item.generation <= ended.generation
    )
    server.uplink.decide()
    return ended.reason


async def await_join(server: "ClientServer", name: str, timeout: float | None) -> Any:
    """Wait until the join of *name* has ended."""
    server.check_owner("await_join")
    topic = _known(server, name)
    deadline = _deadline(timeout)
    failures = topic.failures
    if not server.uplink.up and topic.status is not TopicStatus.CLOSED:
        await _connected(server, timeout)
    else:
        await trio.lowlevel.checkpoint()
    server.catch_up()
    server.topics.flush(name)

    def concerns(item: Any) -> bool:
        return isinstance(item, TopicJoined | TopicJoinFailed | TopicClosed) and item.topic == name

    def check() -> LinkError | None:
        over = topic.status in {TopicStatus.CLOSED, TopicStatus.LEAVING}
        if over or topic.failures > failures:
            return JoinError(name, topic.reason)
        return _lost(server)

    def joined() -> bool:
        return topic.status is TopicStatus.JOINED

    while not joined():
        left = None if timeout is None else max(0.0, deadline - trio.current_time())
        what = f"the join of {name!r}"
        item = await server.next_item(concerns, check, left, what, done=joined)
        if item is not None:
            server.follow_topic(item)
            error = None if joined() else check()
            if error is not None:
                raise error
    return topic.response


async def await_leave(server: "ClientServer", name: str, timeout: float | None) -> None:
    """Wait until *name* has been left."""
    server.check_owner("await_leave")
    topic = _known(server, name)

    def concerns(item: Any) -> bool:
        return isinstance(item, TopicLeft) and item.topic == name

    def check() -> LinkError | None:
        if topic.status is TopicStatus.LEAVING:
            return _lost(server)
        return TopicClosedError(name)

    if topic.status not in {TopicStatus.LEAVING, TopicStatus.CLOSED}:
        await trio.lowlevel.checkpoint()
        raise LocalProtocolError(f"nobody asked to leave {name!r}: call socket.leave first")
    try:
        item = await server.next_item(concerns, check, timeout, f"the leave of {name!r}")
    except TopicClosedError:
        return  # it has been left, and that was handled
    server.follow_topic(item)


async def await_reply(server: "ClientServer", ref: str, timeout: float | None) -> ChannelReply:
    """Wait for the outcome of the push *ref*."""
    server.check_owner("await_reply")
    check_seconds("timeout", timeout)
    seconds = server.push_timeout if timeout is None else timeout

    def concerns(item: Any) -> bool:
        return isinstance(item, ReplyReceived | PushFailed) and item.ref == ref

    waiter = Waiter("", ref, seconds)
    topic = server.topic_of_push(ref)
    if topic is not None:
        waiter.topic = topic
    inbox = server.uplink.inbox
    inbox.waiters[ref] = waiter
    inbox.start_awaiting()
    try:
        lying = server.take(concerns)
        if lying is not None:
            inbox.settle(lying)
        await wait_event(waiter.settled, deadline=trio.current_time() + seconds)
    finally:
        inbox.stop_awaiting()
        if not waiter.settled.is_set():
            server.pushes.abandon(ref)
    if not waiter.settled.is_set():
        raise PushTimeoutError(waiter.topic, f"push {ref}", seconds)
    return waiter.outcome()


async def request(
    server: "ClientServer",
    topic: str,
    event: str,
    payload: Payload,
    timeout: float | None,
    when_unjoined: WhenUnjoined,
) -> ChannelReply:
    """Push and wait for the reply; the reply overtakes what lies unread."""
    if not telemetry.attached("slipstream.client.request"):
        return await _request(server, topic, event, payload, timeout, when_unjoined)
    with telemetry.span(
        "slipstream.client.request",
        clock=trio.current_time,
        client=server.uplink.client,
        topic=topic,
        event=event,
    ) as told:
        reply = await _request(server, topic, event, payload, timeout, when_unjoined)
        told["status"] = reply.status
    return reply


async def _request(
    server: "ClientServer",
    topic: str,
    event: str,
    payload: Payload,
    timeout: float | None,
    when_unjoined: WhenUnjoined,
) -> ChannelReply:
    seconds = server.push_timeout if timeout is None else timeout
    waiter = Waiter(topic, event, seconds)
    ref: str | None = None
    inbox = server.uplink.inbox
    inbox.start_awaiting()
    try:
        ref = await server.pushes.push(
            topic,
            event,
            payload,
            timeout=seconds,
            when_unjoined=when_unjoined,
            waiter=waiter,
        )
        await wait_event(waiter.settled, deadline=_latest(server, seconds, when_unjoined))
    finally:
        inbox.stop_awaiting()
        if ref is not None and not waiter.settled.is_set():
            server.pushes.abandon(ref)
    if not waiter.settled.is_set():
        raise waiter.timed_out()
    return waiter.outcome()


def _latest(server: "ClientServer", seconds: float, when_unjoined: WhenUnjoined) -> float:
    """Tell until when a request waits that its push has not been heard of."""
    config = server.uplink.config
    for_ever = config is None or config.unjoined_ttl == math.inf
    if when_unjoined == "queue" and for_ever and server.runs_here():
        # What sends it may happen only after the callback that waits: then nothing else ends it.
        return trio.current_time() + seconds
    return math.inf


async def await_message(
    server: "ClientServer",
    topic: Any,
    event: Any,
    payload: Any,
    timeout: float | None,
) -> Message:
    """Take the oldest message that fits."""
    server.check_owner("await_message")

    def fits(item: Any) -> bool:
        return (
            type(item) is Message
            and server.is_current(item)
            and item.event not in server.presences.events
            and matches_message(item, topic, event, payload)
        )

    def check() -> LinkError | None:
        return end_of_messages(server, topic)

    what = f"a message {event!r} on {topic!r}"
    message: Message = await server.next_item(fits, check, timeout, what)
    return message


def matches_message(message: Message, topic: Any, event: Any, payload: Any) -> bool:
    """Tell whether *message* fits the three patterns."""
    return (
        matches(topic, message.topic)
        and matches(event, message.event)
        and matches(payload, message.payload)
    )


def end_of_messages(server: "ClientServer", topic: Any) -> LinkError | None:
    """Give what says that no message of *topic*, a name or a pattern, can come; ``None`` if one can."""
    if isinstance(topic, str):
        known = server.topics.get(topic)
        ended = known is None or server.has_ended(known)
        if ended and server.uplink.phase is Phase.OPEN:
            return TopicClosedError(topic, known.reason if known is not None else None)
    return _lost(server)


def _known(server: "ClientServer", name: str) -> Topic:
    topic = server.topics.get(name)
    if topic is None:
        raise NotJoinedError(name)
    return topic


def _lost(server: "ClientServer") -> LinkError | None:
    return server.uplink.error_of_end() if server.uplink.phase is not Phase.OPEN else None


class Messages:
    """The messages that fit, as a block that gives an iterator.

    Attributes:
        dropped: how many were dropped, since more than the block keeps had come.
    """

    def __init__(self, server: "ClientServer", topic: Any, event: Any, payload: Any) -> None:
        self._server = server
        self._patterns = topic, event, payload
        self.dropped = 0

    async def __aenter__(self) -> Self:
        topic, _, _ = self._patterns
        if isinstance(topic, str):
            _known(self._server, topic)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        return None

    def __aiter__(self) -> AsyncIterator[Message]:
        return self

    async def __anext__(self) -> Message:
        return await await_message(self._server, *self._patterns, None)
