"""The clients of the guide to clients do what it says of them, in virtual time."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from slipstream import (
    JoinError,
    JoinRefused,
    ReplyError,
    SupervisorGaveUpError,
    open_supervisor,
    telemetry,
)
from slipstream.otp import SupervisorRef
from slipstream.reasons import NORMAL
from slipstream.testing import Channel, Ok, PhoenixServer
from slipstream.testing.otp import advance, assert_exits, check_leaks, wait_until
from slipstream.transport import use_transport
from tests.test_examples import EXAMPLES, SHOWN, load

SocketTest = Callable[..., Any]


@asynccontextmanager
async def serving(
    channels: dict[str, type[Channel]] | None = None, **options: Any
) -> AsyncGenerator[PhoenixServer]:
    """Run a server in memory, to which all connects go."""
    channels = channels or {"rooms:*": load("server").Room}
    async with check_leaks(), PhoenixServer(channels, memory=True, **options) as server:
        with use_transport(server.open_transport):
            yield server


@asynccontextmanager
async def supervised(
    children: Iterable[Any], channels: dict[str, type[Channel]] | None = None, **options: Any
) -> AsyncGenerator[tuple[PhoenixServer, SupervisorRef]]:
    """Run *children* and the server that they talk to."""
    async with serving(channels) as server, open_supervisor(children, **options) as supervisor:
        yield server, supervisor


URI = "ws://server.test/socket/websocket"


async def test_basic(autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]) -> None:
    async with supervised([(load("basic").Greeter, URI)]) as (server, supervisor):
        greeter = supervisor.whereis("greeter")
        assert greeter is not None
        await server.wait_joined("rooms:lobby")
        await advance(0.5)
        assert await greeter.call("heard") == 1
        server.drop()
        await advance(10.0)
        assert await greeter.call("heard") == 2  # the state has outlived the connection
    printed = capsys.readouterr().out.splitlines()
    assert printed[:2] == ["rooms:lobby answers ok", "rooms:lobby new:msg {'body': 'hello'}"]
    assert printed[2].startswith("disconnected: TransportFailed(")
    assert printed[3:] == printed[:2]


@pytest.mark.parametrize(
    ("settings", "logged"),
    [
        (None, ("WARNING", "no uplink: UPLINK is not set")),
        ("http://server.test", ("ERROR", "no uplink: Config.uri 'http://server.test' has")),
        (URI, None),
    ],
)
async def test_graceful_startup(
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
    settings: str | None,
    logged: tuple[str, str] | None,
) -> None:
    """SL-X1, SL-X2, SL-X3: without, or with wrong, settings it is not started, and that is logged."""
    module = load("graceful_startup")
    async with supervised([module.Work, (module.Uplink, settings)]) as (server, supervisor):
        if logged is None:
            await server.wait_joined("rooms:lobby")
        assert supervisor.child(module.Uplink).alive == (logged is None)
        assert supervisor.child(module.Work).alive
        await advance(3600.0)
        assert len(server.requests) == (logged is None)
    told = [(each.levelname, each.getMessage()) for each in caplog.records]
    assert len(told) == (logged is not None)
    if logged is not None:
        assert told[0][0] == logged[0]
        assert told[0][1].startswith(logged[1])


async def test_repeater(autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]) -> None:
    """SL-X4: what it hears is heard by all who listen to that topic, and by nobody else."""
    module = load("repeater")
    async with serving() as server, trio.open_nursery() as nursery:
        nursery.start_soon(module.main)
        for topic in ("rooms:lobby", "rooms:attic"):
            await server.wait_joined(topic)
        server.broadcast("rooms:lobby", "news", {"n": 1})
        server.broadcast("rooms:attic", "news", {"n": 2})
        await advance(0.1)
        nursery.cancel_scope.cancel()
    assert capsys.readouterr().out == "heard rooms:lobby news {'n': 1}\n"


async def test_who_listens_to_the_repeater_is_found_again_after_a_crash(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    module = load("repeater")
    children = [
        module.Registry.child_spec(name="listeners", keys="duplicate"),
        module.Listener.child_spec("rooms:lobby", name="first"),
        module.Listener.child_spec("rooms:lobby", id="second"),
        (module.Repeater, (URI, ["rooms:lobby"])),
    ]
    async with supervised(children) as (server, supervisor):
        await server.wait_joined("rooms:lobby")
        first = supervisor.whereis("first")
        assert first is not None
        incarnation = first.pin()
        first.kill()
        await assert_exits(incarnation)
        await wait_until(first)
        server.broadcast("rooms:lobby", "news", {"n": 1})
        await advance(0.1)
        assert len(server.requests) == 1  # the repeater knows nothing of it
    assert capsys.readouterr().out == "heard rooms:lobby news {'n': 1}\n" * 2


async def test_token_refresh(socket_test: SocketTest, capsys: pytest.CaptureFixture[str]) -> None:
    """SL-X5: a 403 is followed at once by an attempt with a new token in the URI."""
    tokens = iter(range(1, 100))

    async def fetch_token() -> str:
        await trio.sleep(0.1)
        return f"token-{next(tokens)}"

    async with socket_test(load("token_refresh").Member, (URI, fetch_token)) as test:
        await test.assert_connect(lambda uri: "token=token-1&" in f"{uri}&")
        await test.refuse_connect(403)
        await test.accept_connect(lambda uri: "token=token-2&" in f"{uri}&", within=0.2)
        await test.assert_join("rooms:lobby", {"token": "token-3"})
        await test.accept_join("rooms:lobby")
        await test.drop()
        await test.accept_connect(lambda uri: "token=token-4&" in f"{uri}&")
        await test.assert_join("rooms:lobby", {"token": "token-5"})
    assert capsys.readouterr().out == "refused; trying again with a new token\n"


async def test_tokens_that_stay_wrong_are_asked_for_ever_less_often(
    socket_test: SocketTest,
) -> None:
    asked: list[float] = []

    async def fetch_token() -> str:
        await trio.lowlevel.checkpoint()
        asked.append(trio.current_time())
        return "wrong"

    async with socket_test(load("token_refresh").Member, (URI, fetch_token)) as test:
        for _ in range(20):
            await test.refuse_connect(403, within=301.0)
        assert asked[1] == 0.0
        assert asked[-1] > 100.0
        assert test.ref.alive


async def test_rejoin_on_reconnect(
    socket_test: SocketTest, capsys: pytest.CaptureFixture[str]
) -> None:
    """SL-X6: all three topics are joined again after a disconnect."""
    topics = ["rooms:lobby", "rooms:attic", "rooms:cellar"]
    async with socket_test(load("rejoin_on_reconnect").Follower, (URI, topics)) as test:
        for _ in range(2):
            await test.accept_connect()
            for topic in topics:
                await test.accept_join(topic)
            capsys.readouterr()
            await test.close(1012)
            waiting = ", ".join(f"{topic} waiting" for topic in topics)
            assert capsys.readouterr().out == f"disconnected: {waiting}\n"
        await test.accept_connect()
        await test.accept_join("rooms:attic")
        await test.crash_topic("rooms:attic")
        crashed = "joined rooms:attic\nlost rooms:attic ChannelCrashed and now it is waiting\n"
        assert capsys.readouterr().out == crashed
        await test.accept_join("rooms:attic")
        await test.close_topic("rooms:attic")
        assert "ChannelClosed and now it is closed" in capsys.readouterr().out


async def test_a_cast_asks_for_a_topic(socket_test: SocketTest) -> None:
    """SL-X7"""
    async with socket_test(load("asked").Subscription) as test:
        await test.accept_connect()
        await test.refute_join()
        test.ref.cast(("join", "rooms:lobby"))
        await test.assert_join("rooms:lobby")


async def test_a_call_is_answered(socket_test: SocketTest) -> None:
    """SL-X8"""
    async with socket_test(load("asked").Subscription) as test:
        assert await test.ref.call("ping") == "pong"


async def test_a_call_waits_until_the_join_is_answered(socket_test: SocketTest) -> None:
    """SL-X9: and fails with its reason where it is refused."""
    outcomes: list[Any] = []

    async def call(topic: str) -> None:
        try:
            outcomes.append(await test.ref.call(("join", topic)))
        except JoinError as error:
            outcomes.append(error.reason)

    async with socket_test(load("asked").Subscription) as test:
        await test.accept_connect()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call, "rooms:lobby")
            await test.assert_join("rooms:lobby")
            await test.advance(3.0)
            assert outcomes == []
            await test.accept_join("rooms:lobby", {"welcome": "you"})
            nursery.start_soon(call, "rooms:vault")
            await test.refuse_join("rooms:vault", {"reason": "unauthorized"})
        assert outcomes == [{"welcome": "you"}, JoinRefused({"reason": "unauthorized"})]
        assert await test.ref.call("ping") == "pong"


async def test_a_conclusion_ends_the_client_for_good(socket_test: SocketTest) -> None:
    """SL-X10: it disconnects, and its process ends normally."""
    async with socket_test(load("asked").Subscription) as test:
        await test.accept_connect()
        test.ref.send("conclude_subscription")
        await test.assert_disconnect(1000)
        await test.assert_stopped(NORMAL)


async def test_a_client_for_each_topic(autojump_clock: MockClock) -> None:
    module = load("per_topic")
    async with supervised(module.CHILDREN, strategy="rest_for_one") as (server, tree):
        lobby = await module.follow(tree, URI, "rooms:lobby")
        attic = await module.follow(tree, URI, "rooms:attic")
        assert await module.follow(tree, URI, "rooms:lobby") == lobby != attic
        await server.wait_joined("rooms:lobby")
        await server.wait_joined("rooms:attic")
        assert len(server.requests) == 2

        lobby.kill()  # one goes on where the other one begins anew
        await server.wait_until(lambda: len(server.requests) == 3)
        await server.wait_joined("rooms:lobby")
        assert await module.follow(tree, URI, "rooms:lobby") == lobby

        await module.unfollow(tree, "rooms:lobby")
        await module.unfollow(tree, "rooms:lobby")
        await server.wait_connections(1)
        await server.stop_channel("rooms:attic")  # for good, which its client tells by its end
        await server.wait_connections(0)
        followers: Any = tree.child("followers")
        await wait_until(lambda: followers.which_children() == [])
        assert await module.follow(tree, URI, "rooms:attic") != attic


class Quiet(Channel):
    """Lets everybody in, and answers everything."""

    async def handle_in(self, event: str, payload: Any, socket: Any, /) -> Ok:
        return Ok()


async def test_a_fleet(autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]) -> None:
    """One that is never let in takes nothing from the others, and comes in when it may."""
    module, banned = load("fleet"), {"A0001"}

    def let_in(info: Any) -> bool:
        return info.params["serial"] not in banned

    async with serving({"devices:*": Quiet}, connect=let_in) as server:
        async with open_supervisor([(module.Fleet, (URI, ["A0000", "A0001"]))]) as supervisor:
            fleet = supervisor.child(module.Fleet)
            await server.wait_joined("devices:A0000")
            await advance(30.0)
            assert module.look(fleet) == {"A0000": "open", "A0001": "restarting"}
            server.broadcast("devices:A0000", "set", {"interval": 10.0})
            await advance(65.0)
            events = [each.event for each in server.frames if each.topic == "devices:A0000"]
            assert events == ["phx_join", "settings", "report", "report", "report", "report"]
            banned.clear()
            await server.wait_joined("devices:A0001", within=301.0)
            assert module.look(fleet) == {"A0000": "open", "A0001": "open"}
            assert len([each for each in server.requests if each.params["serial"] == "A0000"]) == 1


async def test_a_feed_that_is_too_fast(autojump_clock: MockClock) -> None:
    """Of each symbol the newest is stored, and what waits is bounded all the while."""
    module, stored = load("price_feed"), dict[str, int]()
    writes = 0

    async def store(prices: dict[str, int]) -> None:
        nonlocal writes
        writes += 1
        await trio.sleep(1.0)
        stored.update(prices)

    async with serving({"prices": Quiet}) as server:
        async with open_supervisor([(module.Feed, (module.newest(URI), store))]) as supervisor:
            feed: Any = supervisor.child(module.Feed)
            await server.wait_joined("prices")
            most = 0
            for number in range(20_000):
                price = {"symbol": f"S{number % 50}", "price": number}
                server.broadcast("prices", "price", price)
                if number % 100 == 0:
                    await trio.sleep(0.001)
                    most = max(most, feed.health().inbound)
            await advance(60.0)
            assert stored == {f"S{number % 50}": number for number in range(19_950, 20_000)}
            assert await feed.call("stored") < 5_000
            assert most <= 2_000
            assert writes < 50
            counters = feed.health().counters
            assert counters["coalesced"] > 15_000
            assert counters.get("dropped", 0) == 0
            assert len(server.requests) == 1


async def test_a_bridge_gives_all_in_order_and_takes_its_time(autojump_clock: MockClock) -> None:
    module = load("bridge")
    async with serving() as server, module.open_bridge(URI, "rooms:lobby") as messages:
        await server.wait_joined("rooms:lobby")
        for number in range(100):
            server.broadcast("rooms:lobby", "news", {"n": number})
        heard = []
        for _ in range(100):
            await trio.sleep(0.1)
            _, payload = await messages.receive()
            heard.append(payload["n"])
        assert heard == list(range(100))


async def test_a_bridge_ends_at_once_also_in_the_middle_of_a_send(
    autojump_clock: MockClock,
) -> None:
    module = load("bridge")
    async with serving() as server:
        async with module.open_bridge(URI, "rooms:lobby", buffer=0):
            await server.wait_joined("rooms:lobby")
            server.broadcast("rooms:lobby", "news", {"n": 1})
            await advance(1.0)
            before = trio.current_time()
        assert trio.current_time() == before


async def test_who_reads_from_a_bridge_is_told_of_its_end(autojump_clock: MockClock) -> None:
    module = load("bridge")
    async with serving() as server:
        server.refuse_connects(404)
        with pytest.raises(SupervisorGaveUpError):
            async with module.open_bridge(URI, "rooms:lobby") as messages:
                await messages.receive()


async def test_a_lifespan(autojump_clock: MockClock) -> None:
    module = load("lifespan")
    async with serving() as server:
        async with module.lifespan(None, URI) as state:
            assert module.healthz(state)[0] == 503
            state["announcer"].cast("hello")  # waits for the topic
            await server.wait_joined("rooms:lobby")
            await advance(0.1)
            status, body = module.healthz(state)
            assert (status, body["phase"]) == (200, "open")
            state["announcer"].cast("one")
            state["announcer"].cast("two")
        said = [each.payload["body"] for each in server.frames if each.event == "new:msg"]
        assert said == ["hello", "one", "two", "bye"]
        await server.wait_connections(0)


async def test_a_web_server_whose_tree_gives_up_is_ended_by_it(autojump_clock: MockClock) -> None:
    module = load("lifespan")
    async with serving() as server:
        server.refuse_connects(404)
        with pytest.raises(SupervisorGaveUpError):
            async with module.lifespan(None, URI):
                await trio.sleep_forever()


NAMES = [f"rooms:{number}" for number in range(250)]


async def test_more_topics_than_a_connection_may_join(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """complaint-26: one client is told so, and keeps those that it has."""
    module = load("sharding")
    async with supervised([(module.Shard, (URI, NAMES))]) as (server, supervisor):
        await advance(120.0)
        shard: Any = supervisor.child(module.Shard)
        health = shard.health()
        assert health.over_limit == 150
        assert list(health.topics.values()).count("joined") == 100
        assert len(server.requests) == 1
    (warning,) = [each.getMessage() for each in caplog.records]
    assert warning.startswith("the server lets one connection join no more than 100 topics")


async def test_shards(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """complaint-26: several clients join them all, and one that crashes joins its own part again."""
    module = load("sharding")

    def joined() -> set[str]:
        return {topic for socket in server.sockets for topic in socket.topics}

    async with supervised([module.supervise(URI, NAMES, 4)]) as (server, supervisor):
        await server.wait_until(lambda: joined() == set(NAMES))
        assert len(server.sockets) == 4
        shard = module.shard_of(supervisor, "rooms:7")
        assert shard.health().topics["rooms:7"] == "joined"
        shard.kill()
        await server.wait_until(lambda: len(server.requests) == 5)
        await server.wait_until(lambda: joined() == set(NAMES))
        shard.cast(("rooms:7", "new:msg", {"body": "hello"}))
        await server.wait_until(lambda: server.frames[-1].event == "new:msg")
    assert "no more than" not in caplog.text


async def test_typed_orders(socket_test: SocketTest, capsys: pytest.CaptureFixture[str]) -> None:
    module = load("orders")
    outcomes: list[Any] = []

    async def buy() -> None:
        try:
            outcomes.append(await test.ref.call({"symbol": "TEA"}))
        except ReplyError as error:
            outcomes.append(error.reply.response)

    async with socket_test(module.Desk) as test:
        await test.connect_and_join("orders")
        await test.push("orders", "trade", {"symbol": "TEA", "price": 9.5, "size": 3})
        await test.push("orders", "trade", {"symbol": "TEA", "price": "none", "size": 3})
        assert test.client.volume == 3
        assert test.ref.health().counters["bad_payloads"] == 1
        for response, status in [({"id": 7, "status": "open"}, "ok"), ({"reason": "no"}, "error")]:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(buy)
                order = await test.assert_push("orders", "buy", {"symbol": "TEA"})
                await test.reply(order, response, status=status)
        assert outcomes == [module.Order(7, "open"), {"reason": "no"}]
        await test.assert_push("orders", "alive", {"volume": 3}, within=60.0)
        await test.assert_callback("handle_push_failed", within=10.0)
    assert capsys.readouterr().out == "not told that we are alive: PushTimedOut\n"


async def test_nothing_is_missed(socket_test: SocketTest) -> None:
    module = load("missed")
    async with socket_test(module.Journal) as test:
        await test.accept_connect()
        await test.assert_join("journal", {"since": 0})
        await test.accept_join("journal")
        await test.push("journal", "entry", {"n": 1, "text": "one"})
        await test.drop()
        await test.accept_connect()
        await test.assert_join("journal", {"since": 1})
        await test.accept_join("journal")
        asked = await test.assert_push("journal", "entries", {"since": 1})
        await test.push("journal", "entry", {"n": 3, "text": "three"})
        missed = [{"n": 2, "text": "two"}, {"n": 3, "text": "three"}]
        await test.reply(asked, {"entries": missed})
        assert test.client.entries == {1: "one", 2: "two", 3: "three"}


async def test_a_script_that_reads_along(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serving() as server:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(load("last_words").main, URI, 2)
            await server.wait_joined("rooms:lobby")
            for body in ("one", "two", "three"):
                server.broadcast("rooms:lobby", "new:msg", {"body": body})
        assert capsys.readouterr() == ("one\ntwo\n", "")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(load("last_words").main, URI, 2)
            await server.wait_joined("rooms:lobby")
            server.broadcast("rooms:lobby", "new:msg", {"body": "one"})
            await advance(0.1)
            server.drop()
        assert capsys.readouterr() == ("one\n", "cut off: TransportFailed\n")


async def test_a_service_says_how_it_is(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="service")
    async with supervised(load("service").children(URI)) as _:
        await advance(61.0)
    told = [each.getMessage() for each in caplog.records if each.name == "service"]
    assert len(told) == 1
    assert told[0].startswith("open for 60 s; rooms:lobby joined; {'attempts': 1")


@pytest.mark.skipif(os.name == "nt", reason="needs SIGTERM")
async def test_a_service_is_stopped_by_a_signal() -> None:
    """It takes its leave of the server, and exits with 143."""
    with trio.fail_after(60):
        async with PhoenixServer({"rooms:*": Quiet}) as server:
            environment = {
                **os.environ,
                "PYTHONPATH": str(EXAMPLES.parent.parent),
                "LOBBY_URI": server.url,
            }
            command = [sys.executable, str(EXAMPLES / "service.py")]
            async with trio.open_nursery() as nursery:
                run = partial(
                    trio.run_process,
                    command,
                    env=environment,
                    check=False,
                    stderr=subprocess.DEVNULL,
                )
                process: trio.Process = await nursery.start(run)
                await server.wait_joined("rooms:lobby", within=30.0)
                process.send_signal(signal.SIGTERM)
            assert process.returncode == 143
            await server.wait_connections(0)


async def test_reconnects(autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]) -> None:
    reconnects = load("reconnects")
    telemetry.attach("reconnects", "slipstream.connection.reconnect", reconnects.count)
    try:
        async with supervised([(reconnects.Lobby, URI)]) as (server, _):
            await server.wait_connections(1)
            await server.restart(down_for=1.0)
            await server.wait_connections(1)
    finally:
        telemetry.detach("reconnects")
    assert reconnects.reconnects["lobby"] >= 1
    assert "lobby: ClosedByServer(code=1012, reason=''), again in " in capsys.readouterr().out


def test_every_program_of_the_guide_to_clients_is_run() -> None:
    """Here, but for one that is in test_examples.py."""
    guide = (EXAMPLES.parent / "clients.md").read_text("utf-8")
    shown = {name.removesuffix(".py") for name, _ in SHOWN.findall(guide)}
    run = set(re.findall(r'load\("(\w+)"\)', Path(__file__).read_text("utf-8")))
    assert shown - run == {"presence"}
