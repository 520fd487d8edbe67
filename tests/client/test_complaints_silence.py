"""What people complain of in clients of channels, 1 to 10: silent deaths, hangs, heartbeats.

Each test names its complaints. The guide to reliability says what this library does about them.
"""

import gc
import json
import ssl
from collections import OrderedDict, deque
from contextlib import suppress
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from slipstream import ClientRef, Config, SlipstreamClient, Socket, open_supervisor
from slipstream.errors import (
    AwaitTimeoutError,
    DisconnectedError,
    RemoteProtocolError,
    TopicClosedError,
)
from slipstream.reasons import (
    ConnectFailed,
    ConnectionLost,
    HeartbeatTimeout,
    JoinTimedOut,
    TopicGone,
    TransportFailed,
)
from slipstream.transport import MemoryNetwork
from tests.client.kit import HOUR, TOPIC, URI, Visitor

# A. Silent death, hangs, zombies


async def test_a_handshake_that_is_never_answered_ends_by_its_deadline_and_is_tried_again(
    socket_test: Any,
) -> None:
    """complaint-1: nobody has to notice, and nobody has to do anything."""
    async with socket_test(Visitor, Config(URI, connect_timeout=5.0, reconnect=[1.0])) as test:
        await test.assert_connect()
        await test.refute_callback("handle_disconnect", within=4.9)
        [reason] = (await test.assert_callback("handle_disconnect", ConnectFailed)).args
        assert reason.error.step == "upgrade"
        assert reason.error.seconds == 5.0
        await test.connect_and_join(TOPIC)
        assert test.calls[-1].at == pytest.approx(6.0)


async def test_a_write_that_stalls_ends_the_connection_and_what_is_queued_stays_bounded(
    socket_test: Any,
) -> None:
    """complaint-2: a push waits for room, and the heartbeat is not needed to find out."""
    config = Config(URI, write_timeout=5.0, outbound_bytes=10_000, heartbeat_interval=None)
    async with socket_test(Visitor, config) as test:
        await test.connect_and_join(TOPIC)
        await test.stall(buffers_full=True)
        sent: list[int] = []

        async def chatter() -> None:
            for number in range(1000):
                await test.socket.push(TOPIC, "much", "x" * 1000)
                sent.append(number)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(chatter)
            await test.advance(4.9)
            assert len(sent) < 20
            assert test.ref.health().outbound_bytes < 12_000
            [reason] = (await test.assert_callback("handle_disconnect")).args
            assert isinstance(reason.error, TimeoutError)
            nursery.cancel_scope.cancel()
        await test.resume()
        await test.connect_and_join(TOPIC)


async def test_a_heartbeat_that_cannot_even_be_written_is_found_out_too(socket_test: Any) -> None:
    """complaint-2, complaint-8: by the time-out of the write, since its own has not begun."""
    config = Config(URI, write_timeout=5.0, heartbeat_interval=30.0)
    async with socket_test(Visitor, config) as test:
        await test.connect_and_join(TOPIC)
        await test.stall(buffers_full=True)
        await test.refute_callback("handle_disconnect", within=30.0)
        await test.assert_callback("handle_disconnect", TransportFailed, within=5.1)
        await test.resume()
        await test.connect_and_join(TOPIC)


class Persistent(SlipstreamClient):
    """Does again and again, *times* times each, what comes to nothing."""

    async def init(self, argument: Any, socket: Socket, /) -> None:
        config, self.marks = argument
        self.done = 0
        socket.connect(config)
        socket.join("open:1")

    async def handle_join(self, topic: str, response: Any, socket: Socket, /) -> None:
        await self.again(socket)

    def count(self) -> None:
        self.done += 1
        if self.done in self.marks:
            self.marks[self.done].set()

    async def again(self, socket: Socket) -> None:
        raise NotImplementedError


class SameTopic(Persistent):
    """Is refused the same topic."""

    async def again(self, socket: Socket) -> None:
        socket.join(TOPIC)

    async def handle_topic_close(self, topic: str, reason: Any, socket: Socket, /) -> None:
        self.count()
        await self.again(socket)


class OtherTopics(SameTopic):
    """Is refused another topic each time, for which a push waits."""

    async def again(self, socket: Socket) -> None:
        socket.join(f"rooms:{self.done}")
        await socket.push(f"rooms:{self.done}", "e", when_unjoined="queue", timeout=1.0)

    async def handle_push_failed(self, ref: str, reason: Any, socket: Socket, /) -> None:
        pass


