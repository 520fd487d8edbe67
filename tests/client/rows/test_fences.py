"""Rows 32 to 37 and 44 to 46: what does not belong to the present join, and ends of channels."""

import json
from typing import Any

import pytest
import trio

from slipstream import (
    ChannelClosed,
    ChannelCrashed,
    Socket,
    TransportFailed,
)
from slipstream.testing import PhoenixServer
from tests.testing.support import Room, connected

from .stage import Stage, both_wires, check_took, in_the_kit, is_kit, joined, until


def frame(
    join_ref: str | None, ref: str | None, topic: str, event: str, payload: Any = None
) -> str:
    return json.dumps([join_ref, ref, topic, event, {} if payload is None else payload])


def discarded(test: Stage) -> list[tuple[str, str]]:
    return [
        (data["topic"], data["event"])
        for name, data in test.telemetry
        if name == "slipstream.connection.discarded"
    ]


async def rejoined(test: Stage) -> tuple[str | None, str | None]:
    """Join ``t`` twice; give the refs of the old join and of the present one."""
    old = await joined(test)
    test.socket.rejoin("t", {"n": 2})
    new = await test.accept_join("t")
    await test.assert_callback("handle_join", "t")
    await until(lambda: discarded(test) == [("t", "phx_close")])
    return old.ref, new.ref


@pytest.mark.parametrize("event", ["phx_error", "phx_close"])
@both_wires()
async def test_the_end_of_an_earlier_join_ends_no_later_one(test: Stage, event: str) -> None:
    """Rows 32, 33; KT-1: it is counted and told of by telemetry, and by nothing else."""
    old, _ = await rejoined(test)
    await test.send(frame(old, old, "t", event, {"reason": "old"}))
    await until(lambda: discarded(test) == [("t", "phx_close"), ("t", event)])
    await test.refute_callback("handle_topic_close", within=1.0)
    assert test.socket.joined("t")
    await test.push("t", "still")
    await test.assert_callback("handle_message", "t", "still")


@both_wires()
async def test_messages_of_an_earlier_join_are_dropped(test: Stage) -> None:
    """Row 34; KT-1, PCP-10."""
    old, new = await rejoined(test)
    await test.send(frame(old, None, "t", "stale", {"n": 1}))
    await test.send(frame(new, None, "t", "fresh", {"n": 2}))
    await test.send(frame(None, None, "t", "broadcast", {"n": 3}))
    await test.assert_callback("handle_message", "t", "fresh", {"n": 2})
    await test.assert_callback("handle_message", "t", "broadcast", {"n": 3})
    await test.refute_callback("handle_message")
    assert discarded(test) == [("t", "phx_close"), ("t", "stale")]


@both_wires()
async def test_a_reply_of_an_earlier_join_is_dropped(test: Stage) -> None:
    """Row 34: also though the push that it answers was made with that join."""
    await joined(test)
    await test.socket.push("t", "ask")
    asked = await test.assert_push("t", "ask")
    test.socket.rejoin("t", {"n": 2})
    await test.accept_join("t")
    await test.assert_callback("handle_join", "t")
    answer = {"status": "ok", "response": {}}
    await test.send(frame(asked.join_ref, asked.ref, "t", "phx_reply", answer))
    await until(lambda: ("t", "phx_reply") in discarded(test))
    await test.refute_callback("handle_reply")


@both_wires()
async def test_a_reply_that_names_another_join_is_dropped(test: Stage) -> None:
    """Row 34: though its ref is that of a push that waits."""
    await joined(test)
    ref = await test.socket.push("t", "ask")
    await test.assert_push("t", "ask")
    answer = {"status": "ok", "response": {"n": 1}}
    await test.send(frame("77", ref, "t", "phx_reply", answer))
    await until(lambda: discarded(test) == [("t", "phx_reply")])
    await test.send(frame(None, ref, "t", "phx_reply", answer))
    await test.assert_callback("handle_reply", ref)
    await test.refute_callback("handle_reply", within=1.0)


