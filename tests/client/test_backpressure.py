"""Floods: reading pauses, drops or ends; nothing is lost in silence, nothing grows without end."""

from typing import Any

import pytest
import trio

from slipstream import ChannelCrashed, ConsumerTooSlow, HeartbeatTimeout, PushTimedOut
from slipstream.telemetry import capture_events
from tests.client.support import Harness, ServerEnd, harness, settle, virtual


async def _slow(client: Any, topic: str, event: str, payload: Any, socket: Any) -> None:
    await trio.sleep(1.0)


async def flood(h: Harness, end: ServerEnd, count: int) -> None:
    for number in range(count):
        end.broadcast("t", "m", number)
        await settle()


def test_reading_pauses_at_the_limit_and_nothing_is_lost() -> None:
    """Row 52, f01."""

    async def scenario() -> None:
        with capture_events("slipstream.connection") as events:
            async with harness({"handle_message": _slow}, inbound_limit=8) as h:
                end, _ = await h.joined()
                await flood(h, end, 30)
                assert h.ref.health().inbound <= 8
                await trio.sleep(60.0)
                assert [args[2] for args in h.of("handle_message")] == list(range(30))
                assert h.socket.connected
        names = [name for name, _ in events]
        assert "slipstream.connection.pause" in names
        assert "slipstream.connection.resume" in names

    virtual(scenario)


def test_bytes_count_too() -> None:
    async def scenario() -> None:
        async with harness({"handle_message": _slow}, inbound_bytes=1000) as h:
            end, _ = await h.joined()
            for number in range(20):
                end.broadcast("t", "m", {"n": number, "x": "y" * 200})
                await settle()
            assert h.ref.health().inbound <= 6
            await trio.sleep(60.0)
            assert len(h.of("handle_message")) == 20

    virtual(scenario)


def test_paused_time_counts_towards_no_deadline() -> None:
    """Design section 2: while paused nothing can be read, so nothing can be late."""

    async def scenario() -> None:
        async with harness(
            {"handle_message": _slow},
            inbound_limit=8,
            heartbeat_interval=5.0,
            heartbeat_timeout=2.0,
        ) as h:
            end, _ = await h.joined()
            ref = await h.socket.push("t", "e", timeout=6.0)
            await flood(h, end, 20)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(end.serve)
                await trio.sleep(17.0)
                assert h.socket.connected
                await trio.sleep(20.0)
                nursery.cancel_scope.cancel()
            assert h.of("handle_push_failed") == [(ref, PushTimedOut())]
            assert h.of("handle_disconnect") == []
            assert HeartbeatTimeout() not in [args[0] for args in h.of("handle_disconnect")]

    virtual(scenario)


def test_a_pause_that_is_too_long_ends_the_connection() -> None:
    async def stuck(client: Any, topic: str, event: str, payload: Any, socket: Any) -> None:
        await trio.sleep(100.0)

    async def scenario() -> None:
        async with harness({"handle_message": stuck}, inbound_limit=4, max_pause=20.0) as h:
            end, _ = await h.joined()
            await flood(h, end, 10)
            closed = await end.peer.wait_closed()
            assert closed.code == 1001
            assert trio.current_time() == pytest.approx(20.0)
            await trio.sleep(1000.0)
            (reason,) = h.of("handle_disconnect")[0]
            assert reason == ConsumerTooSlow(20.0)

    virtual(scenario)


def test_disconnecting_at_the_limit() -> None:
    async def scenario() -> None:
        async with harness(
            {"handle_message": _slow}, inbound_limit=4, on_overflow="disconnect"
        ) as h:
            end, _ = await h.joined()
            await flood(h, end, 5)
            assert (await end.peer.wait_closed()).code == 1001
            await trio.sleep(100.0)
            assert h.of("handle_disconnect")[0] == (ConsumerTooSlow(0.0),)

    virtual(scenario)


def test_dropping_the_oldest_is_counted_and_drops_nothing_but_messages() -> None:
    """Contract: delivered + dropped = sent."""

    async def scenario() -> None:
        async with harness(
            {"handle_message": _slow}, inbound_limit=4, on_overflow="drop_oldest"
        ) as h:
            end, join = await h.joined()
            ref = await h.socket.push("t", "e")
            push = await end.next("e")
            await flood(h, end, 3)
            end.reply(push)
            await flood(h, end, 50)
            end.say(join.join_ref, join.ref, "t", "phx_error")
            await trio.sleep(100.0)
            delivered = len(h.of("handle_message"))
            assert (
                delivered
                + h.ref.health().counters["dropped"]
                + h.ref.health().counters.get("stale", 0)
                == 53
            )
            assert [args[0] for args in h.of("handle_reply")] == [ref]
            assert h.of("handle_topic_close")[0] == ("t", ChannelCrashed({}))
            assert h.of("handle_message")[0][2] == 0
            assert h.ref.health().inbound == 0

    virtual(scenario)


def test_a_batch_is_delivered_message_by_message_and_a_stop_ends_it() -> None:
    """Design section 2: a batch is a unit of reading, not of scheduling."""

    async def scenario() -> None:
        async with harness({"handle_message": _slow}) as h:
            end, _ = await h.joined()
            end.peer.send(*[f'[null,null,"t","m",{number}]' for number in range(100)])
            await trio.sleep(2.5)
            await h.supervisor.terminate_child("client")
            assert len(h.of("handle_message")) == 3
            assert h.names()[-1] == "terminate"

    virtual(scenario)
