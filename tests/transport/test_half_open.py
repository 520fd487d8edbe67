"""A path that is dead in both directions, and a peer that is: TCP says nothing, and nothing may hang.

Behind a proxy that falls silent, anywhere; and, where two network namespaces can be made, with the
cable pulled out between them, which the options of the socket have to notice.
"""

import json
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from slipstream.errors import ConnectError, DisconnectedError
from slipstream.interfaces import ConnectRequest, Frame, Transport
from slipstream.reasons import ClosedByClient, TransportFailed
from tests.transport.half_open import UNABLE
from tests.transport.proxy import Proxy, proxying
from tests.transport.support import (
    FIN,
    PATIENCE,
    Connection,
    RawServer,
    connect,
    open_sockets_to,
    serving,
)

# The program's limits are its own; the machine it runs on may be busy.
SLACK = 1.5


async def accept_and_watch(connection: Connection) -> Any:
    await connection.accept()
    return await connection.see_close_and_end()


@asynccontextmanager
async def behind_a_proxy(
    **options: Any,
) -> AsyncGenerator[tuple[RawServer, Proxy, ConnectRequest]]:
    async with serving(accept_and_watch) as server, proxying(server.port) as proxy:
        uri = f"ws://127.0.0.1:{proxy.port}/"
        yield server, proxy, server.request(uri=uri, **options)
        assert open_sockets_to(proxy.port) == []


async def silenced(proxy: Proxy, transport: Transport) -> None:
    """Let the proxy fall silent amid a connection."""
    assert transport.closed is None
    proxy.silence()
    await trio.lowlevel.checkpoint()


async def test_a_silent_peer_is_silence_and_last_received_shows_it() -> None:
    """d03: no error is made up; whoever keeps a heartbeat judges by the time of the last arrival."""
    async with behind_a_proxy() as (server, proxy, request):
        async with connect(request) as transport:
            await silenced(proxy, transport)
            before = transport.last_received
            with trio.move_on_after(0.3) as scope:
                await transport.receive()
            assert scope.cancelled_caught
            assert transport.last_received == before
            started = trio.current_time()
            transport.abort()
        assert trio.current_time() - started < 1.0
        assert open_sockets_to(proxy.port) == []
        proxy.resume()
        assert await server.result() == ((1001, ""), FIN)


async def test_writing_to_a_silent_peer_ends_by_write_timeout() -> None:
    """complaint-2, d03: small frames go into the buffers of the network, until one does not."""
    async with behind_a_proxy(write_timeout=0.3) as (_, proxy, request):
        async with connect(request) as transport:
            await silenced(proxy, transport)
            started = trio.current_time()
            transport.send_nowait(Frame(b"x" * (16 << 20), binary=True))
            with trio.fail_after(PATIENCE), pytest.raises(DisconnectedError):
                await transport.receive()
            assert 0.3 <= trio.current_time() - started < 2.0
            assert isinstance(transport.closed, TransportFailed)
            assert isinstance(transport.closed.error, TimeoutError)
        proxy.resume()


async def test_closing_towards_a_silent_peer_ends_by_close_timeout() -> None:
    """d03, d05: and what we said reaches the peer, should it ever wake."""
    async with behind_a_proxy(close_timeout=0.3) as (server, proxy, request):
        async with connect(request) as transport:
            await silenced(proxy, transport)
            started = trio.current_time()
            await transport.close(4001)
            assert 0.2 < trio.current_time() - started < 1.3
            assert transport.closed == ClosedByClient()
            assert open_sockets_to(proxy.port) == []
        proxy.resume()
        assert await server.result() == ((4001, ""), FIN)


async def test_an_upgrade_through_a_silent_proxy_ends_by_connect_timeout() -> None:
    """h01, d03: TCP itself was answered, by somebody who is not the server."""
    async with behind_a_proxy(connect_timeout=0.3) as (_, proxy, request):
        proxy.silence()
        with trio.fail_after(PATIENCE), pytest.raises(ConnectError) as caught:
            async with connect(request):
                pytest.fail("it was opened")
        assert caught.value.step == "upgrade"
        assert 0.3 <= caught.value.seconds < 1.3


@pytest.fixture(scope="module")
def told() -> dict[str, dict[str, Any]]:
    """Let the program tell what became of every connection."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.transport.half_open"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60.0,
        check=False,
    )
    if done.returncode == UNABLE:
        pytest.skip(f"two network namespaces are needed: {done.stdout.strip()}")
    assert (done.returncode, done.stderr) == (0, "")
    result: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return result


@pytest.mark.parametrize(
    ("case", "what", "at_least", "at_most"),
    [
        ("receives_without_options", "nothing", 3.0, 3.0),
        ("receives_with_keepalive", "TimeoutError", 3.0, 5.0),
        ("sends_with_a_user_timeout", "TimeoutError", 0.9, 2.0),
        ("writes_much", "TimeoutError", 0.5, 0.5),
        ("closes", "ClosedByClient()", 0.4, 0.5),
        ("is_cancelled", "cancelled", 0.0, 0.1),
        ("connects", "TooSlowError", 0.5, 0.5),
        ("heartbeats", "HeartbeatTimeout", 0.2, 0.6),
    ],
)
def test_a_cable_that_is_pulled_out_is_noticed_in_time(
    told: dict[str, dict[str, Any]], case: str, what: str, at_least: float, at_most: float
) -> None:
    """2a, d03: by keepalive, by a user time-out, by every deadline of ours and by the heartbeat."""
    assert told[case]["what"] == what
    assert at_least - 0.1 <= told[case]["seconds"] < at_most + SLACK


def test_a_client_is_back_when_the_cable_is(told: dict[str, dict[str, Any]]) -> None:
    """2a: its attempts are bounded too; and nothing of the dead connections is left open."""
    assert told["heartbeats"]["back"] < 2.0 + SLACK
    assert told["afterwards"]["what"] == []
