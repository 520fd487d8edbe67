"""Tasks: processes that run one function, and the results that somebody waits for."""

import functools
import logging
from collections.abc import Callable
from typing import Any

import pytest
import trio

from slipstream.errors import (
    AwaitTimeoutError,
    CallingSelfError,
    ChildNotFoundError,
    ChildSpecError,
    ConfigError,
    DeadlockError,
    MaxChildrenError,
    ServerGoneError,
    WrongTaskError,
)
from slipstream.otp import (
    Caller,
    Exit,
    Exited,
    Reply,
    ServerRef,
    Task,
    TaskSupervisor,
    TaskSupervisorRef,
    current_process,
    open_server,
    open_supervisor,
)
from slipstream.reasons import KILLED, NORMAL, SHUTDOWN, Crashed, ExitReason, Shutdown
from tests.otp.support import (
    Boom,
    Diary,
    Puppet,
    Role,
    crash,
    live_tasks,
    ping,
    puppet,
    records,
    settle,
    virtual,
)


async def add(one: int, other: int, seconds: float = 0.0) -> int:
    """Add, after a while."""
    await trio.sleep(seconds)
    return one + other


async def fail(error: BaseException | None = None, seconds: float = 0.0) -> int:
    """Raise, after a while."""
    await trio.sleep(seconds)
    raise Boom("task") if error is None else error


class Trapper(Puppet):
    """A puppet that hears of the ends of others as a message."""

    trap_exits = True


# -- a supervisor like another


@virtual
async def test_it_is_a_dynamic_supervisor_of_functions() -> None:
    """TSK-001: tasks are started, listed, counted, and terminated by their references."""
    diary = Diary()

    async def work(*args: Any) -> None:
        diary.write("ran", *args)
        await trio.sleep_forever()

    async with open_supervisor([TaskSupervisor.child_spec(name="tasks")]) as top:
        tasks = top.whereis("tasks")
        assert isinstance(tasks, TaskSupervisorRef)
        assert top.child("tasks") == tasks
        assert tasks.which_children() == []
        first = await tasks.start_child(work)
        second = await tasks.start_child(work, 1, "x")
        await settle()
        assert diary == [("ran",), ("ran", 1, "x")]
        assert [info.ref for info in tasks.which_children()] == [first, second]
        assert tasks.count_children() == (2, 2, 0, 2)
        assert tasks.which_child(first).restart == "temporary"
        assert tasks.child_spec_of(first).shutdown == 5.0

        pinned = first.pin()
        await tasks.terminate_child(first)
        assert await pinned.wait() == SHUTDOWN
        with pytest.raises(ChildNotFoundError):
            await tasks.terminate_child(first)
        assert tasks.count_children() == (1, 1, 0, 1)


@virtual
async def test_a_task_that_is_done_is_gone(caplog: pytest.LogCaptureFixture) -> None:
    """TSK-001: it ends normally, and nothing is said."""
    async with open_supervisor(TaskSupervisor) as tasks:
        ref = await tasks.start_child(add, 1, 2)
        assert await ref.wait() == NORMAL
        await settle()
        assert tasks.count_children() == (0, 0, 0, 0)
        assert not ref.alive
    assert records(caplog, logging.INFO) == []


def test_its_specification_is_that_of_a_dynamic_supervisor_without_extra_arguments() -> None:
    """TSK-001: they would stand before the function."""
    spec = TaskSupervisor.child_spec(name="tasks", max_restarts=7, max_children=3)
    assert (spec.id, spec.type, spec.restart) == ("tasks", "supervisor", "permanent")
    assert TaskSupervisor.child_spec().id is TaskSupervisor
    with pytest.raises(ChildSpecError, match="extra_arguments"):
        TaskSupervisor.child_spec(extra_arguments=[1])

    class Mine(TaskSupervisor, max_children=1):
        pass

    assert Mine.child_spec(name="mine").id is Mine


