import pytest
import trio
from trio.testing import MockClock

from slipstream.errors import ConnectError, DisconnectedError
from slipstream.interfaces import ConnectRequest, Frame
from slipstream.reasons import ClosedByServer, TransportFailed
from slipstream.transport import ClientClose, MemoryNetwork

REQUEST = ConnectRequest(uri="ws://memory/socket/websocket?vsn=2.0.0")


def ignore(_: object) -> None:
    """Take tokens that do not matter."""


async def test_the_peer_knows_the_request_and_the_client_the_response() -> None:
    network = MemoryNetwork(response_headers=[("x-id", "1")], subprotocol="phoenix")
    async with network.open_transport(REQUEST, on_written=ignore) as transport:
        peer = await network.accept()
        assert peer.request is REQUEST
        assert transport.response_headers == (("x-id", "1"),)
        assert transport.subprotocol == "phoenix"
    assert network.requests == [REQUEST]


async def test_refusals_come_in_the_order_in_which_they_were_asked_for() -> None:
    network = MemoryNetwork()
    network.refuse(ConnectError("no", step="upgrade", status=403), times=2)
    network.refuse(ConnectError("no", step="dns"))
    statuses: list[tuple[str, int | None]] = []
    for _ in range(3):
        with pytest.raises(ConnectError) as caught:
            async with network.open_transport(REQUEST, on_written=ignore):
                pytest.fail("it was opened")
        statuses.append((caught.value.step, caught.value.status))
    assert statuses == [("upgrade", 403), ("upgrade", 403), ("dns", None)]
    async with network.open_transport(REQUEST, on_written=ignore) as transport:
        assert transport.closed is None
    assert len(network.requests) == 4


async def test_a_stalled_connect_ends_by_connect_timeout(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    network.stall_connects()
    started = trio.current_time()
    with pytest.raises(ConnectError) as caught:
        async with network.open_transport(REQUEST, on_written=ignore):
            pytest.fail("it was opened")
    assert trio.current_time() - started == 10.0
    assert (caught.value.step, caught.value.seconds) == ("tcp", 10.0)


async def test_connects_go_on_when_they_are_resumed(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    network.stall_connects()
    async with trio.open_nursery() as nursery:

        async def resume() -> None:
            await trio.sleep(3)
            network.resume_connects()

        nursery.start_soon(resume)
        async with network.open_transport(REQUEST, on_written=ignore):
            assert trio.current_time() == 3.0


async def test_accept_gives_connections_in_order_and_fails_where_none_comes(
    autojump_clock: MockClock,
) -> None:
    network = MemoryNetwork()
    async with (
        network.open_transport(REQUEST, on_written=ignore) as first,
        network.open_transport(REQUEST, on_written=ignore) as second,
    ):
        for transport in (first, second):
            peer = await network.accept()
            peer.send("x")
            assert await transport.receive() == ["x"]
    with pytest.raises(trio.TooSlowError):
        await network.accept(within=5.0)


async def test_the_end_of_the_client_is_told_with_its_time(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    async with network.open_transport(REQUEST, on_written=ignore) as transport:
        peer = await network.accept()
        await trio.sleep(7)
        await transport.close(4001, "bye")
    closed = await peer.wait_closed()
    assert closed == ClientClose(4001, "bye")
    assert closed.at == 7.0
    with pytest.raises(DisconnectedError):
        await peer.receive()
    with pytest.raises(DisconnectedError):
        peer.send("too late")


async def test_an_ignored_close_takes_close_timeout_exactly(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    async with network.open_transport(REQUEST, on_written=ignore) as transport:
        peer = await network.accept()
        peer.ignore_close()
        await transport.close()
        assert trio.current_time() == REQUEST.close_timeout


async def test_a_stalled_write_takes_write_timeout_exactly(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    async with network.open_transport(REQUEST, on_written=ignore) as transport:
        peer = await network.accept()
        peer.stall_writes()
        transport.send_nowait(Frame(b"x"))
        with pytest.raises(DisconnectedError) as caught:
            await transport.receive()
        assert trio.current_time() == REQUEST.write_timeout
        assert isinstance(caught.value.reason, TransportFailed)
    assert peer.closed == ClientClose(None)


async def test_the_peer_may_say_what_broke_the_connection() -> None:
    network = MemoryNetwork()
    async with network.open_transport(REQUEST, on_written=ignore) as transport:
        peer = await network.accept()
        error = EOFError("cable")
        peer.drop(error)
        with pytest.raises(DisconnectedError) as caught:
            await transport.receive()
        assert caught.value.reason == TransportFailed(error)


async def test_the_peer_may_close_without_a_code_but_not_with_a_wrong_one() -> None:
    network = MemoryNetwork()
    async with network.open_transport(REQUEST, on_written=ignore) as transport:
        peer = await network.accept()
        with pytest.raises(ValueError, match="close code 999"):
            peer.close(999)
        peer.close(1005)
        with pytest.raises(DisconnectedError):
            await transport.receive()
        assert transport.closed == ClosedByServer(1005)
