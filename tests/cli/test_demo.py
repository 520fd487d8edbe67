"""``slipstream demo``: it exits with 0 only if everything really came back."""

import os
import re
import signal
import subprocess
import sys
from typing import Any

import pytest
import trio
from rich.console import Console

from slipstream.cli import _demo
from slipstream.errors import ConfigError
from slipstream.testing import PhoenixServer

STEPS = ["start", "connection cut", "channel crashed", "client crashed", "server restarted"]


def run_command(*args: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "slipstream", *args]
    return subprocess.run(  # noqa: S603 - our own command
        command, capture_output=True, text=True, timeout=60, check=False, **options
    )


def test_the_demo_recovers_from_everything_and_says_so_in_plain_lines() -> None:
    # A proxy of the machine has nothing to do with it.
    away = {"ALL_PROXY": "http://127.0.0.1:9"}
    done = run_command("demo", env={**os.environ, "COLUMNS": "120", **away})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\x1b" not in done.stdout
    assert done.stderr == ""
    for step in STEPS:
        row = next(line for line in done.stdout.splitlines() if line.startswith(f"│ {step}"))
        assert "never" not in row
    for callback in ("handle_disconnect", "handle_topic_close", "terminate"):
        assert callback in done.stdout
    assert done.stdout.count("greeted by the server") == len(STEPS)
    assert "terminate: DemoCrash()" in done.stdout
    assert "connection (worker, permanent, running)" in done.stdout
    assert "Everything came back." in done.stdout


def test_colours_are_for_terminals_and_not_where_nobody_wants_them() -> None:
    forced = run_command("demo", env={**os.environ, "FORCE_COLOR": "1"})
    plain = run_command("demo", env={**os.environ, "FORCE_COLOR": "1", "NO_COLOR": "1"})
    assert "\x1b[" in forced.stdout
    # No colour, of the foreground or the background, bright or not; bold and dim are none.
    assert not re.search(r"\x1b\[(\d+;)*(3|4|9|10)\d[;m]", plain.stdout)


def test_a_recovery_that_does_not_happen_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PhoenixServer, "drop", lambda self: None)
    monkeypatch.setattr(_demo, "_STEP_LIMIT", 0.5)
    with (console := Console(width=120)).capture() as capture:
        assert _demo.run_demo(console) == 1
    assert "Not recovered: connection cut.\n" in capture.get()
    assert "│ connection cut │" in capture.get()
    assert "never" in capture.get()
    assert "channel crashed" not in capture.get()


def test_a_greeting_alone_is_no_recovery() -> None:
    seen = ["handle_disconnect", "handle_disconnect", "handle_connect", "handle_join", "greeted"]
    assert _demo._in_order(("handle_disconnect", "handle_connect", "handle_join"), seen)
    assert not _demo._in_order(("handle_topic_close", "handle_join"), seen)
    assert not _demo._in_order(("handle_join", "handle_connect"), seen)


def test_another_recovery_than_the_one_that_was_due_is_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The client greets again, but no channel crashed.
    monkeypatch.setattr(PhoenixServer, "crash", lambda self, topic: self.drop())
    with (console := Console(width=120)).capture() as capture:
        assert _demo.run_demo(console) == 1
    assert "Not recovered: channel crashed.\n" in capture.get()


def test_a_watcher_gets_time_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(_demo, "_TIME_TO_READ", 0.01)

    async def sleep(seconds: float) -> None:
        waited.append(seconds)
        await trio.lowlevel.checkpoint()

    monkeypatch.setattr(_demo, "_pause", sleep)
    with (console := Console(width=120, force_terminal=True)).capture():
        assert _demo.run_demo(console) == 0
    assert waited == [0.01] * len(STEPS)


def interrupted_demo() -> tuple[int, str, str]:
    """Run the demo, and interrupt it when the first connection is there."""
    with subprocess.Popen(
        [sys.executable, "-m", "slipstream", "demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "handle_connect" in line:
                break
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    return process.returncode, out, err


def test_an_interrupted_demo_says_so_without_a_traceback() -> None:
    code, out, err = interrupted_demo()
    for _ in range(9):
        # On a busy machine the whole demo may be over before anyone here comes to interrupt it.
        if "Everything came back" not in out:
            break
        code, out, err = interrupted_demo()
    assert (code, err) == (130, "")
    assert out.endswith("Interrupted.\n")


@pytest.mark.parametrize(
    "error",
    [OSError("no free port"), ExceptionGroup("", [ConfigError("no free port")])],
)
def test_a_demo_that_cannot_even_start_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    async def fail(self: PhoenixServer) -> None:
        await trio.lowlevel.checkpoint()
        raise error

    monkeypatch.setattr(PhoenixServer, "__aenter__", fail)
    assert _demo.run_demo(Console(width=120)) == 1
    assert capsys.readouterr().err == "The demo failed: no free port\n"


def test_a_demo_that_runs_out_of_time_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_demo, "_LIMIT", 0.05)
    with (console := Console(width=120)).capture() as capture:
        assert trio.run(_demo._demo, console) == 1
    assert "ran out of time" in capture.get()
