"""picows, on asyncio, through its core interface: a listener that is called for every frame."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from .job import BURST, WARM_CONNECTIONS, Job
from .on_asyncio import call_all

T = TypeVar("T", bound=WSListener)
TEXT = WSMsgType.TEXT
BINARY = WSMsgType.BINARY


async def _open(job: Job, listener: Callable[[], T]) -> tuple[WSTransport, T]:
    transport, made = await ws_connect(listener, job.uri, ssl_context=job.ssl_context)
    return transport, made  # type: ignore[return-value]  # it is what the factory made


async def _close(transport: WSTransport) -> None:
    transport.send_close(WSCloseCode.OK)
    await transport.wait_disconnected()


class _Counting(WSListener):
    """Counts messages until the Close."""

    def __init__(self) -> None:
        self.heard = 0
        self.closed = asyncio.Event()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        kind = frame.msg_type
        if kind is TEXT:
            frame.get_payload_as_ascii_text()
            self.heard += 1
        elif kind is BINARY:
            frame.get_payload_as_bytes()
            self.heard += 1
        else:
            self.closed.set()


class _Calling(WSListener):
    """Gives each text to whoever waits for it, and holds the sender back while the socket is full."""

    def __init__(self) -> None:
        self.hear: Callable[[str], object] = str
        self.room = asyncio.Event()
        self.room.set()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is TEXT:
            self.hear(frame.get_payload_as_ascii_text())

    def pause_writing(self) -> None:
        self.room.clear()

    def resume_writing(self) -> None:
        self.room.set()


async def receive(job: Job) -> int:
    transport, listener = await _open(job, _Counting)
    with job.watch:
        transport.send(TEXT, b"go")
        await listener.closed.wait()
    await _close(transport)
    return listener.heard


async def ping_pong(job: Job) -> int:
    messages, heard = job.messages(), 0
    loop = asyncio.get_running_loop()
    transport, listener = await _open(job, _Calling)
    with job.watch:
        for message in messages:
            answer: asyncio.Future[str] = loop.create_future()
            listener.hear = answer.set_result
            transport.send(TEXT, message.encode())
            heard += await answer == message
    await _close(transport)
    return heard


async def callers(job: Job) -> int:
    messages, waiting = job.messages(), dict[int, asyncio.Future[None]]()
    transport, listener = await _open(job, _Calling)
    listener.hear = lambda message: waiting.pop(int(message)).set_result(None)

    async def send(number: int) -> None:
        transport.send(TEXT, messages[number].encode())

    answered = await call_all(job, waiting, send)
    await _close(transport)
    return answered


async def send(job: Job) -> int:
    messages = job.messages()
    counted: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    transport, listener = await _open(job, _Calling)
    listener.hear = counted.set_result
    with job.watch:
        for at in range(0, job.count, BURST):
            for message in messages[at : at + BURST]:
                transport.send(TEXT, message.encode())
            await asyncio.sleep(0)
            await listener.room.wait()
        transport.send(TEXT, b"?")
        await counted
    await _close(transport)
    return int(counted.result())


async def idle(job: Job) -> int:
    held = [await _open(job, WSListener) for _ in range(WARM_CONNECTIONS)]
    with job.watch:
        held += [await _open(job, WSListener) for _ in range(job.count)]
    for transport, _ in held:
        await _close(transport)
    return len(held) - WARM_CONNECTIONS


async def connect(job: Job) -> int:
    with job.watch:
        for _ in range(job.count):
            transport, _ = await _open(job, WSListener)
            await _close(transport)
    return job.count
