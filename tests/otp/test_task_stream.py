"""Streams of tasks: one function over many items."""

import functools
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import trio

from slipstream.errors import (
    AwaitTimeoutError,
    ConfigError,
    DeadlockError,
    MaxChildrenError,
    ServerGoneError,
    WrongTaskError,
)
from slipstream.otp import (
    Caller,
    Exit,
    Reply,
    ServerRef,
    SupervisorRef,
    TaskSupervisor,
    TaskSupervisorRef,
    open_server,
    open_supervisor,
)
from slipstream.reasons import NORMAL, SHUTDOWN, Crashed, Shutdown
from tests.otp.support import Boom, Diary, Puppet, live_tasks, ping, settle, virtual


async def nap(seconds: float) -> float:
    """Sleep, and say how long."""
    await trio.sleep(seconds)
    return seconds


def found(top: SupervisorRef) -> TaskSupervisorRef:
    """Give the task supervisor below *top*."""
    tasks = top.whereis("tasks")
    assert isinstance(tasks, TaskSupervisorRef)
    return tasks


class Gauge:
    """Naps, and notes how many nap at a time."""

    def __init__(self) -> None:
        self.now = 0
        self.most = 0

    async def nap(self, seconds: float) -> float:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            return await nap(seconds)
        finally:
            self.now -= 1


