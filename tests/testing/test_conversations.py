"""What plays a conversation says nothing that a Phoenix server could not say, and plays it to a client."""

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings, strategies as st

from slipstream import (
    ChannelClosed,
    ChannelCrashed,
    ChannelReply,
    ClosedByServer,
    ConnectFailed,
    ConnectionLost,
    JoinRefused,
    Message,
    Socket,
    TransportFailed,
)
from slipstream.errors import DecodeError
from slipstream.protocol import V1Serializer, V2Serializer
from slipstream.testing.conversations import (
    AnswerAgain,
    AnswerNext,
    CloseChannel,
    CloseConnection,
    Conversation,
    CrashChannel,
    DropConnection,
    RefuseConnect,
    SendBroadcast,
    SendData,
    SendMessage,
    SendPush,
    Speaker,
    Step,
    Wait,
    play,
)
from slipstream.testing.strategies import conversations, illegal_conversations
from tests.client.support import Harness, Recorder, harness, virtual

CLIENT = V2Serializer()


class Line:
    """A client that says anything on one connection, and a judge of what it hears."""

    def __init__(self) -> None:
        self.speaker = Speaker()
        self.refs = 0
        self.asked: dict[str, Message] = {}
        self.answers: Counter[str] = Counter()
        self.joins: list[str] = []  # of every join that the client made
        self.let_in: dict[str, str] = {}  # topic to the join that was let in last
        self.ended: set[str] = set()

    def say(self, topic: str, event: str, join_ref: str | None) -> list[Message]:
        self.refs += 1
        ref = str(self.refs)
        message = Message(ref if event == "phx_join" else join_ref, ref, topic, event, {})
        self.asked[ref] = message
        if event == "phx_join":
            self.joins.append(ref)
        return self.heard(self.speaker.hear(CLIENT.encode(message).data.decode()))

    def do(self, step: Step) -> list[Message]:
        return self.heard(self.speaker.say(step))

    def heard(self, said: list[str | bytes]) -> list[Message]:
        messages = [CLIENT.decode(data) for data in said]
        for message in messages:
            self.judge(message)
        return messages

    def judge(self, message: Message) -> None:
        topic, event, join_ref = message.topic, message.event, message.join_ref
        if event == "phx_reply":
            assert message.ref is not None
            asked = self.asked[message.ref]
            assert asked.topic == topic
            assert join_ref in {None, asked.join_ref}
            self.answers[message.ref] += 1
            if asked.event.startswith("phx_"):
                assert self.answers[message.ref] == 1
            if asked.event == "phx_join" and message.payload["status"] == "ok":
                self.let_in[topic] = message.ref
        elif event in {"phx_close", "phx_error"}:
            assert join_ref == message.ref
            assert join_ref in self.joins
            assert join_ref not in self.ended
            self.ended.add(str(join_ref))
        else:
            assert topic in self.let_in
            assert self.let_in[topic] not in self.ended
            assert join_ref in {None, self.let_in[topic]}


said = st.tuples(
    st.sampled_from("ab"),
    st.sampled_from(["phx_join", "phx_join", "phx_leave", "m", "m", "m"]),
    st.sampled_from([None, "current", "current", "current", "1", "2"]),
)


@settings(max_examples=300)
@given(st.lists(said | conversations(["a", "b"], max_size=3), max_size=40))
def test_what_is_said_is_legal_whatever_the_client_says(script: list[Any]) -> None:
    line = Line()
    for part in script:
        if isinstance(part, list):
            for step in part:
                line.do(step)
        else:
            topic, event, join_ref = part
            current = line.let_in.get(topic) if join_ref == "current" else join_ref
            line.say(topic, event, current)
    for _ in range(len(line.asked) + 1):
        line.do(AnswerNext())
    assert not line.speaker.waiting
    assert all(line.answers[ref] for ref in line.joins), "a join was not answered"


def texts(messages: list[Message]) -> list[tuple[str | None, str | None, str, Any]]:
    return [(m.join_ref, m.ref, m.event, m.payload.get("response", "-")) for m in messages]


def test_it_answers_as_phoenix_does() -> None:
    """A join that waits blocks the rest; a second one ends the first; a leave takes its pushes along."""
    line = Line()
    unmatched = {"reason": "unmatched topic"}
    assert texts(line.say("a", "m", None)) == [(None, "1", "phx_reply", unmatched)]
    assert texts(line.say("a", "phx_leave", "9")) == [("9", "2", "phx_reply", {})]
    assert line.say("a", "phx_join", None) == []
    assert line.say("phoenix", "heartbeat", None) == []
    assert texts(line.do(AnswerNext())) == [
        ("3", "3", "phx_reply", {}),
        (None, "4", "phx_reply", {}),
    ]
    assert line.say("a", "m", "3") == []
    assert line.say("a", "m", None) == []
    assert line.say("a", "m", "2") == []  # stale: never answered
    assert [message.ref for message in line.speaker.waiting] == ["5", "6"]
    assert texts(line.do(AnswerNext("ok", {"n": 1}, 1))) == [(None, "6", "phx_reply", {"n": 1})]
    assert texts(line.do(AnswerAgain("late", {}))) == [(None, "6", "phx_reply", {})]
    assert line.say("a", "phx_join", None) == []
    assert [message.ref for message in line.speaker.waiting] == ["8"]
    assert line.do(SendBroadcast("a", "e")) == []
    assert texts(line.do(AnswerNext(skip=1))) == [
        ("8", "8", "phx_reply", {}),
        ("3", "3", "phx_close", "-"),
    ]
    assert line.speaker.waiting == []
    assert line.say("a", "phx_leave", "8") == []
    assert line.say("a", "m", "8") == []
    assert texts(line.say("a", "phx_join", None)) == [
        ("8", "9", "phx_reply", {}),
        ("8", "8", "phx_close", "-"),
    ]
    assert texts(line.do(AnswerNext("error", unmatched))) == [(None, "11", "phx_reply", unmatched)]
    assert line.speaker.joined == {}


