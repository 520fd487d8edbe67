"""Connecting, losing, reconnecting, stopping: whose decision, in which order, how often."""

from typing import Any

import pytest
import trio

from slipstream import (
    NORMAL,
    ClosedByClient,
    ClosedByServer,
    Config,
    ConnectError,
    ConnectFailed,
    ConnectionCrashed,
    Crashed,
    DisconnectedError,
    HeartbeatTimeout,
    NoReply,
    ProviderError,
    ReconnectPolicy,
    Reply,
    ServerGoneError,
    Shutdown,
    Stop,
    SupervisorGaveUpError,
    TransportFailed,
)
from slipstream.otp import process_of
from slipstream.transport import MemoryNetwork
from tests.client.support import URI, Harness, harness, settle, virtual


def refused(status: int, **headers: str) -> ConnectError:
    pairs = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return ConnectError(f"HTTP {status}", step="upgrade", status=status, headers=pairs)


def test_a_client_connects_and_is_told_first() -> None:
    """JS-S13, AWT-002."""

    async def scenario() -> None:
        async with harness() as h:
            await h.accept()
            await settle()
            assert h.names() == ["init", "handle_connect"]
            assert h.socket.connected
            assert h.ref.health().phase == "open"

    virtual(scenario)


def test_a_lost_connection_comes_back_after_the_policys_delay() -> None:
    """Rows 11, 18; JS-X2."""

    async def scenario() -> None:
        async with harness(reconnect=[2.0]) as h:
            end = await h.accept()
            await settle()
            end.peer.drop()
            await settle()
            assert not h.socket.connected
            assert h.ref.health().next_attempt_in == 2.0
            started = trio.current_time()
            await h.accept()
            assert trio.current_time() - started == 2.0
            await settle()
            assert h.names() == ["init", "handle_connect", "handle_disconnect", "handle_connect"]
            assert isinstance(h.of("handle_disconnect")[0][0], TransportFailed)
            assert h.ref.health().generation == 2

    virtual(scenario)


@pytest.mark.parametrize("code", [1000, 1001, 1006, 1011, 1012, 4000])
def test_a_close_by_the_server_is_no_end(code: int) -> None:
    """Rows 12, 13; complaint 13; JS-X1 reversed."""

    async def scenario() -> None:
        async with harness() as h:
            end = await h.accept()
            await settle()
            if code == 1006:
                end.peer.drop()
            else:
                end.peer.close(code, "why")
            await h.accept()
            if code != 1006:
                assert h.of("handle_disconnect") == [(ClosedByServer(code, "why"),)]

    virtual(scenario)


@pytest.mark.parametrize("code", [1003, 1007, 1008, 1009, 1010])
def test_a_close_that_would_come_again_ends_the_client(code: int) -> None:
    """Row 13: after handle_disconnect, the client exits."""

    async def scenario() -> None:
        async with harness(restart="temporary") as h:
            ref = h.ref.pin()
            (await h.accept()).peer.close(code)
            reason = await ref.wait()
            assert isinstance(reason, Crashed)
            assert isinstance(reason.exception, DisconnectedError)
            assert reason.exception.reason == ClosedByServer(code, "")
            assert h.names()[-2:] == ["handle_disconnect", "terminate"]

    virtual(scenario)


@pytest.mark.parametrize(
    ("status", "fatal"),
    [(401, True), (403, True), (404, True), (302, True), (500, False), (429, False)],
)
def test_a_refused_upgrade_is_judged_by_its_status(status: int, fatal: bool) -> None:
    """Rows 14, 15, 17; complaint 17."""

    async def scenario() -> None:
        async with harness(restart="temporary") as h:
            h.network.refuse(refused(status))
            ref = h.ref.pin()
            if fatal:
                reason = await ref.wait()
                assert isinstance(reason, Crashed)
                assert isinstance(reason.exception, ConnectError)
                assert reason.exception.status == status
            else:
                await h.accept()
            (failed,) = h.of("handle_disconnect")[0]
            assert isinstance(failed, ConnectFailed)
            assert failed.status == status

    virtual(scenario)


def test_a_fatal_end_may_be_overridden() -> None:
    async def again(client: Any, reason: Any, socket: Any) -> None:
        socket.reconnect(after=7.0)

    async def scenario() -> None:
        async with harness({"handle_disconnect": again}, restart="temporary") as h:
            h.network.refuse(refused(403))
            await h.accept()
            assert trio.current_time() == pytest.approx(7.0)
            assert h.ref.alive

    virtual(scenario)


def test_retry_after_is_honoured() -> None:
    """Row 14."""

    async def scenario() -> None:
        async with harness(reconnect=ReconnectPolicy(delays=[1.0])) as h:
            h.network.refuse(refused(503, retry_after="20"))
            await h.accept()
            assert trio.current_time() == pytest.approx(20.0)

    virtual(scenario)


