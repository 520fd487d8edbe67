"""``slipstream demo``: it exits with 0 only if everything really came back."""

import os
import subprocess
import sys
from typing import Any

import pytest
import trio
from rich.console import Console

from slipstream.cli import _demo
from slipstream.testing import PhoenixServer

STEPS = ["start", "connection cut", "channel crashed", "client crashed", "server restarted"]


def run_command(*args: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "slipstream", *args]
    return subprocess.run(  # noqa: S603 - our own command
        command, capture_output=True, text=True, timeout=60, check=False, **options
    )


def test_the_demo_recovers_from_everything_and_says_so_in_plain_lines() -> None:
    done = run_command("demo", env={**os.environ, "COLUMNS": "120"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\x1b" not in done.stdout
    assert done.stderr == ""
    for step in STEPS:
        row = next(line for line in done.stdout.splitlines() if line.startswith(f"│ {step}"))
        assert "never" not in row
    for callback in ("handle_disconnect", "handle_topic_close", "terminate"):
        assert callback in done.stdout
    assert "connection (worker, permanent, running)" in done.stdout
    assert "Everything came back." in done.stdout


def test_colours_are_for_terminals_and_not_where_nobody_wants_them() -> None:
    forced = run_command("demo", env={**os.environ, "FORCE_COLOR": "1"})
    plain = run_command("demo", env={**os.environ, "FORCE_COLOR": "1", "NO_COLOR": "1"})
    assert "\x1b[" in forced.stdout
    assert "\x1b[3" not in plain.stdout  # no colour; bold and dim are none


def test_a_recovery_that_does_not_happen_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PhoenixServer, "drop", lambda self: None)
    monkeypatch.setattr(_demo, "_STEP_LIMIT", 0.5)
    with (console := Console(width=120)).capture() as capture:
        assert trio.run(_demo._demo, console) == 1
    assert "Not recovered: connection cut" in capture.get()


def test_a_demo_that_runs_out_of_time_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_demo, "_LIMIT", 0.05)
    with (console := Console(width=120)).capture() as capture:
        assert trio.run(_demo._demo, console) == 1
    assert "ran out of time" in capture.get()
