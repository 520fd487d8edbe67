"""Awaiting inside callbacks: what is consumed, what stays, and what ends a wait."""

from typing import Any

import attrs
import pytest
import trio

from slipstream import (
    ANY,
    SHUTDOWN,
    AwaitTimeoutError,
    ChannelReply,
    ClosedByServer,
    Config,
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
    ServerGoneError,
    StartError,
    TopicClosedError,
    WrongTaskError,
    open_supervisor,
)
from slipstream.client.awaiting import matches
from slipstream.transport import MemoryNetwork
from tests.client.support import URI, Harness, Recorder, ServerEnd, harness, settle, virtual


class Impatient(Recorder):
    """Waits for its connection before it counts as started."""

    async def init(self, argument: Any, socket: Any, /) -> Any:
        config, self.calls, self.scripts = argument
        socket.connect(config)
        await socket.await_connect()
        assert socket.connected


def test_await_connect_in_init_consumes_handle_connect() -> None:
    """AWT-002, SL-Y1."""

    async def scenario() -> None:
        network = MemoryNetwork()
        config = Config(
            URI, transport=network.open_transport, heartbeat_interval=None, reconnect=[1.0]
        )
        calls: list[Any] = []
        ends: list[ServerEnd] = []

        async def accept() -> None:
            ends.append(ServerEnd(await network.accept()))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept)
            spec = Impatient.child_spec((config, calls, {}), id="client")
            async with open_supervisor([spec]) as supervisor:
                h = Harness(supervisor, network, calls)
                await settle()
                assert h.names() == []
                assert h.socket.connected
                ends[0].peer.drop()
                await h.accept()
                await settle()
                assert h.names() == ["handle_disconnect", "handle_connect"]

    virtual(scenario)


def test_a_failed_attempt_ends_await_connect_and_is_still_told() -> None:
    """SL-Y11, Y12; AWT-005: the failure does not consume handle_disconnect."""

    async def scenario() -> None:
        async with harness() as h:
            h.network.refuse(ConnectError("refused", step="tcp"))

            async def wait(client: Any, socket: Any) -> None:
                await socket.await_connect()

            with pytest.raises(ConnectError, match="refused"):
                await h.inside(wait)
            await settle()
            assert len(h.of("handle_disconnect")) == 1
            await h.accept()
            await h.inside(wait)

    virtual(scenario)


def test_await_connect_waits_for_the_next_attempt_with_its_delay() -> None:
    """A callback that enters it has the policy decide."""

    async def scenario() -> None:
        async with harness(reconnect=[5.0]) as h:
            end = await h.accept()
            await settle()

            async def wait(client: Any, socket: Any) -> None:
                end.peer.drop()
                await settle()
                assert not socket.connected  # the wire is ahead of the callbacks
                await socket.await_connect()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(h.inside, wait)
                await h.accept()
            assert trio.current_time() == 5.0
            await settle()
            assert h.names().count("handle_connect") == 1

    virtual(scenario)


def test_await_connect_without_a_wish_fails_at_once() -> None:
    async def rest(client: Any, socket: Any) -> None:
        await trio.lowlevel.checkpoint()

    async def scenario() -> None:
        async with harness({"init": rest}) as h:
            with pytest.raises(DisconnectedError, match=r"call socket\.connect"):
                await h.inside(lambda client, socket: socket.await_connect())

    virtual(scenario)


def test_await_disconnect_gives_the_reason_and_consumes_it() -> None:
    """SL-Y3, AWT-003."""

    async def scenario() -> None:
        async with harness(connection_restart="temporary") as h:
            end = await h.accept()
            await settle()
            end.peer.close(1001)
            reason = await h.inside(lambda client, socket: socket.await_disconnect())
            assert reason == ClosedByServer(1001, "")
            assert await h.inside(lambda client, socket: socket.await_disconnect()) == reason
            assert h.of("handle_disconnect") == []

    virtual(scenario)


def test_await_join_gives_the_response_and_consumes_handle_join() -> None:
    """SL-Y2, AWT-002."""

    async def scenario() -> None:
        async with harness() as h:
            end = await h.accept()
            await settle()

            async def join(client: Any, socket: Any) -> Any:
                socket.join("t")
                return await socket.await_join("t")

            async with trio.open_nursery() as nursery:
                nursery.start_soon(end.accept_join, "t", {"n": 1})
                assert await h.inside(join) == {"n": 1}
            assert h.of("handle_join") == []
            assert h.socket.joined("t")
            assert await h.inside(lambda client, socket: socket.await_join("t")) == {"n": 1}

    virtual(scenario)


