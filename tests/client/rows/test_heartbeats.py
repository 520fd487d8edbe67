"""Rows 1 to 5: heartbeats, and what they find out."""

import pytest
import trio

from slipstream import ClosedByClient, Config, HeartbeatTimeout, TransportFailed
from slipstream.testing.faults import slow

from .stage import Stage, both_wires, check_took, in_the_kit, joined, over_tcp, server_of, until


def acknowledged(test: Stage) -> int:
    return sum(name == "slipstream.connection.heartbeat" for name, _ in test.telemetry)


@in_the_kit(heartbeat_interval=30.0)
async def test_the_next_heartbeat_is_due_an_interval_after_the_last_was_answered(
    test: Stage,
) -> None:
    """Row 1; JS-S1, JS-H1: thirty seconds, where nothing else is said."""
    assert Config("ws://a/").heartbeat_interval == 30.0
    await test.accept_connect()
    opened = trio.current_time()
    first = await test.assert_heartbeat()
    second = await test.assert_heartbeat()
    assert [first.at, second.at] == [opened + 30.0, opened + 60.0]
    await test.stall()
    await test.advance(35.0)
    await test.resume()  # the answer to the third comes five seconds late
    third = await test.assert_heartbeat()
    fourth = await test.assert_heartbeat()
    assert [third.at, fourth.at] == [opened + 95.0, opened + 125.0]


@both_wires(heartbeat_interval=30.0, heartbeat_timeout=30.0)
async def test_heartbeats_go_on_and_are_answered(test: Stage) -> None:
    """Row 1; ground truth 21; JS-H2, DT-4: each has a ref of its own, and the answer has the same."""
    await test.accept_connect()
    first = await test.assert_heartbeat()
    second = await test.assert_heartbeat()
    for each in (first, second):
        assert (each.topic, each.event, each.payload) == ("phoenix", "heartbeat", {})
        assert each.join_ref is None
    assert first.ref != second.ref
    check_took(test, first.at, second.at, 30.0)
    await until(lambda: acknowledged(test) == 2)
    assert test.socket.health().last_rtt is not None
    await test.refute_callback("handle_reply")


@pytest.mark.parametrize("interval", [None, 0, 0.0])
@both_wires()
async def test_none_and_zero_disable_heartbeats(test: Stage, interval: float | None) -> None:
    """Row 1."""
    assert test.socket.config is not None
    test.socket.connect(Config(test.socket.config.uri, heartbeat_interval=interval))
    await test.accept_connect()
    await test.advance(40.0)
    assert test.socket.connected
    assert test.socket.health().counters.get("messages_sent", 0) == 0


@both_wires(heartbeat_interval=30.0, heartbeat_timeout=10.0)
async def test_a_server_that_says_nothing_after_a_heartbeat_is_given_up(test: Stage) -> None:
    """Row 2; JS-H1, JS-H4: the channel is lost with the connection, and joined on the next."""
    await joined(test)
    began = trio.current_time()
    await test.stall()
    lost = await test.assert_callback("handle_disconnect", HeartbeatTimeout(), within=60.0)
    assert test.socket.join_status("t") == "waiting"
    check_took(test, began, lost.at, 40.0)
    await test.resume()
    await test.accept_connect()
    await test.accept_join("t")
    await test.assert_callback("handle_join", "t")
    assert [call.args for call in test.calls if call.name == "handle_topic_close"] == []


@in_the_kit(heartbeat_interval=30.0, heartbeat_timeout=10.0)
async def test_whatever_is_received_renews_the_time_of_a_heartbeat(test: Stage) -> None:
    """Row 2: a broadcast five seconds after it gives the server ten seconds more."""
    await joined(test)
    began = trio.current_time()
    await test.stall()
    await test.advance(35.0)
    await test.broadcast("t", "news")
    lost = await test.assert_callback("handle_disconnect", HeartbeatTimeout(), within=60.0)
    assert lost.at == began + 45.0


