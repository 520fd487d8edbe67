"""Delayed restarts, and restarts while something else goes on."""

import logging
import math
from typing import Any

import pytest
import trio
from hypothesis import example, given, strategies as st

from slipstream.errors import ConfigError, SupervisorGaveUpError
from slipstream.otp import (
    Backoff,
    ChildStatus,
    Supervisor,
    SupervisorRef,
    open_supervisor,
)
from slipstream.reasons import NORMAL, Crashed, ExitReason
from tests.otp.support import (
    Boom,
    Diary,
    Flaky,
    Puppet,
    crash,
    end,
    ping,
    puppet,
    records,
    settle,
    sleep_then,
    started,
    virtual,
)


@virtual
async def test_backoff_delays_a_restart_that_does_not_count() -> None:
    """A number delays; the count tells how often since it last lived max_seconds."""
    asked: list[tuple[ExitReason, int]] = []
    diary = Diary()
    boom = Boom("again")

    def backoff(reason: ExitReason, count: int) -> float:
        asked.append((reason, count))
        return 2.0 * (count + 1)

    start = trio.current_time()

    def note(me: Puppet) -> None:
        me.write("at", trio.current_time() - start)

    spec = puppet("a", diary, init=note, backoff=backoff)
    async with open_supervisor([spec], max_restarts=0, max_seconds=5.0) as supervisor:
        for _ in range(3):
            supervisor.child("a").cast(crash(boom))
            await settle()
            (info,) = supervisor.which_children()
            assert (info.ref, info.status) == (None, ChildStatus.RESTARTING)
            assert supervisor.count_children() == (1, 0, 0, 1)
            while not supervisor.child("a").alive:
                await trio.sleep(1.0)
                await settle()
        await trio.sleep(5.0)  # long enough to begin anew
        supervisor.child("a").cast(crash(boom))
        await settle()
        assert supervisor.alive
    assert [reason for reason, _ in asked] == [Crashed(boom)] * 4
    counts = [count for _, count in asked]
    assert counts[1] == counts[0] + 1
    assert counts[2] == counts[0] + 2
    assert counts[3] == counts[0]
    gaps = [entry[1] for entry in diary.of("at")]
    assert gaps == [0.0, *[pytest.approx(gaps[n] + 2.0 * (counts[n] + 1)) for n in range(3)]]


@virtual
async def test_backoff_that_gives_none_counts_and_restarts_at_once() -> None:
    spec = puppet("a", backoff=lambda *_: None)
    with pytest.raises(SupervisorGaveUpError):
        async with open_supervisor([spec], max_restarts=1) as supervisor:
            supervisor.child("a").cast(crash())
            await settle()
            assert await supervisor.child("a").call(ping) == 2
            supervisor.child("a").cast(crash())
            await trio.sleep_forever()


@virtual
async def test_a_failed_restart_asks_backoff_again() -> None:
    """Its reason is that of the failed start."""
    asked: list[ExitReason] = []
    boom = Boom("start")

    def backoff(reason: ExitReason, _: int) -> float:
        asked.append(reason)
        return 1.0

    spec = puppet("a", init=Flaky(None, boom, boom), backoff=backoff)
    async with open_supervisor([spec], max_restarts=0) as supervisor:
        supervisor.child("a").cast(end(NORMAL))
        await trio.sleep(10.0)
        assert await supervisor.child("a").call(ping) == 4
    assert asked == [NORMAL, Crashed(boom), Crashed(boom)]


@pytest.mark.parametrize("value", [-1.0, float("nan"), "soon", True])
@virtual
async def test_a_backoff_that_gives_something_else_does_not_stop_the_restarts(value: Any) -> None:
    """Bad input of a policy: counted and at once, or an end that says so; never a hang."""
    spec = puppet("a", backoff=lambda *_: value)
    async with open_supervisor([]) as root:
        sub = Supervisor.child_spec([spec], id="sub", restart="temporary")
        ref = await root.start_child(sub)
        assert isinstance(ref, SupervisorRef)
        one = ref.pin()
        ref.child("a").cast(crash())
        await settle()
        if one.alive:
            assert ref.child("a").alive
        else:
            assert (await one.wait()).abnormal


