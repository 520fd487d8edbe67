"""Raw servers: a script a connection, bytes in and out, and what the script saw as its result."""

import base64
import hashlib
import os
import socket
import ssl
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from slipstream.errors import ConnectError
from slipstream.interfaces import ConnectRequest, Transport
from slipstream.transport import open_websocket_transport

__all__ = [
    "BINARY",
    "CLOSE",
    "CONTINUATION",
    "FIN",
    "PING",
    "PONG",
    "RST",
    "TEXT",
    "Connection",
    "End",
    "RawServer",
    "Script",
    "Seen",
    "close_payload",
    "connect",
    "echo_until_close",
    "failed",
    "frame",
    "free_port",
    "open_sockets_to",
    "serving",
]

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

PATIENCE = 5.0
"""Seconds after which a test that waits for something has failed."""


class Seen(NamedTuple):
    """A frame of the client, unmasked."""

    opcode: int
    payload: bytes

    @property
    def close(self) -> tuple[int | None, str]:
        """The code and the reason of a Close."""
        assert self.opcode == CLOSE, self
        if not self.payload:
            return None, ""
        return int.from_bytes(self.payload[:2], "big"), self.payload[2:].decode()


@attrs.frozen
class End:
    """The client's end of TCP: how it came, what came before it, how long that took."""

    how: Literal["fin", "rst"]
    rest: bytes = b""
    seconds: float = attrs.field(default=0.0, eq=False)


FIN = End("fin")
RST = End("rst")


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True) -> bytes:
    """Build a frame as a server sends it."""
    first = (0x80 if fin else 0) | opcode
    size = len(payload)
    if size < 126:
        return struct.pack("!BB", first, size) + payload
    if size < 1 << 16:
        return struct.pack("!BBH", first, 126, size) + payload
    return struct.pack("!BBQ", first, 127, size) + payload


def close_payload(code: int, reason: str = "") -> bytes:
    return struct.pack("!H", code) + reason.encode()


