"""Rows 53, 55 and 58, and what clients of other libraries expect."""

import json
import logging
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from slipstream import (
    ChannelReply,
    ClosedByClient,
    ClosedByServer,
    Config,
    ConfigError,
    HeartbeatTimeout,
    Ignore,
    JoinError,
    JoinRefused,
    Message,
    NoReply,
    Reply,
    SlipstreamClient,
    Socket,
    Stop,
    TransportFailed,
    open_supervisor,
)
from slipstream.errors import DecodeError
from slipstream.interfaces import Retry, Verdict
from slipstream.otp import GenServer
from slipstream.protocol import V1Serializer
from slipstream.reasons import NORMAL, Crashed
from slipstream.testing import (
    ANY,
    Channel,
    ConnectInfo,
    Ok,
    PhoenixServer,
    ServerSocket,
    open_socket_test,
)
from tests.testing.support import connected, reply

from .stage import Lodger, Stage, both_wires, in_the_kit, inside, joined, query, until

URI = "ws://server.test/socket/websocket"


# Views


@both_wires(reconnect=[5.0], close_timeout=100.0)
async def test_the_state_of_the_connection_can_be_seen(test: Stage) -> None:
    """JS-C1, JS-C2, JS-C3, JS-C4, JS-C5, JS-C6; RS-1: down, waiting, connecting, open, closing."""

    def phase() -> tuple[str, bool]:
        return test.socket.health().phase, test.socket.connected

    await test.assert_connect()
    assert phase() == ("connecting", False)
    await test.accept_connect()
    assert phase() == ("open", True)
    await test.drop()
    await test.assert_callback("handle_disconnect", TransportFailed)
    await until(lambda: phase() == ("waiting", False))
    await test.accept_connect()
    await test.stall()
    test.socket.disconnect()
    await test.refute_callback("handle_disconnect", within=1.0)
    assert phase() == ("open", True)  # for as long as its close is under way
    await test.resume()
    await test.assert_callback("handle_disconnect", ClosedByClient())
    assert phase() == ("down", False)


@both_wires()
async def test_the_state_of_topics_can_be_seen(test: Stage) -> None:
    """JS-CH1, JS-C7, JS-C8, JS-C9, JS-J1, JS-OK1, KT-7; RS-1: and changed while one looks."""
    assert dict(test.socket.topics) == {}
    assert test.socket.join_status("t:1") is None
    test.socket.join("t:1")
    test.socket.join("t:2")
    await test.accept_connect()
    assert dict(test.socket.topics) == {"t:1": "requested", "t:2": "requested"}
    await test.accept_join("t:1")
    await test.assert_callback("handle_join", "t:1")
    assert (test.socket.joined("t:1"), test.socket.joined("t:2")) == (True, False)
    await test.accept_join("t:2")
    await test.assert_callback("handle_join", "t:2")
    for topic in test.socket.topics:
        test.socket.leave(topic)
        test.socket.join("t:3")
    await test.accept_join("t:3")
    for topic in ("t:1", "t:2"):
        await test.assert_callback("handle_leave", topic)
    assert test.socket.join_status("t:1") == "closed"


def test_the_defaults_are_those_of_the_documentation() -> None:
    """JS-S1, JS-S3: options override them."""
    config = Config(URI)
    assert (config.heartbeat_interval, config.heartbeat_timeout) == (30.0, 10.0)
    assert (config.connect_timeout, config.join_timeout, config.push_timeout) == (10.0,) * 3
    assert (config.write_timeout, config.leave_timeout, config.close_timeout) == (10.0, 10.0, 3.0)
    assert Config(URI, join_timeout=1.5).join_timeout == 1.5
    assert Config(URI, heartbeat_interval=60.0).heartbeat_interval == 60.0


