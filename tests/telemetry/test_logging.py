"""The bridge to logging: one line an event, readable, and nothing secret in it."""

import json
import logging
from collections.abc import Generator
from typing import Any

import pytest

from slipstream import (
    ChannelCrashed,
    ClosedByServer,
    Config,
    ConfigError,
    ConnectError,
    ConnectFailed,
    Crashed,
    DisconnectedError,
    JoinError,
    JoinRefused,
    Shutdown,
    SupervisorGaveUpError,
    TransportFailed,
    telemetry,
)
from slipstream.otp import GenServer
from tests.client.support import harness, settle
from tests.telemetry.support import virtual

SECRET = "s3cr3t"  # noqa: S105 - it guards nothing


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Generator[pytest.LogCaptureFixture]:
    """The bridge is on, and its lines are kept."""
    caplog.set_level(logging.INFO, "slipstream.events")
    telemetry.attach_logging()
    yield caplog
    telemetry.detach_logging()


def line(log: pytest.LogCaptureFixture, event: str, /, **data: Any) -> str:
    log.clear()
    telemetry.execute(event, **data)
    [record] = log.records
    return record.getMessage()


def test_an_event_is_a_line_of_keys_and_values(log: pytest.LogCaptureFixture) -> None:
    told = line(
        log,
        "slipstream.connection.reconnect",
        delay=0.5,
        attempt=2,
        reason=ClosedByServer(1012, "restart"),
        last=None,
    )
    assert told == (
        "slipstream.connection.reconnect delay=0.500 attempt=2 "
        "reason='ClosedByServer(code=1012, reason=restart)' last=None"
    )
    assert log.records[0].levelno == logging.INFO
    assert log.records[0].name == "slipstream.events"


def test_an_event_without_data_is_its_name(log: pytest.LogCaptureFixture) -> None:
    assert line(log, "slipstream.connection.heartbeat_timeout") == (
        "slipstream.connection.heartbeat_timeout"
    )


def test_a_record_carries_the_event_and_plain_data(log: pytest.LogCaptureFixture) -> None:
    line(
        log,
        "slipstream.client.join.exception",
        topic="rooms:lobby",
        duration=1.25,
        reason=JoinRefused({"token": SECRET}),
        generation=3,
        ready=True,
        id=GenServer,
    )
    fields = vars(log.records[0])
    assert fields["event"] == "slipstream.client.join.exception"
    assert fields["data"] == json.loads(json.dumps(fields["data"])) == {
        "topic": "rooms:lobby",
        "duration": 1.25,
        "reason": "JoinRefused()",
        "generation": 3,
        "ready": True,
        "id": "GenServer",
    }  # fmt: skip


def failed(status: int) -> ConnectError:
    return ConnectError(
        f"the server answered with HTTP {status}",
        step="upgrade",
        status=status,
        headers=(("set-cookie", SECRET),),
        body=SECRET.encode(),
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("params", {"token": SECRET}),
        ("payload", {"password": SECRET}),
        ("response", {"token": SECRET}),
        ("headers", (("set-cookie", SECRET),)),
        ("config", Config("ws://server.test/socket", auth_token=SECRET)),
        ("reason", JoinRefused({"token": SECRET})),
        ("reason", ChannelCrashed({"token": SECRET})),
        ("reason", ConnectFailed(failed(403), 403, (("set-cookie", SECRET),), SECRET.encode())),
        ("reason", Crashed(JoinError("t", JoinRefused({"token": SECRET})))),
        ("reason", Shutdown(JoinRefused({"token": SECRET}))),
        ("error", JoinError("t", JoinRefused({"token": SECRET}))),
        ("error", DisconnectedError(TransportFailed(failed(403)))),
        ("error", SupervisorGaveUpError("too often", reason=Crashed(failed(403)))),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_may_be_secret_is_in_no_line(
    key: str, value: Any, log: pytest.LogCaptureFixture
) -> None:
    assert SECRET not in line(log, "slipstream.client.something", **{key: value})
    assert SECRET not in repr(vars(log.records[0])["data"])


def test_an_error_is_told_by_its_type_and_message(log: pytest.LogCaptureFixture) -> None:
    told = line(log, "slipstream.client.link_error", error=failed(403))
    assert told.endswith("error='ConnectError: the server answered with HTTP 403'")
    told = line(log, "slipstream.client.link_error", error=TimeoutError())
    assert told.endswith(" error=TimeoutError")
    told = line(log, "slipstream.client.link_error", error=JoinError("t", JoinRefused({})))
    assert told.endswith(" error='JoinError: JoinRefused()'")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rooms:lobby", "rooms:lobby"),
        ("", "''"),
        ("two words", "'two words'"),
        ("new\nslipstream.forged line=1", r"'new\nslipstream.forged line=1'"),
        ("a=b", "'a=b'"),
        ("\x1b[31mred", r"'\x1b[31mred'"),
        ("'quoted'", '''"'quoted'"'''),
        ("ünïcode", "ünïcode"),
    ],
)
def test_what_the_server_chose_looks_like_no_other_line(
    text: str, shown: str, log: pytest.LogCaptureFixture
) -> None:
    told = line(log, "slipstream.connection.discarded", topic=text)
    assert told == f"slipstream.connection.discarded topic={shown}"


