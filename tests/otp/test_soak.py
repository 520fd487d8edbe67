"""Ten thousand crashes: nothing grows."""

import gc
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trio

from slipstream.errors import ServerGoneError
from slipstream.otp import Caller, GenServer, Reply, open_supervisor
from slipstream.reasons import Crashed, ExitReason
from tests.otp.support import Boom, virtual

CRASHES = 10_000
WARM = 500
"""Crashes after which whatever is made only once has been made."""
SLACK = 3_000
"""Blocks of memory more that may be in use by then: trio forgets past deadlines by the thousand, so
their number is a saw. A single block a crash would come to three times as many."""


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Twenty thousand reports would only be in the way."""
    logger = logging.getLogger("slipstream")
    logger.disabled = True
    yield
    logger.disabled = False


def chain(error: BaseException) -> tuple[int, int]:
    """Measure *error*: how many frames its traceback has, and how many errors hang on it."""
    frames, errors = 0, 0
    seen = {id(error)}
    todo: list[BaseException | None] = [error.__cause__, error.__context__]
    while todo:
        linked = todo.pop()
        if linked is not None and id(linked) not in seen:
            seen.add(id(linked))
            errors += 1
            todo += [linked.__cause__, linked.__context__]
    traceback = error.__traceback__
    while traceback is not None:
        frames += 1
        traceback = traceback.tb_next
    return frames, errors


class Fragile(GenServer):
    """Starts as it is told, and does what it is asked."""

    async def init(self, start: Callable[[], None]) -> None:
        start()

    async def handle_call(self, request: Callable[[], Any], caller: Caller) -> Reply:
        return Reply(request())


@virtual
async def test_ten_thousand_crashes_leave_memory_and_tracebacks_as_they_were() -> None:
    """TRI-099: of a process in a group, with a caller each time, whose restart fails now and then."""
    told: set[tuple[int, int]] = set()
    caught: set[tuple[int, int]] = set()
    starts = 0

    def start() -> None:
        nonlocal starts
        starts += 1
        if starts % 10 == 0:
            raise Boom("start")

    def fail() -> None:
        raise Boom("crash")

    def backoff(reason: ExitReason, _: int) -> None:
        assert isinstance(reason, Crashed)
        if reason.exception.args == ("crash",):
            told.add(chain(reason.exception))

    a = Fragile.child_spec(start, id="a", name="a", backoff=backoff)
    b = Fragile.child_spec(lambda: None, id="b", name="b")
    async with open_supervisor(
        [a, b], strategy="one_for_all", max_restarts=CRASHES, max_seconds=1.0
    ) as supervisor:
        ref = supervisor.child("a")

        async def crash_often(times: int) -> int:
            for _ in range(times):
                try:
                    await ref.call(fail)
                except ServerGoneError as gone:
                    caught.add(chain(gone))
                # So that the window of restarts, too, comes to its full length and no further.
                await trio.sleep(1 / WARM)
            gc.collect()
            return sys.getallocatedblocks()

        before = await crash_often(WARM)
        after = await crash_often(CRASHES - WARM)
        assert after - before <= SLACK, (before, after)
        assert starts > CRASHES
        assert await ref.call(lambda: starts) == starts
        assert len(told) == 1
        assert len(caught) == 1
