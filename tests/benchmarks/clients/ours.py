"""Slipstream's transport, at its interface; and a whole client of Slipstream's, above it."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec
import trio

from slipstream import (
    Config,
    Message,
    SlipstreamClient,
    Socket,
    on_message,
    open_supervisor,
)
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


class _Base(SlipstreamClient, restart="temporary"):
    """Joins, and tells of the end."""

    async def init(self, argument: tuple[Config, trio.Event, list[int]], socket: Socket, /) -> None:
        config, self.done, self.counted = argument
        self.count = 0
        socket.connect(config)
        socket.join("bench:1")

    def end(self) -> None:
        self.counted.append(self.count)
        self.done.set()


class _Counting(_Base):
    """Counts what it hears."""

    async def handle_message(self, topic: str, event: str, payload: Any, socket: Socket, /) -> None:
        if event == "done":
            self.end()
        self.count += 1


class _Batching(_Base):
    """Counts it by the list."""

    async def handle_messages(self, messages: list[Message], socket: Socket, /) -> None:
        self.count += len(messages)
        if messages[-1].event == "done":
            self.count -= 1
            self.end()


class _Body(msgspec.Struct):
    """The payload of a broadcast."""


class _Routing(_Base):
    """Counts what it hears as a type of its own."""

    @on_message("bench:{number}", "done")
    async def stop(self, topic: str, payload: Any, socket: Socket, /, *, number: str) -> None:
        self.end()

    @on_message("bench:{number}", payload=_Body)
    async def take(
        self, topic: str, event: str, body: _Body, socket: Socket, /, *, number: str
    ) -> None:
        self.count += 1


async def _run(job: Job, client_class: type[_Base]) -> int:
    done, counted = trio.Event(), list[int]()
    config = Config(job.uri, heartbeat_interval=None)
    async with open_supervisor([(client_class, (config, done, counted))]):
        with job.watch:
            await done.wait()
    return counted[0]


async def client(job: Job) -> int:
    return await _run(job, _Counting)


async def client_batches(job: Job) -> int:
    return await _run(job, _Batching)


async def client_typed(job: Job) -> int:
    return await _run(job, _Routing)
