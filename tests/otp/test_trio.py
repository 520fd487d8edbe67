"""Where trio and OTP meet: isolation, cancellation, control-C, and children that will not go."""

import contextvars
import signal
import threading
import time
from contextlib import suppress
from typing import Any

import pytest
import trio
import trio.lowlevel

from slipstream.errors import (
    CallTimeoutError,
    ServerGoneError,
    StartError,
    SupervisorGaveUpError,
)
from slipstream.otp import (
    Caller,
    ChildSpec,
    Exit,
    NoReply,
    Reply,
    ServerRef,
    Supervisor,
    SupervisorRef,
    open_server,
    open_supervisor,
)
from slipstream.otp._supervisor_process import SupervisorProcess
from slipstream.reasons import KILLED, NOPROC, NORMAL, SHUTDOWN, Crashed, Shutdown
from tests.otp.support import (
    Boom,
    Diary,
    Puppet,
    Role,
    crash,
    live_tasks,
    ping,
    pinned,
    puppet,
    records,
    settle,
    sleep_then,
    started,
    stopped,
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


# -- cancellation


@virtual
async def test_a_fault_in_the_supervisors_loop_stops_all_children_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """TRI-010: a bug of ours must not become a hang."""
    diary = Diary()
    boom = Boom("in the supervisor itself")

    async def broken(self: SupervisorProcess, *_: Any) -> None:
        raise boom

    children = [puppet(name, diary) for name in "abc"]
    with pytest.raises(Boom) as raised:
        async with open_supervisor(children) as supervisor:
            monkeypatch.setattr(SupervisorProcess, "_child_ended", broken)
            supervisor.child("b").cast(crash())
            await trio.sleep_forever()
    assert raised.value is boom
    assert stopped(diary) == ["b", "c", "a"]


@virtual
async def test_a_cancellation_from_outside_stops_in_reverse_order() -> None:
    """TRI-011: and is still a cancellation outside."""
    diary = Diary()
    children = [puppet(name, diary, terminate=sleep_then(1.0)) for name in "abc"]
    before = trio.current_time()
    with trio.move_on_after(5.0) as scope:
        async with open_supervisor(children):
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert trio.current_time() == before + 8.0
    assert [entry[1:] for entry in diary if entry[0] == "terminate"] == [
        ("c", SHUTDOWN),
        ("b", SHUTDOWN),
        ("a", SHUTDOWN),
    ]


@virtual
async def test_a_cancellation_while_children_start_stops_those_that_have() -> None:
    """TRI-012: the one that starts is cancelled; no hang."""
    diary = Diary()

    async def hang(me: Puppet) -> None:
        try:
            await trio.sleep_forever()
        finally:
            me.write("cancelled")

    children = [puppet("a", diary), puppet("b", diary, init=hang), puppet("c", diary)]
    with trio.move_on_after(1.0) as scope:
        async with open_supervisor(children):
            pytest.fail("it must not start")
    assert scope.cancelled_caught
    assert [entry[:2] for entry in diary] == [
        ("init", "a"),
        ("init", "b"),
        ("cancelled", "b"),
        ("terminate", "a"),
    ]


@virtual
async def test_a_tree_that_does_not_stop_in_time_is_killed() -> None:
    """TRI-013: the rest is killed at once; the time is the budget."""
    diary = Diary()
    deep = Supervisor.child_spec(
        [puppet("leaf", diary, terminate=sleep_then(60.0), shutdown=50.0)], id="deep"
    )
    children = [puppet("a", diary), deep, puppet("z", diary, terminate=sleep_then(1.0))]
    async with open_supervisor(children, shutdown=3.0) as supervisor:
        refs = [pinned(supervisor, name) for name in ("a", "deep", "z")]
        before = trio.current_time()
    assert trio.current_time() == before + 3.0
    assert [await ref.wait() for ref in refs] == [KILLED, KILLED, SHUTDOWN]
    assert stopped(diary) == ["z", "leaf"]


@virtual
async def test_a_deadline_that_has_passed_starts_nothing() -> None:
    """TRI-014."""
    diary = Diary()
    with trio.move_on_after(0) as scope:
        await trio.lowlevel.checkpoint()
    with trio.CancelScope(deadline=trio.current_time() - 1.0) as scope:
        async with open_supervisor([puppet("a", diary)]):
            pytest.fail("it must not start")
    assert scope.cancelled_caught
    assert diary == []


@virtual
async def test_a_root_that_gives_up_is_not_silent() -> None:
    """TRI-015: the last child's exception is the cause; the message tells who and how often."""
    boom = Boom("the last")
    with pytest.raises(SupervisorGaveUpError, match=r"'?frail'?") as error:
        async with open_supervisor([puppet("frail")], max_restarts=1, max_seconds=7.0) as sup:
            for exception in (Boom("first"), boom):
                sup.child("frail").cast(crash(exception))
                await settle()
            await trio.sleep_forever()
    assert error.value.__cause__ is boom
    assert error.value.child == "frail"
    assert error.value.reason == Crashed(boom)
    assert "7" in str(error.value)


@virtual
async def test_a_callback_that_swallows_cancelled_and_returns_was_still_asked_to_stop() -> None:
    """TRI-020: it is not restarted."""

    async def swallow(_: Puppet) -> None:
        with suppress(trio.Cancelled):
            await trio.sleep_forever()

    diary = Diary()
    async with open_supervisor([puppet("a", diary, shutdown=2.0)]) as supervisor:
        one = pinned(supervisor, "a")
        one.cast(swallow)
        await settle()
        await supervisor.terminate_child("a")
        assert await one.wait() == SHUTDOWN
        assert supervisor.count_children() == (1, 0, 0, 1)
    assert started(diary) == ["a"]
    assert stopped(diary) == ["a"]


@virtual
async def test_a_callback_that_swallows_cancelled_and_goes_on_is_killed_and_told_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """TRI-021: it is cancelled again at each checkpoint, and logged once its time is up."""
    again = 0

    async def stubborn(_: Puppet) -> None:
        nonlocal again
        until = trio.current_time() + 4.0
        while trio.current_time() < until:
            try:
                await trio.sleep(0.5)
            except trio.Cancelled:
                again += 1
                with trio.CancelScope(shield=True):
                    await trio.sleep(0.5)

    async with open_supervisor([puppet("a", shutdown=2.0)]) as supervisor:
        one = pinned(supervisor, "a")
        one.cast(stubborn)
        await settle()
        await supervisor.terminate_child("a")
        assert await one.wait() == KILLED
    assert again > 2
    assert "a" in caplog.text
    assert [r.report.context for r in records(caplog)] == ["shutdown_error"]


@virtual
async def test_a_callbacks_own_cancellations_never_look_like_a_shutdown() -> None:
    """TRI-022: move_on_after ends nothing; fail_after that leaves it is a crash like any other."""
    async with open_supervisor([puppet("a")]) as supervisor:
        ref = supervisor.child("a")

        async def moves_on(_: Puppet, __: Caller) -> Reply:
            with trio.move_on_after(1.0) as scope:
                await trio.sleep_forever()
            return Reply(scope.cancelled_caught)

        async def fails(_: Puppet, __: Caller) -> Reply:
            with trio.fail_after(1.0):
                await trio.sleep(float("inf"))
            return Reply(None)

        async def cancels_itself(_: Puppet, __: Caller) -> Reply:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                nursery.cancel_scope.cancel()
            return Reply("still here")

        assert await ref.call(moves_on) is True
        assert await ref.call(cancels_itself) == "still here"
        one = ref.pin()
        with pytest.raises(ServerGoneError):
            await ref.call(fails)
        reason = await one.wait()
        assert isinstance(reason, Crashed)
        assert isinstance(reason.exception, trio.TooSlowError)
        await settle()
        assert await ref.call(ping) == 2


@virtual
async def test_an_error_while_being_stopped_is_the_reason_and_is_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """TRI-024: in a finally of the callback; the siblings go on stopping."""
    diary = Diary()
    boom = Boom("in finally")

    async def cleanup_fails(_: Puppet) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise boom

    children = [puppet("a", diary), puppet("b", diary, shutdown=2.0), puppet("c", diary)]
    async with open_supervisor(children) as supervisor:
        one = pinned(supervisor, "b")
        one.cast(cleanup_fails)
        await settle()
    assert await one.wait() == Crashed(boom)
    assert stopped(diary) == ["c", "b", "a"]
    contexts = [getattr(record.report, "context", None) for record in records(caplog)]
    assert "shutdown_error" in contexts


@virtual
async def test_an_error_beside_cancelled_in_a_group_is_the_error_alone() -> None:
    """TRI-025: out of a nursery of the callback's, while it is being stopped."""
    boom = Boom("beside")

    async def fails_late() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise boom

    async def act(_: Puppet) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fails_late)
            nursery.start_soon(trio.sleep_forever)

    async with open_supervisor([puppet("a", shutdown=2.0)]) as supervisor:
        one = pinned(supervisor, "a")
        one.cast(act)
        await settle()
        await supervisor.terminate_child("a")
    assert await one.wait() == Crashed(boom)


