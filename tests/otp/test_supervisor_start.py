"""How a supervisor starts: in order, or not at all."""

import types
from typing import Any, ClassVar

import pytest
import trio

from slipstream.errors import (
    AlreadyStartedError,
    BadReturnError,
    ChildNotFoundError,
    ChildSpecError,
    ServerGoneError,
    StartError,
    SupervisorGaveUpError,
)
from slipstream.otp import (
    ChildSpec,
    ChildStatus,
    Exit,
    FailedToStart,
    Ignore,
    Stop,
    Supervisor,
    SupervisorRef,
    open_server,
    open_supervisor,
)
from slipstream.reasons import NOPROC, NORMAL, SHUTDOWN, Crashed, ExitReason, Shutdown
from tests.otp.support import (
    Boom,
    Diary,
    Puppet,
    Role,
    crash,
    end,
    ping,
    puppet,
    records,
    settle,
    sleep_then,
    started,
    stopped,
    virtual,
)


@virtual
async def test_an_empty_supervisor_starts_and_stops(caplog: pytest.LogCaptureFixture) -> None:
    """SUP-001: it ends with shutdown, and says nothing."""
    async with open_supervisor([]) as supervisor:
        assert supervisor.which_children() == []
        assert supervisor.count_children() == (0, 0, 0, 0)
        assert supervisor.alive
    assert await supervisor.wait() == SHUTDOWN
    assert records(caplog) == []


class Ignoring(Supervisor):
    """Chooses not to start."""

    async def init(self, argument: Any) -> Ignore:
        return Ignore()


@virtual
async def test_a_supervisor_may_choose_not_to_start(caplog: pytest.LogCaptureFixture) -> None:
    """SUP-002: as a child it is like any child that ignores."""
    async with open_supervisor([]) as supervisor:
        assert await supervisor.start_child(Ignoring) is None
        assert supervisor.count_children() == (1, 0, 1, 0)
    assert records(caplog) == []


@virtual
async def test_a_permanent_child_that_ignores_is_kept() -> None:
    """SUP-003: its specification stays, in the order of start."""
    children = [puppet("1", init=lambda _: Ignore()), puppet("2")]
    async with open_supervisor(children) as supervisor:
        first, second = supervisor.which_children()
        assert (first.id, first.ref, first.status) == ("1", None, ChildStatus.DOWN)
        assert (second.id, second.ref) == ("2", supervisor.child("2"))
        assert supervisor.count_children() == (2, 1, 0, 2)
        with pytest.raises(ServerGoneError) as gone:
            await supervisor.child("1").call(ping)
        assert gone.value.reason == NOPROC


@pytest.mark.parametrize("dynamic", [False, True], ids=["listed", "start_child"])
@virtual
async def test_a_temporary_child_that_ignores_is_forgotten(dynamic: bool) -> None:
    """SUP-004, SUP-005."""
    one = puppet("1", init=lambda _: Ignore(), restart="temporary")
    children = [puppet("2")] if dynamic else [one, puppet("2")]
    async with open_supervisor(children) as supervisor:
        if dynamic:
            assert await supervisor.start_child(one) is None
        assert supervisor.count_children() == (1, 1, 0, 1)
        with pytest.raises(ChildNotFoundError):
            supervisor.child("1")


class Odd(Supervisor):
    """Returns what it is given instead of a list of children."""

    async def init(self, value: Any) -> Any:
        if value == "coroutine":
            return self.work()
        if isinstance(value, BaseException):
            raise value
        return value

    async def work(self) -> list[Any]:
        return []


@pytest.mark.parametrize("value", [5, "children", Stop(SHUTDOWN), "coroutine"], ids=repr)
@virtual
async def test_a_supervisor_whose_init_returns_an_odd_value_does_not_start(value: Any) -> None:
    """SUP-007."""
    async with open_supervisor([]) as supervisor:
        with pytest.raises(StartError) as error:
            await supervisor.start_child((Odd, value))
        assert isinstance(error.value.__cause__, BadReturnError)
        assert isinstance(error.value.reason, Crashed)
        expected = "did you forget await?" if value == "coroutine" else repr(value)
        assert expected in str(error.value)
        assert supervisor.which_children() == []


