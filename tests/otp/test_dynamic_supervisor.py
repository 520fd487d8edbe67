"""Children that are started as the need arises: their start, and what may be asked of them."""

from typing import Any

import pytest

from slipstream.errors import (
    AlreadyStartedError,
    BadReturnError,
    ChildNotFoundError,
    ChildSpecError,
    MaxChildrenError,
    ServerGoneError,
    StartError,
    SupervisorGaveUpError,
)
from slipstream.otp import (
    ChildSpec,
    ChildStatus,
    DynamicSupervisor,
    DynamicSupervisorRef,
    Exit,
    Ignore,
    Reply,
    ServerRef,
    Start,
    Supervisor,
    open_supervisor,
    start_of,
)
from slipstream.reasons import NOPROC, NORMAL, SHUTDOWN, Crashed, Shutdown
from tests.otp.support import (
    Boom,
    Diary,
    Puppet,
    Role,
    crash,
    end,
    odd,
    open_dynamic,
    ping,
    puppet,
    records,
    settle,
    start,
    virtual,
    which,
)

# -- itself


@virtual
async def test_it_is_supervised_like_any_child() -> None:
    """DYN-001: it begins without children; the reference is of its own kind."""
    async with open_supervisor([DynamicSupervisor]) as supervisor:
        ref = supervisor.child(DynamicSupervisor)
        assert isinstance(ref, DynamicSupervisorRef)
        assert ref.which_children() == []
        assert supervisor.count_children() == (1, 1, 1, 0)
        await start(ref)
        assert ref.count_children() == (1, 1, 0, 1)


@virtual
async def test_several_are_told_apart_by_their_names() -> None:
    """DYN-002: the id of one that has no class of its own is its name."""
    specs = [DynamicSupervisor.child_spec(name=name) for name in "ab"]
    assert [spec.id for spec in specs] == ["a", "b"]
    assert DynamicSupervisor.child_spec(name="a", id="c").id == "c"
    assert Rooms.child_spec(name="a").id is Rooms
    async with open_supervisor(specs) as supervisor:
        assert which(supervisor) == [("a", "running"), ("b", "running")]
        assert supervisor.whereis("b") == supervisor.child("b")
        first = await supervisor.start_child(DynamicSupervisor)
        with pytest.raises(AlreadyStartedError) as clash:
            await supervisor.start_child(DynamicSupervisor)
        assert clash.value.ref == first


class Rooms(DynamicSupervisor, max_restarts=7, restart="transient", max_children=2):
    """Options by class keywords; more of them from its start."""

    async def init(self, options: Any = None) -> Any:
        if isinstance(options, BaseException):
            raise options
        return options


def test_its_specification() -> None:
    """DYN-003: a supervisor, with the class keywords; overrides replace them."""
    spec = DynamicSupervisor.child_spec()
    assert (spec.id, spec.type, spec.restart) == (DynamicSupervisor, "supervisor", "permanent")
    assert spec.shutdown == float("inf")
    spec = Rooms.child_spec({}, shutdown=1.0, max_children=3)
    assert (spec.type, spec.restart, spec.shutdown) == ("supervisor", "transient", 1.0)
    assert spec.start == Start(Rooms, ({},), {"max_children": 3})
    assert Rooms.child_spec(restart="temporary").restart == "temporary"


@virtual
async def test_its_defaults(caplog: pytest.LogCaptureFixture) -> None:
    """DYN-004: three restarts within five seconds, any number of children, no extra arguments."""
    with pytest.raises(SupervisorGaveUpError, match=r"max_restarts=3 within max_seconds=5"):
        async with open_supervisor(DynamicSupervisor) as supervisor:
            refs = [await start(supervisor) for _ in range(200)]
            for ref in refs[:4]:
                assert ref.alive
                ref.cast(crash())
                await settle()
    assert "reached" not in caplog.text
    assert records(caplog)[-1].report.reason == "reached_max_restart_intensity"


WRONG: list[tuple[str, Any]] = [
    ("strategy", "one_for_all"),
    ("strategy", None),
    ("max_restarts", -1),
    ("max_restarts", 1.5),
    ("max_seconds", 0),
    ("max_seconds", "5"),
    ("max_children", -1),
    ("max_children", 2.5),
    ("max_children", True),
    ("extra_arguments", "ab"),
    ("extra_arguments", {}),
    ("auto_shutdown", "any_significant"),
    ("auto_shutdown", "all_significant"),
    ("colour", 1),
]


