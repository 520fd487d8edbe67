"""Slipstream's transport, at its interface; and a whole client of Slipstream's, above it."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import trio

from slipstream import Config, SlipstreamClient, Socket, open_supervisor
from slipstream.errors import DisconnectedError
from slipstream.interfaces import ConnectRequest, Frame, Transport
from slipstream.transport import open_websocket_transport

from .job import BURST, Job
from .on_trio import call_all, hold_all


def _ignore(_tokens: Sequence[Any]) -> None:
    """Nobody asks when a frame was written."""


def _open(job: Job) -> AbstractAsyncContextManager[Transport]:
    request = ConnectRequest(job.uri, ssl_context=job.ssl_context)
    return open_websocket_transport(request, on_written=_ignore)


async def receive(job: Job) -> int:
    heard = 0
    async with _open(job) as transport:
        with job.watch:
            transport.send_nowait(Frame(b"go"))
            try:
                while True:
                    for _ in await transport.receive():
                        heard += 1
            except DisconnectedError:
                pass
    return heard


async def ping_pong(job: Job) -> int:
    messages, heard = job.messages(), 0
    async with _open(job) as transport:
        with job.watch:
            for message in messages:
                transport.send_nowait(Frame(message.encode()))
                heard += await transport.receive() == [message]
    return heard


async def callers(job: Job) -> int:
    messages, waiting = job.messages(), dict[int, trio.Event]()
    async with _open(job) as transport:

        async def send(number: int) -> None:
            transport.send_nowait(Frame(messages[number].encode()))

        async def dispatch() -> None:
            while True:
                for message in await transport.receive():
                    waiting.pop(int(message)).set()

        return await call_all(job, waiting, send, dispatch)


async def send(job: Job) -> int:
    messages = job.messages()
    async with _open(job) as transport:
        with job.watch:
            for at in range(0, job.count, BURST):
                for message in messages[at : at + BURST]:
                    transport.send_nowait(Frame(message.encode()))
                await transport.wait_room()
            transport.send_nowait(Frame(b"?"))
            [counted] = await transport.receive()
    return int(counted)


async def idle(job: Job) -> int:
    async def hold_one(*, task_status: trio.TaskStatus[None]) -> None:
        async with _open(job) as transport:
            task_status.started()
            await transport.receive()

    return await hold_all(job, hold_one)


async def connect(job: Job) -> int:
    with job.watch:
        for _ in range(job.count):
            async with _open(job):
                pass
    return job.count


class _Counting(SlipstreamClient, restart="temporary"):
    """Counts what it hears."""

    async def init(self, argument: tuple[Config, trio.Event, list[int]], socket: Socket, /) -> None:
        config, self.done, self.counted = argument
        self.count = 0
        socket.connect(config)
        socket.join("bench:1")

    async def handle_message(self, topic: str, event: str, payload: Any, socket: Socket, /) -> None:
        self.count += 1
        if event == "done":
            self.counted.append(self.count - 1)
            self.done.set()


async def client(job: Job) -> int:
    done, counted = trio.Event(), list[int]()
    config = Config(job.uri, heartbeat_interval=None)
    async with open_supervisor([(_Counting, (config, done, counted))]):
        with job.watch:
            await done.wait()
    return counted[0]
