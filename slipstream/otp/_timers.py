"""One heap of deadlines a trio run, and one task that serves it.

A deadline that is a cancel scope of its own costs thirty times an entry in a heap. Everything that
happens later goes through here: time-outs of calls, messages sent after a while, idle time-outs,
delayed restarts. What happens is a synchronous function that must not raise.
"""

import heapq
import itertools
import math
from collections.abc import Callable
from typing import Final

import trio
from trio.lowlevel import enable_ki_protection

__all__ = ["Alarm", "Timers"]

_COMPACT_ABOVE: Final = 64


class Alarm:
    """Something that will happen at *deadline*, unless it is cancelled before."""

    __slots__ = ("action", "deadline", "timers")

    def __init__(self, timers: "Timers", deadline: float, action: Callable[[], None]) -> None:
        self.timers = timers
        self.deadline = deadline
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        """Have it not happen. Does nothing if it happened, or was cancelled, before."""
        if self.action is not None:
            self.action = None
            self.timers.forget(self)


class Timers:
    """The alarms of one trio run. Lives as long as somebody has :meth:`acquire`-d it."""

    __slots__ = ("_dead", "_done", "_heap", "_order", "_scope", "_users", "clock")

    def __init__(self) -> None:
        # The clock itself: to ask trio for the time costs twice as much, which loops notice.
        self.clock = trio.lowlevel.current_clock().current_time
        self._heap: list[tuple[float, int, Alarm]] = []
        self._order = itertools.count()
        self._dead = 0
        self._users = 0
        self._scope: trio.CancelScope | None = None
        self._done: trio.Event | None = None

    @staticmethod
    def acquire() -> "Timers":
        """Give the timers of this trio run; each user owes them a :meth:`release`."""
        try:
            timers = _current.get()
        except LookupError:
            timers = None
        if timers is None:
            timers = Timers()
            _current.set(timers)
        timers._users += 1
        if timers._done is None:
            timers._done = trio.Event()
            trio.lowlevel.spawn_system_task(
                timers._serve, timers._done, name="slipstream.otp timers"
            )
        return timers

    async def release(self) -> None:
        """Give them back; the last user waits for their task to end."""
        self._users -= 1
        with trio.CancelScope(shield=True):
            if self._users == 0:
                _current.set(None)
                self._heap.clear()
                if self._scope is not None:
                    self._scope.cancel()
                if self._done is not None:
                    await self._done.wait()
            else:
                await trio.lowlevel.checkpoint()

    @enable_ki_protection
    def at(self, deadline: float, action: Callable[[], None]) -> Alarm:
        """Have *action* happen at *deadline*, on trio's clock."""
        alarm = Alarm(self, deadline, action)
        if deadline == math.inf:
            return alarm
        heapq.heappush(self._heap, (deadline, next(self._order), alarm))
        if self._scope is not None and deadline < self._scope.deadline:
            self._scope.deadline = deadline
        return alarm

    @enable_ki_protection
    def forget(self, alarm: Alarm) -> None:
        """Make sure that a cancelled *alarm* does not stay for long.

        It may wake the task in vain, once. To move trio's deadline with each call's time-out that
        was not needed would cost as much as the rest of the call's waiting.
        """
        if alarm.deadline == math.inf:
            return
        self._dead += 1
        if self._dead > _COMPACT_ABOVE and self._dead * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].action is not None]
            heapq.heapify(self._heap)
            self._dead = 0

    def _prune(self) -> None:
        heap = self._heap
        while heap and heap[0][2].action is None:
            heapq.heappop(heap)
            self._dead -= 1

    async def _serve(self, done: trio.Event) -> None:
        try:
            while self._users > 0:
                self._prune()
                deadline = self._heap[0][0] if self._heap else math.inf
                with trio.CancelScope(deadline=deadline) as self._scope:
                    await trio.sleep_forever()
                self._scope = None
                self._ring()
        finally:
            done.set()

    def _ring(self) -> None:
        now = trio.current_time()
        while self._heap and self._heap[0][0] <= now:
            _, _, alarm = heapq.heappop(self._heap)
            action, alarm.action = alarm.action, None
            if action is None:
                self._dead -= 1
            else:
                action()


_current: trio.lowlevel.RunVar[Timers | None] = trio.lowlevel.RunVar("slipstream.otp timers", None)
