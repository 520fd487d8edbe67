"""Deadlines of one connection: a heap, on a clock that stands still while reading is paused."""

import heapq
import itertools
import math
from typing import Any, Final

__all__ = ["Deadlines", "Obligation"]

_COMPACT_ABOVE: Final = 64


class Obligation:
    """Something that is due, unless it is met before."""

    __slots__ = ("met", "what")

    def __init__(self, what: Any) -> None:
        self.what = what
        self.met = False


class Deadlines:
    """What is due when. Times that go in and come out are those of the caller's clock."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Obligation]] = []
        self._numbers = itertools.count()
        self._met = 0
        self._stood_still = 0.0
        self._paused_at: float | None = None
        self._last_pause = (-math.inf, -math.inf)

    def local(self, at: float) -> float:
        """Give the time *at*, which may lie in the past, without the time spent paused till then.

        Of the pauses that are over only the last is known; times before it are exact as far back
        as the one before.
        """
        if self._paused_at is not None:
            at = min(at, self._paused_at)
        start, end = self._last_pause
        if at < end:
            at = min(at, start) + (end - start)
        return at - self._stood_still

    def pause(self, now: float) -> None:
        """Let the clock stand still."""
        if self._paused_at is None:
            self._paused_at = now

    def resume(self, now: float) -> None:
        """Let the clock go on."""
        if self._paused_at is not None:
            self._last_pause = (self._paused_at, max(self._paused_at, now))
            self._stood_still += self._last_pause[1] - self._last_pause[0]
            self._paused_at = None

    def add(self, obligation: Obligation, now: float, seconds: float) -> None:
        """Let *obligation* be due in so many *seconds*."""
        heapq.heappush(self._heap, (self.local(now) + seconds, next(self._numbers), obligation))

    def meet(self, obligation: Obligation) -> None:
        """Note that *obligation* was met. It leaves the heap when enough others have been."""
        if obligation.met:
            return
        obligation.met = True
        self._met += 1
        if self._met > _COMPACT_ABOVE and self._met * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if not entry[2].met]
            heapq.heapify(self._heap)
            self._met = 0

    def next(self) -> float:
        """Give the time of the next one; infinity where there is none, or the clock stands still."""
        heap = self._heap
        while heap and heap[0][2].met:
            heapq.heappop(heap)
            self._met -= 1
        return self.outer(heap[0][0]) if heap else math.inf

    def outer(self, local: float) -> float:
        """Give the caller's time for a *local* one; infinity while the clock stands still."""
        return local + self._stood_still if self._paused_at is None else math.inf

    def pop_due(self, now: float) -> Obligation | None:
        """Take the next one that is due out, if there is one."""
        if self.next() > now:
            return None
        obligation = heapq.heappop(self._heap)[2]
        obligation.met = True  # it is no longer in the heap
        return obligation

    def clear(self) -> None:
        """Forget everything that is due."""
        self._heap.clear()
        self._met = 0
