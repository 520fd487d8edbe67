"""Rows 22 to 24 and 31: what a server answers to a join, or does not."""

import json
from typing import Any

import pytest
import trio

from slipstream import (
    ChannelCrashed,
    JoinError,
    JoinRefused,
    JoinTimedOut,
    RejoinPolicy,
    Socket,
)

from .stage import Stage, both_wires, check_took, in_the_kit, inside, is_kit, joined, until

UNMATCHED = {"reason": "unmatched topic"}


@both_wires(rejoin=[1.0, 3.0, 6.0])
async def test_each_topic_has_a_schedule_of_its_own(test: Stage) -> None:
    """Row 22: the failures of one do not slow down another."""
    await joined(test, "t:calm")
    test.socket.join("t:bad")
    for delay in (1.0, 3.0, 6.0, 6.0):
        await test.refuse_join("t:bad", {"reason": "not now"})
        closed = await test.assert_callback("handle_topic_close", "t:bad")
        began = closed.at
        await test.assert_join("t:bad", within=10.0)
        check_took(test, began, trio.current_time(), delay)
    await test.refuse_join("t:bad", {"reason": "not now"})
    await test.crash_topic("t:calm")
    closed = await test.assert_callback("handle_topic_close", "t:calm")
    await test.accept_join("t:calm", within=10.0)
    check_took(test, closed.at, trio.current_time(), 1.0)


@in_the_kit(rejoin=RejoinPolicy())
async def test_rejoins_are_jittered(test: Stage) -> None:
    """Row 22."""
    test.socket.join("t")
    await test.accept_connect()
    waited: list[float] = []
    for _ in range(12):
        await test.refuse_join("t", {"reason": "not now"})
        began = trio.current_time()
        await test.assert_join("t", within=31.0)
        waited.append(trio.current_time() - began)
    assert all(0.0 <= each <= min(30.0, 2.0**n) for n, each in enumerate(waited))
    assert len(set(waited)) == 12


@pytest.mark.parametrize(("seconds", "delay"), [(0.0, 4.0), (29.0, 4.0), (30.0, 1.0)])
@in_the_kit(rejoin=[1.0, 2.0, 4.0])
async def test_the_count_of_a_topic_starts_anew_once_it_was_stable(
    test: Stage, seconds: float, delay: float
) -> None:
    """Row 22; JS-OK8."""
    test.socket.join("t")
    await test.accept_connect()
    await test.refuse_join("t", {"reason": "not now"})
    await test.refuse_join("t", {"reason": "not now"}, within=2.0)
    await test.accept_join("t", within=3.0)
    await test.advance(seconds)
    await test.crash_topic("t")
    began = trio.current_time()
    await test.assert_join("t", within=10.0)
    assert trio.current_time() - began == delay


@both_wires(rejoin=[5.0])
async def test_a_leave_or_a_new_connection_takes_back_a_rejoin_that_waits(test: Stage) -> None:
    """Row 22: and none comes later of an earlier generation."""
    await joined(test, "t:left")
    await joined(test, "t:moved")
    for topic in ("t:left", "t:moved"):
        await test.crash_topic(topic)
        await test.assert_callback("handle_topic_close", topic, ChannelCrashed)
    test.socket.leave("t:left")
    await test.drop()
    await test.accept_connect()
    await test.accept_join("t:moved")
    await test.assert_callback("handle_join", "t:moved")
    await test.refute_join(within=20.0)


@both_wires(join_timeout=10.0, rejoin=[1.0])
async def test_a_join_that_is_not_answered_is_left_and_asked_for_again(test: Stage) -> None:
    """Row 23; JS-JT2, JS-TO1, JS-TO2, JS-TO4, PXC-1: ten seconds, a leave, a second, a join."""
    test.socket.join("t", {"n": 1})
    await test.accept_connect()
    for _ in range(2):
        join = await test.assert_join("t", {"n": 1})
        call = await test.assert_callback("handle_topic_close", "t", JoinTimedOut(), within=11.0)
        check_took(test, join.at, call.at, 10.0)
        if is_kit(test):
            leave = await test.assert_leave("t")
            assert (leave.join_ref, leave.at) == (join.ref, join.at + 10.0)
        else:
            await test.accept_join("t")  # a slow join holds up what comes behind it, as in Phoenix
    for _ in range(3 if is_kit(test) else 1):
        await test.accept_join("t", within=2.0)  # the answers to the first two come too late
    await test.assert_callback("handle_join", "t")
    await test.refute_callback("handle_join")
    assert test.socket.joined("t")


@both_wires(join_timeout=10.0)
async def test_the_time_of_a_join_begins_when_it_is_written(test: Stage) -> None:
    """Row 23; JS-JT3: not while there is no connection."""
    test.socket.join("t")
    await test.advance(60.0)
    await test.accept_connect()
    await test.refute_callback("handle_topic_close", within=5.0)
    await test.accept_join("t")
    await test.assert_callback("handle_join", "t")


