"""Rows 9 to 13 and 16 to 19: what follows the end of a connection, whoever ended it."""

from collections.abc import Callable
from typing import Any

import pytest
import trio

from slipstream import (
    ClosedByClient,
    ClosedByServer,
    Config,
    ConnectFailed,
    DisconnectedError,
    ReconnectPolicy,
    SlipstreamClient,
    Socket,
    Stop,
    TransportFailed,
)
from slipstream.reasons import NORMAL, Crashed

from .stage import Lodger, Stage, both_wires, check_took, in_the_kit, joined, query, scale_of, until


def elsewhere(test: Stage, **options: Any) -> Config:
    """Give a configuration that differs from the one in use, though it leads to the same server."""
    config = test.socket.config
    assert config is not None
    return Config(config.uri, heartbeat_interval=None, reconnect=config.reconnect, **options)


@in_the_kit(reconnect=ReconnectPolicy())
async def test_delays_are_drawn_from_a_range_that_doubles_up_to_thirty_seconds(test: Stage) -> None:
    """Row 9."""
    await test.refuse_connect(503)
    found: list[float] = []
    for _ in range(40):
        began = trio.current_time()
        await test.refuse_connect(503)
        found.append(trio.current_time() - began)
    ceilings = [min(30.0, 2.0**n) for n in range(40)]
    assert all(0.0 <= delay <= top for delay, top in zip(found, ceilings, strict=True))
    assert len(set(found)) == 40  # drawn, each by itself
    assert max(found) > 15.0


@both_wires(reconnect=[1.0, 3.0, 6.0])
async def test_a_list_of_delays_is_taken_literally_and_its_last_repeated(test: Stage) -> None:
    """Row 9."""
    for delay in (1.0, 3.0, 6.0, 6.0, 6.0):
        await test.refuse_connect(503)
        failed = await test.assert_callback("handle_disconnect", ConnectFailed)
        await test.assert_connect()
        check_took(test, failed.at, trio.current_time(), delay)


@pytest.mark.parametrize(("uptime", "delay"), [(0.0, 4.0), (29.9, 4.0), (30.0, 1.0), (300.0, 1.0)])
@in_the_kit(reconnect=[1.0, 2.0, 4.0])
async def test_the_count_starts_anew_only_after_a_stable_connection(
    test: Stage, uptime: float, delay: float
) -> None:
    """Row 10; JS-O2: an open connection alone is no success."""
    await test.refuse_connect(503)
    await test.refuse_connect(503)
    await test.accept_connect()
    await test.advance(uptime)
    await test.drop()
    began = trio.current_time()
    await test.accept_connect()
    assert trio.current_time() - began == delay


class Overriding(SlipstreamClient):
    """Overrides what is called at the end of a connection, and does there what the test says."""

    what: Callable[[Socket], Any] = staticmethod(lambda socket: None)

    async def handle_disconnect(self, reason: Any, socket: Socket, /) -> Any:
        return self.what(socket)


def do(test: Stage, what: Callable[[Socket], Any]) -> None:
    client: Any = test.client
    client.what = what


@both_wires(client=Overriding)
async def test_overriding_handle_disconnect_loses_no_reconnect(test: Stage) -> None:
    """Row 11."""
    await test.accept_connect()
    await test.drop()
    await test.assert_callback("handle_disconnect", TransportFailed)
    await test.accept_connect()
    await test.assert_callback("handle_connect")


@both_wires(client=Overriding)
async def test_handle_disconnect_may_stay_down(test: Stage) -> None:
    """Row 11."""
    await test.accept_connect()
    do(test, lambda socket: socket.disconnect())
    await test.drop()
    await test.assert_callback("handle_disconnect", TransportFailed)
    await test.refute_connect(within=30.0)
    assert test.ref.alive