def test_await_join_waits_for_the_connection_too() -> None:
    async def scenario() -> None:
        async with harness() as h:

            async def join(client: Any, socket: Any) -> Any:
                socket.join("t")
                return await socket.await_join("t")

            async def serve() -> None:
                await trio.sleep(3.0)
                end = await h.accept()
                await end.accept_join("t", {"n": 1})

            h.network.stall_connects()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve)
                h.network.resume_connects()
                assert await h.inside(join) == {"n": 1}
            await settle()
            assert h.names() == ["init", "handle_connect"]

    virtual(scenario)


def test_a_refused_join_ends_await_join_and_closes_the_topic() -> None:
    """AWT-012."""

    async def scenario() -> None:
        async with harness() as h:
            end = await h.accept()
            await settle()

            async def join(client: Any, socket: Any) -> Any:
                socket.join("t", rejoin=False)
                return await socket.await_join("t")

            async def refuse() -> None:
                end.reply(await end.next("phx_join"), "error", {"reason": "no"})

            async with trio.open_nursery() as nursery:
                nursery.start_soon(refuse)
                with pytest.raises(JoinError) as caught:
                    await h.inside(join)
            assert caught.value.reason == JoinRefused({"reason": "no"})
            assert h.socket.join_status("t") == "closed"
            assert h.of("handle_topic_close") == []
            with pytest.raises(JoinError):
                await h.inside(lambda client, socket: socket.await_join("t"))

    virtual(scenario)


@pytest.mark.parametrize("what", ["join", "leave", "reply", "message"])
def test_a_wait_fails_at_once_when_the_connection_dies(what: str) -> None:
    """AWT-010, complaint 7."""

    async def scenario() -> None:
        async with harness(reconnect=[50.0]) as h:
            end, _ = await h.joined()

            async def wait(client: Any, socket: Any) -> Any:
                if what == "join":
                    socket.join("u")
                    return await socket.await_join("u")
                if what == "leave":
                    socket.leave("t")
                    return await socket.await_leave("t")
                if what == "reply":
                    return await socket.await_reply(await socket.push("t", "e"))
                return await socket.await_message("t", timeout=60.0)

            async def drop() -> None:
                await settle()
                end.peer.drop()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(drop)
                if what == "leave":
                    await h.inside(wait)  # with the connection the channel is left, too
                else:
                    with pytest.raises(DisconnectedError):
                        await h.inside(wait)
            assert trio.current_time() == 0.0
            await settle()
            assert len(h.of("handle_disconnect")) == 1

    virtual(scenario)


@pytest.mark.parametrize("what", ["reply", "message"])
def test_a_wait_fails_at_once_when_the_channel_dies(what: str) -> None:
    async def scenario() -> None:
        async with harness(rejoin=[50.0]) as h:
            end, join = await h.joined()

            async def wait(client: Any, socket: Any) -> Any:
                if what == "reply":
                    return await socket.await_reply(await socket.push("t", "e"))
                return await socket.await_message("t", timeout=60.0)

            async def crash() -> None:
                await settle()
                end.say(join.join_ref, join.ref, "t", "phx_error")

            async with trio.open_nursery() as nursery:
                nursery.start_soon(crash)
                with pytest.raises(TopicClosedError):
                    await h.inside(wait)
            await settle()
            assert len(h.of("handle_topic_close")) == 1

    virtual(scenario)


def test_a_message_is_taken_by_pattern_and_the_others_keep_their_order() -> None:
    """SL-Y7, Y8; AWT-004, AWT-007; contract invariant 7."""

    async def scenario() -> None:
        async with harness() as h:
            end, _ = await h.joined()

            async def wait(client: Any, socket: Any) -> Any:
                for number in range(5):
                    end.broadcast("t", "m", {"n": number, "x": "y"})
                end.broadcast("t", "other", b"bin")
                third = await socket.await_message("t", "m", {"n": 3})
                binary = await socket.await_message(ANY, ANY, bytes)
                return third.payload["n"], binary.payload

            assert await h.inside(wait) == (3, b"bin")
            await settle()
            assert [args[2]["n"] for args in h.of("handle_message")] == [0, 1, 2, 4]

    virtual(scenario)


def test_what_comes_after_a_timeout_reaches_its_callback() -> None:
    """AWT-008."""

    async def scenario() -> None:
        async with harness() as h:
            end, _ = await h.joined()
            with pytest.raises(AwaitTimeoutError, match="'m' on 't' did not come within 2 s"):
                await h.inside(lambda client, socket: socket.await_message("t", "m", timeout=2.0))
            assert trio.current_time() == 2.0
            end.broadcast("t", "m", 1)
            await settle()
            assert h.of("handle_message") == [("t", "m", 1)]

    virtual(scenario)


