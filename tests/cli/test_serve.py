"""``slipstream serve``, as a real process."""

import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from slipstream.cli import _serve
from slipstream.cli._app import run_app
from slipstream.client import open_socket
from slipstream.config import Config
from slipstream.errors import ConfigError, ConnectError
from slipstream.testing import PhoenixServer, Traffic

from .test_listen import Running

APP = """
from slipstream.testing import Channel, Ok, PhoenixServer

class Room(Channel):
    async def join(self, topic, payload, socket, /):
        return Ok({"from": "the application"})

    async def handle_in(self, event, payload, socket, /):
        raise ValueError("the application's own crash")

server = PhoenixServer({"rooms:*": Room}, path="/live", like="1.8.3/bandit")

class Servers:
    @staticmethod
    def make():
        return PhoenixServer({}, port=1)

nothing = 1
"""


@asynccontextmanager
async def serving(*args: str, **options: Any) -> AsyncGenerator[tuple[Running, str]]:
    command = [sys.executable, "-m", "slipstream", "serve", "--port", "0", *args]
    process = await trio.lowlevel.open_process(
        command,
        stdout=-1,
        stderr=-1,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        **options,
    )
    try:
        with trio.fail_after(30):
            running = Running(process)
            line = await running.line()
            assert line.startswith("listening on ws://"), line
            yield running, line.removeprefix("listening on ")
    finally:
        if process.returncode is None:
            process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


async def test_the_ready_channel_does_what_the_help_says() -> None:
    async with serving("--echo") as (running, url):
        assert url.startswith("ws://127.0.0.1:")
        assert url.endswith("/socket/websocket")
        async with open_socket(Config(url)) as socket:
            socket.join("any:topic", {"name": "ann"})
            assert await socket.await_join("any:topic") == {"name": "ann"}
            state = await socket.await_message("any:topic", "presence_state")
            assert list(state.payload) == ["ann"]
            for event in ("anything", "shout", "push"):
                reply = await socket.request("any:topic", event, {"n": 1}, timeout=5.0)
                assert (reply.status, reply.response) == ("ok", {"n": 1})
            for event in ("shout", "push"):
                assert (await socket.await_message("any:topic", event)).payload == {"n": 1}
            assert (
                await socket.request("any:topic", "x", b"\x00", timeout=5.0)
            ).response == b"\x00"
        assert [await running.line() for _ in range(3)] == [
            "#1 connected /socket/websocket",
            '#1 <- ["1","1","any:topic","phx_join",{"name":"ann"}]',
            '#1 -> ["1","1","any:topic","phx_reply",{"response":{"name":"ann"},"status":"ok"}]',
        ]
        lines: list[str] = []
        while "closed" not in (lines or [""])[-1]:
            lines.append(await running.line())
        assert lines[-1] == "#1 closed 1000"
        assert any(line.startswith("#1 <- b'\\x00") for line in lines)
        running.process.send_signal(signal.SIGINT)
        assert await running.said() == ""
        assert running.process.returncode == 0


async def test_an_application_is_served_from_where_one_stands(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    async with serving("app:server", cwd=tmp_path) as (running, url):
        assert url.endswith("/live/websocket")
        async with open_socket(Config(url)) as socket:
            socket.join("rooms:1")
            assert await socket.await_join("rooms:1") == {"from": "the application"}
            running.process.terminate()
            await socket.await_disconnect()
        assert await running.said() == ""
        assert running.process.returncode == 0


async def test_a_crash_of_the_application_is_told(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    async with serving("app:server", cwd=tmp_path) as (running, url):
        async with open_socket(Config(url)) as socket:
            socket.join("rooms:1")
            await socket.await_join("rooms:1")
            await socket.push("rooms:1", "anything", {})
            while "phx_error" not in await running.line():
                pass
        running.process.send_signal(signal.SIGINT)
        assert "the application's own crash" in await running.said()


async def test_a_refused_connect_is_told_without_its_query() -> None:
    async with serving("--echo") as (running, url):
        with pytest.raises(ConnectError) as caught:
            async with open_socket(Config(f"{url}/else?token=secret"), reconnect=False):
                pass
        assert caught.value.status == 404
        assert await running.line() == "#1 refused /socket/websocket/else with 404"


async def test_when_nobody_reads_any_more_it_ends(tmp_path: Path) -> None:
    async with serving("--echo") as (running, url):
        assert running.process.stdout is not None
        await running.process.stdout.aclose()
        with trio.move_on_after(5):
            async with open_socket(Config(url), reconnect=False) as socket:
                await socket.await_disconnect()
        assert await running.said() == ""
        assert running.process.returncode == 0


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        ([], 2, "serve takes an APP, or --echo"),
        (["app:server", "--echo"], 2, "serve takes an APP, or --echo"),
        (["app"], 2, "accepted is 'module:server'"),
        ([":server"], 2, "accepted is 'module:server'"),
        (["nowhere.app:server"], 2, "there is no module 'nowhere'"),
        (["app:missing"], 2, "app has no 'missing'"),
        (["app:Servers.missing"], 2, "app has no 'Servers.missing'"),
        (["app:nothing"], 2, "app:nothing is 1; accepted is a PhoenixServer"),
        (["--echo", "--port", "65536"], 2, "65536"),
    ],
)
def test_what_cannot_be_served_is_one_line(
    args: list[str],
    code: int,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "app.py").write_text(APP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "argv", ["slipstream", "serve", *args])
    monkeypatch.delitem(sys.modules, "app", raising=False)
    assert run_app() == code
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1


def test_a_function_may_make_the_server_and_another_address_be_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "app.py").write_text(APP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "app", raising=False)
    server = _serve.find_server("app:Servers.make")
    assert server.url == "ws://127.0.0.1:1/socket/websocket"
    server.bind(host="::1", port=2)
    assert server.url == "ws://[::1]:2/socket/websocket"


def test_a_module_that_misses_another_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.py").write_text("import nowhere_at_all\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(ModuleNotFoundError, match="nowhere_at_all"):
        _serve.find_server("broken:server")


def test_a_taken_port_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    async def scenario() -> None:
        async with PhoenixServer({}) as server:
            other = PhoenixServer({}, port=server.port)
            assert await _serve._serve(other) == 1

    trio.run(scenario)
    said = capsys.readouterr().err
    assert said.startswith("slipstream: ")
    assert "in use" in said


async def test_a_server_that_runs_is_not_bound_again() -> None:
    async with PhoenixServer({}) as server:
        with pytest.raises(ConfigError, match="runs already"):
            server.bind(port=1)


async def test_what_a_terminal_would_obey_is_escaped_and_too_many_lines_are_counted() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as end, os.fdopen(writing, "w") as file:
        printer = _serve._Printer(file)
        printer.show(Traffic(1, "received", "\x1b[2J"))
        for number in range(1500):
            printer.put(str(number))
        printer.end()
        await printer.run(trio.CancelScope())
        file.flush()
        os.set_blocking(end.fileno(), False)
        lines = end.read().decode().splitlines()
    assert lines[0] == "#1 <- \\x1b[2J"
    assert lines[-1] == "(501 lines left out: they came too fast)"
    assert len(lines) == 1001
