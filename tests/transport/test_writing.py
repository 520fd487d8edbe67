"""Who writes: the caller itself where nothing else is to be written, else the writer, in one piece."""

from collections.abc import Sequence
from typing import Any

import pytest
import trio

from slipstream.interfaces import Frame
from slipstream.transport import open_websocket_transport
from slipstream.transport._outbox import SLICE_BYTES
from tests.transport.support import PATIENCE, TEXT, Connection, echo_until_close, frame, serving


def nobody(tokens: Sequence[Any]) -> None:
    assert not tokens


async def test_a_lone_frame_is_written_by_its_caller_and_those_at_its_heels_in_one_piece(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # However slow the machine is, the next frames are at the heels of the first.
    monkeypatch.setattr("slipstream.transport._websocket.CORK_SECONDS", 60.0)
    batches: list[list[Any]] = []

    def on_written(tokens: Sequence[Any]) -> None:
        batches.append(list(tokens))

    async with serving(echo_until_close) as server:
        async with open_websocket_transport(server.request(), on_written=on_written) as transport:
            transport.send_nowait(Frame(b"first"), token=1)
            assert batches == [[1]]
            for token in range(2, 6):
                transport.send_nowait(Frame(b"other"), token=token)
            assert transport.statistics().queued_bytes == 20
            got: list[str | bytes] = []
            while len(got) < 5:
                got += await transport.receive()
            assert batches == [[1], [2, 3, 4, 5]]
            assert got == ["first", "other", "other", "other", "other"]


async def test_an_answer_to_a_lone_message_is_written_by_its_caller() -> None:
    async with serving(echo_until_close) as server:
        async with open_websocket_transport(server.request(), on_written=nobody) as transport:
            for number in range(1, 20):
                transport.send_nowait(Frame(b"x"))
                assert transport.statistics().messages_sent == number
                assert await transport.receive() == ["x"]


async def test_what_the_kernel_does_not_take_of_a_lone_frame_is_left_to_the_writer() -> None:
    """d13: however a caller's frame was begun, it is finished, whole and before the next."""

    async def script(connection: Connection) -> list[tuple[int, int]]:
        await connection.accept(then=frame(TEXT, b"go"))
        connection.stall()
        await go.wait()
        connection.resume()
        frames = [await connection.read_frame() for _ in range(count + 1)]
        await connection.send_frame(TEXT, b"all")
        await connection.read_end()
        return [(seen.opcode, len(seen.payload)) for seen in frames if seen is not None]

    go, count = trio.Event(), 0
    async with serving(script) as server:
        async with open_websocket_transport(server.request(), on_written=nobody) as transport:
            assert await transport.receive() == ["go"]
            while not transport.statistics().queued_bytes:
                transport.send_nowait(Frame(b"x" * SLICE_BYTES, binary=True))
                count += 1
                await trio.sleep(0.001)  # longer than a burst lasts, so that each is alone
            transport.send_nowait(Frame(b"y"))
            go.set()
            with trio.fail_after(PATIENCE):
                assert await transport.receive() == ["all"]
            transport.abort()
        seen = await server.result()
    assert seen == [*[(0x2, SLICE_BYTES)] * count, (0x1, 1)]


async def test_a_caller_who_writes_to_a_broken_connection_gets_no_error_of_the_socket() -> None:
    """d01: what the server said before it cut the line is heard first, then the end."""
    connections: list[Connection] = []

    async def script(connection: Connection) -> None:
        await connection.accept(then=frame(TEXT, b"first"))
        connections.append(connection)
        await trio.sleep_forever()

    async with serving(script) as server:
        async with open_websocket_transport(server.request(), on_written=nobody) as transport:
            assert await transport.receive() == ["first"]
            connections[0].send_now(frame(TEXT, b"last"))
            connections[0].reset()
            transport.send_nowait(Frame(b"x"))
            transport.send_nowait(Frame(b"y"))
            with trio.fail_after(PATIENCE):
                assert await transport.receive() == ["last"]
                with pytest.raises(Exception, match="disconnected"):
                    await transport.receive()
