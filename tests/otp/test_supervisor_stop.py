"""How a supervisor stops: last first, each child in its own time."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import trio

from slipstream.otp import (
    ChildStatus,
    Exit,
    ServerRef,
    Stop,
    Supervisor,
    open_supervisor,
)
from slipstream.reasons import KILLED, NORMAL, SHUTDOWN, Crashed, ExitReason, Shutdown
from tests.otp.support import (
    Boom,
    Diary,
    Puppet,
    crash,
    end,
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


@virtual
async def test_infinity_is_allowed_for_any_child() -> None:
    """SUP-030: a worker and a supervisor; both end with shutdown, however long it takes."""
    worker = puppet("w", terminate=sleep_then(500.0), shutdown=math.inf)
    sub = Supervisor.child_spec([puppet("x")], id="s", shutdown=math.inf)
    async with open_supervisor([worker, sub], shutdown=math.inf) as supervisor:
        refs = [pinned(supervisor, "w"), pinned(supervisor, "s")]
        before = trio.current_time()
    assert trio.current_time() == before + 500.0
    assert [await ref.wait() for ref in refs] == [SHUTDOWN, SHUTDOWN]


@virtual
async def test_a_busy_child_is_killed_at_its_time_and_an_idle_one_is_not() -> None:
    """SUP-031: one whose goodbye takes too long."""
    diary = Diary()
    children = [
        puppet("idle", diary, shutdown=1.0),
        puppet("busy", diary, terminate=sleep_then(60.0), shutdown=1.0),
    ]
    async with open_supervisor(children) as supervisor:
        refs = [pinned(supervisor, "idle"), pinned(supervisor, "busy")]
        before = trio.current_time()
    assert trio.current_time() == before + 1.0
    assert [await ref.wait() for ref in refs] == [SHUTDOWN, KILLED]


@virtual
async def test_a_child_with_brutal_kill_is_killed_without_terminate() -> None:
    """SUP-033: its sibling ends with shutdown."""
    diary = Diary()
    children = [puppet("a", diary), puppet("b", diary, shutdown="brutal_kill")]
    async with open_supervisor(children) as supervisor:
        refs = [pinned(supervisor, "a"), pinned(supervisor, "b")]
        supervisor.child("b").cast(sleep_then(60.0))
        await settle()
        before = trio.current_time()
    assert trio.current_time() == before
    assert [await ref.wait() for ref in refs] == [SHUTDOWN, KILLED]
    assert stopped(diary) == ["a"]


@virtual
async def test_a_shutdown_of_zero_or_one_second_is_accepted() -> None:
    """SUP-084: with 0 it is killed at once if it has anything to do."""
    async with open_supervisor([puppet("a", shutdown=0), puppet("b", shutdown=1)]) as supervisor:
        a, b = pinned(supervisor, "a"), pinned(supervisor, "b")
        await supervisor.terminate_child("a")
        await supervisor.terminate_child("b")
        assert await a.wait() in {SHUTDOWN, KILLED}
        assert await b.wait() == SHUTDOWN


OWN_ENDS: dict[str, tuple[Callable[[], Any], Any]] = {
    "normal": (lambda: Stop(NORMAL), NORMAL),
    "shutdown": (lambda: Stop(SHUTDOWN), SHUTDOWN),
    "detail": (lambda: Stop(Shutdown("x")), Shutdown("x")),
    "crash": (lambda: (_ for _ in ()).throw(Boom("own")), Crashed),
}


@virtual
async def test_children_that_end_by_themselves_meanwhile_do_not_disturb_the_stop() -> None:
    """SUP-035: each keeps its own reason, none is restarted."""
    diary = Diary()
    combinations = list(itertools.product(["permanent", "transient", "temporary"], OWN_ENDS))

    async def own_end(_: Puppet, how: str) -> Any:
        await trio.sleep(0.5)
        return OWN_ENDS[how][0]()

    children = [puppet(f"{r}-{how}", diary, restart=r) for r, how in combinations]
    # Stopped first; while it takes its time, all the others end by themselves.
    children.append(puppet("slow", diary, terminate=sleep_then(2.0)))
    async with open_supervisor(children) as supervisor:
        refs = {spec.id: pinned(supervisor, spec.id) for spec in children}
        for r, how in combinations:
            refs[f"{r}-{how}"].cast(lambda me, how=how: own_end(me, how))
        await settle()
        before = trio.current_time()
    assert trio.current_time() == before + 2.0
    for r, how in combinations:
        reason = await refs[f"{r}-{how}"].wait()
        expected = OWN_ENDS[how][1]
        assert reason == expected or isinstance(reason, expected)
    assert len(started(diary)) == len(children)
    assert await supervisor.wait() == SHUTDOWN


@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
@pytest.mark.parametrize("reason", [NORMAL, SHUTDOWN, Shutdown("x"), Crashed(Boom("b"))], ids=str)
@virtual
async def test_a_child_may_answer_shutdown_with_another_reason(
    restart: str, reason: ExitReason
) -> None:
    """SUP-036: by Exit from terminate; the stop is complete all the same."""

    def leave(*_: Any) -> None:
        raise Exit(reason)

    spec = puppet("a", terminate=leave, restart=restart)
    async with open_supervisor([spec]) as supervisor:
        ref = pinned(supervisor, "a")
    assert await ref.wait() == reason
    assert await supervisor.wait() == SHUTDOWN


@virtual
async def test_the_order_of_children() -> None:
    """SUP-037: as listed, not sorted; a crash in the middle; the whole stop."""
    diary = Diary()
    names = ["e", "b", "d", "a", "c"]
    async with open_supervisor([puppet(n, diary) for n in names], strategy="rest_for_one") as sup:
        assert started(diary.take()) == names
        sup.child("d").cast(crash())
        await settle()
        seen = diary.take()
        assert stopped(seen) == ["d", "c", "a"]
        assert started(seen) == ["d", "a", "c"]
        assert [info.id for info in sup.which_children()] == names
    assert stopped(diary) == list(reversed(names))


@virtual
async def test_a_child_that_has_ended_by_itself_does_not_hang_terminate_child() -> None:
    """SUP-038: nor does one that ignores the request; the supervisor keeps serving."""

    async def stubborn(_: Puppet) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(3.0)

    async with open_supervisor([puppet("a", shutdown=1.0), puppet("b")]) as supervisor:
        supervisor.child("b").cast(end(NORMAL))
        await supervisor.terminate_child("b")
        supervisor.child("a").cast(stubborn)
        await settle()
        before = trio.current_time()
        await supervisor.terminate_child("a")
        assert trio.current_time() == before + 3.0
        assert await supervisor.restart_child("a")
        assert supervisor.count_children().active == 1


@virtual
async def test_the_time_of_each_child_adds_up() -> None:
    """SUP-040: three that all hang, each killed at its own five seconds."""
    diary = Diary()

    async def hang(me: Puppet, _: ExitReason) -> None:
        try:
            await trio.sleep_forever()
        finally:
            me.write("killed", trio.current_time() - start)

    children = [puppet(name, diary, terminate=hang) for name in "abc"]
    async with open_supervisor(children) as supervisor:
        refs = [pinned(supervisor, name) for name in "abc"]
        start = trio.current_time()
    assert diary.of("killed") == [("c", 5.0), ("b", 10.0), ("a", 15.0)]
    assert [await ref.wait() for ref in refs] == [KILLED] * 3


# -- what is reported: the matrix of OTP

SHUTDOWNS: dict[str, Any] = {"seconds": 5.0, "infinity": math.inf, "brutal": "brutal_kill"}
ENDINGS: dict[str, ExitReason | None] = {
    "shutdown": SHUTDOWN,
    "normal": NORMAL,
    "detail": Shutdown("x"),
    "crash": Crashed(Boom("b")),
}


def is_reported(reason: str, restart: str, kind: str) -> bool:
    """Say what the rule says; a child with brutal_kill is killed, whatever it wants."""
    if kind == "brutal":
        return False
    if reason == "shutdown":
        return False
    if reason in {"normal", "detail"}:
        return restart == "permanent"
    return True


@pytest.mark.parametrize("kind", SHUTDOWNS)
@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
@pytest.mark.parametrize("reason", ENDINGS)
@virtual
async def test_which_ends_of_a_stop_are_reported(
    reason: str, restart: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """SUP-039: reason, restart type and kind of shutdown decide."""

    def leave(*_: Any) -> None:
        ending = ENDINGS[reason]
        assert ending
        raise Exit(ending)

    spec = puppet("a", terminate=leave, restart=restart, shutdown=SHUTDOWNS[kind])
    async with open_supervisor([spec]) as supervisor:
        await supervisor.terminate_child("a")
    reports = [r.report for r in records(caplog) if getattr(r.report, "context", None)]
    contexts = [report.context for report in reports]
    assert contexts == (["shutdown_error"] if is_reported(reason, restart, kind) else [])


@virtual
async def test_a_child_that_used_up_its_time_is_reported_as_killed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """SUP-039, SUP-086: with supervisor, context, reason and offender."""
    spec = puppet("slow", terminate=sleep_then(60.0), shutdown=1.0)
    async with open_supervisor([spec], name="app") as supervisor:
        await supervisor.terminate_child("slow")
    (record,) = records(caplog)
    assert record.report.supervisor == "app"
    assert record.report.context == "shutdown_error"
    assert record.report.reason == KILLED
    assert record.report.offender["id"] == "slow"
    assert record.report.offender["shutdown"] == 1.0
    assert "slow" in record.getMessage()
    assert "app" in record.getMessage()


@virtual
async def test_a_child_that_is_stopping_is_shown_so() -> None:
    """Expose it: a child that refuses to end is `stopping`."""
    async with open_supervisor([puppet("a", terminate=sleep_then(2.0))]) as supervisor:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervisor.terminate_child, "a")
            await trio.sleep(1.0)
            (info,) = supervisor.which_children()
            assert info.status is ChildStatus.STOPPING
        (info,) = supervisor.which_children()
        assert info.status is ChildStatus.DOWN


# -- nesting


@virtual
async def test_a_nested_supervisor_stops_its_children_before_its_elder_siblings() -> None:
    diary = Diary()
    sub = Supervisor.child_spec([puppet("x", diary), puppet("y", diary)], id="sub")
    async with open_supervisor([puppet("a", diary), sub, puppet("z", diary)]):
        pass
    assert stopped(diary) == ["z", "y", "x", "a"]


@virtual
async def test_a_nested_supervisor_with_little_time_kills_all_below_it() -> None:
    """TRI-074: a kill escalates to the grandchildren; none is orphaned."""
    diary = Diary()
    deep = Supervisor.child_spec(
        [puppet("leaf", diary, terminate=sleep_then(60.0), shutdown=50.0)], id="deep"
    )
    sub = Supervisor.child_spec([deep], id="sub", shutdown=2.0)
    async with open_supervisor([sub]) as supervisor:
        ref = supervisor.child("sub")
        inner = ref.child("deep")  # type: ignore[attr-defined]  # a SupervisorRef
        refs: list[ServerRef] = [ref.pin(), inner.pin(), inner.child("leaf").pin()]
        before = trio.current_time()
        await supervisor.terminate_child("sub")
        assert trio.current_time() == before + 2.0
        assert [await r.wait() for r in refs] == [KILLED] * 3
        assert await supervisor.restart_child("sub")


@virtual
async def test_a_group_of_hundred_stops_in_order() -> None:
    diary = Diary()
    names = [str(number) for number in range(100)]
    async with open_supervisor([puppet(name, diary) for name in names]) as supervisor:
        assert await supervisor.child("99").call(ping) == 1
    assert stopped(diary) == list(reversed(names))
