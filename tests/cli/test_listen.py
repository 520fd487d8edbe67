"""``slipstream listen``, as a real process against a server on loopback."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import termios
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from slipstream.cli._app import run_app
from slipstream.testing import Channel, Ok, PhoenixServer, Refuse, ServerSocket


class Room(Channel):
    async def join(self, topic: str, payload: Any, socket: ServerSocket, /) -> Any:
        match topic:
            case "rooms:closed":
                return Refuse({"reason": "unauthorized"})
            case "rooms:busy":
                return Refuse({"reason": "busy"}) if len(socket.server.frames) < 3 else Ok()
            case _:
                return Ok(payload)


class Running:
    """A command that runs, and what it prints."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self._rest = b""

    async def line(self) -> str:
        assert self.process.stdout is not None
        while b"\n" not in self._rest:
            data = await self.process.stdout.receive_some()
            assert data, "the command ended"
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()

    def unread(self) -> int:
        """Count the bytes that lie in the pipe of its stdout."""
        assert isinstance(self.process.stdout, trio.lowlevel.FdStream)
        answer = fcntl.ioctl(self.process.stdout.fileno(), termios.FIONREAD, bytes(4))
        return int.from_bytes(answer, sys.byteorder)

    async def said(self) -> str:
        """Wait for its end, and give what it wrote to stderr."""
        assert self.process.stderr is not None
        said = b""
        async for data in self.process.stderr:
            said += data
        await self.process.wait()
        return said.decode()


@asynccontextmanager
async def listen(*args: str, **environment: str) -> AsyncGenerator[Running]:
    async with trio.open_nursery() as nursery:
        command = [sys.executable, "-m", "slipstream", "listen", *args]
        process = await nursery.start(_start, command, {**os.environ, **environment})
        yield Running(process)
        nursery.cancel_scope.cancel()


async def _start(
    command: list[str], env: dict[str, str], task_status: Any = trio.TASK_STATUS_IGNORED
) -> None:
    process = await trio.lowlevel.open_process(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    task_status.started(process)
    try:
        await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            for pipe in (process.stdout, process.stderr):
                assert pipe is not None
                await pipe.aclose()


async def test_it_prints_what_it_hears_and_leaves_when_interrupted() -> None:
    with trio.fail_after(30):
        async with PhoenixServer({"rooms:*": Room}) as server:
            async with listen(server.url, "rooms:1", "--params", '{"user": 7}') as running:
                await server.wait_joined("rooms:1", within=20)
                assert server.frames[0].payload == {"user": 7}
                server.broadcast("rooms:1", "news", {"n": 1})
                server.broadcast("rooms:1", "blob", b"\x00\x01")
                assert await running.line() == 'rooms:1 news {"n": 1}'
                assert await running.line() == "rooms:1 blob b'\\x00\\x01'"
                running.process.send_signal(signal.SIGINT)
                said = await running.said()
                assert running.process.returncode == 0, said
                assert "joined rooms:1" in said
            assert server.frames[-1].event == "phx_leave"
            await server.wait_connections(0)


async def test_json_is_one_object_a_line_and_an_event_may_be_chosen() -> None:
    with trio.fail_after(30):
        async with PhoenixServer({"rooms:*": Room}) as server:
            async with listen(server.url, "rooms:1", "--json", "--event", "news") as running:
                await server.wait_joined("rooms:1", within=20)
                server.broadcast("rooms:1", "other", {"n": 0})
                server.broadcast("rooms:1", "news", {"n": 1})
                server.broadcast("rooms:1", "news", b"\x00\x01")
                assert json.loads(await running.line()) == {
                    "topic": "rooms:1",
                    "event": "news",
                    "payload": {"n": 1},
                }
                assert json.loads(await running.line())["binary"] == "AAE="
                running.process.send_signal(signal.SIGTERM)
                assert await running.said() == "joined rooms:1\n"
                assert running.process.returncode == 0


async def test_it_reconnects_and_rejoins_for_ever() -> None:
    with trio.fail_after(30):
        async with (
            PhoenixServer({"rooms:*": Room}) as server,
            listen(server.url, "rooms:busy") as running,
        ):
            await server.wait_joined("rooms:busy", within=20)
            server.drop()
            await server.wait_connections(0)
            await server.wait_joined("rooms:busy", within=20)
            server.broadcast("rooms:busy", "news", None)
            assert await running.line() == "rooms:busy news null"
            running.process.send_signal(signal.SIGINT)
            said = await running.said()
            assert 'the server refused rooms:busy: {"reason": "busy"}; trying again' in said
            assert "the connection broke: " in said


async def test_a_server_that_confirms_no_leave_is_left_all_the_same() -> None:
    with trio.fail_after(30):
        async with PhoenixServer({"rooms:*": Room}) as server:
            async with listen(server.url, "rooms:1") as running:
                await server.wait_joined("rooms:1", within=20)
                for socket in server.sockets:
                    socket.freeze()
                running.process.send_signal(signal.SIGINT)
                said = await running.said()
                assert running.process.returncode == 0
                assert "the server did not confirm the leave" in said


async def test_a_reader_that_pauses_stops_neither_heartbeats_nor_interrupts() -> None:
    with trio.fail_after(30):
        async with PhoenixServer({"rooms:*": Room}) as server:
            async with listen(server.url, "rooms:1") as running:
                await server.wait_joined("rooms:1", within=20)
                for number in range(200):  # more than a pipe holds
                    server.broadcast("rooms:1", "news", [number, "x" * 1000])
                while running.unread() < 60_000:  # noqa: ASYNC110 - the kernel tells nobody
                    await trio.sleep(0.01)
                running.process.send_signal(signal.SIGINT)
                # Real time: signals at one instant are one, and nothing shows that it took the first.
                await trio.sleep(0.3)
                running.process.send_signal(signal.SIGINT)
                with trio.fail_after(4):
                    await running.process.wait()
                assert running.process.returncode == 130


async def test_a_second_interrupt_ends_it_at_once_with_130() -> None:
    class Slow(Channel):
        async def terminate(self, reason: Any, /) -> None: ...

    with trio.fail_after(30):
        async with PhoenixServer({"rooms:*": Slow}) as server:
            async with listen(server.url, "rooms:1") as running:
                await server.wait_joined("rooms:1", within=20)
                # A server that does not read any more confirms no leave.
                for socket in server.sockets:
                    socket.freeze()
                running.process.send_signal(signal.SIGINT)
                await server.wait_until(lambda: server.frames[-1].event == "phx_leave")
                running.process.send_signal(signal.SIGINT)
                await running.said()
                assert running.process.returncode == 130


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["http://x/y", "t"], 2, "unknown scheme 'http'"),
        (["ws://x/y", ""], 2, "empty"),
        (["ws://x/y"], 2, "Missing argument 'TOPIC'"),
        (["ws://x/y", "t", "--params", "{"], 2, "is no JSON"),
        (["ws://x/y", "t", "--params", "NaN"], 2, "there is no NaN in it"),
        (["ws://x/y", "t", "--params", "[" * 100_000], 2, "nested too deeply"),
        (["ws://x/y", "t", "--params", '"\\ud800"'], 2, "lone surrogate"),
        (["ws://x/y", "t", "--colour"], 2, "No such option"),
    ],
)
async def test_wrong_usage_is_one_clear_line_and_code_2(
    args: list[str], code: int, says: str
) -> None:
    with trio.fail_after(30):
        async with listen(*args) as running:
            said = await running.said()
            assert running.process.returncode == code
            assert says in said
            assert len(said.splitlines()) == 1


