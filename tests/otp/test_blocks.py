"""The blocks that open a tree: what leaves them, and when."""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
import trio

from slipstream.errors import (
    ChildSpecError,
    ServerGoneError,
    StartError,
    SupervisorGaveUpError,
    WrongTaskError,
)
from slipstream.otp import (
    ChildSpec,
    DynamicSupervisor,
    Exit,
    GenServer,
    Reply,
    ServerRef,
    Supervisor,
    current_process,
    open_server,
    open_supervisor,
    start_of,
    wait_event,
)
from slipstream.reasons import NORMAL, SHUTDOWN, Crashed, Shutdown
from tests.otp.support import (
    Boom,
    Diary,
    Puppet,
    Role,
    crash,
    end,
    live_tasks,
    ping,
    pinned,
    puppet,
    records,
    settle,
    sleep_then,
    stopped,
    virtual,
)


@virtual
async def test_leaving_the_block_stops_the_children_and_does_not_wait_for_their_work() -> None:
    diary = Diary()
    async with open_supervisor([puppet("a", diary), puppet("b", diary)]) as supervisor:
        supervisor.child("a").cast(sleep_then(1.0))
        await settle()
        before = trio.current_time()
    assert trio.current_time() == before + 1.0  # the callback may finish
    assert stopped(diary) == ["b", "a"]
    assert not supervisor.alive


@virtual
async def test_waiting_for_a_supervisor_waits_for_its_end() -> None:
    with trio.move_on_after(5.0) as scope:
        async with open_supervisor([puppet("a")]) as supervisor:
            await supervisor.wait()
    assert scope.cancelled_caught


@pytest.mark.parametrize("opened", ["server", "supervisor"])
@virtual
async def test_an_exception_of_the_block_leaves_bare_after_the_stop(opened: str) -> None:
    diary = Diary()
    boom = Boom("mine")
    spec = puppet("a", diary, terminate=sleep_then(1.0))
    before = trio.current_time()
    with pytest.raises(Boom) as raised:
        async with open_server(spec) if opened == "server" else open_supervisor([spec]):
            raise boom
    assert raised.value is boom
    assert trio.current_time() == before + 1.0
    assert stopped(diary) == ["a"]


@virtual
async def test_a_group_of_the_block_leaves_as_it_was() -> None:
    group = ExceptionGroup("mine", [Boom("1"), Boom("2")])
    with pytest.raises(ExceptionGroup) as raised:
        async with open_supervisor([puppet("a")]):
            raise group
    assert raised.value is group


@virtual
async def test_an_error_of_the_block_wins_over_a_root_that_gave_up_and_tells_of_it() -> None:
    boom = Boom("mine")
    with pytest.raises(Boom) as raised:
        async with open_supervisor([puppet("a")], max_restarts=0) as supervisor:
            supervisor.child("a").cast(crash())
            try:
                await trio.sleep_forever()
            finally:
                raise boom
    assert raised.value is boom
    assert any("SupervisorGaveUpError" in note for note in raised.value.__notes__)


@virtual
async def test_a_root_that_gives_up_while_its_block_is_being_left_is_no_news() -> None:
    async with open_supervisor([puppet("a", terminate=crash())], max_restarts=0):
        pass


@virtual
async def test_a_root_that_ends_orderly_leaves_the_block_alone() -> None:
    """Only an abnormal end, or a give-up, cancels it."""
    async with open_server(Puppet) as ref:
        await ref.stop(Shutdown("by itself"))
        await trio.sleep(1.0)
    spec = puppet("s", restart="transient", significant=True)
    async with open_supervisor([spec], auto_shutdown="any_significant") as supervisor:
        supervisor.child("s").cast(end(NORMAL))
        assert await supervisor.wait() == SHUTDOWN
        await trio.sleep(1.0)


@virtual
async def test_a_server_that_crashes_cancels_the_block_and_says_why() -> None:
    """GS-006: bare, with the crash as the cause; the block's own scope is not abused."""
    boom = Boom("crash")
    cleaned: list[float] = []
    with pytest.raises(ServerGoneError) as gone:
        async with open_server(Puppet) as ref:
            ref.send(crash(boom))
            try:
                await trio.sleep_forever()
            finally:
                cleaned.append(trio.current_time())
    assert gone.value.reason == Crashed(boom)
    assert gone.value.__cause__ is boom
    assert cleaned == [0.0]


