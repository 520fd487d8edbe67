"""What is measured of processes, and what of bare trio beside it; each gives CPU seconds or bytes.

Nothing here waits for anything outside, so on a machine at rest CPU time is the time it takes.
"""

import time
from collections import deque

import trio

from slipstream.otp import (
    Caller,
    ChildSpec,
    GenServer,
    NoReply,
    Reply,
    open_server,
    open_supervisor,
)
from tests.benchmarks.clients.job import Stopwatch
from tests.benchmarks.comparing import Job

__all__ = ["JOBS"]


class Idle(GenServer):
    """Does nothing at all."""


class Echo(GenServer):
    """Answers with what it is asked."""

    async def handle_call(self, request: object, _: Caller) -> Reply:
        return Reply(request)

    async def handle_cast(self, _: object) -> NoReply:
        return NoReply()


def _children(count: int) -> list[ChildSpec]:
    return [Idle.child_spec(id=number) for number in range(count)]


async def _start_ours(count: int) -> Stopwatch:
    specs = _children(count)
    watch = Stopwatch()
    watch.__enter__()
    async with open_supervisor(specs):
        watch.__exit__(None, None, None)
    return watch


async def _start_bare(count: int) -> Stopwatch:
    events: list[trio.Event] = []

    async def wait(event: trio.Event, started: trio.Event | None) -> None:
        if started is not None:
            started.set()
        await event.wait()

    watch = Stopwatch()
    started = trio.Event()
    async with trio.open_nursery() as nursery:
        with watch:
            for number in range(count):
                events.append(trio.Event())
                nursery.start_soon(wait, events[-1], started if number == count - 1 else None)
            await started.wait()
            await trio.lowlevel.checkpoint()  # the last of that batch
        for event in events:
            event.set()
    return watch


async def start_ours(count: int) -> float:
    """Start processes under one supervisor."""
    return (await _start_ours(count)).cpu_seconds / count


async def start_bare(count: int) -> float:
    """Start tasks that wait for an event each."""
    return (await _start_bare(count)).cpu_seconds / count


async def memory_ours(count: int) -> float:
    """Keep processes under one supervisor."""
    return (await _start_ours(count)).resident_bytes / count


async def cast_ours(count: int) -> float:
    """Cast to a process that has other things to do."""
    async with open_server(Echo) as echo:
        with Stopwatch() as watch:
            for number in range(count):
                echo.cast(number)
    return watch.cpu_seconds / count


async def cast_bare(count: int) -> float:
    """Append to a queue, and set an event."""
    queue: deque[int] = deque()
    event = trio.Event()
    with Stopwatch() as watch:
        for number in range(count):
            queue.append(number)
            event.set()
    return watch.cpu_seconds / count


async def call_ours(count: int) -> float:
    """Call a process, and wait for its answer."""
    async with open_server(Echo) as echo:
        with Stopwatch() as watch:
            for number in range(count):
                await echo.call(number)
    return watch.cpu_seconds / count


async def call_bare(count: int) -> float:
    """Switch to another task and back, by an event each."""
    asked, answered = trio.Event(), trio.Event()

    async def answer() -> None:
        nonlocal asked
        for _ in range(count):
            await asked.wait()
            asked = trio.Event()
            answered.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        await trio.lowlevel.checkpoint()
        with Stopwatch() as watch:
            for _ in range(count):
                asked.set()
                await answered.wait()
                answered = trio.Event()
    return watch.cpu_seconds / count


async def restart_one(count: int) -> float:
    """Restart one of so many children, again and again."""
    times = 200
    async with open_supervisor(_children(count), max_restarts=times) as supervisor:
        with Stopwatch() as watch:
            for _ in range(times):
                ref = supervisor.child(0).pin()
                await ref.stop()
                while not supervisor.child(0).alive:
                    await trio.lowlevel.checkpoint()
    return watch.cpu_seconds / times


async def which_children(count: int) -> float:
    """List so many children; the time for each."""
    async with open_supervisor(_children(count)) as supervisor:
        with Stopwatch() as watch:
            supervisor.which_children()
    return watch.cpu_seconds / count


async def stop_all(count: int) -> float:
    """Stop so many children; the time for each."""
    async with open_supervisor(_children(count)):
        started = time.process_time()
    return (time.process_time() - started) / count


JOBS: dict[str, Job] = {
    job.__name__: job
    for job in (
        start_ours,
        start_bare,
        memory_ours,
        cast_ours,
        cast_bare,
        call_ours,
        call_bare,
        restart_one,
        which_children,
        stop_all,
    )
}
