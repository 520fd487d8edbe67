"""The kit for processes: waits, exits, a recorder, leaks."""

import time
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from slipstream.otp import ServerRef, Stop, open_server, open_supervisor
from slipstream.reasons import KILLED, NORMAL, SHUTDOWN, Crashed, Shutdown
from slipstream.testing.otp import (
    Recorder,
    advance,
    assert_exits,
    settle,
    wait_until,
)
from tests.otp.support import Puppet, crash, end, puppet

CLOCKS = {"jumps": lambda: MockClock(autojump_threshold=0), "stands still": MockClock}


@pytest.fixture(params=CLOCKS)
def a_clock(request: pytest.FixtureRequest) -> MockClock:
    """Time that jumps by itself, and time that stands still until it is let go on."""
    return CLOCKS[request.param]()


async def test_a_wait_is_for_a_process_or_for_whatever_holds(a_clock: Any) -> None:
    async with open_supervisor([puppet("a", backoff=lambda *_: 3.0)]) as supervisor:
        ref = supervisor.child("a")
        await wait_until(ref)
        ref.cast(crash())
        await settle()
        with pytest.raises(AssertionError, match=r"expected within 1 s: <ServerRef a> lives"):
            await wait_until(ref, within=1.0)
        await wait_until(ref)
        assert trio.current_time() >= 3.0
        with pytest.raises(AssertionError, match="never_true"):
            await wait_until(never_true)
        later = trio.current_time() + 2.0
        await wait_until(lambda: trio.current_time() >= later)


def alive(ref: ServerRef) -> bool:
    return ref.alive


def never_true() -> bool:
    return False


async def test_an_exit_is_asserted_with_its_reason(a_clock: Any) -> None:
    async with open_supervisor(
        [puppet(name, restart="temporary") for name in "abcd"]
    ) as supervisor:
        a, b, c, d = (supervisor.child(name) for name in "abcd")
        a.cast(end(Shutdown("x")))
        assert await assert_exits(a, Shutdown("x")) == Shutdown("x")
        b.cast(crash())
        await assert_exits(b, Crashed)
        c.kill()
        with pytest.raises(
            AssertionError, match=r"ended, but reason: expected Normal\(\), got Kill"
        ):
            await assert_exits(c, NORMAL)
        with pytest.raises(AssertionError, match="to end within 1 s"):
            await assert_exits(d, KILLED, within=1.0)


async def test_a_recorder_writes_down_what_it_gets(a_clock: Any) -> None:
    diary: list[tuple[str, Any]] = []
    async with open_server(Recorder, diary) as ref:
        ref.cast(1)
        ref.send(2)
        assert await ref.call(3) == 3
    assert diary == [("cast", 1), ("info", 2), ("call", 3), ("terminate", SHUTDOWN)]


async def test_time_passes_in_order(a_clock: Any) -> None:
    async with open_server(Puppet) as ref:
        ref.send_after(60.0, lambda *_: Stop(NORMAL))
        began = time.perf_counter()
        await advance(59.0)
        assert alive(ref)
        await advance(1.0)
        assert not alive(ref)
        assert time.perf_counter() - began < 30.0


async def test_on_a_real_clock_one_waits_as_well() -> None:
    async with open_server(Puppet, restart="temporary") as ref:
        await wait_until(ref)
        ref.send_after(0.01, end(NORMAL))
        assert await assert_exits(ref) == NORMAL
        assert await assert_exits(ref, NORMAL) == NORMAL
