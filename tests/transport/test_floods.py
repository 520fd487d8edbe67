"""A server that sends without end: the memory stays bounded, and so does the time it takes to leave."""

import tracemalloc
from typing import Any

import pytest
import trio

from slipstream.errors import DisconnectedError, RemoteProtocolError
from slipstream.reasons import TransportFailed
from tests.transport.support import (
    BINARY,
    CONTINUATION,
    PATIENCE,
    PING,
    RST,
    TEXT,
    Connection,
    End,
    connect,
    frame,
    serving,
)

MIB = 1 << 20

ENDLESS: dict[str, tuple[bytes, bytes]] = {
    # What the message begins with, and what never stops coming behind that
    "d06a: small fragments": (
        frame(BINARY, fin=False),
        frame(CONTINUATION, b"x" * 1000, fin=False),
    ),
    "d06b: empty fragments": (frame(TEXT, fin=False), frame(CONTINUATION, fin=False) * 1000),
    "d06b: empty fragments amid pings": (
        frame(BINARY, fin=False),
        (frame(CONTINUATION, fin=False) + frame(PING, b"p")) * 500,
    ),
}


@pytest.mark.parametrize("kind", ENDLESS)
async def test_a_message_without_end_is_cut_short(kind: str) -> None:
    """d06a, d06b: by its size or by the number of its fragments; with 1009, whatever still comes."""
    beginning, more = ENDLESS[kind]

    async def script(connection: Connection) -> tuple[Any, End]:
        ends: list[End] = []

        async def flood() -> None:
            ends.append(await connection.send_until_refused(more))

        await connection.accept(then=beginning)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(flood)
            close = await connection.read_close()
        return close, ends[0]

    async with serving(script) as server:
        request = server.request(max_message_size=MIB, max_fragments=16_384, close_timeout=1.0)
        tracemalloc.start()
        try:
            async with connect(request) as transport:
                with trio.fail_after(2 * PATIENCE), pytest.raises(DisconnectedError) as caught:
                    await transport.receive()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        reason = caught.value.reason
        assert isinstance(reason, TransportFailed)
        assert isinstance(reason.error, RemoteProtocolError)
        close, end = await server.result()
        assert close is not None
        assert close[0] == reason.error.code == 1009
        assert end == RST  # the server was still sending
    # The message itself, once in its parts; the rest is small.
    assert peak < 3 * MIB


@pytest.mark.parametrize("size", [10, 1000, 100_000])
async def test_a_slow_reader_costs_the_server_time_and_nobody_memory(size: int) -> None:
    """f01: TCP holds the server back, and what lies unread is bounded."""
    number = max(1, 100_000 // size)
    blob = frame(BINARY, b"x" * size) * number
    sent = 0
    longest = 0.0

    async def script(connection: Connection) -> None:
        nonlocal sent, longest
        await connection.accept()
        try:
            while True:
                started = trio.current_time()
                await connection.send(blob)
                sent += number
                longest = max(longest, trio.current_time() - started)
        except trio.BrokenResourceError:
            return

    unread = 0
    async with serving(script) as server:
        async with connect(server.request(close_timeout=0.1)) as transport:
            await transport.receive()  # everything that is made once is made
            taken = transport.statistics().bytes_received
            tracemalloc.start()
            try:
                for _ in range(8):
                    await trio.sleep(0.1)  # time in which a reader that cares not would read on
                    unread = max(unread, transport.statistics().bytes_received - taken)
                    messages = await transport.receive()
                    assert all(len(message) == size for message in messages)
                    taken = transport.statistics().bytes_received
                    del messages
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert longest > 0.05  # it was held back
            assert sent * size < 32 * MIB  # what was read, and the kernel's buffers
        await server.result()
    assert unread < 256 * 1024 + 256 * 1024 + size  # the limit, and one turn of reading
    assert peak < 2 * MIB
