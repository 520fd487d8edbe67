"""Rows 38 to 41b: what becomes of a push."""

from typing import Any

import pytest
import trio
import trio.testing

from slipstream import (
    ChannelCrashed,
    ChannelReply,
    ConnectionLost,
    DisconnectedError,
    NotJoinedError,
    PushTimedOut,
    PushTimeoutError,
    Socket,
    TopicClosedError,
    TopicGone,
)
from slipstream.errors import LinkError
from slipstream.testing import PhoenixServer, exactly
from tests.testing.support import UNMATCHED, Room, connected, reply

from .stage import (
    Outcome,
    Stage,
    both_wires,
    check_took,
    in_the_kit,
    inside,
    is_kit,
    joined,
    scale_of,
    until,
)

# Where the topic is not joined, or there is no connection


@both_wires()
async def test_a_push_to_what_was_never_asked_for_is_a_mistake(test: Stage) -> None:
    """Row 38; SL-I6, JS-PU7, GSC-5: whatever when_unjoined says; nothing is sent."""
    await test.accept_connect()
    for when in ("fail", "queue", "raise"):
        with pytest.raises(NotJoinedError):
            await test.socket.push("t", "e", when_unjoined=when)
        with pytest.raises(NotJoinedError):
            await test.socket.request("t", "e", when_unjoined=when)
    await test.refute_push(within=5.0)


@pytest.mark.parametrize("status", ["requested", "waiting", "closed", "leaving"])
@both_wires(rejoin=[60.0], leave_timeout=60.0)
async def test_a_push_to_what_is_not_joined_now_fails_at_once(test: Stage, status: str) -> None:
    """Row 38; JS-CP1, JS-CP2: by handle_push_failed, or in request; never by waiting."""
    await get(test, status)
    ref = await test.socket.push("t", "e", timeout=1000.0)
    await test.assert_callback("handle_push_failed", ref, TopicGone())
    with pytest.raises(TopicClosedError):
        await test.socket.request("t", "e")
    with pytest.raises(TopicClosedError):
        await test.socket.push("t", "e", when_unjoined="raise")
    await test.refute_push(within=1.0)
    if status == "leaving":
        await test.resume()


async def get(test: Stage, status: str) -> None:
    """Bring ``t`` into that status."""
    if status == "requested":
        await test.accept_connect()
        test.socket.join("t")
        await test.assert_join("t")
    else:
        await joined(test)
    match status:
        case "waiting":
            await test.crash_topic("t")
        case "closed":
            await test.close_topic("t")
        case "leaving":
            await test.stall()
            test.socket.leave("t")
        case _:
            pass
    await until(lambda: test.socket.join_status("t") == status)


@both_wires()
async def test_a_push_that_may_wait_goes_out_once_its_topic_is_joined(test: Stage) -> None:
    """Row 38; JS-PU2, JS-OK9, JS-P2: in order, once, with the join_ref of that join."""
    test.socket.join("t")
    refs = [await test.socket.push("t", f"e{n}", {"n": n}, when_unjoined="queue") for n in range(3)]
    await test.accept_connect()
    join = await test.accept_join("t")
    sent = [await test.assert_push("t") for _ in range(3)]
    assert [each.event for each in sent] == ["e0", "e1", "e2"]
    assert {each.join_ref for each in sent} == {join.ref}
    assert len(set(refs)) == 3
    await test.refute_push(within=5.0)
    assert test.socket.health().queued_pushes == 0


@in_the_kit(unjoined_ttl=10.0, rejoin=[60.0])
async def test_a_push_that_may_wait_does_not_wait_for_ever(test: Stage) -> None:
    """Row 38; JS-PU3, JS-ER8, JS-PU8: nor is anything kept of it."""
    test.socket.join("t")
    await test.accept_connect()
    ref = await test.socket.push("t", "e", when_unjoined="queue")
    await test.refuse_join("t", {"reason": "full"})
    await test.refute_callback("handle_push_failed", within=9.9)
    await test.assert_callback("handle_push_failed", ref, TopicGone())
    await test.accept_join("t", within=60.0)
    await test.refute_push(within=5.0)
    assert test.socket.health().queued_pushes == 0


@pytest.mark.parametrize("what", ["error", "drop_oldest", "block"])
@in_the_kit(unjoined_limit=2, unjoined_ttl=60.0)
async def test_the_queue_is_bounded(test: Stage, what: Any) -> None:
    """Row 38; PCP-11: a full one refuses the newest, drops the oldest, or lets it wait."""
    assert test.socket.config is not None
    test.socket.connect(
        {"uri": test.socket.config.uri, "unjoined_limit": 2, "unjoined_overflow": what}
    )
    test.socket.join("t")
    refs = [await test.socket.push("t", f"e{n}", when_unjoined="queue") for n in range(2)]
    expected = ["e0", "e1"]
    async with trio.open_nursery() as nursery:
        if what == "error":
            with pytest.raises(LinkError):
                await test.socket.push("t", "e2", when_unjoined="queue")
        elif what == "drop_oldest":
            await test.socket.push("t", "e2", when_unjoined="queue")
            await test.assert_callback("handle_push_failed", refs[0])
            expected = ["e1", "e2"]
        else:

            async def wait() -> None:
                await test.socket.push("t", "e2", when_unjoined="queue")

            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            expected = ["e0", "e1", "e2"]
        await test.accept_connect()
        await test.accept_join("t")
        assert [(await test.assert_push("t")).event for _ in expected] == expected
        await test.refute_push()


