"""For tests of processes: waiting for ends, a process that writes down what it gets, leaks.

Works with ``slipstream.otp`` alone, without a client.
"""

from collections.abc import Callable
from typing import Any

import trio

from slipstream.otp import Caller, GenServer, NoReply, Reply, ServerRef
from slipstream.reasons import ExitReason

from ._leaks import check_leaks
from ._patterns import describe, differences
from ._time import advance, settle

__all__ = [
    "Recorder",
    "advance",
    "assert_exits",
    "check_leaks",
    "live_tasks",
    "settle",
    "wait_until",
]

__tracebackhide__ = True  # pytest shows the line of the test


async def wait_until(what: ServerRef | Callable[[], bool], *, within: float = 5.0) -> None:
    """Wait until the process of a reference lives, or a predicate holds.

    A predicate is looked at again whenever everything has happened that can happen now, and time
    passes. Safe to cancel.

    Raises:
        AssertionError: if that is not so *within* seconds of trio's clock.
    """
    deadline = trio.current_time() + within
    pause = 0.001
    while True:
        await settle()
        if what.alive if isinstance(what, ServerRef) else what():
            return
        if trio.current_time() >= deadline:
            shown = f"{what} lives" if isinstance(what, ServerRef) else describe(what)
            raise AssertionError(f"expected within {within:g} s: {shown}")
        with trio.CancelScope(deadline=deadline):
            await trio.sleep(pause)
        pause = min(2 * pause, 1.0)


async def assert_exits(ref: ServerRef, reason: Any, *, within: float = 5.0) -> ExitReason:
    """Assert that the process that *ref* leads to now ends, and for *reason*, and give it.

    *reason* is a value to equal, a type, or a predicate. Safe to cancel.

    Raises:
        AssertionError: if it does not end *within* seconds, or for another reason.
    """
    found = None
    with trio.move_on_after(within):
        found = await ref.wait()
    if found is None:
        raise AssertionError(f"expected {ref} to end within {within:g} s: {describe(reason)}")
    wrong = differences(reason, found, "reason")
    if wrong:
        raise AssertionError(f"{ref} ended, but {wrong[0]}")
    return found


class Recorder(GenServer):
    """Writes down what it gets, and answers each call with its request.

    Its argument is the list to write to: ``("cast", message)``, ``("info", message)``,
    ``("call", request)`` and ``("terminate", reason)``.
    """

    async def init(self, diary: list[tuple[str, Any]] | None = None) -> None:
        """Begin to write."""
        self.diary: list[tuple[str, Any]] = [] if diary is None else diary

    async def handle_call(self, request: Any, caller: Caller, /) -> Reply:
        """Write down, and answer."""
        self.diary.append(("call", request))
        return Reply(request)

    async def handle_cast(self, message: Any, /) -> NoReply:
        """Write down."""
        self.diary.append(("cast", message))
        return NoReply()

    async def handle_info(self, message: Any, /) -> NoReply:
        """Write down."""
        self.diary.append(("info", message))
        return NoReply()

    async def terminate(self, reason: ExitReason, /) -> None:
        """Write down."""
        self.diary.append(("terminate", reason))


def live_tasks() -> list[str]:
    """Name every task of this trio run, sorted."""
    root = trio.lowlevel.current_root_task()
    found: list[str] = []
    todo = [root] if root is not None else []
    while todo:
        task = todo.pop()
        found.append(task.name)
        for nursery in task.child_nurseries:
            todo.extend(nursery.child_tasks)
    return sorted(found)
