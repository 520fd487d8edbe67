"""What a test has run inside its client, and all that the client has said and was told."""

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from slipstream import ConnectError, Exit, Message, SlipstreamClient, Socket
from slipstream.reasons import NORMAL, ChannelClosed
from slipstream.testing import SocketTest, open_socket_test


class Member(SlipstreamClient):
    """Joins the topic ``t``."""

    async def handle_connect(self, socket: Socket, /) -> None:
        socket.join("t")


@pytest.fixture(params=[0.0, float("inf")], ids=["jumps", "stands still"])
def play(request: pytest.FixtureRequest) -> Any:
    def run(scenario: Any, **options: Any) -> None:
        async def main() -> None:
            async with open_socket_test(Member, **options) as test:
                await test.connect_and_join("t")
                await scenario(test)

        trio.run(main, clock=MockClock(autojump_threshold=request.param))

    return run


def test_a_function_runs_in_the_clients_process_and_its_result_is_the_tests(play: Any) -> None:
    async def ask(client: Any, socket: Socket) -> Any:
        assert isinstance(client, Member)
        return await socket.await_message("t", "m")  # only the client's own task may

    async def scenario(test: SocketTest) -> None:
        errand = await test.start_inside(ask)
        assert not errand.done
        await test.broadcast("t", "m", {"n": 1})
        assert (await errand.outcome(within=0.0)).payload == {"n": 1}
        assert test.callbacks == ["init", "handle_connect", "handle_join"]
        assert "runs ask inside the client" in test.story

    play(scenario)


def test_what_it_raises_is_raised_in_the_test_and_the_client_goes_on(play: Any) -> None:
    async def fail(client: Any, socket: Socket) -> None:
        raise LookupError("not here")

    async def scenario(test: SocketTest) -> None:
        with pytest.raises(LookupError, match="not here"):
            await test.inside(fail)
        assert test.socket.joined("t")

    play(scenario)


def test_time_passes_while_it_runs_up_to_a_limit(play: Any) -> None:
    async def sleep(client: Any, socket: Socket) -> float:
        await trio.sleep(30.0)
        return trio.current_time()

    async def scenario(test: SocketTest) -> None:
        assert await test.inside(sleep) == 30.0
        with pytest.raises(AssertionError, match=r"the end of sleep, .* within 20 s"):
            await test.inside(sleep, within=20.0)

    play(scenario)


def test_who_is_stopped_in_it_ends_as_in_any_callback(play: Any) -> None:
    async def park(client: Any, socket: Socket) -> None:
        await socket.await_message("t", timeout=1000.0)

    async def scenario(test: SocketTest) -> None:
        errand = await test.start_inside(park)
        await test.ref.stop()
        with pytest.raises(Exit):
            await errand.outcome()
        await test.assert_stopped(NORMAL)
        with pytest.raises(AssertionError, match="the client has ended"):
            await test.inside(park)

    play(scenario, restart="temporary")


def test_all_that_the_client_sends_and_is_told_is_there_in_order(play: Any) -> None:
    async def scenario(test: SocketTest) -> None:
        await test.refute_sent(within=29.0)
        test.socket.leave("t")
        await test.settle()
        with pytest.raises(AssertionError, match="what came: a leave of 't'"):
            await test.refute_sent()
        await test.assert_leave("t")
        await test.refute_sent(within=60.0)  # heartbeats do not count
        said = [message.event for message in test.sent]
        assert said == ["phx_join", "phx_leave", *["heartbeat"] * 2]
        assert test.callbacks[-1] == "handle_leave"
        assert test.called("handle_join") == [("t", {})]
        assert test.called("handle_info") == []
        [span] = test.events("slipstream.client.join.stop")
        assert span["topic"] == "t"
        assert test.events("slipstream.client.join") == []

    play(scenario)


def test_a_message_is_sent_as_the_connection_wants_it(play: Any) -> None:
    async def scenario(test: SocketTest) -> None:
        await test.send(
            Message(None, None, "t", "m", {"n": 1}), Message(None, None, "t", "m", b"\x00")
        )
        assert test.called("handle_message") == [("t", "m", {"n": 1}), ("t", "m", b"\x00")]

    play(scenario)


def test_a_channel_that_stalls_answers_not_even_a_leave_until_it_goes_on(play: Any) -> None:
    async def goes_on(test: SocketTest) -> None:
        await test.stall("t")
        test.socket.leave("t")
        await test.assert_leave("t")
        await test.advance(1.0)
        assert test.socket.join_status("t") == "leaving"
        await test.resume()
        assert test.called("handle_leave") == [("t",)]
        with pytest.raises(AssertionError, match="has not joined 't'"):
            await test.stall("t")

    async def ends(test: SocketTest) -> None:
        await test.stall("t")
        await test.inside(lambda client, socket: socket.push("t", "e"))
        await test.close_topic("t")
        await test.resume()
        assert test.called("handle_topic_close") == [("t", ChannelClosed())]
        assert test.called("handle_reply") == []  # what it has not taken goes with it

    play(goes_on)
    play(ends)


class Impatient(SlipstreamClient):
    """Counts as started when it has joined, after a while."""

    async def init(self, argument: Any, socket: Socket, /) -> None:
        await trio.sleep(3.0)
        await super().init(argument, socket)
        await socket.await_connect()
        socket.join("t")
        await socket.await_join("t")


@pytest.mark.parametrize("threshold", [0.0, float("inf")], ids=["jumps", "stands still"])
def test_a_client_that_awaits_its_connection_in_init_gets_it_from_the_test(
    threshold: float,
) -> None:
    async def main() -> None:
        async with open_socket_test(Impatient) as test:
            assert trio.current_time() == 3.0
            await test.connect_and_join("t")
            assert test.callbacks == ["init"]
            assert test.calls[0].done
            await test.kill()
            await test.connect_and_join("t")

    trio.run(main, clock=MockClock(autojump_threshold=threshold))


@pytest.mark.parametrize("threshold", [0.0, float("inf")], ids=["jumps", "stands still"])
def test_one_that_awaits_it_in_vain_has_not_started(threshold: float) -> None:
    async def main() -> None:
        async with open_socket_test(Impatient) as test:
            refused = await test.refuse_connect(503)
            assert test.requests == [refused]
            await test.expect_crash(ConnectError)
            await test.assert_stopped()

    trio.run(main, clock=MockClock(autojump_threshold=threshold))


async def test_a_block_may_end_while_an_init_waits(socket_test: Any) -> None:
    """The fixture sees that nothing is left behind."""
    async with socket_test(Impatient) as test:
        await test.assert_connect()
    assert test.callbacks == ["init"]


def test_a_test_that_waits_for_ever_fails() -> None:
    """In virtual time nothing else would end it; what the kit waits for has limits of its own."""

    async def main() -> None:
        config = {"uri": "ws://a/websocket", "heartbeat_interval": None}
        async with open_socket_test(Member, config) as test:
            await test.connect_and_join("t")
            await test.advance(1e6)
            await test.refute_sent(within=1e6)
            assert trio.current_time() == 2e6
            await trio.sleep_forever()

    with pytest.raises(AssertionError, match="the test waited for 100,000 s") as failed:
        trio.run(main, clock=MockClock(autojump_threshold=0))
    assert "handle_join('t', {})" in str(failed.value)
