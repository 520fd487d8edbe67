"""What is fuzzed, and what must hold whatever the bytes are. Each target raises where it does not."""

import base64
import contextlib
import hashlib
import io
import re
import socket
import struct
import sys
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import trio

from slipstream.errors import ConnectError, RemoteProtocolError
from slipstream.interfaces import ConnectRequest
from slipstream.transport import open_websocket_transport
from slipstream.transport._parser import FrameParser
from slipstream.transport._response import MAX_BODY_BYTES, ResponseReader, ResponseState
from tests.transport.oracles import by_model, by_parser, by_wsproto

__all__ = ["TARGETS", "handshake", "parser"]


def cut(data: bytes, size: int) -> list[bytes]:
    """Cut *data* into pieces of *size*; 0 stands for one piece."""
    size = size or max(1, len(data))
    return [data[at : at + size] for at in range(0, len(data), size)]


# Frames

LIMITS: dict[str, Any] = {"max_message_size": 300, "max_fragments": 4}
WIDE: dict[str, Any] = {"max_message_size": 1 << 20, "max_fragments": 4}

_MEMORY = 8 * 300 + 4096
"""A character takes up to four bytes in memory, and there is a copy; the rest are small objects."""


def parser(data: bytes) -> None:
    """The frame parser agrees with the model, and with wsproto, wherever the bytes are cut."""
    size, whole = data[:1], data[1:]  # the first byte says how the others are cut
    pieces = cut(whole, sum(size))
    limited = FrameParser(**LIMITS)
    judged = by_parser(pieces, limited)
    assert judged == by_model(whole, **LIMITS)
    wide = by_parser(pieces, FrameParser(**WIDE))  # what is far from its limit may go a faster way
    assert wide == by_model(whole, **WIDE)
    assert wide == by_parser([whole], FrameParser(**WIDE))
    assert judged == by_parser([whole], FrameParser(**LIMITS))
    limited.pings.clear()  # as whoever answers them does
    assert _size(limited) < _MEMORY + len(pieces[-1] if pieces else b"")
    if CODE_1014 not in whole:
        free, theirs = by_model(whole), by_wsproto(whole)
        if free.verdict == 1002 and theirs.verdict is None:
            # Where we see a mistake in a header, wsproto waits for the payload.
            theirs = theirs._replace(verdict=1002)
        assert free == theirs


CODE_1014 = b"\x03\xf6"
"""A close code that is registered since, which wsproto does not know."""


def _size(holder: object, depth: int = 3) -> int:
    """Add up the memory of *holder* and of what its attributes hold."""
    size = sys.getsizeof(holder)
    if isinstance(holder, io.StringIO):
        return size + 4 * holder.tell()
    if depth == 0 or isinstance(holder, str | bytes | bytearray | int | type(None)):
        return size
    if isinstance(holder, list | tuple | set):
        return size + sum(_size(each, depth - 1) for each in holder)
    names = [*getattr(holder, "__dict__", {}), *getattr(type(holder), "__slots__", ())]
    return size + sum(_size(getattr(holder, name, None), depth - 1) for name in names)


# The answer to the upgrade

ACCEPT = b"{accept}"
"""Stands in an answer for the right Sec-WebSocket-Accept, which no fuzzer would find."""


def handshake(data: bytes) -> None:
    """An answer opens the connection if it may, and is a ConnectError if not; nothing else comes of it."""
    size, whole = data[:1], data[1:]  # the first byte says how the others are cut
    read = _read(cut(whole, sum(size)))
    assert read == _read([whole])
    if read[0] is ResponseState.UPGRADED or whole[:1] != b"H" or len(whole) % 8 == 0:
        # The whole way takes a hundred times as long; it is worth it where more than a refusal comes.
        trio.run(_open, whole, sum(size))


def _read(pieces: list[bytes]) -> tuple[Any, ...]:
    """Give all that a reader makes of *pieces*; behind a 101 there is nothing more for it."""
    reader = ResponseReader()
    try:
        for piece in pieces:
            reader.feed(piece)
    except RemoteProtocolError:
        return (None,)
    reader.feed_eof()
    assert len(reader.body) <= MAX_BODY_BYTES
    return reader.state, reader.status, reader.headers, reader.head, reader.body


@attrs.define(eq=False)
class _Answerer:
    """A server of one connection: it answers, ends its half, and waits for the other's end."""

    answer: bytes
    size: int
    sent: bytes = b""

    async def serve(self, listener: trio.SocketListener) -> None:
        stream = await listener.accept()
        async with stream:
            with contextlib.suppress(trio.BrokenResourceError):  # the client has heard enough
                await self._answer(stream)
            # No TIME-WAIT: there would be more of them than ports.
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async def _answer(self, stream: trio.SocketStream) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            request += await stream.receive_some()
        [key] = re.findall(rb"Sec-WebSocket-Key: (\S+)", request)
        digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()  # noqa: S324 - RFC 6455 asks for it
        self.sent = self.answer.replace(ACCEPT, base64.b64encode(digest))
        for piece in cut(self.sent, self.size):
            await stream.send_all(piece)
        await stream.send_eof()
        while await stream.receive_some():
            pass


async def _open(answer: bytes, size: int) -> None:
    answerer = _Answerer(answer, size)
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    request = ConnectRequest(
        uri=f"ws://127.0.0.1:{port}/", connect_timeout=5.0, close_timeout=0.5, max_message_size=300
    )
    started = trio.current_time()
    async with listener, trio.open_nursery() as nursery:
        nursery.start_soon(answerer.serve, listener)
        try:
            async with open_websocket_transport(request, on_written=_forget) as transport:
                _check_opened(answerer.sent)
                transport.abort()
        except ConnectError as error:
            assert error.step == "upgrade", error
            assert len(error.body) <= MAX_BODY_BYTES
    # Everything was sent at once and ended with TCP: there is nothing to wait for.
    assert trio.current_time() - started < 2.5


def _forget(tokens: Sequence[Any]) -> None:
    """Take the tokens of what was written, which there are none of."""


def _check_opened(answer: bytes) -> None:
    """Check that an *answer* that opened a connection has all that RFC 6455 (4.1) asks of it."""
    heads = re.split(rb"\r?\n\r?\n", answer)
    [final, *_] = [head for head in heads if re.match(rb"HTTP/1\.[01] +101", head)]
    lines = [line.partition(b":") for line in re.split(rb"\r?\n", final)[1:]]
    fields = [(name.strip().lower(), value.strip().lower()) for name, _, value in lines]
    assert (b"upgrade", b"websocket") in fields
    assert any(name == b"connection" and b"upgrade" in value for name, value in fields)
    assert any(name == b"sec-websocket-accept" and len(value) == 28 for name, value in fields)
    assert not any(name == b"sec-websocket-extensions" and value for name, value in fields)


TARGETS: dict[str, Callable[[bytes], None]] = {"parser": parser, "handshake": handshake}
