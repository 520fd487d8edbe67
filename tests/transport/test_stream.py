import operator
import socket
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import TypeAlias

import pytest
import trio
import trustme
from trio.testing import check_two_way_stream, wait_all_tasks_blocked

from slipstream.transport._stream import SocketStream, TLSStream
from tests.transport.support import PATIENCE

Peer: TypeAlias = trio.SocketStream | trio.SSLStream[trio.SocketStream]

AUTHORITY = trustme.CA()
BOTH = pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])


@asynccontextmanager
async def pair(*, secure: bool) -> AsyncGenerator[tuple[SocketStream, Peer]]:
    """Give a stream of ours and the other end, which is one of trio's."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    under = trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
    with trio.fail_after(PATIENCE):
        stream = SocketStream(ours)
        peer: Peer = under
        if secure:
            server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            AUTHORITY.issue_cert("localhost").configure_cert(server)
            client = ssl.create_default_context()
            AUTHORITY.configure_trust(client)
            stream = TLSStream(ours, client, server_hostname="localhost")
            over = trio.SSLStream(under, server, server_side=True, https_compatible=True)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream.do_handshake)
                nursery.start_soon(over.do_handshake)
            peer = over
        try:
            yield stream, peer
        finally:
            stream.close()
            await trio.aclose_forcefully(under)


async def read(peer: Peer, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = await peer.receive_some()
        if not more:
            break
        data += more
    return data


@BOTH
async def test_what_fits_is_sent_at_once(secure: bool) -> None:
    async with pair(secure=secure) as (stream, peer):
        assert stream.begin_send(b"hello")
        assert stream.begin_send(memoryview(b" world"))
        assert await read(peer, 11) == b"hello world"


@BOTH
async def test_the_rest_is_kept_over_a_cancellation_and_sent_whole_and_once(secure: bool) -> None:
    data = bytes(range(256)) * 20_000
    got: list[bytes] = []

    async def receive() -> None:
        got.append(await read(peer, len(data) + 3))

    async with pair(secure=secure) as (stream, peer):
        assert not stream.begin_send(data)
        with trio.CancelScope() as scope:
            scope.cancel()
            await stream.finish_send()
        assert scope.cancelled_caught
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            with trio.move_on_after(0.001):
                await stream.finish_send()
            await stream.finish_send()
            assert stream.begin_send(b"end")
    assert got == [data + b"end"]


@BOTH
async def test_a_send_to_nobody_is_told_by_finish_send(secure: bool) -> None:
    async with pair(secure=secure) as (stream, peer):
        await trio.aclose_forcefully(peer)
        assert not stream.begin_send(b"x")
        with pytest.raises(OSError, match=r"pipe|reset"):
            await stream.finish_send()
        assert not stream.begin_send(b"x")


@BOTH
async def test_a_cancelled_read_loses_nothing_and_the_end_is_empty(secure: bool) -> None:
    async with pair(secure=secure) as (stream, peer):
        with trio.move_on_after(0.001) as scope:
            await stream.receive_some()
        assert scope.cancelled_caught
        await peer.send_all(b"x")
        with trio.CancelScope() as scope:
            scope.cancel()
            await stream.receive_some()
        assert scope.cancelled_caught
        assert await stream.receive_some() == b"x"
        await peer.aclose()
        assert await stream.receive_some() == b""


async def test_one_read_takes_all_the_records_that_are_there() -> None:
    async with pair(secure=True) as (stream, peer):
        for _ in range(3):
            await peer.send_all(b"x" * 16384)
        assert len(await stream.receive_some()) == 3 * 16384


async def test_the_end_of_tcp_without_a_close_notify_is_an_end() -> None:
    async with pair(secure=True) as (stream, peer):
        assert isinstance(peer, trio.SSLStream)
        await trio.aclose_forcefully(peer.transport_stream)
        assert await stream.receive_some() == b""


async def test_a_broken_record_behind_a_good_one_is_told_after_it() -> None:
    async with pair(secure=True) as (stream, peer):
        assert isinstance(peer, trio.SSLStream)
        await peer.send_all(b"good")
        await peer.transport_stream.send_all(b"\x17\x03\x03\x00\x20" + b"x" * 32)
        assert await stream.receive_some() == b"good"
        for _ in range(2):
            with pytest.raises(ssl.SSLError):
                await stream.receive_some()


async def test_closing_says_close_notify_so_that_the_peer_knows_nothing_is_cut() -> None:
    async with pair(secure=True) as (stream, under):
        assert isinstance(under, trio.SSLStream)
        stream.close()
        stream.close()
        peer = under.transport_stream
        alert = await peer.receive_some()
        assert alert
        assert await peer.receive_some() == b""


@BOTH
async def test_a_reader_may_wait_beside_a_writer(secure: bool) -> None:
    async with pair(secure=secure) as (stream, peer):
        got: list[bytes] = []

        async def receive() -> None:
            got.append(await stream.receive_some())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            await wait_all_tasks_blocked()
            assert stream.begin_send(b"ping")
            assert await read(peer, 4) == b"ping"
            await peer.send_all(b"pong")
        assert got == [b"pong"]


class AsTrio(trio.abc.Stream):
    """A stream of ours with the interface of trio's, so that trio's own suite can judge it."""

    def __init__(self, stream: SocketStream) -> None:
        self._stream = stream
        self._buffer = b""
        self._busy: set[str] = set()
        self._closed = trio.Event()

    @asynccontextmanager
    async def _alone(self, what: str) -> AsyncGenerator[None]:
        if what in self._busy:
            raise trio.BusyResourceError
        if self._closed.is_set():
            raise trio.ClosedResourceError
        self._busy.add(what)
        try:
            yield
        except OSError as error:
            raise trio.BrokenResourceError from error
        finally:
            self._busy.remove(what)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        async with self._alone("send"):
            await trio.lowlevel.checkpoint()
            if data and not self._stream.begin_send(bytes(data)):
                await self._stream.finish_send()

    async def wait_send_all_might_not_block(self) -> None:
        async with self._alone("send"):
            await trio.lowlevel.wait_writable(self._stream.socket)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if max_bytes is not None and operator.index(max_bytes) < 1:
            raise ValueError(max_bytes)
        async with self._alone("receive"):
            if not self._buffer:
                self._buffer = await self._stream.receive_some()
            else:
                await trio.lowlevel.checkpoint()
            data, self._buffer = self._buffer[:max_bytes], self._buffer[max_bytes or 65536 :]
            return data

    async def aclose(self) -> None:
        self._closed.set()
        self._stream.close()
        await trio.lowlevel.checkpoint()


async def _make_pair() -> tuple[AsTrio, AsTrio]:
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)
    return AsTrio(SocketStream(ends[0])), AsTrio(SocketStream(ends[1]))


async def _make_clogged_pair() -> tuple[AsTrio, AsTrio]:
    left, right = await _make_pair()
    for end in (left, right):
        with suppress(BlockingIOError):
            while True:
                end._stream.socket.send(b"x" * 65536)
    return left, right


async def test_it_is_what_trio_calls_a_stream() -> None:
    with trio.fail_after(30):
        await check_two_way_stream(_make_pair, _make_clogged_pair)
