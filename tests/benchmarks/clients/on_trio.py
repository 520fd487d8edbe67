"""What the clients on trio share: many callers, and many idle connections."""

from collections.abc import Awaitable, Callable
from typing import Protocol

import trio

from .job import CALLERS, WARM_CONNECTIONS, Job

__all__ = ["HoldOne", "call_all", "hold_all"]


class HoldOne(Protocol):
    """Opens a connection, tells that it has, and waits for what never comes."""

    async def __call__(self, *, task_status: trio.TaskStatus[None]) -> None: ...


async def call_all(
    job: Job,
    waiting: dict[int, trio.Event],
    send: Callable[[int], Awaitable[None]],
    dispatch: Callable[[], Awaitable[None]],
) -> int:
    """Call from many tasks; *dispatch* sets the events in *waiting* as their echoes arrive."""
    answered = 0

    async def call(first: int) -> None:
        nonlocal answered
        for number in range(first, job.count, CALLERS):
            event = waiting[number] = trio.Event()
            await send(number)
            await event.wait()
            answered += 1

    with job.watch:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(dispatch)
            async with trio.open_nursery() as callers:
                for first in range(CALLERS):
                    callers.start_soon(call, first)
            nursery.cancel_scope.cancel()
    return answered


async def hold_all(job: Job, hold_one: HoldOne) -> int:
    """Open connections, each in a task that waits for a message; measure all but the first few."""
    async with trio.open_nursery() as nursery:
        for _ in range(WARM_CONNECTIONS):
            await nursery.start(hold_one)
        with job.watch:
            for _ in range(job.count):
                await nursery.start(hold_one)
        held = len(nursery.child_tasks) - WARM_CONNECTIONS
        nursery.cancel_scope.cancel()
    return held
