"""The socket machine against a model that a page of text can hold.

Topics and refs are few, so that they collide: what the server says draws its refs from those that
were used, and from a few that were not. For everything that happens the model tells the very events
that must come of it, in order.
"""

import math
from typing import Any

import attrs
import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from slipstream.errors import LocalProtocolError
from slipstream.interfaces import Message
from slipstream.protocol import (
    ChannelReply,
    Event,
    FrameDiscarded,
    JoinTopic,
    LeaveTopic,
    PushFailed,
    PushMessage,
    RefCounter,
    ReplyReceived,
    SocketMachine,
    TopicClosed,
    TopicJoined,
    TopicJoinFailed,
    TopicLeft,
    TopicState,
    V1Serializer,
    V2Serializer,
)
from slipstream.reasons import (
    ChannelClosed,
    ChannelCrashed,
    ConnectionLost,
    JoinRefused,
    JoinTimedOut,
    PushTimedOut,
    TopicGone,
)

CLOSED, JOINING, JOINED, LEAVING = TopicState

UNMATCHED = {"reason": "unmatched topic"}

answers = st.sampled_from([("ok", {}), ("ok", [1]), ("error", UNMATCHED), ("error", {}), ("x", {})])
events = st.sampled_from(["phx_close", "phx_error", "phx_join", "m", "presence_diff"])
timeouts = st.sampled_from([1.0, 4.0, 10.0])
odd_payloads: st.SearchStrategy[Any] = st.sampled_from(
    [None, 7, "x", [], {}, {"status": 1}, {"response": {}}]
)


@attrs.define
class Asked:
    """Something that was asked of the server, and that has not ended yet."""

    kind: str  # join, leave, push
    topic: str
    join_ref: str
    timeout: float | None
    written: bool = False
    due: tuple[float, int] | None = None
    gone: bool = False  # a push that is still queued, and whose topic has ended


