"""The Phoenix protocol without I/O: commands and frames in, frames and events out.

No clock, no logging, no network: time comes in as an argument.
"""

from slipstream.interfaces import Frame, Message

from ._binary import pack_fields, unpack_fields
from ._check import check_serializer
from ._kinds import BinaryKind
from ._typed import convert
from .commands import Command, JoinTopic, LeaveTopic, Outgoing, PushMessage
from .events import (
    DiscardReason,
    Event,
    FrameDiscarded,
    FrameUndecodable,
    HeartbeatAcknowledged,
    HeartbeatTimedOut,
    PushFailed,
    ReplyReceived,
    TopicClosed,
    TopicJoined,
    TopicJoinFailed,
    TopicLeft,
)
from .machine import RefCounter, SocketMachine
from .messages import ChannelReply
from .serializers import Role, V1Serializer, V2Serializer
from .topics import Input, TopicState

__all__ = [
    "BinaryKind",
    "ChannelReply",
    "Command",
    "DiscardReason",
    "Event",
    "Frame",
    "FrameDiscarded",
    "FrameUndecodable",
    "HeartbeatAcknowledged",
    "HeartbeatTimedOut",
    "Input",
    "JoinTopic",
    "LeaveTopic",
    "Message",
    "Outgoing",
    "PushFailed",
    "PushMessage",
    "RefCounter",
    "ReplyReceived",
    "Role",
    "SocketMachine",
    "TopicClosed",
    "TopicJoinFailed",
    "TopicJoined",
    "TopicLeft",
    "TopicState",
    "V1Serializer",
    "V2Serializer",
    "check_serializer",
    "convert",
    "pack_fields",
    "unpack_fields",
]
