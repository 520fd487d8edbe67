"""What a server says, by Phoenix's rules and against them."""

from collections.abc import Sequence
from typing import Any, Final

from hypothesis import strategies as st

from slipstream.interfaces import Payload
from slipstream.protocol.messages import HEARTBEAT, PHOENIX, PHX_JOIN, PHX_LEAVE
from slipstream.testing._steps import (
    AnswerAgain,
    AnswerNext,
    CloseChannel,
    CloseConnection,
    CrashChannel,
    DropConnection,
    IllegalStep,
    LegalStep,
    RefuseConnect,
    SendBroadcast,
    SendData,
    SendMessage,
    SendPush,
    Step,
    Wait,
)

from ._messages import messages, mutated_frames
from ._names import events as any_events, json_payloads

__all__ = ["conversations", "illegal_conversations"]

_STATUSES: Final = ("ok", "error")
_CLOSE_CODES: Final = (1000, 1001, 1011, 1012)
_REFUSALS: Final = (503, 500)
_WAITS: Final = (0.5, 1.0, 5.0, 11.0, 31.0)
"""On each side of the deadlines and intervals that a client has by default."""


def conversations(
    topics: Sequence[str],
    *,
    events: st.SearchStrategy[str] | None = None,
    payloads: st.SearchStrategy[Payload] | None = None,
    statuses: Sequence[str] = _STATUSES,
    close_codes: Sequence[int] = _CLOSE_CODES,
    refusals: Sequence[int] = _REFUSALS,
    waits: Sequence[float] = _WAITS,
    max_size: int = 30,
) -> st.SearchStrategy[list[LegalStep]]:
    """Draw what a Phoenix server says to a client that joins *topics*, and does to its connection.

    Whatever the client does, no step says what a real server could not say then; see
    :mod:`slipstream.testing.conversations`, whose ``play`` plays them to a client in memory.

    Args:
        topics: what steps speak of. A topic that the client has not joined hears nothing.
        events: of pushes and broadcasts.
        payloads: of those, and of responses; by default small JSON objects.
        statuses: of replies.
        close_codes: of connections that the server closes; none for no such step.
        refusals: HTTP statuses of connects; none for no such step. Some end a client for good, by
            its policy: those are left out unless asked for.
        waits: seconds of silence.
        max_size: the most steps.

    >>> class Room(SlipstreamClient):
    ...     async def handle_connect(self, socket):
    ...         socket.join("room")
    >>> @settings(max_examples=5)
    ... @given(conversations(["room"]))
    ... def test_the_client_outlives_any_server(conversation):
    ...     async def scenario():
    ...         network = MemoryNetwork()
    ...         config = Config("ws://server.test/websocket", transport=network.open_transport)
    ...         async with open_supervisor([(Room, config)]) as supervisor:
    ...             client = supervisor.child(Room)
    ...             await play(conversation, network)
    ...             assert client.alive
    ...     trio.run(scenario, clock=MockClock(autojump_threshold=0))
    >>> test_the_client_outlives_any_server()
    """
    legal = _legal_steps(topics, events, payloads, statuses, close_codes, refusals, waits)
    return st.lists(legal, max_size=max_size)


def _legal_steps(
    topics: Sequence[str],
    events: st.SearchStrategy[str] | None,
    payloads: st.SearchStrategy[Payload] | None,
    statuses: Sequence[str] = _STATUSES,
    close_codes: Sequence[int] = _CLOSE_CODES,
    refusals: Sequence[int] = _REFUSALS,
    waits: Sequence[float] = _WAITS,
) -> st.SearchStrategy[LegalStep]:
    topic = st.sampled_from(topics)
    event = any_events() if events is None else events
    payload = json_payloads(max_leaves=2) if payloads is None else payloads
    # Mostly the first: without a join that was let in there is nothing to talk about.
    status = st.sampled_from([statuses[0], *statuses])
    answer = st.builds(AnswerNext, status, payload, st.integers(0, 3))
    steps: list[st.SearchStrategy[Any]] = [
        *[answer] * 3,
        st.builds(SendPush, topic, event, payload),
        st.builds(SendBroadcast, topic, event, payload),
        st.builds(AnswerAgain, status, payload),
        st.builds(CrashChannel, topic),
        st.builds(CloseChannel, topic),
    ]
    if waits:
        steps.append(st.builds(Wait, st.sampled_from(waits)))
    if close_codes:
        steps.append(st.builds(CloseConnection, st.sampled_from(close_codes)))
        steps.append(st.builds(DropConnection))
    if refusals:
        steps.append(st.builds(RefuseConnect, st.sampled_from(refusals)))
    # Not one_of, which would draw an answer as seldom as anything else.
    return st.integers(0, len(steps) - 1).flatmap(steps.__getitem__)


@st.composite
def illegal_conversations(
    draw: st.DrawFn,
    topics: Sequence[str],
    *,
    events: st.SearchStrategy[str] | None = None,
    payloads: st.SearchStrategy[Payload] | None = None,
    max_size: int = 30,
) -> list[Step]:
    """Draw conversations in which something stands, at least once, that no rule of Phoenix's covers.

    Replies to what was not asked, ends of joins that are over, topics that nobody joined, frames
    that are no message. A client counts such things, and goes on.

    >>> @given(illegal_conversations(["room"], max_size=8))
    ... def test_something_is_wrong_with_each(conversation):
    ...     assert any(isinstance(step, SendMessage | SendData) for step in conversation)
    >>> test_something_is_wrong_with_each()
    """
    legal = _legal_steps(topics, events, payloads)
    event = any_events() if events is None else events
    said = messages(
        topics=st.sampled_from([*topics, "elsewhere", PHOENIX]),
        events=event | st.sampled_from([PHX_JOIN, PHX_LEAVE, HEARTBEAT]),
        payloads=json_payloads(max_leaves=2) if payloads is None else payloads,
    )
    wrong: st.SearchStrategy[IllegalStep] = st.one_of(
        st.builds(SendMessage, said), st.builds(SendData, mutated_frames(messages=said))
    )
    most = (max_size - 1) // 2
    before = draw(st.lists(legal, max_size=most))
    first = draw(wrong)
    after = draw(st.lists(legal | wrong, max_size=most))
    return [*before, first, *after]