def test_a_refused_credential_of_a_provider_is_asked_for_once_at_once() -> None:
    """Rows 7, 14; SL-X5; complaint 16."""
    tokens = iter(["old", "new", "newer"])

    async def params() -> dict[str, str]:
        await trio.sleep(0.5)
        return {"token": next(tokens)}

    async def scenario() -> None:
        policy = ReconnectPolicy(uniform=lambda low, high: high)
        async with harness(params=params, reconnect=policy) as h:
            h.network.refuse(refused(403), times=2)
            await h.accept()
            uris = [request.uri.partition("?")[2] for request in h.network.requests]
            assert uris == [f"token={token}&vsn=2.0.0" for token in ("old", "new", "newer")]
            # At once the first time, by the policy after that.
            assert trio.current_time() == pytest.approx(0.5 * 3 + 2.0)

    virtual(scenario)


@pytest.mark.parametrize("fault", ["raises", "hangs"])
def test_a_provider_that_fails_is_a_failed_attempt(fault: str) -> None:
    async def headers() -> dict[str, str]:
        if fault == "hangs":
            await trio.sleep_forever()
        raise ValueError("no secret today")

    async def scenario() -> None:
        async with harness(headers=headers, provider_timeout=3.0) as h:
            await trio.sleep(4.5)
            (failed,) = h.of("handle_disconnect")[0]
            assert isinstance(failed, ConnectFailed)
            assert isinstance(failed.error, ConnectError)
            assert failed.error.step == "provider"
            if fault == "raises":
                assert isinstance(failed.error.__cause__, ProviderError)
                assert isinstance(failed.error.__cause__.error, ValueError)
            assert h.network.requests == []

    virtual(scenario)


def test_attempts_are_counted_until_a_connection_was_stable() -> None:
    """Row 10: a flap keeps backing off."""

    async def scenario() -> None:
        policy = ReconnectPolicy(delays=[1.0, 2.0, 4.0], stable_after=30.0)
        async with harness(reconnect=policy) as h:
            waits: list[float] = []
            for up in (1.0, 1.0, 31.0, 1.0):
                end = await h.accept()
                await trio.sleep(up)
                end.peer.drop()
                await settle()
                waits.append(h.ref.health().next_attempt_in or 0.0)
            assert waits == [1.0, 2.0, 1.0, 2.0]

    virtual(scenario)


def test_disconnect_closes_with_1000_and_stays_down() -> None:
    """JS-D2, D3, X4; row 19; AWT-003."""

    async def scenario() -> None:
        async with harness() as h:
            end = await h.accept()
            await settle()
            h.socket.disconnect()
            closed = await end.peer.wait_closed()
            assert closed.code == 1000
            await trio.sleep(1000.0)
            assert h.of("handle_disconnect") == [(ClosedByClient(),)]
            assert len(h.network.requests) == 1
            assert h.ref.alive
            h.socket.reconnect()  # JS-X5
            await h.accept()

    virtual(scenario)


def test_disconnect_gives_up_an_attempt_and_a_wait() -> None:
    """Complaint 14: one can stop a client that reconnects."""

    async def scenario() -> None:
        async with harness(connect_timeout=50.0) as h:
            h.network.stall_connects()
            await trio.sleep(1.0)
            h.socket.disconnect()
            await settle()
            assert h.of("handle_disconnect") == [(ClosedByClient(),)]
            h.network.resume_connects()
            h.network.refuse(refused(500))
            h.socket.reconnect()
            await trio.sleep(0.5)
            assert h.ref.health().phase == "waiting"
            h.socket.disconnect()
            attempts = len(h.network.requests)
            await trio.sleep(1000.0)
            assert len(h.network.requests) == attempts

    virtual(scenario)


def test_connect_and_reconnect_are_single_flight() -> None:
    """Rows 16, 17; JS-S15; complaint 15."""

    async def scenario() -> None:
        async with harness() as h:
            h.socket.reconnect()
            h.socket.reconnect()
            await h.accept()
            await settle()
            config = h.socket.config
            assert config is not None
            h.socket.connect(config)
            h.socket.reconnect()
            h.socket.reconnect(after=3.0)
            await trio.sleep(100.0)
            assert len(h.network.requests) == 1
            assert h.socket.connected

    virtual(scenario)


