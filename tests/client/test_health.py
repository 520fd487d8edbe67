"""What a client looks like from outside: its health, and its flight recorder."""

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
import trio

from slipstream import (
    ClosedByServer,
    ConnectError,
    ConnectFailed,
    DisconnectedError,
    ServerGoneError,
    SlipstreamClient,
    Socket,
    open_socket,
)
from slipstream.interfaces import Message
from slipstream.otp import CrashReport
from slipstream.protocol import V2Serializer
from slipstream.testing import Channel, PhoenixServer
from tests.client.kit import GONE, Member, OpenTest, config, config_to

SECRET = "s3cr3t"  # noqa: S105 - it guards nothing


async def test_health_follows_a_link_through_its_phases(socket_test: OpenTest) -> None:
    """State, since when, last error, attempts, next attempt."""
    async with socket_test(Member, config(reconnect=[4.0], heartbeat_interval=10.0)) as test:
        await test.connect_and_join("t")
        assert test.ref.health().last_rtt is None
        await test.assert_heartbeat()
        await test.advance(2.0)
        health = test.ref.health()
        assert (health.phase, health.connected, health.generation) == ("open", True, 1)
        assert health.since == health.uptime == pytest.approx(12.0)
        assert health.last_rtt is not None
        assert health.topics == {"t": "joined"}
        assert (health.last_disconnect, health.last_error, health.next_attempt_in) == (None,) * 3
        await test.close(1012)
        await test.advance(1.0)
        health = test.ref.health()
        assert (health.phase, health.connected, health.attempt) == ("waiting", False, 1)
        assert (health.uptime, health.topics) == (0.0, {"t": "waiting"})
        assert health.since == pytest.approx(1.0)
        assert health.next_attempt_in == pytest.approx(3.0)
        assert health.last_disconnect == ClosedByServer(1012)
        assert health.last_error is None
        await test.fail_connect(GONE)
        health = test.ref.health()
        assert health.last_error is GONE
        assert health.attempt == 2
        assert health.counters["attempts"] == 2
        assert health.counters["connects"] == health.counters["disconnects"] == 1
        test.socket.disconnect()
        assert test.socket.health().phase == "down"
        assert test.socket.health().since == 0.0


async def test_health_counts_what_goes_over_all_connections_and_what_waits(
    socket_test: OpenTest,
) -> None:
    class Slow(Member):
        async def handle_message(
            self, topic: str, event: str, payload: Any, socket: Socket, /
        ) -> None:
            await trio.sleep(100.0)

    async with socket_test(Slow, config()) as test:
        await test.connect_and_join("t")
        before = test.ref.health().counters
        assert (before["messages_sent"], before["messages_received"]) == (1, 1)
        for number in range(3):
            await test.broadcast("t", "m", number)
        health = test.ref.health()
        assert health.inbound == 2
        assert health.inbound_bytes > 0
        assert health.counters["messages_received"] == 4
        async with trio.open_nursery() as nursery:
            nursery.start_soon(test.socket.request, "t", "ask")
            ask = await test.assert_push("t", "ask")
            assert test.ref.health().awaited_replies == 1
            await test.reply(ask)
        assert test.ref.health().awaited_replies == 0
        sent = test.ref.health().counters["bytes_sent"]
        await test.drop()
        await test.advance(300.0)
        await test.accept_connect()
        health = test.ref.health()
        assert health.counters["bytes_sent"] > sent  # the rejoin
        assert health.counters["connects"] == 2
        assert health.outbound_bytes == 0


async def test_health_tells_that_the_policy_gave_up(socket_test: OpenTest) -> None:
    async with socket_test(SlipstreamClient, config(), max_restarts=0) as test:
        socket = test.socket
        await test.accept_connect()
        await test.close(1008, "no more")
        await test.expect_crash(DisconnectedError)
        await test.assert_stopped()
        health = socket.health()
        assert (health.phase, health.gave_up) == ("down", "the server closed with 1008 no more")


async def test_health_can_be_served_as_json_without_what_the_server_sent(
    socket_test: OpenTest,
) -> None:
    error = ConnectError("HTTP 503", step="upgrade", status=503, body=SECRET.encode())
    async with socket_test(SlipstreamClient, config(auth_token=SECRET)) as test:
        await test.fail_connect(error)
        assert test.ref.health().last_disconnect == ConnectFailed(error, 503, (), SECRET.encode())
        served = json.dumps(test.ref.health().as_dict())
        assert json.loads(served)["last_error"] == "ConnectError: HTTP 503"
        assert json.loads(served)["last_disconnect"] == "ConnectFailed"
        assert SECRET not in served
        assert json.loads(served).keys() == test.ref.health().as_dict().keys()


