"""Pushes: each has a ref, waits for room only, and ends as it owes."""

from collections import OrderedDict
from functools import partial
from typing import Any, Literal, TypeAlias

import attrs
import trio

from slipstream.connection import Phase, Waiter
from slipstream.errors import (
    ConfigError,
    DisconnectedError,
    EncodeError,
    LinkError,
    NotJoinedError,
    TopicClosedError,
    WrongTaskError,
)
from slipstream.interfaces import Message, Payload
from slipstream.otp import wait_event
from slipstream.protocol import PushFailed, PushMessage, TopicState
from slipstream.reasons import ConnectionLost, PushFailure, TopicCloseReason, TopicGone

from ._topic import Alarm, TopicStatus
from ._topics import Host, Topics

__all__ = ["Pushes", "WhenUnjoined"]

WhenUnjoined: TypeAlias = Literal["fail", "queue", "raise"]
"""What becomes of a push whose topic is known, but not joined just now."""

_NOT_COMING = frozenset({TopicStatus.CLOSED, TopicStatus.LEAVING})

RESERVED = frozenset({"phx_join", "phx_leave", "phx_close", "phx_error", "phx_reply"})
"""Events that are the protocol's own (phoenix.js, CHANNEL_EVENTS)."""


@attrs.define(eq=False)
class _Queued:
    """A push that waits for its topic."""

    topic: str
    event: str
    payload: Payload
    timeout: float | None
    waiter: Waiter | None
    timer: Alarm | None = None


