"""Channels within their limits: how many, how fast, and how long a join or a leave may take."""

from typing import Any

import pytest
import trio

from slipstream import ConfigError, JoinError, JoinTimedOut, RejoinPolicy, open_socket
from slipstream.telemetry import capture_events
from slipstream.testing import Channel, PhoenixServer
from tests.client.support import ServerEnd, harness, settle, virtual

FULL = {"reason": "too many channels joined"}


async def limited(end: ServerEnd, limit: int) -> None:
    """Serve as a Phoenix whose connections may join *limit* topics."""
    joined: set[str] = set()
    while True:
        message = await end.next()
        if message.event == "phx_join" and len(joined) >= limit:
            end.reply(message, "error", FULL)
            continue
        (joined.add if message.event == "phx_join" else joined.discard)(message.topic)
        end.reply(message)


def test_more_topics_than_a_connection_may_join_are_reported_and_held(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """complaint-26, d24: recognised, told once, counted, and asked for again only seldom."""

    async def scenario() -> None:
        policy = RejoinPolicy(maximum=60.0)
        with capture_events("slipstream.client.too_many_topics") as events:
            async with harness(rejoin=policy) as h, trio.open_nursery() as nursery:
                nursery.start_soon(limited, await h.accept(), 3)
                for number in range(5):
                    h.socket.join(f"t{number}")
                await settle()
                assert h.ref.health().over_limit == 2
                assert list(h.socket.topics.values()) == ["joined"] * 3 + ["waiting"] * 2
                assert [data for _, data in events] == [
                    {"topic": "t3", "joined": 3}, {"topic": "t4", "joined": 3},
                ]  # fmt: skip
                await trio.sleep(50.0)
                assert len(events) == 2

                h.socket.leave("t0")  # makes room, and room is used at once
                await settle()
                assert h.socket.joined("t3")
                assert h.ref.health().over_limit == 1
                h.socket.leave("t4")
                await settle()
                assert h.ref.health().over_limit == 0
                nursery.cancel_scope.cancel()

    virtual(scenario)
    (record,) = [record for record in caplog.records if "no more than 3 topics" in record.message]
    assert "'t3'" in record.message


def test_the_next_connection_has_room_again() -> None:
    """complaint-26."""

    async def scenario() -> None:
        async with harness() as h:
            end = await h.accept()
            h.socket.join("t")
            end.reply(await end.next("phx_join"), "error", FULL)
            await settle()
            assert h.ref.health().over_limit == 1
            end.peer.drop()
            end = await h.accept()
            await end.accept_join()
            await settle()
            assert h.ref.health().over_limit == 0

    virtual(scenario)


def test_pacing_starts_anew_with_each_connection() -> None:
    """d22: what was planned for a connection that is gone delays nobody."""

    async def scenario() -> None:
        policy = RejoinPolicy(max_joins_per_second=0.1)
        async with harness(rejoin=policy, reconnect=[1.0]) as h:
            for number in range(10):
                h.socket.join(f"t{number}")
            end = await h.accept()
            await end.next("phx_join")
            await trio.sleep(5.0)
            end.peer.drop()
            end = await h.accept()
            await end.next("phx_join")
            assert trio.current_time() == 6.0

    virtual(scenario)


def test_each_topic_backs_off_by_itself() -> None:
    """d22: per topic; one that fails does not slow down another."""

    async def scenario() -> None:
        async with harness(rejoin=[1.0, 4.0, 16.0]) as h:
            end = await h.accept()
            h.socket.join("bad")
            for _ in range(3):
                end.reply(await end.next("phx_join"), "error", {"reason": "busy"})
            assert trio.current_time() == 5.0
            await settle()
            h.socket.join("good")
            end.reply(await end.next("phx_join"), "error", {"reason": "busy"})
            again = await end.next("phx_join")
            assert (again.topic, trio.current_time()) == ("good", 6.0)

    virtual(scenario)


def test_a_leave_may_have_a_timeout_of_its_own() -> None:
    """JS-L5, JS-L6, d27."""

    async def scenario() -> None:
        async with harness(leave_timeout=100.0) as h:
            end, _ = await h.joined("t")
            started = trio.current_time()
            h.socket.leave("t", timeout=2.5)
            await end.next("phx_leave")
            assert h.socket.join_status("t") == "leaving"  # JS-L4
            await trio.sleep(2.5)
            await settle()
            assert h.of("handle_leave") == [("t",)]
            assert trio.current_time() - started == 2.5
            with pytest.raises(ConfigError, match="timeout is -1"):
                h.socket.leave("t", timeout=-1)

    virtual(scenario)


def test_a_join_may_have_a_timeout_of_its_own() -> None:
    """JS-J5, d23: it holds for the rejoins, too."""

    async def scenario() -> None:
        async with harness(rejoin=[1.0], join_timeout=100.0) as h:
            end = await h.accept()
            h.socket.join("t", timeout=2.0)
            for _ in range(2):
                await end.next("phx_join")
                await end.next("phx_leave")
            assert trio.current_time() == 5.0
            assert h.of("handle_topic_close")[0] == ("t", JoinTimedOut())

    virtual(scenario)


@pytest.mark.parametrize(("after_close", "joins"), [(False, 1), (True, 2)])
def test_a_policy_decides_about_a_close_by_the_server(after_close: bool, joins: int) -> None:
    """d35."""

    async def scenario() -> None:
        seen = 0
        async with harness(rejoin=RejoinPolicy(delays=[1.0], after_close=after_close)) as h:
            end, join = await h.joined("t")
            seen += 1
            end.say(join.join_ref, None, "t", "phx_close")
            with trio.move_on_after(60.0):
                await end.next("phx_join")
                seen += 1
            assert seen == joins

    virtual(scenario)


def test_which_refusals_are_final_is_for_the_policy_to_say() -> None:
    """d24: by a predicate on the response, whatever it is."""

    def banned(response: Any) -> bool:
        return isinstance(response, dict) and "banned" in response

    async def scenario() -> None:
        async with harness(rejoin=RejoinPolicy(delays=[1.0], is_final=banned)) as h:
            end = await h.accept()
            h.socket.join("t")
            for response in ({"reason": "unauthorized"}, "text", None, {"banned": True}):
                end.reply(await end.next("phx_join"), "error", response)
            await end.nothing()
            assert h.socket.join_status("t") == "closed"

    virtual(scenario)


async def test_a_real_servers_limit_is_recognised() -> None:
    """complaint-26, over TCP: one leaves, and another has its place."""
    with trio.fail_after(20):
        async with PhoenixServer({"rooms:*": Channel}, max_channels=2) as server:
            async with open_socket(server.url, reconnect=True) as socket:
                for number in range(3):
                    socket.join(f"rooms:{number}")
                await socket.await_join("rooms:1")
                with pytest.raises(JoinError):
                    await socket.await_join("rooms:2")
                assert socket.health().over_limit == 1
                socket.leave("rooms:0")
                await server.wait_joined("rooms:2")
                await socket.await_join("rooms:2")
                assert socket.health().over_limit == 0
