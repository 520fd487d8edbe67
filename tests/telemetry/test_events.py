"""What a client tells of itself: the events of the table, with the data that it promises."""

import re
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import trio

import slipstream
from slipstream import (
    ChannelCrashed,
    ClosedByClient,
    ConnectError,
    Crashed,
    DecodeError,
    HeartbeatTimeout,
    JoinError,
    JoinRefused,
    TransportFailed,
    telemetry,
)
from tests.client.support import Harness, harness, settle
from tests.telemetry.support import virtual


class Told(list[tuple[str, Mapping[str, Any]]]):
    """The events of a scenario, without ``slipstream.``, to be asked by name."""

    def names(self, prefix: str) -> list[str]:
        return [name for name, _ in self if name.startswith(prefix)]

    def of(self, name: str) -> list[Mapping[str, Any]]:
        return [data for event, data in self if event == name]

    def one(self, name: str) -> Mapping[str, Any]:
        [data] = self.of(name)
        return data


def told_in(scenario: Callable[[Harness], Awaitable[None]], **options: Any) -> Told:
    """Run *scenario* with a client that has *options*; give what was told."""
    told = Told()

    async def run() -> None:
        async with harness(**options) as h:
            await scenario(h)

    with telemetry.capture_events() as events:
        virtual(run)
    told.extend((event.removeprefix("slipstream."), data) for event, data in events)
    return told


async def raises_a_bug(client: Any, *args: Any) -> None:
    raise RuntimeError("a bug")


async def is_slow(client: Any, *args: Any) -> None:
    await trio.sleep(1.0)


def test_a_connection_is_two_spans_from_attempt_to_open() -> None:
    """The client's is that of Elixir's Slipstream; the process's own ends where it is open."""

    async def scenario(h: Harness) -> None:
        await h.accept()
        await settle()

    told = told_in(scenario)
    assert told.names("client.connect") == ["client.connect.start", "client.connect.stop"]
    config = told.one("client.connect.start")["config"]
    connect = {"generation": 1, "config": config, "uri": config.uri}
    assert told.one("client.connect.start") == connect
    assert told.one("client.connect.stop") == {**connect, "duration": 0.0, "headers": ()}
    assert told.one("connection.connect.stop") == {**connect, "duration": 0.0}
    assert told.one("connection.disconnect") == {"generation": 1, "reason": ClosedByClient()}


def test_a_failed_attempt_ends_its_spans_with_the_reason_and_a_reconnect_follows() -> None:
    error = ConnectError("no route", step="tcp")

    async def scenario(h: Harness) -> None:
        end = await h.accept()
        await settle()
        h.network.refuse(error)
        end.peer.drop()
        await h.accept()

    told = told_in(scenario, reconnect=[2.0, 5.0])
    failed = told.one("client.connect.exception")
    assert (failed["generation"], failed["reason"].error) == (2, error)
    assert told.one("connection.connect.exception")["error"] is error
    lost, refused = told.of("connection.reconnect")
    assert isinstance(lost["reason"], TransportFailed)
    assert (lost["delay"], lost["attempt"]) == (2.0, 1)
    assert (refused["reason"], refused["delay"], refused["attempt"]) == (failed["reason"], 5.0, 2)
    assert [data["generation"] for data in told.of("client.connect.stop")] == [1, 3]


def test_a_join_is_a_span_from_the_request_to_the_answer() -> None:
    async def scenario(h: Harness) -> None:
        end = await h.accept()
        h.socket.join("t")
        join = await end.next("phx_join")
        await trio.sleep(0.5)
        end.reply(join, "ok", {"motd": "hi"})
        await settle()

    told = told_in(scenario)
    assert told.names("client.join") == ["client.join.start", "client.join.stop"]
    assert told.one("client.join.start")["topic"] == "t"
    stop = told.one("client.join.stop")
    assert stop["topic"] == "t"
    assert "response" not in stop  # only with log_payloads
    assert stop["duration"] == pytest.approx(0.5)


