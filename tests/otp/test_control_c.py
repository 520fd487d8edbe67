"""Control-C and its kin: no crash, the end of the tree."""

import os
import signal
import subprocess
import sys
import threading
from typing import Any

import pytest
import trio
import trio.lowlevel

from slipstream.otp import (
    Supervisor,
    open_supervisor,
)
from tests.otp.support import (
    Diary,
    Puppet,
    crash,
    live_tasks,
    puppet,
    started,
    stopped,
    virtual,
)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("where", ["callback", "init", "terminate", "helper", "nursery"])
def test_what_is_no_exception_ends_the_tree_in_order_and_leaves_it_bare(
    error: type[BaseException], where: str
) -> None:
    """TRI-040, TRI-042, TRI-043: it is no crash, and nothing is restarted."""
    diary = Diary()
    fatal = error(3)

    async def helper(*_: Any) -> None:
        raise fatal

    async def own_nursery(_: Puppet) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(helper)

    spec = puppet(
        "b",
        diary,
        init=crash(fatal) if where == "init" else None,
        terminate=crash(fatal) if where == "terminate" else None,
    )

    async def main() -> None:
        before = live_tasks()
        try:
            async with open_supervisor([puppet("a", diary), puppet("c", diary)]) as supervisor:
                match where:
                    case "init":
                        await supervisor.start_child(spec)
                    case _:
                        await supervisor.start_child(spec)
                        ref = supervisor.child("b")
                        match where:
                            case "helper":
                                ref.cast(lambda me: me.start_soon(helper))
                            case "nursery":
                                ref.cast(own_nursery)
                            case "callback":
                                ref.cast(crash(fatal))
                            case _:
                                await supervisor.terminate_child("b")
                await trio.sleep_forever()
        finally:
            await trio.lowlevel.cancel_shielded_checkpoint()
            assert live_tasks() == before

    with pytest.raises(error) as raised:
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert raised.value is fatal
    assert started(diary) == ["a", "c", "b"]
    rest = [name for name in stopped(diary) if name != "b"]
    assert rest == ["c", "a"]


@virtual
async def test_what_is_no_exception_in_a_deep_leaf_stops_the_whole_tree() -> None:
    """TRI-040: in order, from the root."""
    diary = Diary()
    sub = Supervisor.child_spec([puppet("x", diary), puppet("y", diary)], id="sub")
    with pytest.raises(KeyboardInterrupt):
        async with open_supervisor([puppet("a", diary), sub, puppet("z", diary)]) as supervisor:
            supervisor.child("sub").child("x").cast(crash(KeyboardInterrupt()))  # type: ignore[attr-defined] # a SupervisorRef
            await trio.sleep_forever()
    assert [name for name in stopped(diary) if name != "x"] == ["z", "y", "a"]


def _raise_sigint_soon(delay: float = 0.05) -> threading.Timer:
    timer = threading.Timer(delay, signal.raise_signal, (signal.SIGINT,))
    timer.start()
    return timer


def test_a_sigint_while_idle_stops_in_order() -> None:
    """TRI-041: trio's own, on the real clock."""
    diary = Diary()

    async def main() -> None:
        with trio.fail_after(20.0):
            async with open_supervisor([puppet("a", diary), puppet("b", diary)]):
                signal.raise_signal(signal.SIGINT)
                await trio.sleep_forever()

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
    assert stopped(diary) == ["b", "a"]


def test_a_second_sigint_during_the_ordered_stop_kills() -> None:
    """TRI-041."""
    diary = Diary()

    async def goodbye(me: Puppet, _: Any) -> None:
        me.write("says goodbye")
        signal.raise_signal(signal.SIGINT)
        await trio.sleep_forever()

    async def main() -> None:
        with trio.fail_after(20.0):
            children = [puppet("a", diary), puppet("b", diary, terminate=goodbye, shutdown=15.0)]
            async with open_supervisor(children):
                signal.raise_signal(signal.SIGINT)
                await trio.sleep_forever()

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
    assert "b" in diary.names("says goodbye")
    assert stopped(diary) == ["b"]


def test_a_signal_at_any_opcode_ends_the_tree_in_order_and_leaves_it_bare() -> None:
    """TRI-044: at every eleventh here; the program takes every one with the argument 1."""
    # Two tracers would be in each other's way.
    env = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")}
    ended = subprocess.run(
        [sys.executable, "-m", "tests.otp.interrupted", "11"],
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) > 1000
