"""How a dynamic supervisor restarts its children: each on its own, and when it gives up."""

from collections.abc import Callable
from typing import Any

import pytest
import trio

from slipstream.errors import (
    ChildNotFoundError,
    MaxChildrenError,
    ServerGoneError,
    StartError,
    SupervisorGaveUpError,
)
from slipstream.otp import (
    ChildStatus,
    DynamicSupervisor,
    DynamicSupervisorRef,
    Ignore,
    ServerRef,
    Stop,
    open_supervisor,
)
from slipstream.reasons import KILLED, NORMAL, RESTARTING, SHUTDOWN, Shutdown
from tests.otp.support import (
    Boom,
    Diary,
    Flaky,
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
    started,
    stopped,
    virtual,
    which,
)

NEVER = 1_000_000_000
"""A limit that no test reaches."""


def boomerang() -> Any:
    """Start once, then fail for ever."""
    return Flaky(None, *[Boom(str(number)) for number in range(1_000)])


ENDS: dict[str, tuple[Callable[..., Any], str]] = {
    "normal": (end(NORMAL), "fine"),
    "shutdown": (end(SHUTDOWN), "fine"),
    "detail": (end(Shutdown("x")), "fine"),
    "crash": (crash(), "abnormal"),
    "killed": (end(KILLED), "abnormal"),
}


