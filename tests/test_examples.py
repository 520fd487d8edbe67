"""Every example of the guides runs, and the guides show the very files that do."""

import asyncio
import importlib.util
import itertools
import os
import re
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from slipstream.testing import Channel, ConnectInfo, Ok, PhoenixServer, ServerSocket
from tests.otp.support import run_virtually
from tests.presence_model import Tracker
from tests.realtime import serving_realtime
from tests.transport.proxies import http_proxy, relay
from tests.transport.support import serving

GUIDES = Path(__file__).parent.parent / "guides"
EXAMPLES = GUIDES / "examples"
SHOWN = re.compile(r"<!-- (\w+\.py) -->\n```python\n(.*?)```", re.DOTALL)
PRINTED = re.compile(r"<!-- (\w+)\.py prints -->\n```\n(.*?)```", re.DOTALL)

SUPERVISION = (GUIDES / "supervision.md").read_text("utf-8")


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@asynccontextmanager
async def running(
    name: str,
    capsys: pytest.CaptureFixture[str],
    channels: dict[str, type[Channel]] | None = None,
    *,
    main: Callable[[str], Awaitable[None]] | None = None,
    **serving: Any,
) -> AsyncGenerator[Any]:
    """Run an example against the server that the guide shows; give it, and what was printed."""
    printed = ""
    channels = channels or {"rooms:*": load("server").Room}

    async def until(condition: Callable[[str], bool]) -> str:
        nonlocal printed
        while not condition(printed):
            await trio.sleep(0.005)  # what is printed can only be looked at
            printed += capsys.readouterr().out
        return printed

    with trio.fail_after(20):
        async with PhoenixServer(channels, **serving) as server, trio.open_nursery() as nursery:
            nursery.start_soon(main or load(name).main, server.url)
            yield server, until
            nursery.cancel_scope.cancel()


async def test_the_first_client(capsys: pytest.CaptureFixture[str]) -> None:
    async with running("first_client", capsys) as (_, until):
        printed = await until(lambda text: "heard" in text and "says" in text)
    assert printed.splitlines() == [
        "joined rooms:lobby {'welcome': 'rooms:lobby'}",
        "the server says {'seen': True}",
        "heard new:msg {'body': 'hello'}",
    ]


async def test_outages(capsys: pytest.CaptureFixture[str]) -> None:
    async with running("outages", capsys) as (server, until):
        await until(lambda text: text.count("joined") == 2)
        await server.restart(down_for=0.2)
        printed = await until(lambda text: text.count("joined") == 3)
        assert printed.splitlines() == [
            "connected",
            "joined rooms:lobby",
            "terminating: Crashed",
            "connected",
            "joined rooms:lobby",
            "disconnected: ClosedByServer",
            "disconnected: ConnectFailed",
            "connected",
            "joined rooms:lobby",
        ]
        server.crash("rooms:lobby")
        printed = await until(lambda text: text.count("joined") == 4)
        assert "lost rooms:lobby ChannelCrashed" in printed


async def test_processes_beside(capsys: pytest.CaptureFixture[str]) -> None:
    async with running("beside", capsys) as (server, until):
        await server.wait_joined("rooms:lobby")
        server.broadcast("rooms:lobby", "new:msg", {"body": "hi"})
        await until(lambda text: "messages so far: 1" in text)


