"""Rows 26 to 29: how a topic is left."""

from typing import Any

import pytest
import trio
import trio.testing

from slipstream import (
    ChannelCrashed,
    ClosedByServer,
    JoinError,
    Socket,
    TransportFailed,
)
from slipstream.testing import PhoenixServer
from tests.testing.support import Room, connected, reply

from .stage import (
    Stage,
    both_wires,
    check_took,
    in_the_kit,
    is_kit,
    joined,
    over_tcp,
    scale_of,
    until,
)


@both_wires()
async def test_leaving_while_joining_drops_the_late_ok(test: Stage) -> None:
    """Row 26; KT-3: the leave has the ref of that join, and no rejoin follows."""
    test.socket.join("t")
    await test.accept_connect()
    join = await test.assert_join("t")
    test.socket.leave("t")
    assert test.socket.join_status("t") == "leaving"
    await test.accept_join("t")
    leave = await test.assert_leave("t")
    assert leave.join_ref == join.ref
    await test.assert_callback("handle_leave", "t")
    await test.refute_callback("handle_join", within=1.0)
    await test.refute_join(within=10.0)
    assert test.socket.join_status("t") == "closed"


@both_wires(join_timeout=10.0)
async def test_leaving_while_joining_cancels_the_time_of_the_join(test: Stage) -> None:
    """Row 26; JS-OE3, JS-OE4."""
    test.socket.join("t")
    await test.accept_connect()
    await test.assert_join("t")
    test.socket.leave("t")
    await test.accept_join("t")
    await test.assert_callback("handle_leave", "t")
    await test.refute_callback("handle_topic_close", within=15.0)


@in_the_kit(join_timeout=10.0, leave_timeout=60.0)
async def test_a_join_that_is_being_left_times_out_no_more(test: Stage) -> None:
    """Row 26: though the server answers neither; one leave is sent, and has a time of its own."""
    test.socket.join("t")
    await test.accept_connect()
    join = await test.assert_join("t")
    await test.advance(9.0)
    test.socket.leave("t")
    assert (await test.assert_leave("t")).join_ref == join.ref
    await test.refute_callback("handle_topic_close", within=59.0)
    await test.refute_leave("t")
    left = await test.assert_callback("handle_leave", "t")
    assert left.at == 69.0


@both_wires()
async def test_who_waits_for_a_join_that_is_left_gets_an_error(test: Stage) -> None:
    """Row 26: at once, though the server has answered neither; and handle_leave follows."""
    test.socket.join("t")
    await test.accept_connect()
    await test.assert_join("t")
    outcome: list[BaseException] = []

    async def wait(client: Any, socket: Socket) -> None:
        try:
            await socket.await_join("t")
        except JoinError as error:
            outcome.append(error)

    test.ref.cast(wait)
    await trio.testing.wait_all_tasks_blocked()
    test.socket.leave("t")
    await until(lambda: bool(outcome))
    assert test.socket.join_status("t") == "leaving"
    await test.accept_join("t")
    await test.assert_callback("handle_leave", "t")


@both_wires()
async def test_a_leave_ends_once_though_the_server_tells_of_it_twice(test: Stage) -> None:
    """Ground truth 7; row 27; SL-I3, SL-T11; JS-L1, JS-L2, JS-L3: by its reply, and by the close."""
    join = await joined(test)
    test.socket.leave("t")
    leave = await test.assert_leave("t")
    assert leave.join_ref == join.ref
    assert leave.payload == {}
    await test.assert_callback("handle_leave", "t")
    await until(lambda: test.socket.health().counters.get("discarded") == 1)
    await test.refute_callback("handle_leave", within=1.0)
    await test.refute_callback("handle_topic_close")
    await test.refute_join(within=10.0)


@pytest.mark.parametrize("how", ["reply", "close", "timeout", "disconnect"])
@in_the_kit(leave_timeout=10.0)
async def test_a_leave_ends_whatever_ends_it(test: Stage, how: str) -> None:
    """Row 27; ground truth 8; JS-L4, JS-L5, KT-4, KT-5: leaving first; then left, once."""
    join = await joined(test)
    await test.stall()
    test.socket.leave("t")
    assert test.socket.join_status("t") == "leaving"
    await test.advance(5.0)
    match how:
        case "reply":
            ref = str(int(join.ref or "") + 1)
            await test.send(reply(join.ref, ref, "t"))
        case "close":
            await test.send(f'["{join.ref}","{join.ref}","t","phx_close",{{}}]')
        case "disconnect":
            await test.drop()
        case _:
            await test.refute_callback("handle_leave", within=4.9)
    call = await test.assert_callback("handle_leave", "t")
    assert call.at == (10.0 if how == "timeout" else 5.0)
    assert test.socket.join_status("t") == "closed"
    await test.resume()
    await test.refute_callback("handle_leave", within=1.0)


@over_tcp(leave_timeout=10.0)
async def test_a_leave_that_a_real_server_does_not_answer_has_a_time(test: Stage) -> None:
    """Ground truth 8; row 27; JS-L5: as where its join_ref is stale."""
    await joined(test)
    await test.stall()
    began = trio.current_time()
    test.socket.leave("t")
    call = await test.assert_callback("handle_leave", "t", within=11.0)
    check_took(test, began, call.at, 10.0)
    assert test.socket.join_status("t") == "closed"


