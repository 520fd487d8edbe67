"""One scenario, cancelled at every single step: it always ends, in order, and leaves nothing."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
import trio

from slipstream.errors import ServerGoneError, SlipstreamError
from slipstream.otp import (
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
from slipstream.reasons import SHUTDOWN
from tests.otp.support import Diary, Puppet, crash, ping, puppet, run_virtually, sleep_then

ROUNDS = 4
"""Times that each step is tried, since trio draws the order of what is due at once."""

Scenario = Callable[[Diary, list[SupervisorRef]], Any]


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
    return puppet(
        name, diary, init=_slow if slow else _at_once, terminate=_goodbye, name=name, **keywords
    )


async def _life_of_a_tree(diary: Diary, kept: list[SupervisorRef]) -> None:
    """Nested starts, calls, a group restart, requests, a nested block: the whole of it."""

    async def call_a(me: Puppet, _: Any) -> Reply:
        a = me.whereis("a")
        assert a
        return Reply(await a.call(ping))

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
        assert await z.call(call_a) == 1
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


ORDER = ["a", "x", "y", "z", "last"]


def check_order(diary: Diary) -> None:
    """Whoever is stopped has no younger sibling that still lives; whoever was up is gone."""
    up: list[str] = []
    for what, who, *more in diary:
        match what:
            case "up":
                assert who not in up
                up.append(who)
            case "terminate" if more == [SHUTDOWN] and who in ORDER:
                younger = ORDER[ORDER.index(who) + 1 :]
                # Under one_for_all only the group of x and y is stopped in a restart.
                if who in {"x", "y"}:
                    younger = [name for name in younger if name == "y"]
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
            await scenario(diary, kept)
        trio.lowlevel.remove_instrument(instrument)
        outcome.append((scope.cancelled_caught, instrument.steps))
        for supervisor in kept:
            assert not supervisor.alive
            assert [supervisor.whereis(name) for name in ORDER] == [None] * len(ORDER)
            assert supervisor.statistics().open_calls == 0
            with pytest.raises(ServerGoneError):
                await supervisor.start_child(Puppet)

    run_virtually(main)
    check_order(diary)
    return outcome[0]


@pytest.mark.parametrize("scenario", [_life_of_a_tree, _life_of_a_dynamic_supervisor])
def test_a_tree_cancelled_at_any_step_ends_in_order_and_leaves_nothing(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TRI-011, TRI-012, TRI-053, TRI-098, section 4.5: for every step there is."""
    monkeypatch.setattr(logging.getLogger("slipstream"), "disabled", True)
    cancelled, steps = _run(scenario, -1)
    assert not cancelled
    assert steps > 60
    for step in range(1, steps + 1):
        for _ in range(ROUNDS):
            _run(scenario, step)


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