async def test_being_refused_for_good_is_one_line_and_code_1() -> None:
    with trio.fail_after(30):
        async with PhoenixServer({"rooms:*": Room}) as server:
            async with listen(server.url, "rooms:closed") as running:
                said = await running.said()
                assert running.process.returncode == 1
                assert (
                    said
                    == 'slipstream: the server refused rooms:closed: {"reason": "unauthorized"}\n'
                )
            async with listen(server.url, "phoenix") as running:
                said = await running.said()
                assert running.process.returncode == 2
                assert (
                    said
                    == "slipstream: topic is 'phoenix', which is the socket's own and cannot be joined\n"
                )
            server.refuse_connects(403)
            async with listen(server.url, "rooms:1") as running:
                said = await running.said()
                assert running.process.returncode == 1
                assert "403" in said
                assert len(said.splitlines()) == 1


async def test_what_a_terminal_would_obey_is_not_printed_and_narrow_ones_do() -> None:
    with trio.fail_after(30):
        async with PhoenixServer({"rooms:*": Room}) as server:
            async with listen(server.url, "rooms:1") as running:
                await server.wait_joined("rooms:1", within=20)
                server.broadcast("rooms:1", "\x1b[31m", {"t": "\x9b31m"})
                server.broadcast("rooms:1", "\u00e9", {"t": "\u65e5"})
                assert await running.line() == 'rooms:1 \\x1b[31m {"t": "\\u009b31m"}'
                assert await running.line() == 'rooms:1 \u00e9 {"t": "\u65e5"}'
            async with listen(server.url, "rooms:2", PYTHONIOENCODING="ascii") as running:
                await server.wait_joined("rooms:2", within=20)
                server.broadcast("rooms:2", "news", {"t": "\u65e5"})
                assert await running.line() == 'rooms:2 news {"t": "\\u65e5"}'


async def test_it_can_be_interrupted_while_it_waits_for_a_server() -> None:
    with trio.fail_after(30):
        async with PhoenixServer({"rooms:*": Room}) as server:
            server.refuse_connects(503)
            async with listen(server.url, "rooms:1") as running:
                await server.wait_until(lambda: len(server.requests) == 1, within=20)
                running.process.send_signal(signal.SIGINT)
                said = await running.said()
                assert running.process.returncode == 0, said


async def test_a_reader_that_goes_away_ends_it_quietly() -> None:
    with trio.fail_after(30):
        async with PhoenixServer({"rooms:*": Room}) as server:
            async with listen(server.url, "rooms:1", "--json") as running:
                await server.wait_joined("rooms:1", within=20)
                assert running.process.stdout is not None
                await running.process.stdout.aclose()
                server.broadcast("rooms:1", "news", {"n": 1})
                said = await running.said()
                assert running.process.returncode == 0
                assert "Traceback" not in said
                assert "BrokenPipe" not in said


def test_alone_it_says_what_there_is() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "slipstream"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "demo" in done.stderr
    assert "listen" in done.stderr


@pytest.mark.parametrize("command", [[], ["demo"], ["listen"]])
def test_help_is_no_error(command: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["slipstream", *command, "--help"])
        assert run_app() == 0


def test_without_the_extra_one_line_says_what_to_install() -> None:
    block = "import sys; sys.modules['rich'] = None; from slipstream.cli import main; main()"
    done = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-c", block], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 1
    assert done.stderr == "the slipstream command needs rich: pip install 'slipstream[cli]'\n"


def test_another_missing_module_is_no_matter_of_extras() -> None:
    block = "import sys; sys.modules['attrs'] = None; from slipstream.cli import main; main()"
    done = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-c", block],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ},
    )
    assert "ModuleNotFoundError" in done.stderr


def test_it_tells_its_version() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "slipstream", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("slipstream, version ")