@pytest.mark.parametrize(("key", "value"), WRONG)
@virtual
async def test_a_wrong_option_is_refused_wherever_it_is_given(key: str, value: Any) -> None:
    """DYN-005, SUP-094: in the class, in the specification, by init; key and value are named."""
    expected = f"{key!r}" if key == "colour" else f"{key}={value!r}"
    options: Any = {key: value}
    with pytest.raises(ChildSpecError) as error:
        DynamicSupervisor.child_spec(**options)
    assert expected in str(error.value)
    with pytest.raises(ChildSpecError) as error:
        type("Wrong", (DynamicSupervisor,), {}, **options)
    assert expected in str(error.value)
    async with open_supervisor([]) as supervisor:
        with pytest.raises(StartError) as refused:
            await supervisor.start_child((Rooms, options))
        assert isinstance(refused.value.__cause__, ChildSpecError)
        assert expected in str(refused.value)
        assert supervisor.which_children() == []


@pytest.mark.parametrize("value", [5, "options", [], [Puppet]], ids=repr)
@virtual
async def test_an_init_that_returns_an_odd_value_is_no_start(value: Any) -> None:
    """DYN-005."""
    async with open_supervisor([]) as supervisor:
        with pytest.raises(StartError) as error:
            await supervisor.start_child((Rooms, value))
        assert isinstance(error.value.__cause__, BadReturnError)
        assert "a mapping of options" in str(error.value)


@virtual
async def test_an_init_that_raises_or_ignores_is_no_start() -> None:
    """DYN-005: and no argument is accepted where there is no init to take it."""
    async with open_supervisor([]) as supervisor:
        boom = Boom("init")
        with pytest.raises(StartError) as error:
            await supervisor.start_child((Rooms, boom))
        assert error.value.__cause__ is boom
        with pytest.raises(StartError, match="has no init"):
            await supervisor.start_child((DynamicSupervisor, 5))
        assert supervisor.which_children() == []
        assert await supervisor.start_child((Rooms, Ignore())) is None
    async with open_supervisor(Rooms.child_spec(Ignore())) as ignored:
        assert ignored is None


@virtual
async def test_what_init_says_is_in_front_of_what_the_specification_says() -> None:
    """DYN-005: the class keywords come last."""
    async with open_supervisor(
        [
            Rooms.child_spec(id=2),
            Rooms.child_spec(id=3, max_children=3),
            Rooms.child_spec({"max_children": 4}, id=4, max_children=3),
        ]
    ) as supervisor:
        for limit in (2, 3, 4):
            rooms: Any = supervisor.child(limit)
            for _ in range(limit):
                await rooms.start_child(Puppet)
            with pytest.raises(MaxChildrenError, match=f"max_children={limit}"):
                await rooms.start_child(Puppet)


@virtual
async def test_it_may_have_a_name_and_be_stopped_by_it() -> None:
    """DYN-006."""
    async with open_supervisor([]) as supervisor:
        ref = await start(supervisor, DynamicSupervisor.child_spec(name="rooms"))
        assert ref.name == "rooms"
        assert supervisor.whereis("rooms") == ref
        named = supervisor.whereis("rooms")
        assert named
        child = await start(named, puppet("a"))  # type: ignore[arg-type]  # what its name gives
        one = child.pin()
        await named.stop()
        assert await one.wait() == SHUTDOWN
    async with open_supervisor(DynamicSupervisor, name="root", shutdown=1.0) as root:
        assert root.name == "root"
        assert root.whereis("root") == root


# -- its children


@virtual
async def test_start_child_takes_every_form_of_a_child() -> None:
    """DYN-007: and any number of the same."""
    diary = Diary()
    async with open_supervisor(DynamicSupervisor) as supervisor:
        for child in (
            Puppet,
            (Puppet, Role(diary, "pair")),
            {"id": "mapping", "start": start_of(Puppet, Role(diary, "mapping"))},
            ChildSpec("function", lambda: start_of(Puppet, Role(diary, "function"))),
            puppet("spec", diary),
            puppet("spec", diary),
        ):
            assert await supervisor.start_child(child)
        assert diary.names("init") == ["pair", "mapping", "function", "spec", "spec"]
        assert supervisor.count_children() == (6, 6, 0, 6)
        infos = supervisor.which_children()
        assert {info.id for info in infos} == {None}
        assert len({info.ref for info in infos}) == 6


class Listed(Puppet):
    """Keeps what its init got."""

    async def init(self, *args: Any) -> None:
        await super().init()
        self.args = args


def arguments(me: Any, _: Any) -> Any:
    return Reply(me.args)


@pytest.mark.parametrize(
    "child",
    [
        Listed.child_spec("c", "d"),
        ChildSpec("f", lambda *extra: start_of(Listed, *extra, "c", "d")),
    ],
    ids=["class", "function"],
)
@virtual
async def test_extra_arguments_come_first_and_once(child: ChildSpec) -> None:
    """DYN-008, DYN-019: also after restarts; the specification does not change."""
    async with open_dynamic(extra_arguments=["a", "b"]) as supervisor:
        ref = await start(supervisor, child)
        for _ in range(3):
            assert await ref.call(arguments) == ("a", "b", "c", "d")
            assert supervisor.child_spec_of(ref) == child
            ref.cast(crash())
            await settle()


