"""Who may ask a supervisor: callers that are cancelled, children, threads, other trees."""

from typing import Any

import pytest
import trio

from slipstream.errors import (
    AlreadyStartedError,
    CallTimeoutError,
    DeadlockError,
    ServerGoneError,
    StartError,
)
from slipstream.otp import (
    ChildStatus,
    GenServer,
    NoReply,
    Supervisor,
    SupervisorRef,
    open_supervisor,
)
from slipstream.reasons import KILLED, SHUTDOWN
from tests.otp.support import (
    Diary,
    Puppet,
    crash,
    ping,
    pinned,
    puppet,
    settle,
    sleep_then,
    stopped,
    virtual,
    which,
)


@virtual
async def test_concurrent_starts_of_one_id_have_one_winner() -> None:
    """TRI-061."""
    outcomes: list[Any] = []

    async def start(supervisor: SupervisorRef) -> None:
        try:
            outcomes.append(await supervisor.start_child(puppet("a", init=sleep_then(1.0))))
        except AlreadyStartedError as error:
            outcomes.append(error)

    async with open_supervisor([]) as supervisor:
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(start, supervisor)
        winners = [o for o in outcomes if not isinstance(o, AlreadyStartedError)]
        assert len(winners) == 1
        assert all(o.ref == winners[0] for o in outcomes if isinstance(o, AlreadyStartedError))
        assert supervisor.count_children() == (1, 1, 0, 1)


@virtual
async def test_a_cancelled_caller_of_start_child_gets_its_child_all_the_same() -> None:
    """TRI-060."""
    async with open_supervisor([]) as supervisor:
        with trio.move_on_after(0.5) as scope:
            await supervisor.start_child(puppet("a", init=sleep_then(1.0)))
        assert scope.cancelled_caught
        assert which(supervisor) == [("a", "starting")]
        await trio.sleep(1.0)
        assert which(supervisor) == [("a", "running")]


@virtual
async def test_requests_wait_while_a_child_starts() -> None:
    """TRI-051: starts and stops go one after the other; no zombie is left."""
    order: list[str] = []

    async def start(supervisor: SupervisorRef) -> None:
        assert await supervisor.start_child(puppet("a", init=sleep_then(3.0), restart="temporary"))
        order.append("started")

    async with open_supervisor([]) as supervisor, trio.open_nursery() as nursery:
        nursery.start_soon(start, supervisor)
        await trio.sleep(1.0)
        await supervisor.terminate_child("a")
        order.append("terminated")
        assert which(supervisor) == []
    assert order == ["started", "terminated"]


@virtual
async def test_a_child_that_is_told_to_stop_while_it_starts_hears_of_it_afterwards() -> None:
    """TRI-051: as in OTP, where a message waits for init."""
    diary = Diary()
    spec = puppet("a", diary, init=sleep_then(3.0), restart="temporary", name="bob")
    async with open_supervisor([]) as supervisor, trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.start_child, spec)
        await trio.sleep(1.0)
        before = trio.current_time()
        bob = supervisor.whereis("bob")
        assert bob
        with pytest.raises(CallTimeoutError):
            await bob.stop(timeout=1.0)
        await bob.stop()
        assert trio.current_time() == before + 2.0
        await settle()
        assert which(supervisor) == []
        assert supervisor.whereis("bob") is None
    assert stopped(diary) == ["a"]


@virtual
async def test_a_child_that_is_killed_while_it_starts_leaves_no_zombie() -> None:
    """TRI-051: its supervisor is killed; the starter gets an error."""
    diary = Diary()
    told: list[Any] = []

    async def start(sub: SupervisorRef) -> None:
        with pytest.raises((StartError, ServerGoneError)):
            await sub.start_child(puppet("a", diary, init=sleep_then(60.0), name="bob"))
        told.append("starter")

    spec = Supervisor.child_spec([], id="sub", shutdown="brutal_kill")
    async with open_supervisor([spec]) as supervisor, trio.open_nursery() as nursery:
        sub = supervisor.child("sub")
        assert isinstance(sub, SupervisorRef)
        one = sub.pin()
        nursery.start_soon(start, one)
        await settle()
        before = trio.current_time()
        await supervisor.terminate_child("sub")
        assert trio.current_time() == before
        assert await one.wait() == KILLED
        assert supervisor.whereis("bob") is None
    assert told == ["starter"]
    assert stopped(diary) == []