@both_wires(leave_timeout=600.0)
async def test_a_leave_may_have_a_time_of_its_own(test: Stage) -> None:
    """Row 27; JS-L6."""
    await joined(test)
    await test.stall()
    began = trio.current_time()
    test.socket.leave("t", timeout=3.0 * scale_of(test))
    call = await test.assert_callback("handle_leave", "t", within=4.0)
    check_took(test, began, call.at, 3.0)
    assert call.at - began < 300.0 * scale_of(test)


async def test_a_server_says_nothing_to_a_leave_of_another_join() -> None:
    """Ground truth 8: neither a reply nor a close; and the channel lives on."""
    async with PhoenixServer({"rooms:*": Room}) as server, connected(server, "rooms:1") as client:
        await client.send('["99","2","rooms:1","phx_leave",{}]')
        await client.silent()
        await client.send('["1","3","rooms:1","echo",{"n":1}]')
        assert await client.text() == reply("1", "3", "rooms:1", '{"n":1}')


async def test_a_server_lets_go_of_what_was_never_joined() -> None:
    """Ground truth 9: a reply, and no close."""
    async with PhoenixServer({"rooms:*": Room}) as server, connected(server) as client:
        await client.send('["1","2","rooms:1","phx_leave",{}]')
        assert await client.text() == reply("1", "2", "rooms:1")
        await client.silent()


@both_wires()
async def test_leaving_what_was_never_asked_for_sends_nothing(test: Stage) -> None:
    """Ground truth 9; row 28."""
    await test.accept_connect()
    test.socket.leave("t")
    await test.refute_leave(within=5.0)
    await test.refute_callback("handle_leave")
    assert test.socket.join_status("t") is None


@both_wires()
async def test_join_leave_join_back_to_back_ends_joined(test: Stage) -> None:
    """Ground truth 10; row 27: whatever order the server answers in."""
    await test.accept_connect()
    test.socket.join("t", {"n": 1})
    test.socket.leave("t")
    test.socket.join("t", {"n": 2})
    await test.accept_join("t", {"n": 1})
    await test.assert_leave("t")
    await test.assert_join("t", {"n": 2})
    await test.accept_join("t", {"n": 2})
    await test.assert_callback("handle_join", "t", {"n": 2})
    await test.refute_callback("handle_join", within=1.0)
    await test.refute_callback("handle_topic_close")
    assert test.socket.joined("t")
    await test.push("t", "still")
    await test.assert_callback("handle_message", "t", "still")


@both_wires()
async def test_join_leave_join_of_a_joined_topic_ends_joined(test: Stage) -> None:
    """Ground truth 10; row 34: the close of the old join ends no new one."""
    await joined(test)
    test.socket.leave("t")
    test.socket.join("t")
    await test.assert_leave("t")
    await test.accept_join("t")
    await test.assert_callback("handle_join", "t")
    await test.refute_callback("handle_topic_close", within=1.0)
    assert test.socket.joined("t")


@pytest.mark.parametrize("when", ["lost", "waiting", "never connected"])
@both_wires(rejoin=[5.0])
async def test_leaving_what_is_not_joined_takes_back_the_wish(test: Stage, when: str) -> None:
    """Row 28; JS-E5, KT-2, KT-3, KT-5: it is left at once, and no rejoin comes of it."""
    if when == "never connected":
        test.socket.join("t")
    else:
        await joined(test)
    if when == "lost":
        await test.drop()
        await test.assert_callback("handle_disconnect", TransportFailed)
    elif when == "waiting":
        await test.crash_topic("t")
        await test.assert_callback("handle_topic_close", "t", ChannelCrashed)
    test.socket.leave("t")
    await test.assert_callback("handle_leave", "t")
    assert test.socket.join_status("t") == "closed"
    if when != "waiting":
        await test.accept_connect()
    await test.refute_join(within=10.0)
    await test.refute_leave(within=1.0)


@both_wires()
async def test_leaving_twice_is_leaving_once(test: Stage) -> None:
    """Row 29; SL-I4: the second joins the first's result."""
    await joined(test)
    test.socket.leave("t")
    test.socket.leave("t")
    await test.assert_leave("t")
    await test.assert_callback("handle_leave", "t")
    test.socket.leave("t")
    await test.refute_leave(within=5.0)
    await test.refute_callback("handle_leave")


@both_wires()
async def test_all_who_wait_for_a_leave_are_told(test: Stage) -> None:
    """Row 29; SL-Y2."""
    await joined(test)
    outcome: list[str] = []

    async def leave(client: Any, socket: Socket) -> None:
        socket.leave("t")
        socket.leave("t")
        await socket.await_leave("t")
        outcome.append(str(socket.join_status("t")))

    test.ref.cast(leave)
    await until(lambda: outcome == ["closed"])
    await test.refute_callback("handle_leave", within=1.0)


@both_wires()
async def test_a_close_of_the_connection_ends_a_leave(test: Stage) -> None:
    """Row 27: the topic is left, and not joined on the next connection."""
    await joined(test)
    await test.stall()
    test.socket.leave("t")
    await test.resume() if not is_kit(test) else await test.close(1000)
    if not is_kit(test):
        await test.assert_callback("handle_leave", "t")
        await test.close(1000)
    await test.assert_callback("handle_disconnect", ClosedByServer(1000))
    assert test.socket.join_status("t") == "closed"
    await test.accept_connect()
    await test.refute_join(within=10.0)
