"""The base class as it is, the reference, and what may happen while an action waits."""

import logging
from typing import Any

import pytest
import trio

from slipstream import (
    AwaitTimeoutError,
    ClientRef,
    Config,
    ConnectionLost,
    NoReply,
    PushTimedOut,
    ServerGoneError,
    SlipstreamClient,
    Socket,
    Stop,
    TopicClosedError,
    TopicGone,
    open_supervisor,
)
from slipstream.transport import MemoryNetwork
from tests.client.support import URI, ServerEnd, harness, settle, virtual


def test_a_bare_client_lives_through_everything(caplog: pytest.LogCaptureFixture) -> None:
    """All callbacks are optional: what is not overridden is no news, and a push that fails a warning."""

    class Bare(SlipstreamClient):
        async def handle_cast(self, message: Any, socket: Socket, /) -> None:
            await message(socket)

    async def scenario() -> None:
        network = MemoryNetwork()
        config = Config(
            URI,
            transport=network.open_transport,
            heartbeat_interval=None,
            reconnect=[1.0],
            rejoin=[1.0],
        )
        async with open_supervisor([(Bare, config)]) as supervisor:
            ref = supervisor.child(Bare)
            assert isinstance(ref, ClientRef)
            pinned = ref.pin()

            async def push(socket: Socket) -> None:
                await socket.push("t", "e", timeout=1.0)

            async def act(socket: Socket) -> None:
                socket.join("t")

            async def leave(socket: Socket) -> None:
                socket.leave("t")

            end = ServerEnd(await network.accept())
            ref.cast(act)
            join = await end.accept_join("t")
            end.say(join.join_ref, None, "t", "news", {})
            await settle()
            ref.cast(push)
            end.reply(await end.next("e"))
            ref.cast(push)
            await end.next("e")
            await trio.sleep(2.0)
            end.say(join.join_ref, join.join_ref, "t", "phx_error")
            await end.accept_join("t")
            end.peer.drop()
            end = ServerEnd(await network.accept())
            await end.accept_join("t")
            ref.cast(leave)
            end.reply(await end.next("phx_leave"))
            await settle()
            assert pinned.alive
            assert ref.health().topics == {"t": "closed"}

    with caplog.at_level(logging.WARNING):
        virtual(scenario)
    assert [record.getMessage() for record in caplog.records if "push" in record.getMessage()]
    assert not any(record.levelno >= logging.ERROR for record in caplog.records)


def test_a_callback_may_go_on_in_handle_continue() -> None:
    async def connected(client: Any, socket: Socket) -> NoReply:
        return NoReply(continue_with="next")

    async def scenario() -> None:
        async with harness({"handle_connect": connected}) as h:
            await h.accept()
            await settle()
            assert h.calls[-2:] == [("handle_connect",), ("handle_continue", "next")]

    virtual(scenario)


def test_what_a_client_is_given_besides_lives_as_long_as_the_incarnation() -> None:
    """socket.assigns is fresh in each incarnation, as the instance is."""

    async def fill(client: Any, socket: Socket) -> None:
        socket.assigns["n"] = socket.assigns.get("n", 0) + 1
        client.mine = "kept"

    async def crash(client: Any, socket: Socket) -> None:
        raise ZeroDivisionError

    async def scenario() -> None:
        async with harness() as h:
            await h.inside(fill)
            await h.inside(fill)
            assert h.socket.assigns == {"n": 2}
            h.ref.cast(crash)
            await settle()
            assert h.socket.assigns == {}
            assert not hasattr(h.server.client, "mine")

    virtual(scenario)


def test_the_reference_of_a_client_that_is_gone_says_so() -> None:
    async def stop(client: Any, socket: Socket) -> Stop:
        return Stop()

    async def scenario() -> None:
        async with harness({"handle_connect": stop}, restart="temporary") as h:
            ref = h.ref
            await h.accept()
            await ref.pin().wait()
            with pytest.raises(ServerGoneError):
                await ref.wait_connected()
            with pytest.raises(ServerGoneError):
                ref.health()
            assert ref.connections is None

    virtual(scenario)


def test_waiting_for_the_connection_ends_with_the_client() -> None:
    async def scenario() -> None:
        async with harness(restart="temporary") as h:
            ref = h.ref
            h.network.stall_connects()

            async def stop_soon() -> None:
                await trio.sleep(3.0)
                await ref.stop()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(stop_soon)
                with pytest.raises(ServerGoneError):
                    await ref.wait_connected()
            assert trio.current_time() < 30.0

    virtual(scenario)


def test_waiting_for_the_connection_has_a_limit() -> None:
    async def scenario() -> None:
        async with harness() as h:
            h.network.stall_connects()
            with pytest.raises(AwaitTimeoutError, match="2 s"):
                await h.ref.wait_connected(timeout=2.0)

    virtual(scenario)


def test_health_tells_how_the_link_is_doing() -> None:
    async def scenario() -> None:
        async with harness(reconnect=[4.0], heartbeat_interval=10.0) as h:
            end, _ = await h.joined("t")
            heartbeat = await end.next("heartbeat")
            end.reply(heartbeat)
            await trio.sleep(2.0)
            health = h.ref.health()
            assert (health.phase, health.connected, health.generation) == ("open", True, 1)
            assert health.uptime == pytest.approx(12.0)
            assert health.last_rtt is not None
            assert health.topics == {"t": "joined"}
            assert health.next_attempt_in is None
            end.peer.drop()
            await trio.sleep(1.0)
            health = h.ref.health()
            assert (health.phase, health.connected, health.attempt) == ("waiting", False, 1)
            assert health.next_attempt_in == pytest.approx(3.0)
            assert health.uptime == 0.0
            assert health.topics == {"t": "waiting"}
            assert type(health.last_disconnect).__name__ == "TransportFailed"

    virtual(scenario)


