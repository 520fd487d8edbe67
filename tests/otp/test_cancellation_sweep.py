"""Scenarios, cancelled at every single step: they always end, in order, and leave nothing."""

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from random import Random
from typing import Any, Final, TypeAlias

import attrs
import pytest
import trio

from slipstream.errors import (
    CallTimeoutError,
    ServerGoneError,
    SlipstreamError,
    StartError,
    SupervisorGaveUpError,
)
from slipstream.otp import (
    Caller,
    DynamicSupervisor,
    DynamicSupervisorRef,
    ExitReason,
    NoReply,
    Reply,
    Supervisor,
    SupervisorRef,
    open_server,
    open_supervisor,
)
from slipstream.otp._tree import open_trees
from slipstream.otp._waits import OWNERS
from slipstream.reasons import SHUTDOWN
from tests.otp.planted import Fault
from tests.otp.support import (
    Boom,
    Diary,
    Flaky,
    Puppet,
    crash,
    no_answer,
    ping,
    puppet,
    run_virtually,
    sleep_then,
)
from tests.otp.test_supervisor_faults import children_stop_all_at_once, children_stop_first_to_last

SEEDS: Final = 200

Life: TypeAlias = Callable[[Diary, list[SupervisorRef]], Awaitable[None]]


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> Iterator[None]:
    """Thousands of reports would only be in the way."""
    logger = logging.getLogger("slipstream")
    logger.disabled = True
    yield
    logger.disabled = False


class CancelAt(trio.abc.Instrument):
    """Cancels *scope* before the step number *step* of all tasks."""

    def __init__(self, scope: trio.CancelScope, step: int) -> None:
        self.scope = scope
        self.steps = 0
        self.step = step

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.steps += 1
        if self.steps == self.step:
            self.scope.cancel()


def draw_orders(patch: pytest.MonkeyPatch, seed: int) -> None:
    """Have trio draw the order of the tasks that are due at once from *seed*.

    Trio promises no order, and draws one for each batch from random numbers of its own; left alone
    it draws between two orders only. There is no public way to it, as its own tests show.
    """
    scheduler = trio._core._run
    patch.setattr(scheduler, "_r", Random(seed))  # noqa: S311 - not for secrets
    patch.setattr(scheduler, "_ALLOW_DETERMINISTIC_SCHEDULING", True)


# -- the scenarios


async def _slow(me: Puppet) -> None:
    await trio.sleep(1.0)
    me.write("up")


def _at_once(me: Puppet) -> None:
    me.write("up")


async def _goodbye(me: Puppet, _: ExitReason) -> None:
    try:
        await trio.sleep(0.25)
    finally:
        me.write("gone")


def child(name: str, diary: Diary, *, slow: bool = False, **keywords: Any) -> Any:
    init = _slow if slow else _at_once
    return puppet(name, diary, name=name, **{"init": init, "terminate": _goodbye, **keywords})


def flaky(*outcomes: Any) -> Callable[[Puppet], None]:
    """Start as *outcomes* say."""
    start = Flaky(*outcomes)

    def init(me: Puppet) -> None:
        start(me)
        me.write("up")

    return init


async def _calls_a(me: Puppet, _: Caller) -> Reply:
    a = me.whereis("a")
    assert a
    return Reply(await a.call(ping))


async def _life_of_a_tree(diary: Diary, kept: list[SupervisorRef]) -> None:
    """Nested starts, calls, a group restart, requests, a nested block: the whole of it."""

    async def own_block(me: Puppet) -> NoReply:
        async with open_server(child("inner", diary)) as ref:
            me.start_soon(ref.wait)
            await ref.call(ping)
        return NoReply()

    sub = Supervisor.child_spec(
        [child("x", diary), child("y", diary, slow=True)], id="sub", strategy="one_for_all"
    )
    async with open_supervisor([child("a", diary), sub, child("z", diary)]) as supervisor:
        kept.append(supervisor)
        z = supervisor.child("z")
        assert await z.call(_calls_a) == 1
        nested = supervisor.child("sub")
        assert isinstance(nested, SupervisorRef)
        nested.child("x").cast(crash())
        await trio.sleep(0.5)
        pending = z.send_request(sleep_then(1.0, Reply("late")))
        await supervisor.start_child(child("last", diary, slow=True, restart="temporary"))
        assert await pending.wait() == "late"
        supervisor.child("last").cast(own_block)
        await trio.sleep(0.1)
        await supervisor.terminate_child("last")
        assert await z.call(ping) == 1


