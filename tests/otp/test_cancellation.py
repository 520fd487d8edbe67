"""Cancellation from outside, from inside and while starting."""

from contextlib import suppress
from typing import Any

import pytest
import trio
import trio.lowlevel

from slipstream.errors import (
    ServerGoneError,
    StartError,
    SupervisorGaveUpError,
)
from slipstream.otp import (
    Caller,
    Exit,
    Reply,
    Supervisor,
    SupervisorRef,
    open_server,
    open_supervisor,
)
from slipstream.otp._supervisor_process import SupervisorProcess
from slipstream.reasons import KILLED, NOPROC, NORMAL, SHUTDOWN, Crashed
from tests.otp.support import (
    Boom,
    Diary,
    Puppet,
    Role,
    crash,
    ping,
    pinned,
    puppet,
    records,
    settle,
    sleep_then,
    started,
    stopped,
    virtual,
    which,
)

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


@virtual
async def test_a_process_cannot_say_twice_that_it_has_started() -> None:
    """TRI-055: there is no ``started()`` to call; init, called again, is a function like any other.

    What it raises then is a crash, and no failed start.
    """
    diary = Diary()

    async def again(me: Puppet, _: Caller) -> Reply:
        await me.init(Role(diary, "again"))
        return Reply(None)

    def refuse(_: Puppet) -> None:
        if diary.names("init").count("a") > 1:
            raise Boom("again")

    async with open_supervisor([]) as supervisor:
        ref = await supervisor.start_child(puppet("a", diary))
        assert ref is not None
        one = ref.pin()
        await ref.call(again)
        assert one.alive
        assert which(supervisor) == [("a", "running")]
        ref.cast(lambda me: me.init(Role(diary, "a", init=refuse)))
        await settle()
        assert isinstance(await one.wait(), Crashed)
        assert which(supervisor) == [("a", "running")]
        assert started(diary) == ["a", "again", "a", "a"]
