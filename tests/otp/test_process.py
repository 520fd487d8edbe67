"""The shell of a process: what helpers, monitors and kills do at its edges."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing

from slipstream.errors import ChildNotFoundError, ServerGoneError, WrongTaskError
from slipstream.otp import Caller, NoReply, Reply, ServerRef, Via, open_server, open_supervisor
from slipstream.reasons import KILLED, NOPROC, NORMAL, SHUTDOWN, Crashed, ExitReason
from tests.otp.support import (
    Boom,
    Diary,
    Puppet,
    Role,
    Watcher,
    crash,
    end,
    ping,
    pinned,
    puppet,
    run_virtually,
    settle,
    sleep_then,
    stopped,
    virtual,
)


@virtual
async def test_a_helper_may_be_started_in_terminate_and_not_afterwards() -> None:
    diary = Diary()
    kept: list[Puppet] = []

    async def helper(me: Puppet) -> None:
        me.write("helps")
        await trio.sleep_forever()

    async def goodbye(me: Puppet, _: ExitReason) -> None:
        kept.append(me)
        me.start_soon(helper, me)
        await trio.sleep(1.0)

    async with open_server(Puppet, Role(diary, terminate=goodbye)) as ref:
        await ref.stop()
    assert diary.of("helps") == ["puppet"]
    with pytest.raises(WrongTaskError, match="ended"):
        kept[0].start_soon(helper, kept[0])


@virtual
async def test_a_helper_that_fails_while_its_process_ends_does_not_change_why() -> None:
    """What ended it first is why."""
    boom = Boom("first")

    async def helper() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise Boom("second")

    async with open_supervisor([puppet("a", restart="temporary")]) as supervisor:
        one = pinned(supervisor, "a")
        one.cast(lambda me: me.start_soon(helper))
        await settle()
        one.cast(crash(boom))
        assert await one.wait() == Crashed(boom)


@virtual
async def test_a_helper_that_fails_after_an_orderly_end_is_a_crash() -> None:
    """An error must not be lost."""
    boom = Boom("in the helper's cleaning up")

    async def helper() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise boom

    async with open_supervisor([puppet("a", restart="temporary")]) as supervisor:
        one = pinned(supervisor, "a")
        one.cast(lambda me: me.start_soon(helper))
        await settle()
        one.cast(end(NORMAL))
        assert await one.wait() == Crashed(boom)


@virtual
async def test_two_helpers_that_fail_together_are_one_crash() -> None:
    errors = [Boom("1"), Boom("2")]

    async def helper(error: Boom) -> None:
        raise error

    def act(me: Puppet) -> None:
        for error in errors:
            me.start_soon(helper, error)

    async with open_supervisor([puppet("a", restart="temporary")]) as supervisor:
        one = pinned(supervisor, "a")
        one.cast(act)
        reason = await one.wait()
    assert isinstance(reason, Crashed)
    assert reason.exception in errors


@virtual
async def test_an_error_beside_something_fatal_is_the_reason_and_the_tree_ends() -> None:
    """TRI-040: both are told of."""
    boom = Boom("beside")
    kept: list[Any] = []

    async def both(_: Puppet) -> None:
        raise BaseExceptionGroup("", [KeyboardInterrupt(), boom])

    with pytest.raises(KeyboardInterrupt):
        async with open_supervisor([puppet("a")]) as supervisor:
            kept.append(pinned(supervisor, "a"))
            kept[0].cast(both)
            await trio.sleep_forever()
    assert await kept[0].wait() == Crashed(boom)


@virtual
async def test_the_end_of_a_watcher_ends_its_watch() -> None:
    diary = Diary()
    children = [Watcher.child_spec(diary), puppet("a"), puppet("b", diary)]
    async with open_supervisor(children) as supervisor:
        watcher, a = supervisor.child(Watcher), supervisor.child("a")
        watcher.cast(a)
        await settle()
        await supervisor.terminate_child(Watcher)
        await a.pin().stop()
        await settle()
    assert diary.of("down") == []


@virtual
async def test_a_process_may_watch_itself_in_vain() -> None:
    diary = Diary()

    def act(me: Puppet, _: Caller) -> Reply:
        return Reply(me.monitor(me.ref) is not None)

    async with open_server(Puppet, Role(diary)) as ref:
        assert await ref.call(act) is True
        await ref.stop()
    assert diary.of("info") == []


@virtual
async def test_stopping_a_child_with_brutal_kill_by_its_reference_is_graceful() -> None:
    """Only its supervisor kills it."""
    diary = Diary()
    spec = puppet("a", diary, shutdown="brutal_kill", restart="temporary")
    async with open_supervisor([spec]) as supervisor:
        one = pinned(supervisor, "a")
        one.cast(lambda me: me.write("handled"))
        await settle()
        await one.stop()
        assert await one.wait() == NORMAL
    assert stopped(diary) == ["a"]


@virtual
async def test_a_second_request_to_stop_can_only_shorten_the_time() -> None:
    async def stop(ref: Any) -> None:
        with pytest.raises(ServerGoneError):
            await ref.stop(NORMAL)

    spec = puppet("a", terminate=sleep_then(60.0), shutdown=3.0)
    async with open_supervisor([spec], shutdown=1.0) as supervisor, trio.open_nursery() as nursery:
        one = pinned(supervisor, "a")
        nursery.start_soon(stop, one)
        await settle()
        before = trio.current_time()
        await supervisor.terminate_child("a")
        assert trio.current_time() == before + 3.0
        assert await one.wait() == KILLED


@virtual
async def test_a_process_killed_before_it_ran_never_begins() -> None:
    """TRI-075 for init."""
    diary = Diary()
    with trio.CancelScope() as scope:
        scope.cancel()
        async with open_server(Puppet, Role(diary)):
            pytest.fail("it must not start")
    assert scope.cancelled_caught
    assert diary == []


@virtual
async def test_an_id_that_cannot_be_one_is_not_found() -> None:
    async with open_supervisor([puppet("a")]) as supervisor:
        with pytest.raises(ChildNotFoundError):
            supervisor.child([])
        with pytest.raises(ChildNotFoundError):
            await supervisor.terminate_child({})


@virtual
async def test_a_foreign_thread_may_not_use_an_instance_or_answer() -> None:
    """TRI-097: neither inside nor with the caller it was given."""
    kept: list[Any] = []
    raised: list[BaseException] = []

    def keep(me: Puppet, caller: Caller) -> Any:
        kept.extend([me, caller])
        return NoReply()

    def work() -> None:
        me, caller = kept
        acts: list[Callable[[], Any]] = [
            lambda: me.ref,
            lambda: me.whereis("x"),
            lambda: caller.reply(1),
        ]
        for act in acts:
            try:
                act()
            except WrongTaskError as error:
                raised.append(error)

    async with open_server(Puppet) as ref:
        pending = ref.send_request(keep)
        await settle()
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(10.0)
        assert len(raised) == 3
        assert not pending.done
        await ref.stop(SHUTDOWN)


@virtual
async def test_a_process_calls_another_by_its_name() -> None:
    """GS-046: as by its reference; that nobody has the name is told like a death."""

    async with open_supervisor([puppet("a"), puppet("b", name="b")]) as supervisor:
        a = supervisor.child("a")
        for b in ("b", supervisor.child("b")):

            async def ask(me: Puppet, _: Caller, name: str | ServerRef = b) -> Reply:
                return Reply(await me.call(name, ping))

            assert await a.call(ask) == 1
        for nobody in ("c", Via("no registry", "b")):

            async def fail(me: Puppet, _: Caller, name: str | Via = nobody) -> Reply:
                with pytest.raises(ServerGoneError) as gone:
                    with trio.testing.assert_checkpoints():
                        await me.call(name, ping)
                return Reply(gone.value.reason)

            assert await a.call(fail) == NOPROC


@virtual
async def test_a_process_that_is_killed_from_outside_is_started_again() -> None:
    """SUP-041, GS-069: it ends as killed, without a goodbye, whatever it does just then."""
    diary = Diary()
    async with open_supervisor([puppet("a", diary)]) as supervisor:
        ref = supervisor.child("a")
        first = ref.pin()
        ref.cast(sleep_then(60.0))
        await settle()
        ref.kill()
        assert await first.wait() == KILLED
        first.kill()  # nothing is there any more
        await settle()
        assert await ref.call(ping) == 2
        assert stopped(diary) == []


def test_a_ctrl_c_of_a_helper_is_not_lost_behind_an_error_of_its_process() -> None:
    """TRI-040: both come while the process is killed; the one ends the program all the same."""

    async def fails_when_cancelled(error: BaseException) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise error

    async def act(me: Puppet) -> None:
        me.start_soon(fails_when_cancelled, KeyboardInterrupt())
        await fails_when_cancelled(Boom())

    async def main() -> None:
        async with open_server(Puppet) as ref:
            ref.cast(act)
            await settle()
            ref.kill()
            await ref.wait()
            await trio.sleep_forever()

    with pytest.raises(KeyboardInterrupt):
        run_virtually(main)
