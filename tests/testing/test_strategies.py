"""What is drawn is what it says, and shrinks to the least that shows a failure."""

import doctest
import importlib
import json
import random
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
import trio
from hypothesis import HealthCheck, Phase, find, given, settings, strategies as st
from trio.testing import MockClock

import slipstream
from slipstream import Config, Message
from slipstream.errors import DecodeError
from slipstream.protocol import V1Serializer, V2Serializer
from slipstream.testing import conversations as steps, strategies
from slipstream.testing.conversations import (
    AnswerNext,
    CloseChannel,
    CloseConnection,
    CrashChannel,
    SendBroadcast,
    SendData,
    SendMessage,
    SendPush,
    Wait,
)
from slipstream.testing.strategies import (
    chunkings,
    configs,
    conversations,
    events,
    frames,
    illegal_conversations,
    json_payloads,
    messages,
    mutated_frames,
    payloads,
    refs,
    topics,
)
from slipstream.transport import MemoryNetwork

T = TypeVar("T")

NAMES: dict[str, Any] = {
    **vars(slipstream),
    **{name: getattr(strategies, name) for name in strategies.__all__},
    **{name: getattr(steps, name) for name in steps.__all__},
    "DecodeError": DecodeError,
    "MemoryNetwork": MemoryNetwork,
    "MockClock": MockClock,
    "V2Serializer": V2Serializer,
    "given": given,
    "json": json,
    "settings": settings,
    "st": st,
    "trio": trio,
}


@pytest.mark.parametrize("name", strategies.__all__)
def test_the_use_that_a_docstring_shows_runs(name: str) -> None:
    function = getattr(strategies, name)
    [example] = doctest.DocTestFinder(recurse=False).find(
        function, name, module=False, globs=dict(NAMES)
    )
    assert any("given" in line.source for line in example.examples)
    said: list[str] = []
    doctest.DocTestRunner().run(example, out=said.append)
    assert not said, "".join(said)


def test_without_its_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    monkeypatch.delitem(sys.modules, "slipstream.testing.strategies")
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'slipstream\[testing\]'"):
        importlib.import_module("slipstream.testing.strategies")


def least(strategy: st.SearchStrategy[T], fault: Callable[[T], bool]) -> T:
    """Find what Hypothesis shows of a test that fails where *fault* holds."""
    return find(
        strategy,
        fault,
        random=random.Random(0),  # noqa: S311 - the same every time
        settings=settings(
            max_examples=5000,
            database=None,
            derandomize=False,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate, Phase.shrink),
        ),
    )


# Each planted fault, and the least that shows it.
SHRUNK: list[tuple[str, st.SearchStrategy[Any], Callable[[Any], bool], Any]] = [
    ("topics", topics(), lambda topic: len(topic) > 2, "000"),
    ("topics of a pattern", topics("a:*"), lambda topic: len(topic) > 2, "a:0"),
    ("events", events(), lambda event: True, "0"),
    ("refs", refs(), lambda ref: int(ref) > 3, "4"),
    ("payloads", payloads(), lambda payload: isinstance(payload, bytes), b""),
    ("nested", json_payloads(), lambda p: any(isinstance(v, list) for v in p.values()), {"": []}),
    (
        "messages",
        messages(),
        lambda message: message.event == "phx_reply",
        Message("1", "1", "0", "phx_reply", {"status": "ok", "response": {}}),
    ),
    ("frames", frames(), lambda data: isinstance(data, bytes), b"\x02\x01\x0100"),
    (
        "V1 frames",
        frames(vsn="1.0.0"),
        lambda data: '"ref":null' not in data,
        '{"event":"phx_close","payload":{},"ref":"1","topic":"0"}',
    ),
    ("chunks", chunkings(b"abcdef"), lambda chunks: len(chunks) > 1, [b"a", b"bcdef"]),
    ("a cut", chunkings(b"abcdef"), lambda chunks: b"abcd" in chunks, [b"abcd", b"ef"]),
    ("configs", configs(), lambda config: True, Config("ws://server.test/socket/websocket")),
    (
        "one option",
        configs(),
        lambda config: config.on_overflow == "disconnect",
        Config("ws://server.test/socket/websocket", on_overflow="disconnect"),
    ),
]


@pytest.mark.parametrize(
    ("strategy", "fault", "minimal"), [pytest.param(*case[1:], id=case[0]) for case in SHRUNK]
)
def test_what_is_drawn_shrinks_to_the_least(
    strategy: st.SearchStrategy[Any], fault: Callable[[Any], bool], minimal: Any
) -> None:
    assert least(strategy, fault) == minimal


def test_a_broken_frame_shrinks_to_one_that_is_nearly_whole() -> None:
    def undecodable(data: str | bytes) -> bool:
        try:
            V2Serializer().decode(data)
        except DecodeError:
            return True
        return False

    assert least(mutated_frames(), undecodable) == 'null,null,"0","0",{}]'


