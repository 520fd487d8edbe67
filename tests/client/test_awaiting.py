"""Awaiting inside callbacks: what is consumed, what stays, and what ends a wait."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import attrs
import pytest
import trio
from trio.testing import MockClock

from slipstream import (
    ANY,
    SHUTDOWN,
    AwaitTimeoutError,
    ChannelReply,
    ClosedByServer,
    ConfigError,
    ConnectError,
    Crashed,
    DisconnectedError,
    Exit,
    InboundOverflowError,
    JoinError,
    JoinRefused,
    LocalProtocolError,
    NotJoinedError,
    PushTimeoutError,
    Reply,
    ServerGoneError,
    SlipstreamClient,
    Socket,
    StartError,
    TopicClosedError,
    WrongTaskError,
    open_supervisor,
)
from slipstream.client.awaiting import matches
from slipstream.testing import PhoenixServer, SocketTest
from tests.client.kit import GONE, Member, OpenTest, config, config_to

Wait: TypeAlias = Callable[[Any, Socket], Awaitable[Any]]


async def join(client: Any, socket: Socket) -> Any:
    """Join, and wait for it."""
    socket.join("t")
    return await socket.await_join("t")


def await_connect(client: Any, socket: Socket) -> Awaitable[None]:
    return socket.await_connect()


class Doing(Member):
    """Does what it is cast."""

    async def handle_cast(self, message: Any, socket: Socket, /) -> None:
        await message(self, socket)


async def test_await_connect_in_init_consumes_handle_connect(socket_test: OpenTest) -> None:
    """AWT-002, SL-Y1."""

    class Impatient(SlipstreamClient):
        """Waits for its connection before it counts as started."""

        async def init(self, argument: Any, socket: Socket, /) -> None:
            socket.connect(argument)
            await socket.await_connect()
            assert socket.connected

    async with socket_test(Impatient, config()) as test:
        await test.accept_connect()
        assert test.callbacks == ["init"]
        assert test.socket.connected
        await test.drop()
        await test.accept_connect()
        assert test.callbacks == ["init", "handle_disconnect", "handle_connect"]


async def test_a_failed_attempt_ends_await_connect_and_is_still_told(
    socket_test: OpenTest,
) -> None:
    """SL-Y11, Y12; AWT-005: the failure does not consume handle_disconnect."""
    async with socket_test(SlipstreamClient, config()) as test:
        waiting = await test.start_inside(await_connect)
        await test.fail_connect(GONE)
        with pytest.raises(type(GONE), match="no route"):
            await waiting.outcome(within=0.0)
        assert len(test.called("handle_disconnect")) == 1
        await test.accept_connect()
        await test.inside(await_connect)


async def test_await_connect_waits_for_the_next_attempt_with_its_delay(
    socket_test: OpenTest,
) -> None:
    """A callback that enters it has the policy decide."""
    lost = trio.Event()

    async def wait(client: Any, socket: Socket) -> None:
        await lost.wait()
        assert not socket.connected  # the wire is ahead of the callbacks
        await socket.await_connect()

    async with socket_test(SlipstreamClient, config(reconnect=[5.0])) as test:
        await test.accept_connect()
        waiting = await test.start_inside(wait)
        await test.drop()
        lost.set()
        await test.accept_connect()
        assert trio.current_time() == 5.0
        await waiting.outcome(within=0.0)
        assert test.callbacks.count("handle_connect") == 1


async def test_await_connect_without_a_wish_fails_at_once(socket_test: OpenTest) -> None:
    class Resting(SlipstreamClient):
        async def init(self, argument: Any, socket: Socket, /) -> None:
            """Want nothing."""

    async with socket_test(Resting) as test:
        with pytest.raises(DisconnectedError, match=r"call socket\.connect"):
            await test.inside(await_connect, within=0.0)


async def test_await_disconnect_gives_the_reason_and_consumes_it(socket_test: OpenTest) -> None:
    """SL-Y3, AWT-003."""

    def wait(client: Any, socket: Socket) -> Awaitable[Any]:
        return socket.await_disconnect()

    async with socket_test(SlipstreamClient, config(connection_restart="temporary")) as test:
        await test.accept_connect()
        waiting = await test.start_inside(wait)
        await test.close(1001)
        reason = await waiting.outcome(within=0.0)
        assert reason == ClosedByServer(1001, "")
        assert await test.inside(wait) == reason
        assert test.called("handle_disconnect") == []


async def test_await_join_gives_the_response_and_consumes_handle_join(
    socket_test: OpenTest,
) -> None:
    """SL-Y2, AWT-002."""
    async with socket_test(SlipstreamClient, config()) as test:
        await test.accept_connect()
        waiting = await test.start_inside(join)
        await test.accept_join("t", {"n": 1})
        assert await waiting.outcome(within=0.0) == {"n": 1}
        assert test.called("handle_join") == []
        assert test.socket.joined("t")
        assert await test.inside(lambda client, socket: socket.await_join("t")) == {"n": 1}


async def test_await_join_waits_for_the_connection_too(socket_test: OpenTest) -> None:
    async with socket_test(SlipstreamClient, config()) as test:
        waiting = await test.start_inside(join)
        await test.advance(3.0)
        await test.connect_and_join("t", {"n": 1})
        assert await waiting.outcome(within=0.0) == {"n": 1}
        assert test.callbacks == ["init", "handle_connect"]


async def test_a_refused_join_ends_await_join_and_closes_the_topic(socket_test: OpenTest) -> None:
    """AWT-012."""

    async def join_once(client: Any, socket: Socket) -> Any:
        socket.join("t", rejoin=False)
        return await socket.await_join("t")

    async with socket_test(SlipstreamClient, config()) as test:
        await test.accept_connect()
        waiting = await test.start_inside(join_once)
        await test.refuse_join("t", {"reason": "no"})
        with pytest.raises(JoinError) as caught:
            await waiting.outcome(within=0.0)
        assert caught.value.reason == JoinRefused({"reason": "no"})
        assert test.socket.join_status("t") == "closed"
        assert test.called("handle_topic_close") == []
        with pytest.raises(JoinError):
            await test.inside(lambda client, socket: socket.await_join("t"))


async def _await_a_join(client: Any, socket: Socket) -> Any:
    socket.join("u")
    return await socket.await_join("u")


async def _await_a_leave(client: Any, socket: Socket) -> None:
    socket.leave("t")
    await socket.await_leave("t")


async def _await_a_reply(client: Any, socket: Socket) -> Any:
    return await socket.await_reply(await socket.push("t", "e"))


async def _await_a_message(client: Any, socket: Socket) -> Any:
    return await socket.await_message("t", timeout=60.0)


@pytest.mark.parametrize("wait", [_await_a_join, _await_a_leave, _await_a_reply, _await_a_message])
async def test_a_wait_fails_at_once_when_the_connection_dies(
    socket_test: OpenTest, wait: Wait
) -> None:
    """AWT-010, complaint 7."""
    async with socket_test(Member, config(reconnect=[50.0])) as test:
        await test.connect_and_join("t")
        await test.stall("t")
        waiting = await test.start_inside(wait)
        assert not waiting.done
        await test.drop()
        if wait is _await_a_leave:
            await waiting.outcome()  # with the connection the channel is left, too
        else:
            with pytest.raises(DisconnectedError):
                await waiting.outcome()
        assert trio.current_time() == 0.0
        assert len(test.called("handle_disconnect")) == 1


@pytest.mark.parametrize("wait", [_await_a_reply, _await_a_message])
async def test_a_wait_fails_at_once_when_the_channel_dies(
    socket_test: OpenTest, wait: Wait
) -> None:
    async with socket_test(Member, config(rejoin=[50.0])) as test:
        await test.connect_and_join("t")
        waiting = await test.start_inside(wait)
        await test.crash_topic("t")
        with pytest.raises(TopicClosedError):
            await waiting.outcome(within=0.0)
        assert len(test.called("handle_topic_close")) == 1


async def test_a_message_is_taken_by_pattern_and_the_others_keep_their_order(
    socket_test: OpenTest,
) -> None:
    """SL-Y7, Y8; AWT-004, AWT-007; contract invariant 7."""
    said = trio.Event()

    async def wait(client: Any, socket: Socket) -> Any:
        await said.wait()
        third = await socket.await_message("t", "m", {"n": 3})
        binary = await socket.await_message(ANY, ANY, bytes)
        return third.payload["n"], binary.payload

    async with socket_test(Member, config()) as test:
        await test.connect_and_join("t")
        waiting = await test.start_inside(wait)
        for number in range(5):
            await test.broadcast("t", "m", {"n": number, "x": "y"})
        await test.broadcast("t", "other", b"bin")
        said.set()
        assert await waiting.outcome() == (3, b"bin")
        assert [args[2]["n"] for args in test.called("handle_message")] == [0, 1, 2, 4]


async def test_what_comes_after_a_timeout_reaches_its_callback(socket_test: OpenTest) -> None:
    """AWT-008."""
    async with socket_test(Member, config()) as test:
        await test.connect_and_join("t")
        with pytest.raises(AwaitTimeoutError, match="'m' on 't' did not come within 2 s"):
            await test.inside(lambda client, socket: socket.await_message("t", "m", timeout=2.0))
        assert trio.current_time() == 2.0
        await test.broadcast("t", "m", 1)
        assert test.called("handle_message") == [("t", "m", 1)]


async def test_a_late_reply_is_dropped_and_an_early_one_is_found(socket_test: OpenTest) -> None:
    replied = trio.Event()

    async def late(client: Any, socket: Socket) -> Any:
        return await socket.await_reply(await socket.push("t", "late"), 1.0)

    async def early(client: Any, socket: Socket) -> Any:
        ref = await socket.push("t", "early")
        await replied.wait()
        return await socket.await_reply(ref)

    async with socket_test(Member, config()) as test:
        await test.connect_and_join("t")
        with pytest.raises(PushTimeoutError):
            await test.inside(late)
        await test.reply(await test.assert_push("t", "late"))
        waiting = await test.start_inside(early)
        await test.reply(await test.assert_push("t", "early"), 1)
        replied.set()
        assert await waiting.outcome() == ChannelReply("ok", 1)
        assert test.called("handle_reply") == []


async def test_await_leave_consumes_handle_leave(socket_test: OpenTest) -> None:
    """SL-Y2."""

    async def leave(client: Any, socket: Socket) -> None:
        with pytest.raises(LocalProtocolError, match=r"call socket\.leave"):
            await socket.await_leave("t")
        socket.leave("t")
        await socket.await_leave("t")
        await socket.await_leave("t")  # a second time there is nothing to wait for

    async with socket_test(Member, config()) as test:
        await test.connect_and_join("t")
        await test.inside(leave)
        assert test.called("handle_leave") == []


AWAITS: list[tuple[str, tuple[Any, ...]]] = [
    ("await_connect", ()),
    ("await_disconnect", ()),
    ("await_join", ("t",)),
    ("await_leave", ("t",)),
    ("await_reply", ("1",)),
    ("await_message", ("t",)),
]


@pytest.mark.parametrize(("name", "args"), AWAITS)
async def test_awaiting_belongs_to_the_clients_own_task(
    socket_test: OpenTest, name: str, args: tuple[Any, ...]
) -> None:
    """AWT-011."""
    async with socket_test(Member, config()) as test:
        await test.connect_and_join("t")
        with pytest.raises(WrongTaskError, match="use request"):
            await getattr(test.socket, name)(*args)


@pytest.mark.parametrize("wait", ["await_join", "await_leave"])
async def test_waits_for_a_topic_never_asked_for_are_refused(
    socket_test: OpenTest, wait: str
) -> None:
    async with socket_test(Member, config()) as test:
        await test.connect_and_join("t")
        with pytest.raises(NotJoinedError):
            await test.inside(lambda client, socket: getattr(socket, wait)("nowhere"))


@pytest.mark.parametrize("seconds", [-1, float("nan"), "5", True])
async def test_a_timeout_that_is_none_is_refused(socket_test: OpenTest, seconds: Any) -> None:
    async with socket_test(Member, config()) as test:
        await test.connect_and_join("t")
        with pytest.raises(ConfigError, match="timeout is"):
            await test.socket.request("t", "e", timeout=seconds)


@pytest.mark.parametrize("wait", ["message", "request", "connect", "join"])
async def test_being_stopped_interrupts_a_wait_and_terminate_runs(
    socket_test: OpenTest, wait: str
) -> None:
    """AWT-009, TRI-084."""
    waits: dict[str, Wait] = {
        "message": lambda client, socket: socket.await_message("t", timeout=1000.0),
        "request": lambda client, socket: socket.request("t", "e", timeout=1000.0),
        "connect": lambda client, socket: socket.await_disconnect(),
        "join": lambda client, socket: socket.await_join("u"),
    }
    async with socket_test(Member, config()) as test:
        await test.connect_and_join("t")
        test.socket.join("u")
        parked = await test.start_inside(waits[wait])
        await test.supervisor.terminate_child("client")
        assert trio.current_time() < 1.0
        assert test.callbacks[-1] == "terminate"
        with pytest.raises(Exit) as caught:
            await parked.outcome()
        assert caught.value.reason == SHUTDOWN


@pytest.mark.parametrize("grouped", [False, True])
async def test_a_link_error_that_leaves_a_callback_ends_that_callback_only(
    socket_test: OpenTest, grouped: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(client: Any, socket: Socket) -> None:
        error = DisconnectedError()
        raise ExceptionGroup("in a nursery", [error]) if grouped else error

    async with socket_test(Doing, config()) as test:
        await test.connect_and_join("t")
        test.assigns["kept"] = True
        test.ref.cast(fail)
        await test.broadcast("t", "m")
        assert test.called("terminate") == []
        assert test.assigns == {"kept": True}
        assert len(test.called("handle_message")) == 1
    assert "handle_cast ended early" in caplog.text


@pytest.mark.parametrize(("error", "normal"), [(ValueError("bug"), False), (Exit(), True)])
async def test_a_link_error_beside_a_bug_is_a_crash_and_beside_an_exit_an_exit(
    socket_test: OpenTest, error: BaseException, normal: bool
) -> None:
    async def fail(client: Any, socket: Socket) -> None:
        raise BaseExceptionGroup("both", [DisconnectedError(), error])

    async with socket_test(Doing, config(), restart="temporary") as test:
        test.ref.cast(fail)
        reason = await test.assert_stopped(lambda reason: isinstance(reason, Crashed) != normal)
        assert reason.abnormal != normal


async def test_a_link_error_that_leaves_handle_call_is_raised_at_the_caller(
    socket_test: OpenTest,
) -> None:
    class Answering(SlipstreamClient):
        async def handle_call(self, request: Any, caller: Any, socket: Socket, /) -> Reply:
            return Reply(await socket.push("t", "e", when_unjoined="raise"))

    async with socket_test(Answering, config()) as test:
        test.socket.join("t")
        with pytest.raises(DisconnectedError):
            await test.ref.call("x")
        assert test.ref.alive


async def test_a_link_error_that_leaves_init_is_a_start_failure(socket_test: OpenTest) -> None:
    class Failing(SlipstreamClient):
        async def init(self, argument: Any, socket: Socket, /) -> None:
            raise DisconnectedError

    with pytest.raises(StartError):
        async with socket_test(Failing, config()):
            raise AssertionError("it must not start")


async def _await_what_never_comes(client: Any, socket: Socket) -> Any:
    return await socket.await_message("t", "never", timeout=100.0)


async def _ask_what_is_never_answered(client: Any, socket: Socket) -> Any:
    return await socket.request("t", "e", timeout=100.0)


@pytest.mark.parametrize("wait", [_await_what_never_comes, _ask_what_is_never_answered])
async def test_too_much_unread_before_the_answer_ends_the_wait(
    socket_test: OpenTest, wait: Wait
) -> None:
    """Design section 2: while a client waits the reader does not pause, up to inbound_bytes."""
    async with socket_test(Member, config(inbound_limit=4, inbound_bytes=2000)) as test:
        await test.connect_and_join("t")
        waiting = await test.start_inside(wait)
        for number in range(100):
            await test.broadcast("t", "m", {"n": number, "x": "y" * 40})
        with pytest.raises(InboundOverflowError):
            await waiting.outcome(within=0.0)
        # Well over the four messages, up to the bytes.
        assert len(test.called("handle_message")) > 10


async def test_an_answer_behind_a_flood_is_found(socket_test: OpenTest) -> None:
    """Rows 52: the reply overtakes what lies unread, which keeps its order."""

    async def ask(client: Any, socket: Socket) -> Any:
        return (await socket.request("t", "e")).response

    async with socket_test(Member, config(inbound_limit=4)) as test:
        await test.connect_and_join("t")
        asking = await test.start_inside(ask)
        push = await test.assert_push("t", "e")
        for number in range(50):
            await test.broadcast("t", "m", number)
        await test.reply(push, "here")
        assert await asking.outcome() == "here"
        assert [args[2] for args in test.called("handle_message")] == list(range(50))


async def test_a_socket_of_an_ended_client_says_so(socket_test: OpenTest) -> None:
    async with socket_test(Member, config(), restart="temporary") as test:
        await test.connect_and_join("t")
        socket = test.socket
        await test.ref.stop()
        with pytest.raises(ServerGoneError):
            socket.join("u")
        with pytest.raises(ServerGoneError):
            await socket.push("t", "e")


@pytest.mark.parametrize(
    ("pattern", "value", "fits"),
    [
        (ANY, object(), True),
        (1, 1, True),
        ("a", "b", False),
        (dict, {}, True),
        (bytes, {}, False),
        ({"a": 1}, {"a": 1, "b": 2}, True),
        ({"a": {"b": int}}, {"a": {"b": 3}}, True),
        ({"a": 1}, [], False),
        (callable, len, True),
        ({"a": ANY}, {}, False),
    ],
)
def test_patterns(pattern: Any, value: Any, fits: bool) -> None:
    assert matches(pattern, value) is fits


ELSEWHERE = "ws://other.test/socket/websocket"


@pytest.mark.parametrize("wait", ["await_connect", "await_join"])
@pytest.mark.parametrize("was_open", [True, False])
async def test_after_a_move_a_wait_is_for_the_new_connection(
    socket_test: OpenTest, wait: str, was_open: bool
) -> None:
    """Not for the one that the client itself has just hung up, or whose opening it gave up."""

    async def move(client: Any, socket: Socket) -> Any:
        assert socket.config is not None
        socket.connect(attrs.evolve(socket.config, uri=ELSEWHERE))
        given = await (
            socket.await_connect() if wait == "await_connect" else socket.await_join("t")
        )
        assert socket.connected
        await socket.await_join("t")
        return given, await socket.request("t", "e")

    async def elsewhere(test: SocketTest) -> None:
        await test.accept_connect(lambda uri: uri.startswith(ELSEWHERE))
        await test.accept_join("t", {"n": 2})
        await test.reply(await test.assert_push("t", "e"))

    async with socket_test(SlipstreamClient, config()) as test:
        test.socket.join("t")
        if was_open:
            await test.connect_and_join("t")
        moving = await test.start_inside(move)
        await elsewhere(test)
        given, reply = await moving.outcome()
        assert given == ({"n": 2} if wait == "await_join" else None)
        assert reply.ok


async def test_after_a_hang_up_nothing_is_awaited(socket_test: OpenTest) -> None:
    """The connection is open still, for as long as its close takes."""

    async def hang_up(client: Any, socket: Socket) -> None:
        socket.disconnect()
        with pytest.raises(DisconnectedError, match=r"call socket\.connect"):
            await socket.await_connect()

    async with socket_test(Member, config()) as test:
        await test.connect_and_join("t")
        await test.inside(hang_up)


async def test_after_a_hang_up_nothing_is_sent(socket_test: OpenTest) -> None:
    """Not even in the moment before the close is under way."""

    async def hang_up(_: Any, socket: Socket) -> bool:
        socket.disconnect()
        joined = socket.joined("t")
        with pytest.raises(DisconnectedError):
            await socket.push("t", "e", when_unjoined="raise")
        return joined

    async with socket_test(Member, config()) as test:
        await test.connect_and_join("t")
        assert await test.inside(hang_up) is False
        await test.refute_push()


async def test_a_join_that_is_left_was_not_refused(socket_test: OpenTest) -> None:
    """Though one before it was."""

    async def leave(_: Any, socket: Socket) -> None:
        socket.leave("t")
        await socket.await_join("t")

    async with socket_test(Member, config(rejoin=[5.0])) as test:
        await test.accept_connect()
        await test.refuse_join("t", {"reason": "no"})
        await test.assert_join("t", within=60.0)
        with pytest.raises(JoinError) as caught:
            await test.inside(leave)
        assert caught.value.reason is None


async def test_that_the_policy_gave_up_within_init_is_told(autojump_clock: MockClock) -> None:
    told: list[Any] = []

    class Outcast(SlipstreamClient):
        async def init(self, argument: Any, socket: Socket, /) -> None:
            socket.connect(argument)
            with pytest.raises(ConnectError):
                await socket.await_connect()
            await socket.await_disconnect()

        async def handle_gave_up(self, reason: Any, socket: Socket, /) -> None:
            told.append(reason.status)

    async with PhoenixServer({}, memory=True) as server:
        server.refuse_connects(403)
        async with open_supervisor([(Outcast, config_to(server))]):
            await trio.sleep(1.0)
    assert told == [403]
