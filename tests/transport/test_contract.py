"""What every transport owes, shown on the one in memory and on the real one."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from slipstream.errors import DisconnectedError
from slipstream.interfaces import ConnectRequest, Frame, Transport
from slipstream.reasons import ClosedByClient, ClosedByServer, TransportFailed
from slipstream.transport import MemoryNetwork, MemoryPeer
from tests.transport.support import (
    BINARY,
    CLOSE,
    PATIENCE,
    TEXT,
    Connection,
    close_payload,
    connect,
    frame,
    serving,
)


class Peer(Protocol):
    """The server's end, as the tests here use it."""

    async def receive(self) -> list[Frame]: ...
    async def send(self, *messages: str | bytes) -> None: ...
    async def close(self, code: int, reason: str) -> None: ...
    async def drop(self) -> None: ...
    async def wait_closed(self) -> tuple[int | None, str]: ...
    def ignore_close(self) -> None: ...
    def stall(self) -> None: ...
    def resume(self) -> None: ...


class InMemory:
    def __init__(self, peer: MemoryPeer) -> None:
        self._peer = peer
        self.ignore_close = peer.ignore_close
        self.stall = peer.stall_writes
        self.resume = peer.resume_writes

    async def receive(self) -> list[Frame]:
        return await self._peer.receive()

    async def send(self, *messages: str | bytes) -> None:
        self._peer.send(*messages)

    async def close(self, code: int, reason: str) -> None:
        self._peer.close(code, reason)

    async def drop(self) -> None:
        self._peer.drop()

    async def wait_closed(self) -> tuple[int | None, str]:
        closed = await self._peer.wait_closed()
        return closed.code, closed.reason


