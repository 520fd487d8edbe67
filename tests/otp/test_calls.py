"""Calls: an answer, a death, a deadline or a cancelled caller, whoever is first."""

from typing import Any

import pytest
import trio

from slipstream.errors import (
    CallingSelfError,
    CallTimeoutError,
    ConfigError,
    DeadlockError,
    ServerGoneError,
)
from slipstream.otp import (
    Caller,
    GenServer,
    NoReply,
    Pending,
    Reply,
    Request,
    ServerRef,
    Stop,
    Timeout,
    open_server,
    open_supervisor,
)
from slipstream.reasons import NOPROC, NORMAL, SHUTDOWN, Crashed, Shutdown
from tests.otp.support import (
    Boom,
    Diary,
    Puppet,
    Role,
    crash,
    end,
    no_answer,
    ping,
    puppet,
    run_virtually,
    settle,
    sleep_then,
    virtual,
)


@virtual
async def test_a_call_gives_the_reply() -> None:
    """GS-040."""
    async with open_server(Puppet) as ref:
        assert await ref.call(lambda *_: Reply({"any": "value"})) == {"any": "value"}
        assert await ref.call(lambda *_: Reply(None)) is None


@virtual
async def test_a_reply_may_come_later_even_after_an_idle_timeout() -> None:
    """GS-040: the caller is kept, and answered by another callback."""
    kept: list[Caller] = []

    class Later(GenServer):
        async def handle_call(self, request: Any, caller: Caller) -> NoReply:
            kept.append(caller)
            return NoReply(timeout=1.0)

        async def handle_info(self, message: Any) -> None:
            assert message == Timeout()
            assert kept[0].reply("at last") is True

    async with open_server(Later) as ref:
        before = trio.current_time()
        assert await ref.call("x") == "at last"
        assert trio.current_time() == before + 1.0


@pytest.mark.parametrize("timeout", [0.5, 0.0, 3])
@virtual
async def test_a_call_times_out_and_tells_whom_it_asked_what(timeout: float) -> None:
    """GS-040, GS-046: the error carries server, request and time-out; the server lives."""
    async with open_server(Puppet) as ref:
        before = trio.current_time()
        with pytest.raises(CallTimeoutError) as late:
            await ref.call(no_answer, timeout=timeout)
        assert trio.current_time() == before + timeout
        assert late.value.server == ref
        assert late.value.request is no_answer
        assert late.value.timeout == timeout
        assert await ref.call(ping) == 1


@virtual
async def test_a_call_waits_five_seconds_by_default_and_for_ever_with_none() -> None:
    """GS-040."""
    async with open_server(Puppet) as ref:
        before = trio.current_time()
        with pytest.raises(CallTimeoutError):
            await ref.call(no_answer)
        assert trio.current_time() == before + 5.0
        assert await ref.call(sleep_then(5_000.0, Reply("done")), timeout=None) == "done"


@pytest.mark.parametrize("timeout", [-0.1, float("nan"), "5", True, 1 + 0j])
@virtual
async def test_a_wrong_timeout_raises_before_anything_is_sent(timeout: Any) -> None:
    """GS-014, GS-040."""
    async with open_server(Puppet) as ref:
        with pytest.raises(ConfigError, match="timeout="):
            await ref.call(crash(), timeout=timeout)
        with pytest.raises(ConfigError, match="timeout="):
            await ref.send_request(ping).wait(timeout=timeout)
        assert await ref.call(ping) == 1


@virtual
async def test_a_request_may_be_awaited_in_pieces() -> None:
    """GS-041, GS-043: a time-out does not abandon; a later wait gets the answer."""
    async with open_server(Puppet) as ref:
        pending = ref.send_request(sleep_then(1.0, Reply("slow")))
        assert not pending.done
        with pytest.raises(CallTimeoutError):
            await pending.wait(timeout=0)
        with pytest.raises(CallTimeoutError):
            await pending.wait(timeout=0.5)
        assert await pending.wait(timeout=0.6) == "slow"
        assert bool(pending.done)
        assert await pending.wait() == "slow"


@virtual
async def test_a_request_tells_of_the_death_of_its_server() -> None:
    """GS-041."""
    boom = Boom("dead")
    async with open_supervisor([puppet("a", restart="temporary")]) as supervisor:
        ref = supervisor.child("a")
        pending = ref.send_request(crash(boom))
        with pytest.raises(ServerGoneError) as gone:
            await pending.wait()
        assert gone.value.reason == Crashed(boom)
        with pytest.raises(ServerGoneError) as gone:
            await ref.send_request(ping).wait()
        assert gone.value.reason == NOPROC


