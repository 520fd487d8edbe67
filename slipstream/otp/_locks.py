"""The locks of a registry: one a key, given in the order in which they were asked for."""

from collections import deque
from collections.abc import Callable, Hashable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any

import trio
from trio.lowlevel import Task, enable_ki_protection

from slipstream.errors import DeadlockError, ServerGoneError

from ._keys import tagged
from ._timers import Timers
from ._waits import Signal, check_task, enclosing, wait_for

__all__ = ["Lock", "Locks", "Turn"]


class Turn:
    """A task's place in the queue of a lock; the first in it has the lock.

    Attributes:
        comes: fires when it is the first, or when there is nothing left to wait for.
        void: whether the registry has ended before.
    """

    __slots__ = ("comes", "task", "void")

    def __init__(self, task: Task) -> None:
        self.task = task
        self.comes = Signal()
        self.void = False


class Locks:
    """The queues of all keys that somebody has the lock of."""

    __slots__ = ("_queues", "timers")

    def __init__(self, timers: Timers) -> None:
        self.timers = timers
        self._queues: dict[Hashable, deque[Turn]] = {}

    def __len__(self) -> int:
        return len(self._queues)

    @enable_ki_protection
    def join(self, key: Any, task: Task) -> Turn:
        """Queue *task* for the lock of *key*.

        Raises:
            DeadlockError: if it has that lock.
        """
        queue = self._queues.setdefault(tagged(key), deque())
        if queue and queue[0].task is task:
            raise DeadlockError(f"the task has the lock of {key!r}: it would wait for itself")
        turn = Turn(task)
        queue.append(turn)
        queue[0].comes.fire()
        return turn

    @enable_ki_protection
    def leave(self, key: Any, turn: Turn) -> None:
        """Give the lock of *key* back, or give the wait for it up."""
        if turn.void:
            return
        queue = self._queues[tagged(key)]
        queue.remove(turn)
        if queue:
            queue[0].comes.fire()
        else:
            del self._queues[tagged(key)]

    @enable_ki_protection
    def close(self) -> None:
        """Have whoever waits go away; whoever has a lock is left in peace."""
        for queue in self._queues.values():
            for turn in queue:
                turn.void = True
                turn.comes.fire()
        self._queues.clear()


class Lock(AbstractAsyncContextManager[None]):
    """The lock of one key; see ``RegistryRef.lock``."""

    __slots__ = ("_find", "_gone", "_key", "_turns")

    def __init__(
        self, key: Any, find: Callable[[], Locks], gone: Callable[[], ServerGoneError]
    ) -> None:
        self._key = key
        self._find = find
        self._gone = gone
        self._turns: dict[Task, tuple[Locks, Turn]] = {}

    def _join(self, task: Task) -> tuple[Locks, Turn] | ServerGoneError | DeadlockError:
        try:
            locks = self._find()
            return locks, locks.join(self._key, task)
        except (ServerGoneError, DeadlockError) as error:
            return error

    # A class, and protected: Ctrl-C between taking the lock and the block would leave it taken.
    @enable_ki_protection
    async def __aenter__(self) -> None:
        task = check_task()
        joined = self._join(task)
        if isinstance(joined, Exception):
            await trio.lowlevel.checkpoint()
            raise joined
        locks, turn = joined
        try:
            await wait_for(turn.comes, timers=locks.timers, host=enclosing()[0])
        except BaseException:
            locks.leave(self._key, turn)
            raise
        if turn.void:
            raise self._gone()
        self._turns[task] = locks, turn

    @enable_ki_protection
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        locks, turn = self._turns.pop(trio.lowlevel.current_task())
        locks.leave(self._key, turn)
