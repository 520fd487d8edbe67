"""Rows 51 to 54 and 56: messages, what they cost, and what is told of them."""

from typing import Any

import attrs
import pytest
import trio

from slipstream import (
    ClosedByServer,
    Config,
    ConsumerTooSlow,
    DisconnectedError,
    EncodeError,
    SlipstreamClient,
    Socket,
    on_message,
)
from slipstream.reasons import Crashed

from .stage import Lodger, Stage, both_wires, in_the_kit, inside, is_kit, joined, scale_of, until


@both_wires()
async def test_messages_come_with_and_without_a_join_ref(test: Stage) -> None:
    """Ground truth 15; row 34; SL-I7, SL-I9, JS-M1, JS-M2, JS-S14: pushes and broadcasts, once each."""
    await joined(test, "t:1")
    await joined(test, "t:2")
    await test.push("t:1", "foo", {"bar": "baz"})
    await test.broadcast("t:1", "foo", {"bar": "all"})
    await test.assert_callback("handle_message", "t:1", "foo", {"bar": "baz"})
    await test.assert_callback("handle_message", "t:1", "foo", {"bar": "all"})
    await test.refute_callback("handle_message", within=1.0)


def test_the_largest_message_is_settable() -> None:
    """Row 51."""
    assert Config("ws://a/").max_message_size == 16 * 1024 * 1024
    assert Config("ws://a/", max_message_size=7).max_message_size == 7


@both_wires(max_message_size=1000)
async def test_a_message_of_the_largest_size_is_heard(test: Stage) -> None:
    """Row 51."""
    await joined(test)
    text = f'[null,null,"t","e",{{"x":"{"x" * 1000}"}}]'
    await test.send(text.replace("x" * 1000, "x" * (1000 - len(text) + 1000)))
    await test.assert_callback("handle_message", "t", "e")
    await test.refute_disconnect(within=1.0)


@both_wires()
async def test_a_server_that_finds_a_message_too_large_is_not_asked_again(test: Stage) -> None:
    """Ground truth 19; rows 13, 51: 1009 would come again."""
    await joined(test)
    await test.close(1009)
    await test.assert_callback("handle_disconnect", ClosedByServer(1009))
    await test.expect_crash(DisconnectedError, "1009")


@both_wires(inbound_limit=10, max_pause=600.0)
async def test_a_client_that_is_busy_is_waited_for_and_nothing_is_lost(test: Stage) -> None:
    """Row 52: in order; reading pauses, and goes on."""
    await joined(test)
    reached, go_on = trio.Event(), trio.Event()

    async def busy(client: Any, socket: Socket) -> None:
        reached.set()
        await go_on.wait()

    test.ref.cast(busy)
    await reached.wait()
    for n in range(100):
        await test.broadcast("t", "n", {"n": n})
    await until(lambda: test.socket.health().counters.get("pauses", 0) >= 1)
    assert test.socket.health().inbound < 100 or not is_kit(test)
    go_on.set()
    for n in range(100):
        await test.assert_callback("handle_message", "t", "n", {"n": n})
    heard = [call.args[2]["n"] for call in test.calls if call.name == "handle_message"]
    assert heard == list(range(100))
    assert "dropped" not in test.socket.health().counters


@in_the_kit(
    inbound_limit=10, max_pause=600.0, heartbeat_interval=30.0, heartbeat_timeout=10.0,
    join_timeout=10.0,
)  # fmt: skip
async def test_paused_time_counts_towards_no_deadline(test: Stage) -> None:
    """Row 52: heartbeats, pushes and joins are late because the client is, and that is not held against them."""
    await joined(test)
    ref = await test.socket.push("t", "ask", timeout=20.0)
    push = await test.assert_push("t", "ask")
    await inside(test, _busy_for(test, 100.0))
    await test.reply(push, {"n": 1})
    await test.assert_callback("handle_reply", ref)
    await test.refute_callback("handle_push_failed", within=1.0)
    assert test.socket.connected


def _busy_for(test: Stage, seconds: float) -> Any:
    async def busy(client: Any, socket: Socket) -> None:
        for n in range(20):
            await test.broadcast("t", "n", {"n": n})
        await trio.sleep(seconds)

    return busy


