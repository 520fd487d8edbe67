"""The mailbox: selective receive, and what may be done to what waits in it."""

from collections.abc import Callable
from typing import Any

import pytest
import trio

from slipstream.errors import AwaitTimeoutError, ConfigError, WrongTaskError
from slipstream.otp import (
    Caller,
    Exit,
    GenServer,
    NoReply,
    Reply,
    ServerRef,
    open_server,
    open_supervisor,
    process_of,
)
from slipstream.reasons import SHUTDOWN, ExitReason
from tests.otp.support import (
    Diary,
    Puppet,
    Role,
    counting_steps,
    ping,
    puppet,
    settle,
    sleep_then,
    virtual,
)


def same(wanted: object) -> Callable[[Any], bool]:
    return lambda message: bool(message == wanted)


@virtual
async def test_receive_takes_the_oldest_match_and_leaves_the_others_in_order() -> None:
    """Erlang's receive; what it leaves reaches handle_info, once and in order."""
    diary = Diary()
    got: list[Any] = []

    async def act(me: Puppet) -> None:
        got.append(await me.receive(lambda message: isinstance(message, int)))
        got.append(await me.receive(lambda message: isinstance(message, int)))

    async with open_server(Puppet, Role(diary)) as ref:
        for message in (act, "x", 1, "y", 2, 3):
            ref.send(message)
        await settle()
    assert got == [1, 2]
    assert [entry[2] for entry in diary if entry[0] == "info"] == ["x", "y", 3]


@virtual
async def test_receive_waits_for_what_has_yet_to_come() -> None:
    got: list[Any] = []

    async def act(me: Puppet) -> None:
        got.append((await me.receive(same("wanted"), timeout=5.0), trio.current_time()))

    async with open_server(Puppet) as ref:
        start = trio.current_time()
        ref.send(act)
        await trio.sleep(1.0)
        ref.send("other")
        await trio.sleep(1.0)
        ref.send("wanted")
        await settle()
    assert got == [("wanted", start + 2.0)]


@virtual
async def test_receive_times_out_and_the_late_message_goes_the_ordinary_way() -> None:
    """AWT-008 for plain messages: exactly once."""
    diary = Diary()

    async def act(me: Puppet, timeout: float) -> None:
        with pytest.raises(AwaitTimeoutError) as late:
            await me.receive(same("wanted"), timeout=timeout)
        assert late.value.seconds == timeout
        diary.write("timed out", trio.current_time())

    async with open_server(Puppet, Role(diary)) as ref:
        start = trio.current_time()
        ref.send(lambda me: act(me, 1.0))
        await trio.sleep(1.5)
        ref.send("wanted")
        await settle()
        ref.send(lambda me: act(me, 0))
        await settle()
    assert diary.of("timed out") == [start + 1.0, start + 1.5]
    assert diary.of("info") == [("puppet", "wanted")]


@virtual
async def test_calls_and_casts_are_no_messages_to_receive() -> None:
    """They keep their places too."""
    diary = Diary()

    async def act(me: Puppet) -> None:
        assert await me.receive(lambda _: True) == "info"

    async with open_server(Puppet, Role(diary)) as ref:
        ref.send(act)
        ref.cast("cast")
        pending = ref.send_request(ping)
        ref.send("info")
        assert await pending.wait() == 1
        await settle()
    assert [entry[0] for entry in diary] == ["init", "cast", "terminate"]


@virtual
async def test_only_the_own_task_may_receive() -> None:
    """AWT-011: a helper and a foreign task are told at once."""
    told: list[str] = []

    async def helper(me: Puppet) -> None:
        with pytest.raises(WrongTaskError):
            await me.receive(lambda _: True)
        told.append("helper")

    def act(me: Puppet, caller: Caller) -> Reply:
        me.start_soon(helper, me)
        return Reply(me)

    async with open_server(Puppet) as ref:
        me = await ref.call(act)
        with pytest.raises(WrongTaskError):
            await me.receive(lambda _: True)
        await settle()
    assert told == ["helper"]