def test_another_configuration_closes_the_old_connection_first() -> None:
    """Row 16."""

    async def scenario() -> None:
        other = MemoryNetwork()
        async with harness() as h:
            end = await h.accept()
            await settle()
            h.socket.connect(Config(URI, transport=other.open_transport, heartbeat_interval=None))
            assert (await end.peer.wait_closed()).code == 1000
            await other.accept()
            await settle()
            assert h.names() == ["init", "handle_connect", "handle_disconnect", "handle_connect"]

    virtual(scenario)


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
def test_the_restart_table_of_the_connection(restart: Any, end: str, comes_back: bool) -> None:
    async def scenario() -> None:
        async with harness(connection_restart=restart) as h:
            if end == "refused":
                h.network.refuse(refused(500))
            else:
                server = await h.accept()
                await settle()
                if end == "clean":
                    server.peer.close(1000)
                else:
                    server.peer.drop()
            await trio.sleep(100.0)
            attempts = len(h.network.requests)
            assert attempts == (2 if comes_back else 1)
            assert len(h.of("handle_disconnect")) == 1
            assert h.ref.alive
            if not comes_back:
                h.socket.reconnect()
                await h.accept()

    virtual(scenario)


class FaultError(Exception):
    pass


async def crash_connection(h: Harness) -> None:
    connection = h.server.uplink.connection
    assert connection is not None

    async def fail() -> None:
        raise FaultError("a bug")

    connection.start_soon(fail)  # type: ignore[attr-defined]  # it is the process
    await settle()