@both_wires(client=Overriding)
async def test_handle_disconnect_may_set_the_delay(test: Stage) -> None:
    """Row 11."""
    await test.accept_connect()
    seconds = 7.0 * scale_of(test)
    do(test, lambda socket: socket.reconnect(after=seconds))
    await test.drop()
    lost = await test.assert_callback("handle_disconnect", TransportFailed)
    await test.accept_connect()
    check_took(test, lost.at, trio.current_time(), 7.0)


@both_wires(client=Overriding)
async def test_handle_disconnect_may_go_elsewhere(test: Stage) -> None:
    """Row 11."""
    await test.accept_connect()
    do(test, lambda socket: socket.connect(elsewhere(test, params={"n": "2"})))
    await test.drop()
    assert query(await test.accept_connect())["n"] == "2"


@both_wires(client=Overriding)
async def test_handle_disconnect_may_stop_the_client(test: Stage) -> None:
    """Row 11."""
    await test.accept_connect()
    do(test, lambda _: Stop(Crashed(ValueError("enough"))))
    await test.drop()
    await test.expect_crash(ValueError, "enough")


@pytest.mark.parametrize("code", [1000, 1001])
@both_wires()
async def test_a_clean_close_by_the_server_is_no_end(test: Stage, code: int) -> None:
    """Row 12; JS-X3, JS-X1 (reversed): whoever closed it, if it was not us."""
    await joined(test)
    await test.close(code, "see you")
    await test.assert_callback("handle_disconnect", ClosedByServer(code, "see you"))
    await test.accept_connect()
    await test.accept_join("t")
    await test.assert_callback("handle_join", "t")


@pytest.mark.parametrize("code", [1002, 1006, 1011, 1012, 4000])
@both_wires()
async def test_what_may_pass_is_followed_by_another_attempt(test: Stage, code: int) -> None:
    """Row 13; JS-X2, JS-X6; PCP-6, RS-5: the code is kept; 1006 is the bare end of TCP."""
    await joined(test)
    if code == 1006:
        await test.drop()
        await test.assert_callback("handle_disconnect", TransportFailed)
    else:
        await test.close(code, "why")
        await test.assert_callback("handle_disconnect", ClosedByServer(code, "why"))
    await test.accept_connect()
    await test.accept_join("t")
    await test.assert_callback("handle_join", "t")


@both_wires(reconnect=[60.0])
async def test_an_end_is_told_once(test: Stage) -> None:
    """Row 13; PHX-5, GSC-3, JS-S14: a Close and then the end of TCP, or that end alone."""
    await test.accept_connect()
    await test.close(1011)
    await test.assert_callback("handle_disconnect", ClosedByServer(1011))
    await test.refute_callback("handle_disconnect", within=5.0)
    test.socket.reconnect_now()
    await test.accept_connect()
    await test.drop()
    await test.assert_callback("handle_disconnect", TransportFailed)
    await test.refute_callback("handle_disconnect", within=5.0)


@pytest.mark.parametrize("code", [1003, 1007, 1008, 1009, 1010])
@both_wires()
async def test_what_would_come_again_ends_the_client(test: Stage, code: int) -> None:
    """Row 13; PCP-1, PCP-5: after handle_disconnect, with the code."""
    await test.accept_connect()
    await test.close(code)
    await test.assert_callback("handle_disconnect", ClosedByServer(code))
    error = await test.expect_crash(DisconnectedError)
    assert isinstance(error, DisconnectedError)
    assert error.reason == ClosedByServer(code)


@pytest.mark.parametrize(("code", "low", "high"), [(1012, 1.0, 5.0), (1013, 30.0, 60.0)])
@in_the_kit(reconnect=ReconnectPolicy())
async def test_a_server_that_is_busy_is_left_alone_for_a_while(
    test: Stage, code: int, low: float, high: float
) -> None:
    """Row 13; PCP-3, PCP-7: and clients do not come back all at once."""
    waited: set[float] = set()
    for _ in range(12):
        await test.accept_connect()
        await test.close(code)
        began = trio.current_time()
        await test.assert_connect(within=61.0)
        waited.add(trio.current_time() - began)
    assert all(low <= each <= high for each in waited)
    assert len(waited) == 12