@virtual
async def test_a_cancelled_receive_loses_nothing() -> None:
    diary = Diary()

    async def act(me: Puppet) -> None:
        with trio.move_on_after(1.0):
            await me.receive(same("wanted"))
        with trio.CancelScope() as scope:
            scope.cancel()
            await me.receive(same("x"))
        assert scope.cancelled_caught

    async with open_server(Puppet, Role(diary)) as ref:
        ref.send(act)
        await settle()
        ref.send("x")
        await trio.sleep(2.0)
    assert diary.of("info") == [("puppet", "x")]


@virtual
async def test_being_stopped_interrupts_a_receive_even_behind_messages() -> None:
    """TRI-084, AWT-009: Exit out of receive, terminate runs, no time is lost."""
    diary = Diary()

    async def act(me: Puppet) -> None:
        try:
            await me.receive(same("never"))
        except Exit as error:
            diary.write("exit", error.reason)
            with pytest.raises(Exit):  # and so does every other wait that follows
                await me.receive(same("never"), timeout=1.0)
            raise

    async with open_supervisor([puppet("a", diary)]) as supervisor:
        ref = supervisor.child("a")
        ref.send(act)
        for number in range(10):
            ref.send(number)
        await settle()
        before = trio.current_time()
        await supervisor.terminate_child("a")
        assert trio.current_time() == before
    assert diary == [("init", "a"), ("exit", SHUTDOWN), ("terminate", "a", SHUTDOWN)]


@virtual
async def test_receive_works_again_in_terminate() -> None:
    """A goodbye may still wait for its answer."""
    diary = Diary()

    async def goodbye(me: Puppet, _: ExitReason) -> None:
        me.send_after(1.0, "bye")
        diary.write("heard", await me.receive(same("bye"), timeout=3.0))

    async with open_supervisor([puppet("a", diary, terminate=goodbye)]) as supervisor:
        await supervisor.terminate_child("a")
    assert diary.of("heard") == ["bye"]


@pytest.mark.parametrize("timeout", [-1, float("nan"), "1"])
@virtual
async def test_receive_with_a_wrong_timeout_raises(timeout: Any) -> None:
    async def act(me: Puppet, _: Caller) -> Reply:
        with pytest.raises(ConfigError, match="timeout="):
            await me.receive(lambda _: True, timeout=timeout)
        return Reply("told")

    async with open_server(Puppet) as ref:
        assert await ref.call(act) == "told"


@virtual
async def test_receive_looks_at_each_message_once_however_often_it_wakes() -> None:
    """GS-053: it resumes where it was, so that waiting behind many messages stays cheap."""
    looked = 0

    def matching(message: Any) -> bool:
        nonlocal looked
        looked += 1
        return bool(message == "wanted")

    async def act(me: Puppet) -> None:
        await me.receive(matching)

    async with open_server(Puppet) as ref:
        ref.send(act)
        for number in range(200):
            ref.send(number)
            await settle()
        ref.send("wanted")
        await settle()
    assert looked == 201


@virtual
async def test_a_call_takes_no_longer_behind_a_full_mailbox_of_its_own() -> None:
    """GS-053: answers are no messages."""
    async with open_supervisor([puppet("a"), puppet("other", name="other")]) as supervisor:
        ref = supervisor.child("a")
        alone = await _count_steps(ref, 0)
        crowded = await _count_steps(ref, 5_000)
    assert alone == crowded


async def _count_steps(ref: ServerRef, waiting: int) -> int:
    async def measure(me: Puppet, _: Caller) -> Reply:
        other = me.whereis("other")
        assert other
        for number in range(waiting):
            me.ref.send(number)
        with counting_steps() as steps:
            await other.call(ping)
        return Reply(steps.count)

    count: int = await ref.call(measure)
    return count


# -- what waits