@in_the_kit(heartbeat_interval=30.0, heartbeat_timeout=10.0)
async def test_the_way_there_and_back_is_measured_by_heartbeats(test: Stage) -> None:
    """JS-G1, JS-G2: there is none while there was no answer."""
    await test.accept_connect()
    assert test.socket.health().last_rtt is None
    await test.stall()
    await test.advance(30.25)
    await test.resume()
    assert test.socket.health().last_rtt == pytest.approx(0.25)


@in_the_kit(heartbeat_interval=30.0, heartbeat_timeout=10.0)
async def test_heartbeats_go_on_over_a_reconnect(test: Stage) -> None:
    """PCP-14, JS-H3: an interval after it opened, and none in between."""
    await test.accept_connect()
    await test.assert_heartbeat()
    await test.drop()
    sent = test.socket.health().counters["messages_sent"]
    await test.advance(40.0)  # nobody accepts
    assert test.socket.health().counters["messages_sent"] == sent
    await test.accept_connect()
    opened = trio.current_time()
    assert (await test.assert_heartbeat()).at == opened + 30.0


@pytest.mark.parametrize("interval", [None, 0])
def test_heartbeats_can_be_left_out(interval: float | None) -> None:
    """KT-10."""

    async def main() -> None:
        config = Config(URI, heartbeat_interval=interval)
        async with open_socket_test(Lodger, config) as test:
            await test.accept_connect()
            await test.advance(1000.0)
            assert test.socket.health().counters.get("messages_sent", 0) == 0

    trio.run(main, clock=MockClock())


# Joins


@in_the_kit(join_timeout=10.0)
async def test_an_answer_in_time_is_the_end_of_it(test: Stage) -> None:
    """JS-JT1, JS-OK2, JS-OK3, JS-OK4, JS-OK5, JS-OK6, JS-OK7: no time-out, no leave, no error; the response is told."""
    await test.accept_connect()
    test.socket.join("t")
    await test.advance(9.9)
    await test.accept_join("t", {"seats": 3})
    await test.assert_callback("handle_join", "t", {"seats": 3})
    await test.refute_callback("handle_topic_close", within=60.0)
    await test.refute_leave()
    await test.refute_join()
    await test.refute_callback("handle_join")

    async def late(client: Any, socket: Socket) -> Any:
        return await socket.await_join("t")  # who asks later is told at once

    assert await inside(test, late) == {"seats": 3}


@in_the_kit(join_timeout=10.0)
async def test_a_refusal_is_the_end_of_it(test: Stage) -> None:
    """JS-ER2, JS-ER3, JS-ER4, JS-ER5, JS-ER6, JS-ER7: no time-out, no success; who asks is told why."""
    await test.accept_connect()
    test.socket.join("t")
    refused = JoinRefused({"reason": "unauthorized"})
    await test.refuse_join("t", refused.response)
    await test.assert_callback("handle_topic_close", "t", refused)
    assert test.socket.join_status("t") == "closed"

    async def late(client: Any, socket: Socket) -> Any:
        return await socket.await_join("t")  # who asks later is told at once

    with pytest.raises(JoinError) as info:
        await inside(test, late)
    assert info.value.reason == refused
    await test.refute_callback("handle_topic_close", within=30.0)
    await test.refute_leave()
    await test.refute_callback("handle_join")


@in_the_kit()
async def test_a_join_may_have_a_time_of_its_own(test: Stage) -> None:
    """JS-J5."""
    await test.accept_connect()
    test.socket.join("t", timeout=3.0)
    await test.assert_callback("handle_topic_close", "t", within=4.0)
    assert trio.current_time() == 3.0


async def _params() -> dict[str, int]:
    await trio.lowlevel.checkpoint()
    _params.count += 1  # type: ignore[attr-defined]  # its own
    return {"n": _params.count}  # type: ignore[attr-defined]  # as above


