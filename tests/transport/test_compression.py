"""permessage-deflate over a real connection."""

import zlib

import pytest
from wsproto.extensions import PerMessageDeflate as Reference
from wsproto.frame_protocol import FrameProtocol

from slipstream.errors import ConnectError, RemoteProtocolError
from slipstream.interfaces import Frame, PerMessageDeflate
from slipstream.reasons import TransportFailed
from tests.transport.support import (
    TEXT,
    Connection,
    connect,
    echo_until_close,
    frame,
    serving,
)

ANSWER = "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover"


def reference() -> FrameProtocol:
    extension = Reference(server_no_context_takeover=True)
    extension._enabled = True
    return FrameProtocol(client=False, extensions=[extension])


async def test_messages_are_compressed_both_ways_if_the_server_agrees() -> None:
    async def script(connection: Connection) -> tuple[str | None, int]:
        await connection.accept(ANSWER)
        server, size = reference(), 0
        heard: list[str] = []
        while sum(map(len, heard)) < 2000:
            data = await connection.stream.receive_some()
            size += len(data)
            server.receive_bytes(bytes(data))
            heard += [str(part.payload) for part in server.received_frames()]
        await connection.send(bytes(server.send_data("".join(heard), fin=True)))
        await connection.read_end()
        return connection.header("Sec-WebSocket-Extensions"), size

    async with serving(script) as server:
        request = server.request(compression=PerMessageDeflate())
        async with connect(request) as transport:
            transport.send_nowait(Frame(b"tick " * 200))
            transport.send_nowait(Frame(b"tick " * 200))
            assert await transport.receive() == ["tick " * 400]
            assert transport.statistics().bytes_received == 2000
            transport.abort()
        offered, size = await server.result()
    assert offered == "permessage-deflate; client_max_window_bits"
    assert size < 100


async def test_nothing_is_compressed_unless_the_server_agrees() -> None:
    async with serving(echo_until_close) as server:
        async with connect(server.request(compression=PerMessageDeflate())) as transport:
            transport.send_nowait(Frame(b"tick " * 200))
            assert await transport.receive() == ["tick " * 200]


@pytest.mark.parametrize("offer", [None, PerMessageDeflate(client_max_window_bits=9)])
async def test_an_answer_to_what_was_not_offered_is_no_connection(
    offer: PerMessageDeflate | None,
) -> None:
    """h05."""

    async def script(connection: Connection) -> bytes:
        await connection.accept("Sec-WebSocket-Extensions: permessage-deflate; what")
        return await connection.read_end()

    async with serving(script) as server:
        with pytest.raises(ConnectError) as caught:
            async with connect(server.request(compression=offer)):
                pytest.fail("it was opened")
        assert await server.result() == b""
    assert caught.value.step == "upgrade"
    assert "permessage-deflate" in str(caught.value)


async def test_a_bomb_ends_the_connection_with_1009() -> None:
    """d07a, compressed."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = bytearray(
        frame(TEXT, compressor.compress(b"x" * 10_000_000) + compressor.flush(zlib.Z_SYNC_FLUSH))
    )
    bomb[0] |= 0x40

    async def script(connection: Connection) -> tuple[int | None, str] | None:
        await connection.accept(ANSWER, then=bytes(bomb))
        return await connection.read_close()

    async with serving(script) as server:
        request = server.request(compression=PerMessageDeflate(), max_message_size=1_000_000)
        async with connect(request) as transport:
            with pytest.raises(Exception, match="disconnected"):
                await transport.receive()
            assert isinstance(transport.closed, TransportFailed)
            assert isinstance(transport.closed.error, RemoteProtocolError)
        close = await server.result()
    assert close is not None
    assert close[0] == 1009
