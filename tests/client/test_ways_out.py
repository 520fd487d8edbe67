"""Every way in which a client's life ends, seen from a raw server: the close code, the end of TCP, and when.

The server never answers the Close and keeps TCP open: the client has to see to its own end.
"""

import gc
import json
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from slipstream import Config, SlipstreamClient, Socket, open_supervisor, run
from slipstream.errors import SupervisorGaveUpError
from slipstream.otp import GenServer, Stop, SupervisorRef
from slipstream.reasons import NORMAL, ClosedByClient, HeartbeatTimeout
from tests.transport.proxy import proxying
from tests.transport.support import (
    BINARY,
    CLOSE,
    FIN,
    PATIENCE,
    TEXT,
    Connection,
    RawServer,
    Script,
    close_payload,
    frame,
    open_sockets_to,
    serving,
)

CLOSE_TIMEOUT = 0.3
WITHIN = CLOSE_TIMEOUT + 1.0


class Lodger(SlipstreamClient):
    """Connects, and does inside itself what it is told by a cast."""

    async def init(self, argument: Any, socket: Socket, /) -> None:
        self.house = argument
        socket.connect(self.house.config)

    async def handle_connect(self, socket: Socket, /) -> None:
        self.house.connected.set()

    async def handle_disconnect(self, reason: Any, socket: Socket, /) -> None:
        self.house.lose.send_nowait(reason)

    async def handle_cast(self, message: Any, socket: Socket, /) -> Any:
        return message(socket)


class Chatterer(Lodger):
    """Joins a topic, and pushes to it more than the network takes."""

    size = 8 << 20

    async def handle_connect(self, socket: Socket, /) -> None:
        socket.join("rooms:1")

    async def handle_join(self, topic: str, response: Any, socket: Socket, /) -> None:
        await socket.push(topic, "much", b"x" * self.size)
        await wait_all_tasks_blocked()
        self.house.connected.set()


class Sibling(GenServer):
    """Crashes when it is told to."""

    async def handle_cast(self, message: Any, /) -> None:
        raise message


class House:
    """A client that is connected to a raw server, and what became of it."""

    client: type[Lodger] = Lodger

    def __init__(self, server: RawServer, **options: Any) -> None:
        self.connected = trio.Event()
        self.lose, self._lost = trio.open_memory_channel[Any](100)
        defaults: dict[str, Any] = {
            "heartbeat_interval": None,
            "reconnect": [0.01],
            "close_timeout": CLOSE_TIMEOUT,
            "max_message_size": 1000,
        }
        uri = f"ws://127.0.0.1:{server.port}/socket"
        self.config = Config(uri, **{**defaults, **options})

    @property
    def spec(self) -> Any:
        return (self.client, self)

    async def lost(self) -> Any:
        """Wait for the next disconnect; give its reason."""
        with trio.fail_after(PATIENCE):
            return await self._lost.receive()

    async def wait_connected(self) -> None:
        with trio.fail_after(PATIENCE):
            await self.connected.wait()

    @asynccontextmanager
    async def open(self, **options: Any) -> AsyncGenerator[SupervisorRef]:
        """Run the client in a block, connected."""
        async with open_supervisor([self.spec, Sibling], **options) as supervisor:
            await self.wait_connected()
            yield supervisor


Way: TypeAlias = Callable[[House], Awaitable[None]]


async def block_returns(house: House) -> None:
    async with house.open():
        return


async def block_fails(house: House) -> None:
    with pytest.raises(ZeroDivisionError):
        async with house.open():
            raise ZeroDivisionError


async def block_is_cancelled(house: House) -> None:
    with trio.CancelScope() as scope:
        async with house.open():
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught


async def client_disconnects(house: House) -> None:
    async with house.open() as supervisor:
        supervisor.child(Lodger).cast(lambda socket: socket.disconnect())
        assert await house.lost() == ClosedByClient()


async def client_stops(house: House) -> None:
    async with house.open() as supervisor:
        supervisor.child(Lodger).cast(lambda _: Stop(NORMAL))
        await supervisor.child(Lodger).wait()
        await supervisor.terminate_child(Lodger)


async def child_is_terminated(house: House) -> None:
    async with house.open() as supervisor:
        await supervisor.terminate_child(Lodger)


async def client_crashes(house: House) -> None:
    def crash(_: Socket) -> None:
        raise ZeroDivisionError

    with pytest.raises(SupervisorGaveUpError):
        async with house.open(max_restarts=0) as supervisor:
            supervisor.child(Lodger).cast(crash)
            await trio.sleep_forever()


async def supervisor_gives_up(house: House) -> None:
    with pytest.raises(SupervisorGaveUpError):
        async with house.open(max_restarts=0) as supervisor:
            supervisor.child(Sibling).cast(ZeroDivisionError())
            await trio.sleep_forever()


async def sibling_restarts_the_group(house: House) -> None:
    async with house.open(strategy="one_for_all") as supervisor:
        house.connected = trio.Event()
        supervisor.child(Sibling).cast(ZeroDivisionError())
        await house.wait_connected()


