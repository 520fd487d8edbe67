"""The socket machine: one connection's Phoenix protocol, without I/O and without a clock.

Commands go in and give frames to be written; frames that were read go in and give events; time
comes in as an argument. Nothing that the server sends can raise: what does not fit is discarded,
counted and told.

The fence: a reply is matched by its ref. Anything else must carry the join_ref of the topic's
present join, or none while the topic is joined (broadcasts have none). V1 has no join_refs, so its
``phx_close`` and ``phx_error`` count as the present join's.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, assert_never, cast

from slipstream.errors import DecodeError, LocalProtocolError
from slipstream.interfaces import Message, Payload, Serializer
from slipstream.reasons import (
    ChannelClosed,
    ChannelCrashed,
    ConnectionLost,
    JoinRefused,
    JoinTimedOut,
    PushTimedOut,
    TopicGone,
)

from ._deadlines import Deadlines, Obligation
from ._heartbeat import Heartbeat
from ._pushes import PushRecords
from .commands import Command, JoinTopic, LeaveTopic, Outgoing, PushMessage
from .events import (
    DiscardReason,
    Event,
    FrameDiscarded,
    FrameUndecodable,
    HeartbeatAcknowledged,
    HeartbeatTimedOut,
    PushFailed,
    ReplyReceived,
    TopicClosed,
    TopicJoined,
    TopicJoinFailed,
    TopicLeft,
)
from .messages import (
    HEARTBEAT,
    PHOENIX,
    PHX_JOIN,
    PHX_LEAVE,
    ChannelReply,
)
from .topics import Input, TopicRecord, TopicState

__all__ = ["RefCounter", "SocketMachine"]

_JOINED: Final = TopicState.JOINED  # looking a member up in its enum costs as much as the fence
_OWN: Final = frozenset({"phx_reply", "phx_close", "phx_error"})
_LIVE: Final = (TopicState.JOINED, TopicState.LEAVING)
"""States in which messages of the present join are still handed on."""


class RefCounter:
    """Gives refs: ``"1"``, ``"2"``, … One per client, over all its connections."""

    def __init__(self) -> None:
        self._last = 0

    def __next__(self) -> str:
        self._last += 1
        return str(self._last)

    def __iter__(self) -> "RefCounter":
        return self

    def peek(self) -> str:
        """Give the ref that the next ``next`` gives."""
        return str(self._last + 1)


class SocketMachine:
    """The protocol of one connection.

    Args:
        serializer: turns messages into frames and back.
        refs: the client's counter.
        heartbeat_interval: seconds from an answered heartbeat to the next; ``None`` sends none.
        heartbeat_timeout: seconds within which something must be received after one.
    """

    def __init__(
        self,
        serializer: Serializer,
        *,
        refs: RefCounter,
        heartbeat_interval: float | None,
        heartbeat_timeout: float,
    ) -> None:
        self._serializer = serializer
        self._has_join_refs = not serializer.vsn.startswith("1.")
        self._refs = refs
        self._topics: dict[str, TopicRecord] = {}
        self._joins: dict[str, str] = {}
        self._leaves: dict[str, TopicLeft] = {}
        self._leaving: dict[str, str] = {}
        self._pushes = PushRecords()
        self._deadlines = Deadlines()
        self._heartbeat = Heartbeat(heartbeat_interval, heartbeat_timeout, self._deadlines)
        # What is owed for a ref: from its command until it is written, then until it is met.
        self._owed: dict[str, tuple[Callable[[], list[Event]], float]] = {}
        self._running: dict[str, Obligation] = {}
        # Events of commands wait for the next receive or advance: a command gives frames only.
        self._superseded: list[Event] = []
        self._goodbyes: list[Outgoing] = []
        self.discarded: Counter[str] = Counter()

    # Views

    def state(self, topic: str) -> TopicState:
        """Tell the state of *topic*."""
        record = self._topics.get(topic)
        return record.state if record is not None else TopicState.CLOSED

    @property
    def topics(self) -> dict[str, TopicState]:
        """Every topic that is not closed, with its state."""
        return {name: record.state for name, record in self._topics.items()}

    @property
    def pending_pushes(self) -> int:
        """How many pushes have a record: those that may still be answered."""
        return len(self._pushes)

    @property
    def last_rtt(self) -> float | None:
        """Seconds between the last answered heartbeat and its answer."""
        return self._heartbeat.last_rtt

    def topic_of_push(self, ref: str) -> str | None:
        """Give the topic that the push *ref* went to, while it may still be answered."""
        push = self._pushes.get(ref)
        return push.topic if push is not None else None

    # Commands in, frames out

    def start(self, now: float) -> None:
        """Note that the connection is open."""
        self._heartbeat.start(now)

    def handle(self, command: Command, now: float) -> Outgoing:
        """Carry *command* out, and give the frame to be written.

        Raises:
            LocalProtocolError: if the state of the topic does not allow it; nothing has changed.
            EncodeError: if the payload cannot be put on the wire; nothing has changed.
        """
        match command:
            case PushMessage():
                return self._push(command)
            case JoinTopic():
                return self._join(command)
            case LeaveTopic():
                return self._leave(command)
            case _:
                assert_never(command)

    def _encode(
        self, join_ref: str | None, ref: str, topic: str, event: str, payload: Payload
    ) -> Outgoing:
        frame = self._serializer.encode(Message(join_ref, ref, topic, event, payload))
        return Outgoing(frame, ref, urgent=topic == PHOENIX)

    def _push(self, command: PushMessage) -> Outgoing:
        record = self._topics.get(command.topic)
        if record is None or record.state is not TopicState.JOINED:
            raise LocalProtocolError(
                f"cannot push {command.event!r} to {command.topic!r} while it is "
                f"{self.state(command.topic).value}"
            )
        ref = command.ref if command.ref is not None else self._refs.peek()
        sent = self._encode(record.join_ref, ref, command.topic, command.event, command.payload)
        if command.ref is None:
            next(self._refs)
        timed = command.timeout is not None
        self._pushes.add(ref, command.topic, record.join_ref, timed=timed)
        if command.timeout is not None:
            self._owed[ref] = (lambda: self._push_timed_out(ref), command.timeout)
        return sent

    def _join(self, command: JoinTopic) -> Outgoing:
        name = command.topic
        if name == PHOENIX:
            raise LocalProtocolError(f"cannot join topic {name!r}: it is the socket's own")
        record = self._topics.get(name) or TopicRecord(name)
        record.check(Input.JOIN)
        ref = self._refs.peek()
        sent = self._encode(ref, ref, name, PHX_JOIN, command.payload)
        next(self._refs)
        # The pushes of the join before end only now, but they end: its channel is gone.
        self._superseded.extend(self._drop_pushes(name))
        self._meet(record.join_ref)
        self._joins.pop(record.join_ref, None)
        record.step(Input.JOIN)
        record.join_ref = ref
        self._topics[name] = record
        self._joins[ref] = name
        self._owed[ref] = (lambda: self._join_timed_out(record, ref), command.timeout)
        return sent

    def _leave(self, command: LeaveTopic) -> Outgoing:
        record = self._topics.get(command.topic) or TopicRecord(command.topic)
        record.check(Input.LEAVE)
        sent = self._leave_frame(record)
        record.step(Input.LEAVE)
        self._meet(record.join_ref)
        self._joins.pop(record.join_ref, None)
        join_ref = record.join_ref
        self._leaves[sent.ref] = TopicLeft(record.name, join_ref)
        self._leaving[join_ref] = sent.ref
        self._owed[sent.ref] = (lambda: self._left(sent.ref), command.timeout)
        return sent

    def _leave_frame(self, record: TopicRecord) -> Outgoing:
        ref = self._refs.peek()
        sent = self._encode(record.join_ref, ref, record.name, PHX_LEAVE, {})
        next(self._refs)
        return sent

    # Frames in, events out

    def receive(self, frames: Iterable[str | bytes], now: float) -> list[Event]:
        """Follow what was read, in order. Never raises."""
        self._heartbeat.heard(now)
        events: list[Event] = self._take_superseded()
        decode, topics = self._serializer.decode, self._topics
        for frame in frames:
            try:
                message = decode(frame)
            except DecodeError as error:
                self.discarded["undecodable"] += 1
                events.append(FrameUndecodable(error))
                continue
            if message.event not in _OWN:
                record = topics.get(message.topic)
                if (
                    record is not None and record.state is _JOINED and message.join_ref is None
                ):  # nearly all of them
                    events.append(message)
                    continue
            match message.event:
                case "phx_reply":
                    events.extend(self._reply(message, now))
                case "phx_close":
                    events.extend(self._channel_ended(message, Input.CLOSE))
                case "phx_error":
                    events.extend(self._channel_ended(message, Input.ERROR))
                case _:
                    why = self._fence(message)
                    events.append(message if why is None else self._discard(why, message))
        return events

    def _fence(self, message: Message) -> DiscardReason | None:
        record = self._topics.get(message.topic)
        if record is None:
            return "socket" if message.topic == PHOENIX else "unknown_topic"
        if message.join_ref is None:
            return None if record.state is _JOINED else "not_joined"
        if message.join_ref != record.join_ref:
            return "stale_message"
        return None if record.state in _LIVE else "not_joined"

    def _discard(self, why: DiscardReason, message: Message) -> FrameDiscarded:
        self.discarded[why] += 1
        return FrameDiscarded(why, message)

    def _reply(self, message: Message, now: float) -> list[Event]:
        payload: Any = message.payload
        fields = cast("dict[str, Any]", payload) if isinstance(payload, dict) else {}
        status = fields.get("status")
        if not isinstance(status, str):
            self.discarded["undecodable"] += 1
            return [FrameUndecodable(DecodeError(f"a reply without a status: {payload!r:.200}"))]
        reply = ChannelReply(status, fields.get("response", {}))
        ref = message.ref
        if ref is not None and ref == self._heartbeat.ref and message.topic == PHOENIX:
            return [HeartbeatAcknowledged(ref, self._heartbeat.answered(now))]
        if ref is None or message.topic == PHOENIX:
            return [self._discard("stale_reply" if ref is None else "socket", message)]
        if ref in self._joins and self._joins[ref] == message.topic:
            return self._join_answered(ref, reply)
        if ref in self._leaves and self._leaves[ref].topic == message.topic:
            return self._left(ref)
        push = self._pushes.get(ref)
        fits = push is not None and push.topic == message.topic
        if not fits or push is None or message.join_ref not in {None, push.join_ref}:
            return [self._discard("stale_reply", message)]
        self._pushes.remove(ref)
        self._meet(ref)
        events: list[Event] = [ReplyReceived(ref, message.topic, reply)]
        if message.join_ref is None and _is_unmatched(reply):
            events.extend(self._lost_channel(message.topic, push.join_ref, reply.response))
        return events

    def _join_answered(self, ref: str, reply: ChannelReply) -> list[Event]:
        record = self._topics[self._joins.pop(ref)]
        self._meet(ref)
        if reply.ok:
            record.step(Input.JOIN_OK)
            return [TopicJoined(record.name, reply.response, ref)]
        self._close(record, Input.JOIN_ERROR)
        return [TopicJoinFailed(record.name, JoinRefused(reply.response), ref)]

    def _lost_channel(self, topic: str, join_ref: str, response: Payload) -> list[Event]:
        # The server has no such channel, though we believed it joined (a push that crossed its
        # end): as good as a crash, since its phx_error will never come.
        record = self._topics.get(topic)
        if record is None or record.state is not TopicState.JOINED or record.join_ref != join_ref:
            return []
        failed = self._drop_pushes(topic)
        self._close(record, Input.ERROR)
        return [*failed, TopicClosed(topic, ChannelCrashed(response), join_ref)]

    def _channel_ended(self, message: Message, how: Input) -> list[Event]:
        record = self._topics.get(message.topic)
        join_ref = message.join_ref
        if join_ref is None and record is not None:
            lenient = not self._has_join_refs or record.state is TopicState.JOINED
            join_ref = record.join_ref if lenient else None
        leave_ref = self._leaving.get(join_ref or "")
        if leave_ref is not None and self._leaves[leave_ref].topic == message.topic:
            return self._left(leave_ref)
        if record is None:
            return [self._discard("unknown_topic", message)]
        if join_ref != record.join_ref or not record.allows(how):
            stale: DiscardReason = "stale_close" if how is Input.CLOSE else "stale_error"
            return [self._discard(stale, message)]
        failed = self._drop_pushes(record.name)
        self._joins.pop(record.join_ref, None)
        self._meet(record.join_ref)
        self._close(record, how)
        reason = ChannelClosed() if how is Input.CLOSE else ChannelCrashed(message.payload)
        return [*failed, TopicClosed(record.name, reason, record.join_ref)]

    # Time

    def written(self, refs: Sequence[str], now: float) -> None:
        """Note that the frames of *refs* were handed to the network: their time starts now."""
        for ref in refs:
            if ref == self._heartbeat.ref:
                self._heartbeat.written(now)
                continue
            owed = self._owed.pop(ref, None)
            if owed is not None:
                self._run(ref, owed[0], now, owed[1])
            self._pushes.written(ref)

    def deadline(self) -> float:
        """Tell when :meth:`advance` has to be called next; infinity where nothing is due."""
        if self._superseded:
            return -math.inf
        return min(self._deadlines.next(), self._heartbeat.due_at())

    def advance(self, now: float, last_received: float) -> tuple[list[Event], list[Outgoing]]:
        """Do what is due by *now*. *last_received* is when any byte last came from the server."""
        events = self._take_superseded()
        frames: list[Outgoing] = []
        while (obligation := self._deadlines.pop_due(now)) is not None:
            events.extend(obligation.what())
        frames.extend(self._goodbyes)
        self._goodbyes.clear()
        heartbeat = self._heartbeat
        heartbeat.heard(last_received)
        if heartbeat.is_overdue(now):
            events.append(HeartbeatTimedOut())
        if heartbeat.is_due(now):
            ref = next(self._refs)
            heartbeat.sent(ref)
            frames.append(self._encode(None, ref, PHOENIX, HEARTBEAT, {}))
        return events, frames

    def pause(self, now: float) -> None:
        """Let time stand still for all deadlines: nothing can be read, so nothing can be late.

        Heartbeats are sent all the same.
        """
        self._deadlines.pause(now)

    def resume(self, now: float) -> None:
        """Let time go on."""
        self._deadlines.resume(now)

    def end(self) -> list[Event]:
        """Close everything: the connection is over. Joins end silently; the disconnect tells."""
        events = self._take_superseded()
        for ref, push in self._pushes.items():
            if push.timed or not push.written:
                events.append(PushFailed(ref, push.topic, ConnectionLost(push.written)))
        events.extend(self._leaves.values())
        self._pushes.clear()
        for ended in (self._leaves, self._leaving, self._joins, self._topics, self._owed):
            ended.clear()
        self._running.clear()
        self._deadlines.clear()
        self._heartbeat.stop()
        return events

    # Inside

    def _run(self, ref: str, what: Callable[[], list[Event]], now: float, seconds: float) -> None:
        obligation = self._running[ref] = Obligation(what)
        self._deadlines.add(obligation, now, seconds)

    def _meet(self, ref: str) -> None:
        self._owed.pop(ref, None)
        obligation = self._running.pop(ref, None)
        if obligation is not None:
            self._deadlines.meet(obligation)

    def _close(self, record: TopicRecord, how: Input) -> None:
        record.step(how)
        # A closed topic needs no record: clients may ask for topics without number.
        del self._topics[record.name]

    def _left(self, leave_ref: str) -> list[Event]:
        left = self._leaves.pop(leave_ref)
        self._leaving.pop(left.join_ref, None)
        self._meet(leave_ref)
        record = self._topics.get(left.topic)
        failed: list[Event] = []
        if record is not None and record.join_ref == left.join_ref:
            failed = self._drop_pushes(left.topic)
            self._close(record, Input.LEFT)
        return [*failed, left]

    def _drop_pushes(self, topic: str) -> list[Event]:
        failed: list[Event] = []
        for ref in self._pushes.end_topic(topic):
            self._meet(ref)
            failed.append(PushFailed(ref, topic, TopicGone()))
        return failed

    def _take_superseded(self) -> list[Event]:
        events, self._superseded = self._superseded, []
        return events

    def _push_timed_out(self, ref: str) -> list[Event]:
        self._running.pop(ref, None)
        push = self._pushes.remove(ref)
        return [] if push is None else [PushFailed(ref, push.topic, PushTimedOut())]

    def _join_timed_out(self, record: TopicRecord, ref: str) -> list[Event]:
        self._running.pop(ref, None)
        self._joins.pop(ref, None)
        # phoenix.js does the same: the server may still join us, so it is told that we left.
        self._goodbyes.append(self._leave_frame(record))
        self._close(record, Input.JOIN_TIMEOUT)
        return [TopicJoinFailed(record.name, JoinTimedOut(), ref)]


def _is_unmatched(reply: ChannelReply) -> bool:
    response: Any = reply.response
    if reply.status != "error" or not isinstance(response, dict):
        return False
    return cast("dict[str, Any]", response).get("reason") == "unmatched topic"
