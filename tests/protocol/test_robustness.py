"""The socket machine against servers that say anything, or nothing at all."""

import contextlib
import math
from typing import Any, get_args

from hypothesis import given, settings, strategies as st

from slipstream.errors import LocalProtocolError
from slipstream.protocol import Event, JoinTopic, LeaveTopic, PushMessage, TopicState
from slipstream.testing.strategies import (
    binary_payloads,
    frames,
    json_payloads,
    messages,
    mutated_frames,
    refs,
)
from tests.protocol.test_machine import OK, UNMATCHED, Wire


def test_memory_stays_flat_over_joins_and_pushes_that_time_out() -> None:
    """complaint-3: 10⁵ of each, none of them answered."""
    wire = Wire()
    machine = wire.machine
    wire.joined("busy")
    for number in range(100_000):
        wire.join(f"t{number}", timeout=1.0)
        wire.push(1.0, topic="busy")
        wire.at(wire.now + 0.5)
    assert len(machine.topics) < 5
    assert machine.pending_pushes < 5
    assert len(machine._deadlines._heap) < 200
    assert len(machine._owed) == 0
    assert len(machine._running) == len(machine._joins) + machine.pending_pushes
    wire.at(wire.now + 1.0)
    assert machine.topics == {"busy": TopicState.JOINED}
    assert machine.deadline() == math.inf


# Few topics and refs, so that they meet what the client asked; and parts of any kind at all.
said = messages(
    topics=st.sampled_from(["t", "u", "phoenix"]),
    events=st.sampled_from(["m", "phx_join", "phx_reply", "phx_close"]),
    payloads=json_payloads() | st.sampled_from([OK, UNMATCHED]),
    refs=refs(3),
)
odd_frames = (
    frames(messages=said)
    | mutated_frames(messages=said)
    | mutated_frames(
        messages=messages(topics=st.just("t"), payloads=binary_payloads(), refs=refs(3))
    )
    | st.text(max_size=30)
    | st.binary(max_size=30)
)
commands = st.sampled_from(
    [
        JoinTopic("t", {}, 2.0),
        JoinTopic("u", {}, 2.0),
        LeaveTopic("t", 2.0),
        PushMessage("t", "e", {}),
        PushMessage("t", "e", {}, 2.0),
        PushMessage("u", "e", b"", 2.0),
    ]
)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(commands | st.lists(odd_frames, min_size=1, max_size=4) | st.just(3.0), max_size=25)
)
def test_nothing_that_a_server_says_raises_anything(steps: list[Any]) -> None:
    """The inverse of h11's rule: what the peer does is never the caller's mistake."""
    wire = Wire(interval=5.0)
    for step in steps:
        if isinstance(step, list):
            events = wire.machine.receive(step, wire.now)
        elif isinstance(step, float):
            events, frames = wire.at(wire.now + step)
            wire.machine.written([frame.ref for frame in frames], wire.now)
        else:
            events = []
            with contextlib.suppress(LocalProtocolError):
                wire.do(step)
        assert all(isinstance(event, get_args(Event)) for event in events)
