"""trio-websocket: with its defaults, or with the arguments of its own that make it faster.

Its defaults are to read 4 KiB at a time and to queue one message. Tuned, it reads as much as trio
sees fit, and queues a thousand.
"""

import json
from contextlib import AbstractAsyncContextManager
from typing import Any

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, open_websocket_url

from .job import Job
from .on_trio import call_all, hold_all


def _open(job: Job) -> AbstractAsyncContextManager[WebSocketConnection]:
    if job.tuned:
        return open_websocket_url(
            job.uri, job.ssl_context, message_queue_size=1000, receive_buffer_size=None
        )
    return open_websocket_url(job.uri, job.ssl_context)


async def receive(job: Job) -> int:
    heard = 0
    async with _open(job) as websocket:
        with job.watch:
            await websocket.send_message("go")
            try:
                while True:
                    await websocket.get_message()
                    heard += 1
            except ConnectionClosed:
                pass
    return heard


async def ping_pong(job: Job) -> int:
    messages, heard = job.messages(), 0
    async with _open(job) as websocket:
        with job.watch:
            for message in messages:
                await websocket.send_message(message)
                heard += await websocket.get_message() == message
    return heard


async def callers(job: Job) -> int:
    messages, waiting = job.messages(), dict[int, trio.Event]()
    async with _open(job) as websocket:

        async def send(number: int) -> None:
            await websocket.send_message(messages[number])

        async def dispatch() -> None:
            while True:
                waiting.pop(int(await websocket.get_message())).set()

        return await call_all(job, waiting, send, dispatch)


async def send(job: Job) -> int:
    messages = job.messages()
    async with _open(job) as websocket:
        with job.watch:
            for message in messages:
                await websocket.send_message(message)
            await websocket.send_message("?")
            counted = await websocket.get_message()
    return int(counted)


async def idle(job: Job) -> int:
    async def hold_one(*, task_status: trio.TaskStatus[None]) -> None:
        async with _open(job) as websocket:
            task_status.started()
            await websocket.get_message()

    return await hold_all(job, hold_one)


async def connect(job: Job) -> int:
    with job.watch:
        for _ in range(job.count):
            async with _open(job):
                pass
    return job.count


async def client(job: Job) -> int:
    """Do what one writes by hand: the standard library's json, and a memory channel."""
    heard = -1  # the reply to the join is no message
    async with trio.open_nursery() as nursery:
        into, channel = trio.open_memory_channel[Any](4096)

        async def read() -> None:
            async with _open(job) as websocket:
                await websocket.send_message('["1","1","bench:1","phx_join",{}]')
                while True:
                    await into.send(json.loads(await websocket.get_message()))

        nursery.start_soon(read)
        with job.watch:
            async for _, _, _, event, _ in channel:
                if event == "done":
                    break
                heard += 1
        nursery.cancel_scope.cancel()
    return heard
