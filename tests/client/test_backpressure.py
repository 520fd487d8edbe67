"""Floods: reading pauses, drops or ends; nothing is lost in silence, nothing grows without end."""

from typing import Any

import pytest
import trio
from hypothesis import given, strategies as st
from trio.testing import MockClock

from slipstream import (
    ChannelCrashed,
    Config,
    ConfigError,
    ConsumerTooSlow,
    Message,
    PushTimedOut,
    Socket,
    coalesce,
)
from slipstream.testing import SocketTest, open_socket_test
from tests.client.kit import URI, Member, OpenTest, config


class Slow(Member):
    """Takes a second for each message."""

    async def handle_message(self, topic: str, event: str, payload: Any, socket: Socket, /) -> None:
        await trio.sleep(1.0)


async def flood(test: SocketTest, count: int) -> None:
    for number in range(count):
        await test.broadcast("t", "m", number)


async def test_reading_pauses_at_the_limit_and_nothing_is_lost(socket_test: OpenTest) -> None:
    """Row 52, f01."""
    # What the transport holds comes in one piece, so that the second pause is a long one.
    async with socket_test(Slow, config(inbound_limit=8, max_pause=30.0)) as test:
        await test.connect_and_join("t")
        await flood(test, 30)
        assert test.ref.health().inbound <= 8
        await test.advance(60.0)
        assert [args[2] for args in test.called("handle_message")] == list(range(30))
        assert test.called("handle_disconnect") == []
        assert test.events("slipstream.connection.pause")
        assert test.events("slipstream.connection.resume")


async def test_bytes_count_too(socket_test: OpenTest) -> None:
    async with socket_test(Slow, config(inbound_bytes=1000)) as test:
        await test.connect_and_join("t")
        for number in range(20):
            await test.broadcast("t", "m", {"n": number, "x": "y" * 200})
        assert test.ref.health().inbound <= 6
        await test.advance(60.0)
        assert len(test.called("handle_message")) == 20


async def test_paused_time_counts_towards_no_deadline(socket_test: OpenTest) -> None:
    """Design section 2: while paused nothing can be read, so nothing can be late."""
    options = config(inbound_limit=8, heartbeat_interval=5.0, heartbeat_timeout=2.0)
    async with socket_test(Slow, options) as test:
        await test.connect_and_join("t")
        ref = await test.socket.push("t", "e", timeout=6.0)
        await flood(test, 20)
        await test.advance(17.0)
        assert test.socket.connected
        await test.advance(20.0)
        assert test.called("handle_push_failed") == [(ref, PushTimedOut())]
        assert test.called("handle_disconnect") == []


async def test_a_pause_that_is_too_long_ends_the_connection(socket_test: OpenTest) -> None:
    class Stuck(Member):
        async def handle_message(
            self, topic: str, event: str, payload: Any, socket: Socket, /
        ) -> None:
            await trio.sleep(100.0)

    async with socket_test(Stuck, config(inbound_limit=4, max_pause=20.0)) as test:
        await test.connect_and_join("t")
        await flood(test, 10)
        closed = await test.assert_disconnect(1001, within=60.0)
        assert closed.at == pytest.approx(20.0)
        await test.advance(1000.0)
        (reason,) = test.called("handle_disconnect")[0]
        assert reason == ConsumerTooSlow(20.0)


async def test_disconnecting_at_the_limit(socket_test: OpenTest) -> None:
    async with socket_test(Slow, config(inbound_limit=4, on_overflow="disconnect")) as test:
        await test.connect_and_join("t")
        await flood(test, 5)
        await test.assert_disconnect(1001)
        await test.advance(100.0)
        assert test.called("handle_disconnect")[0] == (ConsumerTooSlow(0.0),)


async def test_dropping_the_oldest_is_counted_and_drops_nothing_but_messages(
    socket_test: OpenTest,
) -> None:
    """Contract: delivered + dropped = sent."""
    async with socket_test(Slow, config(inbound_limit=4, on_overflow="drop_oldest")) as test:
        await test.connect_and_join("t")
        ref = await test.socket.push("t", "e")
        push = await test.assert_push("t", "e")
        await flood(test, 3)
        await test.reply(push)
        await flood(test, 50)
        await test.crash_topic("t", {})
        await test.advance(100.0)
        heard, counters = test.called("handle_message"), test.ref.health().counters
        assert len(heard) + counters["dropped"] + counters.get("stale", 0) == 53
        assert [args[0] for args in test.called("handle_reply")] == [ref]
        assert test.called("handle_topic_close")[0] == ("t", ChannelCrashed({}))
        assert heard[0][2] == 0
        assert test.ref.health().inbound == 0


async def test_a_batch_is_delivered_message_by_message_and_a_stop_ends_it(
    socket_test: OpenTest,
) -> None:
    """Design section 2: a batch is a unit of reading, not of scheduling."""
    async with socket_test(Slow, config()) as test:
        await test.connect_and_join("t")
        await test.send(*[f'[null,null,"t","m",{number}]' for number in range(100)])
        await test.advance(2.5)
        await test.supervisor.terminate_child("client")
        assert len(test.called("handle_message")) == 3
        assert test.callbacks[-1] == "terminate"


