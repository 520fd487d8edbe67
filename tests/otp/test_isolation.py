"""One process's trouble is nobody else's: crashes, floods, contexts."""

import contextvars
from typing import Any

import pytest
import trio
import trio.lowlevel

from slipstream.errors import (
    CallTimeoutError,
)
from slipstream.otp import (
    Caller,
    ChildSpec,
    Exit,
    NoReply,
    Reply,
    Supervisor,
    SupervisorRef,
    open_supervisor,
)
from slipstream.reasons import NORMAL, SHUTDOWN, Crashed, Shutdown
from tests.otp.support import (
    Boom,
    Diary,
    Puppet,
    crash,
    live_tasks,
    ping,
    pinned,
    puppet,
    settle,
    sleep_then,
    started,
    virtual,
)

# -- isolation


@virtual
async def test_a_crash_touches_no_sibling_and_not_the_supervisor() -> None:
    """TRI-001."""
    async with open_supervisor([puppet("a"), puppet("b")]) as supervisor:
        b = pinned(supervisor, "b")
        pending = b.send_request(sleep_then(1.0, Reply("done")))
        supervisor.child("a").cast(crash())
        assert await pending.wait() == "done"
        assert supervisor.alive


@virtual
async def test_a_crash_of_a_helper_is_its_process_s_crash_and_nobody_else_s() -> None:
    """TRI-002: also out of a nursery of the user's own, and while a callback waits."""
    diary = Diary()
    boom = Boom("helper")

    async def helper() -> None:
        await trio.sleep(1.0)
        raise boom

    async def own_nursery(_: Puppet) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(helper)
            await trio.sleep_forever()

    async with open_supervisor([puppet("a", diary), puppet("b", diary)]) as supervisor:
        for act in (lambda me: me.start_soon(helper), own_nursery):
            one = pinned(supervisor, "a")
            one.cast(act)
            one.cast(sleep_then(60.0))
            before = trio.current_time()
            assert await one.wait() == Crashed(boom)
            assert trio.current_time() == before + 1.0
            await settle()
        assert await supervisor.child("a").call(ping) == 3
        assert await supervisor.child("b").call(ping) == 1
    assert [entry[2] for entry in diary if entry[:2] == ("terminate", "a")][:2] == [
        Crashed(boom)
    ] * 2


@virtual
async def test_a_helper_lives_until_after_terminate_and_ends_quietly() -> None:
    """TRI-002: it dies with its process; an Exit of it while that stops means nothing."""
    diary = Diary()

    async def helper(me: Puppet, how: str) -> None:
        try:
            await trio.sleep_forever()
        finally:
            me.write(f"{how} ended")
            if how == "exit":
                raise Exit(NORMAL)

    def init(me: Puppet) -> None:
        me.start_soon(helper, me, "plain")
        me.start_soon(helper, me, "exit")

    async with open_supervisor([puppet("a", diary, init=init)]) as supervisor:
        one = pinned(supervisor, "a")
        await supervisor.terminate_child("a")
        assert await one.wait() == SHUTDOWN
    assert [entry[0] for entry in diary[:2]] == ["init", "terminate"]
    assert sorted(entry[0] for entry in diary[2:]) == ["exit ended", "plain ended"]


@virtual
async def test_a_helper_that_exits_ends_its_process_with_that_reason() -> None:
    async def helper() -> None:
        raise Exit(Shutdown("from the helper"))

    async with open_supervisor([puppet("a", restart="transient")]) as supervisor:
        one = pinned(supervisor, "a")
        one.cast(lambda me: me.start_soon(helper))
        assert await one.wait() == Shutdown("from the helper")


@pytest.mark.parametrize("enough", [True, False], ids=["enough", "too few"])
@virtual
async def test_a_hundred_crashes_in_one_tick(enough: bool) -> None:
    """TRI-003: all restarted, or one clean end; nothing is lost."""
    diary = Diary()
    names = [str(number) for number in range(100)]
    sub = Supervisor.child_spec(
        [puppet(name, diary) for name in names],
        id="sub",
        restart="temporary",
        max_restarts=100 if enough else 50,
    )
    async with open_supervisor([sub]) as root:
        supervisor = root.child("sub")
        assert isinstance(supervisor, SupervisorRef)
        one = supervisor.pin()
        for name in names:
            supervisor.child(name).cast(crash())
        await settle()
        assert one.alive is enough
        if enough:
            assert supervisor.count_children() == (100, 100, 0, 100)
            assert sorted(started(diary)) == sorted(names * 2)
        else:
            assert await one.wait() == SHUTDOWN
            assert len(started(diary)) == 150


