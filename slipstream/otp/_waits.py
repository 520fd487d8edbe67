"""Waits that being stopped interrupts.

Every wait of this library inside a process raises ``Exit`` at once when that process is being
stopped. Inside means: in its callback, or in any task below it in trio's task tree.
"""

import math
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final, Protocol

import trio
from trio.lowlevel import Abort, RaiseCancelT, Task, enable_ki_protection

from slipstream.errors import WrongTaskError
from slipstream.reasons import ExitReason

from ._results import Exit
from ._timers import Timers

__all__ = [
    "FIRED",
    "OWNERS",
    "Cell",
    "Edge",
    "Host",
    "Signal",
    "blocked_on",
    "check_task",
    "current_process",
    "enclosing",
    "is_deadlock",
    "leads_to",
    "wait_event",
    "wait_for",
]


class Cell:
    """One task that waits, for whichever of several things comes first."""

    __slots__ = ("done", "halt", "task")

    def __init__(self, task: Task) -> None:
        self.task = task
        self.done = False
        self.halt: ExitReason | None = None

    @enable_ki_protection
    def wake(self) -> None:
        """Let the task go on. The first to wake it wins; the others do nothing."""
        if not self.done:
            self.done = True
            trio.lowlevel.reschedule(self.task)

    def abort(self, _: RaiseCancelT) -> Abort:
        """Agree to be cancelled."""
        self.done = True
        return Abort.SUCCEEDED


class _ScopeCell(Cell):
    """A task that waits for something of trio's, in a scope of its own."""

    __slots__ = ("scope",)

    def __init__(self, scope: trio.CancelScope) -> None:
        self.scope = scope
        self.done = False
        self.halt = None

    def wake(self) -> None:
        self.scope.cancel()


class Signal:
    """Something that happens once, which any number of tasks may wait for."""

    __slots__ = ("cells", "fired")

    def __init__(self) -> None:
        self.fired = False
        self.cells: list[Cell] | None = None

    def remember(self, cell: Cell) -> None:
        """Wake *cell* when it happens."""
        if self.cells is None:
            self.cells = [cell]
        else:
            self.cells.append(cell)

    def forget(self, cell: Cell) -> None:
        """Do not wake *cell* any more."""
        if self.cells is not None:
            self.cells.remove(cell)

    @enable_ki_protection
    def fire(self) -> None:
        """Say that it has happened."""
        if not self.fired:
            self.fired = True
            if self.cells is not None:
                for cell in self.cells:
                    cell.wake()
                self.cells = None


FIRED: Final = Signal()
"""Something that has happened."""
FIRED.fire()


class Edge(Protocol):
    """That a process cannot go on before another one has done something."""

    @property
    def server(self) -> "Host":
        """The process that has to do it."""
        ...

    @property
    def binding(self) -> bool:
        """Whether only that process can do it."""
        ...


class ProcessEdge:
    """That a process has to start or to end first, which nobody can do for it."""

    __slots__ = ("server", "until")

    def __init__(self, server: "Host", until: Signal | None) -> None:
        self.server = server
        self.until = until

    @property
    def binding(self) -> bool:
        return self.until is None or not self.until.fired


@contextmanager
def blocked_on(
    host: "Host | None", process: "Host", until: Signal | None = None
) -> Generator[None]:
    """Note, as long as the block lasts, that *host*'s callback waits for *process*.

    It does no longer once *until* has fired, though it may take a moment to go on.
    """
    if host is None:
        yield
        return
    edge = ProcessEdge(process, until)
    host.edges[edge] = None
    try:
        yield
    finally:
        del host.edges[edge]


class Host:
    """What the waits inside a process know of it.

    Attributes:
        halt: why they must raise ``Exit``, once they must.
        cells: the tasks that wait inside it now.
        edges: whom its callback waits for.
        task: its own task, which runs its callbacks.
        timers: the timers of its trio run.
    """

    __slots__ = ("cells", "edges", "halt", "task", "timers")

    def __init__(self, timers: Timers) -> None:
        self.timers = timers
        self.halt: ExitReason | None = None
        # Empty dicts: the garbage collector need not visit them, and they are small.
        self.cells: dict[Cell, None] = {}
        self.edges: dict[Edge, None] = {}
        self.task: Task | None = None

    @enable_ki_protection
    def interrupt_waits(self, reason: ExitReason) -> None:
        """Have every wait inside raise ``Exit(reason)``, those to come included."""
        self.halt = reason
        for cell in list(self.cells):
            cell.halt = reason  # kept here: terminate, where waits work again, may come first
            cell.wake()


