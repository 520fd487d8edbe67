"""What may be asked of a supervisor, and what it answers in each state of a child."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from slipstream.errors import (
    AlreadyPresentError,
    AlreadyStartedError,
    CallTimeoutError,
    ChildNotFoundError,
    ChildRestartingError,
    ChildRunningError,
    ChildSpecError,
    ServerGoneError,
    StartError,
)
from slipstream.otp import (
    Supervisor,
    SupervisorRef,
    open_supervisor,
)
from slipstream.reasons import NOPROC, NORMAL, SHUTDOWN
from tests.otp.support import (
    Boom,
    Diary,
    Puppet,
    Role,
    crash,
    end,
    ping,
    pinned,
    puppet,
    records,
    settle,
    sleep_then,
    stopped,
    virtual,
    which,
)


@virtual
async def test_the_life_of_a_child_by_request() -> None:
    """SUP-070, SUP-076, SUP-085: every call in every state."""
    spec = puppet("a")
    async with open_supervisor([spec]) as supervisor:
        ref = supervisor.child("a")
        assert which(supervisor) == [("a", "running")]
        with pytest.raises(AlreadyStartedError) as running:
            await supervisor.start_child(spec)
        assert running.value.ref == ref
        with pytest.raises(ChildRunningError, match="'a'"):
            await supervisor.restart_child("a")
        with pytest.raises(ChildRunningError, match="'a'"):
            await supervisor.delete_child("a")

        for _ in range(2):  # it is idempotent
            assert await supervisor.terminate_child("a") is None  # type: ignore[func-returns-value] # the point
            assert which(supervisor) == [("a", "down")]
            assert supervisor.count_children() == (1, 0, 0, 1)
        with pytest.raises(AlreadyPresentError, match="'a'"):
            await supervisor.start_child(spec)
        assert await supervisor.restart_child("a") == ref
        assert supervisor.count_children() == (1, 1, 0, 1)

        await supervisor.terminate_child("a")
        await supervisor.delete_child("a")
        assert which(supervisor) == []
        assert supervisor.count_children() == (0, 0, 0, 0)
        for act in (
            supervisor.terminate_child,
            supervisor.restart_child,
            supervisor.delete_child,
        ):
            with pytest.raises(ChildNotFoundError, match="'a'") as unknown:
                await act("a")
            assert unknown.value.id == "a"
        with pytest.raises(ChildNotFoundError):
            supervisor.child("a")
        with pytest.raises(ChildNotFoundError):
            await supervisor.terminate_child(ref)

        assert await supervisor.start_child(spec)
        assert which(supervisor) == [("a", "running")]


@virtual
async def test_which_children_stays_in_step() -> None:
    """SUP-076: through start, start, terminate, delete."""
    async with open_supervisor([]) as supervisor:
        for name in "ba":
            await supervisor.start_child(puppet(name))
        assert which(supervisor) == [("b", "running"), ("a", "running")]
        infos = supervisor.which_children()
        assert [info.ref for info in infos] == [supervisor.child("b"), supervisor.child("a")]
        assert [(info.type, info.restart) for info in infos] == [("worker", "permanent")] * 2
        await supervisor.terminate_child("b")
        assert which(supervisor) == [("b", "down"), ("a", "running")]
        await supervisor.delete_child("b")
        assert which(supervisor) == [("a", "running")]
        await supervisor.start_child(puppet("b"))
        assert which(supervisor) == [("a", "running"), ("b", "running")]


@virtual
async def test_a_temporary_child_goes_with_its_specification() -> None:
    """SUP-070, SUP-079."""
    async with open_supervisor([puppet("t", restart="temporary")]) as supervisor:
        await supervisor.terminate_child("t")
        assert which(supervisor) == []
        with pytest.raises(ChildNotFoundError):
            await supervisor.terminate_child("t")
        assert await supervisor.start_child(puppet("t", restart="temporary"))


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
@pytest.mark.parametrize("how", ["normal", "crash", "terminate"])
@virtual
async def test_whether_a_specification_is_kept(strategy: Any, restart: str, how: str) -> None:
    """SUP-079: dropped for temporary ones alone, whatever ended them."""
    spec = puppet("a", restart=restart)
    async with open_supervisor([spec], strategy=strategy) as supervisor:
        match how:
            case "terminate":
                await supervisor.terminate_child("a")
            case "crash":
                supervisor.child("a").cast(crash())
            case _:
                supervisor.child("a").cast(end(NORMAL))
        await settle()
        restarted = restart == "permanent" or (restart == "transient" and how == "crash")
        if restart == "temporary":
            assert await supervisor.start_child(spec)
        elif how != "terminate" and restarted:
            with pytest.raises(AlreadyStartedError):
                await supervisor.start_child(spec)
        else:
            with pytest.raises(AlreadyPresentError):
                await supervisor.start_child(spec)


@pytest.mark.parametrize("spec", [5, None, (int, 1), {"id": "a"}, Puppet()], ids=repr)
@virtual
async def test_start_child_refuses_what_is_no_child(spec: Any) -> None:
    """SUP-072, SUP-083: at once, in the caller."""
    async with open_supervisor([]) as supervisor:
        with pytest.raises(ChildSpecError):
            await supervisor.start_child(spec)
        assert which(supervisor) == []


@virtual
async def test_start_child_takes_every_form_of_a_child() -> None:
    """SUP-082."""
    async with open_supervisor([]) as supervisor:
        assert await supervisor.start_child(Puppet)
        assert await supervisor.start_child({"id": "m", "start": Puppet.child_spec().start})
        await supervisor.terminate_child(Puppet)
        await supervisor.delete_child(Puppet)
        assert await supervisor.start_child((Puppet, Role()))
        assert which(supervisor) == [("m", "running"), (Puppet, "running")]


# -- a child that waits for its restart


class _Once:
    """Starts the first time, and fails from then on until told otherwise."""

    def __init__(self) -> None:
        self.starts = 0
        self.fails = True

    def __call__(self, _: Puppet) -> None:
        self.starts += 1
        if self.starts > 1 and self.fails:
            raise Boom("not now")


@virtual
async def test_a_child_that_waits_for_its_restart() -> None:
    """SUP-074: what each call answers, and that it can be terminated and restarted."""
    once = _Once()
    spec = puppet("a", init=once, backoff=lambda *_: 10.0)
    async with open_supervisor([spec]) as supervisor:
        supervisor.child("a").cast(crash())
        for _ in range(2):  # before, and after a restart that failed
            await settle()
            assert which(supervisor) == [("a", "restarting")]
            assert supervisor.count_children() == (1, 0, 0, 1)
            with pytest.raises(AlreadyPresentError):
                await supervisor.start_child(spec)
            with pytest.raises(ChildRestartingError, match="'a'"):
                await supervisor.restart_child("a")
            with pytest.raises(ChildRestartingError, match="'a'"):
                await supervisor.delete_child("a")
            await trio.sleep(11.0)
        await supervisor.terminate_child("a")
        assert which(supervisor) == [("a", "down")]
        await trio.sleep(100.0)
        assert which(supervisor) == [("a", "down")]
        with pytest.raises(StartError):
            await supervisor.restart_child("a")
        assert which(supervisor) == [("a", "down")]
        once.fails = False
        assert await supervisor.restart_child("a")
        supervisor.child("a").cast(crash())
        await settle()
        before = trio.current_time()
    assert trio.current_time() == before  # the stop does not wait for the restart


@virtual
async def test_a_restart_loop_leaves_room_for_requests() -> None:
    """SUP-074: between two attempts, without any back-off, what lies in the queue comes first."""
    once = _Once()
    spec = puppet("a", init=once)
    async with open_supervisor([spec], max_restarts=1_000_000) as supervisor:
        supervisor.child("a").cast(crash())
        while once.starts < 4:
            await trio.lowlevel.checkpoint()
        await supervisor.terminate_child("a")
        assert which(supervisor) == [("a", "down")]
        failed = once.starts
        await trio.sleep(1.0)
        assert once.starts == failed


@virtual
async def test_a_stop_ends_a_restart_loop() -> None:
    """SUP-074, TRI-091: it stays cancellable."""
    once = _Once()
    with trio.CancelScope() as scope:
        async with open_supervisor([puppet("a", init=once)], max_restarts=10_000_000) as supervisor:
            supervisor.child("a").cast(crash())
            for _ in range(50):
                await trio.lowlevel.checkpoint()
            assert once.starts > 1
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert not supervisor.alive


@virtual
async def test_a_restart_that_waits_among_others_under_rest_for_one() -> None:
    """SUP-075: the one before lives, the one after is down: counts(3,1,0,3)."""
    once = _Once()
    children = [
        puppet("1"),
        puppet("2", init=once, backoff=lambda *_: 10.0),
        puppet("3"),
    ]
    async with open_supervisor(children, strategy="rest_for_one") as supervisor:
        supervisor.child("2").cast(crash())
        await trio.sleep(10.5)
        assert dict(which(supervisor))["2"] == "restarting"
        assert dict(which(supervisor))["1"] == "running"
        assert supervisor.count_children() == (3, 1, 0, 3)
        with pytest.raises(AlreadyPresentError):
            await supervisor.start_child(children[1])
        with pytest.raises(ChildRestartingError):
            await supervisor.restart_child("2")
        with pytest.raises(ChildRestartingError):
            await supervisor.delete_child("2")
        await supervisor.terminate_child("2")
        assert supervisor.count_children() == (3, 1, 0, 3)
        assert dict(which(supervisor))["2"] == "down"
        once.fails = False
        await supervisor.restart_child("2")
        assert supervisor.child("2").alive


# -- nesting


class Statics(Supervisor, max_restarts=1, max_seconds=1_000.0):
    """Two children that it always has."""

    async def init(self, diary: Diary) -> list[Any]:
        return [puppet("s1", diary), puppet("s2", diary)]


@virtual
async def test_a_tree_of_supervisors() -> None:
    """SUP-077: counts by type; a leaf's restart is its supervisor's affair; a give-up is the top's."""
    diary = Diary()
    children = [
        Statics.child_spec(diary, id="one"),
        Statics.child_spec(diary, id="two"),
        puppet("leaf", diary),
    ]
    async with open_supervisor(children, strategy="one_for_all") as top:
        assert top.count_children() == (3, 3, 2, 1)
        one, two = top.child("one"), top.child("two")
        assert isinstance(one, SupervisorRef)
        assert isinstance(two, SupervisorRef)
        await one.start_child(puppet("dynamic", diary))
        await two.terminate_child("s2")
        two_before, leaf_before = two.pin(), pinned(top, "leaf")

        one.child("s1").cast(crash())
        await settle()
        assert two_before.alive
        assert bool(leaf_before.alive)
        assert await one.child("s1").call(ping) == 2 or one.count_children() == (3, 3, 0, 3)

        await top.terminate_child("two")
        assert top.count_children() == (3, 2, 2, 1)
        one.child("s1").cast(crash())  # the second: `one` gives up, and the top restarts all
        await settle()
        assert top.count_children() == (3, 3, 2, 1)
        assert not leaf_before.alive
        assert which(one) == [("s1", "running"), ("s2", "running")]
        assert which(two) == [("s1", "running"), ("s2", "running")]


