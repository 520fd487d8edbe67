"""Rows 7, 20, 21, 25 and 30: how a topic is joined, and joined again."""

import pytest
import trio

from slipstream import (
    ClosedByServer,
    NotJoinedError,
    TransportFailed,
)
from slipstream.testing import exactly

from .stage import Stage, both_wires, joined, until


@both_wires()
async def test_a_join_made_offline_is_sent_at_the_next_connect(test: Stage) -> None:
    """Row 20; SL-I1, JS-JT4, JS-F1, JS-F2, JS-O1, JS-O3: once, right after handle_connect."""
    test.socket.join("t", {"user": 1})
    assert test.socket.join_status("t") == "requested"
    await test.accept_connect()
    join = await test.assert_join("t", exactly({"user": 1}))
    assert join.ref == join.join_ref
    await test.accept_join("t", {"hello": "you"})
    await test.assert_callback("handle_join", "t", exactly({"hello": "you"}))
    assert test.socket.joined("t")
    assert [call.name for call in test.calls][:3] == ["init", "handle_connect", "handle_join"]
    await test.refute_join(within=10.0)


@both_wires()
async def test_a_join_while_the_connection_is_lost_is_remembered(test: Stage) -> None:
    """Row 20; RTP-2."""
    await test.accept_connect()
    await test.drop()
    await test.assert_callback("handle_disconnect", TransportFailed)
    test.socket.join("t", {"user": 2})
    assert test.socket.join_status("t") == "requested"
    await test.accept_connect()
    await test.assert_join("t", {"user": 2})


@both_wires()
async def test_wanted_topics_are_joined_again_after_a_reconnect(test: Stage) -> None:
    """Row 21; SL-X6, JS-J2: with their params; handle_join runs again, and tells of the gap."""
    await test.accept_connect()
    for n in range(3):
        await joined(test, f"t:{n}", {"n": n})
    await test.refute_callback("handle_gap")
    await test.drop()
    await test.assert_callback("handle_disconnect", TransportFailed)
    assert dict(test.socket.topics) == {f"t:{n}": "waiting" for n in range(3)}
    await test.accept_connect()
    for n in range(3):
        await test.assert_join(f"t:{n}", exactly({"n": n}))
        await test.accept_join(f"t:{n}", {"again": n})
        await test.assert_callback("handle_join", f"t:{n}", {"again": n})
        await test.assert_callback("handle_gap", f"t:{n}")


@both_wires()
async def test_a_topic_may_opt_out_of_being_joined_again(test: Stage) -> None:
    """Row 21."""
    await test.accept_connect()
    test.socket.join("t", rejoin=False)
    await test.accept_join("t")
    await test.assert_callback("handle_join", "t")
    await test.drop()
    await test.assert_callback("handle_disconnect", TransportFailed)
    assert test.socket.join_status("t") == "closed"
    await test.accept_connect()
    await test.refute_join(within=10.0)


@both_wires()
async def test_a_second_join_is_no_second_join(test: Stage) -> None:
    """Row 25; SL-I2, JS-J3, GSC-4: whatever its params, joining or joined."""
    await test.accept_connect()
    test.socket.join("t", {"n": 1})
    await test.assert_join("t", {"n": 1})
    test.socket.join("t", {"n": 2})
    await test.accept_join("t")
    await test.assert_callback("handle_join", "t")
    test.socket.join("t", {"n": 3})
    test.socket.rejoin("t")
    await test.refute_join(within=10.0)
    await test.refute_leave(within=1.0)


@both_wires()
async def test_a_rejoin_with_other_params_goes_out_at_once(test: Stage) -> None:
    """Ground truth 2; rows 25, 33; JS-CH6, JS-J6: the close of the old one comes behind, and is ignored."""
    first = await joined(test, params={"n": 1})
    test.socket.rejoin("t", {"n": 2})
    second = await test.assert_join("t", exactly({"n": 2}))
    assert second.ref != first.ref
    await test.accept_join("t", {"n": 2})
    await test.assert_callback("handle_join", "t", {"n": 2})
    await until(lambda: test.socket.health().counters.get("discarded") == 1)
    await test.refute_callback("handle_topic_close", within=5.0)
    await test.refute_callback("handle_leave")
    assert test.socket.joined("t")
    await test.push("t", "still", {"here": True})
    await test.assert_callback("handle_message", "t", "still", {"here": True})
    await test.drop()
    await test.assert_callback("handle_disconnect", TransportFailed)
    await test.accept_connect()
    await test.assert_join("t", exactly({"n": 2}))  # they are what it is joined with from now on