@both_wires()
async def test_what_waits_for_a_topic_that_is_left_fails(test: Stage) -> None:
    """Row 38; PHX-4: dropped on a join change, and not sent with the next join."""
    test.socket.join("t")
    ref = await test.socket.push("t", "e", when_unjoined="queue")
    test.socket.leave("t")
    await test.assert_callback("handle_push_failed", ref, TopicGone())
    test.socket.join("t")
    await test.accept_connect()
    await test.accept_join("t")
    await test.assert_callback("handle_join", "t")
    await test.refute_push(within=5.0)


@both_wires(reconnect=[60.0])
async def test_a_push_while_there_is_no_connection_fails_at_once(test: Stage) -> None:
    """Row 39; GSC-6, RTP-2, JS-P2: it was not written, and says so."""
    await joined(test)
    await test.drop()
    await test.assert_callback("handle_disconnect")
    ref = await test.socket.push("t", "e", timeout=1000.0)
    await test.assert_callback("handle_push_failed", ref, ConnectionLost(written=False))
    with pytest.raises(DisconnectedError):
        await test.socket.request("t", "e")
    with pytest.raises(DisconnectedError):
        await test.socket.push("t", "e", when_unjoined="raise")
    test.socket.reconnect_now()
    await test.accept_connect()
    await test.accept_join("t")
    await test.refute_push(within=5.0)


# Time-outs


@both_wires()
async def test_a_push_without_a_time_owes_nothing(test: Stage) -> None:
    """Row 40: many channels never reply."""
    await joined(test)
    await test.socket.push("t", "e", {"n": 1})
    push = await test.assert_push("t", "e", exactly({"n": 1}))
    await test.advance(30.0)
    await test.reply(push, {"late": True})
    await test.assert_callback("handle_reply", push.ref, ChannelReply("ok", {"late": True}))
    await test.refute_callback("handle_push_failed")


@both_wires()
async def test_a_push_with_a_time_ends_once(test: Stage) -> None:
    """Row 40; JS-PU4, JS-PU5, PXC-2, DT-5: a reply after it is counted and dropped."""
    await joined(test)
    began = trio.current_time()
    ref = await test.socket.push("t", "e", timeout=7.0 * scale_of(test))
    push = await test.assert_push("t", "e")
    failed = await test.assert_callback("handle_push_failed", ref, PushTimedOut(), within=8.0)
    check_took(test, began, failed.at, 7.0)
    await test.reply(push)
    await until(lambda: test.socket.health().counters.get("discarded") == 1)
    await test.refute_callback("handle_reply", within=1.0)
    await test.refute_callback("handle_push_failed")


@both_wires()
async def test_a_push_that_was_answered_times_out_no_more(test: Stage) -> None:
    """Row 40; JS-PU6, JS-OK4, JS-OK5: nor is it answered twice."""
    await joined(test)
    ref = await test.socket.push("t", "e", timeout=20.0 * scale_of(test))
    push = await test.assert_push("t", "e")
    await test.reply(push, {"n": 1})
    await test.assert_callback("handle_reply", ref, ChannelReply("ok", {"n": 1}))
    await test.refute_callback("handle_push_failed", within=30.0)


@both_wires(push_timeout=10.0)
async def test_a_request_has_the_time_of_the_configuration(test: Stage) -> None:
    """Row 40; ground truth 4; JS-PU4: as where a server drops a push without a word."""
    await joined(test)
    began = trio.current_time()
    with pytest.raises(PushTimeoutError):
        await test.socket.request("t", "ask")
    check_took(test, began, trio.current_time(), 10.0)
    assert test.socket.health().awaited_replies == 0


# Ends of connections and channels


@both_wires()
async def test_who_waits_for_a_reply_is_told_of_the_end_of_the_connection(test: Stage) -> None:
    """Row 41: at once; and whether it was written, since it may have been handled."""
    await joined(test)
    async with trio.open_nursery() as nursery:
        outcome = Outcome(nursery, test, timeout=1000.0)
        await test.assert_push("t", "ask")
        ref = await test.socket.push("t", "e", timeout=1000.0)
        await test.assert_push("t", "e")
        began = trio.current_time()
        await test.drop()
        await until(lambda: outcome.over)
        assert isinstance(outcome.error, DisconnectedError)
        call = await test.assert_callback("handle_push_failed", ref, ConnectionLost(written=True))
        if is_kit(test):
            assert call.at == began == outcome.at


