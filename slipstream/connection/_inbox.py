"""What the network brought and the client has not handled yet: counted, bounded, fast for replies."""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from itertools import islice
from typing import Any, Protocol

import attrs
import trio

from slipstream.errors import (
    DisconnectedError,
    InboundOverflowError,
    PushTimeoutError,
    SlipstreamError,
    TopicClosedError,
)
from slipstream.interfaces import Message
from slipstream.protocol import (
    ChannelReply,
    PushFailed,
    ReplyReceived,
    TopicClosed,
    TopicJoined,
    TopicJoinFailed,
    TopicLeft,
)
from slipstream.reasons import ConnectionLost, DisconnectReason, PushTimedOut, TopicCloseReason

__all__ = ["Inbox", "Nudge", "Waiter", "WaitsOverflowed"]

_ABANDONED_LIMIT = 4096
_OUTCOMES = (ReplyReceived, PushFailed)
"""What says nothing of topics."""


@attrs.frozen
class Nudge:
    """Something has changed that may end a wait inside the client. Nothing by itself."""


@attrs.frozen
class WaitsOverflowed:
    """Too much lies unread before what the client waits for; *error* is what its waits raise."""

    error: InboundOverflowError


class Mailbox(Protocol):
    """The part of a process's mailbox that an inbox needs."""

    def extend(self, items: Iterable[Any], /) -> None:
        """Post *items* in order, and wake the process once."""
        ...

    def remove(self, matching: Callable[[Any], bool], limit: int | None = None) -> list[Any]:
        """Take out the oldest items that are *matching*."""
        ...

    def replace(self, change: Callable[[Any], Any]) -> None:
        """Put what *change* makes of each item into its place."""
        ...

    def __iter__(self) -> Iterator[Any]:
        """Go over the items, oldest first."""
        ...


class Waiter:
    """Somebody who waits for the reply to one push. It is settled once; later outcomes are dropped."""

    __slots__ = ("error", "event", "reply", "seconds", "settled", "topic")

    def __init__(self, topic: str, event: str, seconds: float) -> None:
        self.topic = topic
        self.event = event
        self.seconds = seconds
        self.settled = trio.Event()
        self.reply: ChannelReply | None = None
        self.error: SlipstreamError | None = None

    def outcome(self) -> ChannelReply:
        """Give the reply, or raise the error."""
        if self.error is not None:
            raise self.error
        assert self.reply is not None  # noqa: S101 - settled, and not by an error
        return self.reply

    def succeed(self, reply: ChannelReply) -> None:
        """Give *reply* to the one who waits."""
        if not self.settled.is_set():
            self.reply = reply
            self.settled.set()

    def fail(self, error: SlipstreamError) -> None:
        """Let the one who waits raise *error*."""
        if not self.settled.is_set():
            self.error = error
            self.settled.set()

    def timed_out(self) -> PushTimeoutError:
        """Make the error that says that the time is over."""
        return PushTimeoutError(self.topic, self.event, self.seconds)


