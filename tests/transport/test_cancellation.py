"""Cancelled at any point, an exchange ends, the server sees an end, and nothing is left over."""

import gc
from typing import Any

import trio
import trio.testing

from slipstream.errors import ConnectError, DisconnectedError
from slipstream.interfaces import ConnectRequest, Frame
from slipstream.transport import MemoryNetwork
from tests.transport.support import (
    CLOSE,
    PATIENCE,
    TEXT,
    Connection,
    RawServer,
    connect,
    serving,
)
from tests.transport.sweeps import (
    cancelled_at_every_step,
    counts_descriptors,
    descriptors,
    tasks_living,
)


async def exchange(transport: Any) -> None:
    for number in range(3):
        transport.send_nowait(Frame(b"%d" % number))
        await transport.wait_room()
        assert await transport.receive() == [str(number)]
    await transport.close(4001)


async def echo(connection: Connection) -> str:
    """Echo until the client's end, and tell what it was: a code, the end of TCP, or no upgrade."""
    try:
        await connection.accept()
    except (AssertionError, trio.BrokenResourceError):
        return "left"
    try:
        while seen := await connection.read_frame():
            await connection.send_frame(TEXT if seen.opcode == TEXT else CLOSE, seen.payload)
            if seen.opcode == CLOSE:
                return f"close {seen.close[0]}"
    except trio.BrokenResourceError:
        return "end"
    return "end"


async def test_a_real_exchange_may_be_cancelled_at_any_step() -> None:
    async with serving(echo) as server:
        await trio.testing.wait_all_tasks_blocked()
        before = tasks_living()

        async def run() -> None:
            async with connect(server.request(close_timeout=60.0)) as transport:
                await exchange(transport)

        count = await cancelled_at_every_step(run, most=1000)
        ends = await server.results()
        assert tasks_living() == before
    assert count > 20
    assert {"close 1001", "close 4001"} <= set(ends) <= {"left", "end", "close 1001", "close 4001"}


async def test_an_exchange_in_memory_may_be_cancelled_at_any_step() -> None:
    network = MemoryNetwork()
    codes: list[int | None] = []

    async def echo_in_memory() -> None:
        while True:
            peer = await network.accept()
            try:
                while True:
                    peer.send(*[frame.data.decode() for frame in await peer.receive()])
            except DisconnectedError:
                codes.append((await peer.wait_closed()).code)

    async def run() -> None:
        request = ConnectRequest(uri="ws://memory/")
        async with network.open_transport(request, on_written=lambda _: None) as transport:
            await exchange(transport)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(echo_in_memory)
        await trio.testing.wait_all_tasks_blocked()
        before = tasks_living()
        count = await cancelled_at_every_step(run, most=1000)
        await trio.testing.wait_all_tasks_blocked()
        assert tasks_living() == before
        nursery.cancel_scope.cancel()
    assert count > 20
    assert set(codes) == {1001, 4001}


async def misbehave(connection: Connection) -> str:
    """Do what the path asks for."""
    what = (await connection.read_request()).split()[1].decode()
    if what == "/silent":
        await connection.read_end()
    elif what == "/refuse":
        await connection.send(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")
    elif what == "/garbage":
        await connection.send(b"garbage")
    else:
        await connection.send(connection.switching())
        await connection.read_frame()
        if what == "/reset":
            connection.reset()
            return what
        if what == "/break":
            await connection.send(b"\xff\xff")
        await connection.read_end()
    return what


@counts_descriptors
async def test_two_hundred_connects_leave_no_descriptor_and_no_task_behind() -> None:
    paths = ["/", "/silent", "/refuse", "/garbage", "/reset", "/break", "/cancel"]

    async def one(server: RawServer, path: str) -> None:
        uri = f"ws://127.0.0.1:{server.port}{path}"
        patience = 0.2 if path == "/silent" else 2 * PATIENCE  # a slow machine is no fault
        request = server.request(uri=uri, connect_timeout=patience, close_timeout=0.1)
        with trio.CancelScope() as scope:
            try:
                async with connect(request) as transport:
                    transport.send_nowait(Frame(b"hello"))
                    if path == "/cancel":
                        scope.cancel()
                    elif path != "/":
                        await transport.receive()
            except (ConnectError, DisconnectedError):
                assert path not in {"/", "/cancel"}

    async with serving(misbehave) as server:
        await one(server, "/")
        await server.results()
        gc.collect()
        before = (descriptors(), tasks_living())
        for _ in range(7):
            with trio.fail_after(2 * PATIENCE):
                async with trio.open_nursery() as nursery:
                    for number in range(28):
                        nursery.start_soon(one, server, paths[number % len(paths)])
        assert len(await server.results()) == 7 * 28
        assert (descriptors(), tasks_living()) == before