@pytest.mark.parametrize("value", [[5], [Puppet, Puppet], [int]], ids=repr)
@virtual
async def test_a_supervisor_whose_init_gives_wrong_children_does_not_start(value: Any) -> None:
    """SUP-014: everything is checked before anything starts."""
    async with open_supervisor([]) as supervisor:
        with pytest.raises(StartError) as error:
            await supervisor.start_child((Odd, value))
        assert isinstance(error.value.__cause__, ChildSpecError)
        assert supervisor.which_children() == []


@virtual
async def test_a_supervisor_whose_init_raises_does_not_start() -> None:
    """SUP-008."""
    boom = Boom("init")
    async with open_supervisor([]) as supervisor:
        with pytest.raises(StartError) as error:
            await supervisor.start_child((Odd, boom))
        assert error.value.__cause__ is boom
        assert error.value.reason == Crashed(boom)
        assert supervisor.which_children() == []


@pytest.mark.parametrize(
    ("init", "reason"),
    [
        (crash(), Crashed),
        (end(Shutdown("no")), Shutdown("no")),
        (crash(Exit(NORMAL)), NORMAL),
        (lambda _: "odd", Crashed),
    ],
    ids=["raise", "stop", "exit", "odd"],
)
@virtual
async def test_start_child_tells_why_and_stores_nothing(init: Any, reason: Any) -> None:
    """SUP-009."""
    async with open_supervisor([puppet("a")]) as supervisor:
        with pytest.raises(StartError) as error:
            await supervisor.start_child(puppet("b", init=init))
        assert not isinstance(error.value, AlreadyStartedError)
        if isinstance(reason, ExitReason):
            assert error.value.reason == reason
        else:
            assert isinstance(error.value.reason, Crashed)
        assert supervisor.count_children() == (1, 1, 0, 1)
        assert await supervisor.start_child(puppet("b"))


@virtual
async def test_restart_child_tells_why_and_the_child_stays_down() -> None:
    """SUP-010."""
    role = Role(name="a")
    async with open_supervisor([Puppet.child_spec(role, id="a")]) as supervisor:
        await supervisor.terminate_child("a")
        role.init = crash(Boom("not again"))
        with pytest.raises(StartError) as error:
            await supervisor.restart_child("a")
        assert isinstance(error.value.__cause__, Boom)
        (info,) = supervisor.which_children()
        assert (info.id, info.ref, info.status) == ("a", None, ChildStatus.DOWN)
        role.init = lambda _: Ignore()
        assert await supervisor.restart_child("a") is None
        role.init = None
        assert await supervisor.restart_child("a") == supervisor.child("a")


@virtual
async def test_a_specification_can_be_read_back_with_its_defaults() -> None:
    """SUP-012."""
    spec = Puppet.child_spec(Role(), id="a")
    async with open_supervisor([spec]) as supervisor:
        found = supervisor.child_spec_of("a")
        assert found == spec
        assert (found.restart, found.shutdown, found.type) == ("permanent", 5.0, "worker")
        with pytest.raises(ChildNotFoundError, match="'b'"):
            supervisor.child_spec_of("b")


@pytest.mark.parametrize("failing", [1, 2, 3, 4, 5])
@virtual
async def test_a_start_that_fails_rolls_back_in_reverse_order(failing: int) -> None:
    """SUP-015: those after it never start; the error names the child; the name is free."""
    diary = Diary()
    boom = Boom("third")
    children = [
        puppet(str(number), diary, init=crash(boom) if number == failing else None)
        for number in range(1, 6)
    ]
    async with open_supervisor([]) as supervisor:
        spec = Supervisor.child_spec(children, id="sub", name="sub")
        with pytest.raises(StartError) as error:
            await supervisor.start_child(spec)
        assert error.value.reason == Shutdown(FailedToStart(str(failing), Crashed(boom)))
        assert error.value.__cause__ is boom
        assert started(diary) == [str(number) for number in range(1, failing + 1)]
        assert stopped(diary) == [str(number) for number in range(failing - 1, 0, -1)]
        assert supervisor.whereis("sub") is None
        assert supervisor.which_children() == []