@virtual
async def test_what_waits_may_be_looked_at_added_to_and_taken_out() -> None:
    diary = Diary()

    async def act(me: Puppet) -> None:
        await trio.sleep(1.0)
        box = me.mailbox
        assert list(box) == [1, 2, 3, 4]
        assert len(box) == 5  # the cast counts
        assert box.remove(lambda message: message % 2 == 0, limit=1) == [2]
        box.append(5)
        box.extend([6, 7])
        assert box.remove(lambda message: message > 5) == [6, 7]
        assert box.remove(same("none")) == []

    async with open_server(Puppet, Role(diary)) as ref:
        ref.send(act)
        await settle()
        ref.send(1)
        ref.send(2)
        ref.cast("cast")
        ref.send(3)
        ref.send(4)
        await trio.sleep(2.0)
    assert [entry[2] for entry in diary[1:]] == [1, "cast", 3, 4, 5, SHUTDOWN]


@virtual
async def test_a_batch_wakes_a_waiting_receive_once() -> None:
    looked: list[Any] = []

    async def act(me: Puppet) -> None:
        def matching(message: Any) -> bool:
            looked.append(message)
            return bool(message == 3)

        assert await me.receive(matching) == 3

    async with open_server(Puppet) as ref:
        me: list[Puppet] = []
        ref.send(me.append)
        ref.send(act)
        await settle()
        me[0].mailbox.extend([1, 2, 3, 4])
        await settle()
    assert looked == [1, 2, 3]


# -- timers


@virtual
async def test_ticks_come_at_their_times_and_stop_when_cancelled() -> None:
    diary = Diary()
    start = trio.current_time()

    class Clock(GenServer):
        async def init(self) -> None:
            self.timer = self.send_every(1.0, "tick")

        async def handle_info(self, message: Any) -> None:
            diary.write(message, trio.current_time() - start)

        async def handle_cast(self, message: Any) -> None:
            diary.write("cancelled", self.timer.cancel(), self.timer.cancel(), self.timer.active)

    async with open_server(Clock) as ref:
        await trio.sleep(3.5)
        ref.cast("stop")
        await trio.sleep(10.0)
    assert diary == [("tick", 1.0), ("tick", 2.0), ("tick", 3.0), ("cancelled", True, False, False)]


@virtual
async def test_ticks_of_a_slow_process_do_not_pile_up() -> None:
    """At most one waits at a time."""
    diary = Diary()

    def init(me: Puppet) -> None:
        me.send_every(1.0, "tick")

    async with open_server(Puppet, Role(diary, init=init)) as ref:
        ref.cast(sleep_then(10.5))
        await trio.sleep(10.6)
        assert len(diary.of("info")) == 1
        await trio.sleep(2.0)
        assert len(diary.of("info")) == 3


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan"), "1", None])
@virtual
async def test_ticks_without_a_period_are_refused(seconds: Any) -> None:
    def act(me: Puppet, _: Caller) -> Reply:
        with pytest.raises(ConfigError, match="seconds"):
            me.send_every(seconds, "tick")
        return Reply("told")

    async with open_server(Puppet) as ref:
        assert await ref.call(act) == "told"
        if seconds != 0:
            with pytest.raises(ConfigError, match="seconds="):
                ref.send_after(seconds, "x")


@virtual
async def test_timers_die_with_their_process() -> None:
    """TRI-098: nothing is left in the heap to wake anybody."""
    diary = Diary()

    def init(me: Puppet) -> NoReply:
        me.send_every(1.0, "tick")
        me.send_after(2.0, "late")
        return NoReply(timeout=3.0)

    async with open_supervisor([puppet("a", diary, init=init, restart="temporary")]) as supervisor:
        await supervisor.child("a").stop()
        await trio.sleep(10.0)
    assert diary.of("info") == []


@virtual
async def test_a_burst_of_casts_wakes_a_process_once() -> None:
    """TRI-090: sixty-four messages, one turn of the scheduler."""
    diary = Diary()
    async with open_supervisor([puppet("a", diary)]) as supervisor:
        ref = supervisor.child("a")
        process = process_of(ref)
        assert process
        assert process.task
        with counting_steps(process.task) as steps:
            for number in range(64):
                ref.cast(number)
            await settle()
    assert diary.of("cast") == [("a", number) for number in range(64)]
    assert steps.count == 1
