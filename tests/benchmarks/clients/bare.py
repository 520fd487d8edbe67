"""A stream of trio's, with the upgrade by hand and no frame ever looked at: the ground one stands on."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TypeAlias
from urllib.parse import urlsplit

import trio

from tests.benchmarks.frames import frame_head

from .job import Job
from .on_trio import hold_all

_Stream: TypeAlias = trio.SocketStream | trio.SSLStream[trio.SocketStream]

_UPGRADE = (
    "GET {path}?{query} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
_GO = b"\x81\x82\0\0\0\0go"  # masked with zeros


@asynccontextmanager
async def _open(job: Job) -> AsyncGenerator[_Stream]:
    target = urlsplit(job.uri)
    host, port = target.hostname or "", target.port or 0
    plain = await trio.open_tcp_stream(host, port)
    stream: _Stream = plain
    if job.ssl_context:
        stream = trio.SSLStream(plain, job.ssl_context, server_hostname=host, https_compatible=True)
    async with stream:
        request = _UPGRADE.format(path=target.path, query=target.query, host=target.netloc)
        await stream.send_all(request.encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += await stream.receive_some()
        yield stream


async def receive(job: Job) -> int:
    """Read the bytes of all messages, in a loop over ``receive_some()``."""
    size = len(frame_head(job.size, binary=True)) + job.size
    received = 0
    async with _open(job) as stream:
        with job.watch:
            await stream.send_all(_GO)
            while received < job.count * size:
                received += len(await stream.receive_some())
    return received // size


async def idle(job: Job) -> int:
    async def hold_one(*, task_status: trio.TaskStatus[None]) -> None:
        async with _open(job) as stream:
            task_status.started()
            await stream.receive_some()

    return await hold_all(job, hold_one)
