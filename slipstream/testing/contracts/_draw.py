"""Draws the steps of examples."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from hypothesis import strategies as st

from slipstream.interfaces import Payload
from slipstream.protocol.messages import PHX_JOIN
from slipstream.testing._steps import (
    AnswerAgain,
    CloseChannel,
    CloseConnection,
    CrashChannel,
    DropConnection,
    SendBroadcast,
    SendPush,
    Wait,
)

from ._steps import (
    Answer,
    Ask,
    Cast,
    ContractStep,
    FallSilent,
    Flood,
    GoDown,
    HoldJoin,
    Kill,
    RefuseJoins,
    Restart,
    SendStale,
    Tell,
)
from ._watch import UNKNOWN

__all__ = ["Payloads", "contract_steps", "welcomes"]

Payloads = st.SearchStrategy[Payload] | Mapping[str, st.SearchStrategy[Payload]]
"""Of all events, or of each."""

_WAITS: Final = (0.5, 1.0, 5.0, 11.0, 31.0, 61.0)
_CLOSE_CODES: Final = (1000, 1001, 1011, 1012)
_REFUSALS: Final[list[Payload]] = [{}, {"reason": "join crashed"}]
"""Not those after which a policy has a topic stay closed."""


def _payload_of(event: str, payloads: Payloads) -> st.SearchStrategy[Payload]:
    if isinstance(payloads, Mapping):
        return payloads.get(event, st.just({}))
    return payloads


def welcomes(responses: Mapping[str, st.SearchStrategy[Payload]]) -> st.SearchStrategy[Any]:
    """Draw what joins are answered with, and each push."""
    return st.fixed_dictionaries({PHX_JOIN: st.just({}), **responses})


def contract_steps(
    topics: Sequence[str],
    events: Sequence[str],
    payloads: Payloads,
    responses: Mapping[str, st.SearchStrategy[Payload]],
    requests: st.SearchStrategy[Any] | None,
    casts: st.SearchStrategy[Any] | None,
    infos: st.SearchStrategy[Any] | None,
) -> st.SearchStrategy[list[ContractStep]]:
    """Draw what a server, the network and the program do to a client."""
    topic = st.sampled_from(topics)
    said = st.sampled_from(events).flatmap(
        lambda event: st.tuples(topic, st.just(event), _payload_of(event, payloads))
    )
    unknown = st.tuples(topic, st.just(UNKNOWN), st.sampled_from([{}, {"a": [1]}]))
    status = st.sampled_from(["ok", "ok", "ok", "error"])
    answer = st.builds(Answer, status, welcomes(responses), st.integers(0, 2))
    # Mostly messages and time: what is cut off all the time never gets far.
    weighted: list[tuple[int, st.SearchStrategy[Any]]] = [
        (7, st.builds(Wait, st.sampled_from(_WAITS))),
        (12, said.map(lambda each: SendPush(*each))),
        (3, said.map(lambda each: SendBroadcast(*each))),
        (2, unknown.map(lambda each: SendPush(*each))),
        (
            2,
            st.tuples(said, st.sampled_from([3, 40])).map(
                lambda each: Flood(each[0][0], each[0][1], each[0][2], each[1])
            ),
        ),
        (1, said.map(lambda each: SendStale(*each))),
        (5, answer),
        (1, st.just(AnswerAgain())),
        (1, st.builds(CrashChannel, topic)),
        (1, st.builds(CloseChannel, topic)),
        (2, st.builds(RefuseJoins, st.sampled_from([1, 7, 7]), st.sampled_from(_REFUSALS))),
        (1, st.just(HoldJoin())),
        (1, st.just(DropConnection())),
        (1, st.builds(CloseConnection, st.sampled_from(_CLOSE_CODES))),
        (1, st.builds(GoDown, st.sampled_from([2.0, 40.0]))),
        (1, st.builds(FallSilent, st.sampled_from([1.0, 12.0, 45.0]))),
        (1, st.just(Kill())),
        (2, st.just(Restart())),
        *[
            (3, st.builds(kind, drawn))
            for kind, drawn in ((Ask, requests), (Cast, casts), (Tell, infos))
            if drawn is not None
        ],
    ]
    kinds = [strategy for weight, strategy in weighted for _ in range(weight)]
    step: st.SearchStrategy[ContractStep] = st.integers(0, len(kinds) - 1).flatmap(
        kinds.__getitem__
    )
    # Several short lists in one are longer, as drawn, than a long one.
    return st.lists(st.lists(step, max_size=8), max_size=6).map(
        lambda parts: [each for part in parts for each in part]
    )