@virtual
async def test_restart_and_shutdown_belong_to_the_task() -> None:
    """TSK-003: a permanent one runs again; one that lingers has its own time to end."""
    diary = Diary()

    async def once_more() -> None:
        diary.write("ran")
        if len(diary) < 4:
            raise Boom("again")
        await trio.sleep_forever()

    async def linger() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(3.0)
            diary.write("lingered")

    async with open_supervisor(TaskSupervisor) as tasks:
        await tasks.start_child(once_more, restart="transient")
        await settle()
        assert diary == [("ran",)] * 4
        assert tasks.count_children() == (1, 1, 0, 1)
        diary.clear()
        for shutdown, expected in [(5.0, SHUTDOWN), (1.0, KILLED), ("brutal_kill", KILLED)]:
            ref = await tasks.start_child(linger, shutdown=shutdown)  # type: ignore[arg-type]  # of a list
            pinned = ref.pin()
            await settle()
            before = trio.current_time()
            await tasks.terminate_child(ref)
            assert await pinned.wait() == expected
            assert trio.current_time() == before + 3.0  # nobody can be cut off
        wrong: list[dict[str, Any]] = [{"restart": "always"}, {"shutdown": -1}]
        for keywords in wrong:
            with pytest.raises(ChildSpecError):
                await tasks.start_child(linger, **keywords)


@virtual
async def test_no_more_tasks_than_there_may_be() -> None:
    """TSK-004: whichever way one is started; a task that has ended makes room."""
    async with open_supervisor([TaskSupervisor.child_spec(name="tasks", max_children=1)]) as top:
        tasks = top.whereis("tasks")
        assert isinstance(tasks, TaskSupervisorRef)
        task = await tasks.async_nolink(add, 1, 2, 10.0)
        for start in (tasks.start_child, tasks.async_, tasks.async_nolink):
            with pytest.raises(MaxChildrenError, match="max_children=1"):
                await start(add, 1, 2)
        await task.shutdown()
        await settle()
        task = await tasks.async_(add, 1, 2)
        assert await task.wait() == 3


@virtual
async def test_leaving_the_supervisor_cancels_all_tasks_at_once_and_waits_for_their_goodbye() -> (
    None
):
    """TRI-073: one that will not go does not delay the others' stop."""
    diary = Diary()

    async def work(name: str, seconds: float) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(seconds)
            diary.write(name, trio.current_time() - begin)

    async with open_supervisor(TaskSupervisor, shutdown=60.0) as tasks:
        for name, seconds in (("naughty", 20.0), ("a", 1.0), ("b", 2.0)):
            await tasks.start_child(work, name, seconds)
        await settle()
        begin = trio.current_time()
    assert diary == [("a", 1.0), ("b", 2.0), ("naughty", 20.0)]
    assert trio.current_time() == begin + 20.0


# -- results


@virtual
async def test_a_result_may_be_waited_for_by_anyone_and_more_than_once() -> None:
    """TSK-002: it lies in the handle, so there is no owner, as there is with a mailbox."""
    seen: list[int] = []

    async def see(task: Task[int]) -> None:
        seen.append(await task.wait())

    async with open_supervisor(TaskSupervisor) as tasks:
        for start in (tasks.async_, tasks.async_nolink):
            task = await start(add, 1, 2, 1.0)
            assert repr(task) == "<Task add(1, 2, 1.0)>"
            async with trio.open_nursery() as nursery:
                nursery.start_soon(see, task)
                nursery.start_soon(see, task)
            assert await task.wait(timeout=0.0) == 3
            assert repr(task) == "<Task add(1, 2, 1.0), done>"
            assert not task.ref.alive
    assert seen == [3] * 4


@virtual
async def test_the_function_runs_inside_the_process_of_the_task() -> None:
    """Not inside the caller's: what is waited for in it ends with the task."""

    async def look() -> Any:
        await trio.lowlevel.checkpoint()
        return current_process()

    async with open_supervisor(TaskSupervisor) as tasks:
        task = await tasks.async_(look)
        assert str(await task.wait()).endswith("look")
        assert current_process() is None


