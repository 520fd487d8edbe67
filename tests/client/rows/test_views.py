"""What can be seen of a client, and of its heartbeats."""

import pytest
import trio
from trio.testing import MockClock

from slipstream import (
    ClosedByClient,
    Config,
    TransportFailed,
)
from slipstream.testing import (
    open_socket_test,
)

from .stage import Lodger, Stage, both_wires, in_the_kit, until

URI = "ws://server.test/socket/websocket"


@both_wires(reconnect=[5.0], close_timeout=100.0)
async def test_the_state_of_the_connection_can_be_seen(test: Stage) -> None:
    """JS-C1, JS-C2, JS-C3, JS-C4, JS-C5, JS-C6; RS-1: down, waiting, connecting, open, closing."""

    def phase() -> tuple[str, bool]:
        return test.socket.health().phase, test.socket.connected

    await test.assert_connect()
    assert phase() == ("connecting", False)
    await test.accept_connect()
    assert phase() == ("open", True)
    await test.drop()
    await test.assert_callback("handle_disconnect", TransportFailed)
    await until(lambda: phase() == ("waiting", False))
    await test.accept_connect()
    await test.stall()
    test.socket.disconnect()
    await test.refute_callback("handle_disconnect", within=1.0)
    assert phase() == ("open", True)  # for as long as its close is under way
    await test.resume()
    await test.assert_callback("handle_disconnect", ClosedByClient())
    assert phase() == ("down", False)


@both_wires()
async def test_the_state_of_topics_can_be_seen(test: Stage) -> None:
    """JS-CH1, JS-C7, JS-C8, JS-C9, JS-J1, JS-OK1, KT-7; RS-1: and changed while one looks."""
    assert dict(test.socket.topics) == {}
    assert test.socket.join_status("t:1") is None
    test.socket.join("t:1")
    test.socket.join("t:2")
    await test.accept_connect()
    assert dict(test.socket.topics) == {"t:1": "requested", "t:2": "requested"}
    await test.accept_join("t:1")
    await test.assert_callback("handle_join", "t:1")
    assert (test.socket.joined("t:1"), test.socket.joined("t:2")) == (True, False)
    await test.accept_join("t:2")
    await test.assert_callback("handle_join", "t:2")
    for topic in test.socket.topics:
        test.socket.leave(topic)
        test.socket.join("t:3")
    await test.accept_join("t:3")
    for topic in ("t:1", "t:2"):
        await test.assert_callback("handle_leave", topic)
    assert test.socket.join_status("t:1") == "closed"


def test_the_defaults_are_those_of_the_documentation() -> None:
    """JS-S1, JS-S3: options override them."""
    config = Config(URI)
    assert (config.heartbeat_interval, config.heartbeat_timeout) == (30.0, 10.0)
    assert (config.connect_timeout, config.join_timeout, config.push_timeout) == (10.0,) * 3
    assert (config.write_timeout, config.leave_timeout, config.close_timeout) == (10.0, 10.0, 3.0)
    assert Config(URI, join_timeout=1.5).join_timeout == 1.5
    assert Config(URI, heartbeat_interval=60.0).heartbeat_interval == 60.0


@in_the_kit(heartbeat_interval=30.0, heartbeat_timeout=10.0)
async def test_the_way_there_and_back_is_measured_by_heartbeats(test: Stage) -> None:
    """JS-G1, JS-G2: there is none while there was no answer."""
    await test.accept_connect()
    assert test.socket.health().last_rtt is None
    await test.stall()
    await test.advance(30.25)
    await test.resume()
    assert test.socket.health().last_rtt == pytest.approx(0.25)


@in_the_kit(heartbeat_interval=30.0, heartbeat_timeout=10.0)
async def test_heartbeats_go_on_over_a_reconnect(test: Stage) -> None:
    """PCP-14, JS-H3: an interval after it opened, and none in between."""
    await test.accept_connect()
    await test.assert_heartbeat()
    await test.drop()
    sent = test.socket.health().counters["messages_sent"]
    await test.advance(40.0)  # nobody accepts
    assert test.socket.health().counters["messages_sent"] == sent
    await test.accept_connect()
    opened = trio.current_time()
    assert (await test.assert_heartbeat()).at == opened + 30.0


@pytest.mark.parametrize("interval", [None, 0])
def test_heartbeats_can_be_left_out(interval: float | None) -> None:
    """KT-10."""

    async def main() -> None:
        config = Config(URI, heartbeat_interval=interval)
        async with open_socket_test(Lodger, config) as test:
            await test.accept_connect()
            await test.advance(1000.0)
            assert test.socket.health().counters.get("messages_sent", 0) == 0

    trio.run(main, clock=MockClock())
