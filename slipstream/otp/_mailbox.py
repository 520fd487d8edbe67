"""The mailbox: one queue in arrival order, one task that reads it."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final

import trio
from trio.lowlevel import Abort, RaiseCancelT, Task, enable_ki_protection

from ._calls import Caller
from ._timers import Alarm

__all__ = ["CAST", "STOP_MARK", "Mailbox", "Tick", "Timer", "is_cast"]


class _StopMark:
    """Stands in the queue where a process that drains has to stop."""

    __slots__ = ()


STOP_MARK: Final = _StopMark()


CAST: Final = object()
"""Stands first in a pair whose second is a message for ``handle_cast``.

Of all that could wrap a message, a tuple is made the fastest, and the only one that the garbage
collector does not visit again and again while it lies in a long queue.
"""


def is_cast(item: Any) -> bool:
    """Tell whether *item* is a message for ``handle_cast``."""
    if type(item) is not tuple:
        return False
    pair: tuple[Any, ...] = item  # pyright: ignore[reportUnknownVariableType]  # of what, nobody knows
    return len(pair) == 2 and pair[0] is CAST


class Timer:
    """A message that is sent later, once or again and again, to one incarnation of a process."""

    __slots__ = ("_alarm",)

    def __init__(self, alarm: Alarm | None) -> None:
        self._alarm = alarm

    @property
    def active(self) -> bool:
        """Whether there is still something to come."""
        return self._alarm is not None and self._alarm.action is not None

    def cancel(self) -> bool:
        """Have it not sent (again); tell whether there was still something to come."""
        if self._alarm is None or self._alarm.action is None:
            return False
        self._alarm.cancel()
        return True

    def set_alarm(self, alarm: Alarm) -> None:
        """Go on with *alarm*."""
        self._alarm = alarm


class Tick:
    """A message of a repeating timer; at most one of each lies in the mailbox."""

    __slots__ = ("message", "waiting")

    def __init__(self, message: Any) -> None:
        self.message = message
        self.waiting = False


_CONTROL: Final = (Caller, _StopMark)


def _is_control(item: Any) -> bool:
    return isinstance(item, _CONTROL) or is_cast(item)


class Mailbox:
    """What a process has yet to handle.

    A call lies in it as its :class:`Caller`, a cast as a pair that begins with ``CAST``;
    anything else is a bare message for ``handle_info``.
    """

    __slots__ = ("_parked", "queue", "removals")

    def __init__(self) -> None:
        self.queue: deque[Any] = deque()
        self.removals = 0
        self._parked: Task | None = None

    def __len__(self) -> int:
        return len(self.queue)

    def __iter__(self) -> Iterator[Any]:
        """Go over the messages that wait for ``handle_info``, oldest first."""
        for item in self.queue:
            if not _is_control(item):
                yield item.message if type(item) is Tick else item

    @enable_ki_protection
    def append(self, item: Any) -> None:
        """Put in one item and wake the reader."""
        self.queue.append(item)
        if self._parked is not None:
            self.wake()

    @enable_ki_protection
    def extend(self, items: Iterable[Any]) -> None:
        """Put in a batch of messages for ``handle_info`` and wake the reader once."""
        self.queue.extend(items)
        if self._parked is not None:
            self.wake()

    @enable_ki_protection
    def wake(self) -> None:
        """Have the reader look, if it waits."""
        task, self._parked = self._parked, None
        if task is not None:
            trio.lowlevel.reschedule(task)

    @enable_ki_protection
    async def park(self) -> None:
        """Wait until woken. Only for the process's own task."""
        self._parked = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._abort)

    def _abort(self, _: RaiseCancelT) -> Abort:
        self._parked = None
        return Abort.SUCCEEDED

    def remove(self, matching: Callable[[Any], bool], limit: int | None = None) -> list[Any]:
        """Take out the messages for ``handle_info`` that are *matching*, the oldest *limit* of them."""
        taken: list[Any] = []
        kept: deque[Any] = deque()
        for item in self.queue:
            full = limit is not None and len(taken) >= limit
            if full or _is_control(item) or not matching(_bare(item)):
                kept.append(item)
            else:
                taken.append(_taken(item))
        if taken:
            # In place: the reader holds on to the queue itself.
            self.queue.clear()
            self.queue.extend(kept)
            self.removals += 1
        return taken

    def replace(self, change: Callable[[Any], Any]) -> None:
        """Put what *change* makes of each message for ``handle_info`` into its place."""
        kept = [
            item if type(item) is Tick or _is_control(item) else change(item) for item in self.queue
        ]
        self.queue.clear()
        self.queue.extend(kept)
        self.removals += 1  # who waits for one looks at all of them again

    def take_run(self, matching: Callable[[Any], bool]) -> list[Any]:
        """Take out what lies at the head of the queue, as long as it is *matching*."""
        taken: list[Any] = []
        while self.queue and matching(self.queue[0]):
            taken.append(self.queue.popleft())
        return taken

    def take(self, matching: Callable[[Any], bool], start: int) -> tuple[bool, Any]:
        """Take out the oldest message from place *start* on that is *matching*."""
        new = len(self.queue) - start
        fresh = list(islice(reversed(self.queue), new))
        for back, item in enumerate(reversed(fresh)):
            if not _is_control(item) and matching(_bare(item)):
                del self.queue[start + back]
                return True, _taken(item)
        return False, None


def _bare(item: Any) -> Any:
    return item.message if type(item) is Tick else item


def _taken(item: Any) -> Any:
    if type(item) is Tick:
        item.waiting = False
        return item.message
    return item
