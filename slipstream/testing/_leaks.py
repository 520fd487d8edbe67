"""What is left over: tasks (a process is one, or several) and open sockets."""

import os
import socket
import stat
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import trio

__all__ = [
    "Sockets",
    "all_tasks",
    "check_leaks",
    "describe_sockets",
    "note_tasks",
    "open_sockets",
]

__tracebackhide__ = True  # pytest shows the line of the test

_TURNS: Final = 10
"""How often the scheduler goes round until what is about to end has ended."""

_TIMERS: Final = "slipstream.otp timers"
"""The system task that all processes of a run share; it ends with the last of them."""

_DESCRIPTORS: Final = "/dev/fd"

Sockets = frozenset[tuple[int, int]]
"""The file descriptor and the inode of each socket."""


def open_sockets() -> Sockets:
    """Give the sockets that this program has open; none where the system does not tell."""
    found: set[tuple[int, int]] = set()
    with suppress(OSError):
        for entry in Path(_DESCRIPTORS).iterdir():
            with suppress(OSError):  # that of the listing itself is closed by now
                status = os.fstat(int(entry.name))
                if stat.S_ISSOCK(status.st_mode):
                    found.add((int(entry.name), status.st_ino))
    return frozenset(found)


def describe_sockets(sockets: Sockets) -> list[str]:
    """Say what each of *sockets* is."""
    return [f"socket {fd}, {_addresses(fd)}" for fd, _ in sorted(sockets)]


def _addresses(fd: int) -> str:
    with suppress(OSError), socket.socket(fileno=os.dup(fd)) as same:
        with suppress(OSError):
            return f"from {same.getsockname()} to {same.getpeername()}"
        return f"at {same.getsockname()}"
    return "unknown"


@asynccontextmanager
async def check_leaks() -> AsyncGenerator[None]:
    """Assert that the block leaves nothing behind: no task, and so no process, and no open socket.

    Raises:
        AssertionError: if it does, and nothing else left the block; it names them.
    """
    sockets = open_sockets()
    check = note_tasks()
    yield
    await check(lambda: describe_sockets(open_sockets() - sockets))


def note_tasks() -> Callable[..., Coroutine[Any, Any, None]]:
    """Note which tasks there are, and give what asserts that none was left behind since.

    Left behind is a task in a nursery that this task has opened since, and not closed; or a system
    task. One that was started in another nursery is that nursery's, and no leak.
    """
    tasks = set(all_tasks())
    nurseries = {nursery for task in tasks for nursery in task.child_nurseries}

    async def check(more: Callable[[], list[str]] = list[str]) -> None:
        left: list[str] = []
        for _ in range(_TURNS):
            await trio.lowlevel.checkpoint()
            found = set(all_tasks()) - tasks
            left = sorted(f"task {t.name}" for t in found if _is_left(t, found, nurseries)) + more()
            if not left:
                return
        raise AssertionError("\n  ".join(["left behind:", *left]))

    return check


def _is_left(
    task: trio.lowlevel.Task, found: set[trio.lowlevel.Task], nurseries: set[trio.Nursery]
) -> bool:
    here = list(_ancestors(trio.lowlevel.current_task()))
    while (nursery := task.parent_nursery) is not None and nursery.parent_task in found:
        task = nursery.parent_task
    if nursery is None or task.name == _TIMERS:
        return False
    if nursery in nurseries:
        root, main = here[-1], here[-2].parent_nursery if len(here) > 1 else None
        return nursery.parent_task is root and nursery is not main  # that of the system tasks
    return here[0] in _ancestors(nursery.parent_task)


def all_tasks() -> Iterator[trio.lowlevel.Task]:
    """Give every task of this trio run."""
    root = trio.lowlevel.current_root_task()
    todo = [root] if root is not None else []
    while todo:
        task = todo.pop()
        yield task
        for nursery in task.child_nurseries:
            todo += nursery.child_tasks


def _ancestors(task: trio.lowlevel.Task) -> Iterator[trio.lowlevel.Task]:
    current: trio.lowlevel.Task | None = task
    while current is not None:
        yield current
        current = current.parent_nursery.parent_task if current.parent_nursery else None
