"""Connecting, losing, reconnecting, stopping: whose decision, in which order, how often."""

from typing import Any

import pytest
import trio

from slipstream import (
    NORMAL,
    ClosedByClient,
    ClosedByServer,
    ConnectError,
    ConnectFailed,
    ConnectionCrashed,
    DisconnectedError,
    HeartbeatTimeout,
    NoReply,
    ProviderError,
    ReconnectPolicy,
    Reply,
    ServerGoneError,
    Shutdown,
    SlipstreamClient,
    Socket,
    Stop,
    SupervisorGaveUpError,
    TransportFailed,
)
from slipstream.otp import process_of
from slipstream.testing import SocketTest
from tests.client.kit import Member, OpenTest, config, server_of


async def test_a_client_connects_and_is_told_first(socket_test: OpenTest) -> None:
    """JS-S13, AWT-002."""
    async with socket_test(SlipstreamClient, config()) as test:
        await test.accept_connect()
        assert test.callbacks == ["init", "handle_connect"]
        assert test.socket.connected
        assert test.ref.health().phase == "open"


async def test_a_lost_connection_comes_back_after_the_policys_delay(socket_test: OpenTest) -> None:
    """Rows 11, 18; JS-X2."""
    async with socket_test(SlipstreamClient, config(reconnect=[2.0])) as test:
        await test.accept_connect()
        await test.drop()
        assert not test.socket.connected
        assert test.ref.health().next_attempt_in == 2.0
        started = trio.current_time()
        await test.accept_connect()
        assert trio.current_time() - started == 2.0
        assert test.callbacks == ["init", "handle_connect", "handle_disconnect", "handle_connect"]
        assert isinstance(test.called("handle_disconnect")[0][0], TransportFailed)
        assert test.ref.health().generation == 2


@pytest.mark.parametrize("code", [1000, 1001, 1006, 1011, 1012, 4000])
async def test_a_close_by_the_server_is_no_end(socket_test: OpenTest, code: int) -> None:
    """Rows 12, 13; complaint 13; JS-X1 reversed."""
    async with socket_test(SlipstreamClient, config()) as test:
        await test.accept_connect()
        if code == 1006:
            await test.drop()
        else:
            await test.close(code, "why")
        await test.accept_connect()
        if code != 1006:
            assert test.called("handle_disconnect") == [(ClosedByServer(code, "why"),)]


@pytest.mark.parametrize("code", [1003, 1007, 1008, 1009, 1010])
async def test_a_close_that_would_come_again_ends_the_client(
    socket_test: OpenTest, code: int
) -> None:
    """Row 13: after handle_disconnect, the client exits."""
    async with socket_test(SlipstreamClient, config(), restart="temporary") as test:
        await test.accept_connect()
        await test.close(code)
        error = await test.expect_crash(DisconnectedError)
        assert isinstance(error, DisconnectedError)
        assert error.reason == ClosedByServer(code, "")
        assert test.callbacks[-3:] == ["handle_disconnect", "handle_gave_up", "terminate"]


@pytest.mark.parametrize(
    ("status", "fatal"),
    [(401, True), (403, True), (404, True), (302, True), (500, False), (429, False)],
)
async def test_a_refused_upgrade_is_judged_by_its_status(
    socket_test: OpenTest, status: int, fatal: bool
) -> None:
    """Rows 14, 15, 17; complaint 17."""
    async with socket_test(SlipstreamClient, config(), restart="temporary") as test:
        await test.refuse_connect(status)
        if fatal:
            error = await test.expect_crash(ConnectError)
            assert isinstance(error, ConnectError)
            assert error.status == status
        else:
            await test.accept_connect()
        (failed,) = test.called("handle_disconnect")[0]
        assert isinstance(failed, ConnectFailed)
        assert failed.status == status


async def test_a_fatal_end_may_be_overridden(socket_test: OpenTest) -> None:
    class Again(SlipstreamClient):
        async def handle_disconnect(self, reason: Any, socket: Socket, /) -> None:
            socket.reconnect(after=7.0)

    async with socket_test(Again, config(), restart="temporary") as test:
        await test.refuse_connect(403)
        await test.accept_connect()
        assert trio.current_time() == pytest.approx(7.0)
        assert test.ref.alive


async def test_retry_after_is_honoured(socket_test: OpenTest) -> None:
    """Row 14."""
    policy = ReconnectPolicy(delays=[1.0])
    async with socket_test(SlipstreamClient, config(reconnect=policy)) as test:
        await test.refuse_connect(503, {"retry-after": "20"})
        await test.accept_connect()
        assert trio.current_time() == pytest.approx(20.0)