def test_a_late_reply_is_dropped_and_an_early_one_is_found() -> None:
    async def scenario() -> None:
        async with harness() as h:
            end, _ = await h.joined()

            async def late(client: Any, socket: Any) -> Any:
                return await socket.await_reply(await socket.push("t", "late"), 1.0)

            with pytest.raises(PushTimeoutError):
                await h.inside(late)
            end.reply(await end.next("late"))

            async def early(client: Any, socket: Any) -> Any:
                ref = await socket.push("t", "early")
                end.reply(await end.next("early"), "ok", 1)
                await settle()
                return await socket.await_reply(ref)

            assert await h.inside(early) == ChannelReply("ok", 1)
            await settle()
            assert h.of("handle_reply") == []

    virtual(scenario)


def test_await_leave_consumes_handle_leave() -> None:
    """SL-Y2."""

    async def scenario() -> None:
        async with harness() as h:
            end, _ = await h.joined()

            async def leave(client: Any, socket: Any) -> None:
                with pytest.raises(LocalProtocolError, match=r"call socket\.leave"):
                    await socket.await_leave("t")
                socket.leave("t")
                await socket.await_leave("t")
                await socket.await_leave("t")  # a second time there is nothing to wait for

            async with trio.open_nursery() as nursery:
                nursery.start_soon(end.serve)
                await h.inside(leave)
                nursery.cancel_scope.cancel()
            assert h.of("handle_leave") == []

    virtual(scenario)


AWAITS: list[tuple[str, tuple[Any, ...]]] = [
    ("await_connect", ()),
    ("await_disconnect", ()),
    ("await_join", ("t",)),
    ("await_leave", ("t",)),
    ("await_reply", ("1",)),
    ("await_message", ("t",)),
]


@pytest.mark.parametrize(("name", "args"), AWAITS)
def test_awaiting_belongs_to_the_clients_own_task(name: str, args: tuple[Any, ...]) -> None:
    """AWT-011."""

    async def scenario() -> None:
        async with harness() as h:
            await h.joined()
            with pytest.raises(WrongTaskError, match="use request"):
                await getattr(h.socket, name)(*args)

    virtual(scenario)


def test_waits_for_a_topic_never_asked_for_are_refused() -> None:
    async def scenario() -> None:
        async with harness() as h:
            await h.joined()
            for wait in ("await_join", "await_leave"):

                async def ask(client: Any, socket: Any, wait: str = wait) -> None:
                    await getattr(socket, wait)("nowhere")

                with pytest.raises(NotJoinedError):
                    await h.inside(ask)

    virtual(scenario)


@pytest.mark.parametrize("seconds", [-1, float("nan"), "5", True])
def test_a_timeout_that_is_none_is_refused(seconds: Any) -> None:
    async def scenario() -> None:
        async with harness() as h:
            await h.joined()
            with pytest.raises(ConfigError, match="timeout is"):
                await h.socket.request("t", "e", timeout=seconds)

    virtual(scenario)


@pytest.mark.parametrize("wait", ["message", "request", "connect", "join"])
def test_being_stopped_interrupts_a_wait_and_terminate_runs(wait: str) -> None:
    """AWT-009, TRI-084."""

    async def scenario() -> None:
        async with harness() as h:
            await h.joined()
            seen: list[Any] = []

            async def park(client: Any, socket: Any) -> None:
                waits = {
                    "message": lambda: socket.await_message("t", timeout=1000.0),
                    "request": lambda: socket.request("t", "e", timeout=1000.0),
                    "connect": socket.await_disconnect,
                    "join": lambda: socket.await_join("u"),
                }
                socket.join("u")
                try:
                    await waits[wait]()
                except Exit as caught:
                    seen.append(caught.reason)
                    raise

            h.ref.cast(park)
            await settle()
            await h.supervisor.terminate_child("client")
            assert seen == [SHUTDOWN]
            assert trio.current_time() < 1.0
            assert h.names()[-1] == "terminate"

    virtual(scenario)