@pytest.mark.parametrize("restart", ["temporary", "transient", "permanent"])
@pytest.mark.parametrize("how", ENDS)
@virtual
async def test_who_is_restarted_after_what(
    restart: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """DYN-013, DYN-014, DYN-015: one that is not restarted is forgotten."""
    act, kind = ENDS[how]
    due = restart == "permanent" or (restart == "transient" and kind == "abnormal")
    async with open_supervisor(DynamicSupervisor) as supervisor:
        ref = await start(supervisor, puppet("a", restart=restart))
        ref.cast(act)
        await settle()
        if due:
            assert which(supervisor) == [(None, "running")]
            assert await ref.call(ping) == 2
        else:
            assert supervisor.count_children() == (0, 0, 0, 0)
            with pytest.raises(ChildNotFoundError):
                await supervisor.terminate_child(ref)
        contexts = [getattr(r.report, "context", None) for r in records(caplog)]
        assert ("child_terminated" in contexts) == (kind == "abnormal")


@pytest.mark.parametrize("restart", ["permanent", "transient"])
@pytest.mark.parametrize("outcome", ["ok", "ignore", "error", "stop", "odd"])
@virtual
async def test_what_becomes_of_a_restart(outcome: str, restart: Any) -> None:
    """DYN-016, DYN-038: ignored it is forgotten; failed it waits, and is no active child."""
    outcomes = {
        "ok": None,
        "ignore": Ignore(),
        "error": Boom("restart"),
        "stop": Stop(Shutdown("no")),
        "odd": odd(),
    }
    role = Role(init=Flaky(None, outcomes[outcome]))
    spec = Puppet.child_spec(role, restart=restart, backoff=lambda _, n: 0.0 if n == 0 else 9.0)
    async with open_supervisor(DynamicSupervisor) as supervisor:
        ref = await start(supervisor, spec)
        ref.cast(crash())
        await trio.sleep(1.0)
        match outcome:
            case "ok":
                assert which(supervisor) == [(None, "running")]
            case "ignore":
                assert supervisor.count_children() == (0, 0, 0, 0)
                with pytest.raises(ServerGoneError):
                    await ref.call(ping)
            case _:
                assert supervisor.which_child(ref).ref is None
                assert which(supervisor) == [(None, "restarting")]
                assert supervisor.count_children() == (1, 0, 0, 1)
                with pytest.raises(ServerGoneError) as gone:
                    await ref.call(ping)
                assert gone.value.reason == RESTARTING
                await trio.sleep(9.0)
                assert await ref.call(ping) == 3
        assert await (await start(supervisor)).call(ping) == 1


@virtual
async def test_a_child_that_waits_for_its_restart_has_its_place() -> None:
    """DYN-017: and gives it up when it is terminated."""
    async with open_dynamic(max_children=1) as supervisor:
        spec = puppet("a", init=boomerang(), backoff=lambda *_: 10.0)
        ref = await start(supervisor, spec)
        ref.cast(crash())
        for _ in range(2):
            await trio.sleep(5.0)
            with pytest.raises(MaxChildrenError):
                await supervisor.start_child(Puppet)
        await supervisor.terminate_child(ref)
        assert await supervisor.start_child(Puppet)


@virtual
async def test_a_child_that_was_restarted_has_one_place() -> None:
    """DYN-018: neither two nor none."""
    async with open_dynamic(max_children=2) as supervisor:
        ref = await start(supervisor, puppet("a"))
        for number in range(2, 4):
            ref.cast(crash())
            await settle()
            assert await ref.call(ping) == number
        assert supervisor.count_children() == (1, 1, 0, 1)
        assert await supervisor.start_child(Puppet)
        with pytest.raises(MaxChildrenError):
            await supervisor.start_child(Puppet)


@virtual
async def test_a_restart_that_failed_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    """DYN-020: each attempt counts; two are allowed."""
    async with open_dynamic(max_restarts=2) as supervisor:
        ref = await start(supervisor, puppet("a", init=Flaky(None, Boom("once"))))
        ref.cast(crash())
        await settle()
        assert await ref.call(ping) == 3
        assert which(supervisor) == [(None, "running")]
    contexts = [getattr(r.report, "context", None) for r in records(caplog)]
    assert contexts.count("start_error") == 1


@pytest.mark.parametrize("limit", [0, 1, 3])
@virtual
async def test_too_many_restarts_end_the_supervisor(limit: int) -> None:
    """DYN-021, DYN-033: up to the limit only the one that crashed is replaced."""
    diary = Diary()
    boom = Boom("the last")
    seen: list[DynamicSupervisorRef] = []
    with pytest.raises(SupervisorGaveUpError) as gave_up:
        async with open_dynamic(max_restarts=limit) as supervisor:
            seen.append(supervisor.pin())
            a = await start(supervisor, puppet("a", diary))
            b = await start(supervisor, puppet("b", diary))
            before = b.pin()
            for number in range(limit):
                a.cast(crash())
                await settle()
                assert await a.call(ping) == number + 2
                assert before.alive
            a.cast(crash(boom))
            await trio.sleep_forever()
    assert gave_up.value.__cause__ is boom
    assert await seen[0].wait() == SHUTDOWN
    assert seen[0].gave_up is gave_up.value
    assert await before.wait() == SHUTDOWN
    assert started(diary) == ["a", "b"] + ["a"] * limit


@virtual
async def test_retries_alone_use_up_the_limit() -> None:
    """DYN-022, DYN-036: a restart that always fails ends the supervisor, and the siblings."""
    diary = Diary()
    init = boomerang()
    with pytest.raises(SupervisorGaveUpError):
        async with open_dynamic(max_restarts=10) as supervisor:
            await start(supervisor, puppet("b", diary))
            a = await start(supervisor, puppet("a", diary, init=init))
            a.cast(crash())
            await trio.sleep_forever()
    assert started(diary).count("a") == 11
    assert stopped(diary)[-1] == "b"


@virtual
async def test_it_is_restarted_itself_and_begins_without_children() -> None:
    """DYN-033: as a permanent child; its escalation ends with shutdown."""
    spec = DynamicSupervisor.child_spec(max_restarts=0, name="rooms")
    async with open_supervisor([spec]) as supervisor:
        rooms: Any = supervisor.child("rooms")
        first = rooms.pin()
        child = await start(rooms)
        sibling = (await start(rooms)).pin()
        child.cast(crash())
        assert await first.wait() == SHUTDOWN
        await settle()
        assert not sibling.alive
        assert not child.alive
        assert rooms.which_children() == []
        assert first.gave_up is not None
        assert (await start(rooms)).alive


@virtual
async def test_active_children_are_those_that_do_not_wait_for_a_restart() -> None:
    """DYN-040: and they count again once they are back."""
    specs = [
        puppet("a", init=Flaky(None, Boom("not yet")), backoff=lambda *_: 1.0) for _ in range(10)
    ]
    async with open_supervisor(DynamicSupervisor) as supervisor:
        refs = [await start(supervisor, spec) for spec in specs]
        for gone in range(1, 11):
            refs[gone - 1].cast(crash())
            await settle()
            assert supervisor.count_children() == (10, 10 - gone, 0, 10)
        await trio.sleep(1.5)  # one attempt failed
        assert supervisor.count_children() == (10, 0, 0, 10)
        await trio.sleep(1.0)
        assert supervisor.count_children() == (10, 10, 0, 10)


@pytest.mark.parametrize("pinned", [False, True], ids=["address", "pinned"])
@pytest.mark.parametrize("seconds", [None, 5.0], ids=["at once", "delayed"])
@virtual
async def test_a_restart_loop_leaves_room_for_requests(seconds: float | None, pinned: bool) -> None:
    """DYN-031, DYN-041: the last incarnation's reference, or the address, ends the loop."""
    diary = Diary()
    async with open_dynamic(max_restarts=NEVER) as supervisor:
        spec = puppet("a", diary, init=fail_after_first, backoff=lambda *_: seconds)
        ref = await start(supervisor, spec)
        chosen: ServerRef = ref.pin() if pinned else ref
        ref.cast(crash())
        while len(started(diary)) < 5:
            await trio.lowlevel.checkpoint()
            await trio.sleep(1.0 if seconds else 0.0)
        while supervisor.which_child(chosen).status is not ChildStatus.RESTARTING:
            await trio.lowlevel.checkpoint()
        await supervisor.terminate_child(chosen)
        failed = len(started(diary))
        assert which(supervisor) == []
        assert supervisor.count_children() == (0, 0, 0, 0)
        with pytest.raises(ChildNotFoundError):
            await supervisor.terminate_child(chosen)
        await trio.sleep(100.0)
        assert len(started(diary)) == failed
        with pytest.raises(ServerGoneError):
            await ref.call(ping)


def fail_after_first(me: Puppet) -> None:
    if me.number > 1:
        raise Boom("again")


@pytest.mark.parametrize("seconds", [None, 5.0], ids=["at once", "delayed"])
@virtual
async def test_a_stop_during_a_restart_loop_does_not_hang(seconds: float | None) -> None:
    """DYN-041."""
    async with open_dynamic(max_restarts=NEVER) as supervisor:
        spec = puppet("a", init=fail_after_first, backoff=lambda *_: seconds)
        ref = await start(supervisor, spec)
        ref.cast(crash())
        for _ in range(50):
            await trio.lowlevel.checkpoint()
        before = trio.current_time()
    assert trio.current_time() == before
    assert not ref.alive


@virtual
async def test_a_restart_among_thousands_costs_what_it_costs_among_few() -> None:
    """SUP-081: each is on its own; a crash of all restarts all."""
    async with open_dynamic(max_restarts=NEVER) as supervisor:
        refs = [await start(supervisor, puppet("a")) for _ in range(2_000)]
        for ref in refs:
            ref.cast(end(NORMAL))
        await settle()
        assert supervisor.count_children() == (2_000, 2_000, 0, 2_000)
        assert [await ref.call(ping) for ref in refs[::100]] == [2] * 20
        with pytest.raises(StartError):
            await start(supervisor, puppet("a", init=crash()))
