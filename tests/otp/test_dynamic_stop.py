"""How a dynamic supervisor stops its children: all at once, and what it keeps of them."""

import gc
import math
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import trio

from slipstream.errors import ChildNotFoundError
from slipstream.otp import (
    ChildSpec,
    DynamicSupervisor,
    DynamicSupervisorRef,
    Exit,
    ServerRef,
    Start,
    open_supervisor,
    start_of,
)
from slipstream.reasons import KILLED, NORMAL, SHUTDOWN, Crashed, ExitReason, Shutdown
from tests.otp.support import (
    Boom,
    Diary,
    Puppet,
    Role,
    counting_steps,
    crash,
    end,
    open_dynamic,
    ping,
    puppet,
    records,
    settle,
    sleep_then,
    start,
    stopped,
    virtual,
)


def leave(reason: ExitReason) -> Callable[..., Any]:
    """Give a goodbye that ends with *reason* instead."""

    def act(*_: Any) -> None:
        raise Exit(reason)

    return act


HANG = sleep_then(math.inf)
OOPS = Shutdown("oops")
BROKEN = Crashed(Boom("goodbye"))

CASES: dict[str, tuple[dict[str, Any], ExitReason, bool]] = {
    "brutal": ({"shutdown": "brutal_kill"}, KILLED, False),
    "infinity": ({"shutdown": math.inf}, SHUTDOWN, False),
    "seconds": ({"shutdown": 5.0}, SHUTDOWN, False),
    "zero": ({"shutdown": 0, "terminate": HANG}, KILLED, True),
    "infinity, own detail": ({"shutdown": math.inf, "terminate": leave(OOPS)}, OOPS, False),
    "seconds, own detail": ({"shutdown": 5.0, "terminate": leave(OOPS)}, OOPS, False),
    "expired": ({"shutdown": 1.0, "terminate": HANG}, KILLED, True),
    "permanent, normal": ({"terminate": leave(NORMAL)}, NORMAL, True),
    "transient, normal": ({"terminate": leave(NORMAL), "restart": "transient"}, NORMAL, False),
    "temporary, normal": ({"terminate": leave(NORMAL), "restart": "temporary"}, NORMAL, False),
    "crash": ({"terminate": leave(BROKEN), "restart": "temporary"}, BROKEN, True),
}