@in_the_kit(join_timeout=10.0, rejoin=[5.0])
async def test_an_answer_after_the_time_is_none(test: Stage) -> None:
    """Rows 23, 31; JS-TO3: it is counted, and the next join has an answer of its own."""
    test.socket.join("t")
    await test.accept_connect()
    late = await test.assert_join("t")
    await test.assert_callback("handle_topic_close", "t", JoinTimedOut(), within=11.0)
    await test.send(reply(late.join_ref, late.ref, "t", "ok"))
    await test.refute_callback("handle_join", within=1.0)
    assert test.socket.join_status("t") == "waiting"
    assert test.socket.health().counters["discarded"] == 1


def reply(join_ref: str | None, ref: str | None, topic: str, status: str, **response: Any) -> str:
    """Write a reply as a server does."""
    answer = {"response": response, "status": status}
    return json.dumps([join_ref, ref, topic, "phx_reply", answer])


@both_wires()
async def test_a_refused_join_is_told_with_its_response_and_tried_again(test: Stage) -> None:
    """Row 24; SL-I15, SL-T5; JS-ER1, JS-ER3, JS-ER7, PCP-8: the topic alone, once each time."""
    await joined(test, "t:other")
    test.socket.join("t", {"n": 1})
    await test.refuse_join("t", {"reason": "full", "limit": 3})
    refused = JoinRefused({"reason": "full", "limit": 3})
    await test.assert_callback("handle_topic_close", "t", refused)
    assert test.socket.join_status("t") == "waiting"
    await test.assert_join("t", {"n": 1})
    assert test.socket.joined("t:other")
    await test.accept_join("t", {"seats": 1})
    await test.assert_callback("handle_join", "t", {"seats": 1})
    assert [call.args[0] for call in test.calls if call.name == "handle_topic_close"] == ["t"]


@both_wires(rejoin=RejoinPolicy(delays=[1.0], max_attempts=3))
async def test_refused_joins_have_a_ceiling(test: Stage) -> None:
    """Row 24."""
    await test.accept_connect()
    test.socket.join("t")
    for _ in range(4):
        await test.refuse_join("t", {"reason": "full"}, within=2.0)
        await test.assert_callback("handle_topic_close", "t", JoinRefused)
    await test.refute_join(within=10.0)
    assert test.socket.join_status("t") == "closed"


@pytest.mark.parametrize("reason", ["unauthorized", "unmatched topic"])
@both_wires()
async def test_what_is_refused_for_good_is_not_asked_for_again(test: Stage, reason: str) -> None:
    """Row 24; PCP-9: that topic alone."""
    await joined(test, "t:other")
    test.socket.join("t")
    await test.refuse_join("t", {"reason": reason})
    await test.assert_callback("handle_topic_close", "t", JoinRefused({"reason": reason}))
    await test.refute_join(within=10.0)
    assert dict(test.socket.topics) == {"t:other": "joined", "t": "closed"}


def _is_final(response: Any) -> bool:
    return bool(response.get("final"))


@both_wires(rejoin=RejoinPolicy(delays=[1.0], is_final=_is_final))
async def test_a_predicate_may_say_what_is_refused_for_good(test: Stage) -> None:
    """Row 24."""
    await test.accept_connect()
    test.socket.join("t")
    await test.refuse_join("t", {"reason": "unauthorized"})
    await test.refuse_join("t", {"reason": "whatever", "final": True}, within=2.0)
    await test.refute_join(within=10.0)


@both_wires()
async def test_a_topic_that_no_channel_serves_is_refused(test: Stage) -> None:
    """Ground truth 1; rows 24, 31; SL-I14: the join_ref of that reply is null."""
    await test.accept_connect()
    test.socket.join("nope:1")
    join = await test.assert_join("nope:1")
    if is_kit(test):
        await test.send(reply(None, join.ref, "nope:1", "error", **UNMATCHED))
    await test.assert_callback("handle_topic_close", "nope:1", JoinRefused(UNMATCHED))
    assert test.socket.join_status("nope:1") == "closed"
    await test.refute_callback("handle_reply", within=1.0)


@both_wires(serving={"max_channels": 2}, rejoin=RejoinPolicy(first=1.0, maximum=30.0))
async def test_more_topics_than_a_connection_may_join_are_held(test: Stage) -> None:
    """Ground truth 16; row 24: seldom asked for again, told of, and not counted as a failure."""
    await joined(test, "t:1")
    await joined(test, "t:2")
    test.socket.join("t:3")
    full = {"reason": "too many channels joined"}
    if is_kit(test):
        await test.refuse_join("t:3", full)
    await test.assert_callback("handle_topic_close", "t:3", JoinRefused(full))
    assert test.socket.join_status("t:3") == "waiting"
    assert test.socket.health().over_limit == 1
    if is_kit(test):
        await test.refute_join("t:3", within=29.9)
        await test.assert_join("t:3", within=0.2)
    await test.drop()
    await test.assert_callback("handle_disconnect")
    assert test.socket.health().over_limit == 0  # the next connection has room again


