"""Floods: reading pauses, drops or ends; nothing is lost in silence, nothing grows without end."""

from typing import Any

import pytest
import trio
from hypothesis import given, strategies as st

from slipstream import (
    ChannelCrashed,
    Config,
    ConfigError,
    ConsumerTooSlow,
    HeartbeatTimeout,
    Message,
    PushTimedOut,
    coalesce,
)
from slipstream.telemetry import capture_events
from tests.client.support import URI, Harness, ServerEnd, harness, settle, virtual


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


def test_bytes_over_the_limit_cost_no_more_of_the_oldest_than_they_must() -> None:
    """The newest is kept, however large it is."""

    async def scenario() -> None:
        async with harness(
            {"handle_message": _slow}, inbound_bytes=1000, on_overflow="drop_oldest"
        ) as h:
            end, _ = await h.joined()
            for number in range(9):
                end.broadcast("t", "m", [number, "y" * 200])
                await settle()
            end.broadcast("t", "m", [9, "y" * 5000])
            await trio.sleep(100.0)
            delivered = [args[2][0] for args in h.of("handle_message")]
            assert delivered == [0, 9]
            assert h.ref.health().counters["dropped"] == 8
            end.broadcast("t", "m", [10])
            await trio.sleep(10.0)
            h.calls.clear()
            for number in range(6):
                end.broadcast("t", "m", [number, "y" * 200])
                await settle()
            await trio.sleep(100.0)
            assert [args[2][0] for args in h.of("handle_message")] == [0, 2, 3, 4, 5]

    virtual(scenario)


def _key(message: Message) -> Any:
    return message.payload[0]


def test_coalescing_puts_the_newest_of_a_key_where_the_oldest_waits() -> None:
    async def scenario() -> None:
        with capture_events("slipstream.connection.coalesced") as events:
            async with harness(
                {"handle_message": _slow}, inbound_limit=8, on_overflow=coalesce(_key)
            ) as h:
                end, _ = await h.joined()
                await h.joined("u", end)
                end.broadcast("t", "m", ["handled", 0])
                await settle()
                prices = [("t", "a"), ("t", "b"), ("u", "a"), ("t", "a"), ("t", None), ("t", "a")]
                for number, (topic, key) in enumerate([*prices, ("t", None), ("t", "b")]):
                    end.broadcast(topic, "m", [key, number])
                    await settle()
                assert h.ref.health().inbound == 5
                await trio.sleep(60.0)
                assert [(args[0], *args[2]) for args in h.of("handle_message")][1:] == [
                    ("t", "a", 5),
                    ("t", "b", 7),
                    ("u", "a", 2),
                    ("t", None, 4),
                    ("t", None, 6),
                ]
                assert h.ref.health().counters["coalesced"] == 3
                assert h.ref.health().inbound == 0
                assert "pauses" not in h.ref.health().counters
            assert [data["count"] for _, data in events] == [3]

    virtual(scenario)


def test_where_coalescing_makes_no_room_reading_pauses() -> None:
    async def scenario() -> None:
        async with harness(
            {"handle_message": _slow}, inbound_limit=32, on_overflow=coalesce(_key), max_pause=1e3
        ) as h:
            end, _ = await h.joined()
            for number in range(100):
                end.broadcast("t", "m", [number])
                await settle()
            assert h.ref.health().inbound == 32
            await trio.sleep(200.0)
            assert [args[2][0] for args in h.of("handle_message")] == list(range(100))
            assert h.ref.health().counters["pauses"] >= 2

    virtual(scenario)


def test_no_message_is_moved_across_the_news_of_its_topic() -> None:
    async def scenario() -> None:
        async with harness(
            {"handle_message": _slow}, inbound_limit=6, on_overflow=coalesce(_key), rejoin=[1.0]
        ) as h:
            end, join = await h.joined()
            await flood(h, end, 1)  # it is being handled
            for number in range(3):
                end.broadcast("t", "m", ["a", number])
                await settle()
            end.say(join.join_ref, join.ref, "t", "phx_error")
            await settle()
            h.socket.rejoin("t", {})
            await end.accept_join()
            for number in range(3, 10):
                end.broadcast("t", "m", ["a", number])
                await settle()
            await trio.sleep(60.0)
            assert h.names().count("handle_join") == 2
            last_join = len(h.calls) - 1 - h.names()[::-1].index("handle_join")
            after = [call[3][1] for call in h.calls[last_join + 1 :]]
            assert after
            assert after[-1] == 9
            assert min(after) >= 3

    virtual(scenario)


@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from("tu"), st.sampled_from("abc\0")), max_size=12),
        max_size=12,
    ),
    st.integers(1, 12),
)
def test_of_each_key_the_last_arrives_in_order_and_the_counters_add_up(
    deliveries: list[list[tuple[str, str]]], limit: int
) -> None:
    async def scenario() -> None:
        async with harness(
            {"handle_message": _slow},
            inbound_limit=limit,
            max_pause=1e4,
            on_overflow=coalesce(lambda message: None if _key(message) == "\0" else _key(message)),
        ) as h:
            end, _ = await h.joined()
            await h.joined("u", end)
            sent: list[tuple[str, str, int]] = []
            for delivery in deliveries:
                batch = [(topic, key, len(sent) + at) for at, (topic, key) in enumerate(delivery)]
                sent += batch
                if batch:
                    end.send(*[Message(None, None, t, "m", [key, n]) for t, key, n in batch])
                await trio.sleep(0.4)
            await trio.sleep(1000.0)
            heard = [(args[0], *args[2]) for args in h.of("handle_message")]
            assert len(heard) + h.ref.health().counters.get("coalesced", 0) == len(sent)
            for topic in "tu":
                for key in "abc\0":
                    mine = [n for t, k, n in heard if (t, k) == (topic, key)]
                    all_sent = [n for t, k, n in sent if (t, k) == (topic, key)]
                    assert mine == sorted(mine)
                    assert mine == all_sent if key == "\0" else mine[-1:] == all_sent[-1:]

    virtual(scenario)


async def _async_key(message: Message) -> int:
    return 0


@pytest.mark.parametrize("key", [None, "symbol", 7, _async_key])
def test_a_key_that_is_no_function_is_refused(key: Any) -> None:
    with pytest.raises(ConfigError, match=r"coalesce: key is .*; accepted is a function"):
        coalesce(key)


@pytest.mark.parametrize("choice", ["drop", None, len, [], {}])
def test_another_choice_is_refused(choice: Any) -> None:
    with pytest.raises(ConfigError, match=r"on_overflow is .*; accepted is .* or coalesce\(key\)"):
        Config(URI, on_overflow=choice)
