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
    ServerGoneError,
    SupervisorGaveUpError,
    open_socket,
    telemetry,
)
from slipstream.interfaces import Message
from slipstream.otp import CrashReport
from slipstream.protocol import V2Serializer
from tests.client.support import harness, settle, virtual

SECRET = "s3cr3t"  # noqa: S105 - it guards nothing


def test_health_follows_a_link_through_its_phases() -> None:
    """State, since when, last error, attempts, next attempt."""

    async def scenario() -> None:
        error = ConnectError("no", step="tcp")
        async with harness(reconnect=[4.0]) as h:
            end = await h.accept()
            await trio.sleep(2.0)
            health = h.ref.health()
            assert (health.phase, health.connected, health.generation) == ("open", True, 1)
            assert health.since == health.uptime == pytest.approx(2.0)
            assert (health.last_disconnect, health.last_error, health.next_attempt_in) == (
                None,
            ) * 3
            h.network.refuse(error)
            end.peer.close(1012)
            await trio.sleep(1.0)
            health = h.ref.health()
            assert (health.phase, health.uptime, health.attempt) == ("waiting", 0.0, 1)
            assert health.since == pytest.approx(1.0)
            assert health.next_attempt_in == pytest.approx(3.0)
            assert health.last_disconnect == ClosedByServer(1012)
            assert health.last_error is None
            await trio.sleep(4.0)
            health = h.ref.health()
            assert health.last_error is error
            assert health.attempt == 2
            assert health.counters["attempts"] == 2
            assert health.counters["connects"] == health.counters["disconnects"] == 1
            h.socket.disconnect()
            assert h.socket.health().phase == "down"
            assert h.socket.health().since == 0.0

    virtual(scenario)


def test_health_counts_what_goes_over_all_connections_and_what_waits() -> None:
    async def slow(*args: Any) -> None:
        await trio.sleep(100.0)

    async def scenario() -> None:
        async with harness({"handle_message": slow}) as h:
            end, _ = await h.joined()
            before = h.ref.health().counters
            assert (before["messages_sent"], before["messages_received"]) == (1, 1)
            for number in range(3):
                end.broadcast("t", "m", number)
            await settle()
            health = h.ref.health()
            assert health.inbound == 2
            assert health.inbound_bytes > 0
            assert health.counters["messages_received"] == 4
            async with trio.open_nursery() as nursery:
                nursery.start_soon(h.socket.request, "t", "ask")
                ask = await end.next("ask")
                assert h.ref.health().awaited_replies == 1
                end.reply(ask)
            assert h.ref.health().awaited_replies == 0
            sent = h.ref.health().counters["bytes_sent"]
            end.peer.drop()
            await h.accept()
            await settle()
            health = h.ref.health()
            assert health.counters["bytes_sent"] > sent  # the rejoin
            assert health.counters["connects"] == 2
            assert health.outbound_bytes == 0

    virtual(scenario)


def test_health_tells_that_the_policy_gave_up() -> None:
    async def scenario() -> None:
        socket: Any = None
        with pytest.raises(SupervisorGaveUpError):
            async with harness(supervisor_options={"max_restarts": 0}) as h:
                socket = h.socket
                end = await h.accept()
                await settle()
                end.peer.close(1008, "no more")
                await trio.sleep_forever()
        health = socket.health()
        assert (health.phase, health.gave_up) == ("down", "the server closed with 1008 no more")

    virtual(scenario)


def test_health_can_be_served_as_json_without_what_the_server_sent() -> None:
    async def scenario() -> None:
        error = ConnectError("HTTP 503", step="upgrade", status=503, body=SECRET.encode())
        async with harness(auth_token=SECRET) as h:
            h.network.refuse(error)
            await trio.sleep(0.5)
            assert h.ref.health().last_disconnect == ConnectFailed(error, 503, (), SECRET.encode())
            served = json.dumps(h.ref.health().as_dict())
            assert json.loads(served)["last_error"] == "ConnectError: HTTP 503"
            assert json.loads(served)["last_disconnect"] == "ConnectFailed"
            assert SECRET not in served
            assert json.loads(served).keys() == h.ref.health().as_dict().keys()

    virtual(scenario)


