"""The heartbeat: sent on a schedule, answered or not, whatever else is received.

Two clocks. Heartbeats go out by the caller's: the server cuts a socket that is silent, and does not
care why it is. Whether the peer has been silent for too long is judged by the clock that stands
still while reading is paused, since nothing can be heard meanwhile.
"""

import math

from ._deadlines import Deadlines

__all__ = ["Heartbeat"]


class Heartbeat:
    """When the next heartbeat is due, and since when the peer has been silent after one.

    Inbound traffic never replaces a heartbeat; it only proves that the peer is alive.
    """

    def __init__(self, interval: float | None, timeout: float, clock: Deadlines) -> None:
        self._interval = interval or math.inf
        self._timeout = timeout
        self._clock = clock
        self._next_at = math.inf  # by the caller's clock
        # By the clock that can stand still:
        self._written_at = math.inf
        self._silent_since = math.inf  # when the oldest one was written after which nothing came
        self._heard_at = -math.inf
        self._judged_at = math.inf
        self.ref: str | None = None
        self.last_rtt: float | None = None

    def start(self, now: float) -> None:
        """Begin the schedule."""
        self.heard(now)
        self._next_at = now + self._interval

    def stop(self) -> None:
        """End the schedule."""
        self.ref = None
        self._next_at = self._judged_at = math.inf

    def due_at(self) -> float:
        """Tell when one has to be sent or judged, by the caller's clock."""
        return min(self._next_at, self._clock.outer(self._judged_at))

    def heard(self, at: float) -> None:
        """Note that something was received."""
        self._heard_at = max(self._heard_at, self._clock.local(at))

    def is_due(self, now: float) -> bool:
        """Tell whether one has to be sent."""
        return self._next_at <= now

    def sent(self, ref: str) -> None:
        """Note that the heartbeat *ref* is queued; its time starts when it is written."""
        self.ref = ref
        self._next_at = self._written_at = math.inf

    def written(self, now: float) -> None:
        """Note that the heartbeat was handed to the network."""
        self._written_at = self._clock.local(now)
        # The next one goes out even if this one is never answered, as long as the peer talks.
        self._next_at = now + self._interval
        if self._silent_since < self._heard_at or self._judged_at == math.inf:
            self._silent_since = self._written_at
            self._judged_at = self._written_at + self._timeout

    def answered(self, now: float) -> float:
        """Note that it was answered; give the seconds since it was written."""
        waited = self._clock.local(now) - self._written_at
        self.last_rtt = max(0.0, waited)  # it may not be known yet that it was written
        self.ref = None
        self._next_at = now + self._interval
        self._judged_at = math.inf
        return self.last_rtt

    def is_overdue(self, now: float) -> bool:
        """Judge the one under way: is the peer silent, or has it been heard meanwhile? Told once."""
        # Compared by the caller's clock, as due_at tells it: rounding must not part the two.
        if self._clock.outer(self._judged_at) > now:
            return False
        renewed = self._heard_at + self._timeout
        if self._heard_at > self._silent_since and self._clock.outer(renewed) > now:
            self._judged_at = renewed
            return False
        self.stop()
        return True
