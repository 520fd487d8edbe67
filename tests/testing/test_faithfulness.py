"""The same client, the same script: in memory and over TCP it is called with the same."""

import random
from itertools import chain
from typing import Any

import pytest
from hypothesis import (
    HealthCheck,
    Phase,
    event,
    example,
    find,
    given,
    note,
    settings,
    strategies as st,
)

from slipstream.interfaces import Serializer
from slipstream.protocol import V1Serializer
from slipstream.testing.conversations import (
    AnswerNext,
    CloseChannel,
    CrashChannel,
    DropConnection,
    SendMessage,
    SendPush,
    Speaker,
)
from slipstream.testing.strategies import conversations, messages
from tests.testing.stages import TOPICS, Act, Script, in_memory, over_tcp

topics = st.sampled_from(TOPICS)
timeouts = st.sampled_from([None, None, 30.0, 0.05])
pushes = st.builds(Act, st.sampled_from(["push", "push", "push binary"]), topics, timeouts)
acts = st.builds(Act, st.sampled_from(["join", "leave", "leave", "rejoin"]), topics)
links = st.builds(Act, st.sampled_from(["disconnect", "connect", "connect"]))
few = st.dictionaries(st.just("n"), st.integers(0, 9), max_size=1)
says = conversations(
    TOPICS,
    events=st.sampled_from(["one", "two"]),
    payloads=few,
    statuses=["ok", "error", "created"],
    waits=(),
    max_size=3,
)
strays = messages(topics=topics | st.just("elsewhere"), payloads=few).map(SendMessage)
# What rarely meets by chance goes together; a part of nothing is what the others shrink to.
PARTS: list[st.SearchStrategy[Any]] = [
    st.just([]),
    *[topics.map(lambda topic: [Act("join", topic), AnswerNext()])] * 4,
    *[pushes.map(lambda push: [push])] * 4,
    *[says.map(list)] * 4,
    *[acts.map(lambda act: [act])] * 2,
    links.map(lambda act: [act]),
    strays.map(lambda step: [step]),
]
parts = st.integers(0, len(PARTS) - 1).flatmap(PARTS.__getitem__)
scripts = st.lists(parts, min_size=8, max_size=14).map(
    lambda drawn: list(chain.from_iterable(drawn))
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example([Act("join", "a"), DropConnection(), AnswerNext()], None)
@given(scripts, st.sampled_from([None, None, V1Serializer()]))
def test_memory_is_true_to_tcp(script: Script, serializer: Serializer | None) -> None:
    expected = in_memory(script, serializer=serializer)
    seen = over_tcp(script, expected, serializer=serializer)
    for step, one, other in zip([None, *script], expected, seen, strict=False):
        note(f"{step}\n    memory {one}\n    TCP    {other}")
    assert seen == expected
    for name in {call[0] for scene in seen for call in scene.calls}:
        event(name)


def _crash_told_as_a_close(speaker: Speaker, step: Any) -> Any:
    return SAY(speaker, CloseChannel(step.topic) if isinstance(step, CrashChannel) else step)


def _refusal_that_lets_in(speaker: Speaker, step: Any) -> Any:
    status = getattr(step, "status", "")
    return SAY(speaker, AnswerNext() if status == "error" else step)


def _push_that_never_comes(speaker: Speaker, step: Any) -> Any:
    return [] if isinstance(step, SendPush) else SAY(speaker, step)


def _answers_in_the_wrong_order(speaker: Speaker, step: Any) -> Any:
    return SAY(speaker, AnswerNext(skip=-1) if isinstance(step, AnswerNext) else step)


def _answer_with_its_status_lost(speaker: Speaker, step: Any) -> Any:
    return SAY(speaker, AnswerNext("ok", step.response) if isinstance(step, AnswerNext) else step)


SAY = Speaker.say
FAULTS = [
    _crash_told_as_a_close,
    _refusal_that_lets_in,
    _push_that_never_comes,
    _answers_in_the_wrong_order,
    _answer_with_its_status_lost,
]


@pytest.mark.parametrize("fault", FAULTS)
def test_the_scripts_tell_a_planted_fault(fault: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is drawn is rich enough to show where two servers differ."""

    def differs(script: Script) -> bool:
        expected = in_memory(script)
        with monkeypatch.context() as patched:
            patched.setattr(Speaker, "say", fault)
            return in_memory(script) != expected

    find(
        scripts,
        differs,
        random=random.Random(0),  # noqa: S311 - the same every time
        settings=settings(max_examples=500, database=None, deadline=None, phases=[Phase.generate]),
    )
