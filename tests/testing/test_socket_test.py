"""The kit: a client under test, and a server that does what the test says."""

import functools
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from slipstream import (
    AwaitTimeoutError,
    ClosedByClient,
    ClosedByServer,
    Config,
    ConnectFailed,
    HeartbeatTimeout,
    Ignore,
    JoinRefused,
    Reply,
    SlipstreamClient,
    Socket,
    Stop,
    TransportFailed,
    on_message,
)
from slipstream.reasons import KILLED, NORMAL, ChannelClosed, ChannelCrashed, Crashed, Shutdown
from slipstream.testing import ANY, SocketTest, open_socket_test
from slipstream.testing.otp import Recorder
from slipstream.transport import MemoryNetwork

CLOCKS = {"jumps": lambda: MockClock(autojump_threshold=0), "stands still": MockClock}


class Lobby(SlipstreamClient):
    """Joins a room, greets it, and does as it is told."""

    async def handle_connect(self, socket: Socket, /) -> None:
        socket.join("rooms:lobby", {"user": 1})

    async def handle_join(self, topic: str, response: Any, socket: Socket, /) -> None:
        socket.assigns["greeting"] = await socket.push(topic, "new:msg", {"body": "hello"})

    async def handle_reply(self, ref: str, reply: Any, socket: Socket, /) -> None:
        socket.assigns["replies"] = [*socket.assigns.get("replies", []), (ref, reply.response)]

    @on_message("rooms:*", "say")
    async def say(self, topic: str, payload: Any, socket: Socket, /) -> None:
        await socket.push(topic, "said", payload)

    async def handle_message(
        self, topic: str, event: str, payload: Any, socket: Socket, /
    ) -> Stop | None:
        match event:
            case "leave":
                socket.leave(topic)
            case "disconnect":
                socket.disconnect()
            case "crash":
                raise ValueError(payload["why"])
            case "stop":
                return Stop(NORMAL)
            case _:
                pass
        return None

    async def handle_call(self, request: Any, caller: Any, socket: Socket, /) -> Reply:
        return Reply(request)


