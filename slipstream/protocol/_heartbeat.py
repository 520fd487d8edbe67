"""The heartbeat: sent on a schedule, answered or not, whatever else is received.

Inbound traffic never replaces a heartbeat (the server cuts a silent socket); it only proves, for
the deadline of one that is under way, that the peer is alive.
"""

import math

__all__ = ["Heartbeat"]


class Heartbeat:
    """When the next heartbeat is due, and when the one under way is overdue.

    Times are those of a clock that stands still while reading is paused.
    """

    def __init__(self, interval: float | None, timeout: float) -> None:
        self._interval = interval or math.inf
        self._timeout = timeout
        self._written_at = math.inf
        self._heard_at = -math.inf
        self.ref: str | None = None
        self.due = math.inf
        self.last_rtt: float | None = None

    def start(self, now: float) -> None:
        """Begin the schedule."""
        self.heard(now)
        self.due = now + self._interval

    def heard(self, now: float) -> None:
        """Note that something was received."""
        self._heard_at = max(self._heard_at, now)

    def sent(self, ref: str) -> None:
        """Note that the heartbeat *ref* is queued; its time starts when it is written."""
        self.ref = ref
        self._written_at = self.due = math.inf

    def written(self, now: float) -> None:
        """Note that the heartbeat was handed to the network."""
        self._written_at = now
        self.due = now + self._timeout

    def answered(self, now: float) -> float:
        """Note that it was answered; give the seconds since it was written."""
        self.last_rtt = max(0.0, now - self._written_at) if self._written_at != math.inf else 0.0
        self.ref = None
        self.due = now + self._interval
        return self.last_rtt

    def is_overdue(self, now: float) -> bool:
        """Judge the one under way, which is due: is the peer silent, or is its time renewed?"""
        renewed = self._heard_at + self._timeout
        if self._heard_at <= self._written_at or renewed <= now:
            self.due = math.inf
            return True
        if now - self._written_at >= self._interval:
            self.ref = None  # no answer, but a peer that talks: try another one, at once
            self.due = now
        else:
            self.due = min(renewed, self._written_at + self._interval)
        return False

    def stop(self) -> None:
        """End the schedule."""
        self.ref = None
        self.due = math.inf