class Unanswered(Persistent):
    """Asks what is not answered: once in time, once it gives up itself, once nobody cares."""

    async def again(self, socket: Socket) -> None:
        with trio.move_on_after(0.5):
            await socket.request("open:1", "ask")
        await socket.push("open:1", "tell")
        await socket.push("open:1", "ask", timeout=0.5)

    async def handle_push_failed(self, ref: str, reason: Any, socket: Socket, /) -> None:
        self.count()
        await self.again(socket)


class Disconnected(Persistent):
    """Loses its connection, and has another."""

    async def again(self, socket: Socket) -> None:
        await socket.push("open:1", "cut", timeout=1.0)

    async def handle_push_failed(self, ref: str, reason: Any, socket: Socket, /) -> None:
        self.count()


async def refuse_what_is_asked(network: MemoryNetwork) -> None:
    """Let nobody into a room, and cut whoever asks for it."""
    while True:
        peer = await network.accept(within=HOUR)
        with suppress(DisconnectedError):
            while True:
                for frame in await peer.receive():
                    join_ref, ref, topic, event, _ = json.loads(frame.data)
                    status = "error" if topic.startswith("rooms:") else "ok"
                    reply = {"status": status, "response": {"reason": "unauthorized"}}
                    if event in {"phx_join", "heartbeat"}:
                        peer.send(json.dumps([join_ref, ref, topic, "phx_reply", reply]))
                    elif event == "cut":
                        peer.drop()


def count_what_lives() -> int:
    """Count objects, and what stands in dicts, sets and deques; but not trio's, whose heap of deadlines keeps some."""
    gc.collect()
    total = 0
    for each in gc.get_objects():
        kind = type(each)
        if kind is not tuple and not kind.__module__.startswith("trio"):
            total += 1 + (len(each) if kind in {dict, set, deque, OrderedDict} else 0)
    return total


@pytest.mark.parametrize(
    ("client", "first", "last"),
    # By the first more has failed than is remembered on purpose.
    [
        (SameTopic, 100, 10_000),
        (OtherTopics, 1_500, 10_000),
        (Unanswered, 4_500, 10_000),
        (Disconnected, 100, 1_000),
    ],
)
async def test_ten_thousand_failures_leave_nothing_behind(
    client: type[Persistent], first: int, last: int, autojump_clock: MockClock
) -> None:
    """complaint-3: of joins, whether always the same or another each time; of pushes; of connections."""
    network = MemoryNetwork()
    marks = {first: trio.Event(), last: trio.Event()}
    counts: list[int] = []
    config = Config(URI, transport=network.open_transport, reconnect=[0.01])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(refuse_what_is_asked, network)
        async with open_supervisor([client.child_spec((config, marks), id="client")]) as supervisor:
            for mark in marks.values():
                await mark.wait()
                network.requests.clear()
                counts.append(count_what_lives())
            child = supervisor.child("client")
            assert isinstance(child, ClientRef)
            health = child.health()
            assert len(health.topics) <= 1026
            assert health.queued_pushes <= 1
            assert health.awaited_replies <= 1
        nursery.cancel_scope.cancel()
    before, after = counts
    assert after - before < 200


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError("reset by peer"),
        ssl.SSLError(1, "[SSL: TLSV1_ALERT_INTERNAL_ERROR] tlsv1 alert internal error"),
        ssl.SSLEOFError(8, "EOF occurred in violation of protocol"),
        trio.BrokenResourceError("broken"),
        RemoteProtocolError("a masked frame", code=1002),
        ExceptionGroup("several", [OSError("one"), OSError("another")]),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_however_a_transport_ends_it_is_told_once_and_dialled_again(
    socket_test: Any, error: Exception
) -> None:
    """complaint-4: an alert of TLS, a reset, rubbish: all are one event and one reconnect."""
    async with socket_test(Visitor, Config(URI, reconnect=[1.0])) as test:
        for _ in range(3):
            await test.connect_and_join(TOPIC)
            await test.drop(error)
            [reason] = (await test.assert_callback("handle_disconnect")).args
            assert reason == TransportFailed(error)
            await test.refute_callback("handle_disconnect", within=0.9)
        for _ in range(3):
            await test.fail_connect(error)
            await test.assert_callback("handle_disconnect", ConnectFailed)
            await test.refute_callback("handle_disconnect", within=0.9)
        await test.connect_and_join(TOPIC)