@in_the_kit()
async def test_a_null_join_ref_passes_only_while_the_topic_is_joined(test: Stage) -> None:
    """Row 34; JS-M1: the join reply is the fence."""
    await test.accept_connect()
    test.socket.join("t")
    await test.assert_join("t")
    await test.send(frame(None, None, "t", "early"))
    await test.accept_join("t")
    await test.broadcast("t", "timely")
    test.socket.leave("t")
    await test.send(frame(None, None, "t", "late"))
    await test.advance(1.0)
    heard = [call.args[1] for call in test.calls if call.name == "handle_message"]
    assert heard == ["timely"]
    assert test.socket.health().counters["discarded"] >= 2


@both_wires()
async def test_what_lies_unread_when_the_join_changes_is_stale(test: Stage) -> None:
    """Row 34; PCP-10: the messages before it, too."""
    await joined(test)
    reached, go_on = trio.Event(), trio.Event()

    async def busy(client: Any, socket: Socket) -> None:
        reached.set()
        await go_on.wait()
        socket.rejoin("t", {"n": 2})

    test.ref.cast(busy)
    await reached.wait()
    await test.push("t", "old")
    await test.broadcast("t", "old, too")
    await until(lambda: test.socket.health().inbound == 2)
    go_on.set()
    await test.accept_join("t")
    await test.assert_callback("handle_join", "t")
    await test.refute_callback("handle_message", within=1.0)
    assert test.socket.health().counters["stale"] == 2


@both_wires()
async def test_a_close_by_the_server_is_told_as_such(test: Stage) -> None:
    """Ground truth 11; row 35; SL-I13, JS-OC1, JS-OC2, JS-OC3, JS-OC4: no leave, and no rejoin."""
    await joined(test)
    await test.close_topic("t")
    await test.assert_callback("handle_topic_close", "t", ChannelClosed())
    await test.refute_callback("handle_leave", within=1.0)
    await test.refute_join(within=30.0)
    await test.refute_callback("handle_topic_close")
    assert test.socket.join_status("t") == "closed"
    assert test.socket.connected
    await test.drop()
    await test.assert_callback("handle_disconnect", TransportFailed)
    await test.accept_connect()
    await test.refute_join(within=10.0)


@both_wires()
async def test_a_close_means_a_leave_only_where_we_left(test: Stage) -> None:
    """Ground truth 11; row 35: the frame is the same; our own state tells them apart."""
    await joined(test, "t:left")
    await joined(test, "t:closed")
    test.socket.leave("t:left")
    await test.close_topic("t:closed")
    await test.assert_callback("handle_leave", "t:left")
    await test.assert_callback("handle_topic_close", "t:closed", ChannelClosed())
    await test.refute_callback("handle_topic_close", within=1.0)
    await test.refute_callback("handle_leave")


@both_wires(rejoin=[5.0])
async def test_a_channel_that_crashes_is_told_and_joined_again(test: Stage) -> None:
    """Ground truth 12; row 36; SL-I12, JS-OE1, JS-OE5: once, after the delay, the others left alone."""
    await joined(test, "t:other")
    await joined(test)
    await test.crash_topic("t")
    crashed = ChannelCrashed({"reason": "channel_crash"})
    call = await test.assert_callback("handle_topic_close", "t", crashed)
    join = await test.assert_join("t", within=6.0)
    check_took(test, call.at, join.at, 5.0)
    await test.accept_join("t")
    await test.assert_callback("handle_join", "t")
    assert test.socket.joined("t:other")


@both_wires(rejoin=[5.0])
async def test_a_crash_is_followed_by_one_rejoin(test: Stage) -> None:
    """Row 36; JS-OE2: whatever else says that it has crashed."""
    join = await joined(test)
    await test.crash_topic("t")
    for _ in range(3):
        await test.send(frame(join.ref, join.ref, "t", "phx_error"))
    await test.assert_join("t", within=6.0)
    await test.accept_join("t")
    await test.assert_callback("handle_join", "t")
    await test.refute_join(within=20.0)
    closes = [call for call in test.calls if call.name == "handle_topic_close"]
    assert len(closes) == 1


