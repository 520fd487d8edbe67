"""What people complain of in clients of channels, 18 to 30: channels, payloads, ergonomics.

Each test names its complaints. The guide to reliability says what this library does about them.
"""

import inspect
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from hypothesis import given, settings, strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from slipstream import (
    ChannelReply,
    Config,
    PresenceDiff,
    RejoinPolicy,
    Reply,
    SlipstreamClient,
    Socket,
    open_socket,
    open_supervisor,
)
from slipstream.errors import (
    DisconnectedError,
    NotJoinedError,
    PushTimeoutError,
    TopicClosedError,
)
from slipstream.interfaces import ConnectRequest, Frame
from slipstream.reasons import (
    ChannelClosed,
    ChannelCrashed,
    ConnectionLost,
    HeartbeatTimeout,
    JoinRefused,
    TopicGone,
    TransportFailed,
)
from slipstream.testing import Channel, Ok, PhoenixServer, ServerSocket, open_socket_test
from slipstream.testing.otp import check_leaks
from slipstream.testing.strategies import json_payloads
from slipstream.transport import open_websocket_transport
from tests.client.kit import HOUR, TOPIC, URI, Visitor


class Echo(Channel):
    """Says what it is told."""

    async def handle_in(self, event: str, payload: Any, socket: ServerSocket, /) -> Ok:
        return Ok(payload)


# D. Channels


async def test_topics_are_joined_again_after_a_reconnect_unless_they_are_not_to_be(
    socket_test: Any,
) -> None:
    """complaint-18: by themselves, with the same params; ``rejoin=False`` opts out, for each topic."""

    class Once(SlipstreamClient):
        async def init(self, argument: Any, socket: Socket, /) -> None:
            socket.connect(argument)
            socket.join(TOPIC, {"user": 7})
            socket.join("once:1", rejoin=False)

    async with socket_test(Once) as test:
        await test.connect_and_join(TOPIC)
        await test.accept_join("once:1")
        for _ in range(3):
            await test.drop()
            await test.accept_connect()
            await test.assert_join(TOPIC, {"user": 7})
            await test.accept_join(TOPIC)
            await test.refute_join("once:1", within=60.0)
        assert test.ref.health().topics == {TOPIC: "joined", "once:1": "closed"}


async def test_after_a_reconnect_a_join_comes_first_and_nothing_is_left_before_it(
    socket_test: Any,
) -> None:
    """complaint-19: and what the server says of an earlier join does nothing to the present one."""
    async with socket_test(Visitor) as test:
        first = await test.connect_and_join(TOPIC)
        await test.drop()
        second = await test.connect_and_join(TOPIC)
        await test.refute_leave(TOPIC, within=60.0)
        assert second.join_ref != first.join_ref
        ok: dict[str, Any] = {"status": "ok", "response": {}}
        for event, payload in [("phx_reply", ok), ("phx_close", {}), ("phx_error", {})]:
            await test.send(json.dumps([first.join_ref, first.ref, TOPIC, event, payload]))
        assert test.socket.joined(TOPIC)
        await test.refute_callback("handle_leave")
        await test.refute_callback("handle_topic_close")
        assert test.ref.health().counters["discarded"] == 3


async def test_every_frame_of_a_channel_names_its_join(socket_test: Any) -> None:
    """complaint-20: some versions of Phoenix drop without a word what does not."""
    async with socket_test(Visitor) as test:
        await test.accept_connect()
        join = await test.assert_join(TOPIC)
        await test.accept_join(TOPIC)
        await test.socket.push(TOPIC, "json")
        await test.socket.push(TOPIC, "binary", b"\x00")
        frames = [join, await test.assert_push(TOPIC, "json")]
        frames.append(await test.assert_push(TOPIC, "binary", b"\x00"))
        test.socket.leave(TOPIC)
        frames.append(await test.assert_leave(TOPIC))
        assert {frame.join_ref for frame in frames} == {join.ref}