RUBBISH: list[str | bytes] = [
    "",
    "null",
    "[]",
    "{",
    '{"topic": "rooms:1"}',
    '[null, null, "rooms:1"]',
    '[null, null, "rooms:1", "e", {}, 6]',
    '[1, 2, "rooms:1", "phx_reply", {"status": "ok"}]',
    '["1", "1", "rooms:1", "phx_reply", null]',
    '["1", "1", "rooms:1", "phx_reply", {"response": {}}]',
    '[null, null, "phoenix", "phx_reply", 7]',
    '[null, null, "rooms:2", "phx_close", {}]',
    '["9", "9", "rooms:1", "phx_error", []]',
    "[" * 100_000,
    b"",
    b"\x00",
    b"\x02\xff\xff\xff",
    b"\xff" * 100,
]


async def test_rubbish_between_messages_costs_no_message_and_no_client(socket_test: Any) -> None:
    """complaint-5: whatever comes, the next message is heard; and nothing has crashed."""
    async with socket_test(Visitor) as test:
        await test.connect_and_join(TOPIC)
        for number, each in enumerate(RUBBISH):
            await test.send(each)
            await test.broadcast(TOPIC, "m", {"n": number})
            await test.assert_callback("handle_message", TOPIC, "m", {"n": number})
        counters = test.ref.health().counters
        assert counters["undecodable"] >= 10
        assert counters["undecodable"] + counters["discarded"] >= len(RUBBISH) - 1
        assert test.socket.connected