class Connection:
    """The server's end of one connection."""

    def __init__(self, stream: trio.SocketStream | trio.SSLStream[trio.SocketStream]) -> None:
        self.stream = stream
        self.request = b""
        self._buffer = bytearray()
        self._flowing = trio.Event()
        self._flowing.set()

    @property
    def socket(self) -> trio.socket.SocketType:
        stream = self.stream
        return (stream.transport_stream if isinstance(stream, trio.SSLStream) else stream).socket

    async def read_request(self) -> bytes:
        """Read the upgrade request."""
        while b"\r\n\r\n" not in self._buffer:
            data = await self.stream.receive_some()
            assert data, f"the client left while it asked: {bytes(self._buffer)!r}"
            self._buffer += data
        head, _, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        self._buffer = bytearray(rest)
        self.request = head
        return head

    def header(self, name: str) -> str | None:
        """Give a header of the request."""
        for line in self.request.decode().split("\r\n")[1:]:
            key, _, value = line.partition(":")
            if key.lower() == name.lower():
                return value.strip()
        return None

    def switching(self, *headers: str) -> bytes:
        """Build the 101 that answers the request."""
        key = self.header("Sec-WebSocket-Key") or ""
        digest = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()  # noqa: S324 - RFC 6455 asks for it
        lines = [
            "HTTP/1.1 101 Switching Protocols",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}",
            *headers,
        ]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    async def accept(self, *headers: str, then: bytes = b"") -> None:
        """Read the request and answer 101, with *then* in the same segment."""
        await self.read_request()
        await self.send(self.switching(*headers) + then)

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    def send_now(self, data: bytes) -> None:
        """Send *data* without letting the client run."""
        with socket.socket(fileno=os.dup(self.socket.fileno())) as twin:
            twin.send(data)

    async def send_until_refused(self, data: bytes, *, pause: float = 0.0) -> End:
        """Send *data* again and again, until the client has closed TCP and answers with an RST."""
        started = trio.current_time()
        try:
            while True:
                await self.stream.send_all(data)
                await trio.sleep(pause)
        except trio.BrokenResourceError:
            return End("rst", seconds=trio.current_time() - started)

    async def send_eof(self) -> None:
        """End our half of TCP with a FIN, without a word of TLS."""
        self.socket.shutdown(socket.SHUT_WR)
        await trio.lowlevel.checkpoint()

    async def send_frame(self, opcode: int, payload: bytes = b"", *, fin: bool = True) -> None:
        await self.send(frame(opcode, payload, fin=fin))

    async def read_frame(self) -> Seen | None:
        """Read a frame; ``None`` at the end of TCP, however it came."""
        head = await self._exactly(2)
        if head is None:
            return None
        assert head[1] & 0x80, "a client's frame is not masked"
        size = head[1] & 0x7F
        if size > 125:
            encoded = await self._exactly(2 if size == 126 else 8)
            if encoded is None:
                return None
            size = int.from_bytes(encoded, "big")
        rest = await self._exactly(4 + size)
        if rest is None:
            return None
        key, masked = rest[:4], rest[4:]
        keys = (key * (size // 4 + 1))[:size]
        plain = int.from_bytes(masked, "big") ^ int.from_bytes(keys, "big")
        return Seen(head[0] & 0x0F, plain.to_bytes(size, "big"))

    async def read_close(self) -> tuple[int | None, str] | None:
        """Read up to the client's Close; give its code and reason, or ``None`` if TCP ended first."""
        while seen := await self.read_frame():
            if seen.opcode == CLOSE:
                return seen.close
        return None

    async def read_end(self) -> bytes:
        """Read until the end of TCP, which a reset is too, and give what came before it."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        try:
            while data := await self.stream.receive_some():
                rest += data
        except trio.BrokenResourceError:
            pass
        return rest

    async def see_end(self) -> End:
        """Read until the end of TCP, and tell of it."""
        started = trio.current_time()
        rest, self._buffer = bytes(self._buffer), bytearray()
        how: Literal["fin", "rst"] = "fin"
        try:
            while data := await self.stream.receive_some():
                rest += data
        except trio.BrokenResourceError as error:
            how = "rst" if isinstance(error.__cause__, ConnectionError) else "fin"
        return End(how, rest, trio.current_time() - started)

    async def see_close_and_end(self) -> tuple[tuple[int | None, str] | None, End]:
        """Read up to the client's Close, and on to the end of TCP."""
        return await self.read_close(), await self.see_end()

    def stall(self) -> None:
        """Read no more, so that TCP pushes back, until :meth:`resume`."""
        self._flowing = trio.Event()

    def resume(self) -> None:
        self._flowing.set()

    def reset(self) -> None:
        """End TCP with an RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    async def _exactly(self, size: int) -> bytes | None:
        while len(self._buffer) < size:
            await self._flowing.wait()
            try:
                data = await self.stream.receive_some()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return None
            if not data:
                return None
            self._buffer += data
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data


Script: TypeAlias = Callable[[Connection], Awaitable[Any]]


class RawServer:
    """A server on a loopback port; the results of its scripts come in the order of their ends."""

    def __init__(self, port: int, *, secure: bool) -> None:
        self.port = port
        self.secure = secure
        self.started = 0
        self.ended = 0
        self._quiet = trio.lowlevel.ParkingLot()
        self._send, self._results = trio.open_memory_channel[Any](1000)

    def request(self, **options: Any) -> ConnectRequest:
        """Make a request to this server, with short time-outs."""
        scheme, host = ("wss", "localhost") if self.secure else ("ws", "127.0.0.1")
        defaults: dict[str, Any] = {
            "uri": f"{scheme}://{host}:{self.port}/socket/websocket?vsn=2.0.0",
            "connect_timeout": 3.0,
            "write_timeout": 3.0,
            "close_timeout": 1.0,
        }
        return ConnectRequest(**{**defaults, **options})

    async def result(self) -> Any:
        """Wait for the next script to end, and give what it returned."""
        with trio.fail_after(PATIENCE):
            return await self._results.receive()

    async def run(
        self, script: Script, stream: trio.SocketStream, tls: ssl.SSLContext | None
    ) -> None:
        """Run *script* on a connection, and close it."""
        self.started += 1
        over: trio.SocketStream | trio.SSLStream[trio.SocketStream] = stream
        if tls is not None:
            over = trio.SSLStream(stream, tls, server_side=True, https_compatible=True)
        result = await script(Connection(over))
        await trio.aclose_forcefully(stream)
        self.ended += 1
        self._send.send_nowait(result)
        self._quiet.unpark_all()

    async def results(self) -> list[Any]:
        """Wait until no script is running, and give what those that have ended returned."""
        with trio.fail_after(PATIENCE):
            await wait_all_tasks_blocked()  # connections that were not accepted yet
            while self.started > self.ended:
                await self._quiet.park()
        results: list[Any] = []
        while self._results.statistics().current_buffer_used:
            results.append(self._results.receive_nowait())
        return results


def open_sockets_to(port: int) -> list[str]:
    """Give the states of the sockets that this process still holds to *port* (on Linux only).

    What the kernel keeps for itself once a socket was closed, TIME-WAIT and the like, is no inode.
    """
    table = Path("/proc/thread-self/net/tcp")
    if not table.exists():
        return []
    found: list[str] = []
    for line in table.read_text("ascii").splitlines()[1:]:
        _, _, remote, state, _, _, _, _, _, inode, *_ = line.split()
        if int(remote.rpartition(":")[2], 16) == port and inode != "0":
            found.append(_TCP_STATES.get(state, state))
    return found


_TCP_STATES = {"01": "ESTABLISHED", "04": "FIN-WAIT-1", "05": "FIN-WAIT-2", "08": "CLOSE-WAIT"}


async def listen_at(path: str) -> trio.SocketListener:
    listener = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    await listener.bind(path)
    listener.listen(100)
    return trio.SocketListener(listener)


@asynccontextmanager
async def serving(
    script: Script,
    *,
    tls: ssl.SSLContext | None = None,
    host: str = "127.0.0.1",
    path: str | None = None,
) -> AsyncGenerator[RawServer]:
    """Serve *script* on a loopback port, or a Unix-domain socket, for as long as the block lasts.

    Every client must have closed its socket by then, whatever happened to it.
    """
    if path is None:
        (listener,) = await trio.open_tcp_listeners(0, host=host)
    else:
        listener = await listen_at(path)
    # Small and fixed, so that a stalled server stalls the client soon.
    listener.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
    port = 0 if path is not None else listener.socket.getsockname()[1]
    server = RawServer(port, secure=tls is not None)

    async def handle(stream: trio.SocketStream) -> None:
        await server.run(script, stream, tls)

    # A client is cancelled in many tests. Its server is another machine, and is not.
    scope = trio.CancelScope(shield=True)

    async def serve() -> None:
        with scope:
            await trio.serve_listeners(handle, [listener])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        try:
            yield server
            assert path is not None or open_sockets_to(server.port) == []
        finally:
            scope.cancel()


def connect(
    request: ConnectRequest, *, written: list[Any] | None = None
) -> AbstractAsyncContextManager[Transport]:
    """Open the real transport; the tokens go into *written*."""

    def on_written(tokens: Sequence[Any]) -> None:
        if written is not None:
            written.extend(tokens)

    return open_websocket_transport(request, on_written=on_written)


async def echo_until_close(connection: Connection) -> tuple[int | None, str] | None:
    """Echo messages, answer the client's Close, close TCP first; give what the Close said."""
    await connection.accept()
    while seen := await connection.read_frame():
        if seen.opcode == CLOSE:
            await connection.send_frame(CLOSE, seen.payload)
            return seen.close
        if seen.opcode in {TEXT, BINARY}:
            await connection.send_frame(seen.opcode, seen.payload)
    return None


async def failed(uri: str, *, within: float = 2.0, **options: Any) -> ConnectError:
    """Connect, which fails *within* so many seconds; give the error."""
    started = trio.current_time()
    with pytest.raises(ConnectError) as caught:
        async with connect(ConnectRequest(uri=uri, **options)):
            pytest.fail("it was opened")
    assert trio.current_time() - started < within
    return caught.value


async def free_port() -> int:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port: int = listener.socket.getsockname()[1]
    await listener.aclose()
    return port