@virtual
async def test_a_server_that_crashes_while_it_is_stopped_is_reported_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_server(Puppet, Role(terminate=crash(Boom("late")))):
        pass
    assert "late" in caplog.text


@virtual
async def test_a_cancellation_during_the_start_leaves_nothing() -> None:
    before = live_tasks()

    def open_alone(spec: ChildSpec) -> Any:
        return open_supervisor([spec])

    openers: list[Any] = [open_server, open_alone]
    for opened in openers:
        with trio.move_on_after(1.0) as scope:
            async with opened(puppet("a", init=sleep_then(60.0))):
                pytest.fail("it must not start")
        assert scope.cancelled_caught
        assert live_tasks() == before


@virtual
async def test_the_stop_has_a_limit_for_the_whole_tree_thirty_seconds_by_default() -> None:
    """TRI-013."""
    before = trio.current_time()
    async with open_supervisor([puppet("a", terminate=sleep_then(999.0), shutdown=900.0)]):
        pass
    assert trio.current_time() == before + 30.0


@virtual
async def test_a_second_cancellation_does_not_cut_the_stop_short() -> None:
    """Children are shielded: their goodbye has the time that their specification gives it."""
    diary = Diary()

    async def goodbye(me: Puppet, _: Any) -> None:
        await trio.sleep(2.0)
        me.write("said goodbye")

    with trio.move_on_after(5.0), trio.move_on_after(4.0):
        async with open_supervisor([puppet("a", diary, terminate=goodbye)]):
            await trio.sleep_forever()
    assert diary.of("said goodbye") == ["a"]


@pytest.mark.parametrize("cause", ["asked", "cancelled", "failed", "gave up"])
@virtual
async def test_a_process_knows_why_it_is_being_stopped(cause: str) -> None:
    """The cause is handed down beside the exit reason."""
    diary = Diary()

    def goodbye(me: Puppet, reason: Any) -> None:
        me.write("cause", me.stop_cause, reason)

    sub = Supervisor.child_spec([puppet("leaf", diary, terminate=goodbye)], id="sub")
    spec = puppet("x", terminate=goodbye)
    with trio.CancelScope() as scope:
        try:
            async with open_supervisor(
                [sub, spec, puppet("crashes")], max_restarts=0
            ) as supervisor:
                match cause:
                    case "cancelled":
                        scope.cancel()
                        await trio.sleep_forever()
                    case "failed":
                        raise Boom
                    case "gave up":
                        supervisor.child("crashes").cast(crash())
                        await trio.sleep_forever()
                    case _:
                        pass
        except (Boom, SupervisorGaveUpError):
            pass
    told = "failed" if cause == "gave up" else cause
    assert diary.of("cause") == [("leaf", told, SHUTDOWN)]


@virtual
async def test_a_process_that_ends_by_itself_was_not_stopped() -> None:
    diary = Diary()

    def goodbye(me: Puppet, _: Any) -> None:
        me.write("cause", me.stop_cause)

    async with open_server(Puppet, Role(diary, terminate=goodbye)) as ref:
        ref.cast(end(NORMAL))
        await ref.wait()
    assert diary.of("cause") == [("puppet", None)]


@virtual
async def test_a_group_restart_is_a_cause_of_its_own() -> None:
    diary = Diary()

    def goodbye(me: Puppet, _: Any) -> None:
        me.write("cause", me.stop_cause)

    children = [puppet("a"), puppet("b", diary, terminate=goodbye)]
    async with open_supervisor(children, strategy="one_for_all") as supervisor:
        supervisor.child("a").cast(crash())
        await settle()
        assert diary.of("cause") == [("b", "failed")]


@virtual
async def test_open_server_takes_a_specification_with_overrides() -> None:
    async with open_server(puppet("a"), name="bob", shutdown=1.0) as ref:
        assert ref.name == "bob"
    with pytest.raises(ChildSpecError, match="arguments"):
        async with open_server(puppet("a"), 1):
            pytest.fail("it must not start")


@pytest.mark.parametrize("server", [5, "Puppet", int, None, Puppet()], ids=repr)
@virtual
async def test_open_server_refuses_what_is_no_server(server: Any) -> None:
    with pytest.raises(ChildSpecError):
        async with open_server(server):
            pytest.fail("it must not start")


@virtual
async def test_open_server_opens_a_supervisor_too() -> None:
    spec = Supervisor.child_spec([puppet("a", name="bob")])
    async with open_server(spec) as ref:
        bob = ref.whereis("bob")  # type: ignore[attr-defined]  # a SupervisorRef
        assert await bob.call(ping) == 1