async def interrupted(house: House) -> None:
    with pytest.raises(KeyboardInterrupt):
        async with house.open():
            signal.raise_signal(signal.SIGINT)
            await trio.sleep_forever()


async def connection_is_killed(house: House) -> None:
    """By a supervisor whose time to stop is up: a Close without waiting for anything."""
    async with house.open(shutdown="brutal_kill"):
        return


WAYS: dict[Way, int] = {
    block_returns: 1000,
    block_fails: 1001,
    block_is_cancelled: 1001,
    client_disconnects: 1000,
    client_stops: 1000,
    child_is_terminated: 1000,
    client_crashes: 1011,
    supervisor_gives_up: 1001,
    sibling_restarts_the_group: 1001,
    interrupted: 1001,
    connection_is_killed: 1001,
}


async def watch(connection: Connection) -> Any:
    await connection.accept()
    return await connection.see_close_and_end()


def name_of(way: Way) -> str:
    return way.__name__


@pytest.mark.parametrize("way", WAYS, ids=name_of)
async def test_every_way_out_says_its_code_and_ends_tcp(way: Way) -> None:
    """d05, d11: within close_timeout, though nobody answers."""
    async with serving(watch) as server:
        house = House(server)
        with trio.fail_after(PATIENCE):
            await way(house)
        assert open_sockets_to(server.port) == []
        close, end = await server.result()
        assert close == (WAYS[way], "")
        assert end == FIN
        assert end.seconds < WITHIN
    gc.collect()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_under_run_says_1001(number: signal.Signals) -> None:
    """d11: and the program ends in time, whatever the server does."""

    async def program() -> None:
        async with serving(watch) as server:
            house = House(server)
            try:
                async with house.open():
                    signal.raise_signal(number)
                    await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    seen.append(await server.result())

    seen: list[Any] = []
    with pytest.raises(SystemExit) as ended:
        run(program)
    assert ended.value.code == 128 + number
    [(close, end)] = seen
    assert (close, end) == ((1001, ""), FIN)
    assert end.seconds < WITHIN
    gc.collect()


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"\xff\xff", 1002),
        (frame(TEXT, b"\xff"), 1007),
        (frame(BINARY, b"x" * 2000), 1009),
        (frame(CLOSE, close_payload(1008)), 1008),
    ],
)
async def test_a_server_that_ends_it_is_told_why_and_dialled_again(sent: bytes, code: int) -> None:
    """d08, d09: it keeps TCP, and that holds nobody up."""
    async with serving(watch_after(sent)) as server:
        house = House(server)
        async with house.open() as supervisor:
            for _ in range(2):
                close, end = await server.result()
                assert close[0] == code
                assert end == FIN
                assert end.seconds < WITHIN
            await supervisor.terminate_child(Lodger)
    gc.collect()


def watch_after(sent: bytes) -> Script:
    async def script(connection: Connection) -> Any:
        await connection.accept(then=sent)
        return await connection.see_close_and_end()

    return script


@pytest.mark.parametrize("way", [block_returns, block_fails, block_is_cancelled], ids=name_of)
async def test_behind_half_a_push_nothing_is_said(way: Way) -> None:
    """d10d, d13: TCP ends by force."""
    left = trio.Event()

    async def script(connection: Connection) -> Any:
        await connection.accept()
        joining = await connection.read_frame()
        assert joining is not None
        join_ref, ref, topic, _, _ = json.loads(joining.payload)
        reply = [join_ref, ref, topic, "phx_reply", {"status": "ok", "response": {}}]
        await connection.send_frame(TEXT, json.dumps(reply).encode())
        await left.wait()
        return await connection.see_close_and_end()

    async with serving(script) as server:
        house = House(server, write_timeout=60.0)
        house.client = Chatterer
        with trio.fail_after(PATIENCE):
            await way(house)
        assert open_sockets_to(server.port) == []
        left.set()
        close, end = await server.result()
        assert (close, end.how) == (None, "fin")
        assert 0 < len(end.rest) < Chatterer.size
    gc.collect()


async def test_a_peer_that_falls_silent_is_given_up_and_dialled_again() -> None:
    """d03, 2a: by the heartbeat, which a live kernel or proxy cannot answer for a dead process."""
    async with serving(watch) as server, proxying(server.port) as proxy:
        house = House(server, heartbeat_interval=0.2, heartbeat_timeout=0.2, connect_timeout=0.2)
        house.config = attrs.evolve(house.config, uri=f"ws://127.0.0.1:{proxy.port}/socket")
        async with house.open():
            proxy.silence()
            started = trio.current_time()
            assert await house.lost() == HeartbeatTimeout()
            assert trio.current_time() - started < 0.4 + 1.0
            house.connected = trio.Event()
            proxy.resume()
            close, end = await server.result()
            assert (close, end) == ((1001, ""), FIN)
            await house.wait_connected()
    gc.collect()
