"""How many restarts are too many: a sliding window, closed on the left, that is given the time."""

from collections import deque

__all__ = ["Intensity"]


class Intensity:
    """Allows *max_restarts* within *max_seconds*; the next one is too many."""

    __slots__ = ("_recent", "max_restarts", "max_seconds")

    def __init__(self, max_restarts: int, max_seconds: float) -> None:
        self.max_restarts = max_restarts
        self.max_seconds = max_seconds
        self._recent: deque[float] = deque()

    def allow(self, now: float) -> bool:
        """Record a restart at *now* and tell whether it is still allowed."""
        self._recent.append(now)
        # OTP keeps a restart that is exactly max_seconds old.
        while self._recent[0] + self.max_seconds < now:
            self._recent.popleft()
        return len(self._recent) <= self.max_restarts

    @property
    def count(self) -> int:
        """How many restarts the last one makes, with those that count with it."""
        return len(self._recent)

    @property
    def span(self) -> float:
        """Within how many seconds."""
        return self._recent[-1] - self._recent[0] if self._recent else 0.0
