"""A connection that ends while its reading is paused: it is told soon, and costs nothing till then."""

from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from slipstream import Config, ConsumerTooSlow, SlipstreamClient, Socket, open_supervisor
from slipstream.client import ClientRef
from slipstream.reasons import ClosedByServer, DisconnectReason
from slipstream.testing import Channel, PhoenixServer
from tests.otp.support import run_virtually


class Stuck(SlipstreamClient):
    """Takes a minute for each message."""

    async def init(self, config: Config, socket: Socket, /) -> None:
        """Ask for a topic."""
        self.reasons: list[DisconnectReason] = []
        socket.connect(config)
        socket.join("t")

    async def handle_message(self, *_: Any) -> None:
        await trio.sleep(60.0)

    async def handle_disconnect(self, reason: DisconnectReason, socket: Socket, /) -> None:
        self.reasons.append(reason)


class Steps(trio.abc.Instrument):
    """Counts the steps of all tasks, and ends a run that takes too many."""

    def __init__(self, scope: trio.CancelScope, most: int) -> None:
        self._scope, self._left = scope, most

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._left -= 1
        if self._left < 0:
            self._scope.cancel()
            # Time that waits for all to be still would never go on.
            clock = trio.lowlevel.current_clock()
            assert isinstance(clock, MockClock)
            clock.rate = 1000.0


async def flooded(
    server: PhoenixServer, then: Callable[[ClientRef], Any], **options: Any
) -> trio.CancelScope:
    """Have a client that is flooded, and do *then*; give the scope, which too many steps cancel."""
    config = Config(server.url, transport=server.open_transport, inbound_limit=10, **options)
    scope = trio.CancelScope()
    steps = Steps(scope, 20_000)
    with scope:
        async with open_supervisor([(Stuck, config)]) as supervisor:
            client = supervisor.child(Stuck)
            assert isinstance(client, ClientRef)
            await server.wait_joined("t")
            trio.lowlevel.add_instrument(steps)
            for number in range(100):
                server.broadcast("t", "m", number)
            await then(client)
    trio.lowlevel.remove_instrument(steps)
    return scope


def test_a_connection_that_is_given_up_is_not_waited_for_once_more() -> None:
    """Row 52: the rest of what had come is handed over, and then there is the next connection."""

    async def scenario() -> None:
        async def then(client: ClientRef) -> None:
            await trio.sleep(19.0)
            assert client.health().phase == "open"
            await trio.sleep(5.0)
            assert client.health().phase != "open"
            assert client.health().last_disconnect == ConsumerTooSlow(20.0)

        async with PhoenixServer({"t": Channel}, memory=True) as server:
            scope = await flooded(server, then, max_pause=20.0)
        assert not scope.cancelled_caught

    run_virtually(scenario)


@pytest.mark.parametrize("end", [PhoenixServer.drop, PhoenixServer.close])
def test_no_step_is_taken_for_a_heartbeat_that_cannot_be_sent_any_more(
    end: Callable[[PhoenixServer], None],
) -> None:
    """The end waits behind the messages that came before it; that wait must not be a busy one."""

    async def scenario() -> None:
        async def then(client: ClientRef) -> None:
            await trio.sleep(10.0)
            end(server)
            await trio.sleep(3600.0)

        async with PhoenixServer({"t": Channel}, memory=True) as server:
            scope = await flooded(server, then, max_pause=7200.0, heartbeat_interval=30.0)
        assert not scope.cancelled_caught

    run_virtually(scenario)


def test_the_server_s_close_stays_the_reason_when_the_pause_outlasts_it() -> None:
    """What the client is told, and what its policy judges, is that the server closed."""

    async def scenario() -> None:
        async def then(client: ClientRef) -> None:
            await trio.sleep(10.0)
            server.close(1000)
            await trio.sleep(100.0)
            assert client.health().last_disconnect == ClosedByServer(1000)
            assert client.health().counters["attempts"] == 1

        async with PhoenixServer({"t": Channel}, memory=True) as server:
            await flooded(server, then, max_pause=20.0, connection_restart="transient")

    run_virtually(scenario)
