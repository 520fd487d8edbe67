"""The flight recorder: the last frames, by reference, shown late."""

import gc
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from slipstream.connection import FlightRecorder, RecordedFrame
from slipstream.interfaces import Frame, Message
from slipstream.protocol import V1Serializer, V2Serializer

SECRET = "s3cr3t"  # noqa: S105 - it guards nothing
SERVER = V2Serializer(role="server")
CLIENT = V2Serializer()


def received(recorder: FlightRecorder, *messages: Message, at: float = 0.0) -> None:
    frames = [SERVER.encode(message) for message in messages]
    data = [frame.data if frame.binary else frame.data.decode() for frame in frames]
    recorder.received(data, sum(map(len, data)), at)


def test_the_last_frames_of_both_directions_are_kept_in_order() -> None:
    recorder = FlightRecorder(3)
    recorder.sent(CLIENT.encode(Message("1", "1", "t", "phx_join", {})), 1.0)
    received(recorder, Message("1", "1", "t", "phx_reply", {}), at=2.0)
    received(recorder, *[Message(None, None, "t", f"e{n}", n) for n in (1, 2)], at=3.0)
    assert [(f.at, f.direction, f.event, f.ref) for f in recorder.frames(None)] == [
        (2.0, "received", "phx_reply", "1"),
        (3.0, "received", "e1", None),
        (3.0, "received", "e2", None),
    ]
    received(recorder, *[Message(None, None, "t", f"e{n}", n) for n in range(100)])
    assert [f.event for f in recorder.frames(None)] == ["e97", "e98", "e99"]


def test_a_frame_is_a_line() -> None:
    recorder = FlightRecorder(3)
    recorder.sent(CLIENT.encode(Message("1", "2", "t", "new", {"a": 1})), 1.5)
    assert str(*recorder.frames(None)) == "1.500 > 't' 'new' ref='2' 27 B"
    assert str(*recorder.frames(None, payloads=True)) == "1.500 > 't' 'new' ref='2' 27 B {'a': 1}"
    assert str(RecordedFrame(1.5, "received", 7)) == "1.500 < 7 B"


def test_what_a_terminal_would_obey_is_escaped() -> None:
    recorder = FlightRecorder(1)
    received(recorder, Message(None, None, "t\n\x1b[31m", "e\n", {}))
    assert str(*recorder.frames(None)).isprintable()


@pytest.mark.parametrize("payload", [{"body": SECRET}, SECRET.encode(), {"body": SECRET * 999}])
@pytest.mark.parametrize("ours", [True, False])
def test_payloads_are_shown_only_where_that_is_wanted_and_cut(payload: Any, *, ours: bool) -> None:
    recorder = FlightRecorder(2)
    message = Message("1", "2" if ours else None, "t", "e", payload)
    if ours:
        recorder.sent(CLIENT.encode(message), 0.0)
    else:
        received(recorder, message)
    (frame,) = recorder.frames(None)
    assert (frame.topic, frame.event, frame.ref) == ("t", "e", message.ref)
    assert frame.payload is None
    assert SECRET not in str(frame)
    (shown,) = recorder.frames(None, payloads=True)
    assert SECRET in str(shown)
    assert len(str(shown)) < 300


@pytest.mark.parametrize(
    "data", ["{", "", b"", b"\x07", "[1,2]", "x" * 5000, b"\x00\xff\xff"], ids=repr
)
def test_what_is_no_message_is_told_by_its_size(data: Any) -> None:
    recorder = FlightRecorder(2)
    recorder.received([data], len(data), 0.0)
    assert recorder.frames(None, payloads=True) == (RecordedFrame(0.0, "received", len(data)),)


def test_a_large_frame_keeps_none_of_its_memory() -> None:
    recorder = FlightRecorder(2)
    received(recorder, Message(None, None, "t", "big", "x" * 1_000_000))
    recorder.sent(Frame(b"x" * 1_000_000), 0.0)
    kept = gc.get_referents(*recorder._entries)
    assert max(sys.getsizeof(item) for item in (*kept, *gc.get_referents(*kept))) < 2000
    assert recorder.frames(None)[0].event == "big"
    assert recorder.frames(None)[0].size > 1_000_000


def test_other_serializers_are_asked_and_may_fail() -> None:
    class Broken:
        vsn = "2.0.0"

        def encode(self, message: Message, /) -> Frame:
            raise NotImplementedError

        def decode(self, data: str | bytes, /) -> Message:
            raise RuntimeError(SECRET)

    recorder = FlightRecorder(2)
    recorder.sent(V1Serializer().encode(Message(None, "1", "t", "e", {})), 0.0)
    assert recorder.frames(V1Serializer())[0].event == "e"
    assert recorder.frames(Broken())[0].topic is None


def test_a_recorder_of_none_keeps_nothing_and_may_be_resized() -> None:
    recorder = FlightRecorder()
    received(recorder, Message(None, None, "t", "a", {}))
    recorder.sent(Frame(b"x"), 0.0)
    assert recorder.frames(None) == ()
    recorder.resize(2)
    received(recorder, *[Message(None, None, "t", e, {}) for e in "abc"])
    assert [frame.event for frame in recorder.frames(None)] == ["b", "c"]
    recorder.resize(1)
    assert [frame.event for frame in recorder.frames(None)] == ["c"]


def test_a_message_costs_next_to_nothing() -> None:
    """At most some 100 ns a message; measured against what Python needs for a call that does it.

    The bound is a ratio of one run, so that a busy machine slows both.
    """
    recorder = FlightRecorder(32)
    alone, batch = ["x" * 150], ["x" * 150] * 64
    kept: list[Any] = []

    def baseline(frames: list[str], size: int, now: float) -> None:
        kept[:] = [(now, frames[0], size)]

    def seconds(function: Callable[..., None], *args: Any) -> float:
        best = 1.0
        for _ in range(7):
            started = time.perf_counter()
            for _ in range(2000):
                function(*args)
            best = min(best, time.perf_counter() - started)
        return best

    unit = seconds(baseline, alone, 150, 1.0)
    assert seconds(recorder.received, alone, 150, 1.0) < 3 * unit
    assert seconds(recorder.received, batch, 64 * 150, 1.0) < 64 * 2 * unit