@in_the_kit(
    reconnect=ReconnectPolicy(causes={1008: ReconnectPolicy().rule_for(ClosedByServer(1000))})
)
async def test_the_table_of_causes_can_be_overridden(test: Stage) -> None:
    """Row 13."""
    await test.accept_connect()
    await test.close(1008)
    await test.accept_connect()


@both_wires(max_message_size=1000)
async def test_a_message_that_is_too_large_is_named(test: Stage) -> None:
    """Rows 13, 51: 1009 is fatal, whichever side says so, and the error names the option."""
    await joined(test)
    await test.broadcast("t", "big", {"x": "x" * 1000})
    await test.expect_crash(DisconnectedError, "max_message_size")
    await test.assert_disconnect(1009)


@both_wires()
async def test_connecting_again_with_the_same_configuration_changes_nothing(test: Stage) -> None:
    """Row 16; JS-S15; RTP-1: neither while it connects nor while it is connected."""
    config = test.socket.config
    assert config is not None
    await test.assert_connect()
    for _ in range(3):
        test.socket.connect(config)
    await test.accept_connect()
    test.socket.connect(config)
    await test.refute_connect(within=10.0)
    await test.refute_disconnect(within=10.0)
    assert test.socket.health().counters["attempts"] == 1


@both_wires()
async def test_another_configuration_closes_the_old_connection_first(test: Stage) -> None:
    """Row 16; KT-8, JS-D5; PHX-1: in order, and what was joined is joined on the new one."""
    await joined(test)
    test.socket.connect(elsewhere(test, params={"n": "2"}))
    await test.assert_disconnect(1000)
    request = await test.accept_connect()
    assert query(request)["n"] == "2"
    await test.assert_callback("handle_disconnect", ClosedByClient())
    await test.accept_join("t")
    await test.assert_callback("handle_join", "t")
    assert len([call for call in test.calls if call.name == "handle_connect"]) == 2


@in_the_kit(close_timeout=3.0)
async def test_the_old_connection_is_over_before_another_is_asked_for(test: Stage) -> None:
    """Row 16: also where the server takes its time to answer the close."""
    await joined(test)
    await test.stall()
    test.socket.connect(elsewhere(test, params={"n": "2"}))
    await test.assert_disconnect(1000)
    await test.refute_connect(within=2.0)
    await test.resume()
    assert query(await test.accept_connect(within=0.0))["n"] == "2"


@both_wires()
async def test_another_configuration_gives_up_the_attempt_under_way(test: Stage) -> None:
    """Row 16; RTP-1: single-flight."""
    await test.assert_connect()
    test.socket.connect(elsewhere(test, params={"n": "2"}))
    test.socket.connect(elsewhere(test, params={"n": "3"}))
    await test.accept_connect(lambda uri: "n=3" in uri)
    await test.refute_connect(within=10.0)


@both_wires(reconnect=[5.0])
async def test_reconnecting_twice_is_one_attempt(test: Stage) -> None:
    """Row 17; SL-B2, SL-B3: nor does it disturb a connection that is open."""
    await test.accept_connect()
    test.socket.reconnect()
    test.socket.reconnect_now()
    await test.refute_disconnect(within=10.0)
    test.socket.disconnect()
    await test.assert_disconnect(1000)
    await test.assert_callback("handle_disconnect", ClosedByClient())
    test.socket.reconnect()
    test.socket.reconnect()
    test.socket.reconnect_now()
    await test.accept_connect()
    await test.refute_connect(within=20.0)
    assert test.socket.health().counters["attempts"] == 2