@pytest.mark.parametrize("role", ["client", "server"])
def test_whole_frames_are_messages_for_the_other_side(role: Any) -> None:
    """Both versions."""
    other: Any = "server" if role == "client" else "client"

    @given(messages(role), st.data())
    def survive(message: Message, data: st.DataObject) -> None:
        frame = data.draw(frames(role, messages=st.just(message)))
        assert V2Serializer(role=other).decode(frame) == message

    @given(frames(role, vsn="1.0.0"))
    def are_text(frame: str | bytes) -> None:
        message = V1Serializer(role=other).decode(frame)
        assert role == "client" or message.join_ref is None

    survive()
    are_text()


@pytest.mark.parametrize("vsn", ["1.0.0", "2.0.0"])
@pytest.mark.parametrize("role", ["client", "server"])
def test_most_mutated_frames_are_no_message(role: Any, vsn: Any) -> None:
    other: Any = "server" if role == "client" else "client"
    serializer = V1Serializer(role=other) if vsn == "1.0.0" else V2Serializer(role=other)
    broken = []

    @settings(max_examples=100)
    @given(mutated_frames(role, vsn=vsn))
    def look(data: str | bytes) -> None:
        try:
            serializer.decode(data)
        except DecodeError:
            broken.append(data)

    look()
    assert len(broken) > 50


@given(messages("client"), messages("server"))
def test_each_side_says_what_it_may(ours: Message, theirs: Message) -> None:
    assert ours.event not in {"phx_reply", "phx_close", "phx_error"}
    assert (ours.join_ref is None) == (ours.event == "heartbeat")
    assert theirs.event not in {"phx_join", "phx_leave"}
    assert ours.event != "phx_join" or ours.ref == ours.join_ref


@given(topics(), topics("rooms:*"), topics("rooms:lobby"), events())
def test_names_fit_into_a_binary_message(any_topic: str, room: str, lobby: str, event: str) -> None:
    assert 0 < len(any_topic.encode()) <= 255
    assert len(room.encode()) <= 255
    assert room.startswith("rooms:")
    assert any_topic != "phoenix"
    assert lobby == "rooms:lobby"
    assert not event.startswith("phx_close")


@given(st.data(), st.binary(max_size=200) | st.just(b"x" * 10_000))
def test_chunks_are_the_stream(data: st.DataObject, stream: bytes) -> None:
    chunks = data.draw(chunkings(st.just(stream)))
    assert b"".join(chunks) == stream
    assert all(chunks)


def test_some_streams_trickle() -> None:
    assert least(chunkings(b"abcdef"), lambda chunks: len(chunks) == 6) == [
        bytes([byte]) for byte in b"abcdef"
    ]


@given(
    configs(st.sampled_from(["ws://a/b", "wss://c/d"]), heartbeat_interval=5.0, join_timeout=1.5)
)
def test_what_a_caller_fixes_stays(config: Config) -> None:
    assert config.uri in {"ws://a/b", "wss://c/d"}
    assert (config.heartbeat_interval, config.join_timeout) == (5.0, 1.5)


def test_every_kind_of_configuration_is_drawn() -> None:
    for fault in (
        lambda config: config.heartbeat_interval is None,
        lambda config: config.reconnect.delays is not None,
        lambda config: config.params,
        lambda config: config.inbound_limit < 10,
    ):
        least(configs(), fault)


# Conversations


def talks(*kinds: Any) -> Callable[[list[Any]], bool]:
    """Tell whether steps of *kinds* follow one another in this order, whatever stands between them."""

    def fault(conversation: list[Any]) -> bool:
        at = iter(conversation)
        return all(any(isinstance(step, kind) for step in at) for kind in kinds)

    return fault


@pytest.mark.parametrize(
    ("fault", "minimal"),
    [
        (talks(CrashChannel), [CrashChannel("a")]),
        (
            talks(AnswerNext, SendBroadcast, CloseConnection),
            [AnswerNext(), SendBroadcast("a", "0"), CloseConnection(1000)],
        ),
        (talks(Wait, SendPush), [Wait(0.5), SendPush("a", "0")]),
        (
            lambda steps: any(isinstance(s, CloseChannel) and s.topic == "b" for s in steps),
            [CloseChannel("b")],
        ),
    ],
)
def test_a_conversation_shrinks_to_the_steps_that_matter(
    fault: Callable[[Any], bool], minimal: list[Any]
) -> None:
    assert least(conversations(["a", "b"], max_size=10), fault) == minimal


def test_an_illegal_conversation_shrinks_to_the_one_wrong_step() -> None:
    [wrong] = least(illegal_conversations(["a"]), talks(SendMessage))
    assert wrong == SendMessage(Message(None, None, "a", "0", {}))
    answer, wrong, push = least(
        illegal_conversations(["a"], max_size=5),
        talks(AnswerNext, SendMessage | SendData, SendPush),
    )
    assert (answer, push) == (AnswerNext(), SendPush("a", "0"))
    assert isinstance(wrong, SendMessage)


@given(conversations(["a"], close_codes=(), refusals=(), waits=(), max_size=5))
def test_a_kind_of_step_can_be_left_out(conversation: list[Any]) -> None:
    assert len(conversation) <= 5
    assert not talks(CloseConnection)(conversation)
    assert not talks(steps.DropConnection)(conversation)
    assert not talks(steps.RefuseConnect)(conversation)
    assert not talks(Wait)(conversation)