@pytest.mark.parametrize("start", ["async_", "async_nolink"])
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Boom("task"), Crashed),
        (Exit(Shutdown("enough")), Shutdown),
        (Exit(NORMAL), type(NORMAL)),
        (BaseExceptionGroup("", [Exit(SHUTDOWN)]), Shutdown),
    ],
)
@virtual
async def test_waiting_for_a_task_that_fails_tells_its_reason_and_its_exception(
    error: BaseException, reason: type[ExitReason], start: str
) -> None:
    """TSK-006: an error, an exit; also where it was over before anybody waited."""
    async with open_supervisor(TaskSupervisor) as tasks:
        for first in (0.0, 1.0):
            task = await getattr(tasks, start)(fail, error, 0.5)
            await trio.sleep(first)
            for _ in range(2):
                with pytest.raises(ServerGoneError) as gone:
                    await task.wait()
                assert isinstance(gone.value.reason, reason)
                if isinstance(error, Boom):
                    assert gone.value.__cause__ is error


@virtual
async def test_a_timeout_gives_the_task_up_and_its_late_result_is_dropped() -> None:
    """TSK-005: nobody gets it, not even who asks again; the function itself goes on."""
    diary = Diary()

    async def work() -> str:
        await trio.sleep(2.0)
        diary.write("done")
        return "late"

    async def ask(me: Puppet, _: Caller) -> Reply:
        task = await tasks.async_nolink(work)
        with pytest.raises(AwaitTimeoutError, match="work"):
            await task.wait(timeout=1.0)
        assert task.done
        assert task.ref.alive
        await trio.sleep(2.0)
        with pytest.raises(AwaitTimeoutError, match="given up"):
            await task.wait()
        return Reply(list(me.mailbox))

    async with open_supervisor(TaskSupervisor) as tasks, open_server(Puppet) as ref:
        assert await ref.call(ask) == []
        assert diary == [("done",)]
        task = await tasks.async_nolink(work)
        before = trio.current_time()
        with pytest.raises(AwaitTimeoutError):
            await (await tasks.async_nolink(add, 1, 2, 60.0)).wait()
        assert trio.current_time() == before + 5.0
        assert await task.wait(timeout=None) == "late"


@virtual
async def test_a_result_in_the_tick_of_the_deadline_is_the_result() -> None:
    """TSK-005: as with a call, the value beats the time-out."""
    async with open_supervisor(TaskSupervisor) as tasks:
        task = await tasks.async_nolink(add, 1, 2, 1.0)
        assert await task.wait(timeout=1.0) == 3


@virtual
async def test_a_wait_may_be_cancelled_and_taken_up_again() -> None:
    """Only a time-out of its own gives the task up."""
    async with open_supervisor(TaskSupervisor) as tasks:
        task = await tasks.async_nolink(add, 1, 2, 1.0)
        with trio.move_on_after(0.5):
            await task.wait()
        assert not task.done
        assert await task.wait() == 3


# -- links


