"""websockets, on asyncio: without compression and keepalive, which the others have not either."""

import asyncio
from contextlib import suppress

from websockets.asyncio.client import ClientConnection, connect as open_connection
from websockets.exceptions import ConnectionClosed

from .job import WARM_CONNECTIONS, Job
from .on_asyncio import call_all


def _open(job: Job) -> open_connection:
    return open_connection(
        job.uri, ssl=job.ssl_context, compression=None, ping_interval=None, proxy=None
    )


async def receive(job: Job) -> int:
    heard = 0
    async with _open(job) as websocket:
        with job.watch:
            await websocket.send("go")
            async for _ in websocket:
                heard += 1
    return heard


async def ping_pong(job: Job) -> int:
    messages, heard = job.messages(), 0
    async with _open(job) as websocket:
        with job.watch:
            for message in messages:
                await websocket.send(message)
                heard += await websocket.recv() == message
    return heard


async def callers(job: Job) -> int:
    messages, waiting = job.messages(), dict[int, asyncio.Future[None]]()
    async with _open(job) as websocket:

        async def send(number: int) -> None:
            await websocket.send(messages[number])

        async def dispatch() -> None:
            async for message in websocket:
                waiting.pop(int(message)).set_result(None)

        dispatcher = asyncio.create_task(dispatch())
        answered = await call_all(job, waiting, send)
        dispatcher.cancel()
    return answered


async def send(job: Job) -> int:
    messages = job.messages()
    async with _open(job) as websocket:
        with job.watch:
            for message in messages:
                await websocket.send(message)
            await websocket.send("?")
            counted = await websocket.recv()
    return int(counted)


async def idle(job: Job) -> int:
    held: list[ClientConnection] = []
    tasks: list[asyncio.Task[None]] = []

    async def wait(websocket: ClientConnection) -> None:
        with suppress(ConnectionClosed):
            await websocket.recv()

    async def hold(count: int) -> None:
        for _ in range(count):
            held.append(await _open(job))
            tasks.append(asyncio.create_task(wait(held[-1])))
        await asyncio.sleep(0)

    await hold(WARM_CONNECTIONS)
    with job.watch:
        await hold(job.count)
    for websocket in held:
        await websocket.close()
    await asyncio.gather(*tasks)
    return len(held) - WARM_CONNECTIONS


async def connect(job: Job) -> int:
    with job.watch:
        for _ in range(job.count):
            async with _open(job):
                pass
    return job.count
