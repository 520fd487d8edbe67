"""The socket machine against a model that a page of text can hold.

Topics and refs are few, so that they collide: what the server says draws its refs from those that
were used, and from a few that were not.
"""

from typing import Any

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from slipstream.errors import LocalProtocolError
from slipstream.interfaces import Message
from slipstream.protocol import (
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
    V2Serializer,
)
from slipstream.reasons import JoinTimedOut

SERVER = V2Serializer(role="server")
TIMEOUT = 10.0

statuses = st.sampled_from(["ok", "ok", "ok", "error", "created"])
responses = st.sampled_from([{}, {"reason": "unmatched topic"}, [1]])
events = st.sampled_from(["phx_close", "phx_error", "phx_join", "m", "presence_diff"])


class SocketAgainstModel(RuleBasedStateMachine):
    """The machine agrees with a model; nothing the server says raises."""

    topics: tuple[str, ...] = ("t",)
    spread = 4

    def __init__(self) -> None:
        super().__init__()
        self.refs = RefCounter()
        self.machine = SocketMachine(
            V2Serializer(), refs=self.refs, heartbeat_interval=None, heartbeat_timeout=1.0
        )
        self.machine.start(0.0)
        self.now = 0.0
        self.drawn: list[str] = []
        # The model: each topic's state and present join, and what may still be answered.
        self.state = dict.fromkeys(self.topics, TopicState.CLOSED)
        self.join_ref = dict.fromkeys(self.topics, "")
        self.joining: dict[str, str] = {}
        self.leaves: dict[str, tuple[str, str]] = {}
        self.pushes: dict[str, tuple[str, str, bool]] = {}
        self.outcomes: dict[str, int] = {}
        self.timed: dict[str, None] = {}

    def draw_ref(self, data: Any, *favoured: str) -> str | None:
        # What could really be meant is drawn more often, or almost nothing would ever fit.
        known = [*favoured, *favoured, *favoured, *self.drawn[-self.spread :]]
        drawn: str | None = data.draw(st.none() | st.sampled_from([*known, "999"]))
        return drawn

    def draw_join_ref(self, data: Any, topic: str) -> str | None:
        return self.draw_ref(data, *filter(None, [self.join_ref[topic]]))

    def command(self, command: Any, *, legal: bool) -> str | None:
        before = self.refs.peek()
        try:
            outgoing = self.machine.handle(command, self.now)
        except LocalProtocolError:
            assert not legal
            assert self.refs.peek() == before
            return None
        assert legal
        assert outgoing.ref not in self.drawn
        self.drawn.append(outgoing.ref)
        self.machine.written([outgoing.ref], self.now)
        return outgoing.ref

    @rule(data=st.data())
    def enter(self, data: Any) -> None:
        """Join and be let in, so that there is a joined topic often enough."""
        topic = data.draw(st.sampled_from(self.topics))
        if self.state[topic] is TopicState.CLOSED:
            self.join_topic(topic)
            ref = self.join_ref[topic]
            self.hear_reply(topic, ref, ref, "ok", {})

    @rule(data=st.data())
    def join(self, data: Any) -> None:
        self.join_topic(data.draw(st.sampled_from(self.topics)))

    def join_topic(self, topic: str) -> None:
        old = self.join_ref[topic]
        ref = self.command(JoinTopic(topic, {}, TIMEOUT), legal=True)
        assert ref is not None
        self.joining.pop(old, None)
        self.joining[ref] = topic
        self.state[topic], self.join_ref[topic] = TopicState.JOINING, ref
        self.end_pushes(topic)
        self.observe(self.machine.receive([], self.now))

    @rule(data=st.data())
    def leave(self, data: Any) -> None:
        topic = data.draw(st.sampled_from(self.topics))
        legal = self.state[topic] in {TopicState.JOINING, TopicState.JOINED}
        ref = self.command(LeaveTopic(topic, TIMEOUT), legal=legal)
        if ref is not None:
            self.joining.pop(self.join_ref[topic], None)
            self.leaves[ref] = (topic, self.join_ref[topic])
            self.state[topic] = TopicState.LEAVING

    @rule(data=st.data(), timed=st.booleans())
    def push(self, data: Any, timed: bool) -> None:
        joined = [topic for topic in self.topics if self.state[topic] is TopicState.JOINED]
        topic = data.draw(st.sampled_from(joined or list(self.topics)))
        legal = self.state[topic] is TopicState.JOINED
        ref = self.command(PushMessage(topic, "e", {}, TIMEOUT if timed else None), legal=legal)
        if ref is not None:
            self.pushes[ref] = (topic, self.join_ref[topic], timed)
            if timed:
                self.timed[ref] = None

    @rule(data=st.data(), status=statuses, response=responses)
    def reply(self, data: Any, status: str, response: Any) -> None:
        topic = data.draw(st.sampled_from(self.topics))
        ref, join_ref = self.draw_ref(data), self.draw_join_ref(data, topic)
        self.hear_reply(topic, join_ref, ref, status, response)

    @precondition(lambda self: self.asked())
    @rule(data=st.data(), status=statuses, response=responses)
    def answer(self, data: Any, status: str, response: Any) -> None:
        """What a real server says most of the time: a reply to what was asked."""
        ref, topic = data.draw(st.sampled_from(sorted(self.asked().items())))
        self.hear_reply(topic, self.draw_join_ref(data, topic), ref, status, response)

    def asked(self) -> dict[str, str]:
        pushes = {ref: push[0] for ref, push in self.pushes.items()}
        return {**self.joining, **{ref: left[0] for ref, left in self.leaves.items()}, **pushes}

    def hear_reply(
        self, topic: str, join_ref: str | None, ref: str | None, status: str, response: Any
    ) -> None:
        happened = self.hear(
            topic, join_ref, ref, "phx_reply", {"status": status, "response": response}
        )
        if ref is not None and self.joining.get(ref) == topic:
            del self.joining[ref]
            joined = status == "ok"
            self.state[topic] = TopicState.JOINED if joined else TopicState.CLOSED
            assert isinstance(happened[-1], TopicJoined if joined else TopicJoinFailed)
        elif ref is not None and self.leaves.get(ref, ("",))[0] == topic:
            self.left(ref)
            assert isinstance(happened[-1], TopicLeft)
        elif (
            ref in self.pushes
            and self.pushes[ref][0] == topic
            and join_ref in {None, self.pushes[ref][1]}
        ):
            del self.pushes[ref]
            assert isinstance(happened[0], ReplyReceived)
            lost = (
                join_ref is None and status == "error" and response == {"reason": "unmatched topic"}
            )
            if lost and self.state[topic] is TopicState.JOINED:
                self.close(topic)
                assert isinstance(happened[-1], TopicClosed)
        else:
            assert [type(event) for event in happened] == [FrameDiscarded]

    @rule(data=st.data(), event=events)
    def say(self, data: Any, event: str) -> None:
        topic = data.draw(st.sampled_from(self.topics))
        join_ref = self.draw_join_ref(data, topic)
        happened = self.hear(topic, join_ref, None, event, {})
        state, current = self.state[topic], self.join_ref[topic]
        if event not in {"phx_close", "phx_error"}:
            null_passes = join_ref is None and state is TopicState.JOINED
            live = state in {TopicState.JOINED, TopicState.LEAVING}
            passes = null_passes or (join_ref is not None and join_ref == current and live)
            assert [type(event) for event in happened] == [Message if passes else FrameDiscarded]
            return
        if join_ref is None and state is TopicState.JOINED:
            join_ref = current
        leave = next((ref for ref, left in self.leaves.items() if left == (topic, join_ref)), None)
        if leave is not None:
            self.left(leave)
            assert isinstance(happened[-1], TopicLeft)
        elif join_ref == current and state in {TopicState.JOINING, TopicState.JOINED}:
            self.joining.pop(current, None)
            self.close(topic)
            assert isinstance(happened[-1], TopicClosed)
        else:
            assert [type(event) for event in happened] == [FrameDiscarded]

    @rule(seconds=st.sampled_from([0.0, 4.0, TIMEOUT]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        happened, frames = self.machine.advance(self.now, self.now)
        for event in happened:
            match event:
                case TopicJoinFailed(topic=topic, reason=JoinTimedOut(), join_ref=ref):
                    assert self.joining.pop(ref) == topic
                    self.state[topic] = TopicState.CLOSED
                case TopicLeft(topic=topic, join_ref=join_ref):
                    ref = next(
                        ref for ref, left in self.leaves.items() if left == (topic, join_ref)
                    )
                    self.left(ref)
                case PushFailed(ref=ref):
                    self.pushes.pop(ref, None)
                case _:
                    raise AssertionError(event)
        self.drawn.extend(frame.ref for frame in frames)
        self.observe(happened)

    @precondition(lambda self: self.drawn)
    @rule()
    def end(self) -> None:
        self.observe(self.machine.end())
        # Whoever had a deadline has had its one outcome by now.
        assert all(self.outcomes.get(ref, 0) == 1 for ref in self.timed), self.outcomes
        self.state = dict.fromkeys(self.topics, TopicState.CLOSED)
        self.joining.clear()
        self.leaves.clear()
        self.pushes.clear()

    @invariant()
    def states_agree(self) -> None:
        for topic in self.topics:
            assert self.machine.state(topic) is self.state[topic]

    @invariant()
    def refs_are_never_reused_and_outcomes_come_once(self) -> None:
        assert len(self.drawn) == len(set(self.drawn))
        assert all(count == 1 for count in self.outcomes.values()), self.outcomes

    # The parts of the model

    def hear(
        self, topic: str, join_ref: str | None, ref: str | None, event: str, payload: Any
    ) -> list[Event]:
        frame = SERVER.encode(Message(join_ref, ref, topic, event, payload))
        return self.observe(self.machine.receive([frame.data.decode()], self.now))

    def observe(self, happened: list[Event]) -> list[Event]:
        for event in happened:
            if isinstance(event, ReplyReceived | PushFailed):
                self.outcomes[event.ref] = self.outcomes.get(event.ref, 0) + 1
        return happened

    def left(self, ref: str) -> None:
        topic, join_ref = self.leaves.pop(ref)
        if self.join_ref[topic] == join_ref and self.state[topic] is TopicState.LEAVING:
            self.close(topic)

    def close(self, topic: str) -> None:
        self.state[topic] = TopicState.CLOSED
        self.end_pushes(topic)

    def end_pushes(self, topic: str) -> None:
        for ref in [ref for ref, push in self.pushes.items() if push[0] == topic]:
            del self.pushes[ref]


class TwoTopicsEightRefs(SocketAgainstModel):
    """The same with more room."""

    topics: tuple[str, ...] = ("t", "u")
    spread = 8


@pytest.mark.parametrize("machine", [SocketAgainstModel, TwoTopicsEightRefs])
def test_the_machine_agrees_with_the_model(machine: type[SocketAgainstModel]) -> None:
    case = machine.TestCase
    case.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
    case().runTest()