async def test_bytes_over_the_limit_cost_no_more_of_the_oldest_than_they_must(
    socket_test: OpenTest,
) -> None:
    """The newest is kept, however large it is."""
    async with socket_test(Slow, config(inbound_bytes=1000, on_overflow="drop_oldest")) as test:
        await test.connect_and_join("t")
        for number in range(9):
            await test.broadcast("t", "m", [number, "y" * 200])
        await test.broadcast("t", "m", [9, "y" * 5000])
        await test.advance(100.0)
        assert [args[2][0] for args in test.called("handle_message")] == [0, 9]
        assert test.ref.health().counters["dropped"] == 8
        await test.broadcast("t", "m", [10])
        await test.advance(10.0)
        for number in range(6):
            await test.broadcast("t", "m", [number, "y" * 200])
        await test.advance(100.0)
        delivered = [args[2][0] for args in test.called("handle_message")]
        assert delivered[2:] == [10, 0, 2, 3, 4, 5]


def _key(message: Message) -> Any:
    return message.payload[0]


async def test_coalescing_puts_the_newest_of_a_key_where_the_oldest_waits(
    socket_test: OpenTest,
) -> None:
    async with socket_test(Slow, config(inbound_limit=8, on_overflow=coalesce(_key))) as test:
        test.socket.join("u")
        await test.connect_and_join("t")
        await test.accept_join("u")
        await test.broadcast("t", "m", ["handled", 0])
        prices = [("t", "a"), ("t", "b"), ("u", "a"), ("t", "a"), ("t", None), ("t", "a")]
        for number, (topic, key) in enumerate([*prices, ("t", None), ("t", "b")]):
            await test.broadcast(topic, "m", [key, number])
        assert test.ref.health().inbound == 5
        await test.advance(60.0)
        assert [(args[0], *args[2]) for args in test.called("handle_message")][1:] == [
            ("t", "a", 5),
            ("t", "b", 7),
            ("u", "a", 2),
            ("t", None, 4),
            ("t", None, 6),
        ]
        assert test.ref.health().counters["coalesced"] == 3
        assert test.ref.health().inbound == 0
        assert "pauses" not in test.ref.health().counters
        assert [data["count"] for data in test.events("slipstream.connection.coalesced")] == [3]


async def test_where_coalescing_makes_no_room_reading_pauses(socket_test: OpenTest) -> None:
    options = config(inbound_limit=32, on_overflow=coalesce(_key), max_pause=1e3)
    async with socket_test(Slow, options) as test:
        await test.connect_and_join("t")
        for number in range(100):
            await test.broadcast("t", "m", [number])
        assert test.ref.health().inbound == 32
        await test.advance(200.0)
        assert [args[2][0] for args in test.called("handle_message")] == list(range(100))
        assert test.ref.health().counters["pauses"] >= 2


async def test_no_message_is_moved_across_the_news_of_its_topic(socket_test: OpenTest) -> None:
    async with socket_test(Slow, config(inbound_limit=6, on_overflow=coalesce(_key))) as test:
        await test.connect_and_join("t")
        await flood(test, 1)  # it is being handled
        for number in range(3):
            await test.broadcast("t", "m", ["a", number])
        await test.crash_topic("t")
        test.socket.rejoin("t", {})
        await test.accept_join("t")
        for number in range(3, 10):
            await test.broadcast("t", "m", ["a", number])
        await test.advance(60.0)
        assert test.callbacks.count("handle_join") == 2
        last_join = len(test.calls) - 1 - test.callbacks[::-1].index("handle_join")
        after = [
            call.args[2][1] for call in test.calls[last_join:] if call.name == "handle_message"
        ]
        assert after
        assert after[-1] == 9
        assert min(after) >= 3


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
    options = config(
        inbound_limit=limit,
        max_pause=1e4,
        on_overflow=coalesce(lambda message: None if _key(message) == "\0" else _key(message)),
    )

    async def scenario() -> None:
        async with open_socket_test(Slow, options) as test:
            test.socket.join("u")
            await test.connect_and_join("t")
            await test.accept_join("u")
            sent: list[tuple[str, str, int]] = []
            for delivery in deliveries:
                batch = [(topic, key, len(sent) + at) for at, (topic, key) in enumerate(delivery)]
                sent += batch
                if batch:
                    await test.send(*[Message(None, None, t, "m", [k, n]) for t, k, n in batch])
                await test.advance(0.4)
            await test.advance(1000.0)
            heard = [(args[0], *args[2]) for args in test.called("handle_message")]
            assert len(heard) + test.ref.health().counters.get("coalesced", 0) == len(sent)
            for topic in "tu":
                for key in "abc\0":
                    mine = [n for t, k, n in heard if (t, k) == (topic, key)]
                    all_sent = [n for t, k, n in sent if (t, k) == (topic, key)]
                    assert mine == sorted(mine)
                    assert mine == all_sent if key == "\0" else mine[-1:] == all_sent[-1:]

    trio.run(scenario, clock=MockClock(autojump_threshold=0))


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