@pytest.mark.parametrize(
    ("ordered", "expected", "times"),
    [
        (True, [4.0, 1.0, 2.0, 3.0], [4.0, 4.0, 4.0, 6.0]),
        (False, [1.0, 2.0, 4.0, 3.0], [1.0, 3.0, 4.0, 6.0]),
    ],
)
@virtual
async def test_results_come_in_the_order_of_the_items_or_as_they_are_done(
    ordered: bool, expected: list[float], times: list[float]
) -> None:
    """TSK-007: a slow first one holds the others' results back, but not their work."""
    gauge = Gauge()
    seen: list[tuple[float, float]] = []
    async with open_supervisor(TaskSupervisor) as tasks:
        async with tasks.stream(
            gauge.nap, [4.0, 1.0, 2.0, 3.0], max_concurrency=2, ordered=ordered
        ) as results:
            async for result in results:
                assert result.ok
                assert result.reason == NORMAL
                assert result.item == result.value
                seen.append((result.value, trio.current_time()))
    assert [value for value, _ in seen] == expected
    assert [time for _, time in seen] == times
    assert gauge.most == 2


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("most", [1, 3, 100])
@virtual
async def test_concurrency_is_bounded_and_used(most: int, ordered: bool) -> None:
    """TSK-007: never more than so many, and as many as there are."""
    gauge = Gauge()
    async with open_supervisor(TaskSupervisor) as tasks:
        async with tasks.stream(
            gauge.nap, [1.0] * 10, max_concurrency=most, ordered=ordered
        ) as results:
            assert [result.value async for result in results] == [1.0] * 10
    assert gauge.most == min(most, 10)
    assert trio.current_time() == -(-10 // most)


@virtual
async def test_items_are_taken_as_the_iteration_goes_on() -> None:
    """TSK-007: so they may be endless, and none is taken before the first result is asked for."""
    taken: list[int] = []

    def endless() -> Iterator[int]:
        for number in itertools.count():
            taken.append(number)
            yield number

    async with open_supervisor(TaskSupervisor) as tasks:
        async with tasks.stream(nap, endless(), max_concurrency=2, timeout=None) as results:
            assert taken == []
            async for result in results:
                if result.value == 3:
                    break
        assert taken == list(range(len(taken)))
        assert len(taken) <= 6
        async with tasks.stream(nap, [], max_concurrency=2) as results:
            assert [result async for result in results] == []


@pytest.mark.parametrize("ordered", [True, False])
@virtual
async def test_each_failure_is_a_result_of_its_own(ordered: bool) -> None:
    """TSK-007: an error, an exit, a kill; whoever iterates is not linked to the tasks."""
    error = Boom("3")

    async def work(number: int) -> int:
        await trio.sleep(number)
        match number:
            case 1:
                raise error
            case 2:
                raise Exit(Shutdown("x"))
            case _:
                return number

    async def ask(me: Puppet, _: Caller) -> Reply:
        async with tasks.stream(work, range(4), max_concurrency=9, ordered=ordered) as results:
            return Reply([result async for result in results])

    async with open_supervisor(TaskSupervisor) as tasks, open_server(Puppet) as ref:
        results = await ref.call(ask)
    assert [result.item for result in results] == [0, 1, 2, 3]
    assert [result.ok for result in results] == [True, False, False, True]
    assert [result.reason for result in results] == [NORMAL, Crashed(error), Shutdown("x"), NORMAL]
    with pytest.raises(ServerGoneError, match="task of 1") as gone:
        _ = results[1].value
    assert gone.value.__cause__ is error


@pytest.mark.parametrize("ordered", [True, False])
@virtual
async def test_a_task_that_is_late_ends_the_iteration(ordered: bool) -> None:
    """TSK-007: ``on_timeout="exit"``; each has its own time; the block stops the rest."""
    async with open_supervisor(TaskSupervisor) as tasks:
        seen: list[float] = []
        with pytest.raises(AwaitTimeoutError, match=r"nap\(9\.0,\).*3 s"):
            async with tasks.stream(
                nap, [2.0, 2.5, 9.0, 9.0], max_concurrency=2, timeout=3.0, ordered=ordered
            ) as results:
                async for result in results:
                    seen.append(result.value)  # noqa: PERF401 - up to where it raises
        assert seen == [2.0, 2.5]
        assert trio.current_time() == 5.0
        await settle()
        assert tasks.count_children() == (0, 0, 0, 0)


@pytest.mark.parametrize("ordered", [True, False])
@virtual
async def test_a_task_that_is_late_may_be_killed_alone(ordered: bool) -> None:
    """TSK-007: ``on_timeout="kill_task"`` makes a failed result of it; the others go on."""
    async with open_supervisor(TaskSupervisor) as tasks:
        async with tasks.stream(
            nap,
            [9.0, 1.0, 9.0, 2.0],
            max_concurrency=2,
            timeout=3.0,
            on_timeout="kill_task",
            ordered=ordered,
        ) as results:
            seen = [result async for result in results]
        assert [result.item for result in seen] == (
            [9.0, 1.0, 9.0, 2.0] if ordered else [1.0, 9.0, 9.0, 2.0]
        )
        for result in seen:
            assert result.ok is (result.item < 3.0)
            if not result.ok:
                assert isinstance(result.reason, Crashed)
                assert isinstance(result.reason.exception, AwaitTimeoutError)


@pytest.mark.parametrize("way", ["break", "raise", "cancel"])
@virtual
async def test_leaving_early_stops_every_task_and_waits_for_it(way: str) -> None:
    """TSK-007: none outlives the block, and its goodbye may take a while."""
    diary = Diary()

    async def work(number: int) -> int:
        if number == 0:
            return 0
        try:
            await trio.sleep(60.0)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(1.0)
            diary.write("ended", number)
        return number

    async with open_supervisor(TaskSupervisor) as tasks:
        before = live_tasks()
        with trio.CancelScope() as scope:
            try:
                async with tasks.stream(
                    work, range(100), max_concurrency=3, timeout=None
                ) as results:
                    async for _ in results:
                        if way == "raise":
                            raise Boom("enough")
                        if way == "cancel":
                            scope.cancel()
                            continue
                        await settle()
                        break
            except Boom:
                assert way == "raise"
        assert scope.cancelled_caught is (way == "cancel")
        assert trio.current_time() == 1.0
        assert sorted(number for _, number in diary) == [1, 2, 3]
        await settle()
        assert tasks.count_children() == (0, 0, 0, 0)
        assert live_tasks() == before


@virtual
async def test_a_supervisor_that_is_full_ends_the_iteration_and_leaves_nothing() -> None:
    """TSK-007: what was started is stopped, no message lies anywhere."""

    async def ask(me: Puppet, _: Caller) -> Reply:
        with pytest.raises(MaxChildrenError):
            async with tasks.stream(nap, [60.0] * 5, max_concurrency=5) as results:
                async for _result in results:
                    pytest.fail("it must not come to a result")
        return Reply(len(me.mailbox))

    async with open_supervisor([TaskSupervisor.child_spec(name="tasks", max_children=2)]) as top:
        tasks = found(top)
        async with open_server(Puppet) as ref:
            assert await ref.call(ask) == 0
            await settle()
            assert tasks.count_children() == (0, 0, 0, 0)


@virtual
async def test_a_supervisor_that_stops_meanwhile_fails_what_runs_and_what_is_to_start() -> None:
    """TSK-007: the results tell, and then there is nobody to start the next."""
    async with open_supervisor([TaskSupervisor.child_spec(name="tasks")]) as top:
        tasks = found(top)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stop_later, top)
            with pytest.raises(ServerGoneError):
                await iterate(tasks)
    assert trio.current_time() == 1.0


