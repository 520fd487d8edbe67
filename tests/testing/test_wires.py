"""A server serves over memory as over TCP: the same client sees the same."""

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from slipstream import Config
from slipstream.errors import ConnectError, DisconnectedError
from slipstream.interfaces import ConnectRequest, Frame
from slipstream.reasons import ClosedByServer, ConnectFailed, TransportFailed
from slipstream.testing import ConnectInfo, PhoenixServer, Reject
from slipstream.testing.faults import half_open
from slipstream.transport import MemoryNetwork, MemoryPeer, MemoryResponse

from .support import Room
from .wires import both_wires, client_of, over, running

ROOMS = {"rooms:*": Room}


def ignore(_: object) -> None:
    """Take tokens that do not matter."""


@both_wires
def test_a_conversation(memory: bool) -> None:
    async def scenario(memory: bool) -> None:
        async with running(memory=memory) as client:
            await client.joined()
            await client.push("echo", {"a": "ü"})
            assert (await client.called("handle_reply"))[1].response == {"a": "ü"}
            await client.push("echo", b"\x00\xff")
            assert (await client.called("handle_reply", 2))[1].response == b"\x00\xff"
            client.server.broadcast("rooms:1", "news", {"n": 1})
            assert await client.called("handle_message") == ("rooms:1", "news", {"n": 1})
            client.server.crash("rooms:1")
            topic, reason = await client.called("handle_topic_close")
            assert (topic, reason.payload) == ("rooms:1", {"reason": "channel_crash"})
            await client.called("handle_join", 2)
            client.socket.leave("rooms:1")
            assert await client.called("handle_leave") == ("rooms:1",)
            assert client.of("handle_disconnect") == []

    over(scenario, memory=memory)


@both_wires
def test_what_a_connect_asks_for_and_is_told(memory: bool) -> None:
    async def scenario(memory: bool) -> None:
        def connect(info: ConnectInfo) -> Reject | None:
            return None if len(server.requests) > 1 else Reject(429, b"slow", {"Retry-After": "0"})

        options: dict[str, Any] = {
            "params": {"user": "a b"},
            "headers": {"X-Test": "yes"},
            "auth_token": "secret",
            "reconnect": [0.01],
        }
        async with running(memory=memory, serving={"connect": connect}, **options) as client:
            server = client.server
            (reason,) = await client.called("handle_disconnect")
            assert isinstance(reason, ConnectFailed)
            assert (reason.status, reason.body) == (429, b"slow")
            assert dict(reason.headers)["retry-after"] == "0"
            await client.called("handle_connect")
            info = server.requests[1]
            assert (info.path, info.auth_token) == ("/socket/websocket", "secret")
            assert info.params == {"user": "a b", "vsn": "2.0.0"}
            assert info.headers["x-test"] == "yes"
            assert server.sockets[0].params == info.params

    over(scenario, memory=memory)


@both_wires
@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (1012, "again"), (4321, "own")])
def test_a_close(memory: bool, code: int, reason: str) -> None:
    async def scenario(memory: bool) -> None:
        async with running(memory=memory) as client:
            await client.joined()
            client.server.broadcast("rooms:1", "last", {})
            client.server.close(code, reason)
            assert await client.called("handle_disconnect") == (ClosedByServer(code, reason),)
            assert client.calls.index(("handle_message", "rooms:1", "last", {})) < len(client.calls)
            await client.server.wait_connections(1)

    over(scenario, memory=memory)


@both_wires
def test_a_cut(memory: bool) -> None:
    async def scenario(memory: bool) -> None:
        async with running(memory=memory) as client:
            await client.joined()
            client.server.drop()
            (reason,) = await client.called("handle_disconnect")
            assert isinstance(reason, TransportFailed)
            await client.called("handle_join", 2)

    over(scenario, memory=memory)


@both_wires
def test_a_cut_ends_a_client_that_waits_to_close(memory: bool) -> None:
    async def scenario(memory: bool) -> None:
        async with running(memory=memory, close_timeout=15.0) as client:
            await client.joined()
            client.server.inject(half_open())
            client.socket.disconnect()
            await trio.sleep(0.1)
            assert client.of("handle_disconnect") == []
            started = trio.current_time()
            client.server.drop()
            await client.called("handle_disconnect")
            await client.server.wait_connections(0)
            assert trio.current_time() - started < 5.0

    over(scenario, memory=memory)


@both_wires
def test_a_message_over_the_limit(memory: bool) -> None:
    async def scenario(memory: bool) -> None:
        async with running(memory=memory, serving={"max_frame_size": 1000}) as client:
            await client.joined()
            await client.push("echo", "x" * 2000)
            (reason,) = await client.called("handle_disconnect")
            assert isinstance(reason, ClosedByServer)
            assert reason.code == 1009

    over(scenario, memory=memory)


@both_wires
def test_the_end_of_the_client_is_seen(memory: bool) -> None:
    async def scenario(memory: bool) -> None:
        async with running(memory=memory) as client:
            await client.called("handle_connect")
            (socket,) = client.server.sockets
            client.socket.disconnect()
            await client.server.wait_connections(0)
            assert socket.wire.closed_code == 1000

    over(scenario, memory=memory)


@both_wires
def test_a_restart(memory: bool) -> None:
    async def scenario(memory: bool) -> None:
        async with running(memory=memory, reconnect=[0.05]) as client:
            await client.joined()
            await client.server.restart(down_for=0.2)
            await client.called("handle_join", 2)
            first, *rest = [reason for (reason,) in client.of("handle_disconnect")]
            assert first == ClosedByServer(1012)
            assert len(rest) >= 2
            for reason in rest:
                assert isinstance(reason, ConnectFailed)
                assert isinstance(reason.error, ConnectError)
                assert (reason.error.step, reason.status) == ("tcp", None)

    over(scenario, memory=memory)


