"""What a test does to the server and to its connections; and that nothing stays behind."""

import errno
import gc
import socket as sockets
from contextlib import suppress
from typing import Any

import pytest
import trio
import trio.testing

from slipstream.errors import ConfigError
from slipstream.reasons import ExitReason
from slipstream.testing import Channel, PhoenixServer, ServerSocket

from .support import Room, connected, dialled, reply

ROOMS = {"rooms:*": Room}


async def test_drop_ends_tcp_without_a_word() -> None:
    async with PhoenixServer(ROOMS) as server:
        async with connected(server, "rooms:1") as one, connected(server) as other:
            server.drop()
            await one.ended()
            await other.ended()
            await server.wait_connections(0)


async def test_one_connection_may_be_dropped_and_the_other_lives() -> None:
    async with PhoenixServer(ROOMS) as server:
        async with connected(server, "rooms:1") as one, connected(server) as other:
            server.sockets[0].drop()
            await one.ended()
            await other.silent()
            await server.wait_connections(1)


@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (1012, "restarting"), (4321, "own")])
async def test_close_says_code_and_reason(code: int, reason: str) -> None:
    async with PhoenixServer(ROOMS) as server:
        async with connected(server, "rooms:1") as client:
            server.close(code, reason)
            server.close(1001, "too late")
            seen = await client.receive()
            assert (seen.code, seen.payload[2:].decode()) == (code, reason)
            await client.close(code)
            await client.ended()
            await server.wait_connections(0)


async def test_what_was_said_before_a_close_comes_before_it() -> None:
    async with PhoenixServer(ROOMS) as server:
        async with connected(server, "rooms:1") as client:
            server.broadcast("rooms:1", "bye", {})
            server.disconnect()
            assert await client.text() == '[null,null,"rooms:1","bye",{}]'
            assert await client.closed() == 1001


async def test_a_client_that_answers_no_close_is_cut() -> None:
    async with PhoenixServer(ROOMS) as server:
        async with connected(server, "rooms:1") as client:
            server.close(1000)
            assert (await client.receive()).code == 1000
            await client.ended()
            await server.wait_connections(0)


async def test_a_client_that_reads_nothing_is_cut_in_time() -> None:
    async with PhoenixServer(ROOMS) as server:
        async with connected(server, "rooms:1"):
            for _ in range(64):
                server.broadcast("rooms:1", "big", "x" * 1_000_000)
            server.close(1000)
            await server.wait_connections(0)


async def test_a_frozen_connection_answers_nothing_and_notices_the_end() -> None:
    async with PhoenixServer(ROOMS) as server:
        async with connected(server, "rooms:1") as client:
            server.sockets[0].freeze()
            await client.send('["1","2","rooms:1","echo",{}]')
            await server.wait_until(lambda: server.frames[-1].ref == "2")
            server.broadcast("rooms:1", "after", {})
            assert await client.text() == '[null,null,"rooms:1","after",{}]'
        await server.wait_connections(0)


async def test_a_message_over_the_limit_is_a_1009() -> None:
    async with PhoenixServer(ROOMS, max_frame_size=1000) as server:
        async with connected(server, "rooms:1") as client:
            await client.send('["1","2","rooms:1","echo","' + "x" * 2000 + '"]')
            assert await client.closed() == 1009
            await server.wait_connections(0)


async def test_a_restart_closes_stays_away_and_comes_back_on_the_same_port() -> None:
    with trio.fail_after(10):
        async with PhoenixServer(ROOMS) as server, trio.open_nursery() as nursery:
            url = server.url
            async with connected(server, "rooms:1") as client:
                async with connected(server) as silent:
                    nursery.start_soon(lambda: server.restart(down_for=0.2))
                    assert await client.closed() == 1012
                    assert await silent.closed() == 1012
                    with pytest.raises(OSError, match=r"Errno|attempts"):
                        async with dialled(server):
                            pass
            while True:
                try:
                    async with connected(server, "rooms:1"):
                        break
                except OSError:
                    await trio.sleep(0.02)
            assert server.url == url


async def test_channels_are_crashed_and_stopped_from_outside() -> None:
    async with PhoenixServer(ROOMS) as server:
        async with connected(server, "rooms:1", "rooms:2") as client:
            error = ArithmeticError("mine")
            server.crash("rooms:1", error)
            crash = '{"reason":"channel_crash"}'
            assert await client.text() == f'["1","1","rooms:1","phx_error",{crash}]'
            await server.wait_until(lambda: bool(server.crashes))
            assert server.crashes == [error]
            await server.stop_channel("rooms:2")
            assert await client.text() == '["2","2","rooms:2","phx_close",{}]'
            server.crash("rooms:1")
            await server.stop_channel("rooms:1")
            await client.silent()


async def test_waits_give_up_in_time() -> None:
    async with PhoenixServer(ROOMS) as server:
        with pytest.raises(trio.TooSlowError, match=r"not within 0\.01 s"):
            await server.wait_connections(1, within=0.01)
        with pytest.raises(trio.TooSlowError):
            await server.wait_joined("rooms:1", within=0.01)


async def test_waits_see_clients_come_join_leave_and_go() -> None:
    with trio.fail_after(5):
        async with PhoenixServer(ROOMS) as server, trio.open_nursery() as nursery:
            seen: list[str] = []

            async def watch() -> None:
                await server.wait_connections(1)
                seen.append("came")
                assert (await server.wait_joined("rooms:1")).topic == "rooms:1"
                seen.append("joined")
                await server.wait_until(lambda: not server.channels("rooms:1"))
                seen.append("left")
                await server.wait_connections(0)
                seen.append("gone")

            nursery.start_soon(watch)
            async with connected(server, "rooms:1") as client:
                await client.send('["1","2","rooms:1","phx_leave",{}]')
                assert await client.text() == reply("1", "2", "rooms:1")
                await server.wait_until(lambda: "left" in seen or not server.channels("rooms:1"))
        assert seen == ["came", "joined", "left", "gone"]


