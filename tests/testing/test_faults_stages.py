"""What faults do to messages, by themselves: no network, and no clock but the one that is told."""

import math
import random
from typing import Any

import pytest
from hypothesis import given, strategies as st

from slipstream.errors import DecodeError
from slipstream.interfaces import Frame, Message, Serializer
from slipstream.protocol import V1Serializer, V2Serializer
from slipstream.testing._faults_stages import (
    Delaying,
    Garbling,
    Item,
    Reordering,
    Repeating,
    Stage,
)

payloads = st.dictionaries(st.text(max_size=5), st.integers() | st.text(), max_size=3)
names = st.text(min_size=1, max_size=8)


def item(n: int, event: str = "news", ref: str | None = None) -> Item:
    message = Message(None, ref, "t", event, {"n": n})
    return Item(V2Serializer(role="server").encode(message), message)


def which(items: list[Item]) -> list[Any]:
    return [each.message.payload["n"] for each in items]


@pytest.mark.parametrize("serializer", [V1Serializer, V2Serializer])
@given(names, names, payloads | st.binary(), st.integers(0, 99))
def test_nobody_can_read_what_is_garbled_and_it_is_garbled_alike_every_time(
    serializer: Any, topic: str, event: str, payload: Any, seed: int
) -> None:
    if serializer is V1Serializer and isinstance(payload, bytes):
        return
    message = Message(None, None, topic, event, payload)
    frame = serializer(role="server").encode(message)
    client: Serializer = serializer(role="client")

    def decode(frame: Frame) -> Message:
        return client.decode(frame.data if frame.binary else frame.data.decode())

    def garbled() -> Frame:
        (spoilt,) = Garbling(None, None, random.Random(seed), decode).feed(  # noqa: S311 - repeatable
            Item(frame, message), 0.0
        )
        return spoilt.frame

    decode(frame)
    with pytest.raises(DecodeError):
        decode(garbled())
    assert garbled() == garbled()
    assert garbled().binary == frame.binary


def test_what_can_be_read_however_it_is_changed_is_spoilt_whole() -> None:
    def decode(frame: Frame) -> Message:
        return item(0).message

    for binary, expected in [(False, b"\0"), (True, b"\xff")]:
        (spoilt,) = Garbling(None, None, random.Random(0), decode).feed(  # noqa: S311 - repeatable
            Item(Frame(b"abc", binary), item(0).message), 0.0
        )
        assert spoilt.frame == Frame(expected, binary)


@given(st.integers(0, 30), st.integers(2, 6), st.integers(0, 99))
def test_another_order_holds_the_same_messages(count: int, window: int, seed: int) -> None:
    stage = Reordering("news", window, 1.0, random.Random(seed))  # noqa: S311 - repeatable
    came: list[list[int]] = []
    for n in range(count):
        assert which(stage.feed(item(n, "other"), 5.0)) == [n]  # no concern of it
        came.append(which(stage.feed(item(n), 5.0)))
    assert stage.due == (6.0 if count % window else math.inf)
    assert stage.release(5.9) == []
    came.append(which(stage.release(6.0)))
    assert stage.due == math.inf
    for number, part in enumerate(part for part in came if part):
        first = number * window
        old = list(range(first, min(first + window, count)))
        assert sorted(part) == old
        assert part != old or len(old) == 1
    assert sum(map(len, came)) == count


def test_replies_alone_are_late_and_keep_their_order() -> None:
    stage = Delaying(10.0, to="ask")
    for n in range(4):
        stage.heard(Message("1", str(n), "t", "ask" if n % 2 else "tell", {}))
    gone = [which(stage.feed(item(n, "phx_reply", str(n)), float(n))) for n in range(4)]
    assert gone == [[0], [], [2], []]
    assert which(stage.feed(item(9), 4.0)) == [9]
    assert (stage.due, which(stage.release(10.9))) == (11.0, [])
    assert (which(stage.release(11.0)), stage.due) == ([1], 13.0)
    assert (which(stage.drain()), stage.due) == ([3], math.inf)


def test_a_push_is_forgotten_when_its_reply_has_gone_with_all_its_copies() -> None:
    stage = Delaying(1.0, to="ask")
    stage.heard(Message("1", "5", "t", "ask", {}))
    reply = item(1, "phx_reply", "5")
    for _ in range(2):
        assert stage.feed(reply, 0.0) == []
    assert which(stage.release(1.0)) == [1, 1]
    assert stage.feed(reply, 2.0) == [reply]


def test_a_stage_lets_pass_what_is_no_concern_of_it() -> None:
    for stage in (Stage(), Repeating("other")):
        assert which(stage.feed(item(1), 0.0)) == [1]
        assert stage.release(1.0) == stage.drain() == []
    assert which(Repeating("news").feed(item(1), 0.0)) == [1, 1]