@pytest.mark.parametrize(
    ("restart", "comes_back"), [("permanent", True), ("transient", True), ("temporary", False)]
)
def test_a_crashed_connection_is_told_once_and_restarted_at_once(
    restart: Any, comes_back: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """AWT-013, complaint 6."""

    async def scenario() -> None:
        async with harness(connection_restart=restart) as h:
            await h.accept()
            await settle()
            started = trio.current_time()
            await crash_connection(h)
            (reason,) = h.of("handle_disconnect")[0]
            assert isinstance(reason, ConnectionCrashed)
            if comes_back:
                await h.accept()
                assert trio.current_time() == started
            else:
                await trio.sleep(100.0)
                assert len(h.network.requests) == 1
            assert len(h.of("handle_disconnect")) == 1

    virtual(scenario)
    assert "a bug" in caplog.text


def test_a_connection_that_crashes_too_often_ends_the_client() -> None:
    async def scenario() -> None:
        async with harness(restart="temporary", max_restarts=2, max_seconds=5.0) as h:
            ref = h.ref.pin()
            for _ in range(3):
                await h.accept()
                await settle()
                await crash_connection(h)
            reason = await ref.wait()
            assert isinstance(reason, Crashed)
            assert isinstance(reason.exception, SupervisorGaveUpError)
            assert h.names()[-1] == "terminate"

    virtual(scenario)


def test_a_killed_connection_is_told_once_and_replaced() -> None:
    """AWT-013: killing it yields exactly one handle_disconnect and a new connection process."""

    async def scenario() -> None:
        async with harness() as h:
            await h.accept()
            await settle()
            connections = h.ref.connections
            assert connections is not None
            process = process_of(connections.child("connection"))
            assert process is not None
            process.kill()
            await h.accept()
            await settle()
            assert [type(args[0]) for args in h.of("handle_disconnect")] == [ConnectionCrashed]

    virtual(scenario)


def test_outages_never_use_up_the_restarts() -> None:
    """Complaint 4: every way out of the transport is a disconnect, and none is the last."""

    async def scenario() -> None:
        async with harness(max_restarts=0, reconnect=[0.0]) as h:
            for _ in range(20):
                end = await h.accept()
                await settle()
                end.peer.drop()
            await h.accept()
            assert len(h.of("handle_disconnect")) == 20

    virtual(scenario)


def test_a_silent_server_is_noticed_by_its_heartbeat() -> None:
    """JS-H1, H5, H6; complaint 8; contract invariant 10."""

    async def scenario() -> None:
        async with harness(heartbeat_interval=30.0, heartbeat_timeout=10.0) as h:
            end = await h.accept()
            for _ in range(3):
                beat = await end.next("heartbeat")
                assert (beat.topic, beat.join_ref) == ("phoenix", None)
                end.reply(beat)
            assert trio.current_time() == pytest.approx(90.0)
            await end.next("heartbeat")
            await trio.sleep(10.0)
            await settle()
            assert h.of("handle_disconnect") == [(HeartbeatTimeout(),)]
            assert h.ref.health().last_rtt is None
            end = await h.accept()
            await settle()
            h.socket.disconnect()
            await trio.sleep(1000.0)
            assert len(h.of("handle_disconnect")) == 2

    virtual(scenario)


def test_heartbeats_go_on_whatever_is_received() -> None:
    """Complaint 9, row 4."""

    async def scenario() -> None:
        async with harness(heartbeat_interval=30.0) as h:
            end, _ = await h.joined()
            async with trio.open_nursery() as nursery:

                async def chat() -> None:
                    while True:
                        end.broadcast("t", "m")
                        await trio.sleep(1.0)

                nursery.start_soon(chat)
                beat = await end.next("heartbeat")
                assert trio.current_time() == pytest.approx(30.0)
                end.reply(beat)
                nursery.cancel_scope.cancel()

    virtual(scenario)


def test_overriding_handle_disconnect_never_loses_the_reconnect() -> None:
    async def nothing(client: Any, reason: Any, socket: Any) -> None:
        await trio.sleep(0.3)

    async def scenario() -> None:
        async with harness({"handle_disconnect": nothing}, reconnect=[0.1]) as h:
            end = await h.accept()
            await settle()
            started = trio.current_time()
            end.peer.drop()
            await h.accept()
            # The delay has passed, and the decision is known.
            assert trio.current_time() - started == pytest.approx(0.3)

    virtual(scenario)


@pytest.mark.parametrize("how", ["stop", "disconnect"])
def test_handle_disconnect_may_end_it(how: str) -> None:
    async def decide(client: Any, reason: Any, socket: Any) -> Any:
        if how == "stop":
            return Stop(NORMAL)
        socket.disconnect()
        return None

    async def scenario() -> None:
        async with harness({"handle_disconnect": decide}, restart="transient") as h:
            ref = h.ref.pin()
            end = await h.accept()
            await settle()
            end.peer.drop()
            await trio.sleep(100.0)
            assert len(h.network.requests) == 1
            assert ref.alive == (how == "disconnect")

    virtual(scenario)


async def _leave_normally() -> None:
    return None


async def _fail() -> None:
    raise FaultError("the block failed")


async def _cancel() -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await trio.lowlevel.checkpoint()


@pytest.mark.parametrize(("way", "code"), [("return", 1000), ("raise", 1001), ("cancel", 1001)])
def test_the_close_code_tells_how_the_tree_ended(way: str, code: int) -> None:
    """Design section 4: close codes that we send."""

    async def scenario() -> None:
        peers: list[Any] = []
        with trio.CancelScope() as scope:
            try:
                async with harness() as h:
                    peers.append((await h.accept()).peer)
                    await settle()
                    if way == "raise":
                        raise FaultError("the block failed")
                    if way == "cancel":
                        scope.cancel()
                        await trio.lowlevel.checkpoint()
            except FaultError:
                assert way == "raise"
        assert scope.cancelled_caught == (way == "cancel")
        assert peers[0].closed.code == code

    virtual(scenario)


def test_a_crashed_client_closes_with_1011_and_starts_afresh() -> None:
    """Row 53, contract invariant 11."""

    async def crash(client: Any, message: Any, socket: Any) -> None:
        raise FaultError(message)

    async def scenario() -> None:
        async with harness({"handle_info": crash}) as h:
            end, _ = await h.joined()
            h.socket.assigns["x"] = 1
            old = h.socket
            h.ref.send("now")
            assert (await end.peer.wait_closed()).code == 1011
            await h.accept()
            await settle()
            names = h.names()
            assert names[names.index("handle_info") :] == [
                "handle_info",
                "terminate",
                "init",
                "handle_connect",
            ]
            assert h.socket.assigns == {}
            assert h.socket.topics == {}
            with pytest.raises(ServerGoneError):
                old.join("u")

    virtual(scenario)


def test_the_connection_is_closed_after_terminate() -> None:
    async def goodbye(client: Any, reason: Any, socket: Any) -> None:
        assert socket.connected
        await socket.push("t", "bye")

    async def scenario() -> None:
        async with harness({"terminate": goodbye}) as h:
            end, _ = await h.joined()
            await h.supervisor.terminate_child("client")
            assert (await end.next()).event == "bye"
            assert end.peer.closed is not None
            assert end.peer.closed.code == 1000
            assert h.of("terminate") == [(Shutdown(),)]

    virtual(scenario)


def test_a_call_a_cast_and_an_info_reach_the_client() -> None:
    """SL-G1-G4, AWT-001."""

    async def answer(client: Any, request: Any, caller: Any, socket: Any) -> Any:
        if request == "later":
            client.start_soon(answer_later, caller)
            return NoReply()
        return Reply(request * 2)

    async def answer_later(caller: Any) -> None:
        await trio.sleep(1.0)
        caller.reply("late")

    async def scenario() -> None:
        async with harness({"handle_call": answer}) as h:
            assert await h.ref.call(21) == 42
            assert await h.ref.call("later") == "late"
            h.ref.send("hello")
            await settle()
            assert h.of("handle_info") == [("hello",)]

    virtual(scenario)


def test_a_ref_waits_for_the_connection_through_failed_attempts() -> None:
    async def scenario() -> None:
        async with harness() as h:
            h.network.refuse(refused(500), times=3)
            await h.ref.wait_connected(10.0)
            assert trio.current_time() == pytest.approx(3.0)

    virtual(scenario)