@both_wires()
async def test_rejoining_what_is_joined_without_params_does_nothing(test: Stage) -> None:
    """Row 25; SL-B4."""
    await joined(test)
    test.socket.rejoin("t")
    await test.refute_join(within=10.0)
    assert test.socket.joined("t")


@both_wires()
async def test_what_was_never_asked_for_cannot_be_joined_again(test: Stage) -> None:
    """SL-B5."""
    await test.accept_connect()
    with pytest.raises(NotJoinedError, match="t"):
        test.socket.rejoin("t")
    await test.refute_join(within=5.0)


@both_wires()
async def test_a_topic_that_was_left_can_be_joined_again(test: Stage) -> None:
    """Row 30; SL-B6: with the params it had, or others."""
    await joined(test, params={"n": 1})
    test.socket.leave("t")
    await test.assert_callback("handle_leave", "t")
    test.socket.rejoin("t")
    await test.assert_join("t", exactly({"n": 1}))
    await test.accept_join("t")
    await test.assert_callback("handle_join", "t")
    test.socket.leave("t")
    await test.assert_callback("handle_leave", "t")
    test.socket.join("t", {"n": 2})
    await test.assert_join("t", exactly({"n": 2}))


@both_wires()
async def test_a_close_while_topics_are_joining_and_joined_is_told_once(test: Stage) -> None:
    """JS-X7, JS-X8, JS-E2, JS-E4: by handle_disconnect; both are joined on the next connection."""
    await joined(test, "t:in")
    test.socket.join("t:asked")
    await test.assert_join("t:asked")
    await test.close(1011)
    await test.assert_callback("handle_disconnect", ClosedByServer(1011))
    assert dict(test.socket.topics) == {"t:in": "waiting", "t:asked": "waiting"}
    await test.refute_callback("handle_topic_close")
    await test.accept_connect()
    await test.accept_join("t:in")
    await test.accept_join("t:asked")
    await test.assert_callback("handle_join", "t:asked")


@both_wires()
async def test_after_a_leave_the_end_of_the_connection_is_no_news_of_the_topic(
    test: Stage,
) -> None:
    """JS-X9, JS-E5."""
    await joined(test)
    test.socket.leave("t")
    await test.assert_callback("handle_leave", "t")
    await test.drop()
    await test.assert_callback("handle_disconnect", TransportFailed)
    await test.refute_callback("handle_topic_close")
    assert test.socket.join_status("t") == "closed"
    await test.accept_connect()
    await test.refute_join(within=10.0)


@both_wires()
async def test_topics_that_never_reached_the_failed_connection_are_not_failed(
    test: Stage,
) -> None:
    """JS-E3, JS-E6; PHX-3: what was only asked for stays so over failed attempts."""
    test.socket.join("t")
    await test.refuse_connect(503)
    await test.assert_callback("handle_disconnect")
    assert test.socket.join_status("t") == "requested"
    await test.refute_callback("handle_topic_close")
    await test.accept_connect()
    await test.accept_join("t")
    await test.assert_callback("handle_join", "t")


async def _params() -> dict[str, int]:
    await trio.lowlevel.checkpoint()
    _params.count += 1  # type: ignore[attr-defined]  # its own
    return {"n": _params.count}  # type: ignore[attr-defined]  # as above


@both_wires()
async def test_join_params_are_a_value_or_asked_for_at_every_join(test: Stage) -> None:
    """Row 7; JS-CH2, JS-CH3, JS-CH6; RS-3: so that a key that was changed is the one that is sent."""
    _params.count = 0  # type: ignore[attr-defined]  # its own
    await test.accept_connect()
    await joined(test, "t:value", {"fixed": True})
    test.socket.join("t:asked", _params)
    await test.assert_join("t:asked", {"n": 1})
    await test.refuse_join("t:asked", {"reason": "key has expired"})
    await test.assert_join("t:asked", {"n": 2})
    await test.accept_join("t:asked")
    await test.assert_callback("handle_join", "t:asked")
    await test.drop()
    await test.accept_connect()
    await test.assert_join("t:value", {"fixed": True})
    await test.accept_join("t:value")
    await test.assert_join("t:asked", {"n": 3})