async def iterate(tasks: TaskSupervisorRef) -> None:
    async with tasks.stream(nap, [60.0] * 5, max_concurrency=2, timeout=None) as results:
        async for result in results:
            assert result.reason == SHUTDOWN


async def stop_later(top: Any) -> None:
    await trio.sleep(1.0)
    await top.terminate_child("tasks")


@virtual
async def test_being_stopped_while_waiting_for_a_result_stops_the_tasks_too() -> None:
    """TSK-007: Exit out of the iteration, like out of any wait."""
    diary = Diary()

    async def iterate(me: Puppet) -> None:
        try:
            async with tasks.stream(nap, [60.0] * 2, max_concurrency=2, timeout=None) as results:
                async for _ in results:
                    pytest.fail("it must not come to a result")
        except Exit as error:
            diary.write("exit", error.reason)
            raise

    async with open_supervisor(TaskSupervisor) as tasks:
        async with open_server(Puppet) as ref:
            ref.cast(iterate)
            await settle()
            assert tasks.count_children().active == 2
        assert diary == [("exit", SHUTDOWN)]
        assert trio.current_time() == 0.0
        await settle()
        assert tasks.count_children().active == 0


@virtual
async def test_a_task_that_calls_who_iterates_is_refused_at_once() -> None:
    """It waits for that very task; where the call came first, the iteration is refused."""

    async def back(ref: ServerRef, seconds: float) -> str:
        await trio.sleep(seconds)
        with pytest.raises(DeadlockError):
            await ref.call(ping)
        return "refused"

    async def ask(me: Puppet, _: Caller) -> Reply:
        late = functools.partial(back, me.ref)
        async with tasks.stream(late, [1.0] * 3, max_concurrency=2) as results:
            return Reply([result.value async for result in results])

    async def ask_at_once(me: Puppet, _: Caller) -> Reply:
        with pytest.raises(DeadlockError, match="call"):
            async with tasks.stream(me.ref.call, [ping], max_concurrency=2) as results:
                async for _result in results:
                    pytest.fail("it must not come to a result")
        return Reply(None)

    async with open_supervisor(TaskSupervisor) as tasks, open_server(Puppet) as ref:
        assert await ref.call(ask) == ["refused"] * 3
        assert trio.current_time() == 2.0
        await ref.call(ask_at_once)
        assert trio.current_time() == 2.0


@virtual
async def test_wrong_options_and_an_iteration_outside_of_its_block_are_refused() -> None:
    async with open_supervisor(TaskSupervisor) as tasks:
        for wrong in ({"max_concurrency": 0}, {"max_concurrency": True}):
            with pytest.raises(ConfigError, match="max_concurrency"):
                tasks.stream(nap, [], **wrong)
        with pytest.raises(ConfigError, match="timeout"):
            tasks.stream(nap, [], max_concurrency=1, timeout=-1.0)
        with pytest.raises(ConfigError, match="on_timeout"):
            tasks.stream(nap, [], max_concurrency=1, on_timeout="explode")  # type: ignore[arg-type]  # that is the point
        with pytest.raises(WrongTaskError, match="async with"):
            async for _ in tasks.stream(nap, [1.0], max_concurrency=1):
                pytest.fail("it must not run")
