"""What the socket machine has to tell: events, in the past tense, frozen."""

from typing import Literal, TypeAlias

import attrs

from slipstream.errors import DecodeError
from slipstream.interfaces import Message, Payload
from slipstream.reasons import (
    ChannelClosed,
    ChannelCrashed,
    JoinFailed,
    JoinRefused,
    JoinTimedOut,
    PushFailure,
)

from .messages import ChannelReply

__all__ = [
    "DiscardReason",
    "Event",
    "FrameDiscarded",
    "FrameUndecodable",
    "HeartbeatAcknowledged",
    "HeartbeatTimedOut",
    "PushFailed",
    "ReplyReceived",
    "TopicClosed",
    "TopicJoinFailed",
    "TopicJoined",
    "TopicLeft",
]

DiscardReason: TypeAlias = Literal[
    "stale_message",
    "stale_reply",
    "stale_close",
    "stale_error",
    "unknown_topic",
    "not_joined",
    "socket",
]
"""Why a frame was dropped.

``stale_…``: of an earlier join, or (a reply) of a push that has ended or was never made.
``not_joined``: without a join_ref, while the topic is not joined. ``socket``: on the socket's own
topic, and no answer to a heartbeat.
"""


@attrs.frozen
class TopicJoined:
    """The server accepted the join *join_ref* of *topic*."""

    topic: str
    response: Payload
    join_ref: str


@attrs.frozen
class TopicJoinFailed:
    """The join *join_ref* of *topic* came to nothing."""

    topic: str
    reason: JoinRefused | JoinTimedOut | JoinFailed
    join_ref: str


@attrs.frozen
class TopicClosed:
    """The server ended the channel that the join *join_ref* had made."""

    topic: str
    reason: ChannelCrashed | ChannelClosed
    join_ref: str


@attrs.frozen
class TopicLeft:
    """The channel of the join *join_ref* has been left, as asked. Told once for each leave."""

    topic: str
    join_ref: str


@attrs.frozen
class ReplyReceived:
    """The server replied to the push *ref*."""

    ref: str
    topic: str
    reply: ChannelReply


@attrs.frozen
class PushFailed:
    """The push *ref* came to nothing."""

    ref: str
    topic: str
    reason: PushFailure


@attrs.frozen
class HeartbeatAcknowledged:
    """The server answered the heartbeat *ref*, *seconds* after it was written."""

    ref: str
    seconds: float


@attrs.frozen
class HeartbeatTimedOut:
    """Nothing at all was received in time after a heartbeat. Told once."""


@attrs.frozen
class FrameDiscarded:
    """A *message* was dropped, since it is nobody's any more."""

    why: DiscardReason
    message: Message


@attrs.frozen
class FrameUndecodable:
    """A frame was no Phoenix message."""

    error: DecodeError


Event: TypeAlias = (
    Message
    | TopicJoined
    | TopicJoinFailed
    | TopicClosed
    | TopicLeft
    | ReplyReceived
    | PushFailed
    | HeartbeatAcknowledged
    | HeartbeatTimedOut
    | FrameDiscarded
    | FrameUndecodable
)
"""A server's push or broadcast is told as the bare :class:`Message`: it is the hot one."""
