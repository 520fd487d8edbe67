"""Being stopped: what a process may still do, and how long."""

import threading
import time
from typing import Any

import pytest
import trio
import trio.lowlevel

from slipstream.errors import (
    ServerGoneError,
)
from slipstream.otp import (
    Exit,
    ServerRef,
    open_supervisor,
)
from slipstream.reasons import KILLED, SHUTDOWN, Shutdown
from tests.otp.support import (
    Diary,
    Puppet,
    ping,
    pinned,
    puppet,
    records,
    settle,
    sleep_then,
    stopped,
    virtual,
)

# -- children that will not go


@virtual
async def test_a_shielded_section_is_waited_for_and_told_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """TRI-070: 20 s of it, 5 to stop; the refusal is logged after the grace."""
    said: list[float] = []

    async def shielded(_: Puppet) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(20.0)

    async with open_supervisor([puppet("a", shutdown=5.0, kill_grace=2.0)]) as supervisor:
        one = pinned(supervisor, "a")
        one.cast(shielded)
        await settle()
        before = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervisor.terminate_child, "a")
            for _ in range(20):
                await trio.sleep(1.0)
                said.append(len(records(caplog)))
        assert trio.current_time() == before + 20.0
        assert await one.wait() == KILLED
    assert said[5] == 0
    assert said[7] == 1
    assert "refuses to die" in records(caplog)[0].getMessage()
    assert "shielded" in records(caplog)[0].getMessage()


def test_a_thread_that_cannot_be_abandoned_is_waited_for() -> None:
    """TRI-071: on the real clock; one that may be abandoned is left at once."""
    release = threading.Event()

    async def work(_: Puppet) -> None:
        await trio.to_thread.run_sync(release.wait, 10.0)

    async def abandon(_: Puppet) -> None:
        await trio.to_thread.run_sync(release.wait, 10.0, abandon_on_cancel=True)

    async def main() -> None:
        with trio.fail_after(20.0):
            children = [puppet("waits", shutdown=0.05), puppet("leaves", shutdown=0.05)]
            async with open_supervisor(children) as supervisor:
                waits, leaves = pinned(supervisor, "waits"), pinned(supervisor, "leaves")
                waits.cast(work)
                leaves.cast(abandon)
                await settle()
                await supervisor.terminate_child("leaves")
                assert not release.is_set()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(supervisor.terminate_child, "waits")
                    await trio.sleep(0.1)
                    assert waits.alive
                    release.set()
                assert await waits.wait() in {SHUTDOWN, KILLED}

    trio.run(main)


def test_a_child_that_blocks_the_thread_costs_time_and_nothing_else() -> None:
    """TRI-072: on the real clock; no sleep of trio's, the thread itself is busy."""

    def busy(_: Puppet) -> None:
        until = time.monotonic() + 0.2
        while time.monotonic() < until:
            pass

    async def main() -> None:
        with trio.fail_after(20.0):
            async with open_supervisor([puppet("a", shutdown=0.05), puppet("b")]) as supervisor:
                one = pinned(supervisor, "a")
                one.cast(busy)
                assert await supervisor.child("b").call(ping) == 1
                await supervisor.terminate_child("a")
                assert await one.wait() == SHUTDOWN

    trio.run(main)


@virtual
async def test_terminate_is_not_entered_once_a_kill_was_asked_for() -> None:
    """TRI-075: the body shielded itself past the deadline."""
    diary = Diary()

    async def shielded(_: Puppet) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(3.0)

    async with open_supervisor([puppet("a", diary, shutdown=1.0)]) as supervisor:
        one = pinned(supervisor, "a")
        one.cast(shielded)
        await settle()
        await supervisor.terminate_child("a")
        assert await one.wait() == KILLED
    assert stopped(diary) == []


# -- being stopped


@virtual
async def test_a_graceful_stop_lets_the_callback_finish_and_leaves_the_mailbox() -> None:
    """TRI-080, TRI-081, TRI-082, GS-072: what was queued is not handled; its callers are told."""
    diary = Diary()

    async def slow(me: Puppet) -> None:
        await trio.sleep(1.0)
        me.write("finished")

    async with open_supervisor([puppet("a", diary)]) as supervisor:
        ref = supervisor.child("a")
        ref.cast(slow)
        await settle()
        ref.cast("left over")
        pending = ref.send_request(ping)
        await supervisor.terminate_child("a")
        with pytest.raises(ServerGoneError) as gone:
            await pending.wait()
        assert gone.value.reason == SHUTDOWN
    assert [entry[0] for entry in diary] == ["init", "finished", "terminate"]