@pytest.mark.parametrize("start", ["async_", "async_nolink"])
@virtual
async def test_the_crash_of_a_linked_task_ends_who_started_it(
    start: str, caplog: pytest.LogCaptureFixture
) -> None:
    """TSK-002: for the same reason, waiting or not; without the link the wait raises, that is all."""
    diary = Diary()

    async def wait(me: Puppet) -> None:
        task = await getattr(tasks, start)(fail, None, 1.0)
        try:
            await task.wait()
        except BaseException as error:
            me.write("raised", type(error))
            if not isinstance(error, ServerGoneError):
                raise

    async def walk_off(me: Puppet) -> None:
        await getattr(tasks, start)(fail, None, 1.0)

    kids = [puppet(name, diary, restart="temporary") for name in ("waits", "walks")]
    async with open_supervisor(TaskSupervisor) as tasks, open_supervisor(kids) as supervisor:
        refs = [supervisor.child(name).pin() for name in ("waits", "walks")]
        for ref, act in zip(refs, (wait, walk_off), strict=True):
            ref.cast(act)
        await trio.sleep(2.0)
        linked = start == "async_"
        assert diary.of("raised") == [("waits", Exit if linked else ServerGoneError)]
        assert [ref.alive for ref in refs] == [not linked] * 2
        if linked:
            reasons = [await ref.wait() for ref in refs]
            assert [str(reason.exception) for reason in reasons] == ["task", "task"]
    crashes = [r.report.process for r in records(caplog) if hasattr(r.report, "process")]
    assert crashes == ["fail", "fail"]


@virtual
async def test_a_linked_task_that_ends_normally_ends_nobody() -> None:
    """TSK-002: who traps exits hears of it, as of any end."""
    diary = Diary()

    async def ask(me: Puppet, _: Caller) -> Reply:
        tasks_of_me.append(task := await tasks.async_(add, 1, 2))
        return Reply(await task.wait())

    tasks_of_me: list[Task[int]] = []
    async with open_supervisor(TaskSupervisor) as tasks:
        for cls in (Puppet, Trapper):
            async with open_server(cls, Role(diary)) as ref:
                assert await ref.call(ask) == 3
                await settle()
                assert ref.alive
        assert diary.of("info") == [("puppet", Exited(tasks_of_me[1].ref, NORMAL))]


@virtual
async def test_a_trapping_process_gets_the_error_of_its_task_and_a_message() -> None:
    """TSK-002: it goes on, so it may see what went wrong."""
    diary = Diary()

    async def ask(me: Puppet, _: Caller) -> Reply:
        task = await tasks.async_(fail)
        with pytest.raises(ServerGoneError) as gone:
            await task.wait()
        return Reply(gone.value.__cause__)

    async with open_supervisor(TaskSupervisor) as tasks:
        async with open_server(Trapper, Role(diary)) as ref:
            assert isinstance(await ref.call(ask), Boom)
            await settle()
            [(_, exited)] = diary.of("info")
            assert isinstance(exited.reason, Crashed)


@pytest.mark.parametrize("start", ["async_", "async_nolink"])
@pytest.mark.parametrize("end", [NORMAL, SHUTDOWN, None])
@virtual
async def test_the_end_of_who_started_it_ends_a_linked_task(
    end: ExitReason | None, start: str
) -> None:
    """TSK-002: at once, but not a normal end; and never one that is not linked."""
    diary = Diary()

    async def work() -> None:
        try:
            await trio.sleep(60.0)
        finally:
            diary.write("ended", trio.current_time())

    async def begin(me: Puppet) -> None:
        await getattr(tasks, start)(work)

    async with open_supervisor(TaskSupervisor) as tasks:
        async with open_supervisor([puppet("a", restart="temporary")]) as supervisor:
            ref = supervisor.child("a")
            ref.cast(begin)
            await settle()
            ref.cast(crash(Boom("owner") if end is None else Exit(end)))
            await trio.sleep(1.0)
            linked = start == "async_" and end != NORMAL
            assert diary == ([("ended", 0.0)] if linked else [])
            assert tasks.count_children().active == (0 if linked else 1)


@virtual
async def test_outside_of_a_process_there_is_nobody_to_link_to() -> None:
    """TSK-002: a plain task is told by wait(); its scope and its nursery are not touched."""
    async with open_supervisor(TaskSupervisor) as tasks:
        task = await tasks.async_(fail)
        await trio.sleep(1.0)
        with pytest.raises(ServerGoneError):
            await task.wait()


# -- shutting down