@virtual
async def test_names_survive_the_restart_of_their_supervisor() -> None:
    """SUP-078: new processes under the same names; the end of the top frees them."""
    sub = Supervisor.child_spec([puppet("w", name="worker")], id="sub", name="sub")
    async with open_supervisor([sub]) as supervisor:
        before = supervisor.whereis("worker"), supervisor.whereis("sub")
        assert before[0]
        assert before[1]
        first = before[0].pin()
        await before[1].stop(SHUTDOWN)
        await settle()
        after = supervisor.whereis("worker")
        assert after
        assert after.pin() != first
        await supervisor.terminate_child("sub")
        assert supervisor.whereis("worker") is None
        assert supervisor.whereis("sub") is None
        await supervisor.restart_child("sub")
        assert supervisor.whereis("worker")
    assert supervisor.whereis("worker") is None


# -- the dead, and the wrong


@virtual
async def test_every_request_to_a_dead_supervisor_says_so() -> None:
    """SUP-087: those that were queued before its death too."""
    answers: list[Any] = []
    # A child that is slow to stop holds the supervisor while requests queue up behind it.
    children = [puppet("slow", terminate=sleep_then(2.0))]
    requests: list[Callable[[SupervisorRef], Awaitable[Any]]] = [
        lambda s: s.terminate_child("slow"),
        lambda s: s.restart_child("slow"),
        lambda s: s.delete_child("slow"),
        lambda s: s.start_child(puppet("new")),
    ]

    async def ask(supervisor: SupervisorRef, request: Callable[..., Awaitable[Any]]) -> None:
        with pytest.raises(ServerGoneError) as gone:
            await request(supervisor)
        answers.append(gone.value.reason)

    async with open_supervisor([]) as root, trio.open_nursery() as nursery:
        sub = await root.start_child(Supervisor.child_spec(children, id="sub"))
        assert isinstance(sub, SupervisorRef)
        one = sub.pin()
        nursery.start_soon(one.terminate_child, "slow")
        await settle()
        for request in requests:
            nursery.start_soon(ask, one, request)
        await settle()
        await root.terminate_child("sub")
        for request in requests:
            await ask(one, request)
    assert answers == [NOPROC] * 8


@virtual
async def test_an_unexpected_message_is_logged_and_ignored(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Section 1.3: casts, messages and calls of a stranger do no harm."""
    async with open_supervisor([puppet("a")]) as supervisor:
        supervisor.cast("what?")
        supervisor.send("who?")
        with pytest.raises(CallTimeoutError):
            await supervisor.call("why?", timeout=1.0)
        assert supervisor.alive
        assert await supervisor.child("a").call(ping) == 1
    assert "who?" in caplog.text
    assert len(records(caplog)) >= 2


@virtual
async def test_a_supervisor_can_be_stopped_like_any_process() -> None:
    """SUP-085."""
    diary = Diary()
    async with open_supervisor([puppet("a", diary), puppet("b", diary)]) as supervisor:
        await supervisor.stop(SHUTDOWN)
        assert not supervisor.alive
        assert await supervisor.wait() == SHUTDOWN
    assert stopped(diary) == ["b", "a"]
