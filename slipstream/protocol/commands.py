"""What a client asks of the socket machine: commands, imperative, frozen."""

from typing import TypeAlias

import attrs
import msgspec

from slipstream.interfaces import Frame, Payload

__all__ = ["Command", "JoinTopic", "LeaveTopic", "Outgoing", "PushMessage"]


@attrs.frozen
class JoinTopic:
    """Join *topic* with *payload*, or join it anew; *timeout* seconds after it is written it is over."""

    topic: str
    payload: Payload
    timeout: float


@attrs.frozen
class LeaveTopic:
    """Leave *topic*; *timeout* seconds after it is written it counts as left."""

    topic: str
    timeout: float


class PushMessage(msgspec.Struct, frozen=True, gc=False):
    """Push *event* to *topic*.

    With a *timeout* (seconds after it is written) it ends exactly once. *ref* is one that was
    drawn from the counter before, or ``None`` for the next one.
    """

    topic: str
    event: str
    payload: Payload
    timeout: float | None = None
    ref: str | None = None


Command: TypeAlias = JoinTopic | LeaveTopic | PushMessage


@attrs.frozen
class Outgoing:
    """A frame to be written. The *urgent* go ahead of what waits (never into the middle of it)."""

    frame: Frame
    ref: str
    urgent: bool = False