@pytest.mark.parametrize(
    "step",
    [
        AnswerNext(),
        AnswerAgain(),
        SendPush("a", "e"),
        SendBroadcast("a", "e"),
        CrashChannel("a"),
        CloseChannel("a"),
        Wait(1.0),
        DropConnection(),
    ],
)
def test_a_step_that_does_not_apply_says_nothing(step: Step) -> None:
    assert Speaker().say(step) == []


def test_what_is_illegal_is_said_as_it_is() -> None:
    message = Message("9", "9", "nowhere", "phx_close", {})
    assert Speaker().say(SendMessage(message)) == ['["9","9","nowhere","phx_close",{}]']
    assert Speaker(V1Serializer(role="server")).say(SendMessage(message)) == [
        '{"event":"phx_close","payload":{},"ref":"9","topic":"nowhere"}'
    ]
    assert Speaker().say(SendData(b"\xff")) == [b"\xff"]
    with pytest.raises(DecodeError):
        Speaker().hear("[")


# Played to a client


class Joiner(Recorder):
    """Joins both topics whenever it is connected, and pushes to each that it has joined."""

    async def handle_connect(self, socket: Socket, /) -> Any:
        for topic in "ab":
            socket.join(topic)
        return await super().handle_connect(socket)

    async def handle_join(self, topic: str, response: Any, socket: Socket, /) -> Any:
        await super().handle_join(topic, response, socket)
        await socket.push(topic, "hello", {}, timeout=3.0)


def played(
    conversation: Conversation, client: type[Recorder] = Joiner, **options: Any
) -> tuple[list[Any], Harness]:
    """Play it; give the callbacks, and what is left of the client."""

    async def scenario() -> tuple[list[Any], Harness]:
        async with harness(client=client, **options) as h:
            await play(conversation, h.network)
            assert h.ref.alive
            return list(h.calls), h

    return virtual(scenario)


def test_a_conversation_is_played_to_a_client_in_memory() -> None:
    calls, _ = played(
        [
            AnswerNext("ok", {"welcome": 1}),
            AnswerNext("error", {"reason": "full"}, 1),
            AnswerNext("created", {"seen": 2}),
            SendPush("a", "one"),
            SendBroadcast("a", "two", {"n": 2}),
            CloseChannel("a"),
            RefuseConnect(503),
            CloseConnection(1012, "drain"),
            Wait(2.5),
            AnswerNext(),
            CrashChannel("b"),
            DropConnection(),
        ]
    )
    assert [call if call[0] != "handle_disconnect" else call[0] for call in calls] == [
        ("init",),
        ("handle_connect",),
        ("handle_join", "a", {"welcome": 1}),
        ("handle_topic_close", "b", JoinRefused({"reason": "full"})),
        ("handle_reply", "3", ChannelReply("created", {"seen": 2})),
        ("handle_message", "a", "one", {}),
        ("handle_message", "a", "two", {"n": 2}),
        ("handle_topic_close", "a", ChannelClosed()),
        "handle_disconnect",
        "handle_disconnect",
        ("handle_connect",),
        ("handle_join", "a", {}),
        ("handle_push_failed", "6", ConnectionLost(written=True)),
        "handle_disconnect",
    ]
    first, second, third = (call[1] for call in calls if call[0] == "handle_disconnect")
    assert first == ClosedByServer(1012, "drain")
    assert isinstance(second, ConnectFailed)
    assert second.status == 503
    assert isinstance(third, TransportFailed)


def test_v1_is_spoken_to_a_client_that_speaks_it() -> None:
    calls, _ = played([AnswerNext(), CrashChannel("a")], serializer=V1Serializer())
    assert ("handle_join", "a", {}) in calls
    assert calls[-1] == ("handle_topic_close", "a", ChannelCrashed({"reason": "channel_crash"}))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(conversations(["a", "b"]) | illegal_conversations(["a", "b"]))
def test_no_server_kills_a_client(conversation: list[Step]) -> None:
    """complaint-5."""
    calls, _ = played(conversation)
    assert calls.count(("init",)) == 1


class Forgetful(Joiner):
    """Crashes where a channel that has been heard of crashes."""

    async def handle_message(self, topic: str, event: str, payload: Any, socket: Socket, /) -> Any:
        socket.assigns["heard"] = topic

    async def handle_topic_close(self, topic: str, reason: Any, socket: Socket, /) -> Any:
        if isinstance(reason, ChannelCrashed):
            assert socket.assigns.get("heard") != topic


def test_a_fault_of_a_client_shrinks_to_the_script_that_shows_it() -> None:
    def crashes(conversation: list[Step]) -> bool:
        calls, _ = played(conversation, Forgetful, supervisor_options={"max_restarts": 1000})
        return calls.count(("init",)) > 1

    script = find(
        conversations(["a"]),
        crashes,
        random=random.Random(1),  # noqa: S311 - the same every time
        settings=settings(
            max_examples=3000,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate, Phase.shrink),
        ),
    )
    assert [type(step) for step in script] == [AnswerNext, type(script[1]), CrashChannel]
    assert script[0] == AnswerNext()
    assert script[1] in [SendPush("a", "0"), SendBroadcast("a", "0")]