@pytest.mark.parametrize("payload", [{}, None, [], "no", 7, {"reason": {"deep": [1]}}])
@both_wires(serving={"like": "1.8.3/cowboy"})
async def test_whatever_a_crash_carries_is_handed_on(test: Stage, payload: Any) -> None:
    """Ground truth 12; row 36: older servers say nothing of the reason."""
    join = await joined(test)
    if payload == {} and not is_kit(test):
        await test.crash_topic("t")
    else:
        text = json.dumps([join.ref, join.ref, "t", "phx_error", payload])
        await test.send(text)
    await test.assert_callback("handle_topic_close", "t", ChannelCrashed(payload))
    assert test.ref.alive


@pytest.mark.parametrize("event", ["phx_close", "phx_error", "phx_reply", "news", "phx_join"])
@both_wires()
async def test_what_concerns_a_topic_never_asked_for_is_ignored(test: Stage, event: str) -> None:
    """Row 37; JS-M1: and counted."""
    await joined(test)
    for join_ref in (None, "1", "99"):
        await test.send(frame(join_ref, "1", "t:unknown", event, {"status": "ok", "response": {}}))
    await until(lambda: len(discarded(test)) == 3)
    await test.push("t", "still")
    await test.assert_callback("handle_message", "t", "still")
    told = [call.name for call in test.calls]
    assert told == ["init", "handle_connect", "handle_join", "handle_message"]


@both_wires()
async def test_what_is_said_on_the_sockets_own_topic_reaches_no_client(test: Stage) -> None:
    """Row 44; JS-M2: it is told by telemetry."""
    await joined(test)
    await test.send(frame(None, None, "phoenix", "announcement", {"n": 1}))
    await until(lambda: ("phoenix", "announcement") in discarded(test))
    await test.push("t", "still")
    await test.assert_callback("handle_message", "t", "still")
    await test.refute_callback("handle_info")
    await test.refute_callback("handle_message")


BROKEN = [
    "no json",
    '["1",null,"t","short"]',
    '["1",null,"t","long",{},{}]',
    '{"topic":"t","event":"e"}',
    "[" * 2000,
    "null",
    b"",
    b"\x02\xff\xff",
    b"\x07\x01\x01",
]


@pytest.mark.parametrize("data", BROKEN, ids=repr)
@both_wires()
async def test_a_frame_that_is_no_message_is_counted_and_ignored(
    test: Stage, data: str | bytes
) -> None:
    """Row 45; DT-3: and told by telemetry; what follows is heard."""
    await joined(test)
    await test.send(data)
    await test.push("t", "still")
    await test.assert_callback("handle_message", "t", "still")
    assert test.socket.health().counters["undecodable"] == 1
    told = [name for name, _ in test.telemetry if name == "slipstream.connection.undecodable"]
    assert len(told) == 1


@pytest.mark.parametrize("data", BROKEN[:2], ids=repr)
@both_wires(on_undecodable="close")
async def test_a_frame_that_is_no_message_may_close_the_connection(
    test: Stage, data: str | bytes
) -> None:
    """Row 45."""
    await test.accept_connect()
    await test.send(data)
    await test.assert_disconnect(1007)
    await test.assert_callback("handle_disconnect", TransportFailed)
    await test.accept_connect()


@pytest.mark.parametrize("payload", [{"why": "whatever"}, [], "bye", None])
@both_wires()
async def test_a_close_with_a_payload_is_a_close(test: Stage, payload: Any) -> None:
    """Row 46."""
    join = await joined(test)
    await test.send(json.dumps([join.ref, join.ref, "t", "phx_close", payload]))
    await test.assert_callback("handle_topic_close", "t", ChannelClosed())
    assert test.socket.join_status("t") == "closed"


async def test_a_server_tells_of_ends_as_it_does() -> None:
    """Ground truth 11; ground truth 12: the raw frames of both."""
    async with (
        PhoenixServer({"rooms:*": Room}) as server,
        connected(server, "rooms:1", "rooms:2") as client,
    ):
        await client.send('["1","3","rooms:1","stop",{}]')
        assert await client.text() == '["1","1","rooms:1","phx_close",{}]'
        await client.send('["2","4","rooms:2","crash",{}]')
        crash = '["2","2","rooms:2","phx_error",{"reason":"channel_crash"}]'
        assert await client.text() == crash
