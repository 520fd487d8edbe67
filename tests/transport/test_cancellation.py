"""Cancelled at any point, an exchange ends, the server sees an end, and nothing is left over."""

import ssl
from contextlib import suppress
from typing import Any

import pytest
import trio
import trio.testing
import trustme

from slipstream.errors import DisconnectedError
from slipstream.interfaces import ConnectRequest, Frame
from slipstream.transport import MemoryNetwork
from tests.transport.support import (
    CLOSE,
    PING,
    PONG,
    Connection,
    connect,
    open_sockets_to,
    serving,
)
from tests.transport.sweeps import cancelled_at_every_step, tasks_living

BIG = b"x" * (512 * 1024)


async def exchange(transport: Any) -> None:
    for number in range(2):
        transport.send_nowait(Frame(b"%d" % number))
        await transport.wait_room()
        assert await transport.receive() == [str(number)]
    transport.send_nowait(Frame(BIG, binary=True))
    await transport.wait_room()  # under back-pressure: no buffer takes all of it
    assert await transport.receive() == [BIG]
    await transport.close(4001)


async def echo(connection: Connection) -> str:
    """Echo until the client's end, and tell what it was: a code, the end of TCP, or no upgrade."""
    try:
        await connection.accept()
    except (AssertionError, trio.BrokenResourceError):
        return "left"
    while seen := await connection.read_frame():
        # It may be gone while we answer; what it said before that is still there to be read.
        with suppress(trio.BrokenResourceError):
            if seen.opcode != PONG:
                await connection.send_frame(PING, b"are you there?")
                await connection.send_frame(seen.opcode, seen.payload)
        if seen.opcode == CLOSE:
            return f"close {seen.close[0]}"
    return "end"


@pytest.fixture(scope="module")
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Give the contexts of a server and of a client that trusts it."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


@pytest.mark.parametrize("secure", [False, True], ids=["tcp", "tls"])
async def test_a_real_exchange_may_be_cancelled_at_any_step(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], secure: bool
) -> None:
    """complaint-29, d11, d13: while it connects, upgrades, writes against back-pressure, receives and closes."""
    theirs, ours = contexts
    async with serving(echo, tls=theirs if secure else None) as server:
        await trio.testing.wait_all_tasks_blocked()
        before = tasks_living()
        request = server.request(close_timeout=60.0, outbound_bytes=1024, ssl_context=ours)

        async def run() -> None:
            async with connect(request) as transport:
                await exchange(transport)
            assert open_sockets_to(server.port) == []

        count = await cancelled_at_every_step(run, most=3000)
        ends = await server.results()
        assert tasks_living() == before
    assert count > 60
    assert {"left", "close 1001", "close 4001"} <= set(ends)
    assert set(ends) <= {"left", "end", "close 1001", "close 4001"}


async def test_an_exchange_in_memory_may_be_cancelled_at_any_step() -> None:
    network = MemoryNetwork()
    codes: list[int | None] = []

    async def echo_in_memory() -> None:
        while True:
            peer = await network.accept()
            try:
                while True:
                    for frame in await peer.receive():
                        peer.send(frame.data if frame.binary else frame.data.decode())
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