async def test_presence(capsys: pytest.CaptureFixture[str]) -> None:
    """PR12, PR14: also of who went while the connection was lost."""
    tracker = Tracker()

    class Present(Channel):
        """Does what Phoenix.Presence does after a join, and in its order."""

        async def join(self, topic: str, payload: Any, socket: Any, /) -> None:
            self.user = payload["user"]

        async def handle_info(self, message: Any, /) -> None:
            if message == "after_join":
                self.broadcast("presence_diff", tracker.step("track", self.user, status="new"))
                self.push("presence_state", tracker.state())

    async with running("presence", capsys, {"rooms:*": Present}) as (server, until):
        await until(lambda text: "here: ann" in text)
        for what, key, status in [
            ("track", "bob", "online"),
            ("track", "bob", "phone"),
            ("update", "bob", "busy"),
            ("untrack", "bob", ""),
            ("track", "cy", "online"),
        ]:
            server.broadcast("rooms:lobby", "presence_diff", tracker.step(what, key, status=status))
        await until(lambda text: "cy came" in text)
        for key in ("bob", "ann"):
            tracker.step("untrack", key)
        server.drop()
        printed = await until(lambda text: "bob went" in text and text.endswith("cy\n"))
    assert [line for line in printed.splitlines() if "here" not in line] == [
        "ann came",
        "bob came",
        "bob opened another window",
        "bob is busy",
        "bob closed a window",
        "cy came",
        "ann opened another window",
        "ann closed a window",
        "bob went",
    ]
    assert printed.splitlines()[-1] == "here: ann, cy"


async def test_the_script(capsys: pytest.CaptureFixture[str]) -> None:
    async with running("script", capsys) as (_, until):
        printed = await until(lambda text: "Message(" in text)
    assert "ok {'seen': True}" in printed