@pytest.mark.parametrize("linked", [True, False])
@pytest.mark.parametrize("how", [5.0, 1.0, "brutal_kill"])
@virtual
async def test_a_task_is_shut_down_within_its_time_and_its_owner_lives(
    how: Any, linked: bool
) -> None:
    """Its link is taken back first; it is cancelled at once, killed when its time is up."""
    diary = Diary()

    async def linger() -> None:
        try:
            await trio.sleep(60.0)
        finally:
            diary.write("ended", trio.current_time())

    async def act(me: Puppet, _: Caller) -> Reply:
        start = tasks.async_ if linked else tasks.async_nolink
        task = await start(linger)
        await trio.sleep(1.0)
        assert await task.shutdown(timeout=how) is False
        with pytest.raises(ServerGoneError) as gone:
            await task.wait()
        assert await task.shutdown() is True
        return Reply(gone.value.reason)

    async with open_supervisor(TaskSupervisor) as tasks, open_server(Puppet) as ref:
        reason = await ref.call(act)
        assert reason == (KILLED if how == "brutal_kill" else SHUTDOWN)
        assert diary == [("ended", 1.0)]
        assert ref.alive


@virtual
async def test_a_task_that_shields_itself_is_killed_when_its_time_is_up() -> None:
    """And waited for: nobody can be cut off."""

    async def stubborn() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(3.0)

    async with open_supervisor(TaskSupervisor) as tasks:
        for seconds, expected in ((1.0, KILLED), (4.0, SHUTDOWN)):
            task = await tasks.async_nolink(stubborn)
            await settle()
            before = trio.current_time()
            assert await task.shutdown(timeout=seconds) is False
            assert trio.current_time() == before + 3.0
            assert await task.ref.wait() == expected


@virtual
async def test_to_shut_down_a_task_that_is_done_keeps_its_result() -> None:
    """As Elixir's, which looks for a reply."""
    async with open_supervisor(TaskSupervisor) as tasks:
        task = await tasks.async_nolink(add, 1, 2)
        await settle()
        assert await task.shutdown() is True
        assert await task.wait() == 3


# -- cancelling, misuse


@pytest.mark.parametrize("start", ["async_", "async_nolink", "start_child"])
def test_a_caller_that_is_cancelled_while_it_starts_a_task_leaves_none_that_nobody_has(
    start: str,
) -> None:
    """At whichever step; one that nobody was to wait for is started all the same."""

    async def scenario(step: int) -> bool:
        ran: list[str] = []

        async def work() -> None:
            ran.append("began")
            await trio.sleep_forever()

        async with open_supervisor(TaskSupervisor) as tasks:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:

                    async def cancel_soon() -> None:
                        for _ in range(step):
                            await trio.lowlevel.checkpoint()
                        scope.cancel()

                    nursery.start_soon(cancel_soon)
                    await getattr(tasks, start)(work)
                    nursery.cancel_scope.cancel()
            await settle()
            active = tasks.count_children().active
            if not scope.cancelled_caught:
                assert active == 1
            elif start == "start_child":
                assert active == len(ran)
            else:
                assert active == 0
            return scope.cancelled_caught

    async def main() -> None:
        outcomes = [await scenario(step) for step in range(12)]
        assert outcomes[0]
        assert not outcomes[-1]

    trio.run(main)