@both_wires()
async def test_join_params_are_a_value_or_asked_for_at_every_join(test: Stage) -> None:
    """Row 7; JS-CH2, JS-CH3, JS-CH6; RS-3: so that a key that was changed is the one that is sent."""
    _params.count = 0  # type: ignore[attr-defined]  # its own
    await test.accept_connect()
    await joined(test, "t:value", {"fixed": True})
    test.socket.join("t:asked", _params)
    await test.assert_join("t:asked", {"n": 1})
    await test.refuse_join("t:asked", {"reason": "key has expired"})
    await test.assert_join("t:asked", {"n": 2})
    await test.accept_join("t:asked")
    await test.assert_callback("handle_join", "t:asked")
    await test.drop()
    await test.accept_connect()
    await test.assert_join("t:value", {"fixed": True})
    await test.accept_join("t:value")
    await test.assert_join("t:asked", {"n": 3})


# Reconnecting


class Keyed(Lodger):
    """Connects with the key that is good at the moment."""

    key = "old"

    async def init(self, config: Config, socket: Socket, /) -> None:
        socket.connect(Config(config.uri, params=lambda: {"key": self.key}, reconnect=[0.0]))


@both_wires(client=Keyed)
async def test_a_key_that_was_changed_is_used_from_the_next_attempt_on(test: Stage) -> None:
    """RS-2; KT-8: the old one is refused, and the client lives on."""
    client: Any = test.client
    assert query(await test.accept_connect())["key"] == "old"
    client.key = "new"
    await test.close(1000)
    assert query(await test.refuse_connect(403))["key"] == "new"
    assert query(await test.accept_connect())["key"] == "new"
    await until(lambda: test.socket.connected)


class _Fixed:
    """A policy of one's own."""

    stable_after = 30.0

    def __init__(self) -> None:
        self.asked: list[tuple[Any, int]] = []

    def verdict(self, reason: Any, attempt: int, /, **about: Any) -> Verdict:
        self.asked.append((reason, attempt))
        return Retry(3.0)


@in_the_kit()
async def test_a_policy_of_ones_own_is_asked(test: Stage) -> None:
    """RS-4."""
    policy = _Fixed()
    test.socket.connect(Config(URI, reconnect=policy, heartbeat_interval=None))
    await test.accept_connect()
    await test.close(1011)
    began = trio.current_time()
    await test.accept_connect()
    assert trio.current_time() - began == 3.0
    assert policy.asked == [(ClosedByServer(1011), 0)]


async def _storm(seconds: float) -> list[int]:
    """Let two clients put each other out for *seconds*; give how often each was let in."""
    counts = [0, 0]

    class Room(Channel):
        pass

    def connect(info: ConnectInfo) -> None:
        name = info.params["name"]
        counts[int(name)] += 1
        info.assigns["name"] = name
        for socket in list(server.sockets):
            if socket.assigns.get("name") != name:
                socket.close(1000)

    async with PhoenixServer({"t": Room}, connect=connect, memory=True) as server:
        specs = [
            SlipstreamClient.child_spec(
                Config(server.url, params={"name": str(n)}, transport=server.open_transport), id=n
            )
            for n in range(2)
        ]
        async with open_supervisor(specs):
            await trio.sleep(seconds)
    return counts


def test_sessions_that_put_each_other_out_do_so_seldom_and_in_turn() -> None:
    """Row 10; PCP-2, PCP-4: an open connection alone is no success, so the delays go on growing."""
    counts = trio.run(_storm, 3600.0, clock=MockClock(autojump_threshold=0.0))
    assert sum(counts) < 600  # without a delay it would be millions; with a second, 7200
    assert min(counts) > 20
    assert max(counts) < 3 * min(counts)


# The process