@virtual
async def test_many_requests_are_answered_in_any_order_and_each_gets_its_own() -> None:
    """GS-042, GS-044."""
    kept: list[tuple[int, Caller]] = []
    order: list[int] = []

    class Keeper(GenServer):
        async def handle_call(self, request: int, caller: Caller) -> NoReply:
            kept.append((request, caller))
            return NoReply()

    async def wait(pending: Pending[Any]) -> None:
        order.append(await pending.wait())

    async with open_server(Keeper) as ref, trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(wait, ref.send_request(number))
        await settle()
        for number, caller in reversed(kept):
            assert caller.reply(number)
            await settle()
    assert order == [4, 3, 2, 1, 0]


@virtual
async def test_an_abandoned_request_drops_its_answer() -> None:
    """GS-042: the server is told that nobody will see it."""
    seen: list[bool] = []

    async def late(_: Puppet, caller: Caller) -> NoReply:
        await trio.sleep(1.0)
        seen.append(caller.reply("late"))
        return NoReply()

    async with open_server(Puppet) as ref:
        pending = ref.send_request(late)
        pending.abandon()
        assert pending.done
        await trio.sleep(2.0)
        with pytest.raises(CallTimeoutError):
            await pending.wait()
    assert seen == [False]


@pytest.mark.parametrize("timeout", [5.0, None])
@pytest.mark.parametrize("by", ["ref", "name"])
@virtual
async def test_calling_oneself_is_refused_at_once(timeout: float | None, by: str) -> None:
    """GS-045, GS-046: finite and infinite time-outs alike, by any form of address."""

    async def call_self(me: Puppet, _: Caller) -> Reply:
        ref = me.ref if by == "ref" else me.whereis("me")
        assert ref
        before = trio.current_time()
        with pytest.raises(CallingSelfError):
            await ref.call(ping, timeout=timeout)
        assert trio.current_time() == before
        return Reply("lives")

    async with open_supervisor([puppet("a", name="me")]) as supervisor:
        assert await supervisor.child("a").call(call_self) == "lives"


@virtual
async def test_calling_oneself_unhandled_crashes_the_process() -> None:
    """GS-045: as in OTP the error is the callback's."""
    async with open_supervisor([puppet("a", restart="temporary")]) as supervisor:
        with pytest.raises(ServerGoneError) as gone:
            await supervisor.child("a").call(lambda me, _: me.ref.call(ping))
        assert isinstance(gone.value.reason, Crashed)
        assert isinstance(gone.value.reason.exception, CallingSelfError)


@virtual
async def test_a_helper_may_call_its_own_process() -> None:
    """GS-045: no callback waits for it, so it is no deadlock."""
    diary = Diary()

    async def helper(me: Puppet) -> None:
        diary.write("helped", await me.ref.call(ping))

    async with open_server(Puppet) as ref:
        ref.send(lambda me: me.start_soon(helper, me))
        await settle()
    assert diary == [("helped", 1)]


@pytest.mark.parametrize("length", [2, 3, 5])
@virtual
async def test_a_cycle_of_calls_is_refused_where_it_closes(length: int) -> None:
    """GS-067: A calls B calls A; the innermost caller is told, nothing hangs."""
    refs: list[ServerRef] = []

    def ask_next(index: int) -> Any:
        async def act(_: Puppet, __: Caller) -> Reply:
            try:
                return Reply(await refs[(index + 1) % length].call(ask_next(index + 1)))
            except DeadlockError:
                return Reply(f"refused to {index}")

        return act

    async with open_supervisor([puppet(str(n)) for n in range(length)]) as supervisor:
        refs.extend(supervisor.child(str(n)) for n in range(length))
        before = trio.current_time()
        assert await refs[0].call(ask_next(0)) == f"refused to {length - 1}"
        assert trio.current_time() == before


@virtual
async def test_a_call_back_that_another_process_may_answer_is_no_cycle() -> None:
    """GS-067: once B's callback has said NoReply, B is free to answer A."""

    async def b_asks_a_later(me: Puppet, caller: Caller) -> NoReply:
        return NoReply(continue_with=lambda _: finish(me, caller))

    async def finish(me: Puppet, caller: Caller) -> None:
        a = me.whereis("a")
        assert a
        pending = a.send_request(ping)  # a waits for us: it answers when we have answered
        caller.reply("first")
        assert await pending.wait() == 1

    async def ask(me: Puppet, _: Caller) -> Reply:
        b = me.whereis("b")
        assert b
        return Reply(await b.call(b_asks_a_later))

    async with open_supervisor([puppet("a", name="a"), puppet("b", name="b")]) as supervisor:
        assert await supervisor.child("a").call(ask) == "first"
        assert await supervisor.child("b").call(ping) == 1