@virtual
async def test_a_crash_and_a_stop_in_one_tick_are_one_end_without_a_restart() -> None:
    """TRI-026."""
    diary = Diary()
    async with open_supervisor([puppet("a", diary), puppet("b", diary)]) as supervisor:
        supervisor.child("a").cast(crash())
        supervisor.child("b").cast(crash())
        await supervisor.terminate_child("b")
        await settle()
        assert not supervisor.child("b").alive
        for name in "ab":
            if supervisor.child(name).alive:
                supervisor.child(name).cast(crash())
    assert stopped(diary).count("b") == 1
    assert started(diary).count("b") <= 2


# -- control-C and its kin


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("where", ["callback", "init", "terminate", "helper", "nursery"])
def test_what_is_no_exception_ends_the_tree_in_order_and_leaves_it_bare(
    error: type[BaseException], where: str
) -> None:
    """TRI-040, TRI-042, TRI-043: it is no crash, and nothing is restarted."""
    diary = Diary()
    fatal = error(3)

    async def helper(*_: Any) -> None:
        raise fatal

    async def own_nursery(_: Puppet) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(helper)

    spec = puppet(
        "b",
        diary,
        init=crash(fatal) if where == "init" else None,
        terminate=crash(fatal) if where == "terminate" else None,
    )

    async def main() -> None:
        before = live_tasks()
        try:
            async with open_supervisor([puppet("a", diary), puppet("c", diary)]) as supervisor:
                match where:
                    case "init":
                        await supervisor.start_child(spec)
                    case _:
                        await supervisor.start_child(spec)
                        ref = supervisor.child("b")
                        match where:
                            case "helper":
                                ref.cast(lambda me: me.start_soon(helper))
                            case "nursery":
                                ref.cast(own_nursery)
                            case "callback":
                                ref.cast(crash(fatal))
                            case _:
                                await supervisor.terminate_child("b")
                await trio.sleep_forever()
        finally:
            await trio.lowlevel.cancel_shielded_checkpoint()
            assert live_tasks() == before

    with pytest.raises(error) as raised:
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert raised.value is fatal
    assert started(diary) == ["a", "c", "b"]
    rest = [name for name in stopped(diary) if name != "b"]
    assert rest == ["c", "a"]