steps = st.lists(
    st.sampled_from(["join", "leave", "rejoin", "new params", "crash", "drop", "wait", "wait"]),
    max_size=16,
)


@settings(deadline=None, max_examples=60)
@given(steps)
def test_however_joins_and_leaves_cross_the_last_wish_comes_true(script: list[str]) -> None:
    """complaint-21: leave while joining, join while leaving, both again, over crashes and cuts."""

    async def scenario() -> None:
        class Room(Channel):
            async def join(self, topic: str, payload: Any, socket: ServerSocket, /) -> None:
                await trio.sleep(0.5)

        async with PhoenixServer({"rooms:*": Room}, memory=True) as server:
            config = Config(
                server.url,
                transport=server.open_transport,
                reconnect=[1.0],
                rejoin=RejoinPolicy(delays=[1.0]),
            )
            async with open_socket(config, reconnect=True) as socket:
                wanted, params = False, 0
                for step in script:
                    match step:
                        case "join":
                            socket.join(TOPIC)
                            wanted = True
                        case "leave":
                            socket.leave(TOPIC)
                            wanted = False
                        case "rejoin" if TOPIC in socket.topics:
                            socket.rejoin(TOPIC)
                            wanted = True
                        case "new params" if TOPIC in socket.topics:
                            params += 1
                            socket.rejoin(TOPIC, {"n": params})
                            wanted = True
                        case "crash":
                            server.crash(TOPIC)
                        case "drop":
                            server.drop()
                        case _:
                            await trio.sleep(0.3)
                await trio.sleep(60.0)
                assert socket.joined(TOPIC) is wanted
                assert len(server.channels(TOPIC)) == int(wanted)

    trio.run(scenario, clock=MockClock(autojump_threshold=0))


async def test_an_answer_that_is_there_before_anybody_waits_is_not_lost(socket_test: Any) -> None:
    """complaint-22: that of a request cannot be, and that of a push is kept for who awaits it."""

    class Patient(Visitor):
        async def handle_join(self, topic: str, response: Any, socket: Socket, /) -> None:
            ref = await socket.push(topic, "ask")
            await trio.sleep(5.0)
            self.reply = await socket.await_reply(ref)

    async with socket_test(Patient) as test:
        await test.connect_and_join(TOPIC)
        await test.reply(await test.assert_push(TOPIC, "ask"), {"n": 1})
        await test.advance(5.0)
        assert test.client.reply == ChannelReply("ok", {"n": 1})
        await test.refute_callback("handle_reply")


async def test_the_time_of_a_join_begins_when_it_is_written(socket_test: Any) -> None:
    """complaint-23: not while the server is away, however long that is."""
    config = Config(URI, join_timeout=5.0, reconnect=[60.0])
    async with socket_test(Visitor, config) as test:
        test.socket.join("rooms:2")
        for _ in range(60):
            await test.fail_connect(within=61.0)
        assert trio.current_time() >= HOUR - 60.0
        await test.refute_callback("handle_topic_close")
        await test.accept_connect(within=61.0)
        await test.refute_callback("handle_topic_close", within=4.9)
        await test.accept_join("rooms:2")
        await test.accept_join(TOPIC)