async def test_a_refused_credential_of_a_provider_is_asked_for_once_at_once(
    socket_test: OpenTest,
) -> None:
    """Rows 7, 14; SL-X5; complaint 16."""
    tokens = iter(["old", "new", "newer"])

    async def params() -> dict[str, str]:
        await trio.sleep(0.5)
        return {"token": next(tokens)}

    policy = ReconnectPolicy(uniform=lambda low, high: high)
    async with socket_test(SlipstreamClient, config(params=params, reconnect=policy)) as test:
        requests = [
            await test.refuse_connect(403),
            await test.refuse_connect(403),
            await test.accept_connect(),
        ]
        uris = [request.uri.partition("?")[2] for request in requests]
        assert uris == [f"token={token}&vsn=2.0.0" for token in ("old", "new", "newer")]
        # At once the first time, by the policy after that.
        assert trio.current_time() == pytest.approx(0.5 * 3 + 2.0)


@pytest.mark.parametrize("fault", ["raises", "hangs"])
async def test_a_provider_that_fails_is_a_failed_attempt(socket_test: OpenTest, fault: str) -> None:
    async def headers() -> dict[str, str]:
        if fault == "hangs":
            await trio.sleep_forever()
        raise ValueError("no secret today")

    options = config(headers=headers, provider_timeout=3.0)
    async with socket_test(SlipstreamClient, options) as test:
        await test.refute_connect(within=4.5)
        (failed,) = test.called("handle_disconnect")[0]
        assert isinstance(failed, ConnectFailed)
        assert isinstance(failed.error, ConnectError)
        assert failed.error.step == "provider"
        if fault == "raises":
            assert isinstance(failed.error.__cause__, ProviderError)
            assert isinstance(failed.error.__cause__.error, ValueError)


async def test_attempts_are_counted_until_a_connection_was_stable(socket_test: OpenTest) -> None:
    """Row 10: a flap keeps backing off."""
    policy = ReconnectPolicy(delays=[1.0, 2.0, 4.0], stable_after=30.0)
    async with socket_test(SlipstreamClient, config(reconnect=policy)) as test:
        waits: list[float] = []
        for up in (1.0, 1.0, 31.0, 1.0):
            await test.accept_connect()
            await test.advance(up)
            await test.drop()
            waits.append(test.ref.health().next_attempt_in or 0.0)
        assert waits == [1.0, 2.0, 1.0, 2.0]


async def test_disconnect_closes_with_1000_and_stays_down(socket_test: OpenTest) -> None:
    """JS-D2, D3, X4; row 19; AWT-003."""
    async with socket_test(SlipstreamClient, config()) as test:
        await test.accept_connect()
        test.socket.disconnect()
        await test.assert_disconnect(1000)
        await test.refute_connect(within=1000.0)
        assert test.called("handle_disconnect") == [(ClosedByClient(),)]
        assert test.ref.alive
        test.socket.reconnect()  # JS-X5
        await test.accept_connect()


async def test_disconnect_gives_up_an_attempt_and_a_wait(socket_test: OpenTest) -> None:
    """Complaint 14: one can stop a client that reconnects."""
    async with socket_test(SlipstreamClient, config(connect_timeout=50.0)) as test:
        await test.assert_connect()
        await test.advance(1.0)
        test.socket.disconnect()
        await test.settle()
        assert test.called("handle_disconnect") == [(ClosedByClient(),)]
        await test.refute_connect(within=0.0)
        test.socket.reconnect()
        await test.refuse_connect(500)
        await test.advance(0.5)
        assert test.ref.health().phase == "waiting"
        test.socket.disconnect()
        await test.refute_connect(within=1000.0)


async def test_connect_and_reconnect_are_single_flight(socket_test: OpenTest) -> None:
    """Rows 16, 17; JS-S15; complaint 15."""
    async with socket_test(SlipstreamClient, config()) as test:
        test.socket.reconnect()
        test.socket.reconnect()
        await test.accept_connect()
        assert test.socket.config is not None
        test.socket.connect(test.socket.config)
        test.socket.reconnect()
        test.socket.reconnect(after=3.0)
        await test.refute_connect(within=100.0)
        assert test.socket.connected


async def test_another_configuration_closes_the_old_connection_first(socket_test: OpenTest) -> None:
    """Row 16."""
    async with socket_test(SlipstreamClient, config()) as test:
        await test.accept_connect()
        test.socket.connect(config(uri="ws://other.test/socket/websocket"))
        await test.assert_disconnect(1000)
        await test.accept_connect(lambda uri: uri.startswith("ws://other.test/"))
        assert test.callbacks == ["init", "handle_connect", "handle_disconnect", "handle_connect"]


