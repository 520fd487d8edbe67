"""The same client, the same script: in memory and over TCP it is called with the same."""

from itertools import chain
from typing import Any

from hypothesis import HealthCheck, event, example, given, note, settings, strategies as st

from slipstream.testing.conversations import AnswerNext, DropConnection
from slipstream.testing.strategies import conversations
from tests.testing.stages import TOPICS, Act, Script, in_memory, over_tcp

topics = st.sampled_from(TOPICS)
timeouts = st.sampled_from([None, None, 30.0, 0.05])
pushes = st.builds(Act, st.sampled_from(["push", "push", "push binary"]), topics, timeouts)
acts = st.builds(Act, st.sampled_from(["join", "leave", "leave", "rejoin"]), topics)
links = st.builds(Act, st.sampled_from(["disconnect", "connect", "connect"]))
says = conversations(
    TOPICS,
    events=st.sampled_from(["one", "two"]),
    payloads=st.dictionaries(st.just("n"), st.integers(0, 9), max_size=1),
    statuses=["ok", "error", "created"],
    waits=(),
    max_size=3,
)
# What rarely meets by chance goes together; a part of nothing is what the others shrink to.
PARTS: list[st.SearchStrategy[Any]] = [
    st.just([]),
    *[topics.map(lambda topic: [Act("join", topic), AnswerNext()])] * 4,
    *[pushes.map(lambda push: [push])] * 4,
    *[says.map(list)] * 4,
    *[acts.map(lambda act: [act])] * 2,
    links.map(lambda act: [act]),
]
parts = st.integers(0, len(PARTS) - 1).flatmap(PARTS.__getitem__)
scripts = st.lists(parts, min_size=8, max_size=14).map(
    lambda drawn: list(chain.from_iterable(drawn))
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example([Act("join", "a"), DropConnection(), AnswerNext()])
@given(scripts)
def test_memory_is_true_to_tcp(script: Script) -> None:
    expected = in_memory(script)
    seen = over_tcp(script, expected)
    for step, one, other in zip([None, *script], expected, seen, strict=False):
        note(f"{step}\n    memory {one}\n    TCP    {other}")
    assert seen == expected
    for name in {call[0] for scene in seen for call in scene.calls}:
        event(name)