# -- fairness


@virtual
async def test_a_flood_starves_nobody() -> None:
    """TRI-090: 20 000 casts for one; the other gets its turn all the time."""
    handled = 0
    gaps: list[int] = []

    def count(_: Puppet) -> None:
        nonlocal handled
        handled += 1

    async with open_supervisor([puppet("flooded"), puppet("other")]) as supervisor:
        flooded, other = supervisor.child("flooded"), supervisor.child("other")
        for _ in range(20_000):
            flooded.cast(count)
        while handled < 20_000:
            before = handled
            assert await other.call(ping) == 1
            gaps.append(handled - before)
    assert max(gaps) <= 64 * 6
    assert len(gaps) > 50


@virtual
async def test_a_restart_storm_stays_cancellable() -> None:
    """TRI-091: a child that always fails at once, and ten thousand restarts allowed."""
    starts = 0

    def init(_: Puppet) -> None:
        nonlocal starts
        starts += 1
        if starts > 1:
            raise Boom

    sub = Supervisor.child_spec([puppet("a", init=init)], id="sub", max_restarts=1_000_000)
    async with open_supervisor([sub]) as supervisor:
        ref = supervisor.child("sub")
        assert isinstance(ref, SupervisorRef)
        ref.child("a").cast(crash())
        for _ in range(100):
            await trio.lowlevel.checkpoint()
        assert starts > 3
        await supervisor.terminate_child("sub")
        assert starts < 2_000


# -- contexts and threads

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


@virtual
async def test_every_incarnation_sees_the_same_context() -> None:
    """TRI-093: first start and restart, whoever asked for it."""
    seen: list[str] = []

    def note(_: Puppet) -> None:
        seen.append(variable.get())

    variable.set("at the block")
    async with open_supervisor([puppet("a", init=note)]) as supervisor:
        variable.set("at start_child")
        await supervisor.start_child(puppet("b", init=note))
        variable.set("later")
        for name in "ab":
            supervisor.child(name).cast(crash())
            await settle()
    assert seen[0] == seen[2]
    assert seen[1] == seen[3]


@virtual
async def test_what_one_process_sets_another_does_not_see() -> None:
    """TRI-093: a context for each."""

    def change(_: Puppet, __: Caller) -> Reply:
        variable.set("changed inside")
        return Reply(None)

    def look(_: Puppet, __: Caller) -> Reply:
        return Reply(variable.get())

    variable.set("outside")
    async with open_supervisor([puppet("a"), puppet("b")]) as supervisor:
        await supervisor.child("a").call(change)
        assert await supervisor.child("b").call(look) == "outside"
    assert variable.get() == "outside"


@virtual
async def test_many_crashes_and_restarts_leave_nothing_behind() -> None:
    """TRI-098: tasks, names, slots and processes, after three hundred of them."""
    tasks = live_tasks()
    async with open_supervisor(
        [puppet("a", name="bob"), puppet("b")], strategy="one_for_all", max_restarts=1_000_000
    ) as supervisor:
        await settle()
        inside = live_tasks()
        for number in range(300):
            supervisor.child("a").cast(crash())
            await settle()
            assert await supervisor.child("b").call(ping) == number + 2
            bob = supervisor.whereis("bob")
            assert bob
            with pytest.raises(CallTimeoutError):
                await bob.call(lambda *_: NoReply(), timeout=0)
        assert live_tasks() == inside
        assert supervisor.statistics().open_calls == 0
    assert live_tasks() == tasks


@virtual
async def test_a_child_made_by_a_function_may_be_slow_and_is_cancelled_with_its_start() -> None:
    """TRI-052: an async start function hangs; the stop does not."""

    async def start() -> Any:
        await trio.sleep_forever()

    with trio.move_on_after(1.0) as scope:
        async with open_supervisor([ChildSpec("a", start)]):
            pytest.fail("it must not start")
    assert scope.cancelled_caught
