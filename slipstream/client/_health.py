"""What a client's link looks like at one moment."""

from collections.abc import Mapping

import attrs

from slipstream.reasons import DisconnectReason

__all__ = ["Health"]


@attrs.frozen
class Health:
    """How a client's link is doing; a snapshot.

    Attributes:
        phase: ``"down"``, ``"waiting"``, ``"connecting"`` or ``"open"``.
        connected: whether the connection is open.
        uptime: seconds since it opened; 0.0 while it is not.
        generation: attempts so far.
        attempt: failures in a row, as the policy counts them.
        next_attempt_in: seconds until the next attempt may start, while waiting.
        last_disconnect: how the last connection or attempt ended.
        last_rtt: seconds between the last heartbeat and its answer.
        topics: each topic with its status.
        inbound: messages and events that lie unread.
        queued_pushes: pushes that wait for their topic.
        counters: frames discarded, undecodable, dropped, stale.
    """

    phase: str
    connected: bool
    uptime: float
    generation: int
    attempt: int
    next_attempt_in: float | None
    last_disconnect: DisconnectReason | None
    last_rtt: float | None
    topics: Mapping[str, str]
    inbound: int
    queued_pushes: int
    counters: Mapping[str, int]