async def test_a_push_that_cannot_go_out_has_an_end_that_one_is_told(socket_test: Any) -> None:
    """complaint-24: it fails at once, waits within limits, or raises, as the caller says."""
    config = Config(URI, reconnect=[30.0], unjoined_limit=2, unjoined_ttl=40.0)
    async with socket_test(Visitor, config) as test:
        with pytest.raises(NotJoinedError):
            await test.socket.push("never:asked", "e")
        await test.connect_and_join(TOPIC)
        await test.drop()
        failed = await test.socket.push(TOPIC, "now")
        await test.assert_callback("handle_push_failed", failed, ConnectionLost(written=False))
        with pytest.raises(DisconnectedError):
            await test.socket.push(TOPIC, "now", when_unjoined="raise")
        for number in range(2):
            await test.socket.push(TOPIC, "later", {"n": number}, when_unjoined="queue")
        with pytest.raises(DisconnectedError):
            await test.socket.push(TOPIC, "later", {"n": 2}, when_unjoined="queue")
        await test.connect_and_join(TOPIC)
        for number in range(2):
            await test.assert_push(TOPIC, "later", {"n": number})
        await test.refute_push()

        await test.drop()
        stale = await test.socket.push(TOPIC, "stale", when_unjoined="queue")
        await test.fail_connect()
        await test.assert_callback(
            "handle_push_failed", stale, ConnectionLost(written=False), within=11.0
        )
        await test.connect_and_join(TOPIC)
        await test.refute_push(within=60.0)


@pytest.mark.parametrize("joined", [True, False])
async def test_while_a_connection_is_ending_there_is_none_any_more(
    joined: bool, autojump_clock: MockClock
) -> None:
    """complaint-24, complaint-7: it may take close_timeout until the end is told; nothing is said of the topic."""
    calls: list[Any] = []

    class Noting(Visitor):
        async def init(self, argument: Any, socket: Socket, /) -> None:
            socket.connect(argument)

        async def handle_push_failed(self, ref: str, reason: Any, socket: Socket, /) -> None:
            calls.append((ref, reason))

        async def handle_disconnect(self, reason: Any, socket: Socket, /) -> None:
            calls.append(reason)

        async def handle_call(self, request: Any, caller: Any, socket: Socket, /) -> Reply:
            return Reply(socket)

    class Slow(Echo):
        async def join(self, topic: str, payload: Any, socket: ServerSocket, /) -> None:
            await trio.sleep(0.0 if joined else 5.0)

    async with PhoenixServer({"rooms:*": Slow}, memory=True) as server:

        @asynccontextmanager
        async def slow_to_end(
            request: ConnectRequest, /, *, on_written: Any
        ) -> AsyncGenerator[Any]:
            async with server.open_transport(request, on_written=on_written) as transport:
                yield transport
                await trio.sleep(2.0)

        config = Config(server.url, transport=slow_to_end, reconnect=[60.0])
        async with open_supervisor([(Noting, config)]) as supervisor:
            await server.wait_until(lambda: len(server.frames) == 1)
            socket = await supervisor.child(Noting).call("socket")
            await wait_all_tasks_blocked()
            assert socket.joined(TOPIC) is joined
            server.drop()
            await trio.sleep(1.0)
            assert socket.join_status(TOPIC) == ("waiting" if joined else "requested")
            assert not socket.joined(TOPIC)
            with pytest.raises(DisconnectedError) as caught:
                await socket.request(TOPIC, "ask")
            with pytest.raises(DisconnectedError):
                await socket.push(TOPIC, "tell", when_unjoined="raise")
            ref = await socket.push(TOPIC, "tell")
            queued = await socket.push(TOPIC, "tell", when_unjoined="queue")
            await trio.sleep(2.0)
            assert isinstance(caught.value.reason, TransportFailed)
            assert calls == [(ref, ConnectionLost(written=False)), caught.value.reason]
            await trio.sleep(20.0)
            assert calls[2:] == [(queued, ConnectionLost(written=False))]


async def test_what_was_missed_over_a_reconnect_can_be_asked_for(socket_test: Any) -> None:
    """complaint-25: the join says what was seen last, and ``handle_gap`` that there may be more."""

    class Reader(SlipstreamClient):
        async def handle_connect(self, socket: Socket, /) -> None:
            socket.join(TOPIC, lambda context: {"since": context.last_seen})

    config = Config(URI, last_seen=lambda message: message.payload.get("id"))
    async with socket_test(Reader, config) as test:
        await test.accept_connect()
        await test.assert_join(TOPIC, {"since": None})
        await test.accept_join(TOPIC)
        for number in range(5):
            await test.push(TOPIC, "m", {"id": number})
        await test.drop()
        await test.accept_connect()
        await test.assert_join(TOPIC, {"since": 4})
        await test.refute_callback("handle_gap")
        await test.accept_join(TOPIC)
        await test.assert_callback("handle_gap", TOPIC, 4)


