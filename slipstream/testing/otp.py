"""For tests of processes: waiting for ends, a process that writes down what it gets, leaks.

Works with ``slipstream.otp`` alone, without a client; on a virtual clock, with autojump or without,
where waiting costs no time, and but for ``advance`` on a real one.
"""

from collections.abc import Callable
from typing import Any

from slipstream.client import ANY
from slipstream.otp import Caller, GenServer, NoReply, Reply, ServerRef, process_of
from slipstream.reasons import ExitReason

from ._leaks import all_tasks, check_leaks
from ._patterns import describe, differences
from ._time import advance, settle, wait_found

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

    def holds() -> bool:
        return what.alive if isinstance(what, ServerRef) else what()

    if await wait_found(lambda: True if holds() else None, within) is None:
        shown = f"{what} lives" if isinstance(what, ServerRef) else describe(what)
        raise AssertionError(f"expected within {within:g} s: {shown}")


async def assert_exits(ref: ServerRef, reason: Any = ANY, *, within: float = 5.0) -> ExitReason:
    """Assert that the process that *ref* leads to now ends, and for *reason*, and give it.

    *reason* is a pattern. Of a process that has ended before, the last reason counts. Safe to cancel.

    Raises:
        AssertionError: if it does not end *within* seconds, or for another reason.
    """
    process = process_of(ref)
    found = (
        await ref.wait()
        if process is None
        else await wait_found(lambda: process.exit_reason, within)
    )
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
    return sorted(task.name for task in all_tasks())