OWNERS: dict[Task, Host] = {}
"""The process of each task that is a process's own, or one of its helpers'."""


def check_task() -> Task:
    """Give the current task.

    Raises:
        WrongTaskError: outside of trio.
    """
    try:
        return trio.lowlevel.current_task()
    except RuntimeError:
        raise WrongTaskError(
            "processes are used from trio's own thread: from another one, go through "
            "trio.from_thread.run or run_sync"
        ) from None


def enclosing() -> tuple[Host | None, bool]:
    """Give the innermost process round the current task, and whether its callback waits for it.

    A helper started with ``start_soon`` is inside its process, but no callback waits for it.
    """
    task: Task | None = check_task()
    while task is not None:
        host = OWNERS.get(task)
        if host is not None:
            return host, task is host.task
        nursery = task.parent_nursery
        task = nursery.parent_task if nursery is not None else None
    return None, False


def current_process() -> Host | None:
    """Give the innermost process round the current task, or ``None`` outside of processes."""
    return enclosing()[0]


def leads_to(start: Host, goal: Host) -> bool:
    """Tell whether *start* waits, directly or not, for *goal*."""
    seen: set[int] = set()
    todo = [start]
    while todo:
        host = todo.pop()
        if host is goal:
            return True
        if id(host) not in seen:
            seen.add(id(host))
            todo.extend(edge.server for edge in host.edges if edge.binding)
    return False


def is_deadlock(process: Host, host: Host | None, *, in_callback: bool) -> bool:
    """Tell whether *host*'s callback must not wait for *process*, which waits for that callback.

    One that is being stopped may: its wait ends at once.
    """
    return host is not None and in_callback and host.halt is None and leads_to(process, host)


@enable_ki_protection
async def wait_for(
    signal: Signal,
    *,
    timers: Timers,
    host: Host | None,
    deadline: float = math.inf,
) -> bool:
    """Wait for *signal* or the *deadline*; tell whether the signal came. Always a checkpoint.

    The signal beats the deadline, and both beat being stopped.

    Raises:
        Exit: at once, if *host*, the process that this wait is inside of, is being stopped.
    """
    halt = None if host is None else host.halt
    if signal.fired or halt is not None:
        await trio.lowlevel.checkpoint()
    elif deadline != math.inf and deadline <= trio.current_time():
        await trio.lowlevel.checkpoint()
        return signal.fired
    else:
        cell = Cell(trio.lowlevel.current_task())
        alarm = None if deadline == math.inf else timers.at(deadline, cell.wake)
        signal.remember(cell)
        if host is not None:
            host.cells[cell] = None
        try:
            await trio.lowlevel.wait_task_rescheduled(cell.abort)
        finally:
            cell.done = True
            if alarm is not None:
                alarm.cancel()
            if host is not None:
                host.cells.pop(cell, None)
            signal.forget(cell)
        halt = cell.halt
    if signal.fired:
        return True
    if halt is not None:
        raise Exit(halt)
    return False


async def wait_event(event: trio.Event, *, deadline: float = math.inf) -> bool:
    """Wait for *event* or the *deadline*; tell whether the event is set. Always a checkpoint.

    Safe to cancel.

    Raises:
        Exit: at once, if the process round the current task is being stopped.
    """
    host = current_process()
    halt = None if host is None else host.halt
    if halt is not None and not event.is_set():
        await trio.lowlevel.checkpoint()
        raise Exit(halt)
    scope = trio.CancelScope(deadline=deadline)
    cell = _ScopeCell(scope)
    with scope:
        if host is not None:
            host.cells[cell] = None
        try:
            await event.wait()
        finally:
            if host is not None:
                host.cells.pop(cell, None)
    if event.is_set():
        return True
    if cell.halt is not None:
        raise Exit(cell.halt)
    return False