@virtual
async def test_what_is_no_exception_in_a_deep_leaf_stops_the_whole_tree() -> None:
    """TRI-040: in order, from the root."""
    diary = Diary()
    sub = Supervisor.child_spec([puppet("x", diary), puppet("y", diary)], id="sub")
    with pytest.raises(KeyboardInterrupt):
        async with open_supervisor([puppet("a", diary), sub, puppet("z", diary)]) as supervisor:
            supervisor.child("sub").child("x").cast(crash(KeyboardInterrupt()))  # type: ignore[attr-defined] # a SupervisorRef
            await trio.sleep_forever()
    assert [name for name in stopped(diary) if name != "x"] == ["z", "y", "a"]


def _raise_sigint_soon(delay: float = 0.05) -> threading.Timer:
    timer = threading.Timer(delay, signal.raise_signal, (signal.SIGINT,))
    timer.start()
    return timer


def test_a_sigint_while_idle_stops_in_order() -> None:
    """TRI-041: trio's own, on the real clock."""
    diary = Diary()

    async def main() -> None:
        with trio.fail_after(20.0):
            async with open_supervisor([puppet("a", diary), puppet("b", diary)]):
                signal.raise_signal(signal.SIGINT)
                await trio.sleep_forever()

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
    assert stopped(diary) == ["b", "a"]


def test_a_second_sigint_during_the_ordered_stop_kills() -> None:
    """TRI-041."""
    diary = Diary()

    async def goodbye(me: Puppet, _: Any) -> None:
        me.write("says goodbye")
        signal.raise_signal(signal.SIGINT)
        await trio.sleep_forever()

    async def main() -> None:
        with trio.fail_after(20.0):
            children = [puppet("a", diary), puppet("b", diary, terminate=goodbye, shutdown=15.0)]
            async with open_supervisor(children):
                signal.raise_signal(signal.SIGINT)
                await trio.sleep_forever()

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
    assert "b" in diary.names("says goodbye")
    assert stopped(diary) == ["b"]


