"""The socket machine against servers that say anything, or nothing at all."""

import contextlib
import json
import math
from typing import Any, get_args

from hypothesis import given, settings, strategies as st

from slipstream.errors import LocalProtocolError
from slipstream.protocol import Event, JoinTopic, LeaveTopic, PushMessage, TopicState
from tests.protocol.test_machine import OK, UNMATCHED, Wire


def test_memory_stays_flat_over_joins_and_pushes_that_time_out() -> None:
    """Complaint 3: 10⁵ of each, none of them answered."""
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


odd_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from(["ok", "error", "t", "1", "2", "é"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["status", "response", "reason", "a"]), inner, max_size=3)
    ),
    max_leaves=6,
)
odd_frames = (
    st.tuples(
        st.sampled_from(["1", "2", "3", None]) | odd_values,
        st.sampled_from(["1", "2", "3", None]) | odd_values,
        st.sampled_from(["t", "u", "phoenix"]) | odd_values,
        st.sampled_from(["phx_reply", "phx_close", "phx_error", "phx_join", "m"]) | odd_values,
        odd_values | st.just(OK) | st.just(UNMATCHED),
    ).map(json.dumps)
    | st.text(max_size=30)
    | st.binary(max_size=30)
    | st.binary(max_size=12).map(lambda rest: b"\x00\x01\x01\x01" + b"1tm" + rest)
    | st.binary(max_size=12).map(lambda rest: b"\x01\x01\x01\x01\x02" + b"12tok" + rest)
    | st.binary(max_size=12).map(lambda rest: b"\x02\x01\x01" + b"tm" + rest)
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