async def test_a_full_connection_is_recognised_and_asked_only_seldom(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """complaint-26: one warning, no loop, and a place that becomes free is taken."""
    async with PhoenixServer({"rooms:*": Echo}, memory=True, max_channels=2) as server:
        config = Config(server.url, transport=server.open_transport)
        async with open_socket(config) as socket:
            for number in range(4):
                socket.join(f"rooms:{number}")
            await trio.sleep(HOUR + 5.0)
            assert socket.health().over_limit == 2
            joins = [frame for frame in server.frames if frame.event == "phx_join"]
            assert len(joins) <= 2 + 2 * (HOUR / 30.0 + 1)
            socket.leave("rooms:0")
            await trio.sleep(1.0)
            assert socket.health().over_limit == 1
            assert len(server.channels("rooms:2")) + len(server.channels("rooms:3")) == 1
    assert caplog.text.count("spread them over several clients") == 1


# E. Payloads


@settings(deadline=None, max_examples=60)
@given(st.binary() | json_payloads())
def test_any_payload_comes_back_as_it_was_sent(payload: Any) -> None:
    """complaint-27: bytes or JSON, to the server, in its reply, and in what it pushes itself."""

    class Parrot(Channel):
        async def handle_in(self, event: str, payload: Any, socket: ServerSocket, /) -> Ok:
            self.push(event, payload)
            return Ok(payload)

    async def scenario() -> None:
        async with PhoenixServer({"rooms:*": Parrot}, memory=True) as server:
            config = Config(server.url, transport=server.open_transport)
            async with open_socket(config) as socket:
                socket.join(TOPIC)
                await socket.await_join(TOPIC)
                reply = await socket.request(TOPIC, "say", payload)
                assert reply == ChannelReply("ok", payload)
                message = await socket.await_message(TOPIC, "say")
                assert (type(message.payload), message.payload) == (type(payload), payload)

    trio.run(scenario, clock=MockClock(autojump_threshold=0))


def _state(*names: str) -> dict[str, Any]:
    return {name: {"metas": [{"phx_ref": name}]} for name in names}


async def test_presence_is_right_whatever_comes_before_the_state_and_whatever_was_missed(
    socket_test: Any,
) -> None:
    """complaint-28: diffs wait for the state of their own join; what changed meanwhile is told once."""

    told: list[tuple[list[str], list[str]]] = []

    class Host(Visitor):
        async def handle_presence(self, topic: str, diff: PresenceDiff, socket: Socket, /) -> None:
            told.append(([each.key for each in diff.joins], [each.key for each in diff.leaves]))

    async with socket_test(Host) as test:
        await test.connect_and_join(TOPIC)
        await test.push(TOPIC, "presence_diff", {"joins": _state("cy"), "leaves": _state("ann")})
        await test.refute_callback("handle_presence")
        await test.push(TOPIC, "presence_state", _state("ann", "bob"))
        await test.assert_callback("handle_presence")
        assert sorted(test.socket.presences(TOPIC)) == ["bob", "cy"]
        await test.push(TOPIC, "presence_diff", {"joins": _state("dan"), "leaves": {}})
        await test.drop()
        await test.connect_and_join(TOPIC)
        await test.push(TOPIC, "presence_diff", {"joins": _state("eve"), "leaves": {}})
        await test.push(TOPIC, "presence_state", _state("bob", "dan"))
        assert sorted(test.socket.presences(TOPIC)) == ["bob", "dan", "eve"]
    assert told == [(["bob", "cy"], []), (["dan"], []), (["eve"], ["cy"])]


# F. Python, tests, ergonomics


@pytest.mark.parametrize("leave", ["return", "raise", "cancel"])
async def test_nothing_outlives_its_block_and_what_is_raised_leaves_it_bare(
    leave: str, autojump_clock: MockClock
) -> None:
    """complaint-29: no task without a parent, no exception in a group, no cancellation swallowed."""
    async with (
        check_leaks(),
        PhoenixServer({"rooms:*": Echo}, memory=True) as server,
    ):
        config = Config(server.url, transport=server.open_transport)
        scope = trio.CancelScope()
        with pytest.raises(ZeroDivisionError) if leave == "raise" else scope:
            async with open_supervisor([(Visitor, config)]), open_socket(config) as socket:
                await server.wait_connections(2)
                socket.join(TOPIC)
                await socket.await_join(TOPIC)
                if leave == "raise":
                    raise ZeroDivisionError
                if leave == "cancel":
                    scope.cancel()
                    await trio.sleep_forever()
        assert scope.cancelled_caught is (leave == "cancel")
        await server.wait_connections(0)


async def test_a_wait_that_is_cancelled_takes_nothing_along(socket_test: Any) -> None:
    """complaint-29: neither the connection nor a message, and the late reply is dropped."""
    async with socket_test(Visitor) as test:
        await test.connect_and_join(TOPIC)
        for seconds in (0.0, 0.5):
            with trio.move_on_after(seconds):
                await test.socket.request(TOPIC, "ask")
            if seconds:
                await test.reply(await test.assert_push(TOPIC, "ask"))
        with pytest.raises(PushTimeoutError):
            await test.socket.request(TOPIC, "ask", timeout=0.5)
        await test.refute_callback("handle_reply")
        await test.refute_disconnect(within=60.0)
        await test.push(TOPIC, "m")
        await test.assert_callback("handle_message")


def test_a_client_is_tested_without_a_word_of_it_in_the_client_or_its_configuration() -> None:
    """complaint-30: the frames are the real ones, and the reasons those of real servers."""
    words = [
        name for name in inspect.signature(Config).parameters if "test" in name or "mock" in name
    ]
    assert words == []

    async def scenario() -> None:
        async with open_socket_test(Visitor) as test:
            await test.connect_and_join(TOPIC)
            await test.crash_topic(TOPIC)
            await test.assert_callback("handle_topic_close", TOPIC, ChannelCrashed)
            await test.assert_join(TOPIC)
            await test.refuse_join(TOPIC, {"reason": "busy"})
            await test.assert_callback("handle_topic_close", TOPIC, JoinRefused({"reason": "busy"}))
            await test.assert_join(TOPIC, within=5.0)
            await test.accept_join(TOPIC)
            await test.close_topic(TOPIC)
            await test.assert_callback("handle_topic_close", TOPIC, ChannelClosed())
            with pytest.raises(TopicClosedError):
                await test.socket.request(TOPIC, "ask")
            ref = await test.socket.push(TOPIC, "tell")
            await test.assert_callback("handle_push_failed", ref, TopicGone())
            await test.disconnect(HeartbeatTimeout())
            await test.assert_callback("handle_disconnect", HeartbeatTimeout())

    trio.run(scenario, clock=MockClock())


async def test_a_websocket_without_channels_is_to_be_had_as_well() -> None:
    """complaint-30: the transport alone, with headers of one's own; no topic, no heartbeat."""
    with trio.fail_after(10):
        async with PhoenixServer({"rooms:*": Echo}) as server:
            request = ConnectRequest(f"{server.url}?vsn=2.0.0", headers=(("x-key", "7"),))
            async with open_websocket_transport(request, on_written=lambda _: None) as transport:
                transport.send_nowait(Frame(b'[null,"1","phoenix","heartbeat",{}]'))
                [answer] = await transport.receive()
                assert json.loads(answer)[3] == "phx_reply"
            assert server.requests[0].headers["x-key"] == "7"