@both_wires()
async def test_what_came_over_an_old_connection_is_not_taken_for_the_news_of_the_new(
    test: Stage,
) -> None:
    """Row 18; JS-D5, PCP-10: messages that lay unread when the client moved are dropped."""
    await joined(test)
    reached = trio.Event()
    move = trio.Event()

    async def busy(client: Any, socket: Socket) -> None:
        reached.set()
        await move.wait()
        socket.connect(elsewhere(test, params={"n": "2"}))
        await socket.await_connect()

    test.ref.cast(busy)
    await reached.wait()
    await test.broadcast("t", "old")
    await until(lambda: test.socket.health().inbound == 1)
    move.set()
    await test.accept_connect()
    await test.accept_join("t")
    await test.assert_callback("handle_join", "t")
    await test.broadcast("t", "new")
    await test.assert_callback("handle_message", "t", "new", {})
    await test.refute_callback("handle_message", within=5.0)
    assert test.socket.health().counters["stale"] == 1


@in_the_kit(heartbeat_interval=30.0, heartbeat_timeout=10.0)
async def test_a_deadline_of_an_old_connection_ends_no_new_one(test: Stage) -> None:
    """Row 18; PHX-6: a heartbeat that was never answered dies with its connection."""
    await test.accept_connect()
    await test.stall()
    await test.advance(35.0)
    await test.drop()
    await test.resume()
    await test.accept_connect()
    await test.refute_disconnect(within=100.0)
    assert test.socket.health().counters["disconnects"] == 1


@both_wires()
async def test_our_own_disconnect_says_so(test: Stage) -> None:
    """Row 19; JS-D1, JS-D2, JS-D3, JS-X4; PHX-2; SL-I11, SL-T6, SL-T8: once, and nothing follows."""
    await joined(test)
    test.socket.disconnect()
    test.socket.disconnect()
    await test.assert_disconnect(1000)
    await test.assert_callback("handle_disconnect", ClosedByClient())
    await test.refute_callback("handle_disconnect", within=5.0)
    await test.refute_connect(within=30.0)
    assert not test.socket.connected
    assert test.ref.alive


@both_wires(close_timeout=3.0)
async def test_a_server_that_answers_no_close_is_waited_for_for_so_long(test: Stage) -> None:
    """Row 19."""
    await test.accept_connect()
    await test.stall()
    began = trio.current_time()
    test.socket.disconnect()
    lost = await test.assert_callback("handle_disconnect", ClosedByClient(), within=10.0)
    check_took(test, began, lost.at, 3.0)


@both_wires()
async def test_disconnecting_ends_an_attempt_and_a_wait_for_one(test: Stage) -> None:
    """Row 19; JS-D4, JS-D6, JS-X4; PCP-15: and is harmless where there is nothing to end."""
    await test.assert_connect()
    test.socket.disconnect()
    await until(lambda: test.socket.health().phase == "down")
    test.socket.reconnect()
    await test.refuse_connect(503)
    await test.assert_callback("handle_disconnect", ConnectFailed)
    test.socket.disconnect()
    test.socket.disconnect()
    await test.refute_connect(within=30.0)


@both_wires()
async def test_after_a_disconnect_and_a_connect_losses_are_mended_again(test: Stage) -> None:
    """JS-X5."""
    await test.accept_connect()
    test.socket.disconnect()
    await test.assert_disconnect(1000)
    await test.assert_callback("handle_disconnect", ClosedByClient())
    test.socket.reconnect()
    await test.accept_connect()
    await test.drop()
    await test.assert_callback("handle_disconnect", TransportFailed)
    await test.accept_connect()


class Transient(Lodger, restart="transient"):
    """Is not started again once it has stopped in order."""


@both_wires(client=Transient)
async def test_a_client_that_stops_says_so_and_reconnects_no_more(test: Stage) -> None:
    """Row 19; SL-X10; PCP-15."""
    await joined(test)
    test.ref.cast(_stop)
    await test.assert_disconnect(1000)
    assert await test.assert_stopped(NORMAL) == NORMAL


async def _stop(client: Any, socket: Socket) -> Stop:
    return Stop(NORMAL)
