"""``slipstream.run`` as a main program: what a shell sees of it."""

import signal
import subprocess
import sys

import pytest
import trio

PROGRAM = """
import logging, sys
import slipstream, trio

class Worker(slipstream.GenServer):
    async def init(self, argument):
        print("up", flush=True)
        match argument:
            case "crash": self.ref.cast("crash")
            case "refuse": raise ValueError("no")
            case "leave": self.ref.cast("leave")
            case _: pass
    async def handle_cast(self, message):
        if message == "leave":
            raise SystemExit(7)
        raise ValueError("a bug")
    async def terminate(self, reason):
        print("down", flush=True)
        if sys.argv[1] == "stubborn":
            await trio.sleep(60)

logging.basicConfig(level="INFO", format="%(message).60s", stream=sys.stdout)
logging.getLogger("slipstream").addFilter(lambda record: not hasattr(record, "report"))
slipstream.run([Worker.child_spec(sys.argv[1], id="worker", shutdown=50.0)])
"""


@pytest.mark.parametrize(
    ("what", "code", "says"),
    [
        ("crash", 1, "ended by SupervisorGaveUpError"),
        ("refuse", 1, "ended by StartError"),
        ("leave", 7, "ended by SystemExit, exit code 7"),
    ],
)
def test_the_outcome_is_the_exit_code(what: str, code: int, says: str) -> None:
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", PROGRAM, what], capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    assert done.stdout.splitlines()[-1] == says


@pytest.mark.parametrize(
    ("what", "signals", "said"),
    [
        (
            "wait",
            [signal.SIGTERM],
            [
                "up",
                "SIGTERM: stopping in order; another signal kills",
                "down",
                "stopped by SIGTERM, exit code 143",
            ],
        ),
        (
            "stubborn",
            [signal.SIGINT, signal.SIGTERM],
            [
                "up",
                "SIGINT: stopping in order; another signal kills",
                "down",
                "SIGTERM after the first signal: killing what still runs",
                "stopped by SIGINT, exit code 130",
            ],
        ),
    ],
)
async def test_signals_stop_it_in_order_or_kill_it(
    what: str, signals: list[signal.Signals], said: list[str]
) -> None:
    with trio.fail_after(30):
        process = await trio.lowlevel.open_process(
            [sys.executable, "-c", PROGRAM, what], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        read = b""
        async with process.stdout:
            for number, mark in zip(signals, (b"up\n", b"down\n"), strict=False):
                while mark not in read:
                    read += await process.stdout.receive_some()
                process.send_signal(number)
            async for data in process.stdout:
                read += data
        assert await process.wait() == 128 + signals[0]
    assert read.decode().splitlines() == said
