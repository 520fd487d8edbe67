"""Rows 42, 43, 47, 48 and 50: replies, refs and payloads."""

from typing import Any

import pytest
import trio
import trio.testing

from slipstream import (
    ChannelReply,
    EncodeError,
    ReplyError,
    Socket,
)

from .stage import Outcome, Stage, both_wires, in_the_kit, joined, until


@pytest.mark.parametrize("status", ["ok", "error", "created", "approved", "", "é"])
@both_wires()
async def test_any_status_is_one(test: Stage, status: str) -> None:
    """Ground truth 14; row 42; KT-6, RS-6: it raises nowhere, and ``ok`` alone is ok."""
    await joined(test)
    async with trio.open_nursery() as nursery:
        outcome = Outcome(nursery, test)
        push = await test.assert_push("t", "ask")
        await test.reply(push, {"n": 1}, status=status)
        await until(lambda: outcome.over)
    assert outcome.reply == ChannelReply(status, {"n": 1})
    assert outcome.reply.ok is (status == "ok")


@both_wires()
async def test_a_reply_belongs_to_its_push(test: Stage) -> None:
    """Row 42; SL-I5, SL-I8, SL-T9, SL-T10; JS-PU1, JS-OK2, JS-OK6: in whatever order they come."""
    await joined(test)
    refs = [await test.socket.push("t", "ask", {"n": n}) for n in range(3)]
    pushes = [await test.assert_push("t", "ask", {"n": n}) for n in range(3)]
    assert [push.ref for push in pushes] == refs
    for n in (2, 0, 1):
        await test.reply(pushes[n], {"pong": n})
        await test.assert_callback("handle_reply", refs[n], ChannelReply("ok", {"pong": n}))


@both_wires()
async def test_a_status_other_than_ok_is_no_error_unless_a_response_was_asked_for(
    test: Stage,
) -> None:
    """Row 42; JS-ER1, RS-6."""
    await joined(test)
    async with trio.open_nursery() as nursery:
        outcome = Outcome(nursery, test, response=dict[str, int])
        await test.reply(await test.assert_push("t", "ask"), {"why": "no"}, status="error")
        await until(lambda: outcome.over)
    assert isinstance(outcome.error, ReplyError)
    assert outcome.error.reply == ChannelReply("error", {"why": "no"})


@both_wires()
async def test_an_empty_reply_is_an_empty_mapping(test: Stage) -> None:
    """Row 43; SL-I16."""
    await joined(test)
    async with trio.open_nursery() as nursery:
        outcome = Outcome(nursery, test)
        await test.reply(await test.assert_push("t", "ask"))
        await until(lambda: outcome.over)
    assert outcome.reply == ChannelReply("ok", {})


@both_wires()
async def test_refs_go_on_over_topics_rejoins_and_connections(test: Stage) -> None:
    """Row 47; JS-R1, GSC-1: every frame has a new one, whatever it is."""
    seen = [(await joined(test, "t:1")).ref, (await joined(test, "t:2")).ref]

    async def push(topic: str) -> None:
        seen.append(await test.socket.push(topic, "e"))
        assert (await test.assert_push(topic, "e")).ref == seen[-1]

    await push("t:1")
    await push("t:2")
    test.socket.rejoin("t:1", {"n": 2})
    seen.append((await test.accept_join("t:1")).ref)
    await test.assert_callback("handle_join", "t:1")
    await push("t:1")
    await test.drop()
    await test.accept_connect()
    for topic in ("t:1", "t:2"):
        seen.append((await test.accept_join(topic)).ref)
        await test.assert_callback("handle_join", topic)
    await push("t:2")
    assert all(isinstance(ref, str) for ref in seen)
    numbers = [int(ref or "") for ref in seen]
    assert numbers == sorted(set(numbers))