# What may happen while an action waits


def test_a_push_that_waited_for_the_queue_goes_out_when_its_topic_is_joined_meanwhile() -> None:
    """unjoined_overflow="block": there is room just because the topic was joined."""

    async def scenario() -> None:
        async with (
            harness(unjoined_limit=1, unjoined_overflow="block") as h,
            trio.open_nursery() as nursery,
        ):
            end = await h.accept()
            h.socket.join("t")
            join = await end.next("phx_join")

            async def push(number: int) -> None:
                await h.socket.push("t", "e", {"n": number}, when_unjoined="queue", timeout=5.0)

            nursery.start_soon(push, 1)
            await settle()
            nursery.start_soon(push, 2)
            await settle()
            assert h.ref.health().queued_pushes == 1
            end.reply(join)
            with trio.fail_after(1.0):
                assert (await end.next("e")).payload == {"n": 1}
                assert (await end.next("e")).payload == {"n": 2}

    virtual(scenario)


def test_a_push_that_waited_for_the_queue_fails_when_its_topic_is_left_meanwhile() -> None:
    async def scenario() -> None:
        async with (
            harness(unjoined_limit=1, unjoined_overflow="block") as h,
            trio.open_nursery() as nursery,
        ):
            end = await h.accept()
            h.socket.join("t")
            await end.next("phx_join")

            async def push() -> None:
                await h.socket.push("t", "e", when_unjoined="queue")

            nursery.start_soon(push)
            await settle()
            nursery.start_soon(push)
            await settle()
            h.socket.leave("t")
            await trio.sleep(1.0)
            assert [args[1] for args in h.of("handle_push_failed")] == [TopicGone(), TopicGone()]
            assert h.ref.health().queued_pushes == 0

    virtual(scenario)


@pytest.mark.parametrize("end_it", ["leave", "drop", "rejoin"])
def test_a_push_that_waits_for_room_finds_its_topic_gone(end_it: str) -> None:
    """Nothing that held before a wait has to hold after it."""

    async def scenario() -> None:
        async with harness(outbound_bytes=60) as h, trio.open_nursery() as nursery:
            end, _ = await h.joined("t")
            end.peer.stall_writes()

            async def push(number: int) -> None:
                await h.socket.push("t", "e", {"n": number, "much": "x" * 60}, timeout=4.0)

            for number in (1, 2, 3):
                nursery.start_soon(push, number)
                await settle()
            match end_it:
                case "leave":
                    h.socket.leave("t")
                case "rejoin":
                    h.socket.rejoin("t", {"again": 1})
                case _:
                    end.peer.drop()
            await settle()
            end.peer.resume_writes()
            await trio.sleep(30.0)
            ends = h.of("handle_push_failed")
            assert len(ends) == 3
            assert len({ref for ref, _ in ends}) == 3
            kinds = {type(reason) for _, reason in ends}
            assert kinds <= {TopicGone, ConnectionLost, PushTimedOut}
            if end_it == "drop":
                assert kinds == {ConnectionLost}

    virtual(scenario)


def test_a_request_that_waited_in_the_queue_fails_with_its_topic() -> None:
    async def scenario() -> None:
        async with harness() as h:
            end = await h.accept()
            h.socket.join("t")
            await end.next("phx_join")
            caught: list[TopicClosedError] = []

            async def ask() -> None:
                with pytest.raises(TopicClosedError) as info:
                    await h.socket.request("t", "e", when_unjoined="queue")
                caught.append(info.value)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask)
                await settle()
                h.socket.leave("t")
            assert caught[0].topic == "t"

    virtual(scenario)


def test_params_that_come_after_the_connection_was_lost_are_sent_on_the_next() -> None:
    """Rows 7, 20: one join on each connection, each with params of its own."""
    asked: list[float] = []

    async def params() -> dict[str, int]:
        asked.append(trio.current_time())
        await trio.sleep(3.0)
        return {"n": len(asked)}

    async def scenario() -> None:
        async with harness(reconnect=[1.0]) as h:
            first = await h.accept()
            h.socket.join("t", params)
            await trio.sleep(1.0)
            first.peer.drop()
            second = await h.accept()
            join = await second.next("phx_join")
            second.reply(join)
            await second.nothing(60.0)
            assert h.socket.joined("t")
            assert [call[0] for call in h.calls].count("handle_join") == 1

    virtual(scenario)


def test_a_leave_of_a_lost_topic_before_the_news_is_handled_is_a_leave() -> None:
    """The wire is ahead of the mailbox: the client leaves what the server has closed already."""

    async def busy(client: Any, topic: str, event: str, payload: Any, socket: Socket) -> None:
        await trio.sleep(5.0)
        socket.leave("t")

    async def scenario() -> None:
        async with harness({"handle_message": busy}) as h:
            end, join = await h.joined("t")
            end.broadcast("t", "news")
            await settle()
            end.say(join.join_ref, join.join_ref, "t", "phx_error")
            await end.nothing(60.0)
            assert h.socket.join_status("t") == "closed"
            assert len(h.of("handle_leave")) == 1
            assert h.of("handle_topic_close") == []

    virtual(scenario)