@virtual
async def test_a_rollback_gives_each_child_its_own_time_to_stop() -> None:
    """SUP-015: by their own shutdown values."""
    diary = Diary()
    children = [
        puppet("1", diary, terminate=sleep_then(2.0)),
        puppet("2", diary, terminate=sleep_then(100.0), shutdown=1.0),
        puppet("3", diary, init=crash()),
    ]
    before = trio.current_time()
    with pytest.raises(StartError):
        async with open_supervisor(children):
            pytest.fail("it must not start")
    assert trio.current_time() == before + 3.0


@virtual
async def test_a_failure_deep_down_surfaces_at_the_entry_with_its_cause() -> None:
    """SUP-016: the chain of reasons, and the innermost exception as the cause."""
    boom = Boom("deep")
    diary = Diary()
    inner = Supervisor.child_spec([puppet("ok", diary), puppet("bad", init=crash(boom))], id="in")
    outer = Supervisor.child_spec([inner], id="out")
    with pytest.raises(StartError) as error:
        async with open_supervisor([puppet("first", diary), outer]):
            pytest.fail("it must not start")
    assert error.value.__cause__ is boom
    reason: Any = error.value.reason
    path: list[Any] = []
    while isinstance(reason, Shutdown):
        assert isinstance(reason.detail, FailedToStart)
        path.append(reason.detail.id)
        reason = reason.detail.reason
    assert path == ["out", "in", "bad"]
    assert reason == Crashed(boom)
    assert stopped(diary) == ["ok", "first"]


@virtual
async def test_children_start_one_after_the_other() -> None:
    """SUP-037: each start waits for the one before it."""
    diary = Diary()

    async def slowly(me: Puppet) -> None:
        await trio.sleep(1.0)
        me.write("ready")

    children = [puppet(name, diary, init=slowly) for name in "zax"]
    before = trio.current_time()
    async with open_supervisor(children) as supervisor:
        assert trio.current_time() == before + 3.0
        assert [info.id for info in supervisor.which_children()] == ["z", "a", "x"]
    assert diary[:6] == [(what, name) for name in "zax" for what in ("init", "ready")]


class App(Supervisor, strategy="rest_for_one", name="app"):
    """A supervisor with a class of its own."""

    arguments: ClassVar[list[Any]] = []

    async def init(self, argument: Any) -> list[Any]:
        self.arguments.append(argument)
        return [Puppet, ChildSpec.of((Puppet, Role()), id="second")]


@virtual
async def test_a_class_of_ones_own_starts_its_children() -> None:
    """SUP-020, SUP-022: reachable by name, with its argument; a bare class gets None."""
    App.arguments.clear()
    async with open_supervisor(App) as supervisor:
        assert supervisor.count_children() == (2, 2, 0, 2)
        assert supervisor.whereis("app") == supervisor
    async with open_supervisor([(App, 5)]) as supervisor:
        app = supervisor.whereis("app")
        assert isinstance(app, SupervisorRef)
        assert app.count_children() == (2, 2, 0, 2)
        assert supervisor.child(App) == app
    async with open_supervisor(App.child_spec(6)) as supervisor:
        assert supervisor.count_children().specs == 2
    assert App.arguments == [None, 5, 6]


@virtual
async def test_a_named_child_is_found_again_after_its_restart_with_fresh_state() -> None:
    """SUP-021."""
    async with open_supervisor([puppet("a", name="bob")]) as supervisor:
        bob = supervisor.whereis("bob")
        assert bob
        await bob.stop()
        await trio.testing.wait_all_tasks_blocked()
        again = supervisor.whereis("bob")
        assert again
        assert await again.call(ping) == 2