class Inbox:
    """Delivers events to a client's mailbox, in order, and keeps account of them.

    A reply that somebody waits for overtakes the messages before it: it goes to its waiter at
    once, never through the mailbox.
    """

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._limit = 1
        self._max_bytes = 1
        # Events and bytes of each batch that has not been taken out whole, oldest first.
        self._batches: deque[list[int]] = deque()
        self._awaiting = 0
        self._nudged = False
        self._abandoned: dict[str, None] = {}
        self._ended_by: DisconnectReason | None = None
        self._ends: dict[str, TopicCloseReason] = {}
        # A script has no loop that follows events one by one: it follows them as they come.
        self.on_events: Callable[[list[Any]], list[Any]] | None = None
        # Told of each topic that is joined, where something waits for that.
        self.on_joined: Callable[[str], None] | None = None
        self.count = 0
        self.bytes = 0
        self.dropped = 0
        self._room = trio.Event()
        self._room_wanted = False
        self.waiters: dict[str, Waiter] = {}

    def set_limits(self, limit: int, max_bytes: int) -> None:
        """Set how many events, and how many bytes, may lie unread before reading should stop."""
        self._limit = limit
        self._max_bytes = max_bytes

    @property
    def full(self) -> bool:
        """Whether reading should stop."""
        return self.count >= self._limit or self.bytes >= self._max_bytes

    def room(self) -> trio.Event:
        """Give what is set once there is plenty of room, or reading may go on without."""
        self._room_wanted = True
        if self._room.is_set():
            self._room = trio.Event()
        return self._room

    def _make_room(self) -> None:
        self._room_wanted = False
        self._room.set()

    @property
    def awaiting(self) -> bool:
        """Whether the client waits inside a callback for what may lie behind unread messages."""
        return self._awaiting > 0

    def deliver(self, events: list[Any], size: int) -> None:
        """Hand *events*, which came in *size* bytes, to the client; wake it once."""
        joined: list[str] = []
        if self.on_joined is not None:
            joined = [event.topic for event in events if type(event) is TopicJoined]
        self._hand_over(events, size)
        for topic in joined:
            if self.on_joined is not None:
                self.on_joined(topic)

    def _hand_over(self, events: list[Any], size: int) -> None:
        if self.waiters or self._abandoned:
            # The pushes of a channel that ended come before its end, which has the reason.
            self._ends = {e.topic: e.reason for e in events if isinstance(e, TopicClosed)}
            events = [event for event in events if not self.settle(event)]
        # One that lies there is enough: whoever takes it looks at everything anew.
        wanted = self._awaiting and not self._nudged
        nudge = wanted and any(type(event) is not Message for event in events)
        if self.on_events is not None:
            events = self.on_events(events)
        if nudge:
            self._nudged = True
            events = [*events, Nudge()]
        if not events:
            return
        self._batches.append([len(events), size])
        self.count += len(events)
        self.bytes += size
        self._mailbox.extend(events)

    def nudge(self) -> None:
        """Let the waits of the client, if there are any, look at everything anew."""
        if self._awaiting and not self._nudged:
            self._nudged = True
            self._batches.append([1, 0])
            self.count += 1
            self._mailbox.extend([Nudge()])

    def taken(self, event: Any) -> None:
        """Note that the client took *event* out of its mailbox."""
        if type(event) is Nudge:
            self._nudged = False
        self.message_taken()

    def message_taken(self) -> None:
        """Note that the client took a message out of its mailbox."""
        batches = self._batches
        if not batches:
            return
        batch = batches[0]
        self.count -= 1
        left = batch[0] = batch[0] - 1
        if not left:
            self.bytes -= batch[1]
            batches.popleft()
        # Not at the limit but well below it: else reading would stop and go with every message.
        if (
            self._room_wanted
            and self.count <= self._limit // 2
            and self.bytes <= self._max_bytes // 2
        ):
            self._make_room()

    def drop_oldest(self) -> int:
        """Drop the oldest messages (nothing else) until there is some room; tell how many.

        The newest batch is only dropped where the number of messages demands it.
        """
        excess = self.count - self._limit + max(self._limit // 16, 1)
        left, older = self.bytes, 0
        for count, size in islice(self._batches, len(self._batches) - 1):
            if left < self._max_bytes - self._max_bytes // 16:
                break
            left -= size
            older += count
        return self._drop(_is_message, max(excess, older, 1))

    def coalesce(self, key: Callable[[Message], Hashable]) -> int:
        """Let the newest message of each topic and *key* stand where the oldest does.

        Not across anything else that waits, but for the outcomes of pushes: before or after the
        news of a topic, a message means another thing. Tells how many messages went.
        """
        places: dict[Hashable, Message] = {}
        newest: dict[int, Message] = {}
        gone: set[int] = set()
        for item in self._mailbox:
            if type(item) is Message:
                name = key(item)
                place = item if name is None else places.setdefault((item.topic, name), item)
                if place is not item:
                    newest[id(place)] = item
                    gone.add(id(item))
            elif type(item) not in _OUTCOMES:
                places.clear()
        if gone:
            self._drop(lambda item: id(item) in gone, len(gone))
            self._mailbox.replace(lambda item: newest.get(id(item), item))
        return len(gone)

    def _drop(self, matching: Callable[[Any], bool], limit: int) -> int:
        dropped = self._mailbox.remove(matching, limit=limit)
        for message in dropped:
            self.taken(message)
        self.dropped += len(dropped)
        return len(dropped)

    def start_awaiting(self) -> None:
        """Let reading go on over the limit, since the client waits for what may lie behind it."""
        self._awaiting += 1
        self._make_room()

    def stop_awaiting(self) -> None:
        """Take one :meth:`start_awaiting` back."""
        self._awaiting -= 1

    def waits_too_long(self) -> bool:
        """Whether the client still waits while more than the bytes allowed lie unread before it."""
        return self.awaiting and self.bytes >= self._max_bytes

    def give_up_waits(self) -> None:
        """Let every wait inside the client raise ``InboundOverflowError``."""
        error = InboundOverflowError(
            f"{self.bytes} bytes in {self.count} messages lie unread before the answer; accepted "
            f"are {self._max_bytes} (inbound_bytes)"
        )
        self._fail_waiters(lambda _: error)
        self._mailbox.extend([WaitsOverflowed(error)])

    def deliver_end(self, events: list[Any], reason: DisconnectReason) -> None:
        """Hand over the last events of a connection; everyone who waits for a reply learns *reason*."""
        self._ended_by = reason
        self.deliver(events, 0)
        self._ended_by = None
        self._fail_waiters(lambda _: DisconnectedError(reason))

    def abandon(self, ref: str) -> None:
        """Note that nobody wants the outcome of the push *ref* any more: it is counted and dropped."""
        if self.waiters.pop(ref, None) is not None:
            self._abandoned[ref] = None
            if len(self._abandoned) > _ABANDONED_LIMIT:
                del self._abandoned[next(iter(self._abandoned))]

    def _fail_waiters(self, error_for: Callable[[Waiter], SlipstreamError | None]) -> None:
        for ref, waiter in list(self.waiters.items()):
            error = error_for(waiter)
            if error is not None:
                waiter.fail(error)
                del self.waiters[ref]

    def _fail_topic(self, topic: str, reason: TopicCloseReason | None) -> None:
        self._fail_waiters(
            lambda waiter: TopicClosedError(topic, reason) if waiter.topic == topic else None
        )

    def settle(self, event: Any) -> bool:
        """Give *event* to the one who waits for it; tell whether there was one."""
        match event:
            case ReplyReceived(ref=ref) | PushFailed(ref=ref) if ref in self._abandoned:
                del self._abandoned[ref]
                self.dropped += 1
                return True
            case ReplyReceived(ref=ref, reply=reply):
                waiter = self.waiters.pop(ref, None)
                if waiter is not None:
                    waiter.succeed(reply)
                return waiter is not None
            case PushFailed(ref=ref, topic=topic, reason=reason):
                waiter = self.waiters.pop(ref, None)
                if waiter is None:
                    return False
                match reason:
                    case PushTimedOut():
                        waiter.fail(waiter.timed_out())
                    case ConnectionLost():
                        waiter.fail(DisconnectedError(self._ended_by))
                    case _:
                        waiter.fail(TopicClosedError(topic, self._ends.get(topic)))
                return True
            case (
                TopicClosed(topic=topic, reason=reason)
                | TopicJoinFailed(topic=topic, reason=reason)
            ):
                self._fail_topic(topic, reason)
            case TopicLeft(topic=topic):
                self._fail_topic(topic, None)
            case _:
                pass
        return False


def _is_message(item: Any) -> bool:
    return type(item) is Message