@pytest.fixture(params=CLOCKS)
def play(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Run a scenario of one client on either kind of virtual clock."""

    def run(
        scenario: Callable[[SocketTest], Awaitable[None]],
        client: type[SlipstreamClient] = Lobby,
        **options: Any,
    ) -> None:
        async def main() -> None:
            async with open_socket_test(client, **options) as test:
                await scenario(test)

        trio.run(main, clock=CLOCKS[request.param]())

    return run


def test_a_client_connects_joins_pushes_and_is_answered(play: Any) -> None:
    """T1, T4, T9, T10: each with patterns; an assertion gives back what it matched."""

    async def scenario(test: SocketTest) -> None:
        request = await test.accept_connect(lambda uri: uri.startswith("ws://server.test/"))
        assert "vsn=2.0.0" in request.uri
        await test.assert_callback("handle_connect")
        join = await test.assert_join("rooms:lobby", {"user": int})
        await test.accept_join("rooms:lobby", {"seats": 3})
        await test.assert_callback("handle_join", "rooms:lobby", {"seats": 3})
        greeting = await test.assert_push("rooms:lobby", "new:msg", {"body": "hello"})
        assert (greeting.ref, greeting.join_ref) == (test.assigns["greeting"], join.ref)
        await test.reply(greeting, {"seen": True})
        assert test.assigns["replies"] == [(greeting.ref, {"seen": True})]
        await test.push("rooms:lobby", "say", {"n": 1})
        await test.broadcast("rooms:lobby", "say", {"n": 2})
        for number in (1, 2):
            assert (await test.assert_push(ANY, "said")).payload == {"n": number}
        await test.refute_push(within=60.0)
        await test.refute_join()

    play(scenario)


def test_joins_that_are_refused_and_topics_that_end_are_told_as_servers_tell_them(
    play: Any,
) -> None:
    """T5, T7, T11: reasons that a real server gives, not those of a kit that goes round the wire."""

    async def scenario(test: SocketTest) -> None:
        await test.accept_connect()
        await test.refuse_join("rooms:lobby", {"reason": "join crashed"})
        await test.assert_callback(
            "handle_topic_close", "rooms:lobby", JoinRefused({"reason": "join crashed"})
        )
        await test.assert_join("rooms:lobby", within=60.0)
        await test.refute_join(within=5.0)
        await test.accept_join()
        await test.crash_topic("rooms:lobby")
        await test.assert_callback(
            "handle_topic_close", "rooms:lobby", ChannelCrashed({"reason": "channel_crash"})
        )
        await test.assert_join("rooms:lobby", within=60.0)
        await test.accept_join()
        await test.refute_leave()
        await test.push("rooms:lobby", "leave")
        await test.assert_leave("rooms:lobby")
        await test.assert_callback("handle_leave", "rooms:lobby")
        assert not test.socket.joined("rooms:lobby")

    play(scenario)


def test_a_channel_that_stops_is_not_joined_again(play: Any) -> None:
    """T11: a close by the server is told apart from a leave of the client's."""

    async def scenario(test: SocketTest) -> None:
        await test.connect_and_join("rooms:lobby")
        await test.close_topic("rooms:lobby")
        await test.assert_callback("handle_topic_close", "rooms:lobby", ChannelClosed())
        await test.refute_callback("handle_leave")
        await test.refute_join(within=600.0)
        with pytest.raises(AssertionError, match="has not joined 'rooms:lobby'"):
            await test.push("rooms:lobby", "say")

    play(scenario)


async def _stall(test: SocketTest) -> None:
    await test.stall()
    await test.advance(41.0)
    await test.resume()


def test_a_leave_is_answered_whether_it_is_asserted_or_not(play: Any) -> None:
    """T11: by a reply and a close, which the client hears of once; after the answer to its join."""

    async def scenario(test: SocketTest) -> None:
        await test.connect_and_join("rooms:lobby")
        await test.push("rooms:lobby", "leave")
        assert test.socket.join_status("rooms:lobby") == "closed"
        assert [call.name for call in test.calls].count("handle_leave") == 1
        test.socket.join("rooms:lobby", {"again": True})
        await test.assert_join("rooms:lobby", {"again": True})
        test.socket.leave("rooms:lobby")
        await test.settle()
        assert test.socket.join_status("rooms:lobby") == "leaving"
        await test.accept_join("rooms:lobby")
        assert test.socket.join_status("rooms:lobby") == "closed"
        for _ in range(2):
            await test.assert_leave("rooms:lobby")
        await test.refute_leave()

    play(scenario)


def test_a_second_join_ends_the_first_after_its_reply(play: Any) -> None:
    """As Phoenix: the reply to the new one, then the close of the old; also where it is refused."""

    async def scenario(test: SocketTest) -> None:
        await test.connect_and_join("rooms:lobby")
        test.socket.rejoin("rooms:lobby", {"user": 2})
        await test.accept_join("rooms:lobby")
        assert test.socket.joined("rooms:lobby")
        told = [entry.what for entry in test.timeline.entries if entry.who == "server"][-2:]
        assert ["phx_reply" in told[0], "phx_close {} (join_ref=1" in told[1]] == [True, True]
        test.socket.rejoin("rooms:lobby", {"user": 3})
        await test.refuse_join("rooms:lobby", {"reason": "no"})
        with pytest.raises(AssertionError, match="has not joined 'rooms:lobby'"):
            await test.broadcast("rooms:lobby", "say")

    play(scenario)


def test_a_server_does_nothing_that_no_server_does(play: Any) -> None:
    """T5, T8, T10: it does not answer a push whose channel is gone, nor speak before the join."""

    async def scenario(test: SocketTest) -> None:
        await test.accept_connect()
        await test.assert_join("rooms:lobby")
        for speak in (test.push, test.broadcast):
            with pytest.raises(AssertionError, match=r"has not joined .* \(it has: none\)"):
                await speak("rooms:lobby", "say")
        await test.accept_join("rooms:lobby")
        greeting = await test.assert_push()
        await test.crash_topic("rooms:lobby")
        with pytest.raises(AssertionError, match="its channel has ended, and no server answers"):
            await test.reply(greeting)
        await test.accept_join("rooms:lobby", within=60.0)
        with pytest.raises(AssertionError, match="its channel has ended"):
            await test.reply(greeting)
        await test.send("no message", '[null,null,"rooms:lobby","say",{"n":1}]')
        await test.assert_push(ANY, "said", {"n": 1})

    play(scenario)


def test_a_join_goes_with_its_connection(play: Any) -> None:
    """What is answered is the join of the connection that stands."""

    async def scenario(test: SocketTest) -> None:
        for lost in (test.drop, test.close):
            await test.accept_connect()
            await test.assert_join("rooms:lobby")
            await lost()
            await test.accept_connect()
            await lost()
        await test.connect_and_join("rooms:lobby")
        assert test.socket.joined("rooms:lobby")

    play(scenario)


def test_a_stalled_server_does_not_even_answer_a_close(play: Any) -> None:
    async def scenario(test: SocketTest) -> None:
        await test.connect_and_join("rooms:lobby")
        await test.stall()
        test.socket.disconnect()
        await test.refute_callback("handle_disconnect", within=2.9)
        await test.assert_callback("handle_disconnect", ClosedByClient())

    play(scenario)


ENDS = {
    "a disconnect broadcast": (lambda test: test.disconnect(), ClosedByServer(1001)),
    "a restart": (
        lambda test: test.disconnect(ClosedByServer(1012, "bye")),
        ClosedByServer(1012, "bye"),
    ),
    "a crash": (lambda test: test.close(1011), ClosedByServer(1011)),
    "a reset": (lambda test: test.drop(), TransportFailed),
    "an error": (
        lambda test: test.disconnect(TransportFailed(OSError("x"))),
        lambda reason: isinstance(reason.error, OSError),
    ),
    "a stall": (_stall, HeartbeatTimeout()),
    "silence": (lambda test: test.disconnect(HeartbeatTimeout()), HeartbeatTimeout()),
}


@pytest.mark.parametrize(("end", "reason"), ENDS.values(), ids=ENDS)
def test_a_connection_ends_as_it_would_and_comes_back(play: Any, end: Any, reason: Any) -> None:
    """T6, T8: the reason is what a real server brings about, and the client reconnects."""

    async def scenario(test: SocketTest) -> None:
        await test.connect_and_join("rooms:lobby")
        await end(test)
        await test.assert_callback("handle_disconnect", reason)
        await test.connect_and_join("rooms:lobby")
        assert test.socket.connected

    play(scenario)


def test_a_client_that_disconnects_is_seen_to(play: Any) -> None:
    """T8: its reason is ClosedByClient, its code 1000; before that, nothing of the kind."""

    async def scenario(test: SocketTest) -> None:
        await test.connect_and_join("rooms:lobby")
        await test.refute_disconnect(within=60.0)
        await test.push("rooms:lobby", "disconnect")
        assert (await test.assert_disconnect(1000)).code == 1000
        await test.assert_callback("handle_disconnect", ClosedByClient())
        await test.refute_connect(within=600.0)

    play(scenario)


def test_connects_that_fail_are_told_as_they_failed(play: Any) -> None:
    """T1: a refusal with its response, a network that is not there, a server that never answers."""

    async def scenario(test: SocketTest) -> None:
        await test.refuse_connect(503, {"Retry-After": "2"}, b"later")
        failed = (await test.assert_callback("handle_disconnect")).args[0]
        assert isinstance(failed, ConnectFailed)
        assert (failed.status, failed.headers, failed.body) == (
            503,
            (("retry-after", "2"),),
            b"later",
        )
        await test.refute_connect(within=1.9)
        await test.fail_connect(OSError("no route"))
        assert len([call for call in test.calls if call.name == "handle_disconnect"]) == 2
        await test.assert_connect()
        await test.advance(11.0)
        assert "never answered" in str(test.calls[-1].args[0].error)
        await test.connect_and_join("rooms:lobby")

    play(scenario)


def test_heartbeats_are_asserted_and_a_stalled_server_lets_nothing_through(play: Any) -> None:
    async def scenario(test: SocketTest) -> None:
        await test.connect_and_join("rooms:lobby")
        await test.assert_push("rooms:lobby", "new:msg")
        await test.assert_heartbeat()
        await test.assert_heartbeat()
        for full in (False, True):
            await test.stall(buffers_full=full)
            await test.broadcast("rooms:lobby", "say", {"n": full})
            await test.refute_push(payload={"n": full}, within=5.0)
            await test.resume()
            await test.assert_push("rooms:lobby", "said", {"n": full})

    play(scenario)


def test_a_crash_is_expected_or_fails_the_test_with_it_as_the_cause(play: Any) -> None:
    async def expected(test: SocketTest) -> None:
        await test.connect_and_join("rooms:lobby")
        await test.push("rooms:lobby", "crash", {"why": "a bug"})
        error = await test.expect_crash(ValueError, "bug")
        assert error.args == ("a bug",)
        assert (await test.assert_disconnect()).code == 1011
        await test.assert_restarted()
        await test.connect_and_join("rooms:lobby")

    play(expected)

    async def unexpected(test: SocketTest) -> None:
        await test.connect_and_join("rooms:lobby")
        test.ref.send(None)  # no crash, but a message
        await test.push("rooms:lobby", "crash", {"why": "a bug"})

    with pytest.raises(AssertionError, match="expect_crash") as failed:
        play(unexpected)
    assert isinstance(failed.value.__cause__, ValueError)

    async def waits_for_ever(test: SocketTest) -> None:
        await test.connect_and_join("rooms:lobby")
        await test.push("rooms:lobby", "crash", {"why": "a bug"})
        await test.assert_push("rooms:lobby", "never", within=1e9)

    with pytest.raises(AssertionError, match=r"expected a push of 'never' .* but the client crash"):
        play(waits_for_ever)


def test_a_client_that_stops_is_seen_to_with_its_reason(play: Any) -> None:
    """T3: nobody is there any more, and whoever asks is told so."""

    async def scenario(test: SocketTest) -> None:
        await test.connect_and_join("rooms:lobby")
        await test.push("rooms:lobby", "stop")
        with pytest.raises(AssertionError, match=r"reason: expected .*Crashed.*, got Normal\(\)"):
            await test.assert_stopped(Crashed)
        assert await test.assert_stopped(NORMAL) == NORMAL
        with pytest.raises(AssertionError, match=r"the client has ended: Normal\(\)"):
            test.client  # noqa: B018 - asking is the point
        with pytest.raises(AssertionError, match="the client is not connected"):
            await test.broadcast("rooms:lobby", "say")

    play(scenario, restart="transient")


def test_a_client_that_crashes_again_and_again_has_stopped_for_good(play: Any) -> None:
    """Its supervisor gives up as in production, and the test goes on to see it."""

    async def scenario(test: SocketTest) -> None:
        for _ in range(2):
            await test.connect_and_join("rooms:lobby")
            await test.push("rooms:lobby", "crash", {"why": "again"})
        with pytest.raises(AssertionError, match="reason: expected Shut"):
            await test.assert_stopped(Shutdown)
        reason = await test.assert_stopped(Crashed)
        assert isinstance(reason, Crashed)
        with pytest.raises(AssertionError, match=r"a push of .never., but the client has st"):
            await test.assert_push(event="never", within=1e9)
        await test.refute_connect(within=600.0)

    play(scenario, max_restarts=1)


def test_a_client_that_fails_to_start_again_is_seen_to(play: Any) -> None:
    class Fragile(Lobby):
        starts = 0

        async def init(self, argument: Any, socket: Socket, /) -> Any:
            type(self).starts += 1
            if self.starts > 1:
                raise LookupError("gone")
            return await super().init(argument, socket)

    async def scenario(test: SocketTest) -> None:
        assert type(test.client) is Fragile
        await test.connect_and_join("rooms:lobby")
        await test.kill()
        await test.expect_crash(LookupError, "gone")
        await test.assert_stopped(Crashed)
        Fragile.starts = 0

    play(scenario, Fragile)


def test_a_client_that_is_killed_is_started_again(play: Any) -> None:
    async def scenario(test: SocketTest) -> None:
        await test.connect_and_join("rooms:lobby")
        with pytest.raises(AssertionError, match="expected a restart of the client, within 1 s"):
            await test.assert_restarted(within=1.0)
        first = test.client
        await test.kill()
        assert await test.assert_restarted(KILLED) == KILLED
        assert test.client is not first
        await test.connect_and_join("rooms:lobby")
        await test.push("rooms:lobby", "crash", {"why": "a bug"})
        with pytest.raises(AssertionError, match="reason: expected Killed"):
            await test.assert_restarted(KILLED)
        await test.assert_restarted(Crashed)

    play(scenario)


def test_a_callback_is_asserted_once_and_given_when_it_has_ended(play: Any) -> None:
    class Slow(Lobby):
        async def handle_message(
            self, topic: str, event: str, payload: Any, socket: Socket, /
        ) -> None:
            await trio.sleep(payload["seconds"])

    async def scenario(test: SocketTest) -> None:
        await test.connect_and_join("rooms:lobby")
        for seconds in (0.5, 3.0):
            await test.push("rooms:lobby", "sleep", {"seconds": seconds})
        call = await test.assert_callback("handle_message", ANY, "sleep")
        assert (call.args[2], call.done, call.result) == ({"seconds": 0.5}, True, None)
        with pytest.raises(AssertionError, match="to end within 1 s; it has not"):
            await test.assert_callback("handle_message")
        await test.refute_callback("handle_message")

    play(scenario, Slow)


def test_an_error_of_the_block_leaves_bare_with_a_note_of_what_had_happened(play: Any) -> None:
    async def scenario(test: SocketTest) -> None:
        await test.connect_and_join("rooms:lobby")
        await test.push("rooms:lobby", "crash", {"why": "a bug"})
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as failed:
        play(scenario)
    [note] = failed.value.__notes__
    assert note.startswith("the client had crashed: Crashed(exception=ValueError('a bug'))\n")
    assert "client    → rooms:lobby phx_join {'user': 1}" in note


def test_children_run_beside_a_client_that_may_be_a_specification(play: Any) -> None:
    class Teller(Lobby):
        async def handle_message(
            self, topic: str, event: str, payload: Any, socket: Socket, /
        ) -> None:
            self.cast("diary", payload)

    diary: list[tuple[str, Any]] = []

    async def scenario(test: SocketTest) -> None:
        await test.connect_and_join("rooms:lobby")
        await test.push("rooms:lobby", "note", {"n": 1})
        assert diary == [("cast", {"n": 1})]

    play(
        scenario,
        Teller.child_spec("ws://a/websocket"),
        children=[Recorder.child_spec(diary, name="diary")],
    )


def test_the_network_that_a_client_brings_is_named_where_it_never_comes(play: Any) -> None:
    async def scenario(test: SocketTest) -> None:
        with pytest.raises(AssertionError, match=r"Config\.transport, which goes before the test"):
            await test.accept_connect()

    config = Config("ws://a/websocket", transport=MemoryNetwork().open_transport)
    play(scenario, argument=config)

    class Idle(Lobby):
        async def init(self, argument: Any, socket: Socket, /) -> None:
            pass

    async def idle(test: SocketTest) -> None:
        with pytest.raises(AssertionError, match=r"has not called socket\.connect"):
            await test.accept_connect()

    play(idle, Idle)


def test_a_client_that_chooses_not_to_start_has_stopped(play: Any) -> None:
    """SL-X1: an init may do without."""

    class Absent(SlipstreamClient):
        async def init(self, argument: Any, socket: Socket, /) -> Ignore:
            return Ignore()

    async def scenario(test: SocketTest) -> None:
        assert await test.assert_stopped(NORMAL) == NORMAL
        with pytest.raises(AssertionError, match="chose not to start"):
            test.client  # noqa: B018 - asking is the point
        await test.refute_connect()

    play(scenario, Absent)


def test_pushes_that_nobody_asserted_fail_a_strict_test(play: Any) -> None:
    async def scenario(test: SocketTest) -> None:
        await test.connect_and_join("rooms:lobby")

    play(scenario)
    with pytest.raises(AssertionError, match=r"did not assert:\n .*new:msg.*rooms:lobby.*hello"):
        play(scenario, strict=True)


def test_the_application_knows_nothing_of_it(play: Any) -> None:
    """T2: a client that makes its configuration itself is tested as it is."""

    class Application(SlipstreamClient):
        async def init(self, argument: Any, socket: Socket, /) -> None:
            socket.connect(Config("wss://example.com/socket/websocket", params={"token": "x"}))

    async def scenario(test: SocketTest) -> None:
        request = await test.accept_connect()
        assert request.uri.startswith("wss://example.com/socket/websocket?")
        assert await test.ref.call("x") == "x"

    class Answering(Application, Lobby):
        pass

    play(scenario, Answering)


def test_a_failure_tells_what_came_instead_and_where_it_differs(play: Any) -> None:
    async def scenario(test: SocketTest) -> None:
        await test.connect_and_join("rooms:lobby")
        with pytest.raises(AssertionError) as failed:
            await test.assert_push("rooms:lobby", "new:msg", {"body": "goodbye", "to": str})
        told = str(failed.value).splitlines()
        assert told[:4] == [
            (
                "expected a push of 'new:msg' to 'rooms:lobby' with payload "
                "{'body': 'goodbye', 'to': <class 'str'>}, within 1 s; it did not come"
            ),
            "  nearest: a push of 'new:msg' to 'rooms:lobby' with payload {'body': 'hello'}",
            "    payload['body']: expected 'goodbye', got 'hello'",
            "    payload['to']: expected str, but it is not there",
        ]
        assert "0.000 s  client    handle_join('rooms:lobby', {})" in str(failed.value)
        await test.assert_push("rooms:lobby", "new:msg")
        with pytest.raises(AssertionError, match="one was asserted before, and counts once"):
            await test.assert_push("rooms:lobby", "new:msg")
        with pytest.raises(AssertionError, match="nearest: handle_join") as other:
            await test.assert_callback("handle_join", "rooms:other")
        assert "argument 0: expected 'rooms:other', got 'rooms:lobby'" in str(other.value)
        with pytest.raises(AssertionError, match="expected no such thing within 1 s: handle_join"):
            await test.refute_callback("handle_join")

    play(scenario)


def test_what_the_client_did_can_be_looked_at(play: Any) -> None:
    async def scenario(test: SocketTest) -> None:
        await test.connect_and_join("rooms:lobby")
        assert [call.name for call in test.calls] == ["init", "handle_connect", "handle_join"]
        await test.push("rooms:lobby", "say", {})
        call = await test.assert_callback("say", "rooms:lobby", {})
        assert (call.error, call.at) == (None, trio.current_time())
        assert isinstance(test.client, Lobby)
        assert "slipstream.client.join.stop" in [name for name, _ in test.telemetry]

    play(scenario)


def test_callbacks_of_every_kind_are_seen_with_their_arguments(play: Any) -> None:
    """Also those with captures, those that something is wrapped round, and batches."""

    def wrapped(method: Any) -> Any:
        @functools.wraps(method)
        async def call(*args: Any) -> Any:
            return await method(*args)

        return call

    class Many(Lobby):
        @on_message("rooms:{name}", "named")
        async def named(self, topic: str, payload: Any, socket: Socket, /, *, name: str) -> None:
            pass

        @wrapped
        async def handle_message(
            self, topic: str, event: str, payload: Any, socket: Socket, /
        ) -> None:
            pass

    class Batching(Lobby):
        async def handle_messages(self, messages: Any, socket: Socket, /) -> None:
            pass

    async def scenario(test: SocketTest) -> None:
        await test.connect_and_join("rooms:lobby")
        await test.push("rooms:lobby", "named", {"n": 1})
        await test.push("rooms:lobby", "other", {"n": 2})
        found = [(call.name, call.args, call.captures) for call in test.calls[-2:]]
        assert found == [
            ("named", ("rooms:lobby", {"n": 1}), {"name": "lobby"}),
            ("handle_message", ("rooms:lobby", "other", {"n": 2}), {}),
        ]
        assert "named('rooms:lobby', {'n': 1}, name='lobby')" in test.story

    play(scenario, Many)

    async def batch(test: SocketTest) -> None:
        await test.connect_and_join("rooms:lobby")
        await test.push("rooms:lobby", "other", {"n": 2})
        call = await test.assert_callback("handle_messages")
        assert [message.payload for message in call.args[0]] == [{"n": 2}]

    play(batch, Batching)


def test_waiting_in_a_callback_is_ended_by_what_the_test_does(play: Any) -> None:
    class Asking(Lobby):
        async def handle_join(self, topic: str, response: Any, socket: Socket, /) -> None:
            socket.assigns["reply"] = await socket.request(topic, "ask", {}, timeout=3.0)

        async def handle_message(
            self, topic: str, event: str, payload: Any, socket: Socket, /
        ) -> None:
            try:
                await socket.await_message(topic, "never", timeout=1.0)
            except AwaitTimeoutError:
                socket.assigns["gave up"] = True

    async def scenario(test: SocketTest) -> None:
        await test.connect_and_join("rooms:lobby")
        await test.reply(await test.assert_push(ANY, "ask"), {"answer": 42}, status="created")
        assert test.assigns["reply"].status == "created"
        await test.broadcast("rooms:lobby", "hm")
        await test.advance(1.0)
        assert test.assigns["gave up"]

    play(scenario, Asking)


@pytest.mark.parametrize("wrong", [None, "Lobby", int, Lobby()])
def test_only_a_class_of_clients_is_taken(wrong: Any, autojump_clock: Any) -> None:
    """T2: with an error that shows what was given."""

    async def main() -> None:
        with pytest.raises(TypeError, match="it takes a subclass of SlipstreamClient"):
            async with open_socket_test(wrong):
                raise AssertionError("not to be reached")

    trio.run(main)


def test_on_a_real_clock_time_cannot_be_skipped_and_everything_else_works() -> None:
    async def main() -> None:
        async with open_socket_test(Lobby) as test:
            await test.connect_and_join("rooms:lobby")
            await test.assert_push("rooms:lobby", "new:msg")
            for skip in (test.advance(1.0), test.refute_push(), test.refute_join()):
                with pytest.raises(RuntimeError, match="autojump_clock"):
                    await skip

    trio.run(main)


def test_sixty_virtual_seconds_take_no_time(play: Any) -> None:
    async def scenario(test: SocketTest) -> None:
        await test.connect_and_join("rooms:lobby")
        before = trio.current_time()
        await test.refute_leave(within=60.0)
        assert trio.current_time() == pytest.approx(before + 60.0)

    began = time.perf_counter()
    play(scenario)
    assert time.perf_counter() - began < 30.0


async def test_the_fixture_brings_the_clock_along(socket_test: Any) -> None:
    async with socket_test(Lobby) as test:
        await test.connect_and_join("rooms:lobby")
        await test.refute_disconnect(within=60.0)