@virtual
async def test_cast_and_send_never_wait_and_never_raise() -> None:
    """GS-060, GS-023: they are plain functions; a dead or unknown target is nothing."""
    async with open_server(Puppet) as ref:
        sent = [ref.cast("x"), ref.send("y")]  # type: ignore[func-returns-value]  # the point
        assert sent == [None, None]

        def to_nobody(me: Puppet, _: Caller) -> Reply:
            me.cast("nobody", "hello")
            return Reply(me.whereis("nobody"))

        assert await ref.call(to_nobody) is None
        await ref.stop()
        ref.cast("x")
        ref.send("y")
        assert not ref.send_after(1.0, "z").cancel()
        assert ref.statistics().dropped == 3


@pytest.mark.parametrize("raises", [False, True], ids=["clean", "raising"])
def test_a_stop_with_a_reply_terminates_first_then_answers(raises: bool) -> None:
    """GS-061: even if terminate raises."""
    diary = Diary()

    async def terminate(*_: Any) -> None:
        await trio.sleep(1.0)
        diary.write("terminated")
        if raises:
            raise Boom

    async def scenario() -> None:
        spec = puppet("a", terminate=terminate, restart="temporary")
        async with open_supervisor([spec]) as supervisor:
            pinned = supervisor.child("a").pin()
            answer = await pinned.call(lambda *_: Stop(NORMAL, reply="bye"))
            diary.write(answer)
            reason = await pinned.wait()
            assert isinstance(reason, Crashed) if raises else reason == NORMAL

    run_virtually(scenario)
    assert diary == [("terminated",), ("bye",)]


@virtual
async def test_a_late_or_second_reply_is_false_and_changes_nothing() -> None:
    """GS-062: no message appears in any mailbox."""
    kept: list[Caller] = []
    diary = Diary()

    def twice(_: Puppet, caller: Caller) -> Reply:
        kept.append(caller)
        assert caller.reply("first")
        assert not caller.reply("second")
        return Reply("third")

    def keep(_: Puppet, caller: Caller) -> NoReply:
        kept.append(caller)
        return NoReply()

    async with open_server(Puppet, Role(diary)) as ref:
        assert await ref.call(twice) == "first"
        assert not kept[0].reply("fourth")
        with pytest.raises(CallTimeoutError):
            await ref.call(keep, timeout=1.0)
        assert not kept[1].reply("late")
        await settle()
        assert ref.statistics().waiting == 0
        assert ref.statistics().open_calls == 0
    assert diary.of("info") == []


@virtual
async def test_a_reply_in_the_very_tick_of_the_deadline_is_the_result() -> None:
    """GS-063: the value beats the time-out, whoever the scheduler runs first."""
    for _ in range(20):
        async with open_server(Puppet) as ref:
            assert await ref.call(sleep_then(1.0, Reply("in time")), timeout=1.0) == "in time"


@virtual
async def test_a_cancelled_caller_leaves_its_request_to_be_handled() -> None:
    """GS-064: Cancelled propagates; the slot is abandoned."""
    diary = Diary()

    async def slow(_: Puppet, caller: Caller) -> NoReply:
        await trio.sleep(1.0)
        diary.write("reply", caller.reply("late"))
        return NoReply()

    async with open_server(Puppet) as ref:
        with trio.move_on_after(0.5) as scope:
            await ref.call(slow)
        assert scope.cancelled_caught
        await trio.sleep(1.0)
        assert diary == [("reply", False)]
        assert ref.statistics().open_calls == 0
        assert await ref.call(ping) == 1


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("crash", Crashed),
        ("stop", Shutdown("done")),
        ("terminate_child", SHUTDOWN),
        ("brutal", None),
    ],
)
@virtual
async def test_all_callers_learn_of_the_death_of_their_server_at_once(
    how: str, expected: Any
) -> None:
    """GS-065, TRI-082: those in the queue, the one being served and those that were kept."""
    reasons: list[Any] = []
    shutdown: Any = "brutal_kill" if how == "brutal" else 5.0
    spec = puppet("a", restart="temporary", shutdown=shutdown)

    async def ask(ref: ServerRef, request: Any) -> None:
        with pytest.raises(ServerGoneError) as gone:
            await ref.call(request, timeout=None)
        reasons.append(gone.value.reason)

    async with open_supervisor([spec]) as supervisor, trio.open_nursery() as nursery:
        ref = supervisor.child("a").pin()
        for _ in range(5):
            nursery.start_soon(ask, ref, no_answer)
        await settle()
        ref.cast(sleep_then(1.0))
        if how == "crash":
            ref.cast(crash())
        elif how == "stop":
            ref.cast(end(Shutdown("done")))
        for _ in range(5):
            nursery.start_soon(ask, ref, ping)
        if how in {"terminate_child", "brutal"}:
            await settle()
            await supervisor.terminate_child("a")
        reason = await ref.wait()
        await settle()
        assert len(reasons) == 10
    assert reasons == [reason] * 10
    assert expected is None or reason == expected or isinstance(reason, Crashed)


