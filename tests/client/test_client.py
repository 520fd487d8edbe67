"""The base class as it is, the reference, and what may happen while an action waits."""

import logging
from typing import Any

import pytest
import trio

from slipstream import (
    AwaitTimeoutError,
    ConnectionLost,
    NoReply,
    PushTimedOut,
    ServerGoneError,
    SlipstreamClient,
    Socket,
    Stop,
    TopicClosedError,
    TopicGone,
)
from tests.client.kit import Member, OpenTest, config


async def test_a_bare_client_lives_through_everything(
    socket_test: OpenTest, caplog: pytest.LogCaptureFixture
) -> None:
    """All callbacks are optional: what is not overridden is no news, and a push that fails a warning."""
    with caplog.at_level(logging.WARNING):
        async with socket_test(SlipstreamClient, config()) as test:
            pinned = test.ref.pin()
            test.socket.join("t")
            await test.connect_and_join("t")
            await test.push("t", "news")
            for answered in (True, False):
                await test.socket.push("t", "e", timeout=1.0)
                push = await test.assert_push("t", "e")
                if answered:
                    await test.reply(push)
            await test.advance(2.0)
            await test.crash_topic("t")
            await test.accept_join("t", within=5.0)
            await test.drop()
            await test.connect_and_join("t")
            test.socket.leave("t")
            await test.assert_leave("t")
            assert pinned.alive
            assert test.ref.health().topics == {"t": "closed"}
    assert [record.getMessage() for record in caplog.records if "push" in record.getMessage()]
    assert not any(record.levelno >= logging.ERROR for record in caplog.records)


async def test_a_callback_may_go_on_in_handle_continue(socket_test: OpenTest) -> None:
    class Going(SlipstreamClient):
        async def handle_connect(self, socket: Socket, /) -> NoReply:
            return NoReply(continue_with="next")

        async def handle_continue(self, argument: Any, socket: Socket, /) -> None:
            """Take it."""

    async with socket_test(Going, config()) as test:
        await test.accept_connect()
        assert test.callbacks[-2:] == ["handle_connect", "handle_continue"]
        assert test.called("handle_continue") == [("next",)]


async def test_what_a_client_is_given_besides_lives_as_long_as_the_incarnation(
    socket_test: OpenTest,
) -> None:
    """socket.assigns is fresh in each incarnation, as the instance is."""

    async def fill(client: Any, socket: Socket) -> None:
        socket.assigns["n"] = socket.assigns.get("n", 0) + 1
        client.mine = "kept"

    class Fragile(SlipstreamClient):
        async def handle_info(self, message: Any, socket: Socket, /) -> None:
            raise ZeroDivisionError

    async with socket_test(Fragile, config()) as test:
        await test.inside(fill)
        await test.inside(fill)
        assert test.assigns == {"n": 2}
        assert hasattr(test.client, "mine")
        test.ref.send("crash")
        await test.expect_crash(ZeroDivisionError)
        assert test.assigns == {}
        assert not hasattr(test.client, "mine")


async def test_the_reference_of_a_client_that_is_gone_says_so(socket_test: OpenTest) -> None:
    class Stopping(SlipstreamClient):
        async def handle_connect(self, socket: Socket, /) -> Stop:
            return Stop()

    async with socket_test(Stopping, config(), restart="temporary") as test:
        ref = test.ref
        await test.accept_connect()
        await test.assert_stopped()
        with pytest.raises(ServerGoneError):
            await ref.wait_connected()
        with pytest.raises(ServerGoneError):
            ref.health()
        assert ref.connections is None


async def test_waiting_for_the_connection_ends_with_the_client(socket_test: OpenTest) -> None:
    async with socket_test(SlipstreamClient, config(), restart="temporary") as test:

        async def stop_soon() -> None:
            await trio.sleep(3.0)
            await test.ref.stop()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(stop_soon)
            with pytest.raises(ServerGoneError):
                await test.ref.wait_connected()
        assert trio.current_time() < 30.0


async def test_waiting_for_the_connection_has_a_limit(socket_test: OpenTest) -> None:
    async with socket_test(SlipstreamClient, config()) as test:
        with pytest.raises(AwaitTimeoutError, match="2 s"):
            await test.ref.wait_connected(timeout=2.0)


# What may happen while an action waits


BLOCKING = {"unjoined_limit": 1, "unjoined_overflow": "block"}