@virtual
async def test_open_supervisor_checks_the_children_before_anything_runs() -> None:
    before = live_tasks()
    with pytest.raises(ChildSpecError):
        open_supervisor([puppet("a"), 5])  # type: ignore[list-item]  # the mistake under test
    assert live_tasks() == before


@virtual
async def test_a_class_of_ones_own_keeps_its_options_as_the_root() -> None:
    class App(Supervisor, strategy="one_for_all", max_restarts=0):
        async def init(self, argument: Any) -> list[ChildSpec]:
            return [puppet("a")]

    with pytest.raises(SupervisorGaveUpError):
        async with open_supervisor(App) as supervisor:
            supervisor.child("a").cast(crash())
            await trio.sleep_forever()


def test_a_block_outside_of_trio_is_told_so() -> None:
    block = open_supervisor([])
    coroutine = block.__aenter__()
    with pytest.raises((WrongTaskError, RuntimeError)):
        coroutine.send(None)


@virtual
async def test_blocks_may_be_nested_and_kept_on_a_stack() -> None:
    diary = Diary()
    async with AsyncExitStack() as stack:
        for name in "abc":
            await stack.enter_async_context(open_server(puppet(name, diary)))
    assert stopped(diary) == ["c", "b", "a"]


@virtual
async def test_a_process_may_open_a_block_inside_a_callback() -> None:
    """It is stopped with its process; leaving the block is not interrupted."""
    diary = Diary()

    async def act(me: Puppet) -> None:
        inner = puppet("inner", diary, terminate=sleep_then(1.0))
        async with open_supervisor([inner]) as supervisor:
            me.write("opened")
            await supervisor.wait()

    async with open_supervisor([puppet("outer", diary)]) as supervisor:
        one = pinned(supervisor, "outer")
        one.cast(act)
        await settle()
        before = trio.current_time()
        await supervisor.terminate_child("outer")
        assert trio.current_time() == before + 1.0
        assert await one.wait() == SHUTDOWN
    assert stopped(diary) == ["inner", "outer"]


@virtual
async def test_an_exit_of_a_block_inside_a_callback_is_that_of_its_process() -> None:
    async def act(_: Puppet) -> None:
        async with open_server(Puppet):
            raise Exit(Shutdown("through"))

    async with open_supervisor([puppet("a", restart="temporary")]) as supervisor:
        one = pinned(supervisor, "a")
        one.cast(act)
        assert await one.wait() == Shutdown("through")


@virtual
async def test_a_server_that_crashes_inside_a_callbacks_block_crashes_that_callback() -> None:
    async def act(_: Puppet) -> None:
        async with open_server(Puppet) as ref:
            ref.cast(crash())
            await trio.sleep_forever()

    async with open_supervisor([puppet("a", restart="temporary")]) as supervisor:
        one = pinned(supervisor, "a")
        one.cast(act)
        reason = await one.wait()
    assert isinstance(reason, Crashed)
    assert isinstance(reason.exception, ServerGoneError)


# -- children of a process of its own


class Owner(GenServer):
    """Starts a child whose life is nested in its own."""

    async def init(self, diary: Diary, spec: ChildSpec) -> None:
        self.diary = diary
        self.child = await self.start_owned(spec)
        if self.child is not None:
            self.monitor(self.child)

    async def handle_info(self, message: Any) -> None:
        self.diary.write("info", message)

    async def handle_call(self, request: Any, caller: Any) -> Any:
        return Reply(await request(self))

    async def handle_cast(self, message: Callable[[Any], Awaitable[Any]]) -> None:
        await message(self)

    async def terminate(self, reason: Any) -> None:
        self.diary.write("terminate", "owner", reason)


@virtual
async def test_an_owned_child_is_stopped_after_terminate_and_its_end_is_told() -> None:
    diary = Diary()
    spec = puppet("owned", diary)
    async with open_server(Owner, diary, spec) as ref:

        async def child_of(me: Owner) -> ServerRef | None:
            return me.child

        child = await ref.call(child_of)
        assert await child.call(ping) == 1
        child.cast(end(Shutdown("own")))
        await settle()
        (down,) = diary.of("info")
        assert down.reason == Shutdown("own")
        assert down.ref == child

        async def again(me: Owner) -> ServerRef | None:
            return await me.start_owned(puppet("second", diary))

        assert await ref.call(again)
    assert stopped(diary)[-2:] == ["owner", "second"]