@in_the_kit()
async def test_a_client_is_a_process_of_its_own(test: Stage) -> None:
    """Row 58; SL-G1, SL-G2, SL-G3, SL-G4, SL-X8: calls, casts and messages, answered now or later."""
    await test.accept_connect()
    seen: list[Any] = []

    class Caller(Lodger):
        async def handle_info(self, message: Any, socket: Socket, /) -> None:
            seen.append(message)

        async def handle_call(self, request: Any, caller: Any, socket: Socket, /) -> Any:
            if request == "later":
                self.start_soon(self._answer, caller)
                return NoReply()
            return Reply(("pong", request))

        async def _answer(self, caller: Any) -> None:
            await trio.sleep(1.0)
            caller.reply("at last")

    async with open_supervisor([Caller.child_spec(test.socket.config, id="caller")]) as tree:
        caller = tree.child("caller")
        caller.send("hello")
        assert await caller.call("ping") == ("pong", "ping")
        assert await caller.call("later") == "at last"
    assert seen == ["hello"]


class Room(Channel):
    """Lets everybody in."""


async def test_each_client_has_a_connection_of_its_own() -> None:
    """Row 58: several are shards under a supervisor; the crash of one is nothing to the others."""
    async with PhoenixServer({"t": Room}) as server:
        config = Config(server.url, reconnect=[0.01])
        specs = [Lodger.child_spec(config, id=n) for n in range(3)]
        async with open_supervisor(specs) as tree:
            await server.wait_connections(3)
            numbers = {socket.number for socket in server.sockets}
            shards = [tree.child(n) for n in range(3)]
            shards[0].cast(_crash)
            await server.wait_until(
                lambda: len(server.sockets) == 3 and server.sockets[-1].number == 4
            )
            assert len(numbers & {socket.number for socket in server.sockets}) == 2
            assert all(shard.alive for shard in shards)


async def _crash(client: Any, socket: Socket) -> None:
    raise ValueError("as asked")


@in_the_kit()
async def test_a_key_that_is_not_among_the_assigns_is_a_bug(test: Stage) -> None:
    """Row 53; SL-A1: a KeyError, which names it, is a crash like any other."""
    await test.accept_connect()

    async def update(client: Any, socket: Socket) -> None:
        socket.assigns["count"] += 1

    test.ref.cast(update)
    await test.expect_crash(KeyError, "count")
    await test.assert_restarted(Crashed)
    assert test.assigns == {}


def test_a_message_that_lacks_a_field_is_none() -> None:
    """SL-M1: whichever it is."""
    whole: dict[str, Any] = {"topic": "t", "event": "e", "payload": {}, "ref": None}
    for missing in ("topic", "event", "payload"):
        data = json.dumps({key: value for key, value in whole.items() if key != missing})
        with pytest.raises(DecodeError, match=missing):
            V1Serializer().decode(data)


class Graceful(Lodger):
    """Starts where it is configured, and is left out where it is not."""

    async def init(self, config: Any, socket: Socket, /) -> Ignore | None:
        if config is None:
            logging.getLogger("graceful").warning("it is not configured")
            return Ignore()
        try:
            socket.connect(config)
        except ConfigError as error:
            logging.getLogger("graceful").log(logging.ERROR, "%s", error)
            return Ignore()
        return None


@pytest.mark.parametrize(
    ("config", "level", "starts"),
    [(None, "WARNING", False), ({}, "ERROR", False), ({"uri": "http://a/"}, "ERROR", False), (URI, "", True)],
    ids=["missing", "empty", "invalid", "valid"],
)  # fmt: skip
def test_an_init_may_do_without(
    caplog: pytest.LogCaptureFixture, config: Any, level: str, starts: bool
) -> None:
    """SL-X1, SL-X2, SL-X3; SL-C1: and says why."""

    async def main() -> None:
        async with open_socket_test(Graceful, config) as test:
            if starts:
                await test.accept_connect()
                await test.assert_callback("handle_connect")
                assert test.ref.alive
            else:
                await test.assert_stopped()
                await test.refute_connect(within=60.0)

    trio.run(main, clock=MockClock())
    assert [each.levelname for each in caplog.records if each.name == "graceful"] == [level] * bool(
        level
    )


