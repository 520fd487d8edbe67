"""The steps of a conversation: what a server does, as values."""

from collections.abc import Sequence
from typing import TypeAlias

import attrs

from slipstream.interfaces import Message, Payload

__all__ = [
    "AnswerAgain",
    "AnswerNext",
    "CloseChannel",
    "CloseConnection",
    "Conversation",
    "CrashChannel",
    "DropConnection",
    "IllegalStep",
    "LegalStep",
    "RefuseConnect",
    "SendBroadcast",
    "SendData",
    "SendMessage",
    "SendPush",
    "Step",
    "Wait",
]


def _no_response() -> Payload:
    return {}


@attrs.frozen
class AnswerNext:
    """Answer a join, a push or a leave that waits for it: the oldest, or *skip* further on.

    A join that is answered with anything but ``ok`` is refused; a leave is always granted.
    """

    status: str = "ok"
    response: Payload = attrs.field(factory=_no_response)
    skip: int = 0


@attrs.frozen
class AnswerAgain:
    """Answer the last answered push once more, as a channel may."""

    status: str = "ok"
    response: Payload = attrs.field(factory=_no_response)


@attrs.frozen
class SendPush:
    """Push to the client, if it has joined *topic*."""

    topic: str
    event: str
    payload: Payload = attrs.field(factory=_no_response)


@attrs.frozen
class SendBroadcast:
    """Broadcast to *topic*, which reaches the client if it has joined."""

    topic: str
    event: str
    payload: Payload = attrs.field(factory=_no_response)


@attrs.frozen
class CrashChannel:
    """Let the channel of *topic* crash: ``phx_error``."""

    topic: str


@attrs.frozen
class CloseChannel:
    """Let the channel of *topic* stop in an orderly way: ``phx_close``."""

    topic: str


@attrs.frozen
class CloseConnection:
    """Close the connection with *code*."""

    code: int = 1000
    reason: str = ""


@attrs.frozen
class DropConnection:
    """End the connection without a Close."""


@attrs.frozen
class RefuseConnect:
    """Refuse the next connect with the HTTP *status*."""

    status: int = 503


@attrs.frozen
class Wait:
    """Say nothing for so many *seconds*."""

    seconds: float


@attrs.frozen
class SendMessage:
    """Send *message* as it is, whether a server may say it just now or not."""

    message: Message


@attrs.frozen
class SendData:
    """Send *data* as one WebSocket message, text (``str``) or binary, whatever it says."""

    data: str | bytes


LegalStep: TypeAlias = (
    AnswerNext
    | AnswerAgain
    | SendPush
    | SendBroadcast
    | CrashChannel
    | CloseChannel
    | CloseConnection
    | DropConnection
    | RefuseConnect
    | Wait
)
"""What a Phoenix server, and the network before it, may do."""

IllegalStep: TypeAlias = SendMessage | SendData
"""What is not held to Phoenix's rules."""

Step: TypeAlias = LegalStep | IllegalStep

Conversation: TypeAlias = Sequence[Step]
"""Steps, in order; connects that no step refuses are accepted."""