@virtual
async def test_an_owned_child_that_does_not_start_is_an_error_of_the_owner() -> None:
    boom = Boom("owned")
    with pytest.raises(StartError) as error:
        async with open_server(Owner, Diary(), puppet("x", init=crash(boom))):
            pytest.fail("it must not start")
    assert isinstance(error.value.__cause__, StartError)
    assert error.value.__cause__.__cause__ is boom


@virtual
async def test_an_owned_child_dies_with_an_owner_that_is_killed_or_crashes() -> None:
    for how in ("crash", "kill"):
        diary = Diary()
        spec = Owner.child_spec(
            diary,
            puppet("owned", diary),
            restart="temporary",
            shutdown="brutal_kill" if how == "kill" else 5.0,
        )
        before = live_tasks()
        async with open_supervisor([spec]) as supervisor:
            one = pinned(supervisor, Owner)
            if how == "crash":

                async def fail(_: Any) -> None:
                    raise Boom

                one.cast(fail)
            else:
                await supervisor.terminate_child(Owner)
            await one.wait()
        assert live_tasks() == before
        assert stopped(diary) == (["owner", "owned"] if how == "crash" else [])


# -- for other layers


@virtual
async def test_waiting_for_an_event_of_trio_s_is_interrupted_by_a_stop() -> None:
    """TRI-084."""
    event = trio.Event()
    diary = Diary()

    async def act(me: Puppet) -> None:
        assert current_process() is not None
        try:
            await wait_event(event)
        except Exit as error:
            me.write("exit", error.reason)
            with pytest.raises(Exit):
                await wait_event(trio.Event())
            raise

    assert current_process() is None
    async with open_supervisor([puppet("a", diary)]) as supervisor:
        supervisor.child("a").cast(act)
        await settle()
        await supervisor.terminate_child("a")
    assert diary.of("exit") == [("a", SHUTDOWN)]


@virtual
async def test_waiting_for_an_event_ends_with_it_or_with_the_deadline() -> None:
    event = trio.Event()
    assert await wait_event(event, deadline=trio.current_time() + 1.0) is False
    assert trio.current_time() == 1.0
    event.set()
    with trio.testing.assert_checkpoints():
        assert await wait_event(event) is True
    with trio.move_on_after(1.0) as scope:
        await wait_event(trio.Event())
    assert scope.cancelled_caught


@virtual
async def test_a_start_that_a_function_makes_may_be_the_root() -> None:
    async with open_server(ChildSpec("root", lambda: start_of(Puppet))) as ref:
        assert await ref.call(ping) == 1


@virtual
async def test_orderly_lives_say_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Normal exits say nothing."""
    sub = Supervisor.child_spec([puppet("x")], id="sub")
    async with open_supervisor([puppet("a"), sub, puppet("t", restart="transient")]) as supervisor:
        supervisor.child("t").cast(end(NORMAL))
        await settle()
        await supervisor.terminate_child("a")
        await supervisor.restart_child("a")
    assert records(caplog) == []


@virtual
async def test_a_bug_in_the_stop_itself_is_raised_and_hangs_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise LookupError("a bug")

    with pytest.raises(LookupError, match="a bug"):
        async with open_supervisor([puppet("a"), puppet("b")]):
            monkeypatch.setattr("slipstream.otp._shell.Shell.shut_down", broken)


@virtual
async def test_options_beside_a_class_override_it_and_beside_a_specification_are_refused() -> None:
    """SUP-073: nothing that is said is passed over in silence."""

    class App(Supervisor, max_restarts=5):
        pass

    with pytest.raises(SupervisorGaveUpError, match="max_restarts=0"):
        async with open_supervisor(App, max_restarts=0) as supervisor:
            await supervisor.start_child(puppet("a"))
            supervisor.child("a").cast(crash())
            await supervisor.wait()
    with pytest.raises(ChildSpecError, match="max_children=-1"):
        open_supervisor(DynamicSupervisor, max_children=-1)
    with pytest.raises(ChildSpecError, match=r"unknown key 'max_restart' .*did you mean"):
        open_supervisor([], max_restart=1)  # type: ignore[call-overload]  # the point
    with pytest.raises(ChildSpecError, match="max_restarts=0 beside a ChildSpec"):
        open_supervisor(App.child_spec(), max_restarts=0)
