"""Cancel at every step, and count what is left over."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from tests.transport.support import PATIENCE

__all__ = ["cancelled_at_every_step", "counts_descriptors", "descriptors", "tasks_living"]

counts_descriptors = pytest.mark.skipif(
    not Path("/proc/self/fd").is_dir(), reason="counts in /proc"
)


class CancelAtStep(trio.abc.Instrument):
    """Cancels a scope when all tasks together have run *count* steps."""

    def __init__(self, count: int, scope: trio.CancelScope) -> None:
        self._left = count
        self._scope = scope

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self._left -= 1
        if self._left == 0:
            self._scope.cancel()


def tasks_living() -> int:
    return trio.lowlevel.current_statistics().tasks_living


async def cancelled_at_every_step(run: Callable[[], Awaitable[None]], *, most: int) -> int:
    """Run *run*, cancelled at its first step, its second, and so on, until it gets through."""
    raised: set[type[BaseException]] = set()
    for count in range(1, most):
        with trio.fail_after(PATIENCE), trio.CancelScope() as scope:
            instrument = CancelAtStep(count, scope)
            trio.lowlevel.add_instrument(instrument)
            try:
                await run()
            except BaseException as error:
                raised.add(type(error))
                raise
            finally:
                trio.lowlevel.remove_instrument(instrument)
        assert raised <= {trio.Cancelled}  # bare, and nothing else
        if not scope.cancel_called:
            return count
    pytest.fail("it has more steps than the sweep")


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