async def test_a_push_that_waited_for_the_queue_goes_out_when_its_topic_is_joined_meanwhile(
    socket_test: OpenTest,
) -> None:
    """unjoined_overflow="block": there is room just because the topic was joined."""
    async with socket_test(Member, config(**BLOCKING)) as test, trio.open_nursery() as nursery:

        async def push(number: int) -> None:
            await test.socket.push("t", "e", {"n": number}, when_unjoined="queue", timeout=5.0)

        await test.accept_connect()
        for number in (1, 2):
            nursery.start_soon(push, number)
            await test.settle()
        assert test.ref.health().queued_pushes == 1
        await test.accept_join("t")
        assert (await test.assert_push("t", "e")).payload == {"n": 1}
        assert (await test.assert_push("t", "e")).payload == {"n": 2}


async def test_a_push_that_waited_for_the_queue_fails_when_its_topic_is_left_meanwhile(
    socket_test: OpenTest,
) -> None:
    async with socket_test(Member, config(**BLOCKING)) as test, trio.open_nursery() as nursery:

        async def push() -> None:
            await test.socket.push("t", "e", when_unjoined="queue")

        await test.accept_connect()
        for _ in range(2):
            nursery.start_soon(push)
            await test.settle()
        test.socket.leave("t")
        await test.advance(1.0)
        failures = [args[1] for args in test.called("handle_push_failed")]
        assert failures == [TopicGone(), TopicGone()]
        assert test.ref.health().queued_pushes == 0


@pytest.mark.parametrize("end_it", ["leave", "drop", "rejoin"])
async def test_a_push_that_waits_for_room_finds_its_topic_gone(
    socket_test: OpenTest, end_it: str
) -> None:
    """Nothing that held before a wait has to hold after it."""
    async with (
        socket_test(Member, config(outbound_bytes=60)) as test,
        trio.open_nursery() as nursery,
    ):
        await test.connect_and_join("t")
        await test.stall(buffers_full=True)

        async def push(number: int) -> None:
            await test.socket.push("t", "e", {"n": number, "much": "x" * 60}, timeout=4.0)

        for number in (1, 2, 3):
            nursery.start_soon(push, number)
            await test.settle()
        match end_it:
            case "leave":
                test.socket.leave("t")
            case "rejoin":
                test.socket.rejoin("t", {"again": 1})
            case _:
                await test.drop()
        await test.settle()
        await test.resume()
        await test.advance(30.0)
        ends = test.called("handle_push_failed")
        assert len(ends) == 3
        assert len({ref for ref, _ in ends}) == 3
        kinds = {type(reason) for _, reason in ends}
        assert kinds <= {TopicGone, ConnectionLost, PushTimedOut}
        if end_it == "drop":
            assert kinds == {ConnectionLost}


async def test_a_request_that_waited_in_the_queue_fails_with_its_topic(
    socket_test: OpenTest,
) -> None:
    async with socket_test(Member, config()) as test:
        await test.accept_connect()
        caught: list[TopicClosedError] = []

        async def ask() -> None:
            with pytest.raises(TopicClosedError) as info:
                await test.socket.request("t", "e", when_unjoined="queue")
            caught.append(info.value)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await test.settle()
            test.socket.leave("t")
        assert caught[0].topic == "t"


async def test_params_that_come_after_the_connection_was_lost_are_sent_on_the_next(
    socket_test: OpenTest,
) -> None:
    """Rows 7, 20: one join on each connection, each with params of its own."""
    asked: list[float] = []

    async def params() -> dict[str, int]:
        asked.append(trio.current_time())
        await trio.sleep(3.0)
        return {"n": len(asked)}

    async with socket_test(SlipstreamClient, config()) as test:
        await test.accept_connect()
        test.socket.join("t", params)
        await test.advance(1.0)
        await test.drop()
        await test.accept_connect()
        await test.accept_join("t", within=60.0)
        await test.refute_sent(within=60.0)
        assert test.socket.joined("t")
        assert test.callbacks.count("handle_join") == 1


async def test_a_leave_of_a_lost_topic_before_the_news_is_handled_is_a_leave(
    socket_test: OpenTest,
) -> None:
    """The wire is ahead of the mailbox: the client leaves what the server has closed already."""

    class Busy(Member):
        async def handle_message(
            self, topic: str, event: str, payload: Any, socket: Socket, /
        ) -> None:
            await trio.sleep(5.0)
            socket.leave("t")

    async with socket_test(Busy, config()) as test:
        await test.connect_and_join("t")
        await test.broadcast("t", "news")
        await test.crash_topic("t")
        await test.refute_sent(within=60.0)
        assert test.socket.join_status("t") == "closed"
        assert len(test.called("handle_leave")) == 1
        assert test.called("handle_topic_close") == []