@pytest.mark.parametrize("by_request", [False, True], ids=["all", "one"])
@pytest.mark.parametrize("case", CASES)
@virtual
async def test_how_a_child_ends_and_what_is_reported(
    case: str, by_request: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """DYN-023, DYN-024, DYN-025, DYN-026, DYN-027, DYN-028, DYN-030: three of them, or one."""
    keywords, reason, reported = CASES[case]
    async with open_supervisor(DynamicSupervisor) as supervisor:
        refs = [await start(supervisor, puppet(str(n), **keywords)) for n in range(3)]
        pins = [ref.pin() for ref in refs]
        if by_request:
            for ref in refs:
                await supervisor.terminate_child(ref)
                with pytest.raises(ChildNotFoundError):
                    await supervisor.terminate_child(ref)
            assert supervisor.count_children() == (0, 0, 0, 0)
            assert supervisor.which_children() == []
    assert [await pin.wait() for pin in pins] == [reason] * 3
    assert await supervisor.wait() == SHUTDOWN
    contexts = [r.report.context for r in records(caplog) if hasattr(r.report, "context")]
    assert contexts == ["shutdown_error"] * (3 if reported else 0)


@virtual
async def test_only_the_child_that_does_not_cooperate_is_killed() -> None:
    """DYN-027, DYN-029, SUP-032: whatever the others are like."""
    diary = Diary()
    async with open_supervisor(DynamicSupervisor) as supervisor:
        pins = [
            (await start(supervisor, spec)).pin()
            for spec in (
                puppet("infinity", diary, shutdown=math.inf),
                puppet("brutal", diary, shutdown="brutal_kill"),
                puppet("idle", diary, shutdown=1.0),
                puppet("busy", diary, shutdown=1.0, terminate=HANG),
                puppet("slow", diary, shutdown=1.0, terminate=sleep_then(0.9)),
            )
        ]
        before = trio.current_time()
    assert trio.current_time() == before + 1.0
    assert [await pin.wait() for pin in pins] == [SHUTDOWN, KILLED, SHUTDOWN, KILLED, SHUTDOWN]
    assert sorted(stopped(diary)) == ["busy", "idle", "infinity", "slow"]


@virtual
async def test_ten_brutal_children_that_are_busy_are_killed() -> None:
    """SUP-034."""
    async with open_supervisor(DynamicSupervisor) as supervisor:
        pins = []
        for _ in range(10):
            ref = await start(supervisor, puppet("a", shutdown="brutal_kill"))
            ref.cast(sleep_then(math.inf))
            pins.append(ref.pin())
        await settle()
        before = trio.current_time()
    assert trio.current_time() == before
    assert [await pin.wait() for pin in pins] == [KILLED] * 10


@virtual
async def test_the_stop_takes_as_long_as_the_slowest_child() -> None:
    """DYN-034, DYN-044: not as long as all of them; the one that is too slow is killed at 2 s."""
    diary = Diary()
    async with open_supervisor(DynamicSupervisor) as supervisor:
        for number in range(50):
            spec = puppet(str(number), diary, terminate=sleep_then(1.0), shutdown=2.0)
            await start(supervisor, spec)
        before = trio.current_time()
    assert trio.current_time() == before + 1.0
    assert sorted(stopped(diary)) == sorted(str(number) for number in range(50))

    async with open_supervisor(DynamicSupervisor) as supervisor:
        pins = [
            (
                await start(supervisor, puppet("a", terminate=sleep_then(seconds), shutdown=2.0))
            ).pin()
            for seconds in (1.0, 60.0, 1.5, 0.0)
        ]
        before = trio.current_time()
    assert trio.current_time() == before + 2.0
    assert [await pin.wait() for pin in pins] == [SHUTDOWN, KILLED, SHUTDOWN, SHUTDOWN]


@virtual
async def test_children_that_end_by_themselves_meanwhile_are_not_restarted() -> None:
    """DYN-044: the stop is not disturbed."""
    diary = Diary()

    async def own_end(_: Puppet) -> Any:
        await trio.sleep(0.5)
        raise Boom("own")

    async with open_supervisor(DynamicSupervisor) as supervisor:
        pins = []
        for _ in range(3):
            ref = await start(supervisor, puppet("a", diary))
            ref.cast(own_end)
            pins.append(ref.pin())
        await start(supervisor, puppet("slow", terminate=sleep_then(2.0)))
        await settle()
        before = trio.current_time()
    assert trio.current_time() == before + 2.0
    assert [type(await pin.wait()) for pin in pins] == [Crashed] * 3
    assert len(diary.names("init")) == 3
    assert await supervisor.wait() == SHUTDOWN


@virtual
async def test_a_supervisor_with_little_time_kills_all_of_them() -> None:
    """DYN-044: its own budget is above theirs; none is left behind."""
    spec = DynamicSupervisor.child_spec(shutdown=2.0)
    async with open_supervisor([spec]) as top:
        supervisor: Any = top.child(DynamicSupervisor)
        one = supervisor.pin()
        pins = [
            (await start(supervisor, puppet("a", terminate=HANG, shutdown=60.0))).pin()
            for _ in range(5)
        ]
        before = trio.current_time()
        await top.terminate_child(DynamicSupervisor)
        assert trio.current_time() == before + 2.0
        assert await one.wait() == KILLED
        assert [await pin.wait() for pin in pins] == [KILLED] * 5


# -- what is kept


class Treasure:
    """Something that is not to be kept."""


class Kept(Puppet):
    """Keeps nothing of what its init gets."""

    async def init(self, *_: Any) -> None:
        await super().init()


def _specs(restart: Any) -> tuple[list[ChildSpec], list[weakref.ref[Treasure]]]:
    one, two = Treasure(), Treasure()
    specs = [
        Kept.child_spec(one, restart=restart, id=1),
        ChildSpec(2, lambda: start_of(Kept, two), restart=restart),
    ]
    return specs, [weakref.ref(one), weakref.ref(two)]


async def _start_and_let_go(supervisor: Any, restart: Any) -> tuple[list[Any], list[ServerRef]]:
    specs, treasures = _specs(restart)
    return treasures, [await start(supervisor, spec) for spec in specs]


def _left(treasures: list[Any]) -> int:
    gc.collect()
    return sum(treasure() is not None for treasure in treasures)


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
@virtual
async def test_the_arguments_of_temporary_children_are_not_kept(dynamic: bool) -> None:
    """SUP-080, DYN-037: those of others are; a temporary child's end changes nothing."""
    opened: Any = open_supervisor(DynamicSupervisor) if dynamic else open_supervisor([])
    async with opened as supervisor:
        for _ in range(2):
            treasures, refs = await _start_and_let_go(supervisor, "temporary")
            await settle()
            assert _left(treasures) == 0
            one = refs[0] if dynamic else 1
            spec = supervisor.child_spec_of(one)
            assert (spec.id, spec.start, spec.restart) == (1, Start(Kept), "temporary")
            assert await refs[1].call(ping) == 1
            refs[0].cast(crash())
            refs[1].cast(end(NORMAL))
            await settle()
            assert supervisor.count_children() == (0, 0, 0, 0)
        kept, refs = await _start_and_let_go(supervisor, "transient")
        assert _left(kept) == 2
        await supervisor.terminate_child(refs[0] if dynamic else 1)
        del refs
        assert _left(kept) == (1 if dynamic else 2)


@virtual
async def test_a_reference_does_not_keep_a_child_that_was_forgotten() -> None:
    """DYN-037: the address of a dead child costs next to nothing."""
    async with open_supervisor(DynamicSupervisor) as supervisor:
        ref = await start(supervisor, puppet("a", restart="temporary"))
        made: list[Any] = []
        ref.cast(lambda me: made.append(weakref.ref(me)))
        ref.cast(end(NORMAL))
        await settle()
        gc.collect()
        assert made[0]() is None
        assert await ref.wait() == NORMAL


# -- many


async def steps_of(function: Callable[..., Any], *args: Any) -> int:
    with counting_steps() as steps:
        await function(*args)
    return steps.count


async def start_many(supervisor: DynamicSupervisorRef, count: int, role: Role) -> None:
    spec = Puppet.child_spec(role, restart="temporary")
    for _ in range(count):
        await supervisor.start_child(spec)


async def stop_all(supervisor: DynamicSupervisorRef) -> None:
    await supervisor.stop()


async def stop_each(supervisor: DynamicSupervisorRef) -> None:
    for info in supervisor.which_children():
        assert info.ref
        await supervisor.terminate_child(info.ref)


@pytest.mark.parametrize("stop", [stop_all, stop_each], ids=["all", "each"])
@virtual
async def test_many_children_cost_as_much_as_few_each(stop: Callable[..., Any]) -> None:
    """SUP-081, DYN-042: the steps of starting and stopping grow with the number, no faster."""
    each: list[list[float]] = []
    for count in (100, 2_000):
        async with open_dynamic() as supervisor:
            starts = await steps_of(start_many, supervisor, count, Role())
            assert supervisor.count_children().active == count
            each.append([starts / count, await steps_of(stop, supervisor) / count])
            assert not supervisor.alive or supervisor.which_children() == []
    few, many = each
    assert many[0] <= few[0] * 1.1
    assert many[1] <= few[1] * 1.1