async def test_the_readme_client(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = load("readme_client")
    rooms = load("server")
    with trio.fail_after(20):
        async with PhoenixServer({"rooms:*": rooms.Room}) as server, trio.open_nursery() as nursery:
            real = module.open_supervisor
            monkeypatch.setattr(
                module, "open_supervisor", lambda children: real([(module.Lobby, server.url)])
            )
            nursery.start_soon(module.main)
            await server.wait_joined("rooms:lobby")
            assert (await anext_frame(server)).payload == {"body": "hello"}
            nursery.cancel_scope.cancel()


async def anext_frame(server: PhoenixServer) -> Any:
    await server.wait_until(lambda: server.frames[-1].event == "new:msg")
    return server.frames[-1]


async def test_the_server_of_the_guide_listens(capsys: pytest.CaptureFixture[str]) -> None:
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(load("server").main, 0)
            printed = ""
            while "listening on ws://127.0.0.1:" not in printed:
                await trio.sleep(0.005)  # what is printed can only be looked at
                printed += capsys.readouterr().out
            nursery.cancel_scope.cancel()


async def test_the_test_of_the_guide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    await load("lobby_test").test_the_lobby_says_hello_and_comes_back()


async def test_mutual_tls(capsys: pytest.CaptureFixture[str]) -> None:
    with trio.fail_after(20):
        await load("mutual_tls").main()
    assert capsys.readouterr().out.splitlines() == [
        "the client is (('DNS', 'client.example'),)",
        "joined {'welcome': 'rooms:lobby'}",
    ]


async def test_through_a_proxy(capsys: pytest.CaptureFixture[str]) -> None:
    rooms = load("server")
    with trio.fail_after(20):
        async with PhoenixServer({"rooms:*": rooms.Room}) as server, serving(http_proxy()) as proxy:
            address = f"http://127.0.0.1:{proxy.port}"
            await load("proxy").main(server.url, address)
            assert await proxy.result()
        await load("proxy").main(server.url, address)
    joined, failed = capsys.readouterr().out.splitlines()
    assert joined == "joined {'welcome': 'rooms:lobby'}"
    assert failed.startswith("failed in step 'proxy' after 0.0 s: no connection to 127.0.0.1:")


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs Unix-domain sockets")
async def test_over_a_unix_socket(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rooms = load("server")
    path = str(tmp_path / "web.sock")
    with trio.fail_after(20):
        async with PhoenixServer({"rooms:*": rooms.Room}) as server:
            async with serving(lambda front: relay(front, server.port), path=path):
                await load("unix_socket").main(path)
    assert capsys.readouterr().out == "joined {'welcome': 'rooms:lobby'}\n"


async def test_supabase(capsys: pytest.CaptureFixture[str]) -> None:
    """Frames of its own, a push that is never answered, tokens that run out, last words: all fits in."""
    topic = "realtime:room-1"
    tokens = (f"token-{number}" for number in itertools.count(1))
    printed: list[str] = []

    async def fetch_token() -> str:
        await trio.lowlevel.checkpoint()
        return next(tokens)

    async def until(line: str) -> None:
        while line not in printed:
            await trio.sleep(0.005)  # what is printed can only be looked at
            printed.extend(capsys.readouterr().out.splitlines())

    with trio.fail_after(20):
        async with serving_realtime("anon-key") as (server, uri), trio.open_nursery() as nursery:
            run = partial(
                load("supabase").main, uri, "anon-key", ["room-1"], fetch_token,
                refresh_every=0.3, rejoin_after=0.01,
            )  # fmt: skip
            nursery.start_soon(run)
            await until(f"joined {topic}")
            assert f"subscribed {topic}" not in printed
            assert server.broadcasts == []

            await server.system(topic, "ok", "Subscribed to PostgreSQL")
            await until(f"subscribed {topic}")
            await server.wait_until(lambda: bool(server.broadcasts))
            assert server.broadcasts == [(topic, "hello", 1, b'{"from": "python"}')]
            await server.broadcast(topic, "hello", {"from": "server"}, meta={"id": "m1"})
            await server.broadcast(topic, "image", b"\x89PNG")
            await until("broadcast image b'\\x89PNG'")
            assert "broadcast hello {'from': 'server'}" in printed
            change = {"data": {"record": {"id": 7}}}
            await server.say(None, None, topic, "postgres_changes", change)
            await until("changed {'id': 7}")

            await server.wait_until(lambda: len(server.tokens) >= 2)
            await server.close(topic, "Token has expired")
            await until(f"lost {topic} ChannelClosed (Token has expired)")
            await server.wait_until(lambda: len(server.joins) == 2)
            sent = [payload["access_token"] for _, payload in server.joins]
            assert len({*server.tokens, *sent}) == len(server.tokens) + 2  # a fresh one each time
            nursery.cancel_scope.cancel()
    assert server.refused == 0


async def test_the_till_books_each_sale_though_the_connection_comes_and_goes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """complaint-24, complaint-7: the server may get a sale twice, and knows it by its number."""
    booked: list[Any] = []

    class Book(Channel):
        async def handle_in(self, event: str, payload: Any, socket: ServerSocket, /) -> Ok | None:
            booked.append(payload)
            if len(booked) == 1:
                self.socket.drop()  # between the booking and the answer
                return None
            return Ok()

    async with running("till", capsys, {"till": Book}) as (_, until):
        printed = await until(lambda text: "booked {" in text)
    first, second = booked
    assert first == second
    assert printed.splitlines()[-2:] == [
        "not booked yet: ConnectionLost",
        "booked {'item': 'tea', 'price': 2.5}",
    ]


async def test_a_client_beside_asyncio(capsys: pytest.CaptureFixture[str]) -> None:
    rooms = load("server")
    with trio.fail_after(20):
        async with PhoenixServer({"rooms:*": rooms.Room}) as server:
            main = partial(asyncio.run, load("beside_asyncio").main(server.url))
            await trio.to_thread.run_sync(main)
            await server.wait_connections(0)
    assert capsys.readouterr().out == "heard new:msg {'body': 'from asyncio'}\n"


async def test_the_program_for_those_who_come_from_elixir(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Metrics(Channel):
        async def handle_in(self, event: str, payload: Any, socket: ServerSocket, /) -> Ok:
            return Ok({"asked for": event, **payload})

    main = load("from_elixir").main
    async with running("from_elixir", capsys, {"metrics": Metrics}, main=partial(main, every=0.05)) as (
        server, until,
    ):  # fmt: skip
        await until(lambda text: "metrics {'asked for': 'get', 'format': 'json'}" in text)
        await server.restart(down_for=0.3)
        printed = await until(lambda text: text.rstrip().endswith("'json'}") and "lost:" in text)
    assert "lost: ClosedByServer" in printed
    assert "not asked: ConnectionLost(written=False)" in printed


async def test_the_program_for_those_who_come_from_phoenix_js(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tokens: list[str | None] = []

    class Room(Channel):
        async def join(self, topic: str, payload: Any, socket: ServerSocket, /) -> None:
            self.user = payload["user"]

        async def handle_info(self, message: Any, /) -> None:
            self.presence.track(self.user, {"status": "online"})
            self.push("presence_state", self.presence.list())

        async def handle_in(self, event: str, payload: Any, socket: ServerSocket, /) -> Ok:
            self.broadcast(event, {"user": self.user, **payload})
            return Ok({"seen": True})

    def connect(info: ConnectInfo) -> bool:
        tokens.append(info.auth_token)
        return True

    async with running(
        "from_phoenix_js", capsys, {"rooms:*": Room}, connect=connect
    ) as (server, until):  # fmt: skip
        await until(lambda text: "ann says hello" in text and "here: ann" in text)
        server.crash("rooms:lobby", ValueError("meant"))
        await until(lambda text: text.count("ann says hello") == 2)
        server.drop()
        printed = await until(lambda text: text.count("ann says hello") == 3)
    assert tokens == ["a fresh one"] * 2
    assert printed.count("said {'seen': True}") >= 2
    assert "out: ChannelCrashed(payload={'reason': 'channel_crash'})" in printed
    assert "lost: TransportFailed" in printed


async def test_the_program_for_those_who_come_from_phoenix_channels_python_client(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Room(Channel):
        pass

    async with running("from_pcp", capsys, {"room:*": Room}) as (server, until):
        await server.wait_joined("room:lobby")
        assert server.requests[0].params["api_key"] == "secret"
        server.broadcast("room:lobby", "user_join", {"name": "bob"})
        server.broadcast("room:lobby", "said", {"body": "hi"})
        await until(lambda text: "said" in text)
        await server.stop_channel("room:lobby")
        printed = await until(lambda text: "dropped" in text)
    assert printed.splitlines() == [
        "joined: bob",
        "other: said {'body': 'hi'}",
        "dropped: room:lobby ChannelClosed()",
    ]


async def test_the_program_for_those_who_come_from_realtime_py(
    capsys: pytest.CaptureFixture[str],
) -> None:
    heard: list[Any] = []
    keys: list[str] = []

    class Room(Channel):
        async def join(self, topic: str, payload: Any, socket: ServerSocket, /) -> None:
            self.key = payload["config"]["presence"]["key"]
            keys.append(payload["access_token"])

        async def handle_in(self, event: str, payload: Any, socket: ServerSocket, /) -> None:
            if event == "presence" and payload["event"] == "track":
                self.presence.track(self.key, payload["payload"])
                self.push("presence_state", self.presence.list())
            else:
                heard.append(payload)

    async with running("from_realtime_py", capsys, {"realtime:*": Room}) as (server, until):
        await until(lambda text: "here: ann" in text)
        said = {"type": "broadcast", "event": "cursor", "payload": {"x": 3, "y": 4}}
        server.broadcast("realtime:room-1", "broadcast", said)
        printed = await until(lambda text: "moved" in text)
    assert keys == ["anon-key"]
    assert heard == [{**said, "payload": {"x": 1, "y": 2}}]
    assert printed.splitlines()[0] == "subscribed realtime:room-1"
    assert printed.splitlines()[-1] == "moved {'x': 3, 'y': 4}"


@pytest.mark.parametrize(
    ("guide", "count"),
    [
        ("getting-started", 6),
        ("connections", 3),
        ("supervision", 19),
        ("testing", 11),
        ("reliability", 1),
        ("migrating", 5),
        ("clients", 18),
        ("contracts", 4),
    ],
)
def test_a_guide_shows_the_files_that_run(guide: str, count: int) -> None:
    shown = dict(SHOWN.findall((GUIDES / f"{guide}.md").read_text()))
    assert len(shown) == count
    for name, text in shown.items():
        assert text == (EXAMPLES / name).read_text(), f"{name} differs from what the guide shows"


@pytest.mark.parametrize(("name", "printed"), PRINTED.findall(SUPERVISION))
def test_a_program_of_the_guide_to_supervision_prints_what_the_guide_says(
    name: str, printed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run_virtually(load(name).main)
    assert capsys.readouterr().out == printed


async def test_the_tests_of_the_guide_to_supervision(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    module = load("meter_test")
    for name in [name for name in vars(module) if name.startswith("test_")]:
        await getattr(module, name)(autojump_clock)


def test_every_program_of_the_guide_to_supervision_is_run() -> None:
    shown = {name.removesuffix(".py") for name, _ in SHOWN.findall(SUPERVISION)}
    assert shown - {name for name, _ in PRINTED.findall(SUPERVISION)} == {"meter_test"}


TESTING = (GUIDES / "testing.md").read_text("utf-8")
FAILS = re.compile(r"<!-- fails_test.py says -->\n```\n(.*?)```", re.DOTALL)


def run_pytest(directory: Path, *names: str) -> "subprocess.CompletedProcess[str]":
    """Run files of the examples as a reader does: with pytest, the plugin, and nothing of ours."""
    settings = directory / "pytest.ini"
    settings.write_text("[pytest]\ntrio_mode = true\nfilterwarnings = error\n", "utf-8")
    paths = [str(EXAMPLES / f"{name}.py") for name in names]
    environment = {
        **os.environ,
        "PYTHONPATH": str(GUIDES.parent),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONIOENCODING": "utf-8",
    }
    return subprocess.run(  # noqa: S603 - our own files
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", settings, *paths],
        cwd=directory, env=environment, capture_output=True, encoding="utf-8", timeout=120, check=False,
    )  # fmt: skip


def test_the_tests_of_the_guide_to_testing_pass(tmp_path: Path) -> None:
    names = [name.removesuffix(".py") for name, _ in SHOWN.findall(TESTING)]
    tests = [name for name in names if name.endswith("_test") and name != "fails_test"]
    assert len(tests) >= 8
    ran = run_pytest(tmp_path, *tests)
    assert ran.returncode == 0, ran.stdout


def test_the_failure_of_the_guide_to_testing_reads_as_shown(tmp_path: Path) -> None:
    ran = run_pytest(tmp_path, "fails_test")
    assert ran.returncode == 1
    (shown,) = FAILS.findall(TESTING)
    (prefix,) = re.findall(r"^(E +)AssertionError", ran.stdout, re.MULTILINE)
    told = "\n".join(line.removeprefix(prefix) for line in ran.stdout.splitlines())
    assert shown in f"{told}\n", ran.stdout


CONTRACTS = (GUIDES / "contracts.md").read_text("utf-8")


def test_the_contracts_of_the_guide_hold(tmp_path: Path) -> None:
    ran = run_pytest(tmp_path, "steady_ticker_contract_test", "kept_test")
    assert ran.returncode == 0, ran.stdout
    assert "4 passed" in ran.stdout


def test_what_the_contract_of_the_guide_finds_reads_as_shown(tmp_path: Path) -> None:
    ran = run_pytest(tmp_path, "ticker_contract_test")
    assert ran.returncode == 1
    (shown,) = re.findall(
        r"<!-- ticker_contract_test.py says -->\n```\n(.*?)```", CONTRACTS, re.DOTALL
    )
    told = "\n".join(
        line[1:].removeprefix("   ").rstrip()
        for line in ran.stdout.splitlines()
        if line.startswith("E ")
    )
    assert shown in f"{told}\n", ran.stdout