async def test_leaving_the_block_says_goodbye_and_ends_every_channel() -> None:
    ends: list[ExitReason] = []

    class Noting(Channel):
        async def terminate(self, reason: ExitReason, /) -> None:
            ends.append(reason)

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            async with PhoenixServer({"rooms:*": Noting}) as server:
                client = await nursery.start(stays, server)
            assert server.sockets == []
        assert client.code == 1012
        assert len(ends) == 1


class Stayed:
    code = 0


async def stays(server: PhoenixServer, task_status: trio.TaskStatus[Stayed]) -> None:
    stayed = Stayed()
    async with connected(server, "rooms:1") as client:
        task_status.started(stayed)
        stayed.code = await client.closed()


async def test_an_error_of_the_block_leaves_bare() -> None:
    with pytest.raises(LookupError, match="mine"):
        async with PhoenixServer(ROOMS) as server:
            async with connected(server, "rooms:1"):
                raise LookupError("mine")
    assert server.sockets == []


@pytest.mark.parametrize("steps", range(0, 60, 3))
async def test_cancelled_anywhere_it_leaves_no_socket(steps: int) -> None:
    with trio.fail_after(10):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:

                async def cancel() -> None:
                    for _ in range(steps):
                        await trio.lowlevel.checkpoint()
                    scope.cancel()

                nursery.start_soon(cancel)
                async with PhoenixServer(ROOMS) as server:
                    async with connected(server, "rooms:1"):
                        await trio.sleep_forever()
    gc.collect()  # an unclosed socket would be a warning, and so an error


async def test_connects_in_the_midst_of_restarts_leave_nothing() -> None:
    async def hammer(server: PhoenixServer) -> None:
        while True:
            try:
                stream = await trio.open_tcp_stream("127.0.0.1", server.port)
            except OSError:
                await trio.lowlevel.checkpoint()
                continue
            await stream.aclose()

    with trio.fail_after(20):
        async with PhoenixServer(ROOMS) as server, trio.open_nursery() as nursery:
            nursery.start_soon(hammer, server)
            for _ in range(5):
                await trio.sleep(0.01)
                await server.restart()
            nursery.cancel_scope.cancel()
    gc.collect()


async def test_a_server_that_stops_amid_connects_ends_without_a_crash(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def hammer(server: PhoenixServer) -> None:
        with suppress(OSError):
            while True:
                stream = await trio.open_tcp_stream("127.0.0.1", server.port)
                await stream.aclose()

    with trio.fail_after(20):
        for _ in range(10):
            async with trio.open_nursery() as nursery:
                async with PhoenixServer(ROOMS) as server:
                    for _ in range(5):
                        nursery.start_soon(hammer, server)
                    await server.wait_until(lambda: bool(server._numbers))
    assert caplog.text == ""
    gc.collect()


async def test_accepting_goes_on_after_the_files_ran_short(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    real, failures = trio.SocketListener.accept, [errno.EMFILE, errno.ENOBUFS]

    async def accept(listener: trio.SocketListener) -> trio.SocketStream:
        if failures:
            raise OSError(failures.pop(), "short")
        return await real(listener)

    monkeypatch.setattr(trio.SocketListener, "accept", accept)
    async with PhoenixServer(ROOMS) as server:
        await trio.sleep(1.0)
        assert failures == []
        async with await trio.open_tcp_stream("127.0.0.1", server.port):
            await server.wait_until(lambda: server._numbers == 1)


async def test_a_taken_port_is_an_os_error_and_nothing_is_left_running() -> None:
    with sockets.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = PhoenixServer(ROOMS, port=taken.getsockname()[1])
        with trio.fail_after(5), pytest.raises(OSError, match=r"Errno|attempts"):
            async with server:
                pass


async def test_one_object_serves_once_at_a_time_and_again_later() -> None:
    server = PhoenixServer(ROOMS)
    async with server:
        port = server.port
        with pytest.raises(ConfigError, match="runs already"):
            await server.__aenter__()
        async with connected(server, "rooms:1"):
            pass
    with pytest.raises(ConfigError, match="does not run"):
        await server.restart()
    async with server, connected(server, "rooms:1"):
        assert server.port == port


@pytest.mark.parametrize(
    ("channels", "options", "says"),
    [
        ({"rooms:*": object}, {}, "accepted is a Channel class"),
        ({"rooms:*": Room()}, {}, "accepted is a Channel class"),
        ({"*:rooms": Room}, {}, r"pattern '\*:rooms'"),
        ({"": Room}, {}, "pattern ''"),
        ({7: Room}, {}, "pattern 7"),
        ({"rooms:*": Room}, {"path": "socket"}, "begins with '/'"),
    ],
)
def test_bad_input_is_named(channels: Any, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        PhoenixServer(channels, **options)


async def test_a_slow_join_holds_up_its_own_connection_only() -> None:
    class Slow(Channel):
        async def join(self, topic: str, payload: Any, socket: ServerSocket, /) -> None:
            await go.wait()

    go = trio.Event()
    with trio.fail_after(5):
        async with PhoenixServer({"rooms:*": Room, "slow:*": Slow}) as server:
            async with connected(server) as slow, connected(server, "rooms:1") as other:
                await slow.send(
                    '["1","1","slow:1","phx_join",{}]', '[null,"2","phoenix","heartbeat",{}]'
                )
                await server.wait_until(lambda: server.frames[-1].topic == "slow:1")
                await other.silent()
                go.set()
                assert await slow.text() == reply("1", "1", "slow:1")
                assert await slow.text() == reply(None, "2", "phoenix")