def test_a_refused_join_ends_its_span_with_the_reason_and_a_rejoin_follows() -> None:
    async def scenario(h: Harness) -> None:
        end = await h.accept()
        h.socket.join("t")
        end.reply(await end.next("phx_join"), "error", {"reason": "full"})
        await end.accept_join("t")
        await settle()

    told = told_in(scenario, rejoin=[3.0])
    reason = JoinRefused({"reason": "full"})
    assert told.one("client.join.exception")["reason"] == reason
    assert told.one("client.rejoin") == {
        "topic": "t", "reason": reason, "delay": 3.0, "attempt": 1,
    }  # fmt: skip
    assert len(told.of("client.join.stop")) == 1


def test_a_crashed_channel_is_rejoined_and_that_is_told() -> None:
    async def scenario(h: Harness) -> None:
        end, join = await h.joined()
        end.say(join.ref, join.ref, "t", "phx_error")
        await end.accept_join("t")

    told = told_in(scenario, rejoin=[3.0])
    assert told.one("client.rejoin")["reason"] == ChannelCrashed()
    assert len(told.of("client.join.start")) == 2


def test_every_callback_is_a_span() -> None:
    async def scenario(h: Harness) -> None:
        end, _ = await h.joined()
        end.broadcast("t", "m")
        await trio.sleep(2.0)

    told = told_in(scenario, scripts={"handle_message": is_slow})
    for name in ("init", "handle_connect", "handle_join", "handle_message", "terminate"):
        ends = told.names(f"client.{name}.")
        assert ends == [f"client.{name}.start", f"client.{name}.stop"], name
    stop = told.one("client.handle_message.stop")
    assert stop["duration"] == pytest.approx(1.0)
    assert stop.keys() == {"client", "duration"}


def test_a_callback_that_crashes_is_told_and_so_is_its_clients_restart() -> None:
    async def scenario(h: Harness) -> None:
        end, _ = await h.joined()
        end.broadcast("t", "m")
        await h.accept()
        await settle()

    told = told_in(scenario, scripts={"handle_message": raises_a_bug})
    error = told.one("client.handle_message.exception")["error"]
    assert isinstance(error, RuntimeError)
    of_client = [
        (name, data["reason"])
        for name, data in told
        if name.startswith("supervisor.child.") and data["id"] == "client"
    ]
    assert [name.rpartition(".")[2] for name, _ in of_client] == [
        "start", "stop", "restart", "start", "stop",
    ]  # fmt: skip
    assert of_client[1][1] == of_client[2][1] == Crashed(error)
    assert not of_client[4][1].abnormal


def test_an_outage_that_leaves_a_callback_is_told() -> None:
    async def scenario(h: Harness) -> None:
        end, _ = await h.joined()
        end.broadcast("t", "m")
        await settle()

    async def fails(client: Any, *args: Any) -> None:
        raise JoinError("other")

    told = told_in(scenario, scripts={"handle_message": fails})
    data = told.one("client.link_error")
    assert data.keys() == {"client", "callback", "error"}
    assert data["callback"] == "handle_message"
    assert isinstance(data["error"], JoinError)


def test_each_batch_that_is_read_is_told_with_its_size() -> None:
    async def scenario(h: Harness) -> None:
        end, _ = await h.joined()
        end.peer.send('[null,null,"t","m",1]', '[null,null,"t","m",2]')
        await settle()

    told = told_in(scenario)
    batch = told.of("connection.handle")[-1]
    assert batch == {"generation": 1, "frames": 2, "size": 42, "events": 2}


def test_heartbeats_are_told_answered_and_unanswered() -> None:
    async def scenario(h: Harness) -> None:
        end = await h.accept()
        beat = await end.next("heartbeat")
        await trio.sleep(0.25)
        end.reply(beat)
        await end.next("heartbeat")
        await trio.sleep(11.0)

    told = told_in(scenario, heartbeat_interval=30.0, heartbeat_timeout=10.0)
    answered = told.one("connection.heartbeat")
    assert (answered["generation"], answered["seconds"]) == (1, pytest.approx(0.25))
    assert told.one("connection.heartbeat_timeout") == {"generation": 1}
    assert told.of("connection.disconnect")[0]["reason"] == HeartbeatTimeout()