@pytest.mark.parametrize(
    ("restart", "end", "comes_back"),
    [
        ("permanent", "clean", True),
        ("permanent", "drop", True),
        ("transient", "clean", False),
        ("transient", "drop", True),
        ("temporary", "clean", False),
        ("temporary", "drop", False),
        ("permanent", "refused", True),
        ("transient", "refused", True),
        ("temporary", "refused", False),
    ],
)
async def test_the_restart_table_of_the_connection(
    socket_test: OpenTest, restart: Any, end: str, comes_back: bool
) -> None:
    async with socket_test(SlipstreamClient, config(connection_restart=restart)) as test:
        if end == "refused":
            await test.refuse_connect(500)
        else:
            await test.accept_connect()
            await (test.close(1000) if end == "clean" else test.drop())
        if comes_back:
            await test.accept_connect()
        await test.refute_connect(within=100.0)
        assert len(test.called("handle_disconnect")) == 1
        assert test.ref.alive
        if not comes_back:
            test.socket.reconnect()
            await test.accept_connect()


class FaultError(Exception):
    pass


async def crash_connection(test: SocketTest) -> None:
    connection = server_of(test).uplink.connection
    assert connection is not None

    async def fail() -> None:
        raise FaultError("a bug")

    connection.start_soon(fail)  # type: ignore[attr-defined]  # it is the process
    await test.settle()