@both_wires
def test_a_connect_that_is_judged_for_too_long(memory: bool) -> None:
    async def scenario(memory: bool) -> None:
        async with running(memory=memory, serving={"connect": slow}, connect_timeout=0.3) as client:
            (reason,) = await client.called("handle_disconnect")
            assert reason.error.step == "upgrade"
            assert client.server.sockets == []

    async def slow(info: ConnectInfo) -> None:
        await trio.sleep_forever()

    over(scenario, memory=memory)


@both_wires
def test_the_end_of_the_server(memory: bool) -> None:
    async def scenario(memory: bool) -> None:
        async def serve(task_status: trio.TaskStatus[PhoenixServer]) -> None:
            async with PhoenixServer(ROOMS, memory=memory) as server:
                task_status.started(server)
                await end.wait()
            assert server.sockets == []

        end = trio.Event()
        async with trio.open_nursery() as nursery:
            server = await nursery.start(serve)
            async with client_of(server, memory=memory) as client:
                await client.joined()
                end.set()
                (reason,) = await client.called("handle_disconnect")
                assert reason == ClosedByServer(1012)
                (reason,) = await client.called("handle_disconnect", 2)
                assert reason.error.step == "tcp"

    over(scenario, memory=memory)


def test_a_minute_of_heartbeats_takes_no_time() -> None:
    async def scenario(memory: bool) -> None:
        async with running(memory=memory, heartbeat_interval=10.0) as client:
            await client.joined()
            await trio.sleep(601.0)
            beats = [message for message in client.server.frames if message.event == "heartbeat"]
            assert len(beats) == 60
            assert client.of("handle_disconnect") == []

    over(scenario, memory=True)


async def test_one_server_serves_both_ways_at_once() -> None:
    with trio.fail_after(10):
        async with PhoenixServer(ROOMS) as server:
            request = ConnectRequest(f"{server.url}?vsn=2.0.0")
            async with (
                server.open_transport(request, on_written=ignore) as one,
                await trio.open_tcp_stream("127.0.0.1", server.port),
            ):
                one.send_nowait(Frame(b'["1","1","rooms:1","phx_join",{}]'))
                (answer,) = await one.receive()
                assert "ok" in answer
        with pytest.raises(ConnectError, match="does not listen"):
            async with server.open_transport(request, on_written=ignore):
                pytest.fail("it was let in")


@pytest.mark.parametrize("steps", range(0, 40, 2))
def test_cancelled_anywhere_in_memory_it_leaves_nothing(steps: int) -> None:
    async def main() -> None:
        server = PhoenixServer(ROOMS, memory=True)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:

                async def cancel() -> None:
                    for _ in range(steps):
                        await trio.lowlevel.checkpoint()
                    scope.cancel()

                nursery.start_soon(cancel)
                async with server:
                    request = ConnectRequest(f"{server.url}?vsn=2.0.0")
                    async with server.open_transport(request, on_written=ignore):
                        await trio.sleep_forever()
        assert server.sockets == []

    trio.run(main, clock=MockClock(autojump_threshold=0))


@pytest.mark.parametrize("steps", range(0, 40, 2))
def test_a_client_that_gives_up_anywhere_leaves_no_connection(steps: int) -> None:
    async def main() -> None:
        async with PhoenixServer(ROOMS, memory=True) as server, trio.open_nursery() as nursery:

            async def connect() -> None:
                request = ConnectRequest(f"{server.url}?vsn=2.0.0")
                async with server.open_transport(request, on_written=ignore):
                    await trio.sleep_forever()

            nursery.start_soon(connect)
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        assert server.sockets == []

    trio.run(main, clock=MockClock(autojump_threshold=0))


async def test_a_network_may_leave_the_answer_to_a_server(autojump_clock: MockClock) -> None:
    async def answer(peer: MemoryPeer) -> MemoryResponse:
        await trio.sleep(float(peer.request.headers[0][1]))
        peers.append(peer)
        return MemoryResponse((("x-id", "1"),), "phoenix")

    peers: list[MemoryPeer] = []
    network = MemoryNetwork(answer=answer)
    request = ConnectRequest("ws://memory/", headers=(("x-wait", "3"),))
    async with network.open_transport(request, on_written=ignore) as transport:
        assert trio.current_time() == 3.0
        assert (transport.response_headers, transport.subprotocol) == ((("x-id", "1"),), "phoenix")
        assert peers[0].opened
        peers[0].send("x")
        assert await transport.receive() == ["x"]
    slow = ConnectRequest("ws://memory/", headers=(("x-wait", "11"),))
    with pytest.raises(ConnectError, match="connect_timeout, 10 s") as caught:
        async with network.open_transport(slow, on_written=ignore):
            pytest.fail("it was opened")
    assert caught.value.step == "upgrade"


async def test_a_peer_takes_only_so_much_unread(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    request = ConnectRequest("ws://memory/", write_timeout=5.0)
    async with network.open_transport(request, on_written=ignore) as transport:
        peer = await network.accept()
        peer.limit_unread(10)
        for _ in range(2):
            transport.send_nowait(Frame(b"x" * 10))
            await trio.sleep(4.0)
            assert len(await peer.receive()) == 1
        transport.send_nowait(Frame(b"x" * 10))
        await trio.sleep(1.0)
        transport.send_nowait(Frame(b"y"))
        with pytest.raises(DisconnectedError):
            await transport.receive()
        assert isinstance(transport.closed, TransportFailed)


def test_the_address_in_memory_is_a_valid_one() -> None:
    server = PhoenixServer(ROOMS, memory=True)
    assert Config(server.url, transport=server.open_transport).uri == server.url
    assert server.port == 0