BAD_CHILDREN: dict[str, Any] = {
    "number": 5,
    "None": None,
    "instance": Puppet(),
    "no id": {"start": start_of(Puppet)},
    "bad start": {"id": 1, "start": 5},
    "bad shutdown": {"id": 1, "start": start_of(Puppet), "shutdown": -1},
    "bad restart": {"id": 1, "start": start_of(Puppet), "restart": "sometimes"},
    "significant": puppet("a", restart="temporary", significant=True),
}


@pytest.mark.parametrize("child", BAD_CHILDREN.values(), ids=BAD_CHILDREN)
@virtual
async def test_a_wrong_child_is_refused_in_the_caller(child: Any) -> None:
    """DYN-009, DYN-023: whether there is a supervisor or not."""
    async with open_supervisor(DynamicSupervisor) as supervisor:
        with pytest.raises(ChildSpecError):
            await supervisor.start_child(child)
        assert supervisor.which_children() == []
    with pytest.raises(ChildSpecError):
        await supervisor.start_child(child)


STARTS: dict[str, tuple[Any, Any]] = {
    "raise": (crash(Boom("start")), Crashed),
    "stop": (end(Shutdown("no")), Shutdown("no")),
    "exit": (crash(Exit(NORMAL)), NORMAL),
    "odd": (odd, Crashed),
}


@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
@pytest.mark.parametrize(("init", "reason"), STARTS.values(), ids=STARTS)
@virtual
async def test_a_child_that_does_not_start_leaves_nothing(
    init: Any, reason: Any, restart: str
) -> None:
    """DYN-010, DYN-011, SUP-011: the caller is told why; the supervisor goes on."""
    async with open_supervisor(DynamicSupervisor) as supervisor:
        with pytest.raises(StartError) as error:
            await supervisor.start_child(puppet("a", init=init, restart=restart))
        given = error.value.reason
        assert given == reason or (isinstance(reason, type) and isinstance(given, reason))
        assert supervisor.count_children() == (0, 0, 0, 0)
        assert await (await start(supervisor)).call(ping) == 1


def raising() -> Any:
    raise Boom("start")


@pytest.mark.parametrize("function", [raising, lambda: 5, lambda: start_of(int)], ids=str)
@virtual
async def test_a_start_function_that_raises_or_gives_an_odd_value_leaves_nothing(
    function: Any,
) -> None:
    """DYN-011."""
    async with open_supervisor(DynamicSupervisor) as supervisor:
        with pytest.raises(StartError) as error:
            await supervisor.start_child(ChildSpec("f", function))
        assert isinstance(error.value.__cause__, Boom | BadReturnError)
        assert supervisor.which_children() == []
        assert supervisor.alive


@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
@virtual
async def test_a_child_that_ignores_is_never_kept(
    restart: str, caplog: pytest.LogCaptureFixture
) -> None:
    """DYN-010, SUP-006: and the supervisor stops cleanly."""
    async with open_supervisor(DynamicSupervisor) as supervisor:
        spec = puppet("a", init=lambda _: Ignore(), restart=restart)
        assert await supervisor.start_child(spec) is None
        assert supervisor.count_children() == (0, 0, 0, 0)
    assert await supervisor.wait() == SHUTDOWN
    assert records(caplog) == []


@virtual
async def test_a_supervisor_that_is_full_starts_no_more() -> None:
    """DYN-012: not even the first with 0; a place is free when a child has gone."""
    diary = Diary()
    async with open_dynamic(max_children=0, name="rooms") as full:
        with pytest.raises(MaxChildrenError, match=r"rooms.*max_children=0"):
            await full.start_child(puppet("a", diary))
        assert diary == []
    async with open_dynamic(max_children=1) as supervisor:
        ref = await start(supervisor)
        with pytest.raises(MaxChildrenError):
            await supervisor.start_child(Puppet)
        await supervisor.terminate_child(ref)
        with pytest.raises(StartError):
            await supervisor.start_child(puppet("a", init=crash()))
        assert await supervisor.start_child(puppet("a", init=lambda _: Ignore())) is None
        assert await supervisor.start_child(Puppet)


@virtual
async def test_a_name_that_is_taken_is_already_started() -> None:
    """DYN-010: the child that runs is in the error; nothing is stored."""
    async with open_supervisor(DynamicSupervisor) as supervisor:
        ref = await start(supervisor, puppet("a", name="bob"))
        with pytest.raises(AlreadyStartedError) as taken:
            await supervisor.start_child(puppet("b", name="bob"))
        assert taken.value.ref == ref == supervisor.whereis("bob")
        assert supervisor.count_children() == (1, 1, 0, 1)