class Repeater(Lodger):
    """Hands on what it hears."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    async def handle_message(self, topic: str, event: str, payload: Any, socket: Socket, /) -> None:
        self.cast("hall", (topic, event, payload))


class Hall(GenServer, name="hall"):
    """Keeps what is said in it."""

    async def init(self) -> None:
        self.said: list[Any] = []

    async def handle_cast(self, message: Any, /) -> None:
        self.said.append(message)

    async def handle_call(self, request: Any, caller: Any, /) -> Reply:
        return Reply(list(self.said))


def test_a_client_may_hand_on_what_it_hears() -> None:
    """SL-X4."""

    async def main() -> None:
        async with open_socket_test(Repeater, URI, children=[Hall]) as test:
            test.socket.join("t")
            await test.connect_and_join("t")
            await test.push("t", "foo", {"bar": 1})
            assert await test.supervisor.child(Hall).call("all") == [("t", "foo", {"bar": 1})]

    trio.run(main, clock=MockClock(autojump_threshold=0.0))


class Served(Lodger, restart="transient"):
    """Is used from outside by calls and casts."""

    def __init__(self) -> None:
        self.waiting: list[Any] = []

    async def handle_cast(self, message: Any, socket: Socket, /) -> Any:
        if message == "conclude":
            return Stop(NORMAL)
        socket.join(message)
        return None

    async def handle_call(self, request: Any, caller: Any, socket: Socket, /) -> Any:
        if request == "ping":
            return Reply("pong")
        socket.join(request)
        return Reply(await socket.await_join(request))


@both_wires(client=Served)
async def test_a_client_is_used_like_any_process(test: Stage) -> None:
    """SL-X7, SL-X8, SL-X9, SL-X10: a cast joins, a call is answered, one waits for a join, one ends it."""
    await test.accept_connect()
    test.ref.cast("t:cast")
    await test.accept_join("t:cast")
    await test.assert_callback("handle_join", "t:cast")
    assert await test.ref.call("ping") == "pong"
    async with trio.open_nursery() as nursery:
        responses: list[Any] = []

        async def call() -> None:
            responses.append(await test.ref.call("t:call"))

        nursery.start_soon(call)
        await test.accept_join("t:call", {"seats": 2})
    assert responses == [{"seats": 2}]
    test.ref.cast("conclude")
    await test.assert_disconnect(1000)
    assert await test.assert_stopped(NORMAL) == NORMAL


@both_wires()
async def test_waits_in_a_callback_take_what_they_waited_for(test: Stage) -> None:
    """JS-M2; SL-Y1, SL-Y2, SL-Y3, SL-Y4, SL-Y7, SL-Y8: a connect, a join, messages, a leave, a disconnect."""
    seen: list[Any] = []

    async def live(client: Any, socket: Socket) -> None:
        await socket.await_connect()
        seen.append(socket.connected)
        socket.join("t")
        seen.append(await socket.await_join("t"))
        first = await socket.await_message("t", "foo", {"n": 1})
        second = await socket.await_message("t", "bin")
        seen.extend([first, second.payload])

    async def end(client: Any, socket: Socket) -> None:
        socket.leave("t")
        await socket.await_leave("t")
        seen.append(socket.joined("t"))
        socket.disconnect()
        seen.append(await socket.await_disconnect())

    test.ref.cast(live)
    await test.accept_connect()
    join = await test.accept_join("t", {"seats": 1})
    await test.push("t", "other")
    await test.push("t", "foo", {"n": 1})
    await test.push("t", "bin", b"\x01")
    await test.assert_callback("handle_message", "t", "other")
    test.ref.cast(end)
    await test.assert_disconnect(1000)
    await until(lambda: len(seen) == 6)
    foo = Message(join.ref, None, "t", "foo", {"n": 1})
    assert seen == [True, {"seats": 1}, foo, b"\x01", False, ClosedByClient()]
    await test.refute_callback("handle_message", within=1.0)
    for name in ("handle_connect", "handle_join", "handle_leave", "handle_disconnect"):
        await test.refute_callback(name, within=0.1)


# The kit


@in_the_kit(heartbeat_interval=30.0, heartbeat_timeout=10.0)
async def test_the_kit_gives_the_reasons_that_a_server_brings_about(test: Stage) -> None:
    """Row 55; SL-T6, SL-T8: and no others; there is no flag for tests in a configuration."""
    for reason in (
        ClosedByServer(1000),
        ClosedByServer(1012, "deploy"),
        HeartbeatTimeout(),
        TransportFailed(ConnectionResetError("gone")),
    ):
        await test.accept_connect()
        await test.disconnect(reason)
        call = await test.assert_callback("handle_disconnect")
        assert call.args == (reason,)
    await test.accept_connect()
    with pytest.raises(ValueError, match="ClosedByServer"):
        await test.disconnect(ClosedByClient())
    test.socket.disconnect()
    await test.assert_disconnect(1000)
    await test.assert_callback("handle_disconnect", ClosedByClient())
    await test.refute_disconnect()


class Crashing(Channel):
    """Crashes while somebody joins."""

    async def join(self, topic: str, payload: Any, socket: ServerSocket, /) -> Ok:
        raise ValueError("as asked")


async def test_a_channel_that_crashes_while_it_lets_in_refuses() -> None:
    """Row 55; SL-T5, SL-I14: with the reason that the kit's refuse_join has in its examples."""
    async with PhoenixServer({"rooms:*": Crashing}) as server, connected(server) as client:
        await client.send('["1","1","rooms:1","phx_join",{}]')
        assert await client.text() == reply(
            "1", "1", "rooms:1", '{"reason":"join crashed"}', "error"
        )


