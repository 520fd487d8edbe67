"""Channels within their limits: how many, how fast, and how long a join or a leave may take."""

from typing import Any

import pytest
import trio

from slipstream import (
    ConfigError,
    JoinError,
    JoinTimedOut,
    RejoinPolicy,
    SlipstreamClient,
    open_socket,
)
from slipstream.testing import ANY, Channel, PhoenixServer
from tests.client.kit import Member, OpenTest, config

FULL = {"reason": "too many channels joined"}


async def test_more_topics_than_a_connection_may_join_are_reported_and_held(
    socket_test: OpenTest, caplog: pytest.LogCaptureFixture
) -> None:
    """complaint-26, d24: recognised, told once, counted, and asked for again only seldom."""
    policy = RejoinPolicy(maximum=60.0)
    async with socket_test(SlipstreamClient, config(rejoin=policy)) as test:
        await test.accept_connect()
        for number in range(5):
            test.socket.join(f"t{number}")
            await (test.accept_join() if number < 3 else test.refuse_join(ANY, FULL))
        assert test.ref.health().over_limit == 2
        assert list(test.socket.topics.values()) == ["joined"] * 3 + ["waiting"] * 2
        assert test.events("slipstream.client.too_many_topics") == [
            {"client": "client", "topic": "t3", "joined": 3}, {"client": "client", "topic": "t4", "joined": 3},
        ]  # fmt: skip
        await test.refute_join(within=50.0)
        assert len(test.events("slipstream.client.too_many_topics")) == 2

        test.socket.leave("t0")  # makes room, and room is used at once
        await test.accept_join("t3", within=0.0)
        assert test.socket.joined("t3")
        assert test.ref.health().over_limit == 1
        test.socket.leave("t4")
        await test.settle()
        assert test.ref.health().over_limit == 0
    (record,) = [record for record in caplog.records if "no more than 3 topics" in record.message]
    assert "'t3'" in record.message


async def test_the_next_connection_has_room_again(socket_test: OpenTest) -> None:
    """complaint-26."""
    async with socket_test(Member, config()) as test:
        await test.accept_connect()
        await test.refuse_join("t", FULL)
        assert test.ref.health().over_limit == 1
        await test.drop()
        await test.connect_and_join("t")
        assert test.ref.health().over_limit == 0


async def test_pacing_starts_anew_with_each_connection(socket_test: OpenTest) -> None:
    """d22: what was planned for a connection that is gone delays nobody."""
    policy = RejoinPolicy(max_joins_per_second=0.1)
    async with socket_test(SlipstreamClient, config(rejoin=policy)) as test:
        for number in range(10):
            test.socket.join(f"t{number}")
        await test.accept_connect()
        await test.assert_join()
        await test.advance(5.0)
        await test.drop()
        await test.accept_connect()
        await test.assert_join()
        assert trio.current_time() == 6.0


async def test_each_topic_backs_off_by_itself(socket_test: OpenTest) -> None:
    """d22: per topic; one that fails does not slow down another."""
    async with socket_test(SlipstreamClient, config(rejoin=[1.0, 4.0, 16.0])) as test:
        await test.accept_connect()
        test.socket.join("bad")
        for _ in range(3):
            await test.refuse_join("bad", {"reason": "busy"}, within=5.0)
        assert trio.current_time() == 5.0
        test.socket.join("good")
        await test.refuse_join("good", {"reason": "busy"})
        assert (await test.assert_join()).topic == "good"
        assert trio.current_time() == 6.0


async def test_a_leave_may_have_a_timeout_of_its_own(socket_test: OpenTest) -> None:
    """JS-L5, JS-L6, d27."""
    async with socket_test(Member, config(leave_timeout=100.0)) as test:
        await test.connect_and_join("t")
        await test.stall("t")
        test.socket.leave("t", timeout=2.5)
        await test.assert_leave("t")
        assert test.socket.join_status("t") == "leaving"  # JS-L4
        call = await test.assert_callback("handle_leave", "t", within=60.0)
        assert call.at == 2.5
        with pytest.raises(ConfigError, match="timeout is -1"):
            test.socket.leave("t", timeout=-1)


async def test_a_join_may_have_a_timeout_of_its_own(socket_test: OpenTest) -> None:
    """JS-J5, d23: it holds for the rejoins, too."""
    async with socket_test(SlipstreamClient, config(join_timeout=100.0)) as test:
        await test.accept_connect()
        test.socket.join("t", timeout=2.0)
        for _ in range(2):
            await test.assert_join("t")
            await test.assert_leave("t", within=5.0)
        assert trio.current_time() == 5.0
        assert test.called("handle_topic_close")[0] == ("t", JoinTimedOut())


@pytest.mark.parametrize(("after_close", "joins"), [(False, 1), (True, 2)])
async def test_a_policy_decides_about_a_close_by_the_server(
    socket_test: OpenTest, after_close: bool, joins: int
) -> None:
    """d35."""
    policy = RejoinPolicy(delays=[1.0], after_close=after_close)
    async with socket_test(Member, config(rejoin=policy)) as test:
        await test.connect_and_join("t")
        await test.close_topic("t")
        if after_close:
            await test.accept_join("t")
        await test.refute_sent(within=60.0)
        assert [message.event for message in test.sent] == ["phx_join"] * joins


async def test_which_refusals_are_final_is_for_the_policy_to_say(socket_test: OpenTest) -> None:
    """d24: by a predicate on the response, whatever it is."""

    def banned(response: Any) -> bool:
        return isinstance(response, dict) and "banned" in response

    policy = RejoinPolicy(delays=[1.0], is_final=banned)
    async with socket_test(Member, config(rejoin=policy)) as test:
        await test.accept_connect()
        for response in ({"reason": "unauthorized"}, "text", None, {"banned": True}):
            await test.refuse_join("t", response)
        await test.refute_sent(within=60.0)
        assert test.socket.join_status("t") == "closed"


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
