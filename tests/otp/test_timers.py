"""The heap of deadlines: everything happens once, in time and in order, unless it is cancelled."""

import math
from functools import partial
from typing import Any

import pytest
import trio
from hypothesis import given, settings, strategies as st

from slipstream.otp._timers import Alarm, Timers
from tests.otp.support import live_tasks, run_virtually, virtual

operations = st.lists(
    st.one_of(
        st.tuples(st.just("at"), st.integers(0, 6)),
        st.tuples(st.just("cancel"), st.integers(0, 30)),
        st.tuples(st.just("advance"), st.integers(0, 4)),
    ),
    max_size=40,
)


@settings(max_examples=100, deadline=None)
@given(operations)
def test_alarms_agree_with_a_sorted_list(script: list[tuple[str, int]]) -> None:
    async def scenario() -> None:
        rung: list[tuple[int, float]] = []
        expected: list[tuple[int, float]] = []
        alarms: list[Alarm] = []
        pending: list[tuple[float, int]] = []
        timers = Timers.acquire()

        def ring(serial: int) -> None:
            rung.append((serial, trio.current_time()))

        for what, number in script:
            match what:
                case "at":
                    deadline, serial = trio.current_time() + number + 0.25, len(alarms)
                    alarms.append(timers.at(deadline, partial(ring, serial)))
                    pending.append((deadline, serial))
                case "cancel" if alarms:
                    serial = number % len(alarms)
                    alarms[serial].cancel()
                    pending = [entry for entry in pending if entry[1] != serial]
                case _:
                    # Never to the very instant of a deadline: nobody can say who runs first in it.
                    await trio.sleep(number + 0.5)
                    now = trio.current_time()
                    due = sorted(entry for entry in pending if entry[0] <= now)
                    expected += [(serial, deadline) for deadline, serial in due]
                    pending = [entry for entry in pending if entry[0] > now]
                    assert rung == expected
        await timers.release()

    run_virtually(scenario)


@virtual
async def test_many_cancelled_alarms_are_forgotten_and_the_others_still_ring() -> None:
    """Time-outs of calls that were answered must not pile up."""
    rung: list[int] = []
    timers = Timers.acquire()
    first = timers.at(trio.current_time() + 1.0, lambda: rung.append(-1))
    alarms = [
        timers.at(trio.current_time() + 2.0 + number, partial(rung.append, number))
        for number in range(500)
    ]
    for alarm in alarms[:-1]:
        alarm.cancel()
        alarm.cancel()
    assert len(timers._heap) < 200
    await trio.sleep(1_000.0)
    assert rung == [-1, 499]
    first.cancel()
    await timers.release()


@virtual
async def test_an_alarm_at_infinity_never_rings_and_can_be_cancelled() -> None:
    timers = Timers.acquire()
    alarm = timers.at(math.inf, lambda: pytest.fail("it rang"))
    await trio.sleep(100.0)
    alarm.cancel()
    assert timers._heap == []
    await timers.release()


@virtual
async def test_users_share_one_task_and_the_last_one_ends_it() -> None:
    before = live_tasks()
    one, two = Timers.acquire(), Timers.acquire()
    assert one is two
    assert len(live_tasks()) == len(before) + 1
    rung: list[Any] = []
    await one.release()
    two.at(trio.current_time() + 1.0, lambda: rung.append(True))
    await trio.sleep(2.0)
    assert rung == [True]
    await two.release()
    assert live_tasks() == before
    three = Timers.acquire()
    assert three is not one
    await three.release()


@virtual
async def test_what_an_alarm_does_may_set_and_cancel_others() -> None:
    rung: list[str] = []
    timers = Timers.acquire()
    now = trio.current_time()
    doomed = timers.at(now + 1.0 + 1e-9, lambda: rung.append("doomed"))

    def act() -> None:
        rung.append("first")
        doomed.cancel()
        timers.at(trio.current_time(), lambda: rung.append("at once"))
        timers.at(now + 1.5, lambda: rung.append("later"))

    timers.at(now + 1.0, act)
    await trio.sleep(3.0)
    assert rung == ["first", "at once", "later"]
    await timers.release()