@in_the_kit()
async def test_a_join_is_answered_by_its_ref_alone(test: Stage) -> None:
    """Row 31: another ref, and the ref of an earlier join, are not its own; a null join_ref is."""
    await test.accept_connect()
    test.socket.join("t", {"n": 1})
    first = await test.assert_join("t")
    test.socket.rejoin("t", {"n": 2})
    second = await test.assert_join("t")
    await test.send(reply(first.ref, first.ref, "t", "ok", n=1))
    await test.send(reply(second.ref, "99", "t", "ok", n=99))
    assert test.socket.join_status("t") == "requested"
    await test.refute_callback("handle_join", within=1.0)
    await test.send(reply(None, second.ref, "t", "ok", n=2))
    await test.assert_callback("handle_join", "t", {"n": 2})
    assert test.socket.joined("t")


@both_wires()
async def test_an_answer_that_lay_unread_when_the_join_changed_is_none(test: Stage) -> None:
    """Row 31: the client had asked anew before it was handled."""
    await test.accept_connect()
    test.socket.join("t", {"n": 1})
    await test.assert_join("t")
    reached, go_on = trio.Event(), trio.Event()

    async def busy(client: Any, socket: Socket) -> None:
        reached.set()
        await go_on.wait()
        socket.rejoin("t", {"n": 2})

    test.ref.cast(busy)
    await reached.wait()
    await test.accept_join("t", {"n": 1})
    await until(lambda: test.socket.health().inbound == 1)
    go_on.set()
    await test.assert_join("t", {"n": 2})
    assert test.socket.join_status("t") == "requested"
    await test.accept_join("t", {"n": 2})
    await test.assert_callback("handle_join", "t", {"n": 2})
    await test.refute_callback("handle_join", within=1.0)


@both_wires()
async def test_the_answer_of_an_earlier_join_lets_nobody_in(test: Stage) -> None:
    """Row 31: only the last of several joins counts, whatever became of those before it."""
    await test.accept_connect()
    test.socket.join("t", {"n": 1})
    await test.assert_join("t", {"n": 1})
    test.socket.rejoin("t", {"n": 2})
    await test.refuse_join("t", {"reason": "too old"})  # the oldest
    await test.assert_join("t", {"n": 2})
    await test.accept_join("t", {"n": 2})
    await test.assert_callback("handle_join", "t", {"n": 2})
    await test.refute_callback("handle_topic_close", within=5.0)
    assert test.socket.joined("t")


@in_the_kit(join_timeout=10.0)
async def test_an_answer_in_time_is_the_end_of_it(test: Stage) -> None:
    """JS-JT1, JS-OK2, JS-OK3, JS-OK4, JS-OK5, JS-OK6, JS-OK7: no time-out, no leave, no error; the response is told."""
    await test.accept_connect()
    test.socket.join("t")
    await test.advance(9.9)
    await test.accept_join("t", {"seats": 3})
    await test.assert_callback("handle_join", "t", {"seats": 3})
    await test.refute_callback("handle_topic_close", within=60.0)
    await test.refute_leave()
    await test.refute_join()
    await test.refute_callback("handle_join")

    async def late(client: Any, socket: Socket) -> Any:
        return await socket.await_join("t")  # who asks later is told at once

    assert await inside(test, late) == {"seats": 3}


@in_the_kit(join_timeout=10.0)
async def test_a_refusal_is_the_end_of_it(test: Stage) -> None:
    """JS-ER2, JS-ER3, JS-ER4, JS-ER5, JS-ER6, JS-ER7: no time-out, no success; who asks is told why."""
    await test.accept_connect()
    test.socket.join("t")
    refused = JoinRefused({"reason": "unauthorized"})
    await test.refuse_join("t", refused.response)
    await test.assert_callback("handle_topic_close", "t", refused)
    assert test.socket.join_status("t") == "closed"

    async def late(client: Any, socket: Socket) -> Any:
        return await socket.await_join("t")  # who asks later is told at once

    with pytest.raises(JoinError) as info:
        await inside(test, late)
    assert info.value.reason == refused
    await test.refute_callback("handle_topic_close", within=30.0)
    await test.refute_leave()
    await test.refute_callback("handle_join")


@in_the_kit()
async def test_a_join_may_have_a_time_of_its_own(test: Stage) -> None:
    """JS-J5."""
    await test.accept_connect()
    test.socket.join("t", timeout=3.0)
    await test.assert_callback("handle_topic_close", "t", within=4.0)
    assert trio.current_time() == 3.0
