"""Streams of tasks: one function over many items, so many at a time."""

import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Generic, Literal, Protocol, Self, TypeAlias, TypeVar, cast

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from slipstream.errors import AwaitTimeoutError, ConfigError, DeadlockError, WrongTaskError
from slipstream.reasons import SHUTDOWN, Crashed, ExitReason

from ._calls import gone_error, settle_deadline
from ._results import UNSET, check_duration
from ._shell import Shell
from ._task import Work
from ._waits import Cell, Signal, blocked_on, enclosing, is_deadlock, wait_for

__all__ = ["OnTimeout", "TaskResult", "TaskStream"]

T = TypeVar("T")

OnTimeout: TypeAlias = Literal["exit", "kill_task"]


@attrs.frozen
class TaskResult(Generic[T]):
    """What has become of one item of a stream.

    Attributes:
        item: the item.
        reason: how its task ended; ``NORMAL`` where there is a value.
    """

    item: Any
    reason: ExitReason
    _value: Any = UNSET

    @property
    def ok(self) -> bool:
        """Whether there is a value."""
        return self._value is not UNSET

    @property
    def value(self) -> T:
        """What the function returned.

        Raises:
            ServerGoneError: if the task failed; the cause is its exception, if it was one.
        """
        if self._value is UNSET:
            raise gone_error(f"the task of {self.item!r}", self.reason)
        return cast("T", self._value)


class Spawn(Protocol):
    """Starts a task for a stream."""

    async def __call__(self, work: Work) -> object:
        """Start *work*."""
        ...


class _Running(Cell):
    """A task of a stream; woken when it has ended."""

    __slots__ = ("due", "item", "late", "stream", "work")

    def __init__(self, stream: "TaskStream[Any]", item: Any, work: Work, due: float) -> None:
        self.stream = stream
        self.item = item
        self.work = work
        self.due = due
        self.late: AwaitTimeoutError | None = None
        self.done = False
        self.halt = None

    @property
    def process(self) -> Shell:
        return cast("Shell", self.work.process)

    def wake(self) -> None:
        self.done = True
        self.stream.note(self)

    def result(self) -> TaskResult[Any]:
        if self.late is not None:
            return TaskResult(self.item, Crashed(self.late))
        return TaskResult(self.item, self.process.last_reason(), self.work.value)


class TaskStream(Generic[T]):
    """The results of one function over many items: a block, and an iterator inside it.

    Leaving the block stops the tasks that still run, and waits for them. To cancel the iterator
    in the middle is no way to go on: an item that was just being started is lost.
    """

    def __init__(
        self,
        spawn: Spawn,
        function: Callable[[Any], Awaitable[T]],
        items: Iterable[Any],
        *,
        max_concurrency: int,
        ordered: bool,
        timeout: float | None,
        on_timeout: OnTimeout,
    ) -> None:
        if isinstance(max_concurrency, bool) or max_concurrency < 1:
            raise ConfigError(
                f"max_concurrency={max_concurrency!r} is wrong: it takes an integer of 1 or more"
            )
        if timeout is not None:
            accepted = "seconds as a number of 0 or more, or None for no limit"
            check_duration("timeout", timeout, accepted=accepted)
        if on_timeout not in {"exit", "kill_task"}:
            raise ConfigError(f"on_timeout={on_timeout!r} is wrong: it takes 'exit' or 'kill_task'")
        self._spawn = spawn
        self._function = function
        self._items: Iterator[Any] = iter(items)
        self._max = max_concurrency
        self._ordered = ordered
        self._timeout = timeout
        self._kills = on_timeout == "kill_task"
        self._is_open = False
        self._is_over = False
        self._running: dict[_Running, None] = {}
        # What comes next: in the order of the items, done or not; else those that are done.
        self._ready: deque[_Running] = deque()
        self._change = Signal()

    async def __aenter__(self) -> Self:
        await trio.lowlevel.checkpoint()
        self._is_open = True
        return self

    @enable_ki_protection
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_open = False
        for task in list(self._running):
            task.process.shut_down(SHUTDOWN, "asked")
        with trio.CancelScope(shield=True):
            for task in list(self._running):
                await wait_for(task.process.done, timers=task.process.timers, host=None)
            await trio.lowlevel.checkpoint()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> TaskResult[T]:
        if not self._is_open:
            raise WrongTaskError("a stream is iterated inside of its own `async with` block")
        await trio.lowlevel.checkpoint()
        while True:
            await self._fill()
            if self._ready and self._ready[0].done:
                return self._ready.popleft().result()
            if not self._running:
                raise StopAsyncIteration
            await self._wait()

    async def _fill(self) -> None:
        while len(self._running) < self._max and not self._is_over:
            try:
                item = next(self._items)
            except StopIteration:
                self._is_over = True
                return
            work = Work(self._function, (item,))
            await self._spawn(work)
            task = _Running(self, item, work, settle_deadline(self._timeout))
            self._running[task] = None
            if self._ordered:
                self._ready.append(task)
            if task.process.done.fired:
                task.wake()
            else:
                task.process.done.remember(task)

    async def _wait(self) -> None:
        """Wait until a task has ended, or one is late."""
        host, in_callback = enclosing()
        blocked = host if in_callback else None
        running = list(self._running)
        self._change = Signal()
        # The time-out is the same for all: the first that is not late yet is the next to be.
        due = next((task.due for task in running if task.late is None), math.inf)
        for task in running:
            if is_deadlock(task.process, host, in_callback=in_callback):
                raise DeadlockError(
                    f"the task {task.work!r} could never end: it waits for the caller"
                )
        with ExitStack() as stack:
            for task in running:
                stack.enter_context(blocked_on(blocked, task.process))
            in_time = await wait_for(
                self._change, timers=running[0].process.timers, host=host, deadline=due
            )
        if not in_time:
            self._be_late(trio.current_time())

    def _be_late(self, now: float) -> None:
        for task in list(self._running):
            if task.late is None and task.due <= now:
                late = AwaitTimeoutError(f"the result of {task.work!r}", self._timeout or 0.0)
                if not self._kills:
                    raise late
                task.late = late
                task.process.kill("failed")

    @enable_ki_protection
    def note(self, task: _Running) -> None:
        """Take note that *task* has ended."""
        self._running.pop(task, None)
        if not self._ordered:
            self._ready.append(task)
        self._change.fire()