@over_tcp(heartbeat_interval=30.0, heartbeat_timeout=10.0)
async def test_a_message_that_comes_slowly_is_waited_for(test: Stage) -> None:
    """Row 2: the answer is behind it, and every byte of it renews the time."""
    await joined(test)
    server_of(test).inject(slow(100_000.0))
    await test.push("t", "large", b"x" * 150_000)
    await test.assert_callback("handle_message", "t", "large")
    await test.refute_callback("handle_disconnect")
    assert test.socket.health().counters["messages_sent"] >= 2  # a heartbeat was owed an answer


@in_the_kit(heartbeat_interval=30.0, heartbeat_timeout=10.0)
async def test_an_answer_to_another_heartbeat_is_none(test: Stage) -> None:
    """Row 3: it is counted, and the heartbeat goes on waiting for its own."""
    await test.accept_connect()
    await test.stall()
    await test.advance(31.0)
    await test.send('[null,"99","phoenix","phx_reply",{"status":"ok","response":{}}]')
    assert test.socket.health().counters["discarded"] == 1
    assert acknowledged(test) == 0
    lost = await test.assert_callback("handle_disconnect", HeartbeatTimeout(), within=60.0)
    assert lost.at == 41.0  # it was something received, no more


@both_wires(heartbeat_interval=30.0, heartbeat_timeout=30.0)
async def test_a_stray_answer_is_counted_and_heartbeats_go_on(test: Stage) -> None:
    """Row 3: also while nothing was asked."""
    await test.accept_connect()
    await test.send('[null,"99","phoenix","phx_reply",{"status":"ok","response":{}}]')
    await until(lambda: test.socket.health().counters.get("discarded") == 1)
    await test.assert_heartbeat()
    await until(lambda: acknowledged(test) == 1)
    await test.refute_callback("handle_message")


@in_the_kit(heartbeat_interval=30.0, heartbeat_timeout=10.0)
async def test_after_a_disconnect_no_heartbeat_is_sent_nor_missed(test: Stage) -> None:
    """Rows 4, 19; JS-H5, JS-H6: not even one that was under way."""
    await test.accept_connect()
    await test.stall()
    await test.advance(31.0)
    sent = test.socket.health().counters["messages_sent"]
    test.socket.disconnect()
    await test.resume()
    await test.assert_callback("handle_disconnect", ClosedByClient())
    await test.refute_callback("handle_disconnect", within=200.0)
    assert test.socket.health().counters["messages_sent"] == sent


@both_wires(heartbeat_interval=30.0, heartbeat_timeout=30.0)
async def test_inbound_traffic_stops_no_heartbeat(test: Stage) -> None:
    """Row 4."""
    await joined(test)
    began = trio.current_time()
    for n in range(65):
        await test.advance(1.0)
        await test.broadcast("t", "tick", {"n": n})
    first = await test.assert_heartbeat()
    second = await test.assert_heartbeat()
    check_took(test, first.at, second.at, 30.0)
    check_took(test, began, second.at, 60.0)


async def flood(test: Stage) -> None:
    for _ in range(64):  # more than the buffers of two sockets hold
        await test.socket.push("t", "flood", b"x" * 500_000)


@both_wires(heartbeat_interval=30.0, heartbeat_timeout=10.0, write_timeout=600.0)
async def test_a_write_that_blocks_hides_no_dead_peer(test: Stage) -> None:
    """Row 5: the time of a heartbeat runs, whatever the writer is doing."""
    await joined(test)
    began = trio.current_time()
    await test.stall()
    await test.advance(31.0)  # the heartbeat is written
    await test.stall(buffers_full=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(flood, test)
        lost = await test.assert_callback("handle_disconnect", within=100.0)
        nursery.cancel_scope.cancel()
    assert lost.args == (HeartbeatTimeout(),)
    check_took(test, began, lost.at, 40.0)


@both_wires(write_timeout=10.0)
async def test_a_write_has_a_time_of_its_own(test: Stage) -> None:
    """Row 5: without any heartbeat."""
    await joined(test)
    began = trio.current_time()
    await test.stall(buffers_full=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(flood, test)
        lost = await test.assert_callback("handle_disconnect", within=100.0)
        nursery.cancel_scope.cancel()
    assert isinstance(lost.args[0], TransportFailed)
    check_took(test, began, lost.at, 10.0)