class SocketAgainstModel(RuleBasedStateMachine):
    """The machine agrees with a model; nothing the server says raises."""

    topics: tuple[str, ...] = ("t",)
    spread = 4
    v1 = False

    def __init__(self) -> None:
        super().__init__()
        self.refs = RefCounter()
        self.server = V1Serializer(role="server") if self.v1 else V2Serializer(role="server")
        self.machine = SocketMachine(
            V1Serializer() if self.v1 else V2Serializer(),
            refs=self.refs,
            heartbeat_interval=None,
            heartbeat_timeout=1.0,
        )
        self.machine.start(0.0)
        self.now = 0.0
        self.writes = 0
        self.drawn: list[str] = []
        self.queue: list[str] = []
        self.blocked = False
        # The model: each topic's state and present join, and what has not ended, oldest first.
        self.state = dict.fromkeys(self.topics, CLOSED)
        self.join_ref = dict.fromkeys(self.topics, "")
        self.asked: dict[str, Asked] = {}
        self.late: list[Event] = []  # what the next call of the machine tells

    # What a client does

    @rule(data=st.data(), timeout=timeouts)
    def join(self, data: Any, timeout: float) -> None:
        self.ask_in(data.draw(st.sampled_from(self.topics)), timeout)

    def ask_in(self, topic: str, timeout: float) -> None:
        ref = self.command(JoinTopic(topic, {}, timeout), legal=True)
        self.late += self.end_pushes(topic)
        self.forget_join(topic)
        self.ask(ref, Asked("join", topic, ref, timeout))
        self.state[topic], self.join_ref[topic] = JOINING, ref

    @rule(data=st.data(), timeout=timeouts)
    def leave(self, data: Any, timeout: float) -> None:
        topic = data.draw(st.sampled_from(self.topics))
        legal = self.state[topic] in {JOINING, JOINED}
        ref = self.command(LeaveTopic(topic, timeout), legal=legal)
        if legal:
            self.forget_join(topic)
            self.ask(ref, Asked("leave", topic, self.join_ref[topic], timeout))
            self.state[topic] = LEAVING

    @rule(data=st.data(), timeout=st.none() | timeouts, drawn=st.booleans())
    def push(self, data: Any, timeout: float | None, drawn: bool) -> None:
        if JOINED not in self.state.values() and data.draw(st.booleans()):
            self.let_in(data)
        joined = [topic for topic in self.topics if self.state[topic] is JOINED]
        topic = data.draw(st.sampled_from([*joined, *joined, *self.topics]))
        legal = self.state[topic] is JOINED
        ref = next(self.refs) if drawn else None
        ref = self.command(PushMessage(topic, "e", {}, timeout, ref), legal=legal)
        if legal:
            self.ask(ref, Asked("push", topic, self.join_ref[topic], timeout))

    def command(self, command: Any, *, legal: bool) -> str:
        before = self.refs.peek()
        try:
            outgoing = self.machine.handle(command, self.now)
        except LocalProtocolError:
            assert not legal
            assert self.refs.peek() == before
            return ""
        assert legal
        self.drawn.append(outgoing.ref)
        self.queue.append(outgoing.ref)
        return outgoing.ref

    def ask(self, ref: str, asked: Asked) -> None:
        self.asked[ref] = asked
        if not self.blocked:
            self.write()

    @rule()
    def block(self) -> None:
        """The network takes nothing for a while."""
        self.blocked = not self.blocked
        self.write()

    def write(self) -> None:
        refs, self.queue = self.queue, []
        self.machine.written(refs, self.now)
        for ref in refs:
            asked = self.asked.get(ref)
            if asked is None:
                continue
            self.writes += 1
            asked.written = True
            if asked.timeout is not None:
                asked.due = (self.now + asked.timeout, self.writes)
            if asked.gone:
                del self.asked[ref]

    # What a server says

    @rule(data=st.data())
    def let_in(self, data: Any) -> None:
        """A join is answered, so that there is a joined topic often enough."""
        topic = data.draw(st.sampled_from(self.topics))
        if self.state[topic] is not JOINING:
            self.ask_in(topic, 10.0)
        ref = self.join_ref[topic]
        self.hear_reply(topic, ref, ref, "ok", {})

    @rule(data=st.data(), answer=answers)
    def reply(self, data: Any, answer: tuple[str, Any]) -> None:
        """Mostly what a real server says: a reply to what was asked."""
        ref = self.draw_ref(data, *sorted(self.asked))
        topics = list(self.topics)
        if ref in self.asked:
            topics += [self.asked[ref].topic] * 2
        topic = data.draw(st.sampled_from(topics))
        self.hear_reply(topic, self.draw_join_ref(data, topic), ref, *answer)

    def draw_ref(self, data: Any, *favoured: str) -> str | None:
        # What could really be meant is drawn more often, or almost nothing would ever fit.
        known = [*favoured, *favoured, *favoured, *self.drawn[-self.spread :]]
        drawn: str | None = data.draw(st.none() | st.sampled_from([*known, "999"]))
        return drawn

    def draw_join_ref(self, data: Any, topic: str) -> str | None:
        drawn = self.draw_ref(data, *filter(None, [self.join_ref[topic]]))
        return None if self.v1 else drawn  # V1 has none on the wire

    def hear_reply(
        self, topic: str, join_ref: str | None, ref: str | None, status: str, response: Any
    ) -> None:
        if self.v1:
            join_ref = None
        message = Message(
            join_ref, ref, topic, "phx_reply", {"status": status, "response": response}
        )
        asked = self.asked.get(ref or "")
        expected: list[Event] = [FrameDiscarded("stale_reply", message)]
        if ref is not None and asked is not None and asked.topic == topic:
            if asked.kind == "join":
                del self.asked[ref]
                expected = [TopicJoined(topic, response, ref)]
                self.state[topic] = JOINED
                if status != "ok":
                    expected = [TopicJoinFailed(topic, JoinRefused(response), ref)]
                    self.state[topic] = CLOSED
            elif asked.kind == "leave":
                expected = self.left(ref)
            elif join_ref in {None, asked.join_ref}:
                del self.asked[ref]
                expected = [ReplyReceived(ref, topic, ChannelReply(status, response))]
                lost = status == "error" and response == {"reason": "unmatched topic"}
                current = asked.join_ref == self.join_ref[topic] and self.state[topic] is JOINED
                if lost and join_ref is None and current:
                    expected += self.close(topic, TopicClosed, ChannelCrashed(response))
        self.hear(message, expected)

    @rule(data=st.data(), event=events)
    def say(self, data: Any, event: str) -> None:
        topic = data.draw(st.sampled_from(self.topics))
        join_ref = self.draw_join_ref(data, topic)
        message = Message(join_ref, None, topic, event, {})
        state, current = self.state[topic], self.join_ref[topic]
        expected: list[Event]
        if event not in {"phx_close", "phx_error"}:
            why: Any = "not_joined"
            if state is CLOSED:
                why = "unknown_topic"
            elif join_ref is None:
                why = None if state is JOINED else why
            elif join_ref != current:
                why = "stale_message"
            elif state in {JOINED, LEAVING}:
                why = None
            self.hear(message, [message if why is None else FrameDiscarded(why, message)])
            return
        if join_ref is None and (state is JOINED or (self.v1 and state is not CLOSED)):
            join_ref = current
        leave = next(
            (
                ref
                for ref, asked in self.asked.items()
                if (asked.kind, asked.topic, asked.join_ref) == ("leave", topic, join_ref)
            ),
            None,
        )
        if leave is not None:
            expected = self.left(leave)
        elif state is CLOSED:
            expected = [FrameDiscarded("unknown_topic", message)]
        elif join_ref == current and state in {JOINING, JOINED}:
            self.forget_join(topic)
            reason = ChannelClosed() if event == "phx_close" else ChannelCrashed({})
            expected = self.close(topic, TopicClosed, reason)
        else:
            stale: Any = f"stale_{event.removeprefix('phx_')}"
            expected = [FrameDiscarded(stale, message)]
        self.hear(message, expected)

    # What time does

    @rule(seconds=st.sampled_from([0.5, 4.0]) | st.none())
    def wait(self, seconds: float | None) -> None:
        """Let some seconds pass, or as many as there are until the next deadline."""
        if seconds is not None:
            self.now += seconds
        elif math.isfinite(self.machine.deadline()):
            self.now = max(self.now, self.machine.deadline())
        expected, self.late = self.late, []
        goodbyes: list[str] = []
        due = [(asked.due, ref) for ref, asked in self.asked.items() if asked.due is not None]
        for (when, _), ref in sorted(due):
            if when > self.now or ref not in self.asked:
                continue
            asked = self.asked[ref]
            if asked.kind == "join":
                del self.asked[ref]
                goodbyes.append(asked.topic)
                self.state[asked.topic] = CLOSED
                expected.append(TopicJoinFailed(asked.topic, JoinTimedOut(), ref))
            elif asked.kind == "leave":
                expected += self.left(ref)
            else:
                del self.asked[ref]
                expected.append(PushFailed(ref, asked.topic, PushTimedOut()))
        told, frames = self.machine.advance(self.now, self.now)
        assert told == expected
        said = [self.server.decode(outgoing.frame.data.decode()) for outgoing in frames]
        assert [(message.topic, message.event) for message in said] == [
            (topic, "phx_leave") for topic in goodbyes
        ]
        self.drawn += [outgoing.ref for outgoing in frames]
        self.queue += [outgoing.ref for outgoing in frames]

    @precondition(lambda self: len(self.asked) > 2)
    @rule()
    def end(self) -> None:
        expected = self.late + [
            PushFailed(ref, asked.topic, ConnectionLost(written=asked.written))
            for ref, asked in self.asked.items()
            if asked.kind == "push" and (asked.timeout is not None or not asked.written)
        ]
        expected += [
            TopicLeft(asked.topic, asked.join_ref)
            for asked in self.asked.values()
            if asked.kind == "leave"
        ]
        assert self.machine.end() == expected
        self.state = dict.fromkeys(self.topics, CLOSED)
        self.asked, self.late, self.queue = {}, [], []

    # What always holds

    @invariant()
    def states_agree(self) -> None:
        open_ones = {topic: state for topic, state in self.state.items() if state is not CLOSED}
        assert self.machine.topics == open_ones
        pushes = sum(asked.kind == "push" for asked in self.asked.values())
        assert self.machine.pending_pushes == pushes

    @invariant()
    def refs_are_never_reused(self) -> None:
        assert len(self.drawn) == len(set(self.drawn))

    @invariant()
    def the_next_deadline_is_that_of_the_model(self) -> None:
        due = [asked.due[0] for asked in self.asked.values() if asked.due is not None]
        expected = -math.inf if self.late else min(due, default=math.inf)
        assert self.machine.deadline() == expected

    # The parts of the model

    def hear(self, message: Message, expected: list[Event]) -> None:
        told = self.machine.receive([self.server.encode(message).data.decode()], self.now)
        assert told == self.late + expected
        self.late = []

    def left(self, ref: str) -> list[Event]:
        asked = self.asked.pop(ref)
        topic, told = asked.topic, TopicLeft(asked.topic, asked.join_ref)
        if self.join_ref[topic] != asked.join_ref or self.state[topic] is not LEAVING:
            return [told]
        self.state[topic] = CLOSED
        return [*self.end_pushes(topic), told]

    def close(self, topic: str, event: type[TopicClosed], reason: Any) -> list[Event]:
        self.state[topic] = CLOSED
        return [*self.end_pushes(topic), event(topic, reason, self.join_ref[topic])]

    def forget_join(self, topic: str) -> None:
        if self.state[topic] is JOINING:
            del self.asked[self.join_ref[topic]]

    def end_pushes(self, topic: str) -> list[Event]:
        failed: list[Event] = []
        for ref, asked in list(self.asked.items()):
            if asked.kind != "push" or asked.topic != topic or asked.gone:
                continue
            if asked.timeout is not None:
                failed.append(PushFailed(ref, topic, TopicGone()))
            if asked.timeout is None and not asked.written:
                asked.gone = True
            else:
                del self.asked[ref]
        return failed


class TwoTopicsEightRefs(SocketAgainstModel):
    """The same with more room."""

    topics: tuple[str, ...] = ("t", "u")
    spread = 8


class FirstVersion(SocketAgainstModel):
    """The same without join_refs on the wire."""

    v1 = True


@pytest.mark.parametrize("machine", [SocketAgainstModel, TwoTopicsEightRefs, FirstVersion])
def test_the_machine_agrees_with_the_model(machine: type[SocketAgainstModel]) -> None:
    """complaint-21."""
    case = machine.TestCase
    case.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
    case().runTest()
