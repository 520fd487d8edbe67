"""One topic that a client wants: what is wanted of it, and what has become of it."""

import enum
from collections.abc import Callable
from typing import Any, Protocol

from slipstream.interfaces import Message
from slipstream.reasons import TopicCloseReason

__all__ = ["Alarm", "Topic", "TopicStatus"]


class TopicStatus(enum.StrEnum):
    """What has become of a topic, as the client sees it."""

    REQUESTED = "requested"
    JOINED = "joined"
    LEAVING = "leaving"
    CLOSED = "closed"
    WAITING = "waiting"


class Alarm(Protocol):
    """A call that is due later."""

    def cancel(self) -> None:
        """Take it back."""
        ...


class Topic:
    """One topic: what is wanted of it, and what has become of it."""

    __slots__ = (
        "asked_at",
        "attempt",
        "confirmed",
        "failures",
        "fetching",
        "gap",
        "generation",
        "held",
        "join_ref",
        "join_timeout",
        "joined_at",
        "joined_before",
        "last_seen",
        "lost_at",
        "name",
        "params",
        "reason",
        "rejoin",
        "response",
        "seen_by",
        "status",
        "timer",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.params: Any = {}
        self.rejoin = True
        self.status = TopicStatus.REQUESTED
        self.join_ref: str | None = None
        self.confirmed = False  # whether the server let this join in
        self.generation = 0
        self.response: Any = None
        self.reason: TopicCloseReason | None = None
        self.failures = 0
        self.fetching = 0  # the generation that a provider of params was called for
        self.attempt = 0
        self.asked_at = 0.0
        self.joined_at = 0.0
        self.join_timeout: float | None = None
        self.held = False  # whether the server has no room for it on this connection
        # What a rejoin may go on from, and whether it has anything to make up for.
        self.seen_by: Callable[[Message], Any] | None = None
        self.last_seen: Any = None
        self.joined_before = False
        self.lost_at = 0.0
        self.gap = False
        self.timer: Alarm | None = None

    def cancel_timer(self) -> None:
        """Take a planned join back."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