@in_the_kit()
async def test_the_kit_asserts_by_patterns_and_each_once(test: Stage) -> None:
    """SL-T1, SL-T4, SL-T7, SL-T9, SL-T10, SL-T11."""
    user = 7
    test.socket.join("t", {"user": user, "more": True})
    await test.accept_connect(lambda uri: uri.startswith("ws://"))
    await test.assert_callback("handle_connect")
    await test.assert_join("t", {"user": user})
    await test.accept_join("t")
    await test.refute_join("t")
    await test.push("t", "foo", {"bar": 1})
    await test.assert_callback("handle_message", "t", "foo", {"bar": int})
    await test.refute_push("t")
    ref = await test.socket.push("t", "ask", {"a": [1, 2]})
    push = await test.assert_push("t", "ask", {"a": [1, ANY]})
    assert push.ref == ref
    await test.reply(push, {"n": 1})
    await test.assert_callback("handle_reply", ref, ChannelReply("ok", {"n": 1}))
    await test.refute_push("t", "ask")
    await test.refute_leave("t")
    test.socket.leave("t")
    await test.assert_leave("t")
    await test.refute_leave("t")
    with pytest.raises(AssertionError, match="expected a leave of 't'"):
        await test.assert_leave("t")


@pytest.mark.parametrize("wrong", [None, "Lobby", object(), Hall])
async def test_the_kit_takes_clients_only(autojump_clock: MockClock, wrong: Any) -> None:
    """SL-T2."""
    with pytest.raises(TypeError, match="client"):
        async with open_socket_test(wrong):
            pass


def test_the_kit_says_that_a_client_has_ended() -> None:
    """SL-T3: whatever is asserted of it."""

    async def main() -> None:
        async with open_socket_test(Served) as test:
            await test.accept_connect()
            await test.ref.stop()
            await test.assert_stopped(NORMAL)
            with pytest.raises(AssertionError, match="has stopped"):
                await test.assert_join("t")
            with pytest.raises(AssertionError, match="nobody to send to"):
                await test.push("t", "e")

    trio.run(main, clock=MockClock())