async def _life_of_a_dynamic_supervisor(diary: Diary, kept: list[SupervisorRef]) -> None:
    """Starts, restarts and stops of children without an order."""
    rooms = DynamicSupervisor.child_spec(name="rooms")
    async with open_supervisor([child("a", diary), rooms]) as supervisor:
        kept.append(supervisor)
        dynamic = supervisor.child("rooms")
        assert isinstance(dynamic, DynamicSupervisorRef)
        one = await dynamic.start_child(child("one", diary))
        two = await dynamic.start_child(child("two", diary, slow=True, restart="temporary"))
        assert one
        assert two
        await dynamic.start_child(child("three", diary, backoff=lambda *_: 0.1))
        one.cast(crash())
        await two.stop()
        three = supervisor.whereis("three")
        assert three
        three.cast(crash())
        await trio.sleep(0.05)
        await dynamic.terminate_child(one)
        await trio.sleep(1.0)
        assert dynamic.count_children() == (1, 1, 0, 1)
        await dynamic.start_child(child("one", diary))


async def _starting(diary: Diary, kept: list[SupervisorRef]) -> None:
    """One start after the other, at once and slow, of which one fails."""
    sub = Supervisor.child_spec([child("x", diary), child("y", diary, slow=True)], id="sub")
    async with open_supervisor([child("a", diary, slow=True), sub]) as supervisor:
        kept.append(supervisor)
        await supervisor.start_child(child("z", diary, slow=True))
        with pytest.raises(StartError):
            await supervisor.start_child(child("last", diary, init=flaky(Boom())))


async def _crash_loop(diary: Diary, kept: list[SupervisorRef]) -> None:
    """Crash after crash, and restarts that fail and are retried, at once and after a while."""
    x = child("x", diary, init=flaky(None, Boom(), Boom(), None, Boom()))
    y = child("y", diary, init=flaky(None, Boom(), Boom()), backoff=lambda *_: 0.125)
    async with open_supervisor(
        [child("a", diary), x, y, child("z", diary)], max_restarts=100
    ) as supervisor:
        kept.append(supervisor)
        for _ in range(2):
            supervisor.child("x").cast(crash())
            supervisor.child("y").cast(crash())
            await trio.sleep(1.0)
        assert await supervisor.child("x").call(ping) == 6
        assert await supervisor.child("y").call(ping) == 5


async def _giving_up(diary: Diary, kept: list[SupervisorRef]) -> None:
    """A supervisor that gives up, below one that starts it again, until that gives up as well."""
    y = child("y", diary, init=flaky(None, Boom(), None, Boom()))
    sub = Supervisor.child_spec([child("x", diary), y, child("z", diary)], id="sub", max_restarts=1)
    with suppress(SupervisorGaveUpError):
        async with open_supervisor([child("a", diary), sub], max_restarts=1) as supervisor:
            kept.append(supervisor)
            for _ in range(5):
                nested = supervisor.child("sub")
                assert isinstance(nested, SupervisorRef)
                nested.child("y").cast(crash())
                await trio.sleep(1.5)


async def _group_restarts(diary: Diary, kept: list[SupervisorRef]) -> None:
    """Groups that are stopped and started again, of which one member fails the first time."""
    x = child("x", diary)
    y = child("y", diary, init=flaky(None, None, Boom()), slow=True)
    last = child("last", diary, slow=True)
    sub = Supervisor.child_spec([x, y, last], id="sub", strategy="one_for_all", max_restarts=9)
    async with open_supervisor(
        [child("a", diary), sub, child("z", diary)], strategy="rest_for_one"
    ) as supervisor:
        kept.append(supervisor)
        nested = supervisor.child("sub")
        assert isinstance(nested, SupervisorRef)
        nested.child("last").cast(crash())
        await trio.sleep(2.0)
        nested.child("x").cast(crash())
        await trio.sleep(4.0)
        nested.child("y").cast(sleep_then(0.5))
        supervisor.child("a").cast(crash())
        await trio.sleep(4.0)
        assert await supervisor.child("z").call(ping) == 2