class Parent(GenServer):
    """Uses the supervisor's API from its callbacks."""

    async def init(self, supervisor: list[SupervisorRef]) -> None:
        self.supervisor = supervisor

    async def handle_cast(self, what: str) -> NoReply:
        match what:
            case "start":
                await self.supervisor[0].start_child(puppet("child"))
            case "terminate self":
                await self.supervisor[0].terminate_child(Parent)
            case _:
                self.start_soon(self.supervisor[0].terminate_child, Parent)
        return NoReply()


@virtual
async def test_a_callback_may_start_a_sibling() -> None:
    """TRI-062."""
    kept: list[SupervisorRef] = []
    async with open_supervisor([(Parent, kept)]) as supervisor:
        kept.append(supervisor)
        supervisor.child(Parent).cast("start")
        await settle()
        assert supervisor.child("child").alive
        assert supervisor.child(Parent).alive


@pytest.mark.parametrize("what", ["terminate self", "by helper"])
@virtual
async def test_a_child_may_ask_for_its_own_end(what: str) -> None:
    """TRI-063: no deadlock beyond the time it has to stop; in fact none at all."""
    kept: list[SupervisorRef] = []
    async with open_supervisor([(Parent, kept)]) as supervisor:
        kept.append(supervisor)
        one = pinned(supervisor, Parent)
        before = trio.current_time()
        one.cast(what)
        assert await one.wait() == SHUTDOWN
        assert trio.current_time() <= before + 5.0
        await settle()
        assert which(supervisor) == [(Parent, "down")]


@virtual
async def test_a_child_that_calls_its_supervisor_while_it_starts_is_told_of_the_deadlock() -> None:
    """TRI-062: not a hang."""
    kept: list[SupervisorRef] = []

    async def init(_: Puppet) -> None:
        await kept[0].start_child(puppet("other"))

    async with open_supervisor([]) as supervisor:
        kept.append(supervisor)
        with pytest.raises(StartError) as error:
            await supervisor.start_child(puppet("a", init=init))
        assert isinstance(error.value.__cause__, DeadlockError)
        assert which(supervisor) == []


def test_the_api_works_from_a_thread_through_from_thread() -> None:
    """TRI-064: on the real clock, since a virtual one jumps while a thread works."""

    def work(supervisor: SupervisorRef) -> Any:
        ref = trio.from_thread.run(supervisor.start_child, puppet("a"))
        assert ref is not None
        counted = trio.from_thread.run_sync(supervisor.count_children)
        trio.from_thread.run_sync(ref.cast, crash())
        return counted

    async def main() -> None:
        with trio.fail_after(10.0):
            async with open_supervisor([]) as supervisor:
                assert await trio.to_thread.run_sync(work, supervisor) == (1, 1, 0, 1)
                await settle()
                assert await supervisor.child("a").call(ping) == 2

    trio.run(main)


@virtual
async def test_the_api_works_from_another_tree() -> None:
    """TRI-064: a process of one tree asks the supervisor of another."""
    async with open_supervisor([]) as one, open_supervisor([(Parent, [one])]) as two:
        two.child(Parent).cast("start")
        await settle()
        assert one.child("child").alive
        assert which(two) == [(Parent, "running")]


def test_the_states_of_a_child_have_names() -> None:
    assert [status.value for status in ChildStatus] == [
        "starting",
        "running",
        "stopping",
        "restarting",
        "down",
    ]
