"""The locks of a registry: whose turn it is, and how it passes on."""

from typing import Any

import pytest
import trio

from slipstream.errors import DeadlockError, ServerGoneError
from slipstream.otp import RegistryRef, process_of
from slipstream.reasons import NOPROC, SHUTDOWN
from tests.otp.rooms import open_rooms
from tests.otp.support import Boom, Diary, crash, kill, puppet, settle, virtual


def locks_of(rooms: RegistryRef) -> int:
    """Tell of how many keys somebody has the lock, or waits for it."""
    process = process_of(rooms)
    assert process is not None
    return len(process.tree.tables[process].locks)


async def hold(rooms: RegistryRef, key: Any, who: str, diary: Diary, seconds: float = 1.0) -> None:
    """Hold the lock of *key* for a while."""
    async with rooms.lock(key):
        diary.write(who, trio.current_time())
        await trio.sleep(seconds)


@virtual
async def test_locks_of_different_keys_do_not_wait() -> None:
    """REG-021: each key has its own, and to a lock, too, 1 and True are two."""
    diary = Diary()
    async with open_rooms() as (rooms, *_), trio.open_nursery() as nursery:
        start = trio.current_time()
        for number, key in enumerate([1, 1.0, True, "x", (1,), (True,)]):
            nursery.start_soon(hold, rooms, key, str(number), diary)
        await settle()
        assert sorted(diary) == [(str(number), start) for number in range(6)]


@virtual
async def test_a_lock_is_given_in_the_order_it_was_asked_for() -> None:
    """REG-021: one at a time, first come, first served."""
    diary = Diary()
    async with open_rooms() as (rooms, a, _, __):
        start = trio.current_time()
        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(hold, rooms, "x", str(number), diary)
                await settle()
            a.cast(lambda me: me.start_soon(hold, rooms, "x", "a", diary))
        await trio.sleep(1)
        order = [*"01234", "a"]
        assert diary == [(who, start + n) for n, who in enumerate(order)]
        await settle()
        assert locks_of(rooms) == 0


@virtual
async def test_a_lock_is_given_back_when_its_block_raises() -> None:
    """REG-022: the next one has it."""
    async with open_rooms() as (rooms, *_):
        with pytest.raises(Boom):
            async with rooms.lock("x"):
                crash()()
        async with rooms.lock("x"):
            pass
        assert locks_of(rooms) == 0


@pytest.mark.parametrize("how", ["kill", "crash", "stop"])
@virtual
async def test_a_lock_is_given_back_when_its_process_ends(how: str) -> None:
    """REG-022: whichever way it ends."""
    diary = Diary()
    async with open_rooms() as (rooms, a, b, _):
        a.cast(lambda me: me.start_soon(hold, rooms, "x", "a", diary, 100.0))
        await settle()
        b.cast(lambda me: me.start_soon(hold, rooms, "x", "b", diary))
        await settle()
        assert [entry[0] for entry in diary] == ["a"]
        match how:
            case "kill":
                kill(a)
            case "crash":
                a.cast(crash())
            case _:
                await a.stop()
        await settle()
        assert diary.of("b")


@virtual
async def test_the_killed_are_passed_over() -> None:
    """REG-022: a process that waits and is killed has no turn, or none to speak of."""
    diary = Diary()
    async with open_rooms() as (rooms, a, b, _), trio.open_nursery() as nursery:
        nursery.start_soon(hold, rooms, "x", "first", diary)
        await settle()
        for who, process in (("a", a), ("b", b)):
            process.cast(lambda me, who=who: hold(rooms, "x", who, diary))
            await settle()
        nursery.start_soon(hold, rooms, "x", "last", diary)
        await settle()
        for process in (a, b):  # the second in the very moment in which the lock is given back
            await trio.sleep(0.5)
            kill(process)
        await settle()
        assert [entry for entry in diary if entry[0] == "a"] == []
        assert diary.of("last") == [trio.current_time()]


@virtual
async def test_a_wait_that_is_cancelled_as_its_turn_comes_passes_it_on() -> None:
    """REG-022: the turn of a task that was cancelled first is nobody's loss."""
    diary = Diary()
    async with open_rooms() as (rooms, *_), trio.open_nursery() as nursery:
        scope = trio.CancelScope()

        async def give_up() -> None:
            with scope:
                await hold(rooms, "x", "cancelled", diary)

        async with rooms.lock("x"):
            nursery.start_soon(give_up)
            await settle()
            nursery.start_soon(hold, rooms, "x", "next", diary)
            await settle()
            scope.cancel()
        await settle()
        assert [entry[0] for entry in diary] == ["next"]
        await trio.sleep(1)
        await settle()
        assert locks_of(rooms) == 0


@virtual
async def test_a_cancelled_task_does_not_take_a_lock() -> None:
    async with open_rooms() as (rooms, *_):
        with trio.CancelScope() as scope:
            scope.cancel()
            async with rooms.lock("x"):
                pytest.fail("entering is a checkpoint")
        assert locks_of(rooms) == 0


@virtual
async def test_a_task_that_has_a_lock_cannot_wait_for_it() -> None:
    async with open_rooms() as (rooms, *_), rooms.lock("x"):
        with pytest.raises(DeadlockError, match="the task has the lock of 'x'"):
            async with rooms.lock("x"):
                pytest.fail("it has it already")
        async with rooms.lock("y"):
            pass


@virtual
async def test_one_lock_object_serves_many_tasks() -> None:
    diary = Diary()
    async with open_rooms() as (rooms, *_):
        lock = rooms.lock("x")

        async def enter() -> None:
            async with lock:
                diary.write("in", trio.current_time())
                await trio.sleep(1)

        start = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(enter)
            nursery.start_soon(enter)
        assert diary.of("in") == [start, start + 1]


@virtual
async def test_a_process_that_is_stopped_does_not_wait_on() -> None:
    """Waiting for a lock is a wait of this library: being stopped raises Exit out of it."""
    diary = Diary()
    child = puppet("c", diary)
    async with open_rooms(child) as (rooms, _, __, supervisor), rooms.lock("x"):
        c = supervisor.child("c").pin()
        c.cast(lambda _: hold(rooms, "x", "held", diary))
        await settle()
        start = trio.current_time()
        await c.stop(SHUTDOWN)
        assert trio.current_time() == start
        assert ("terminate", "c", SHUTDOWN) in diary
        assert not diary.of("held")


@virtual
async def test_who_waits_is_told_that_the_registry_ends() -> None:
    """Who has a lock is left in peace."""
    async with open_rooms() as (rooms, *_), trio.open_nursery() as nursery:
        pinned = rooms.pin()

        async def wait_in_vain() -> None:
            with pytest.raises(ServerGoneError) as caught:
                async with pinned.lock("x"):
                    pytest.fail("there is no lock any more")
            assert caught.value.reason == NOPROC

        async with rooms.lock("x"):
            nursery.start_soon(wait_in_vain)
            await settle()
            await pinned.stop()
            await settle()
            assert not nursery.child_tasks