@pytest.mark.parametrize("end", ["crash", "close", "leave", "rejoin"])
@both_wires(rejoin=[60.0])
async def test_who_waits_for_a_reply_is_told_of_the_end_of_the_topic(test: Stage, end: str) -> None:
    """Ground truth 13; row 41; RS-6: at once; a server never answers what was in flight."""
    await joined(test)
    async with trio.open_nursery() as nursery:
        outcome = Outcome(nursery, test, timeout=1000.0)
        await test.assert_push("t", "ask")
        ref = await test.socket.push("t", "e", timeout=1000.0)
        match end:
            case "crash":
                await test.crash_topic("t")
            case "close":
                await test.close_topic("t")
            case "leave":
                test.socket.leave("t")
            case _:
                test.socket.rejoin("t", {"n": 2})
        await test.assert_callback("handle_push_failed", ref, TopicGone())
        await until(lambda: outcome.over)
        assert isinstance(outcome.error, TopicClosedError)
    await test.refute_callback("handle_reply", within=1.0)


@both_wires(rejoin=[60.0])
async def test_pushes_behind_a_crash_get_no_answer_either(test: Stage) -> None:
    """Ground truth 13; row 41: those queued behind it meet a channel that is gone."""
    await joined(test)
    refs = [await test.socket.push("t", f"e{n}", timeout=1000.0) for n in range(3)]
    await test.crash_topic("t")
    for ref in refs:
        await test.assert_callback("handle_push_failed", ref, TopicGone())
    await test.refute_callback("handle_reply", within=1.0)


@both_wires(rejoin=[5.0])
async def test_an_answer_that_there_is_no_channel_is_the_end_of_it(test: Stage) -> None:
    """Row 41b; ground truth 3: the topic is closed, all else that waits for it fails, and it is joined again."""
    await joined(test)
    other = await test.socket.push("t", "other", timeout=1000.0)
    ref = await test.socket.push("t", "e", timeout=1000.0)
    push = await test.assert_push("t", "e")
    await test.send(reply(None, push.ref, "t", UNMATCHED, "error"))
    unmatched = {"reason": "unmatched topic"}
    await test.assert_callback("handle_reply", ref, ChannelReply("error", unmatched))
    closed = await test.assert_callback("handle_topic_close", "t", ChannelCrashed(unmatched))
    await test.assert_callback("handle_push_failed", other, TopicGone())
    join = await test.assert_join("t", within=6.0)
    check_took(test, closed.at, join.at, 5.0)


async def test_a_server_says_that_it_has_no_channel() -> None:
    """Ground truth 3: to a push to what was never joined, and to what was closed; with no join_ref."""
    async with PhoenixServer({"rooms:*": Room}) as server, connected(server, "rooms:1") as client:
        await client.send('["9","2","rooms:2","echo",{}]')
        assert await client.text() == reply(None, "2", "rooms:2", UNMATCHED, "error")
        await client.send('["1","3","rooms:1","stop",{}]')
        assert await client.text() == '["1","1","rooms:1","phx_close",{}]'
        await client.send('["1","4","rooms:1","echo",{}]')
        assert await client.text() == reply(None, "4", "rooms:1", UNMATCHED, "error")


async def test_a_server_drops_what_belongs_to_another_join() -> None:
    """Ground truth 4; ground truth 6: no answer, neither to text nor to a binary without a join_ref."""
    async with PhoenixServer({"rooms:*": Room}) as server, connected(server, "rooms:1") as client:
        await client.send('["99","2","rooms:1","echo",{}]')
        await client.send(b"\x00\x00\x01\x07\x04" + b"2" + b"rooms:1" + b"echo" + b"\x01")
        await client.silent()
        await client.send(b"\x00\x01\x01\x07\x04" + b"1" + b"3" + b"rooms:1" + b"echo" + b"\x01")
        assert (await client.receive()).payload[:1] == b"\x01"


@pytest.mark.parametrize(("like", "answers"), [("1.8.12/cowboy", True), ("1.8.3/cowboy", False)])
async def test_a_server_may_answer_a_push_without_a_join_ref(like: Any, answers: bool) -> None:
    """Ground truth 5: since 1.8.12, with the join_ref of the present join."""
    async with (
        PhoenixServer({"rooms:*": Room}, like=like) as server,
        connected(server, "rooms:1") as client,
    ):
        await client.send('[null,"2","rooms:1","echo",{"n":1}]')
        if answers:
            assert await client.text() == reply("1", "2", "rooms:1", '{"n":1}')
        await client.silent()


# Replies


# Refs


# Payloads


@both_wires()
async def test_a_callback_is_told_why_its_reply_does_not_come(test: Stage) -> None:
    """Row 41: await_reply raises as request does."""
    await joined(test)
    async with trio.open_nursery() as nursery:
        errors: list[LinkError] = []

        async def ask(client: Any, socket: Socket) -> None:
            ref = await socket.push("t", "e")
            try:
                await socket.await_reply(ref, timeout=1000.0)
            except LinkError as error:
                errors.append(error)

        nursery.start_soon(inside, test, ask)
        await test.assert_push("t", "e")
        await test.close_topic("t")
        await until(lambda: bool(errors))
    assert isinstance(errors[0], TopicClosedError)
