"""Rows 53 and 58, and what other libraries expect of a client: it is a process, and others use it."""

import json
import logging
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from slipstream import (
    ClosedByClient,
    ClosedByServer,
    Config,
    ConfigError,
    Ignore,
    Message,
    NoReply,
    Reply,
    SlipstreamClient,
    Socket,
    Stop,
    open_supervisor,
)
from slipstream.errors import DecodeError
from slipstream.interfaces import Retry, Verdict
from slipstream.otp import GenServer
from slipstream.protocol import V1Serializer
from slipstream.reasons import NORMAL, Crashed
from slipstream.testing import (
    Channel,
    ConnectInfo,
    PhoenixServer,
    open_socket_test,
)

from .stage import Lodger, Stage, both_wires, in_the_kit, query, until

URI = "ws://server.test/socket/websocket"


# Views


# Joins


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