@virtual
async def test_a_name_that_is_taken_elsewhere_in_the_tree_is_already_started() -> None:
    """SUP-023: the error gives the one that runs; nothing is stored."""
    nested = Supervisor.child_spec([puppet("x", name="bob")], id="sub")
    async with open_supervisor([nested]) as supervisor:
        with pytest.raises(AlreadyStartedError) as taken:
            await supervisor.start_child(puppet("y", name="bob"))
        assert taken.value.ref == supervisor.whereis("bob")
        assert [info.id for info in supervisor.which_children()] == ["sub"]


@virtual
async def test_two_trees_have_names_of_their_own() -> None:
    """SUP-023: there is no registry at module level."""
    async with (
        open_supervisor([puppet("a", name="bob")]) as one,
        open_supervisor([puppet("a", name="bob")]) as two,
        open_server(Puppet, name="bob"),
    ):
        assert one.whereis("bob") != two.whereis("bob")


@virtual
async def test_a_process_may_open_a_tree_of_its_own_in_a_helper() -> None:
    """Names belong to the tree of one block, wherever it stands."""
    diary = Diary()

    async def helper(me: Puppet) -> None:
        async with open_supervisor([puppet("inner", name="in")]) as supervisor:
            diary.write("in", me.whereis("in"), supervisor.whereis("in") is not None)
            await trio.sleep_forever()

    async with open_supervisor([puppet("a", init=lambda me: me.start_soon(helper, me))]):
        await trio.testing.wait_all_tasks_blocked()
        assert diary == [("in", None, True)]


def class_with(flags: dict[str, Any]) -> Any:
    """Make a class of supervisors that gives its argument as the children."""
    return types.new_class("Own", (Supervisor,), flags)


MAKERS: dict[str, Any] = {
    "block": lambda kids, flags: (kids, flags),
    "child_spec": lambda kids, flags: (Supervisor.child_spec(kids, **flags), {}),
    "class": lambda kids, flags: (class_with(flags).child_spec(kids), {}),
}


@pytest.mark.parametrize("maker", MAKERS)
@virtual
async def test_a_supervisor_that_says_nothing_has_the_defaults(maker: str) -> None:
    """SUP-019: one_for_one, three restarts in five seconds, never shut down by a child."""
    diary = Diary()
    kids = [puppet("a", diary), puppet("b", diary), puppet("t", diary, restart="transient")]
    children, options = MAKERS[maker](kids, {})
    with pytest.raises(SupervisorGaveUpError, match=r"max_restarts=3.*max_seconds=5"):
        async with open_supervisor(children, **options) as supervisor:
            with pytest.raises(ChildSpecError, match="never"):
                await supervisor.start_child(puppet("s", restart="transient", significant=True))
            supervisor.child("t").cast(end(NORMAL))
            await settle()
            diary.clear()
            for seconds in (0.0, 0.0, 0.0, 5.001, 0.0, 0.0):
                await trio.sleep(seconds)
                supervisor.child("a").cast(crash())
                await settle()
            assert started(diary) == ["a"] * 6
            supervisor.child("a").cast(crash())
            await trio.sleep_forever()


@pytest.mark.parametrize("maker", MAKERS)
@virtual
async def test_a_supervisor_does_as_its_options_say(maker: str) -> None:
    """SUP-019: explicit ones."""
    diary = Diary()
    kids = [puppet("a", diary), puppet("b", diary, restart="transient", significant=True)]
    flags = {
        "strategy": "one_for_all",
        "max_restarts": 1,
        "max_seconds": 100.0,
        "auto_shutdown": "any_significant",
    }
    children, options = MAKERS[maker](kids, flags)
    async with open_supervisor(children, **options) as supervisor:
        supervisor.child("a").cast(crash())
        await settle()
        assert started(diary) == ["a", "b", "a", "b"]
        supervisor.child("b").cast(end(NORMAL))
        assert await supervisor.wait() == SHUTDOWN
    with pytest.raises(SupervisorGaveUpError, match=r"max_restarts=1.*max_seconds=100"):
        async with open_supervisor(children, **options) as supervisor:
            for seconds in (0.0, 100.0):
                await trio.sleep(seconds)
                supervisor.child("a").cast(crash())
                await settle()
            await trio.sleep_forever()