# -- requests


@virtual
async def test_the_life_of_children_by_request() -> None:
    """DYN-032, DYN-043, SUP-013: which, counts and specification through start and terminate."""
    async with (
        open_supervisor(DynamicSupervisor) as supervisor,
        open_supervisor([Puppet]) as other,
    ):
        assert which(supervisor) == []
        specs = [puppet("same"), puppet("same", restart="transient")]
        a, b = [await start(supervisor, spec) for spec in specs]
        assert a != b
        assert [info.ref for info in supervisor.which_children()] == [a, b]
        info = supervisor.which_child(b)
        assert (info.id, info.ref, info.type, info.restart) == (None, b, "worker", "transient")
        assert info.status is ChildStatus.RUNNING
        assert [supervisor.child_spec_of(ref) for ref in (a, b)] == specs
        for ref in (b.pin(), a):
            assert supervisor.which_child(ref).ref in (a, b)
            await supervisor.terminate_child(ref)
            assert not ref.alive
            assert ref not in [info.ref for info in supervisor.which_children()]
        foreign = [a, b, other, other.child(Puppet), other.child(Puppet).pin(), supervisor]
        await _refuses_all(supervisor, foreign)
        assert supervisor.count_children() == (0, 0, 0, 0)
        assert other.child(Puppet).alive


async def _refuses_all(supervisor: DynamicSupervisorRef, refs: list[ServerRef]) -> None:
    for ref in refs:
        with pytest.raises(ChildNotFoundError) as unknown:
            await supervisor.terminate_child(ref)
        assert unknown.value.id == ref
        with pytest.raises(ChildNotFoundError):
            supervisor.which_child(ref)
        with pytest.raises(ChildNotFoundError):
            supervisor.child_spec_of(ref)


@pytest.mark.parametrize("ref", ["a", 1, None, Puppet], ids=repr)
@virtual
async def test_what_is_no_reference_is_refused(ref: Any) -> None:
    """DYN-043: in the caller, with what is accepted."""
    async with open_supervisor(DynamicSupervisor) as supervisor:
        with pytest.raises(TypeError, match="ServerRef of a child"):
            await supervisor.terminate_child(ref)
        for ask in (supervisor.which_child, supervisor.child_spec_of):
            with pytest.raises(TypeError, match="ServerRef of a child"):
                ask(ref)


@virtual
async def test_a_pinned_reference_is_good_for_the_incarnation_that_lives() -> None:
    """DYN-032: that of one before it is no child any more, as an old pid is none in OTP."""
    async with open_supervisor(DynamicSupervisor) as supervisor:
        ref = await start(supervisor)
        old = ref.pin()
        ref.cast(crash())
        await settle()
        await _refuses_all(supervisor, [old])
        await supervisor.terminate_child(ref.pin())
        assert not ref.alive


@virtual
async def test_thousands_of_children_are_counted_by_type() -> None:
    """DYN-039: and none when all have been killed."""
    async with open_supervisor(DynamicSupervisor) as supervisor:
        workers = [
            await start(supervisor, puppet("w", restart="temporary", shutdown="brutal_kill"))
            for _ in range(1_000)
        ]
        assert supervisor.count_children() == (1_000, 1_000, 0, 1_000)
        spec = Supervisor.child_spec([], restart="temporary", shutdown="brutal_kill")
        supervisors = [await start(supervisor, spec) for _ in range(1_000)]
        assert supervisor.count_children() == (2_000, 2_000, 1_000, 1_000)
        for ref in workers[:500] + supervisors[:500]:
            await supervisor.terminate_child(ref)
        assert supervisor.count_children() == (1_000, 1_000, 500, 500)
        for ref in workers[500:]:
            ref.cast(crash(Exit(NORMAL)))
        for ref in supervisors[500:]:
            await ref.stop(SHUTDOWN)
        await settle()
        assert supervisor.count_children() == (0, 0, 0, 0)


@virtual
async def test_every_request_to_a_dead_supervisor_says_so() -> None:
    """DYN-032: as to any supervisor."""
    async with open_supervisor(DynamicSupervisor) as supervisor:
        ref = await start(supervisor)
    for request in (supervisor.start_child(Puppet), supervisor.terminate_child(ref)):
        with pytest.raises(ServerGoneError) as gone:
            await request
        assert gone.value.reason == NOPROC
    for ask in (
        supervisor.which_children,
        supervisor.count_children,
        lambda: supervisor.which_child(ref),
        lambda: supervisor.child_spec_of(ref),
    ):
        with pytest.raises(ServerGoneError):
            ask()