@virtual
async def test_a_delayed_restart_is_cancelled_by_a_stop() -> None:
    diary = Diary()
    async with open_supervisor([puppet("a", diary, backoff=lambda *_: 5.0)]) as supervisor:
        supervisor.child("a").cast(crash())
        await settle()
        before = trio.current_time()
    assert trio.current_time() == before
    await trio.sleep(10.0)
    assert started(diary) == ["a"]


@virtual
async def test_a_delayed_restart_in_a_group_waits_for_the_whole_group() -> None:
    """With one_for_all the others are down meanwhile, or up: but after it all are up, once."""
    diary = Diary()
    children = [puppet("a", diary, backoff=lambda *_: 5.0), puppet("b", diary)]
    async with open_supervisor(children, strategy="one_for_all", max_restarts=0) as supervisor:
        supervisor.child("a").cast(crash())
        await trio.sleep(6.0)
        assert supervisor.count_children() == (2, 2, 0, 2)
    assert started(diary) == ["a", "b", "a", "b"]


@virtual
async def test_a_crash_during_a_slow_group_restart_is_not_lost() -> None:
    """TRI-003: it comes while the supervisor starts the next one."""
    diary = Diary()
    children = [
        puppet("a", diary),
        puppet("b", diary, init=sleep_then(1.0)),
    ]
    async with open_supervisor(children, strategy="one_for_all") as supervisor:
        supervisor.child("a").cast(crash())
        await trio.sleep(0.5)  # a is up again, b starts
        supervisor.child("a").cast(crash())
        await trio.sleep(5.0)
        assert supervisor.count_children() == (2, 2, 0, 2)
    assert started(diary) == ["a", "b"] * 3


@virtual
async def test_a_start_by_request_says_nothing_and_a_later_crash_does(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """SUP-046."""
    caplog.set_level(logging.INFO)
    async with open_supervisor([]) as supervisor:
        await supervisor.start_child(puppet("a", restart="temporary"))
        assert records(caplog, logging.INFO) == []
        supervisor.child("a").cast(crash())
        await settle()
        contexts = [getattr(r.report, "context", "crash") for r in records(caplog, logging.INFO)]
        assert contexts == ["crash", "child_terminated"]


# -- Backoff


def highest(_: float, high: float) -> float:
    return high


@given(
    st.floats(0.0, 1e9),
    st.floats(1.0, 1e9),
    st.floats(0.0, 1e9),
    st.integers(0, 60) | st.integers(0, 10**400),
)
@example(0.0, 1e9, 1.0, 60)
def test_backoff_draws_from_a_range_that_grows_to_its_limit(
    first: float, factor: float, maximum: float, restarts: int
) -> None:
    """However huge the numbers are."""
    ranges: list[tuple[float, float]] = []

    def note(low: float, high: float) -> float:
        ranges.append((low, high))
        return high

    drawn = Backoff(first, factor, maximum, uniform=note)(NORMAL, restarts)
    ((low, high),) = ranges
    assert (low, high) == (0.0, drawn)
    if restarts <= 60:
        # Nothing, however often it grows, is nothing; the product alone would be no number.
        exact = min(maximum, first * math.prod([factor] * restarts)) if first else 0.0
        assert high == pytest.approx(exact, rel=1e-9)
    assert 0.0 <= Backoff(first, factor, maximum)(NORMAL, restarts) <= high


@pytest.mark.parametrize("field", ["first", "factor", "maximum"])
@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf, "1", None, True])
def test_backoff_checks_its_numbers(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"Backoff\.{field}={value!r} is wrong: it takes"):
        Backoff(**{field: value})
    with pytest.raises(ConfigError, match="1 or more"):
        Backoff(factor=0.5)


@virtual
async def test_a_child_with_a_backoff_is_restarted_ever_later_and_nobody_gives_up() -> None:
    diary = Diary()
    spec = puppet(
        "a",
        diary,
        init=lambda me: me.write("at", trio.current_time()),
        backoff=Backoff(1.0, 3.0, 20.0, uniform=highest),
    )
    async with open_supervisor([spec], max_restarts=0, max_seconds=100.0) as supervisor:
        for _ in range(5):
            supervisor.child("a").cast(crash())
            await trio.sleep(25.0)
            assert supervisor.child("a").alive
    begin, *restarts = (at for _, at in diary.of("at"))
    delays = [at - begin - 25.0 * number for number, at in enumerate(restarts)]
    assert delays == pytest.approx([1.0, 3.0, 9.0, 20.0, 20.0])
