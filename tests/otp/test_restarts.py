"""Who is started again, with whom, and how often."""

import logging
from typing import Any

import pytest
import trio

from slipstream.errors import ServerGoneError, StartError, SupervisorGaveUpError
from slipstream.otp import (
    ChildSpec,
    ChildStatus,
    Exit,
    Ignore,
    Supervisor,
    SupervisorRef,
    open_supervisor,
    start_of,
)
from slipstream.reasons import KILLED, NORMAL, RESTARTING, SHUTDOWN, Crashed, ExitReason, Shutdown
from tests.otp.support import (
    Boom,
    Diary,
    Flaky,
    Puppet,
    Role,
    crash,
    end,
    ping,
    pinned,
    puppet,
    records,
    settle,
    started,
    stopped,
    virtual,
    which,
)

EPSILON = 0.001

ENDS: dict[str, Any] = {
    "normal": end(NORMAL),
    "shutdown": end(SHUTDOWN),
    "detail": end(Shutdown("x")),
    "exit": crash(Exit(NORMAL)),
    "crash": crash(),
    "abnormal": end(Crashed(Boom("by result"))),
    "killed": end(KILLED),
}
ABNORMAL = {"crash", "abnormal", "killed"}


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
@virtual
async def test_what_becomes_of_a_child_that_ends_by_itself(restart: str, how: str) -> None:
    """SUP-041, SUP-042, SUP-043, SUP-044: restart type and reason decide."""
    async with open_supervisor([puppet("a", restart=restart)]) as supervisor:
        ref = supervisor.child("a")
        first = ref.pin()
        first.cast(ENDS[how])
        await settle()
        assert not first.alive
        if restart == "permanent" or (restart == "transient" and how in ABNORMAL):
            assert supervisor.count_children() == (1, 1, 0, 1)
            assert await ref.call(ping) == 2
        elif restart == "transient":
            (info,) = supervisor.which_children()
            assert (info.id, info.ref, info.status) == ("a", None, ChildStatus.DOWN)
            assert supervisor.count_children() == (1, 0, 0, 1)
            assert await supervisor.restart_child("a") == ref
            assert await ref.call(ping) == 2
        else:
            assert supervisor.which_children() == []
            assert supervisor.count_children() == (0, 0, 0, 0)


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
@virtual
async def test_which_ends_are_reported(
    restart: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Section 1.3: child_terminated for a restart, and for an abnormal end, which alone is loud."""
    caplog.set_level(logging.INFO)
    async with open_supervisor([puppet("a", restart=restart)]) as supervisor:
        supervisor.child("a").cast(ENDS[how])
        await settle()
    levels = [
        record.levelno
        for record in records(caplog, logging.INFO)
        if getattr(record.report, "context", "") == "child_terminated"
    ]
    if how in ABNORMAL:
        assert levels == [logging.ERROR]
    else:
        assert len(levels) == (1 if restart == "permanent" else 0)
        assert logging.ERROR not in levels


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
@virtual
async def test_a_temporary_sibling_stopped_by_a_group_restart_is_dropped(strategy: str) -> None:
    """SUP-045: for good; the supervisor lives."""
    diary = Diary()
    children = [puppet("a", diary), puppet("t", diary, restart="temporary")]
    async with open_supervisor(children, strategy=strategy) as supervisor:  # type: ignore[call-overload]  # one of two
        supervisor.child("a").cast(crash())
        await settle()
        assert [info.id for info in supervisor.which_children()] == ["a"]
        assert supervisor.count_children() == (1, 1, 0, 1)
    assert started(diary) == ["a", "t", "a"]


# -- intensity


@virtual
async def test_crashes_that_are_far_apart_never_trip() -> None:
    """SUP-047: intensity 1, period 1 s, a crash each 2.1 s."""
    async with open_supervisor([puppet("a")], max_restarts=1, max_seconds=1.0) as supervisor:
        for _ in range(10):
            supervisor.child("a").cast(crash())
            await trio.sleep(2.1)
        assert await supervisor.child("a").call(ping) == 11


async def _crash_at(supervisor: SupervisorRef, *times: float) -> int:
    """Crash the child at each of *times*; give how often that was survived."""
    start = trio.current_time()
    for survived, at in enumerate(times):
        await trio.sleep_until(start + at)
        supervisor.child("a").cast(crash())
        await settle()
        if not supervisor.alive:
            return survived
    return len(times)


async def _survived(times: list[float], **options: Any) -> int:
    """Crash a child at *times*, under a supervisor that is not the root."""
    spec = Supervisor.child_spec([puppet("a")], id="sub", restart="temporary", **options)
    async with open_supervisor([spec]) as root:
        sub = root.child("sub")
        assert isinstance(sub, SupervisorRef)
        return await _crash_at(sub, *times)


@pytest.mark.parametrize("intensity", [0, 1, 2, 3, 5])
@virtual
async def test_so_many_crashes_are_survived_and_the_next_one_is_not(intensity: int) -> None:
    """SUP-048."""
    times = [0.0] * (intensity + 3)
    assert await _survived(times, max_restarts=intensity, max_seconds=5.0) == intensity


@pytest.mark.parametrize(("age", "survived"), [(5.0 - EPSILON, 1), (5.0, 1), (5.0 + EPSILON, 2)])
@virtual
async def test_a_crash_as_old_as_the_window_still_counts(age: float, survived: int) -> None:
    """SUP-049."""
    assert await _survived([0.0, age], max_restarts=1, max_seconds=5.0) == survived


@virtual
async def test_the_window_slides() -> None:
    """SUP-050: old crashes expire one by one."""
    assert await _survived([0, 3, 5.5, 8.1, 10.6, 13.2], max_restarts=2, max_seconds=5.0) == 6
    assert await _survived([0, 3, 5.5, 7.9], max_restarts=2, max_seconds=5.0) == 3


@virtual
async def test_what_a_caller_asks_for_never_counts() -> None:
    """SUP-062: starts, terminations and restarts by request; ends of temporary children."""
    options: dict[str, Any] = {"max_restarts": 1, "max_seconds": 1_000.0}
    async with open_supervisor([puppet("a")], **options) as supervisor:
        for number in range(5):
            await supervisor.terminate_child("a")
            await supervisor.restart_child("a")
            await supervisor.start_child(puppet(f"t{number}", restart="temporary"))
            supervisor.child(f"t{number}").cast(crash())
            await settle()
        assert await _crash_at(supervisor, 0.0) == 1
        assert supervisor.child("a").alive


# -- strategies


@virtual
async def test_one_for_one_replaces_the_one_that_crashed() -> None:
    """SUP-051: the third restart with intensity 2 ends the supervisor."""
    diary = Diary()
    with pytest.raises(SupervisorGaveUpError):
        async with open_supervisor([puppet("a", diary), puppet("b", diary)], max_restarts=2) as sup:
            b = pinned(sup, "b")
            for number in (2, 3):
                sup.child("a").cast(crash())
                await settle()
                assert await sup.child("a").call(ping) == number
                assert sup.count_children() == (2, 2, 0, 2)
            assert b.alive
            sup.child("a").cast(crash())
            await trio.sleep_forever()
    assert started(diary) == ["a", "b", "a", "a"]
    assert await b.wait() == SHUTDOWN


@virtual
async def test_one_for_all_replaces_all_of_them() -> None:
    """SUP-053: a group restart counts as one; the third trips intensity 2."""
    diary = Diary()
    children = [puppet(name, diary) for name in "abc"]
    with pytest.raises(SupervisorGaveUpError):
        async with open_supervisor(children, strategy="one_for_all", max_restarts=2) as supervisor:
            for who in "ba":
                refs = [pinned(supervisor, name) for name in "abc"]
                diary.clear()
                supervisor.child(who).cast(crash())
                await settle()
                others = [name for name in "cba" if name != who]
                assert stopped(diary) == [who, *others]
                assert started(diary) == ["a", "b", "c"]
                assert not any(ref.alive for ref in refs)
                assert supervisor.count_children() == (3, 3, 0, 3)
            supervisor.child("c").cast(crash())
            await trio.sleep_forever()


@pytest.mark.parametrize("who", ["1", "2", "3"])
@virtual
async def test_rest_for_one_replaces_it_and_those_after_it(who: str) -> None:
    """SUP-056: those before are untouched."""
    diary = Diary()
    names = ["1", "2", "3"]
    children = [puppet(name, diary) for name in names]
    with pytest.raises(SupervisorGaveUpError):
        async with open_supervisor(children, strategy="rest_for_one", max_restarts=1) as sup:
            refs = {name: pinned(sup, name) for name in names}
            diary.clear()
            sup.child(who).cast(crash())
            await settle()
            rest = names[names.index(who) :]
            assert started(diary) == rest
            assert stopped(diary) == [who, *reversed(rest[1:])]
            assert [name for name in names if refs[name].alive] == names[: names.index(who)]
            sup.child(who).cast(crash())
            await trio.sleep_forever()


@virtual
async def test_a_restart_that_always_fails_uses_up_the_intensity() -> None:
    """SUP-052: each attempt counts; the sibling stops too."""
    diary = Diary()
    flaky = Flaky(None, *[Boom(str(n)) for n in range(99)])
    children = [puppet("sibling", diary), puppet("a", diary, init=flaky)]
    with pytest.raises(SupervisorGaveUpError) as gave_up:
        async with open_supervisor(children, max_restarts=4) as supervisor:
            before = trio.current_time()
            supervisor.child("a").cast(crash())
            await trio.sleep_forever()
    assert trio.current_time() == before
    assert started(diary).count("a") == 1 + 4
    assert stopped(diary) == ["a", "sibling"]
    assert isinstance(gave_up.value.__cause__, Boom)


@virtual
async def test_a_root_that_gives_up_tells_the_story() -> None:
    """TRI-015: which child, how often, within how long; the cause is the child's exception."""
    boom = Boom("the last straw")
    spec = puppet("b", init=Flaky())
    with pytest.raises(SupervisorGaveUpError) as raised:
        async with open_supervisor([puppet("a"), spec], max_restarts=2, max_seconds=9.0) as root:
            root.child("a").cast(crash(Boom("before")))
            await trio.sleep(4.0)
            root.child("b").cast(crash(Boom("before")))
            await trio.sleep(2.0)
            root.child("b").cast(crash(boom))
            await trio.sleep_forever()
    error = raised.value
    assert str(error) == (
        "supervisor root gave up: child b failed once more (tests.otp.support.Boom: the last "
        "straw), after 2 restarts in the last 6 s; allowed are max_restarts=2 within max_seconds=9"
    )
    assert (error.child, error.reason) == ("b", Crashed(boom))
    assert (error.restarts, error.seconds) == (2, 6.0)
    assert error.__cause__ is boom


@pytest.mark.parametrize("kind", ["crashes", "does not start", "starts too slowly"])
@virtual
async def test_the_story_of_a_nested_supervisor_is_the_cause(kind: str) -> None:
    """TRI-015: down to the exception of the child that began it."""
    boom = Boom("deep down")
    outcomes: dict[str, list[Any]] = {
        "crashes": [],
        "does not start": [None, boom],
        "starts too slowly": [None],
    }
    flaky = Flaky(*outcomes[kind])

    async def init(me: Puppet) -> Any:
        if kind == "starts too slowly" and me.number > 1:
            await trio.sleep(60.0)
        return flaky(me)

    leaf = puppet("leaf", init=init, start_timeout=1.0)
    sub = Supervisor.child_spec([leaf], id="sub", max_restarts=int(kind != "crashes"))
    with pytest.raises(SupervisorGaveUpError, match="child sub failed once more") as raised:
        async with open_supervisor([sub], max_restarts=0) as root:
            inner = root.child("sub")
            assert isinstance(inner, SupervisorRef)
            inner.child("leaf").cast(crash(boom))
            await trio.sleep_forever()
    story = raised.value.__cause__
    assert isinstance(story, SupervisorGaveUpError)
    assert "supervisor root > sub gave up: child leaf failed" in str(story)
    assert str(story) in str(raised.value)
    if kind == "starts too slowly":
        assert isinstance(story.__cause__, StartError)
        assert "within 1 s" in str(story)
    else:
        assert story.__cause__ is boom


@virtual
async def test_another_child_that_never_restarts_escalates_under_one_for_all() -> None:
    """SUP-054."""
    diary = Diary()
    flaky = Flaky(None, *[Boom(str(n)) for n in range(99)])
    children = [puppet("1", diary), puppet("2", diary, init=flaky)]
    with pytest.raises(SupervisorGaveUpError):
        async with open_supervisor(children, strategy="one_for_all", max_restarts=3) as supervisor:
            supervisor.child("1").cast(crash())
            await trio.sleep_forever()
    assert started(diary) == ["1", "2"] * 4


@virtual
async def test_one_for_all_tries_the_whole_group_again() -> None:
    """SUP-055: those already restarted are stopped first."""
    diary = Diary()
    children = [
        puppet("1", diary),
        puppet("2", diary, init=Flaky(None, Boom("once"))),
        puppet("3", diary),
    ]
    async with open_supervisor(children, strategy="one_for_all", max_restarts=2) as supervisor:
        diary.clear()
        supervisor.child("1").cast(crash())
        await settle()
        assert supervisor.count_children() == (3, 3, 0, 3)
        assert [entry[:2] for entry in diary] == [
            ("terminate", "1"),
            ("terminate", "3"),
            ("terminate", "2"),
            ("init", "1"),
            ("init", "2"),  # fails
            ("terminate", "1"),
            ("init", "1"),
            ("init", "2"),
            ("init", "3"),
        ]


@virtual
async def test_a_later_child_that_never_restarts_escalates_under_rest_for_one() -> None:
    """SUP-057."""
    diary = Diary()
    flaky = Flaky(None, *[Boom(str(n)) for n in range(99)])
    children = [puppet("0", diary), puppet("1", diary), puppet("2", diary, init=flaky)]
    with pytest.raises(SupervisorGaveUpError):
        async with open_supervisor(children, strategy="rest_for_one", max_restarts=3) as sup:
            sup.child("1").cast(crash())
            await trio.sleep_forever()
    assert started(diary) == ["0", "1", "2", "1", "2", "2", "2"]


@virtual
async def test_rest_for_one_tries_from_the_one_that_failed() -> None:
    """SUP-058: the one before it, already restarted, does not start again."""
    diary = Diary()
    children = [
        puppet("1", diary),
        puppet("2", diary, init=Flaky(None, Boom("once"), Boom("twice"))),
        puppet("3", diary),
    ]
    async with open_supervisor(children, strategy="rest_for_one", max_restarts=3) as supervisor:
        diary.clear()
        supervisor.child("1").cast(crash())
        await settle()
        assert supervisor.count_children() == (3, 3, 0, 3)
        assert started(diary) == ["1", "2", "2", "2", "3"]
        assert stopped(diary) == ["1", "3", "2"]


@virtual
async def test_a_supervisor_that_gives_up_ends_with_shutdown_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """SUP-059: the others stop last first; a permanent supervisor is restarted by its parent."""
    diary = Diary()
    boom = Boom("the last straw")
    sub = Supervisor.child_spec(
        [puppet(name, diary) for name in "abc"], id="sub", name="sub", max_restarts=0
    )
    async with open_supervisor([sub]) as supervisor:
        ref = supervisor.child("sub")
        assert isinstance(ref, SupervisorRef)
        first = ref.pin()
        diary.clear()
        ref.child("b").cast(crash(boom))
        assert await first.wait() == SHUTDOWN
        assert stopped(diary) == ["b", "c", "a"]
        assert first.gave_up is not None
        assert first.gave_up.__cause__ is boom
        assert first.gave_up.child == "b"
        await settle()
        assert started(diary) == ["a", "b", "c"]
        assert ref.count_children() == (3, 3, 0, 3)
    reports = [record.report for record in records(caplog)]
    shutdowns = [r for r in reports if getattr(r, "context", "") == "shutdown"]
    assert [(r.supervisor, r.offender["id"]) for r in shutdowns] == [("sub", "b")]


@virtual
async def test_a_transient_supervisor_that_gives_up_is_not_restarted() -> None:
    """SUP-059: it ended with shutdown, which is no reason for that."""
    sub = Supervisor.child_spec([puppet("a")], id="sub", restart="transient", max_restarts=0)
    async with open_supervisor([sub]) as supervisor:
        ref = supervisor.child("sub")
        ref.child("a").cast(crash())  # type: ignore[attr-defined]  # a SupervisorRef
        await settle()
        assert not ref.alive
        assert supervisor.count_children() == (1, 0, 1, 0)


@virtual
async def test_a_restart_that_is_ignored_leaves_the_child_down_and_counts_once() -> None:
    """SUP-060: no other attempt follows."""
    diary = Diary()
    flaky = Flaky(None, Ignore())
    with pytest.raises(SupervisorGaveUpError):
        async with open_supervisor([puppet("a", diary, init=flaky)], max_restarts=1) as supervisor:
            supervisor.child("a").cast(crash())
            await settle()
            (info,) = supervisor.which_children()
            assert (info.ref, info.status) == (None, ChildStatus.DOWN)
            assert started(diary) == ["a", "a"]
            await supervisor.restart_child("a")
            await settle()
            assert supervisor.alive
            supervisor.child("a").cast(crash())  # the second that counts
            await trio.sleep_forever()


@virtual
async def test_a_group_restart_resurrects_those_that_were_down() -> None:
    """SUP-061: terminated by hand, finished, and ignored once."""
    diary = Diary()
    children = [
        puppet("crashes", diary),
        puppet("terminated", diary),
        puppet("finished", diary, restart="transient"),
        puppet("ignored", diary, init=Flaky(Ignore())),
    ]
    async with open_supervisor(children, strategy="one_for_all") as supervisor:
        await supervisor.terminate_child("terminated")
        supervisor.child("finished").cast(end(NORMAL))
        await settle()
        assert supervisor.count_children() == (4, 1, 0, 4)
        supervisor.child("crashes").cast(crash())
        await settle()
        assert supervisor.count_children() == (4, 4, 0, 4)


@virtual
async def test_two_crashes_in_one_tick_are_one_group_restart() -> None:
    """SUP-063: the second belongs to an incarnation that has been replaced."""
    diary = Diary()
    children = [puppet(name, diary) for name in "abc"]
    async with open_supervisor(children, strategy="one_for_all", max_restarts=1) as supervisor:
        supervisor.child("a").cast(crash())
        supervisor.child("c").cast(crash())
        await settle()
        assert supervisor.count_children() == (3, 3, 0, 3)
    assert started(diary) == ["a", "b", "c"] * 2


@pytest.mark.parametrize("strategy", ["one_for_one", "rest_for_one"])
@virtual
async def test_two_crashes_in_one_tick_are_two_restarts_where_they_do_not_overlap(
    strategy: Any,
) -> None:
    """SUP-063, TRI-003: nothing is lost."""
    diary = Diary()
    children = [puppet(name, diary) for name in "abc"]
    async with open_supervisor(children, strategy=strategy, max_restarts=2) as supervisor:
        diary.clear()
        supervisor.child("c").cast(crash())
        supervisor.child("a").cast(crash())
        await settle()
        assert supervisor.count_children() == (3, 3, 0, 3)
        expected = {
            "one_for_one": [["a", "c"]],
            "rest_for_one": [["a", "b", "c"], ["a", "b", "c", "c"]],
        }
        assert sorted(started(diary)) in expected[strategy]


@virtual
async def test_a_restarted_child_keeps_its_place_in_the_order() -> None:
    """SUP-037, one_for_one."""
    diary = Diary()
    async with open_supervisor([puppet(name, diary) for name in "abc"]) as supervisor:
        supervisor.child("a").cast(crash())
        await settle()
        await supervisor.terminate_child("b")
        await supervisor.restart_child("b")
        assert [info.id for info in supervisor.which_children()] == ["a", "b", "c"]
        diary.clear()
    assert stopped(diary) == ["c", "b", "a"]


# -- fresh starts


@virtual
async def test_each_incarnation_is_a_new_object() -> None:
    """TRI-094."""
    seen: list[Puppet] = []
    async with open_supervisor([puppet("a", init=seen.append)]) as supervisor:
        for _ in range(2):
            supervisor.child("a").cast(lambda me: setattr(me, "leftover", 1))
            supervisor.child("a").cast(crash())
            await settle()
    assert len({id(instance) for instance in seen}) == 3
    assert not hasattr(seen[2], "leftover")


@virtual
async def test_arguments_are_the_same_objects_each_time_unless_a_function_makes_them() -> None:
    """TRI-095: documented; a factory is the remedy."""
    role = Role(name="shared")
    fresh: list[Role] = []

    def start() -> Any:
        fresh.append(Role(name="fresh"))
        return start_of(Puppet, fresh[-1])

    children = [Puppet.child_spec(role, id="a"), ChildSpec("b", start)]
    async with open_supervisor(children) as supervisor:
        for name in "ab":
            supervisor.child(name).cast(crash())
        await settle()
        assert role.starts == 2
        assert [made.starts for made in fresh] == [1, 1]


@virtual
async def test_a_restart_that_fails_is_due_at_every_moment_until_it_is_done() -> None:
    """GS-065: nobody is told that there is no such process while there will be one again."""
    crashes = Flaky(None, Boom("no"), Boom("no"), Boom("no"))
    seen: set[str] = set()
    reasons: set[ExitReason] = set()
    async with open_supervisor([puppet("a", init=crashes)], max_restarts=5) as supervisor:
        ref = supervisor.child("a")
        ref.cast(crash())
        while crashes.outcomes or which(supervisor)[0][1] != "running":
            await trio.lowlevel.checkpoint()
            seen.add(which(supervisor)[0][1])
            try:
                ref.pin()
            except ServerGoneError as error:
                reasons.add(error.reason)
        assert await ref.call(ping) == 5
    assert seen <= {"running", "restarting", "starting"}
    assert reasons <= {RESTARTING}