# -- starts


@virtual
async def test_a_start_that_fails_leaves_the_others_alone() -> None:
    """TRI-050: the nursery is alive."""
    async with open_supervisor([puppet("a")]) as supervisor:
        with pytest.raises(StartError):
            await supervisor.start_child(puppet("b", init=crash()))
        assert await supervisor.child("a").call(ping) == 1
        assert await supervisor.start_child(puppet("b"))


@virtual
async def test_a_supervisor_stops_while_a_child_hangs_in_its_init() -> None:
    """TRI-052: init is cancelled, better than in OTP; whoever asked is told."""
    diary = Diary()

    async def hang(me: Puppet) -> None:
        try:
            await trio.sleep_forever()
        finally:
            me.write("cancelled")

    async def ask(supervisor: SupervisorRef) -> None:
        with pytest.raises((ServerGoneError, StartError)):
            await supervisor.start_child(puppet("b", diary, init=hang))
        diary.write("told", "caller")

    async with trio.open_nursery() as nursery:
        async with open_supervisor([puppet("a", diary)]) as supervisor:
            nursery.start_soon(ask, supervisor)
            await settle()
            before = trio.current_time()
        assert trio.current_time() == before
    assert stopped(diary) == ["a"]
    assert ("cancelled", "b") in diary
    assert ("told", "caller") in diary


@virtual
async def test_a_start_that_is_cancelled_at_any_step_leaves_nothing_registered() -> None:
    """TRI-053: the window between a child's start and the return to the supervisor."""
    for step in range(12):
        async with open_supervisor([]) as supervisor:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:

                    async def cut(scope: trio.CancelScope = scope, step: int = step) -> None:
                        for _ in range(step):
                            await trio.lowlevel.checkpoint()
                        scope.cancel()

                    nursery.start_soon(cut)
                    await supervisor.start_child(
                        Supervisor.child_spec([puppet("x", name="x")], id="sub", name="sub")
                    )
            await settle()
            # As in OTP the operation is carried out all the same.
            assert supervisor.count_children() == (1, 1, 1, 0)
        assert supervisor.whereis("x") is None
        assert not supervisor.alive


@virtual
async def test_a_process_that_ends_while_it_starts_is_an_error_and_no_hang() -> None:
    """TRI-054: Exit(NORMAL) from init is no start."""
    with pytest.raises(StartError) as error:
        async with open_server(Puppet, Role(init=crash(Exit(NORMAL)))):
            pytest.fail("it must not start")
    assert error.value.reason == NORMAL


@virtual
async def test_a_start_timeout_belongs_to_the_specification() -> None:
    """TRI-056: also for a restart."""
    delays = [0.0, 9.0, 0.0]

    async def init(_: Puppet) -> None:
        await trio.sleep(delays.pop(0))

    async with open_supervisor([puppet("a", init=init, start_timeout=1.0)]) as supervisor:
        before = trio.current_time()
        supervisor.child("a").cast(crash())
        await trio.sleep(2.0)
        assert await supervisor.child("a").call(ping) == 3
        assert trio.current_time() == before + 2.0


@virtual
async def test_requests_during_and_after_the_close_say_noproc() -> None:
    """TRI-065: never a RuntimeError of trio's nursery."""
    diary = Diary()
    kept: list[SupervisorRef] = []

    async def late(me: Puppet, _: Any) -> None:
        requests: list[Any] = [
            lambda: kept[0].start_child(puppet("late")),
            lambda: kept[0].restart_child("b"),
            lambda: kept[0].terminate_child("a"),
            lambda: kept[0].delete_child("a"),
        ]
        for request in requests:
            try:
                await request()
            except ServerGoneError as error:
                me.write("told", error.reason)

    children = [puppet("a", diary), puppet("b", diary, terminate=late)]
    async with open_supervisor(children) as supervisor:
        kept.append(supervisor)
    assert diary.of("told") == [("b", NOPROC)] * 4
    assert stopped(diary) == ["b", "a"]


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
    """TRI-098, TRI-099: tasks, names, slots and processes, after a thousand of them."""
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