async def test_a_client_that_is_not_there_has_no_health(socket_test: OpenTest) -> None:
    async with socket_test(SlipstreamClient, config()) as test:
        await test.supervisor.terminate_child("client")
        with pytest.raises(ServerGoneError):
            test.ref.health()
        with pytest.raises(ServerGoneError):
            test.ref.recorded_frames()


@pytest.mark.parametrize("shows", [False, True])
async def test_the_last_frames_stand_in_a_crash_report(
    socket_test: OpenTest, shows: bool, caplog: pytest.LogCaptureFixture
) -> None:
    class Fragile(SlipstreamClient):
        async def handle_message(
            self, topic: str, event: str, payload: Any, socket: Socket, /
        ) -> None:
            raise ValueError("a bug")

    async with socket_test(Fragile, config(log_payloads=shows)) as test:
        test.socket.join("rooms:1")
        await test.connect_and_join("rooms:1")
        await test.advance(1.0)
        await test.broadcast("rooms:1", "news", {"body": SECRET})
        await test.expect_crash(ValueError, "a bug")
    [record] = [r for r in caplog.records if "a bug" in r.getMessage() and "log" in r.getMessage()]
    log = getattr(record, "report").log  # noqa: B009 - logging's records are open
    assert [line.partition(" s ")[::2] for line in log[:1]] == [
        ("-1.000", "> 'rooms:1' 'phx_join' ref='1' 33 B" + (" {}" if shows else ""))
    ]
    assert log[1].startswith("-1.000 s < 'rooms:1' 'phx_reply' ref='1'")
    assert log[2].startswith("0.000 s < 'rooms:1' 'news'")
    assert (SECRET in "".join(log)) is shows
    assert "\n".join(f"    {line}" for line in log) in record.getMessage()


async def test_the_last_frames_stand_in_the_report_of_a_connection_that_has_a_bug(
    socket_test: OpenTest, caplog: pytest.LogCaptureFixture
) -> None:
    class Buggy(V2Serializer):
        def decode(self, data: str | bytes, /) -> Message:
            if "boom" in str(data):
                raise RuntimeError("a bug of the serializer")
            return super().decode(data)

    async with socket_test(Member, config(serializer=Buggy())) as test:
        await test.connect_and_join("t")
        await test.broadcast("t", "boom", {"body": SECRET})
        await test.accept_connect()
    reports = [getattr(r, "report", None) for r in caplog.records]
    [report] = [r for r in reports if getattr(r, "process", None) == "connection"]
    assert isinstance(report, CrashReport)
    join, reply, culprit = report.log
    assert " > 't' 'phx_join' ref='1' " in join
    assert " < 't' 'phx_reply' ref='1' " in reply
    assert re.fullmatch(r"0.000 s < \d+ B", culprit)
    assert SECRET not in caplog.text


async def test_the_last_frames_stand_in_the_event_of_a_disconnect(socket_test: OpenTest) -> None:
    async with socket_test(Member, config(flight_recorder=2)) as test:
        await test.connect_and_join("t")
        await test.broadcast("t", "a", {"body": SECRET})
        await test.broadcast("t", "b")
        await test.drop()
        assert [frame.event for frame in test.ref.recorded_frames()] == ["a", "b"]
        data: Mapping[str, Any]
        [data] = test.events("slipstream.connection.disconnect")
        assert [frame.event for frame in data["frames"]] == ["a", "b"]
        assert SECRET not in repr(data)


async def test_a_recorder_may_be_off_and_a_script_has_one(
    socket_test: OpenTest, autojump_clock: Any
) -> None:
    async with socket_test(Member, config(flight_recorder=0)) as test:
        await test.connect_and_join("t")
        assert test.socket.recorded_frames() == ()

    async with PhoenixServer({"t": Channel}, memory=True) as server:
        async with open_socket(config_to(server)) as socket:
            socket.join("t")
            await socket.await_join("t")
            events = [frame.event for frame in socket.recorded_frames()]
            assert events == ["phx_join", "phx_reply"]