@virtual
async def test_with_drain_what_was_queued_before_is_handled() -> None:
    """TRI-081, GS-072: and nothing that comes after the request."""
    diary = Diary()

    async def slow(me: Puppet) -> None:
        await trio.sleep(0.5)
        me.ref.cast("after")
        me.write("finished")

    async with open_supervisor([puppet("a", diary, drain=True)]) as supervisor:
        ref = supervisor.child("a")
        ref.cast(slow)
        await settle()
        ref.cast("before")
        pending = ref.send_request(ping)
        await supervisor.terminate_child("a")
        assert await pending.wait() == 1
    assert [entry[2:] for entry in diary] == [(), (), ("before",), (SHUTDOWN,)]


@virtual
async def test_an_exit_of_its_own_ends_a_process_that_drains() -> None:
    """TRI-081: only the Exit of a wait that was interrupted is no reason to end."""
    diary = Diary()

    async def leave(_: Puppet) -> None:
        await trio.sleep(0.5)
        raise Exit(Shutdown("enough"))

    async with open_supervisor([puppet("a", diary, drain=True)]) as supervisor:
        one = pinned(supervisor, "a")
        one.cast(leave)
        await settle()
        one.cast("before")
        await supervisor.terminate_child("a")
        assert await one.wait() == Shutdown("enough")
    assert diary == [("init", "a"), ("terminate", "a", Shutdown("enough"))]


@pytest.mark.parametrize("drain", [False, True])
@virtual
async def test_a_callback_that_runs_too_long_is_cancelled_and_terminate_still_runs(
    drain: bool,
) -> None:
    """TRI-083: after interrupt_after, by default half of the time to stop; it ends a drain too."""
    diary = Diary()

    async def goodbye(me: Puppet, _: Any) -> None:
        me.write("at", trio.current_time() - before)

    for interrupt_after, at in ((None, 5.0), (2.0, 2.0)):
        diary.clear()
        spec = puppet(
            "a",
            diary,
            terminate=goodbye,
            shutdown=10.0,
            interrupt_after=interrupt_after,
            drain=drain,
        )
        async with open_supervisor([spec]) as supervisor:
            one = pinned(supervisor, "a")
            one.cast(sleep_then(60.0))
            one.cast(sleep_then(60.0))
            await settle()
            before = trio.current_time()
            await supervisor.terminate_child("a")
            assert await one.wait() == SHUTDOWN
        assert diary.of("at") == [("a", at)]


@virtual
async def test_every_wait_inside_a_process_that_is_being_stopped_raises_exit() -> None:
    """TRI-084: calls, waits and receives, in the callback and in any task below it."""
    diary = Diary()

    async def waits(me: Puppet) -> None:
        other = me.whereis("other")
        assert other

        async def one(function: Any, *args: Any) -> None:
            try:
                await function(*args)
            except Exit as error:
                diary.write("exit", error.reason)
                raise

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one, other.call, sleep_then(60.0))
            nursery.start_soon(one, other.wait)
            nursery.start_soon(one, other.send_request(sleep_then(60.0)).wait)

    children = [puppet("other", name="other"), puppet("a")]
    async with open_supervisor(children) as supervisor:
        one = pinned(supervisor, "a")
        one.cast(waits)
        await settle()
        before = trio.current_time()
        await supervisor.terminate_child("a")
        assert trio.current_time() == before
        assert await one.wait() == SHUTDOWN
        other = pinned(supervisor, "other")
        other.send_after(0.0, "x")
    assert diary.of("exit") == [SHUTDOWN] * 3


@virtual
async def test_waits_in_a_helper_raise_exit_too_and_in_terminate_they_work() -> None:
    """TRI-084: a goodbye may call."""
    diary = Diary()

    async def helper(me: Puppet) -> None:
        other = me.whereis("other")
        assert other
        try:
            await other.wait()
        except Exit:
            me.write("helper exits")
            raise

    async def goodbye(me: Puppet, _: Any) -> None:
        other = me.whereis("other")
        assert other
        me.write("asked", await other.call(ping))

    children = [puppet("other", name="other"), puppet("a", diary, terminate=goodbye)]
    async with open_supervisor(children) as supervisor:
        one = pinned(supervisor, "a")
        one.cast(lambda me: me.start_soon(helper, me))
        await settle()
        await supervisor.terminate_child("a")
        assert await one.wait() == SHUTDOWN
    assert ("helper exits", "a") in diary
    assert ("asked", "a", 1) in diary


@virtual
async def test_a_task_that_is_not_below_the_process_is_not_interrupted() -> None:
    """Inside is told by the task tree, never by a context variable."""
    outcome: list[Any] = []

    async def wait(ref: ServerRef) -> None:
        outcome.append(await ref.wait())

    async with trio.open_nursery() as nursery:
        async with open_supervisor([puppet("b", name="b"), puppet("a")]) as supervisor:
            other = supervisor.whereis("b")
            assert other
            # Started by a callback of "a", but in the nursery of the test.
            supervisor.child("a").cast(lambda _: nursery.start_soon(wait, other))
            await settle()
            await supervisor.terminate_child("a")
            assert outcome == []
            await other.stop(Shutdown("x"))
    assert outcome == [Shutdown("x")]