@in_the_kit(inbound_limit=10, max_pause=20.0)
async def test_a_pause_that_is_too_long_ends_the_connection(test: Stage) -> None:
    """Row 52."""
    await joined(test)
    await inside(test, _busy_for(test, 30.0))
    await test.assert_callback("handle_disconnect", ConsumerTooSlow)


@in_the_kit(inbound_limit=10, on_overflow="drop_oldest")
async def test_the_oldest_may_be_dropped_and_that_is_counted(test: Stage) -> None:
    """Row 52; PCP-11."""
    await joined(test)
    await inside(test, _busy_for(test, 1.0))
    await test.assert_callback("handle_message", "t", "n", {"n": 19})
    heard = [call.args[2]["n"] for call in test.calls if call.name == "handle_message"]
    assert heard == sorted(heard)
    assert len(heard) + test.socket.health().counters["dropped"] == 20


@both_wires()
async def test_a_leave_lets_the_running_callback_finish_and_ignores_what_waits(
    test: Stage,
) -> None:
    """Row 34; PCP-12."""
    await joined(test)
    reached, go_on = trio.Event(), trio.Event()
    finished: list[bool] = []

    async def busy(client: Any, socket: Socket) -> None:
        reached.set()
        await go_on.wait()
        socket.leave("t")
        await trio.lowlevel.checkpoint()
        finished.append(True)

    test.ref.cast(busy)
    await reached.wait()
    await test.broadcast("t", "queued")
    await until(lambda: test.socket.health().inbound == 1)
    go_on.set()
    await test.assert_callback("handle_leave", "t")
    await test.refute_callback("handle_message", within=1.0)
    assert finished == [True]


class Fragile(Lodger):
    """Crashes where a message says so; counts what it has lived through."""

    lives = 0

    async def init(self, config: Config, socket: Socket, /) -> None:
        type(self).lives += 1
        self.life = self.lives
        self.ended: list[Any] = []
        socket.connect(config)

    async def handle_connect(self, socket: Socket, /) -> None:
        socket.join("t", {"life": self.life})

    async def handle_message(self, topic: str, event: str, payload: Any, socket: Socket, /) -> None:
        if event == "crash":
            raise KeyError("as asked")


@both_wires(client=Fragile)
async def test_an_exception_ends_this_life_and_another_begins(test: Stage) -> None:
    """Row 53; PCP-13: terminate, a close with 1011, a new instance from init on."""
    await test.accept_connect()
    first = (await test.accept_join("t")).payload["life"]
    await test.assert_callback("handle_join", "t")
    old = test.client
    await test.push("t", "crash")
    await test.expect_crash(KeyError, "as asked")
    await test.assert_callback("terminate", Crashed)
    await test.assert_disconnect(1011)
    await test.assert_restarted(Crashed)
    await test.accept_connect()
    assert (await test.accept_join("t")).payload == {"life": first + 1}
    assert test.client is not old
    await test.refute_callback("handle_disconnect", within=1.0)


@both_wires()
async def test_a_life_is_told_event_by_event(test: Stage) -> None:
    """Row 54; SL-E1, SL-E2, SL-E3, SL-E4, SL-E5: the names are Slipstream's; spans have a duration."""
    await joined(test)
    await test.push("t", "e")
    await test.assert_callback("handle_message", "t", "e")
    await test.socket.push("t", "ask")
    await test.reply(await test.assert_push("t", "ask"))
    await test.assert_callback("handle_reply")
    told = dict(test.telemetry)
    handled = told["slipstream.connection.handle"]
    assert (handled["frames"], handled["events"]) == (1, 1)
    assert handled["size"] > 0
    for span in (
        "slipstream.connection.connect",
        "slipstream.client.connect",
        "slipstream.client.join",
        "slipstream.client.handle_message",
        "slipstream.client.handle_reply",
    ):
        assert f"{span}.start" in told
        assert told[f"{span}.stop"]["duration"] >= 0.0
        assert told[f"{span}.start"]["span"] == told[f"{span}.stop"]["span"]
    assert told["slipstream.client.connect.start"]["config"] is test.socket.config
    assert told["slipstream.client.join.stop"]["topic"] == "t"