async def flood(h: Harness) -> None:
    end, _ = await h.joined()
    for number in range(20):
        end.broadcast("t", "m", number)
        await settle()
    await trio.sleep(60.0)


def test_a_pause_and_its_end_are_told() -> None:
    told = told_in(flood, scripts={"handle_message": is_slow}, inbound_limit=8)
    pause, resume = told.of("connection.pause")[0], told.of("connection.resume")[0]
    assert (pause["generation"], pause["messages"]) == (1, 8)
    assert pause["size"] > 0
    assert resume.keys() == {"generation", "seconds"}
    assert resume["seconds"] > 0


def test_messages_that_are_dropped_are_told_and_add_up() -> None:
    told = told_in(
        flood, scripts={"handle_message": is_slow}, inbound_limit=8, on_overflow="drop_oldest"
    )
    handled = len(told.of("client.handle_message.stop"))
    dropped = told.of("connection.dropped")
    assert dropped[0].keys() == {"generation", "count"}
    assert handled + sum(data["count"] for data in dropped) == 20


def test_a_stale_frame_is_told_with_why_it_was_discarded() -> None:
    async def scenario(h: Harness) -> None:
        end, _ = await h.joined()
        end.say("999", None, "t", "stale")
        end.broadcast("never-joined", "lost")
        await settle()

    told = told_in(scenario)
    stale, lost = told.of("connection.discarded")
    assert stale.keys() == {"generation", "why", "topic", "event"}
    assert (stale["topic"], stale["event"]) == ("t", "stale")
    assert (lost["topic"], lost["event"]) == ("never-joined", "lost")
    assert stale["why"] != lost["why"]


def test_a_frame_that_cannot_be_decoded_is_told() -> None:
    async def scenario(h: Harness) -> None:
        end, _ = await h.joined()
        end.peer.send("not JSON")
        await settle()

    data = told_in(scenario).one("connection.undecodable")
    assert data["generation"] == 1
    assert isinstance(data["error"], DecodeError)


def test_children_are_told_from_start_to_stop() -> None:
    async def scenario(h: Harness) -> None:
        await h.accept()
        await h.supervisor.terminate_child("client")

    told = told_in(scenario)
    start, stop = (
        next(data for data in told.of(f"supervisor.child.{what}") if data["id"] == "client")
        for what in ("start", "stop")
    )
    assert start.keys() == stop.keys() == {"supervisor", "id", "reason"}
    assert start["reason"] is None
    assert not stop["reason"].abnormal


def test_a_token_in_the_configuration_is_in_no_event() -> None:
    secret = "t0ken-of-the-user"  # noqa: S105 - it guards nothing

    async def scenario(h: Harness) -> None:
        end, _ = await h.joined()
        end.peer.drop()
        await h.accept()
        await settle()

    told = told_in(
        scenario,
        auth_token=secret,
        params={"token": secret},
        headers={"authorization": secret},
    )
    assert len(told.of("client.connect.stop")) == 2
    assert secret not in repr(told)


def test_the_table_lists_every_event_that_the_source_names() -> None:
    source = Path(slipstream.__file__).parent
    named = set[str]()
    for path in source.rglob("*.py"):
        named |= set(
            re.findall(
                r"\"(slipstream\.(?:client|connection|supervisor)\.[a-z_.]+)",
                path.read_text("utf-8"),
            )
        )
    assert len(named) > 12
    table = telemetry.__doc__ or ""
    for name in named:
        what = name.removesuffix(".")
        short = f"``.{what.rpartition('.')[2]}``"
        assert f"``{what}" in table or short in table, name