@pytest.mark.parametrize("grouped", [False, True])
def test_a_link_error_that_leaves_a_callback_ends_that_callback_only(
    grouped: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with harness() as h:
            end, _ = await h.joined()
            h.socket.assigns["kept"] = True

            async def fail(client: Any, socket: Any) -> None:
                error = DisconnectedError()
                raise ExceptionGroup("in a nursery", [error]) if grouped else error

            h.ref.cast(fail)
            end.broadcast("t", "m")
            await settle()
            assert h.of("terminate") == []
            assert h.socket.assigns == {"kept": True}
            assert len(h.of("handle_message")) == 1

    virtual(scenario)
    assert "handle_cast ended early" in caplog.text


def test_a_link_error_beside_a_bug_is_a_crash_and_beside_an_exit_an_exit() -> None:
    async def scenario() -> None:
        for error, normal in ((ValueError("bug"), False), (Exit(), True)):
            async with harness(restart="temporary") as h:
                ref = h.ref.pin()

                async def fail(client: Any, socket: Any, error: BaseException = error) -> None:
                    raise BaseExceptionGroup("both", [DisconnectedError(), error])

                h.ref.cast(fail)
                reason = await ref.wait()
                assert isinstance(reason, Crashed) != normal

    virtual(scenario)


def test_a_link_error_that_leaves_handle_call_is_raised_at_the_caller() -> None:
    async def answer(client: Any, request: Any, caller: Any, socket: Any) -> Any:
        await socket.push("t", "e", when_unjoined="raise")

    async def scenario() -> None:
        async with harness({"handle_call": answer}) as h:
            h.socket.join("t")
            with pytest.raises(DisconnectedError):
                await h.ref.call("x")
            assert h.ref.alive

    virtual(scenario)


def test_a_link_error_that_leaves_init_is_a_start_failure() -> None:
    async def init(client: Any, socket: Any) -> Any:
        raise DisconnectedError

    async def scenario() -> None:
        with pytest.raises(StartError):
            async with harness({"init": init}):
                raise AssertionError("it must not start")

    virtual(scenario)


def test_too_much_unread_before_the_answer_ends_the_wait() -> None:
    """Design section 2: while a client waits the reader does not pause, up to inbound_bytes."""

    async def scenario() -> None:
        async with harness(inbound_limit=4, inbound_bytes=2000) as h:
            end, _ = await h.joined()

            async def wait(client: Any, socket: Any) -> Any:
                return await socket.await_message("t", "never", timeout=100.0)

            async def ask(client: Any, socket: Any) -> Any:
                return await socket.request("t", "e", timeout=100.0)

            async def flood() -> None:
                await settle()
                for number in range(100):
                    end.broadcast("t", "m", {"n": number, "x": "y" * 40})
                    await settle()

            for waiting in (wait, ask):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(flood)
                    with pytest.raises(InboundOverflowError):
                        await h.inside(waiting)
                    nursery.cancel_scope.cancel()
                await settle()
                # Well over the four messages, up to the bytes.
                assert len(h.of("handle_message")) > 10
                h.calls.clear()

    virtual(scenario)


def test_an_answer_behind_a_flood_is_found() -> None:
    """Rows 52: the reply overtakes what lies unread, which keeps its order."""

    async def scenario() -> None:
        async with harness(inbound_limit=4) as h:
            end, _ = await h.joined()

            async def ask(client: Any, socket: Any) -> Any:
                return (await socket.request("t", "e")).response

            async def serve() -> None:
                push = await end.next("e")
                for number in range(50):
                    end.broadcast("t", "m", number)
                end.reply(push, "ok", "here")

            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve)
                assert await h.inside(ask) == "here"
            await settle()
            assert [args[2] for args in h.of("handle_message")] == list(range(50))

    virtual(scenario)


def test_a_socket_of_an_ended_client_says_so() -> None:
    async def scenario() -> None:
        async with harness(restart="temporary") as h:
            await h.joined()
            socket = h.socket
            await h.ref.stop()
            with pytest.raises(ServerGoneError):
                socket.join("u")
            with pytest.raises(ServerGoneError):
                await socket.push("t", "e")

    virtual(scenario)


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
def test_after_a_move_a_wait_is_for_the_new_connection(wait: str, was_open: bool) -> None:
    """Not for the one that the client itself has just hung up, or whose opening it gave up."""

    async def move(client: Any, socket: Any) -> Any:
        socket.connect(attrs.evolve(socket.config, uri=ELSEWHERE))
        given = await (
            socket.await_connect() if wait == "await_connect" else socket.await_join("t")
        )
        assert socket.connected
        await socket.await_join("t")
        return given, await socket.request("t", "e")

    async def serve(h: Harness) -> None:
        end = await h.accept()
        if "other.test" not in end.peer.request.uri:  # what was given up may have been on its way
            end = await h.accept()
        await end.accept_join("t", {"n": 2})
        end.reply(await end.next("e"))

    async def scenario() -> None:
        async with harness() as h:
            if was_open:
                await h.joined("t")
            else:
                h.network.stall_connects()
                h.socket.join("t")
                await settle()
                h.network.resume_connects()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve, h)
                given, reply = await h.inside(move)
            assert given == ({"n": 2} if wait == "await_join" else None)
            assert reply.ok

    virtual(scenario)


def test_after_a_hang_up_nothing_is_awaited() -> None:
    """The connection is open still, for as long as its close takes."""

    async def hang_up(client: Any, socket: Any) -> None:
        socket.disconnect()
        with pytest.raises(DisconnectedError, match=r"call socket\.connect"):
            await socket.await_connect()

    async def scenario() -> None:
        async with harness() as h:
            await h.joined("t")
            await h.inside(hang_up)

    virtual(scenario)