def test_a_long_value_is_cut(log: pytest.LogCaptureFixture) -> None:
    told = line(log, "slipstream.connection.discarded", topic="t" * 100_000, event="e")
    assert told == f"slipstream.connection.discarded topic={'t' * 200}... event=e"


def test_an_error_whose_reason_leads_back_to_it_is_told(log: pytest.LogCaptureFixture) -> None:
    error = SupervisorGaveUpError("too often")
    error.reason = Crashed(error)
    told = line(log, "slipstream.client.link_error", error=error)
    assert told.startswith("slipstream.client.link_error error='SupervisorGaveUpError: Crashed(")
    assert len(told) < 400


def test_starts_of_spans_are_left_out_but_not_starts_of_children(
    log: pytest.LogCaptureFixture,
) -> None:
    for event in (
        "slipstream.client.handle_join.start",
        "slipstream.connection.connect.start",
        "slipstream.supervisor.child.start",
        "slipstream.client.join.stop",
    ):
        telemetry.execute(event)
    assert [record.getMessage() for record in log.records] == [
        "slipstream.supervisor.child.start",
        "slipstream.client.join.stop",
    ]


def test_what_comes_with_every_message_is_for_debugging(log: pytest.LogCaptureFixture) -> None:
    log.set_level(logging.DEBUG, "slipstream.events")
    telemetry.execute("slipstream.client.handle_join.exception")
    traffic = ("client.handle_join.stop", "client.request.stop", "connection.handle",
               "connection.heartbeat", "connection.connect.stop")  # fmt: skip
    for event in traffic:
        telemetry.execute(f"slipstream.{event}")
    levels = [record.levelno for record in log.records]
    assert levels == [logging.INFO, *[logging.DEBUG] * len(traffic)]


def test_a_person_can_follow_a_client_at_info(log: pytest.LogCaptureFixture) -> None:
    """One line for each of connect, join, loss, retry in s, refusal, giving up."""

    async def scenario() -> None:
        async with harness(reconnect=[1.5]) as h:
            end, _ = await h.joined("rooms:1")
            end.broadcast("rooms:1", "news")
            await settle()
            end.peer.drop()
            end = await h.accept()
            end.reply(await end.next("phx_join"), "error", {"reason": "unauthorized"})
            await settle()
            end.peer.close(1008, "no more")
            await settle()

    virtual(scenario)
    lines = [r.getMessage() for r in log.records if r.name == "slipstream.events"]
    told = [line.partition(" ") for line in lines]
    names = [name.removeprefix("slipstream.") for name, _, _ in told]
    assert names[:12] == [
        "supervisor.child.start",
        "client.connect.stop",
        "client.join.stop",
        "connection.disconnect",
        "connection.reconnect",
        "client.connect.stop",
        "client.join.exception",
        "connection.disconnect",
        "connection.gave_up",
        "supervisor.child.stop",
        "supervisor.child.restart",
        "supervisor.child.start",
    ]
    assert " uri=ws://server.test/socket/websocket" in lines[1]
    rest_of = {name.removeprefix("slipstream."): rest for name, _, rest in told}
    assert rest_of["connection.reconnect"].startswith("client=client delay=1.500 attempt=1 reason=")
    assert "1008" in rest_of["connection.gave_up"]


def test_one_chooses_what_is_logged_where_and_how_loud(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("app.audit")
    caplog.set_level(logging.DEBUG, "app.audit")
    telemetry.attach_logging(
        "slipstream.client", logger=logger, level=logging.DEBUG, skip=("*.handle_*",)
    )
    for event in ("client.connect.start", "client.handle_join.stop", "connection.heartbeat"):
        telemetry.execute(f"slipstream.{event}")
    assert telemetry.detach_logging()
    assert caplog.record_tuples == [("app.audit", logging.DEBUG, "slipstream.client.connect.start")]


def test_skipping_nothing_logs_the_starts_too(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "slipstream.events")
    telemetry.attach_logging(skip=())
    telemetry.execute("slipstream.client.connect.start")
    assert telemetry.detach_logging()
    assert len(caplog.records) == 1


def test_a_level_that_is_off_costs_no_formatting(log: pytest.LogCaptureFixture) -> None:
    class Loud:
        asked = 0

        def __str__(self) -> str:
            Loud.asked += 1
            return "loud"

    log.set_level(logging.WARNING, "slipstream.events")
    telemetry.execute("slipstream.client.something", value=Loud())
    assert (Loud.asked, log.records) == (0, [])
    log.set_level(logging.INFO, "slipstream.events")
    telemetry.execute("slipstream.client.something", value=Loud())
    assert (Loud.asked, len(log.records)) == (1, 1)


def test_the_bridge_can_be_attached_once_and_detached(log: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ConfigError, match="'slipstream-logging' is attached already"):
        telemetry.attach_logging()
    assert telemetry.detach_logging() is True
    telemetry.execute("slipstream.client.something")
    assert log.records == []
    assert telemetry.detach_logging() is False