@both_wires()
async def test_every_frame_of_a_topic_has_the_ref_of_its_join(test: Stage) -> None:
    """Row 48; ground truth 5; JS-J4, JS-PU1, JS-L1: pushes of text and bytes, and leaves."""
    join = await joined(test)
    assert join.join_ref == join.ref
    await test.socket.push("t", "text", {"n": 1})
    await test.socket.push("t", "binary", b"\x01")
    test.socket.leave("t")
    for asserted in (
        await test.assert_push("t", "text"),
        await test.assert_push("t", "binary"),
        await test.assert_leave("t"),
    ):
        assert asserted.join_ref == join.ref
        assert asserted.ref not in {None, join.ref}


@pytest.mark.parametrize("data", [b"", b"\x00", bytes(range(256)), b"x" * 70_000])
@both_wires()
async def test_bytes_go_both_ways(test: Stage, data: bytes) -> None:
    """Row 50; ground truth 6; SL-I10, SL-Y8, DT-2, RS-6: and a binary reply."""
    join = await joined(test)
    async with trio.open_nursery() as nursery:
        await test.push("t", "own", data)
        await test.assert_callback("handle_message", "t", "own", data)
        await test.broadcast("t", "all", data)
        await test.assert_callback("handle_message", "t", "all", data)
        outcome: list[ChannelReply] = []

        async def ask() -> None:
            outcome.append(await test.socket.request("t", "ask", data))

        nursery.start_soon(ask)
        push = await test.assert_push("t", "ask", data)
        assert push.join_ref == join.ref
        await test.reply(push, data)
        await until(lambda: bool(outcome))
    assert outcome == [ChannelReply("ok", data)]


@pytest.mark.parametrize("payload", [{}, {"a": [1, None, "é"]}, [], [1], "text", 7, 0.5, True])
@both_wires()
async def test_any_json_value_goes_both_ways(test: Stage, payload: Any) -> None:
    """Row 50; JS-P1, RS-6."""
    await joined(test)
    await test.socket.push("t", "e", payload)
    sent = await test.assert_push("t", "e")
    assert sent.payload == payload
    await test.push("t", "echo", payload)
    call = await test.assert_callback("handle_message", "t", "echo")
    assert call.args[2] == payload


@pytest.mark.parametrize(
    ("payload", "path"),
    [({"a": {"b": [b"x"]}}, "a"), ({"n": object()}, "n"), ({"f": float("nan")}, "f")],
    ids=["bytes", "object", "nan"],
)
@both_wires()
async def test_what_cannot_be_sent_is_refused_and_changes_nothing(
    test: Stage, payload: Any, path: str
) -> None:
    """Row 50; SL-Z2, GSC-2: the error names the path; the connection lives on."""
    await joined(test)
    with pytest.raises(EncodeError, match=path):
        await test.socket.push("t", "e", payload)
    await test.refute_push(within=1.0)
    await test.socket.push("t", "fine")
    await test.assert_push("t", "fine")


@pytest.mark.parametrize("event", ["phx_join", "phx_leave", "phx_close", "phx_error", "phx_reply"])
@in_the_kit()
async def test_an_event_of_the_protocols_own_is_refused(test: Stage, event: str) -> None:
    """Row 48: only join and leave send them."""
    await joined(test)
    with pytest.raises(EncodeError, match=event):
        await test.socket.push("t", event)
    await test.refute_push(within=1.0)


@both_wires()
async def test_a_callback_may_wait_for_its_own_reply(test: Stage) -> None:
    """Row 42; SL-Y9, SL-Y10, SL-Y6: and no handle_reply follows."""
    await joined(test)
    box: list[ChannelReply] = []

    async def ask(client: Any, socket: Socket) -> None:
        ref = await socket.push("t", "text", {"n": 1})
        box.append(await socket.await_reply(ref))
        ref = await socket.push("t", "binary", b"\x01")
        box.append(await socket.await_reply(ref))

    test.ref.cast(ask)
    await test.reply(await test.assert_push("t", "text", {"n": 1}), {"n": 2})
    await test.reply(await test.assert_push("t", "binary", b"\x01"), b"\x02")
    await until(lambda: len(box) == 2)
    assert box == [ChannelReply("ok", {"n": 2}), ChannelReply("ok", b"\x02")]
    await test.refute_callback("handle_reply", within=1.0)