async def _stopping(diary: Diary, kept: list[SupervisorRef]) -> None:
    """Stops by request, by a reference, of who is busy, of who is killed; then that of all."""
    sub = Supervisor.child_spec([child("x", diary), child("y", diary)], id="sub")
    async with open_supervisor(
        [child("a", diary), sub, child("z", diary, shutdown=0.125)]
    ) as supervisor:
        kept.append(supervisor)
        supervisor.child("a").cast(sleep_then(2.0))
        await supervisor.start_child(child("last", diary, restart="temporary"))
        await supervisor.child("last").stop()
        await supervisor.terminate_child("z")
        await supervisor.restart_child("z")
        await supervisor.terminate_child("sub")
        await supervisor.delete_child("sub")


async def _nested_trees(diary: Diary, kept: list[SupervisorRef]) -> None:
    """Supervisors three deep, one that a callback opens, and a child that a process owns."""

    async def own_tree(me: Puppet) -> NoReply:
        await me.start_owned(puppet("owned", diary, init=_at_once, terminate=_goodbye))
        async with open_supervisor([child("inner", diary)]) as inner:
            inner.child("inner").cast(crash())
            await trio.sleep(0.5)
            await inner.child("inner").call(ping)
        return NoReply()

    deepest = Supervisor.child_spec([child("y", diary)], id="deepest")
    deep = Supervisor.child_spec([child("x", diary), deepest], id="deep")
    sub = Supervisor.child_spec([deep], id="sub")
    async with open_supervisor([child("a", diary), sub, child("z", diary)]) as supervisor:
        kept.append(supervisor)
        supervisor.child("z").cast(own_tree)
        await trio.sleep(2.0)
        assert await supervisor.child("z").call(_calls_a) == 1


async def _call_chains(diary: Diary, kept: list[SupervisorRef]) -> None:
    """Calls in calls, answers from elsewhere and too late, and one that nobody gives."""

    async def ask_z(me: Puppet, _: Caller) -> Reply:
        z = me.whereis("z")
        assert z
        return Reply(await z.call(_calls_a))

    def answer_later(me: Puppet, caller: Caller) -> NoReply:
        def answer(_: Puppet) -> None:
            caller.reply("later")

        me.send_after(0.5, answer)
        return NoReply()

    async with open_supervisor([child(name, diary) for name in "axz"]) as supervisor:
        kept.append(supervisor)
        a, x = supervisor.child("a"), supervisor.child("x")
        busy = a.send_request(sleep_then(0.5, Reply("busy")))
        assert await x.call(ask_z) == 1
        with suppress(CallTimeoutError):
            await a.call(no_answer, timeout=0.5)
        pending = [a.send_request(answer_later), x.send_request(ask_z)]
        assert await busy.wait() == "busy"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervisor.terminate_child, "x")
            with suppress(ServerGoneError):
                await x.call(ask_z)
        assert await pending[0].wait(timeout=1.0) == "later"


ORDER: Final = ["a", "x", "y", "z", "last"]


@attrs.frozen
class Scenario:
    """A life, whose names are started in *order*; what is in a *group* may be stopped by itself."""

    life: Life
    order: list[str] = ORDER
    group: str = ""


SCENARIOS: Final = [
    Scenario(_life_of_a_tree, group="xy"),
    Scenario(
        _life_of_a_dynamic_supervisor, ["a", "one"]
    ),  # its children have no order among themselves
    Scenario(_starting),
    Scenario(_crash_loop),
    Scenario(_giving_up, group="xyz"),
    Scenario(_group_restarts, ["a", "x", "y", "last", "z"], group="x y last"),
    Scenario(_stopping, ["a", "x", "y", "z", "last"], group="xy"),
    Scenario(_nested_trees),
    Scenario(_call_chains, group="x"),
]
scenarios = pytest.mark.parametrize(
    "scenario", SCENARIOS, ids=[scenario.life.__name__.strip("_") for scenario in SCENARIOS]
)


def check_order(diary: Diary, scenario: Scenario) -> None:
    """Whoever is stopped has no younger sibling that still lives; whoever was up is gone."""
    up: list[str] = []
    for what, who, *more in diary:
        match what:
            case "up":
                assert who not in up
                up.append(who)
            case "terminate" if more == [SHUTDOWN] and who in scenario.order:
                younger = scenario.order[scenario.order.index(who) + 1 :]
                if who in scenario.group:  # which is stopped without those outside of it
                    younger = [name for name in younger if name in scenario.group]
                assert not set(younger) & set(up), diary
            case "gone":
                up.remove(who)
            case _:
                assert what in {"init", "terminate"}
    assert up == [], diary