@both_wires(heartbeat_interval=30.0, heartbeat_timeout=30.0, rejoin=[1.0])
async def test_what_goes_wrong_is_told_too(test: Stage) -> None:
    """Row 54: reconnects, heartbeats, rejoins and drops have events of their own."""
    await joined(test)
    await test.assert_heartbeat()
    await until(lambda: "slipstream.connection.heartbeat" in dict(test.telemetry))
    await test.crash_topic("t")
    await test.accept_join("t", within=2.0)
    await test.assert_callback("handle_join", "t")
    await test.send('["77",null,"t","stale",{}]')
    await test.drop()
    await test.accept_connect()
    told = dict(test.telemetry)
    assert told["slipstream.connection.reconnect"]["delay"] == 1.0 * scale_of(test)
    assert told["slipstream.client.rejoin"]["topic"] == "t"
    assert told["slipstream.connection.discarded"]["event"] == "stale"
    assert "slipstream.connection.disconnect" in told


class Watcher(Lodger):
    """Follows presence."""

    async def handle_presence(self, topic: str, diff: Any, socket: Socket, /) -> None:
        pass


STATE = {"ann": {"metas": [{"phx_ref": "1", "n": 1}]}}


@both_wires(client=Watcher)
async def test_presence_is_kept_and_told_as_what_has_changed(test: Stage) -> None:
    """Row 56: a diff before the state waits for it."""
    await joined(test)
    bob = {"bob": {"metas": [{"phx_ref": "2", "n": 1}]}}
    await test.broadcast("t", "presence_diff", {"joins": bob, "leaves": {}})
    await test.push("t", "presence_state", STATE)
    call = await test.assert_callback("handle_presence", "t")
    assert sorted(test.socket.presences("t")) == ["ann", "bob"]
    assert sorted(each.key for each in call.args[1].joins) == ["ann", "bob"]
    await test.broadcast("t", "presence_diff", {"joins": {}, "leaves": bob})
    call = await test.assert_callback("handle_presence", "t")
    assert [each.key for each in call.args[1].leaves] == ["bob"]
    assert sorted(test.socket.presences("t")) == ["ann"]
    await test.refute_callback("handle_message")


@both_wires(client=Watcher)
async def test_after_a_reconnect_the_state_tells_what_was_missed(test: Stage) -> None:
    """Row 56; PR12: diffs wait for the state again."""
    await joined(test)
    await test.push("t", "presence_state", STATE)
    await test.assert_callback("handle_presence", "t")
    await test.drop()
    await test.accept_connect()
    await test.accept_join("t")
    await test.assert_callback("handle_join", "t")
    cid = {"cid": {"metas": [{"phx_ref": "3"}]}}
    await test.broadcast("t", "presence_diff", {"joins": cid, "leaves": {}})
    await test.refute_callback("handle_presence", within=1.0)
    await test.push("t", "presence_state", {})
    call = await test.assert_callback("handle_presence", "t")
    assert [each.key for each in call.args[1].joins] == ["cid"]
    assert [each.key for each in call.args[1].leaves] == ["ann"]
    assert sorted(test.socket.presences("t")) == ["cid"]


@attrs.frozen
class Price:
    value: float


class Routed(SlipstreamClient):
    """Handles one event, with a type; the rest goes where all does."""

    @on_message("t", "price", payload=Price)
    async def priced(self, topic: str, price: Price, socket: Socket, /) -> None:
        pass


@both_wires(client=Routed)
async def test_a_handler_gets_what_it_asked_for_and_nothing_else(test: Stage) -> None:
    """JS-ON1, JS-ON2, JS-CM: as it asked for it."""
    await joined(test)
    await test.push("t", "price", {"value": 1.5})
    await test.push("t", "other", {"value": 1.5})
    await test.assert_callback("priced", "t", Price(1.5))
    await test.assert_callback("handle_message", "t", "other", {"value": 1.5})
    await test.refute_callback("priced", within=1.0)
    await test.refute_callback("handle_message")


@in_the_kit()
async def test_a_field_that_has_no_place_in_a_binary_frame_is_refused(test: Stage) -> None:
    """Row 50; SL-Z1: at once; the field is named."""
    await test.accept_connect()
    topic = "t:" + "x" * 254
    test.socket.join(topic)
    await test.accept_join(topic)
    with pytest.raises(EncodeError, match="topic"):
        await test.socket.push(topic, "e", b"\x01")
    await test.socket.push(topic, "e", {"n": 1})
    await test.assert_push(topic, "e", {"n": 1})