class OnSocket:
    """Reads all the time, unless stalled, and answers a Close."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._frames: list[Frame] = []
        self._closed: tuple[int | None, str] | None = None
        self._changed = trio.lowlevel.ParkingLot()
        self._answers = True
        self._closes = False
        self.stall = connection.stall
        self.resume = connection.resume

    async def run(self) -> None:
        while True:
            seen = await self._connection.read_frame()
            if seen is not None and seen.opcode in {TEXT, BINARY}:
                self._frames.append(Frame(seen.payload, seen.opcode == BINARY))
            elif self._closed is None:
                self._closed = seen.close if seen is not None else (None, "")
            self._changed.unpark_all()
            if seen is None:
                return
            if seen.opcode == CLOSE and self._answers:
                if not self._closes:
                    await self._connection.send_frame(CLOSE, seen.payload)
                return

    def ignore_close(self) -> None:
        self._answers = False

    async def receive(self) -> list[Frame]:
        while not self._frames:
            await self._changed.park()
        frames, self._frames = self._frames, []
        return frames

    async def send(self, *messages: str | bytes) -> None:
        await self._connection.send(
            b"".join(
                frame(TEXT, m.encode()) if isinstance(m, str) else frame(BINARY, m)
                for m in messages
            )
        )

    async def close(self, code: int, reason: str) -> None:
        self._closes = True
        await self._connection.send_frame(CLOSE, close_payload(code, reason))

    async def drop(self) -> None:
        self._connection.reset()

    async def wait_closed(self) -> tuple[int | None, str]:
        while self._closed is None:
            await self._changed.park()
        return self._closed


class Pair(Protocol):
    """Opens a transport and gives both ends; *written* collects the tokens."""

    def __call__(
        self, *, written: list[Any] | None = None, **options: Any
    ) -> AbstractAsyncContextManager[tuple[Transport, Peer]]: ...


@asynccontextmanager
async def in_memory(
    *, written: list[Any] | None = None, **options: Any
) -> AsyncGenerator[tuple[Transport, Peer]]:
    network = MemoryNetwork()
    tokens = [] if written is None else written
    request = ConnectRequest(uri="ws://memory/", **{"close_timeout": 1.0, **options})
    async with network.open_transport(request, on_written=tokens.extend) as transport:
        yield transport, InMemory(await network.accept())


@asynccontextmanager
async def on_socket(
    *, written: list[Any] | None = None, **options: Any
) -> AsyncGenerator[tuple[Transport, Peer]]:
    peers: list[OnSocket] = []

    async def script(connection: Connection) -> None:
        await connection.accept()
        peers.append(OnSocket(connection))
        await peers[0].run()

    # Not in one nursery with the transport: what leaves its block must leave it bare.
    raised: BaseException | None = None
    async with serving(script) as server:
        try:
            async with connect(server.request(**options), written=written) as transport:
                yield transport, peers[0]
        except BaseException as error:  # noqa: BLE001 - raised again behind the server
            raised = error
        peers[0].resume()
        with trio.CancelScope(shield=True):
            await server.result()
    if raised is not None:
        raise raised


@pytest.fixture(params=["memory", "websocket"])
def pair(request: pytest.FixtureRequest) -> Pair:
    return in_memory if request.param == "memory" else on_socket


async def receive(source: Callable[[], Any], count: int) -> list[Any]:
    """Receive batches until there are *count* of what they hold."""
    got: list[Any] = []
    with trio.fail_after(PATIENCE):
        while len(got) < count:
            batch = await source()
            assert batch
            got += batch
    return got


async def end_of(transport: Transport) -> Any:
    """Receive until the end is told; give the reason."""
    reason = None
    with trio.fail_after(PATIENCE):
        while reason is None:
            try:
                await transport.receive()
            except DisconnectedError as error:
                reason = error.reason
    assert reason == transport.closed
    return reason


BIG = Frame(b"x" * (8 << 20), binary=True)
"""More than any kernel buffers: behind it a stalled peer stalls the writer."""


async def test_messages_arrive_whole_in_order_and_as_what_they_are(pair: Pair) -> None:
    async with pair() as (transport, peer):
        await peer.send("grüße", b"\x00\xff", "")
        await peer.send("x" * 70_000)
        assert await receive(transport.receive, 4) == ["grüße", b"\x00\xff", "", "x" * 70_000]
        statistics = transport.statistics()
        assert (statistics.messages_received, statistics.bytes_received) == (4, 70_009)


async def test_what_arrived_together_is_one_batch(pair: Pair) -> None:
    async with pair() as (transport, peer):
        await peer.send(*"abcdef")
        with trio.fail_after(PATIENCE):
            assert await transport.receive() == list("abcdef")


async def test_frames_reach_the_peer_in_order_and_their_tokens_come_back(pair: Pair) -> None:
    written: list[Any] = []
    async with pair(written=written) as (transport, peer):
        transport.send_nowait(Frame(b"1"), token=1)
        transport.send_nowait(Frame(b"2", binary=True))
        transport.send_nowait(Frame(b"y" * 70_000), token=3)
        sent = [Frame(b"1"), Frame(b"2", binary=True), Frame(b"y" * 70_000)]
        assert await receive(peer.receive, 3) == sent
        statistics = transport.statistics()
    assert written == [1, 3]
    assert (statistics.messages_sent, statistics.bytes_sent) == (3, 70_002)


async def test_an_urgent_frame_goes_ahead_of_those_that_wait_but_never_into_one(
    pair: Pair,
) -> None:
    async with pair() as (transport, peer):
        peer.stall()
        transport.send_nowait(BIG)
        await wait_all_tasks_blocked()
        transport.send_nowait(Frame(b"1"))
        transport.send_nowait(Frame(b"2"))
        transport.send_nowait(Frame(b"beat"), urgent=True)
        peer.resume()
        assert [f.data for f in await receive(peer.receive, 4)] == [BIG.data, b"beat", b"1", b"2"]


async def test_wait_room_waits_until_less_than_outbound_bytes_is_queued(pair: Pair) -> None:
    async with pair(outbound_bytes=1000) as (transport, peer):
        with trio.fail_after(PATIENCE):
            await transport.wait_room()
        peer.stall()
        transport.send_nowait(BIG)
        with trio.move_on_after(0.05) as scope:
            await transport.wait_room()
        assert scope.cancelled_caught
        assert transport.statistics().queued_bytes == len(BIG.data)
        peer.resume()
        with trio.fail_after(PATIENCE):
            await transport.wait_room()
        assert transport.statistics().queued_bytes == 0


async def test_a_caller_that_is_cancelled_beside_a_blocked_write_tears_no_frame(
    pair: Pair,
) -> None:
    """d13: the next frames are read by the peer as what they are."""
    async with pair(outbound_bytes=1000) as (transport, peer):
        peer.stall()
        transport.send_nowait(BIG)
        for number in range(5):
            with trio.move_on_after(0.01) as scope:
                await transport.wait_room()
            assert scope.cancelled_caught
            transport.send_nowait(Frame(b"%d" % number))
        peer.resume()
        got = await receive(peer.receive, 6)
        assert [f.data for f in got] == [BIG.data, b"0", b"1", b"2", b"3", b"4"]


async def test_a_send_in_a_cancelled_scope_is_queued_whole(pair: Pair) -> None:
    """d13b: queueing does not block, so it cannot be cancelled."""
    async with pair() as (transport, peer):
        with trio.CancelScope() as scope:
            scope.cancel()
            transport.send_nowait(Frame(b"whole"))
            await trio.lowlevel.checkpoint()
        assert await receive(peer.receive, 1) == [Frame(b"whole")]


async def test_a_cancelled_receive_loses_nothing(pair: Pair) -> None:
    """d12: every message comes once, and in order."""
    count = 300
    async with pair() as (transport, peer), trio.open_nursery() as nursery:

        async def send() -> None:
            for number in range(count):
                await peer.send(str(number))
                await trio.lowlevel.checkpoint()

        nursery.start_soon(send)
        got: list[Any] = []
        with trio.fail_after(PATIENCE):
            while len(got) < count:
                with trio.move_on_after(0.0005):
                    got += await transport.receive()
        assert got == [str(number) for number in range(count)]


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1011, 1012, 1013, 1014, 3000, 4999])
async def test_a_close_of_the_peer_is_told_after_what_came_before_it_and_is_echoed(
    pair: Pair, code: int
) -> None:
    """d09: code and reason."""
    async with pair() as (transport, peer):
        await peer.send("before")
        await peer.close(code, "why")
        assert await receive(transport.receive, 1) == ["before"]
        assert await end_of(transport) == ClosedByServer(code, "why")
        with trio.fail_after(PATIENCE):
            assert await peer.wait_closed() == (code, "why")


async def test_a_lost_connection_is_told_after_what_came_before(pair: Pair) -> None:
    """d02: whatever lies unread."""
    async with pair() as (transport, peer):
        await peer.send("before")
        assert await receive(transport.receive, 1) == ["before"]
        await peer.drop()
        reason = await end_of(transport)
        assert isinstance(reason, TransportFailed)
        assert isinstance(reason.error, ConnectionResetError)


async def test_after_the_end_every_call_says_so(pair: Pair) -> None:
    async with pair(outbound_bytes=1) as (transport, peer):
        await peer.close(1001, "")
        reason = await end_of(transport)
        with pytest.raises(DisconnectedError) as caught:
            transport.send_nowait(Frame(b"x"))
        assert caught.value.reason == reason
        with pytest.raises(DisconnectedError):
            await transport.wait_room()
        assert transport.statistics().queued_bytes == 0


async def test_the_end_wakes_those_who_wait(pair: Pair) -> None:
    async with pair(outbound_bytes=1) as (transport, peer), trio.open_nursery() as nursery:
        peer.stall()
        transport.send_nowait(BIG)
        ends: list[Any] = []

        async def wait(what: Callable[[], Any]) -> None:
            with pytest.raises(DisconnectedError) as caught:
                await what()
            ends.append(caught.value.reason)

        nursery.start_soon(wait, transport.wait_room)
        nursery.start_soon(wait, transport.receive)
        await wait_all_tasks_blocked()
        transport.abort()
        with trio.fail_after(PATIENCE):
            while len(ends) < 2:
                await trio.lowlevel.checkpoint()
        assert ends == [ClosedByClient()] * 2


async def test_close_sends_its_code_and_reason_and_returns_when_all_is_over(pair: Pair) -> None:
    """d15: the wire and ``closed`` agree on who closed."""
    async with pair() as (transport, peer):
        with trio.fail_after(PATIENCE):
            await transport.close(4001, "grüße")
            assert await peer.wait_closed() == (4001, "grüße")
        assert await end_of(transport) == ClosedByClient()


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (999, ""),
        (1004, ""),
        (1005, ""),
        (1006, ""),
        (1015, ""),
        (2999, ""),
        (5000, ""),
        (1000, "ü" * 62),
    ],
)
async def test_a_close_that_may_not_go_on_the_wire_is_refused_and_nothing_happens(
    pair: Pair, code: int, reason: str
) -> None:
    """d15: 999 and the like."""
    async with pair() as (transport, peer):
        with pytest.raises(ValueError, match="close"):
            await transport.close(code, reason)
        assert transport.closed is None
        await peer.send("still there")
        assert await receive(transport.receive, 1) == ["still there"]


async def test_close_1000_sends_what_is_queued_first(pair: Pair) -> None:
    async with pair(close_timeout=3.0) as (transport, peer):
        for number in range(2000):
            transport.send_nowait(Frame(b"%06d" % number * 100))
        await transport.close()
        got = await receive(peer.receive, 2000)
        assert [int(f.data[:6]) for f in got] == list(range(2000))
        with trio.fail_after(PATIENCE):
            assert await peer.wait_closed() == (1000, "")


async def test_any_other_close_overtakes_what_is_queued(pair: Pair) -> None:
    written: list[Any] = []
    async with pair(close_timeout=3.0, written=written) as (transport, peer):
        peer.stall()
        transport.send_nowait(BIG, token=1)
        await wait_all_tasks_blocked()
        transport.send_nowait(Frame(b"dropped"), token=2)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(transport.close, 1001)
            await wait_all_tasks_blocked()
            peer.resume()
        assert await receive(peer.receive, 1) == [BIG]
        with trio.fail_after(PATIENCE):
            assert await peer.wait_closed() == (1001, "")
    assert written == [1]


async def test_closing_twice_waits_for_the_first(pair: Pair) -> None:
    async with pair() as (transport, peer):
        order: list[int] = []

        async def close(code: int) -> None:
            await transport.close(code)
            order.append(code)

        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(close, 4001)
                nursery.start_soon(close, 4002)
            assert sorted(order) == [4001, 4002]
            assert (await peer.wait_closed())[0] in {4001, 4002}
            await transport.close(4003)


async def test_close_is_not_cancelled_with_its_caller(pair: Pair) -> None:
    async with pair() as (transport, peer):
        with trio.CancelScope() as scope:
            scope.cancel()
            await transport.close(4001)
        with trio.fail_after(PATIENCE):
            assert await peer.wait_closed() == (4001, "")


async def test_a_peer_that_ignores_our_close_holds_us_for_close_timeout_only(pair: Pair) -> None:
    """d05: on both networks."""
    async with pair(close_timeout=0.3) as (transport, peer):
        peer.ignore_close()
        started = trio.current_time()
        await transport.close(4001)
        assert 0.25 < trio.current_time() - started < 1.5
        assert transport.closed == ClosedByClient()
        assert await peer.wait_closed() == (4001, "")


async def test_leaving_the_block_closes_with_1000(pair: Pair) -> None:
    async with pair() as (transport, peer):
        pass
    with trio.fail_after(PATIENCE):
        assert await peer.wait_closed() == (1000, "")
    assert transport.closed == ClosedByClient()


async def test_an_exception_closes_with_1001_and_leaves_the_block_bare(pair: Pair) -> None:
    """d11b."""
    # A group of the body's own is its exception like any other.
    error = ExceptionGroup("of the body", [ValueError("in it")])
    peers: list[Peer] = []

    async def fail() -> None:
        async with pair() as (_, peer):
            peers.append(peer)
            raise error

    with pytest.raises(ExceptionGroup, match="of the body") as caught:
        await fail()
    assert caught.value is error
    with trio.fail_after(PATIENCE):
        assert await peers[0].wait_closed() == (1001, "")


async def test_a_cancelled_block_sends_1001_and_ends_at_once(pair: Pair) -> None:
    """d11: even where the peer does not answer."""
    peers: list[Peer] = []
    with trio.move_on_after(PATIENCE) as limit, trio.CancelScope() as scope:
        async with pair(close_timeout=60.0) as (_, peer):
            peers.append(peer)
            peer.ignore_close()
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert not limit.cancelled_caught
    with trio.fail_after(PATIENCE):
        assert await peers[0].wait_closed() == (1001, "")


async def test_abort_sends_its_code_where_no_write_is_in_flight(pair: Pair) -> None:
    async with pair(close_timeout=60.0) as (transport, peer):
        peer.ignore_close()
        transport.abort(1011)
        assert transport.closed == ClosedByClient()
        with trio.fail_after(PATIENCE):
            assert await peer.wait_closed() == (1011, "")
            await transport.close()


async def test_abort_says_nothing_behind_half_a_frame(pair: Pair) -> None:
    async with pair(close_timeout=60.0) as (transport, peer):
        peer.stall()
        transport.send_nowait(BIG)
        await wait_all_tasks_blocked()
        with trio.fail_after(PATIENCE):
            transport.abort()
            await transport.close()
            peer.resume()
            assert await peer.wait_closed() == (None, "")


async def test_abort_cuts_a_close_short(pair: Pair) -> None:
    async with pair(close_timeout=60.0) as (transport, peer), trio.open_nursery() as nursery:
        peer.ignore_close()
        with trio.fail_after(PATIENCE):
            nursery.start_soon(transport.close, 4001)
            assert await peer.wait_closed() == (4001, "")
            transport.abort()
            await transport.close()


async def test_a_write_that_makes_no_progress_ends_the_connection(pair: Pair) -> None:
    """d03: the half that TCP does not notice in time."""
    async with pair(write_timeout=0.2) as (transport, peer):
        peer.stall()
        transport.send_nowait(BIG)
        reason = await end_of(transport)
        assert isinstance(reason, TransportFailed)
        assert isinstance(reason.error, TimeoutError)


async def test_last_received_moves_with_every_arrival(pair: Pair) -> None:
    async with pair() as (transport, peer):
        before = transport.last_received
        await trio.sleep(0.01)
        await peer.send("x")
        assert await receive(transport.receive, 1) == ["x"]
        assert before < transport.last_received <= trio.current_time()


async def test_a_crash_in_on_written_ends_the_block_bare(pair: Pair) -> None:
    class Broken(list[Any]):
        def extend(self, tokens: Any) -> None:
            raise LookupError("in on_written")

    async def send() -> None:
        async with pair(written=Broken()) as (transport, _):
            transport.send_nowait(Frame(b"x"), token=1)
            await trio.sleep_forever()

    with trio.fail_after(PATIENCE), pytest.raises(LookupError, match="in on_written"):
        await send()


async def test_a_block_inside_a_group_of_others_leaves_them_alone(pair: Pair) -> None:
    """d10: no cancellation strays out of the block."""
    async with trio.open_nursery() as nursery:
        done: list[int] = []
        left = trio.Event()

        async def sibling() -> None:
            await left.wait()
            done.append(1)

        nursery.start_soon(sibling)
        async with pair() as (_, peer):
            await peer.close(1000, "")
        left.set()
    assert done == [1]
