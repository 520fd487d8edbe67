"""Proxies on loopback ports, which lead to 127.0.0.1 whatever name they are asked for."""

import ipaddress
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from tests.transport.support import Connection, Script

__all__ = ["exactly", "http_proxy", "relay", "socks4_proxy", "socks5_proxy"]


async def relay(connection: Connection, port: int) -> None:
    """Carry bytes both ways until both sides have ended."""
    server = await trio.open_tcp_stream("127.0.0.1", port)

    async def carry(source: trio.abc.ReceiveStream, sink: trio.abc.HalfCloseableStream) -> None:
        try:
            async for data in source:
                await sink.send_all(data)
            await sink.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            nursery.cancel_scope.cancel()

    assert isinstance(connection.stream, trio.SocketStream)
    async with server, trio.open_nursery() as nursery:
        nursery.start_soon(carry, connection.stream, server)
        nursery.start_soon(carry, server, connection.stream)


async def exactly(connection: Connection, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = await connection.stream.receive_some(size - len(data))
        assert piece, f"the client left after {data!r}"
        data += piece
    return data


async def until_zero(connection: Connection) -> bytes:
    data = b""
    while not data.endswith(b"\0"):
        data += await exactly(connection, 1)
    return data[:-1]


def http_proxy(
    *answers: bytes, port: Callable[[int], int] = lambda asked: asked
) -> Callable[[Connection], Awaitable[bytes]]:
    """Read a CONNECT, send *answers* one by one, and lead on; give the head of the CONNECT."""

    async def script(connection: Connection) -> bytes:
        head = await connection.read_request()
        for answer in answers or (b"HTTP/1.1 200 Connection established\r\n\r\n",):
            await connection.send(answer)
            await trio.sleep(0.01)  # so that each arrives alone
        await relay(connection, port(int(head.split()[1].rpartition(b":")[2])))
        return head

    return script


def socks5_proxy(
    *, password: bytes | None = None, code: int = 0, bound: bytes = b"\1\0\0\0\0\0\0"
) -> Script:
    """Speak SOCKS 5 (RFC 1928, 1929) and lead on; give the name or address that was asked for."""

    async def script(connection: Connection) -> Any:
        methods = await exactly(connection, (await exactly(connection, 2))[1])
        if password is not None:
            assert methods == b"\0\2"
            await connection.send(b"\5\2")
            _, size = await exactly(connection, 2)
            user = await exactly(connection, size)
            [size] = await exactly(connection, 1)
            right = user + b":" + await exactly(connection, size) == password
            await connection.send(b"\1\0" if right else b"\1\1")
            if not right:
                return await connection.read_end()
        else:
            await connection.send(b"\5\0")
        *_, kind = await exactly(connection, 4)
        if kind == 3:
            [size] = await exactly(connection, 1)
            host = (await exactly(connection, size)).decode()
        else:
            host = str(ipaddress.ip_address(await exactly(connection, 4 if kind == 1 else 16)))
        port = int.from_bytes(await exactly(connection, 2), "big")
        await connection.send(bytes([5, code, 0]) + bound)
        if code:
            return await connection.read_end()
        await relay(connection, port)
        return host

    return script


def socks4_proxy(*, code: int = 0x5A) -> Script:
    """Speak SOCKS 4 and 4a and lead on; give the user, and the name or address asked for."""

    async def script(connection: Connection) -> Any:
        head = await exactly(connection, 8)
        user = await until_zero(connection)
        host = str(ipaddress.ip_address(head[4:]))
        if head[4:7] == b"\0\0\0":
            host = (await until_zero(connection)).decode()
        await connection.send(bytes([0, code]) + head[2:])
        if code != 0x5A:
            return await connection.read_end()
        await relay(connection, int.from_bytes(head[2:4], "big"))
        return user, host

    return script