@virtual
async def test_each_caller_gets_an_error_of_its_own() -> None:
    """GS-065: one object that several tasks raise would gather their tracebacks."""
    errors: list[ServerGoneError] = []
    boom = Boom("one for all")

    async def ask(ref: ServerRef) -> None:
        with pytest.raises(ServerGoneError) as gone:
            await ref.call(no_answer)
        errors.append(gone.value)

    spec = puppet("a", restart="temporary")
    async with open_supervisor([spec]) as supervisor, trio.open_nursery() as nursery:
        ref = supervisor.child("a")
        for _ in range(3):
            nursery.start_soon(ask, ref)
        await settle()
        ref.cast(crash(boom))
    assert len({id(error) for error in errors}) == 3
    assert all(error.__cause__ is boom for error in errors)


@virtual
async def test_another_process_or_task_may_answer() -> None:
    """GS-066."""
    kept: list[Caller] = []

    def keep(_: Puppet, caller: Caller) -> NoReply:
        kept.append(caller)
        return NoReply()

    async with open_supervisor([puppet("a"), puppet("b")]) as supervisor:
        a, b = supervisor.child("a"), supervisor.child("b")
        first, second = a.send_request(keep), a.send_request(keep)
        await settle()
        b.cast(lambda _: NoReply() if kept[0].reply("from b") else None)
        assert await first.wait() == "from b"
        assert kept[1].reply("from the test")
        assert await second.wait() == "from the test"


class Double(Request[int]):
    """Asks for twice the number."""

    def __init__(self, number: int) -> None:
        self.number = number


class Doubler(GenServer):
    """Answers a typed request."""

    async def handle_call(self, request: Double, caller: Caller) -> Reply:
        return Reply(request.number * 2)


@virtual
async def test_a_typed_request_has_a_typed_answer() -> None:
    async with open_server(Doubler) as ref:
        answer: int = await ref.call(Double(4))
        assert answer == 8
        pending: Pending[int] = ref.send_request(Double(5))
        assert await pending.wait() == 10


@virtual
async def test_a_call_to_the_dead_is_a_checkpoint_and_so_is_any_error() -> None:
    """TRI-092: every path of a public async function."""
    async with open_server(Puppet) as ref:
        pending = ref.send_request(ping)
        await settle()
        with trio.testing.assert_checkpoints():
            await pending.wait()
        with trio.testing.assert_checkpoints():
            await ref.call(ping)
        with trio.testing.assert_checkpoints(), pytest.raises(CallTimeoutError):
            await ref.call(no_answer, timeout=0)
        with trio.testing.assert_checkpoints():
            await ref.stop()
        for attempt in (
            lambda: ref.call(ping),
            lambda: ref.send_request(ping).wait(),
            ref.stop,
        ):
            with trio.testing.assert_checkpoints(), pytest.raises(ServerGoneError):
                await attempt()
        with trio.testing.assert_checkpoints():
            assert await ref.wait() == NORMAL


@virtual
async def test_sync_functions_are_no_checkpoints() -> None:
    """TRI-092."""
    async with open_supervisor([puppet("a")]) as supervisor:
        with trio.testing.assert_no_checkpoints():
            ref = supervisor.child("a")
            ref.cast("x")
            ref.send("y")
            ref.send_after(9.0, "z").cancel()
            ref.send_request(ping).abandon()
            ref.pin().statistics()
            supervisor.which_children()
            supervisor.count_children()
            supervisor.whereis("a")