def test_a_client_that_is_not_there_has_no_health() -> None:
    async def scenario() -> None:
        async with harness() as h:
            ref = h.ref
            await h.supervisor.terminate_child("client")
            with pytest.raises(ServerGoneError):
                ref.health()
            with pytest.raises(ServerGoneError):
                ref.recorded_frames()

    virtual(scenario)


async def crash(client: Any, *args: Any) -> None:
    raise ValueError("a bug")


@pytest.mark.parametrize("shows", [False, True])
def test_the_last_frames_stand_in_a_crash_report(
    shows: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with harness({"handle_message": crash}, log_payloads=shows) as h:
            end, _ = await h.joined("rooms:1")
            await trio.sleep(1.0)
            end.broadcast("rooms:1", "news", {"body": SECRET})
            await settle()

    virtual(scenario)
    [record] = [r for r in caplog.records if "a bug" in r.getMessage() and "log" in r.getMessage()]
    log = getattr(record, "report").log  # noqa: B009 - logging's records are open
    assert [line.partition(" s ")[::2] for line in log[:1]] == [
        ("-1.000", "> 'rooms:1' 'phx_join' ref='1' 33 B" + (" {}" if shows else ""))
    ]
    assert log[1].startswith("-1.000 s < 'rooms:1' 'phx_reply' ref='1'")
    assert log[2].startswith("0.000 s < 'rooms:1' 'news'")
    assert (SECRET in "".join(log)) is shows
    assert "\n".join(f"    {line}" for line in log) in record.getMessage()


def test_the_last_frames_stand_in_the_report_of_a_connection_that_has_a_bug(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Buggy(V2Serializer):
        def decode(self, data: str | bytes, /) -> Message:
            if "boom" in str(data):
                raise RuntimeError("a bug of the serializer")
            return super().decode(data)

    async def scenario() -> None:
        async with harness(serializer=Buggy()) as h:
            end, _ = await h.joined()
            end.broadcast("t", "boom", {"body": SECRET})
            await settle()
            await h.accept()

    virtual(scenario)
    reports = [getattr(r, "report", None) for r in caplog.records]
    [report] = [r for r in reports if getattr(r, "process", None) == "connection"]
    assert isinstance(report, CrashReport)
    join, reply, culprit = report.log
    assert " > 't' 'phx_join' ref='1' " in join
    assert " < 't' 'phx_reply' ref='1' " in reply
    assert re.fullmatch(r"0.000 s < \d+ B", culprit)
    assert SECRET not in caplog.text


def test_the_last_frames_stand_in_the_event_of_a_disconnect() -> None:
    async def scenario() -> None:
        with telemetry.capture_events("slipstream.connection.disconnect") as events:
            async with harness(flight_recorder=2) as h:
                end, _ = await h.joined()
                end.broadcast("t", "a", {"body": SECRET})
                end.broadcast("t", "b")
                await settle()
                end.peer.drop()
                await settle()
                assert [frame.event for frame in h.ref.recorded_frames()] == ["a", "b"]
        data: Mapping[str, Any] = events[0][1]
        assert [frame.event for frame in data["frames"]] == ["a", "b"]
        assert SECRET not in repr(data)

    virtual(scenario)


def test_a_recorder_may_be_off_and_a_script_has_one() -> None:
    async def scenario() -> None:
        async with harness(flight_recorder=0) as h:
            await h.joined()
            assert h.socket.recorded_frames() == ()

        async with harness() as other:
            config = other.socket.config
            assert config is not None
            async with trio.open_nursery() as nursery:

                async def script() -> None:
                    async with open_socket(config) as socket:
                        socket.join("t")
                        await socket.await_join("t")
                        events = [frame.event for frame in socket.recorded_frames()]
                        assert events == ["phx_join", "phx_reply"]

                await other.accept()
                nursery.start_soon(script)
                end = await other.accept()
                await end.accept_join("t")

    virtual(scenario)