async def test_a_bug_in_a_callback_is_a_crash_that_is_reported_and_a_client_that_starts_again(
    socket_test: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """complaint-5, complaint-6: there is no listener that could end alone."""

    class Buggy(Visitor):
        async def handle_message(
            self, topic: str, event: str, payload: Any, socket: Socket, /
        ) -> None:
            raise KeyError(payload["missing"])

    async with socket_test(Buggy) as test:
        await test.connect_and_join(TOPIC)
        await test.push(TOPIC, "m")
        await test.expect_crash(KeyError, "missing")
        await test.assert_disconnect(1011)
        await test.assert_restarted()
        await test.connect_and_join(TOPIC)
    assert "KeyError: 'missing'" in caplog.text


@pytest.mark.parametrize("end", ["close", "drop", "silence", "kill"])
async def test_a_client_is_told_of_every_end_of_its_connection_and_so_is_who_asks(
    socket_test: Any, end: str
) -> None:
    """complaint-6: by a callback, by its health, and by ``wait_connected``."""
    async with socket_test(Visitor, Config(URI, reconnect=[10.0])) as test:
        await test.connect_and_join(TOPIC)
        await test.ref.wait_connected(0.0)
        match end:
            case "close":
                await test.close(1000)
            case "drop":
                await test.drop()
            case "silence":
                await test.disconnect(HeartbeatTimeout())
            case _:
                connections = test.ref.connections
                assert connections is not None
                connections.child("connection").kill()
        call = await test.assert_callback("handle_disconnect")
        health = test.ref.health()
        assert (health.connected, health.last_disconnect) == (False, call.args[0])
        assert health.topics == {TOPIC: "waiting"}
        with pytest.raises(AwaitTimeoutError):
            await test.ref.wait_connected(1.0)
        await test.connect_and_join(TOPIC)
        await test.ref.wait_connected(0.0)


@pytest.mark.parametrize("end", ["drop", "close", "disconnect"])
async def test_a_request_that_is_pending_when_the_connection_ends_fails_at_once(
    socket_test: Any, end: str
) -> None:
    """complaint-7: with the reason, in no time; and a push with a deadline is told likewise."""
    async with socket_test(Visitor, Config(URI, reconnect=[10.0])) as test:
        await test.connect_and_join(TOPIC)
        caught: list[DisconnectedError] = []

        async def ask() -> None:
            with pytest.raises(DisconnectedError) as error:
                await test.socket.request(TOPIC, "ask", timeout=HOUR)
            caught.append(error.value)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await test.assert_push(TOPIC, "ask")
            ref = await test.socket.push(TOPIC, "tell", timeout=HOUR)
            plain = await test.socket.push(TOPIC, "tell")
            await wait_all_tasks_blocked()
            match end:
                case "drop":
                    await test.drop()
                case "close":
                    await test.close(1012)
                case _:
                    test.socket.disconnect()
        assert trio.current_time() == 0.0
        [reason] = (await test.assert_callback("handle_disconnect")).args
        assert [each.reason for each in caught] == [reason]
        await test.assert_callback("handle_push_failed", ref, ConnectionLost(written=True))
        await test.refute_callback("handle_push_failed", plain)  # it owes nothing


@pytest.mark.parametrize("end", ["crash", "close", "leave"])
async def test_a_request_that_is_pending_when_its_channel_ends_fails_at_once(
    socket_test: Any, end: str
) -> None:
    """complaint-7: no server answers then, ever; and the connection goes on."""
    async with socket_test(Visitor) as test:
        await test.connect_and_join(TOPIC)

        async def ask() -> None:
            with pytest.raises(TopicClosedError):
                await test.socket.request(TOPIC, "ask", timeout=HOUR)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await test.assert_push(TOPIC, "ask")
            ref = await test.socket.push(TOPIC, "tell", timeout=HOUR)
            await wait_all_tasks_blocked()
            match end:
                case "crash":
                    await test.crash_topic(TOPIC)
                case "close":
                    await test.close_topic(TOPIC)
                case _:
                    test.socket.leave(TOPIC)
        assert trio.current_time() == 0.0
        await test.assert_callback("handle_push_failed", ref, TopicGone())
        await test.refute_disconnect()


# B. Heartbeats


async def test_a_silent_server_is_found_out_by_its_heartbeat_and_another_connection_follows(
    socket_test: Any,
) -> None:
    """complaint-8: within interval and timeout; and what we said to end it is not taken for an end in order."""
    async with socket_test(Visitor, Config(URI, connection_restart="transient")) as test:
        await test.connect_and_join(TOPIC)
        await test.stall()
        await test.refute_callback("handle_disconnect", within=39.9)
        await test.assert_callback("handle_disconnect", HeartbeatTimeout())
        await test.resume()
        await test.connect_and_join(TOPIC)
        assert trio.current_time() < 40.0 + 1.0 + 3.0  # the policy's first delay, the close


async def test_heartbeats_are_sent_on_time_whatever_is_received(socket_test: Any) -> None:
    """complaint-9: a server cuts a client that it hears nothing from, however much it says itself."""
    async with socket_test(Visitor) as test:
        await test.connect_and_join(TOPIC)
        for minute in range(5):
            for _ in range(60):
                await test.broadcast(TOPIC, "news")
                await test.advance(1.0)
            beats = [await test.assert_heartbeat(within=0.0) for _ in range(2)]
            assert [beat.at for beat in beats] == [60.0 * minute + 30.0, 60.0 * minute + 60.0]


async def test_each_join_and_each_push_has_one_deadline_and_it_ends_with_what_it_is_for(
    socket_test: Any,
) -> None:
    """complaint-10: no late time-out of what was answered, and each new try has a time of its own."""
    config = Config(URI, join_timeout=5.0, rejoin=[1.0], heartbeat_interval=None)
    async with socket_test(Visitor, config) as test:
        await test.accept_connect()
        for tried in range(3):
            join = await test.assert_join(TOPIC, within=1.1)
            assert join.at == 6.0 * tried
            await test.refute_callback("handle_topic_close", within=4.9)
            await test.assert_callback("handle_topic_close", TOPIC, JoinTimedOut())
            await test.assert_leave(TOPIC)
        await test.assert_join(TOPIC)
        for _ in range(4):  # what the server says to the first three comes too late
            await test.accept_join(TOPIC)
        await test.assert_callback("handle_join", TOPIC)
        answered = await test.socket.push(TOPIC, "ask", timeout=5.0)
        await test.reply(await test.assert_push(TOPIC, "ask"))
        await test.assert_callback("handle_reply", answered)
        for _ in range(2):
            ref = await test.socket.push(TOPIC, "ask again", timeout=5.0)
            await test.refute_callback("handle_push_failed", within=4.9)
            await test.assert_callback("handle_push_failed", ref)
        await test.refute_callback("handle_topic_close", within=HOUR)
        await test.refute_callback("handle_push_failed")
        await test.refute_callback("handle_join")
        assert test.socket.joined(TOPIC)