def _run(scenario: Scenario, step: int) -> tuple[bool, int]:
    """Run *scenario*, cancelled at *step*; tell whether that came, and how many steps there were."""
    diary = Diary()
    kept: list[SupervisorRef] = []
    outcome: list[tuple[bool, int]] = []

    async def main() -> None:
        with trio.CancelScope() as scope:
            instrument = CancelAt(scope, step)
            trio.lowlevel.add_instrument(instrument)
            await scenario.life(diary, kept)
        trio.lowlevel.remove_instrument(instrument)
        outcome.append((scope.cancelled_caught, instrument.steps))
        assert open_trees() == set()
        for supervisor in kept:
            assert not supervisor.alive
            assert [supervisor.whereis(name) for name in ORDER] == [None] * len(ORDER)
            assert supervisor.statistics().open_calls == 0
            with pytest.raises(ServerGoneError):
                await supervisor.start_child(Puppet)

    run_virtually(main)
    assert not OWNERS
    check_order(diary, scenario)
    return outcome[0]


@scenarios
def test_cancelled_at_any_step_it_ends_in_order_and_leaves_nothing(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """complaint-29, TRI-011, TRI-012, TRI-053, TRI-098, section 4.5: for every step there is."""
    draw_orders(monkeypatch, 0)
    cancelled, steps = _run(scenario, -1)
    assert not cancelled
    assert steps > 40
    for step in range(1, steps + 1):
        draw_orders(monkeypatch, step)
        _run(scenario, step)


@scenarios
def test_in_whatever_order_trio_takes_the_tasks(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Section 4.5: two hundred orders, left alone and cancelled somewhere."""
    for seed in range(SEEDS):
        draw_orders(monkeypatch, seed)
        cancelled, steps = _run(scenario, -1)
        assert not cancelled
        _run(scenario, Random(seed).randint(1, steps))  # noqa: S311 - not for secrets


@pytest.mark.parametrize("request_", ["start", "restart", "terminate", "call"])
def test_a_caller_cancelled_at_any_step_leaves_its_supervisor_intact(request_: str) -> None:
    """TRI-060, GS-064: the operation is carried out whole, or was never asked for."""

    async def act(supervisor: SupervisorRef) -> None:
        match request_:
            case "start":
                await supervisor.start_child(puppet("new", init=sleep_then(1.0)))
            case "restart":
                await supervisor.restart_child("down")
            case "terminate":
                await supervisor.terminate_child("up")
            case _:
                await supervisor.child("up").call(sleep_then(1.0, Reply(1)))

    finished: list[bool] = []

    async def main(step: int) -> None:
        async with open_supervisor([puppet("up"), puppet("down", init=None)]) as supervisor:
            await supervisor.terminate_child("down")
            with trio.CancelScope() as scope:
                instrument = CancelAt(scope, step)
                trio.lowlevel.add_instrument(instrument)
                await act(supervisor)
            trio.lowlevel.remove_instrument(instrument)
            finished.append(not scope.cancelled_caught)
            await trio.sleep(5.0)
            assert supervisor.statistics().open_calls == 0
            for info in supervisor.which_children():
                assert info.status in {"running", "down"}
                if info.status == "running":
                    assert await supervisor.child(info.id).call(ping) >= 1
            # And it still serves, whatever has become of that request.
            for name in ("up", "down"):
                await supervisor.terminate_child(name)
                await supervisor.restart_child(name)
            assert supervisor.child("up").alive
            try:
                await supervisor.terminate_child("new")
            except SlipstreamError:
                assert supervisor.count_children() == (2, 2, 0, 2)

    for step in range(1, 200):
        finished.clear()
        run_virtually(main, step)
        if finished == [True]:
            break
    assert finished == [True]
    assert step >= 3


@pytest.mark.parametrize("fault", [children_stop_first_to_last, children_stop_all_at_once])
@scenarios
def test_the_check_of_the_order_finds_a_wrong_one(
    scenario: Scenario, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Section 4.5: a check that never fails shows nothing."""
    draw_orders(monkeypatch, 0)
    fault(monkeypatch)
    with pytest.raises(AssertionError):
        _run(scenario, -1)
