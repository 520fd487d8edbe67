"""A raw client: frames out, frames in, nothing hidden; and a request of one's own making."""

import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import trio

from slipstream.testing import Answer, Channel, Ok, PhoenixServer, ServerSocket

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
MASK = b"\x01\x02\x03\x04"
WITHIN = 5.0
"""Seconds after which a test that waits has failed."""

V2 = "?vsn=2.0.0"


class Seen(NamedTuple):
    """A frame of the server."""

    opcode: int
    payload: bytes

    @property
    def code(self) -> int:
        assert self.opcode == CLOSE, self
        return int.from_bytes(self.payload[:2], "big")


class Response(NamedTuple):
    """What the server answered to a request."""

    status: int
    headers: dict[str, str]
    body: bytes


def frame(opcode: int, payload: bytes, *, fin: bool = True, masked: bool = True) -> bytes:
    head = bytes([(0x80 if fin else 0) | opcode])
    bit = 0x80 if masked else 0
    if len(payload) < 126:
        head += bytes([bit | len(payload)])
    elif len(payload) < 1 << 16:
        head += bytes([bit | 126]) + struct.pack(">H", len(payload))
    else:
        head += bytes([bit | 127]) + struct.pack(">Q", len(payload))
    if not masked:
        return head + payload
    pattern = MASK * (len(payload) // 4 + 1)
    body = bytes(a ^ b for a, b in zip(payload, pattern, strict=False))
    return head + MASK + body


class RawClient:
    """One TCP connection to a server."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._buffer = b""

    async def request(self, target: str, **headers: str) -> Response:
        lines = [
            f"GET {target} HTTP/1.1",
            "Host: 127.0.0.1",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version: 13",
            *[f"{name.replace('_', '-')}: {value}" for name, value in headers.items()],
        ]
        return await self.say("\r\n".join(lines).encode() + b"\r\n\r\n")

    async def say(self, request: bytes) -> Response:
        """Send *request* as it is."""
        await self.stream.send_all(request)
        while b"\r\n\r\n" not in self._buffer:
            await self._more()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        first, *rest = head.decode().split("\r\n")
        headers = {}
        for line in rest:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        body = await self._take(int(headers.get("content-length", "0")))
        return Response(int(first.split()[1]), headers, body)

    async def send(self, *messages: str | bytes) -> None:
        for message in messages:
            text = isinstance(message, str)
            data = message.encode() if isinstance(message, str) else message
            await self.stream.send_all(frame(TEXT if text else BINARY, data))

    async def receive(self) -> Seen:
        """Give the next frame; fail where there is none."""
        with trio.fail_after(WITHIN):
            first, second = await self._take(2)
            assert not second & 0x80, "a server must not mask"
            length = second & 0x7F
            if length == 126:
                length = int.from_bytes(await self._take(2), "big")
            elif length == 127:
                length = int.from_bytes(await self._take(8), "big")
            assert first & 0x80, "a server's message in fragments"
            return Seen(first & 0x0F, await self._take(length))

    async def text(self) -> str:
        """Give the next message, which has to be a text."""
        seen = await self.receive()
        assert seen.opcode == TEXT, seen
        return seen.payload.decode()

    async def close(self, code: int = 1000) -> None:
        """Say Close."""
        await self.stream.send_all(frame(CLOSE, code.to_bytes(2, "big")))

    async def closed(self) -> int:
        """Give the code of the server's Close, which has to be next; answer it, and see the end."""
        seen = await self.receive()
        await self.close(seen.code)
        await self.ended()
        return seen.code

    async def ended(self) -> None:
        """Wait for the end of TCP; nothing may come before it."""
        with trio.fail_after(WITHIN):
            try:
                data = self._buffer + await self.stream.receive_some()
            except trio.BrokenResourceError:
                data = self._buffer
        assert data == b""

    async def silent(self) -> None:
        """Show that nothing lies before the answer to a heartbeat."""
        await self.send('[null,"hb","phoenix","heartbeat",{}]')
        assert await self.text() == reply(None, "hb", "phoenix")

    async def _take(self, count: int) -> bytes:
        while len(self._buffer) < count:
            await self._more()
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken

    async def _more(self) -> None:
        data = await self.stream.receive_some()
        assert data, f"the connection ended after {self._buffer!r}"
        self._buffer += data


@asynccontextmanager
async def dialled(server: PhoenixServer) -> AsyncGenerator[RawClient]:
    """Connect, without a request."""
    stream = await trio.open_tcp_stream("127.0.0.1", server.port)
    async with stream:
        yield RawClient(stream)


@asynccontextmanager
async def connected(
    server: PhoenixServer, *topics: str, query: str = V2
) -> AsyncGenerator[RawClient]:
    """Connect, and join *topics*: the first with join_ref 1, and so on."""
    async with dialled(server) as client:
        response = await client.request(f"/socket/websocket{query}")
        assert response.status == 101, response
        for number, topic in enumerate(topics, 1):
            await client.send(f'["{number}","{number}","{topic}","phx_join",{{}}]')
            assert await client.text() == reply(str(number), str(number), topic)
        yield client


def reply(
    join_ref: str | None, ref: str | None, topic: str, response: str = "{}", status: str = "ok"
) -> str:
    """Write a reply as Phoenix does."""
    refs = ",".join("null" if given is None else f'"{given}"' for given in (join_ref, ref))
    return f'[{refs},"{topic}","phx_reply",{{"response":{response},"status":"{status}"}}]'


UNMATCHED = '{"reason":"unmatched topic"}'


class Room(Channel):
    """Echoes, crashes and stops as it is told."""

    async def handle_in(self, event: str, payload: Any, socket: ServerSocket, /) -> Answer | None:
        match event:
            case "echo":
                return Ok(payload)
            case "slow":
                await trio.sleep(0.05)
                return Ok(payload)
            case "crash":
                raise ValueError("as asked")
            case "stop":
                self.stop()
            case _:
                pass
        return None
