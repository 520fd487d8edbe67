"""The pytest plugin, in runs of its own."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

HEAD = """
import socket
import pytest, trio
from slipstream import SlipstreamClient

class Lobby(SlipstreamClient):
    async def handle_connect(self, socket):
        socket.join("rooms:lobby", {"user": 1})

    async def handle_join(self, topic, response, socket):
        await socket.push(topic, "new:msg", {"body": "hello"})

    async def handle_message(self, topic, event, payload, socket):
        raise ValueError(event)
"""


def run(tmp_path: Path, test: str, *options: str) -> str:
    """Run one file of tests, with the plugin as it is installed, and give what pytest prints."""
    (tmp_path / "test_it.py").write_text(HEAD + test, "utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += ["--rootdir", str(tmp_path), *options]
    done = subprocess.run(  # noqa: S603 - it is our own program
        [*command, str(tmp_path)], capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


def test_a_first_test_is_eight_lines_and_needs_no_mode_and_no_clock(tmp_path: Path) -> None:
    told = run(
        tmp_path,
        """
async def test_greets(socket_test):
    async with socket_test(Lobby) as test:
        await test.accept_connect()
        await test.accept_join("rooms:lobby")
        push = await test.assert_push("rooms:lobby", "new:msg", {"body": "hello"})
        await test.reply(push, {"seen": True})
        await test.refute_push(within=3600.0)

async def test_with_a_clock_of_its_own(socket_test, mock_clock):
    async with socket_test(Lobby) as test:
        await test.connect_and_join("rooms:lobby")
        assert trio.lowlevel.current_clock() is mock_clock

async def test_on_a_real_clock(leak_check):
    assert not hasattr(trio.lowlevel.current_clock(), "jump")
""",
    )
    assert "3 passed" in told, told


@pytest.mark.parametrize("fixture", ["socket_test", "leak_check"])
def test_what_is_left_behind_fails_the_test(tmp_path: Path, fixture: str) -> None:
    told = run(
        tmp_path,
        f"""
kept = []

async def test_task({fixture}):
    trio.lowlevel.spawn_system_task(trio.sleep_forever, name="lingering")

async def test_socket({fixture}):
    kept.append(socket.create_server(("127.0.0.1", 0)))

async def test_neither({fixture}, nursery):
    nursery.start_soon(trio.sleep_forever)
    with socket.socket():
        await trio.sleep(0)
""",
    )
    assert "left behind:\nE         task lingering" in told, told
    assert "left behind:\n  socket " in told
    assert "1 failed, 2 passed, 1 error" in told


def test_a_failure_of_the_test_s_own_tells_what_had_happened(tmp_path: Path) -> None:
    told = run(
        tmp_path,
        """
async def test_wrong(socket_test):
    async with socket_test(Lobby) as test:
        await test.connect_and_join("rooms:lobby")
        assert test.assigns == {"n": 1}

async def test_crash(socket_test):
    async with socket_test(Lobby) as test:
        await test.connect_and_join("rooms:lobby")
        await test.push("rooms:lobby", "boom")
""",
    )
    assert "what had happened:\nE" in told, told
    assert "client    → rooms:lobby phx_join {'user': 1}" in told
    assert "ValueError: boom" in told
    assert "+ Exception Group" not in told  # what is alone in a group is shown as it is
    assert re.search(r"> +assert test\.assigns == \{", told)
    assert "the client crashed: ValueError('boom')" in told
    assert "2 failed" in told


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    told = run(tmp_path, "async def test_it(socket_test): ...", "-p", "no:trio")
    assert "uses socket_test, which needs pytest-trio: pip install 'slipstream[testing]'" in told


def test_nothing_is_imported_before_a_fixture_is_used(tmp_path: Path) -> None:
    """The module is installed beside the package, which importing it there does not bring along."""
    kept = "{'slipstream', 'trio', 'hypothesis'} & {*sys.modules}"
    program = f"import sys, _slipstream_pytest; print(*{kept})"
    done = subprocess.run(  # noqa: S603 - it is our own program
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []
