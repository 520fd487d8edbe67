"""Steps that only a contract takes: a conversation knows the server, these the program as well."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import attrs

from slipstream.interfaces import Payload
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

__all__ = [
    "Answer",
    "Ask",
    "Cast",
    "ContractStep",
    "FallSilent",
    "Flood",
    "GoDown",
    "HoldJoin",
    "Kill",
    "RefuseJoins",
    "Restart",
    "SendStale",
    "Tell",
]


@attrs.frozen
class Answer:
    """Answer a push, or a join that was held: the oldest, or *skip* further on."""

    status: str
    responses: Mapping[str, Payload]
    skip: int = 0


@attrs.frozen
class Flood:
    """Push the same so many *times*, in one go."""

    topic: str
    event: str
    payload: Payload
    times: int


@attrs.frozen
class SendStale:
    """Push by a join that is over, as where both have crossed on the way."""

    topic: str
    event: str
    payload: Payload


@attrs.frozen
class RefuseJoins:
    """Refuse the next joins, so many *times*."""

    times: int
    response: Payload


@attrs.frozen
class HoldJoin:
    """Leave the next join without an answer."""


@attrs.frozen
class GoDown:
    """Close with 1012, and refuse every connect for so many *seconds*."""

    seconds: float


@attrs.frozen
class FallSilent:
    """Read and answer nothing for so many *seconds*, heartbeats included."""

    seconds: float


@attrs.frozen
class Kill:
    """Kill the client's process; its supervisor starts it again."""


@attrs.frozen
class Restart:
    """Stop the client in order, whatever it does just now, and start it again."""


@attrs.frozen
class Ask:
    """Call the client."""

    request: Any


@attrs.frozen
class Cast:
    """Cast to the client."""

    message: Any


@attrs.frozen
class Tell:
    """Send the client a message for its ``handle_info``."""

    message: Any


ContractStep: TypeAlias = (
    Answer
    | AnswerAgain
    | Ask
    | Cast
    | CloseChannel
    | CloseConnection
    | CrashChannel
    | DropConnection
    | FallSilent
    | Flood
    | GoDown
    | HoldJoin
    | Kill
    | RefuseJoins
    | Restart
    | SendBroadcast
    | SendPush
    | SendStale
    | Tell
    | Wait
)