class Pushes:
    """The pushes of one client."""

    def __init__(self, host: Host, topics: Topics) -> None:
        self._host = host
        self._topics = topics
        self._queue: OrderedDict[str, _Queued] = OrderedDict()
        self._room = trio.Event()
        self._watched = False
        self._over = False

    @property
    def queued(self) -> int:
        """How many pushes wait for their topic."""
        return len(self._queue)

    async def push(
        self,
        topic: str,
        event: str,
        payload: Payload,
        *,
        timeout: float | None,
        when_unjoined: WhenUnjoined,
        waiter: Waiter | None = None,
    ) -> str:
        """Queue one push whole, or not at all, and give its ref.

        Waits for room in the outbox only; a checkpoint in any case. Safe to cancel.
        """
        _check(topic, event, when_unjoined)
        link = self._host.uplink
        while True:
            known = self._topics.get(topic)
            if known is None:
                await trio.lowlevel.checkpoint()
                raise NotJoinedError(topic)
            connection = link.connection
            # One that may wait needs no more than the wire: a callback that waits for its reply
            # keeps the client from learning of the join.
            learnt = known.status is TopicStatus.JOINED and known.generation == link.generation
            if (
                connection is None
                or connection.state(topic) is not TopicState.JOINED
                or not (learnt or when_unjoined == "queue")
            ):
                await trio.lowlevel.checkpoint()
                ref = await self._unjoined(topic, event, payload, timeout, when_unjoined, waiter)
                if ref is None:
                    continue
                return ref
            await connection.wait_room()
            # Nothing of this has to be true any more after a wait. What follows does not wait.
            if connection is link.connection and connection.state(topic) is TopicState.JOINED:
                try:
                    sent = connection.command(PushMessage(topic, event, payload, timeout))
                except DisconnectedError:
                    ref = await self._unjoined(
                        topic, event, payload, timeout, when_unjoined, waiter
                    )
                    if ref is None:
                        continue
                    return ref
                if waiter is not None:
                    link.inbox.waiters[sent.ref] = waiter
                return sent.ref

    async def _unjoined(
        self,
        topic: str,
        event: str,
        payload: Payload,
        timeout: float | None,
        when_unjoined: WhenUnjoined,
        waiter: Waiter | None,
    ) -> str | None:
        """Do as *when_unjoined* says; ``None`` after a wait for room: all may be different now."""
        link = self._host.uplink
        link.serializer.encode(Message(None, None, topic, event, payload))
        if when_unjoined == "raise":
            raise self._error(topic)
        if when_unjoined == "queue" and link.config is not None:
            known = self._topics.get(topic)
            waits = known is not None and known.status not in _NOT_COMING
            if waits and self._watches_the_end():
                if await self._wait_room_in_queue(topic):
                    return None
                ref = next(link.refs)
                queued = _Queued(topic, event, payload, timeout, waiter)
                self._queue[ref] = queued
                link.inbox.on_joined = self.joined
                due = trio.current_time() + link.config.unjoined_ttl
                queued.timer = self._host.call_at(due, partial(self._expired, ref))
                return ref
        ref = next(link.refs)
        self._fail(ref, topic, waiter, self._failure())
        return ref

    async def _wait_room_in_queue(self, topic: str) -> bool:
        """Make or wait for room; tell whether there was a wait."""
        config = self._host.uplink.config
        while config is not None and len(self._queue) >= config.unjoined_limit:
            match config.unjoined_overflow:
                case "error":
                    raise self._error(topic)
                case "block" if self._host.runs_here() or not self._watches_the_end():
                    # What makes room happens after the callback that would wait for it.
                    raise self._error(topic)
                case "drop_oldest":
                    if not self._queue:
                        raise self._error(topic)
                    self._expired(next(iter(self._queue)))
                case "block":
                    if self._room.is_set():
                        self._room = trio.Event()
                    await wait_event(self._room)
                    return True
        return False

    def joined(self, topic: str) -> None:
        """Send what waited for *topic*, in order, where it is joined on the wire."""
        link = self._host.uplink
        self._room.set()  # who waits for it need not any more
        for ref, queued in list(self._queue.items()):
            connection = link.connection
            if connection is None or connection.state(topic) is not TopicState.JOINED:
                return
            if queued.topic != topic:
                continue
            push = PushMessage(topic, queued.event, queued.payload, queued.timeout, ref)
            try:
                connection.command(push)
            except DisconnectedError:
                return
            except EncodeError as error:  # it was changed after it had been given to us
                self._take(ref)
                if queued.waiter is not None:
                    queued.waiter.fail(error)
                else:
                    self._host.post(PushFailed(ref, topic, ConnectionLost(written=False)))
                continue
            self._take(ref)
            if queued.waiter is not None:
                link.inbox.waiters[ref] = queued.waiter

    def topic_ended(self, topic: str, reason: TopicCloseReason | None) -> None:
        """Fail what waited for *topic*, which is not wanted, or not to be had, any more."""
        self._room.set()  # who waits for it waits in vain
        for ref, queued in list(self._queue.items()):
            if queued.topic == topic:
                self._take(ref)
                if queued.waiter is not None:
                    queued.waiter.fail(TopicClosedError(topic, reason))
                else:
                    self._fail(ref, topic, None, TopicGone())

    def abandon(self, ref: str) -> None:
        """Take back a push that still waits for its topic, or drop the outcome of one that went out."""
        if ref in self._queue:
            self._take(ref)
        self._host.uplink.inbox.abandon(ref)

    def _expired(self, ref: str) -> None:
        queued = self._take(ref)
        self._fail(ref, queued.topic, queued.waiter, self._failure())

    def _take(self, ref: str) -> _Queued:
        queued = self._queue.pop(ref)
        if queued.timer is not None:
            queued.timer.cancel()
        self._room.set()
        if not self._queue:
            self._host.uplink.inbox.on_joined = None
        return queued

    def _watches_the_end(self) -> bool:
        """See to it that nobody waits for a client that has ended; tell whether it has not."""
        if not self._watched:
            try:
                self._host.start_soon(self._wait_for_end)
            except WrongTaskError:
                return False
            self._watched = True
        return not self._over

    async def _wait_for_end(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            self._over = True
            for queued in self._queue.values():
                if queued.waiter is not None:
                    queued.waiter.fail(self._error(queued.topic))
            self._room.set()

    def _failure(self) -> PushFailure:
        link = self._host.uplink
        if link.phase is Phase.OPEN and link.ending is None:
            return TopicGone()
        return ConnectionLost(written=False)

    def _error(self, topic: str) -> LinkError:
        link = self._host.uplink
        if link.ending is not None:
            return DisconnectedError(link.ending)
        if link.phase is Phase.OPEN:
            known = self._topics.get(topic)
            return TopicClosedError(topic, known.reason if known is not None else None)
        ended = link.last_end
        return DisconnectedError(ended.reason if ended is not None else None)

    def _fail(self, ref: str, topic: str, waiter: Waiter | None, reason: PushFailure) -> None:
        if waiter is not None:
            waiter.fail(self._error(topic))
        else:
            self._host.post(PushFailed(ref, topic, reason))


def _check(topic: Any, event: Any, when_unjoined: Any) -> None:
    for field, value in (("topic", topic), ("event", event)):
        if not isinstance(value, str):
            raise EncodeError(f"{field} is {value!r}; accepted is a string", field=field)
    if event in RESERVED:
        raise EncodeError(
            f"event is {event!r}, which is the protocol's own; accepted are other names, and "
            "socket.join and socket.leave",
            field="event",
        )
    if when_unjoined not in {"fail", "queue", "raise"}:
        raise ConfigError(
            f"when_unjoined is {when_unjoined!r}; accepted are 'fail', 'queue' and 'raise'"
        )