@virtual
async def test_waits_that_would_never_end_are_refused() -> None:
    """A task that waits for itself, and one that waits for who waits for it."""

    async def back(ref: ServerRef, seconds: float) -> Any:
        await trio.sleep(seconds)
        try:
            return await ref.call(ping)
        except DeadlockError as error:
            return str(error)

    async def ask(me: Puppet, _: Caller) -> Reply:
        task = await tasks.async_(back, me.ref, 1.0)
        return Reply(await task.wait())

    async def circle(me: Puppet, _: Caller) -> Reply:
        task = await tasks.async_(back, me.ref, 0.0)
        await trio.sleep(1.0)
        with pytest.raises(DeadlockError):
            await task.wait()
        return Reply(task)

    async def look(me: Puppet, _: Caller) -> Reply:
        task = await tasks.async_(back, me.ref, 0.0)
        await trio.sleep(1.0)
        with pytest.raises(AwaitTimeoutError):
            await task.wait(timeout=0.0)  # which waits for nothing
        return Reply(None)

    async def itself() -> None:
        await trio.sleep(1.0)
        for act in (mine[0].wait, mine[0].shutdown):
            with pytest.raises(CallingSelfError):
                await act()

    mine: list[Task[None]] = []
    async with open_supervisor(TaskSupervisor) as tasks, open_server(Puppet) as ref:
        assert "waits for the caller" in await ref.call(ask)
        task = await ref.call(circle)
        assert await task.wait() == 1
        await ref.call(look)
        mine.append(await tasks.async_nolink(itself))
        await mine[0].wait()


def double(number: int) -> int:
    return number * 2


@virtual
async def test_what_is_no_async_function_is_refused() -> None:
    """By name; a coroutine is told apart, and a plain function when it has been called."""
    async with open_supervisor(TaskSupervisor) as tasks:
        wrong: list[Any] = [add(1, 2), 5, None]
        starts: list[Callable[[Any], Any]] = [
            tasks.start_child,
            tasks.async_,
            tasks.async_nolink,
            lambda function: tasks.stream(function, [], max_concurrency=1),
        ]
        for function in wrong:
            for start in starts:
                with pytest.raises(TypeError, match="async function"):
                    await start(function)
        anything: Any = double
        task = await tasks.async_nolink(anything, 5)
        with pytest.raises(ServerGoneError) as gone:
            await task.wait()
        assert "double returned 10" in str(gone.value.__cause__)
        partial = functools.partial(add, 1, 2)
        assert await (await tasks.async_nolink(partial)).wait() == 3


@virtual
async def test_wrong_times_are_refused_before_anything_happens() -> None:
    async with open_supervisor(TaskSupervisor) as tasks:
        task = await tasks.async_nolink(add, 1, 2, 1.0)
        with pytest.raises(ConfigError, match="timeout"):
            await task.wait(timeout=-1.0)
        with pytest.raises(ConfigError, match="brutal_kill"):
            await task.shutdown(timeout="soon")  # type: ignore[arg-type]  # that is the point
        assert await task.wait() == 3


@virtual
async def test_a_supervisor_that_is_gone_starts_nothing_and_took_its_tasks_along() -> None:
    async with open_supervisor(TaskSupervisor) as tasks:
        task = await tasks.async_nolink(add, 1, 2, 60.0)
    for start in (tasks.start_child, tasks.async_, tasks.async_nolink):
        with pytest.raises(ServerGoneError):
            await start(add, 1, 2)
    with pytest.raises(ServerGoneError) as gone:
        await task.wait()
    assert gone.value.reason == SHUTDOWN


@virtual
async def test_a_thousand_tasks_leave_nothing_behind() -> None:
    """TSK-001: neither tasks nor children."""
    async with open_supervisor(TaskSupervisor) as tasks:
        before = live_tasks()
        handles = [await tasks.async_nolink(add, n, n, n % 7) for n in range(1000)]
        assert [await task.wait(timeout=None) for task in handles] == [2 * n for n in range(1000)]
        await settle()
        assert tasks.count_children() == (0, 0, 0, 0)
        assert live_tasks() == before


def test_a_foreign_thread_is_told() -> None:
    """TRI-097."""
    kept: list[Task[int]] = []

    async def main() -> None:
        async with open_supervisor(TaskSupervisor) as tasks:
            kept.append(await tasks.async_nolink(add, 1, 2))
            await trio.to_thread.run_sync(work)

    def work() -> None:
        for act in (kept[0].wait, kept[0].shutdown):
            with pytest.raises(WrongTaskError, match="another thread"):
                trio.run(act)

    trio.run(main)
