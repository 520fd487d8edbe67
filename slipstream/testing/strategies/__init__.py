"""Hypothesis strategies for clients of Phoenix, and for whatever else speaks its protocol.

They need the extra ``testing``. What they draw is small, so that names and refs collide, and shrinks
to the least that shows a failure.
"""

try:
    import hypothesis as hypothesis
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        "slipstream.testing.strategies needs hypothesis: pip install 'slipstream[testing]'",
        name=missing.name,
    ) from missing

from ._configs import configs
from ._conversations import conversations, illegal_conversations
from ._messages import frames, messages, mutated_frames
from ._names import (
    binary_payloads,
    channel_replies,
    events,
    json_payloads,
    json_values,
    payloads,
    refs,
    topics,
)
from ._streams import chunkings

__all__ = [
    "binary_payloads",
    "channel_replies",
    "chunkings",
    "configs",
    "conversations",
    "events",
    "frames",
    "illegal_conversations",
    "json_payloads",
    "json_values",
    "messages",
    "mutated_frames",
    "payloads",
    "refs",
    "topics",
]