@pytest.mark.parametrize(
    ("restart", "comes_back"), [("permanent", True), ("transient", True), ("temporary", False)]
)
async def test_a_crashed_connection_is_told_once_and_restarted_at_once(
    socket_test: OpenTest, restart: Any, comes_back: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """AWT-013, complaint 6."""
    async with socket_test(SlipstreamClient, config(connection_restart=restart)) as test:
        await test.accept_connect()
        started = trio.current_time()
        await crash_connection(test)
        (reason,) = test.called("handle_disconnect")[0]
        assert isinstance(reason, ConnectionCrashed)
        if comes_back:
            await test.accept_connect()
            assert trio.current_time() == started
        else:
            await test.refute_connect(within=100.0)
        assert len(test.called("handle_disconnect")) == 1
    assert "a bug" in caplog.text


async def test_a_connection_that_crashes_too_often_ends_the_client(socket_test: OpenTest) -> None:
    options = config(max_restarts=2, max_seconds=5.0)
    async with socket_test(SlipstreamClient, options, restart="temporary") as test:
        for _ in range(3):
            await test.accept_connect()
            await crash_connection(test)
        await test.expect_crash(SupervisorGaveUpError)
        assert test.callbacks[-1] == "terminate"


async def test_a_killed_connection_is_told_once_and_replaced(socket_test: OpenTest) -> None:
    """AWT-013: killing it yields exactly one handle_disconnect and a new connection process."""
    async with socket_test(SlipstreamClient, config()) as test:
        await test.accept_connect()
        connections = test.ref.connections
        assert connections is not None
        process = process_of(connections.child("connection"))
        assert process is not None
        process.kill()
        await test.accept_connect()
        assert [type(args[0]) for args in test.called("handle_disconnect")] == [ConnectionCrashed]


async def test_outages_never_use_up_the_restarts(socket_test: OpenTest) -> None:
    """Complaint 4: every way out of the transport is a disconnect, and none is the last."""
    async with socket_test(SlipstreamClient, config(max_restarts=0, reconnect=[0.0])) as test:
        for _ in range(20):
            await test.accept_connect()
            await test.drop()
        await test.accept_connect()
        assert len(test.called("handle_disconnect")) == 20


async def test_a_silent_server_is_noticed_by_its_heartbeat(socket_test: OpenTest) -> None:
    """JS-H1, H5, H6; complaint 8; contract invariant 10."""
    options = config(heartbeat_interval=30.0, heartbeat_timeout=10.0)
    async with socket_test(SlipstreamClient, options) as test:
        await test.accept_connect()
        for _ in range(3):
            beat = await test.assert_heartbeat()
            assert (beat.topic, beat.join_ref) == ("phoenix", None)
        assert trio.current_time() == pytest.approx(90.0)
        await test.stall()
        await test.refute_callback("handle_disconnect", within=39.9)
        await test.advance(0.1)
        assert test.called("handle_disconnect") == [(HeartbeatTimeout(),)]
        assert test.ref.health().last_rtt is None
        await test.resume()
        await test.accept_connect()
        test.socket.disconnect()
        await test.advance(1000.0)
        assert len(test.called("handle_disconnect")) == 2


async def test_heartbeats_go_on_whatever_is_received(socket_test: OpenTest) -> None:
    """Complaint 9, row 4."""
    async with socket_test(Member, config(heartbeat_interval=30.0)) as test:
        await test.connect_and_join("t")
        for _ in range(30):
            await test.broadcast("t", "m")
            await test.advance(1.0)
        assert (await test.assert_heartbeat(within=0.0)).at == pytest.approx(30.0)


async def test_overriding_handle_disconnect_never_loses_the_reconnect(
    socket_test: OpenTest,
) -> None:
    class Slow(SlipstreamClient):
        async def handle_disconnect(self, reason: Any, socket: Socket, /) -> None:
            await trio.sleep(0.3)

    async with socket_test(Slow, config(reconnect=[0.1])) as test:
        await test.accept_connect()
        started = trio.current_time()
        await test.drop()
        await test.accept_connect()
        # The delay has passed, and the decision is known.
        assert trio.current_time() - started == pytest.approx(0.3)


@pytest.mark.parametrize("how", ["stop", "disconnect"])
async def test_handle_disconnect_may_end_it(socket_test: OpenTest, how: str) -> None:
    class Decided(SlipstreamClient):
        async def handle_disconnect(self, reason: Any, socket: Socket, /) -> Stop | None:
            if how == "stop":
                return Stop(NORMAL)
            socket.disconnect()
            return None

    async with socket_test(Decided, config(), restart="transient") as test:
        ref = test.ref.pin()
        await test.accept_connect()
        await test.drop()
        await test.refute_connect(within=100.0)
        assert ref.alive == (how == "disconnect")


@pytest.mark.parametrize(("way", "code"), [("return", 1000), ("raise", 1001), ("cancel", 1001)])
async def test_the_close_code_tells_how_the_tree_ended(
    socket_test: OpenTest, way: str, code: int
) -> None:
    """Design section 4: close codes that we send."""
    test = None
    with trio.CancelScope() as scope:
        try:
            async with socket_test(SlipstreamClient, config()) as test:
                await test.accept_connect()
                if way == "raise":
                    raise FaultError("the block failed")
                if way == "cancel":
                    scope.cancel()
                    await trio.lowlevel.checkpoint()
        except FaultError:
            assert way == "raise"
    assert scope.cancelled_caught == (way == "cancel")
    assert test is not None
    await test.assert_disconnect(code)


async def test_a_crashed_client_closes_with_1011_and_starts_afresh(socket_test: OpenTest) -> None:
    """Row 53, contract invariant 11."""

    class Fragile(SlipstreamClient):
        async def handle_info(self, message: Any, socket: Socket, /) -> None:
            raise FaultError(message)

    async with socket_test(Fragile, config()) as test:
        test.socket.join("t")
        await test.connect_and_join("t")
        test.assigns["x"] = 1
        old = test.socket
        test.ref.send("now")
        await test.expect_crash(FaultError, "now")
        await test.assert_disconnect(1011)
        await test.accept_connect()
        names = test.callbacks
        assert names[names.index("handle_info") :] == [
            "handle_info",
            "terminate",
            "init",
            "handle_connect",
        ]
        assert test.assigns == {}
        assert test.socket.topics == {}
        with pytest.raises(ServerGoneError):
            old.join("u")


async def test_the_connection_is_closed_after_terminate(socket_test: OpenTest) -> None:
    class Polite(Member):
        async def terminate(self, reason: Any, socket: Socket, /) -> None:
            assert socket.connected
            await socket.push("t", "bye")

    async with socket_test(Polite, config()) as test:
        await test.connect_and_join("t")
        await test.supervisor.terminate_child("client")
        assert [message.event for message in test.sent] == ["phx_join", "bye"]
        await test.assert_disconnect(1000, within=0.0)
        assert test.called("terminate") == [(Shutdown(),)]


async def test_a_call_a_cast_and_an_info_reach_the_client(socket_test: OpenTest) -> None:
    """SL-G1-G4, AWT-001."""

    class Answering(SlipstreamClient):
        async def handle_call(self, request: Any, caller: Any, socket: Socket, /) -> Any:
            if request == "later":
                self.start_soon(self.answer_later, caller)
                return NoReply()
            return Reply(request * 2)

        async def answer_later(self, caller: Any) -> None:
            await trio.sleep(1.0)
            caller.reply("late")

        async def handle_cast(self, message: Any, socket: Socket, /) -> None:
            socket.assigns["cast"] = message

    async with socket_test(Answering, config()) as test:
        assert await test.ref.call(21) == 42
        assert await test.ref.call("later") == "late"
        test.ref.send("hello")
        test.ref.cast("you there")
        await test.settle()
        assert test.called("handle_info") == [("hello",)]
        assert test.assigns == {"cast": "you there"}


async def test_a_ref_waits_for_the_connection_through_failed_attempts(
    socket_test: OpenTest,
) -> None:
    async with socket_test(SlipstreamClient, config()) as test:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(test.ref.wait_connected, 10.0)
            for _ in range(3):
                await test.refuse_connect(500)
            await test.accept_connect()
        assert trio.current_time() == pytest.approx(3.0)
