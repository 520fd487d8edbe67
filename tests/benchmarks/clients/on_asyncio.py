"""What the clients on asyncio share: many callers."""

import asyncio
from collections.abc import Awaitable, Callable

from .job import CALLERS, Job

__all__ = ["call_all"]


async def call_all(
    job: Job,
    waiting: dict[int, asyncio.Future[None]],
    send: Callable[[int], Awaitable[None]],
) -> int:
    """Call from many tasks; somebody sets the futures in *waiting* as their echoes arrive."""
    answered = 0
    loop = asyncio.get_running_loop()

    async def call(first: int) -> None:
        nonlocal answered
        for number in range(first, job.count, CALLERS):
            future = waiting[number] = loop.create_future()
            await send(number)
            await future
            answered += 1

    with job.watch:
        await asyncio.gather(*map(call, range(CALLERS)))
    return answered
