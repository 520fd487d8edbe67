"""Addresses: they follow a child over its incarnations; a pinned one does not."""

import gc
import logging
import threading
import weakref
from typing import Any

import pytest
import trio

from slipstream.errors import CallTimeoutError, ServerGoneError, WrongTaskError
from slipstream.otp import (
    Caller,
    Exit,
    Reply,
    ServerRef,
    Supervisor,
    SupervisorRef,
    open_server,
    open_supervisor,
)
from slipstream.reasons import NOPROC, NORMAL, RESTARTING, SHUTDOWN, Crashed
from tests.otp.support import (
    Boom,
    Diary,
    Puppet,
    crash,
    no_answer,
    ping,
    pinned,
    puppet,
    settle,
    sleep_then,
    virtual,
)


@virtual
async def test_an_address_follows_its_child_and_a_pinned_one_stays() -> None:
    async with open_supervisor([puppet("a", name="bob")]) as supervisor:
        ref = supervisor.child("a")
        first = ref.pin()
        assert await ref.call(ping) == await first.call(ping) == 1
        ref.send(crash())
        reason = await first.wait()
        assert isinstance(reason, Crashed)
        await settle()

        assert await ref.call(ping) == 2
        assert not first.alive
        with pytest.raises(ServerGoneError) as gone:
            await first.call(ping)
        assert gone.value.reason == NOPROC
        assert await first.wait() == reason
        assert ref == supervisor.child("a") == supervisor.whereis("bob")
        assert ref != first
        assert hash(ref) == hash(supervisor.child("a"))
        assert ref != "bob"


@virtual
async def test_between_two_incarnations_calls_tell_so_and_casts_are_counted() -> None:
    async with open_supervisor([puppet("a", backoff=lambda *_: 5.0)]) as supervisor:
        ref = supervisor.child("a")
        ref.send(crash())
        await settle()
        assert not bool(ref.alive)
        with pytest.raises(ServerGoneError) as gone:
            await ref.call(ping)
        assert gone.value.reason == RESTARTING
        with pytest.raises(ServerGoneError) as gone:
            ref.pin()
        assert gone.value.reason == RESTARTING
        dropped = ref.statistics().dropped
        ref.cast("x")
        ref.send("y")
        assert ref.statistics().dropped == dropped + 2
        await trio.sleep(5.1)
        assert ref.alive
        assert await ref.call(ping) == 2


@virtual
async def test_an_address_of_a_child_that_was_terminated_finds_nobody() -> None:
    async with open_supervisor([puppet("a")]) as supervisor:
        ref = supervisor.child("a")
        await supervisor.terminate_child("a")
        with pytest.raises(ServerGoneError) as gone:
            await ref.call(ping)
        assert gone.value.reason == NOPROC
        await supervisor.restart_child("a")
        assert await ref.call(ping) == 2
        await supervisor.terminate_child("a")
        await supervisor.delete_child("a")
        await supervisor.start_child(puppet("a"))
        with pytest.raises(ServerGoneError) as gone:
            await ref.call(ping)
        assert gone.value.reason == NOPROC


@virtual
async def test_after_the_tree_has_gone_its_references_find_nobody() -> None:
    """Every call says NOPROC; casts are dropped; nothing hangs, nothing else is raised."""
    async with open_supervisor([puppet("a", name="bob")]) as supervisor:
        ref = supervisor.child("a")
        one = ref.pin()
    for gone_ref in (ref, one, supervisor):
        assert not gone_ref.alive
        gone_ref.cast("x")
        gone_ref.send("x")
        assert not gone_ref.send_after(1.0, "x").active
        attempts: list[Any] = [
            lambda r=gone_ref: r.call(ping),
            lambda r=gone_ref: r.send_request(ping).wait(),
            lambda r=gone_ref: r.stop(),
        ]
        for attempt in attempts:
            with pytest.raises(ServerGoneError) as gone:
                await attempt()
            assert gone.value.reason == NOPROC
        with pytest.raises(ServerGoneError):
            gone_ref.pin()
    assert await one.wait() == SHUTDOWN
    assert await supervisor.wait() == SHUTDOWN
    assert supervisor.whereis("bob") is None
    api: list[Any] = [
        lambda: supervisor.start_child(puppet("b")),
        lambda: supervisor.terminate_child("a"),
        lambda: supervisor.restart_child("a"),
        lambda: supervisor.delete_child("a"),
    ]
    for attempt in api:
        with pytest.raises(ServerGoneError) as gone:
            await attempt()
        assert gone.value.reason == NOPROC
    for look in (supervisor.which_children, supervisor.count_children):
        with pytest.raises(ServerGoneError):
            look()


@virtual
async def test_an_address_lives_no_longer_than_its_supervisors_incarnation() -> None:
    nested = Supervisor.child_spec([puppet("leaf", name="leaf")], id="sub")
    async with open_supervisor([nested]) as supervisor:
        sub = supervisor.child("sub")
        assert isinstance(sub, SupervisorRef)
        leaf = sub.child("leaf")
        await sub.stop(SHUTDOWN)
        await settle()
        assert sub.alive
        with pytest.raises(ServerGoneError) as gone:
            await leaf.call(ping)
        assert gone.value.reason == NOPROC
        again = supervisor.whereis("leaf")
        assert again is not None
        assert again != leaf
        assert await again.call(ping) == 2


@pytest.mark.parametrize(
    "act",
    [
        lambda ref: ref.cast("x"),
        lambda ref: ref.send("x"),
        lambda ref: ref.send_after(1.0, "x"),
        lambda ref: ref.send_request("x"),
        lambda ref: ref.which_children(),
        lambda ref: trio.run(ref.call, "x"),
        lambda ref: trio.run(ref.stop),
        lambda ref: trio.run(ref.wait),
        lambda ref: trio.run(ref.terminate_child, "a"),
    ],
    ids=[
        "cast",
        "send",
        "send_after",
        "send_request",
        "which",
        "call",
        "stop",
        "wait",
        "terminate",
    ],
)
@virtual
async def test_a_foreign_thread_is_told_at_once(act: Any) -> None:
    """TRI-097: also one with a trio run of its own; nothing has changed."""
    raised: list[BaseException] = []

    def work(ref: SupervisorRef) -> None:
        try:
            act(ref)
        except BaseException as error:  # noqa: BLE001 - a thread's own boundary
            raised.append(error)

    async with open_supervisor([puppet("a")]) as supervisor:
        thread = threading.Thread(target=work, args=(supervisor,))
        thread.start()
        thread.join(10.0)
        assert not thread.is_alive()
        assert await supervisor.child("a").call(ping) == 1
    (error,) = raised
    assert isinstance(error, WrongTaskError)
    assert "from_thread" in str(error)


def test_a_thread_without_trio_is_told_too() -> None:
    """TRI-097: after the run has ended, outside of trio."""
    kept: list[ServerRef] = []

    async def main() -> None:
        async with open_server(Puppet) as ref:
            kept.append(ref)

    trio.run(main)
    for function in (lambda: kept[0].call("x"), kept[0].wait, kept[0].stop):
        coroutine = function()
        with pytest.raises(WrongTaskError):
            coroutine.send(None)


def test_a_later_trio_run_in_the_same_thread_finds_nobody() -> None:
    """TRI-097: a reference of a run that is over does not touch the new one."""
    kept: list[ServerRef] = []

    async def main() -> None:
        async with open_server(Puppet) as ref:
            kept.append(ref)

    async def later() -> None:
        kept[0].cast("x")
        with pytest.raises((ServerGoneError, WrongTaskError)):
            await kept[0].call("x")

    trio.run(main)
    trio.run(later)


@virtual
async def test_a_reference_prints_what_it_leads_to() -> None:
    async with open_supervisor([puppet("a", name="bob"), puppet("b")], name="app") as supervisor:
        assert "bob" in repr(supervisor.child("a"))
        assert "b" in repr(supervisor.child("b"))
        assert "app" in repr(supervisor)


@virtual
async def test_statistics_tell_what_waits_and_what_was_done() -> None:
    async with open_server(Puppet) as ref:
        assert await ref.call(ping) == 1
        ref.cast(sleep_then(1.0))
        await settle()
        ref.send("x")
        pending = ref.send_request(no_answer)
        statistics = ref.statistics()
        assert (statistics.waiting, statistics.handled, statistics.open_calls) == (2, 2, 1)
        with pytest.raises(CallTimeoutError):
            await pending.wait(timeout=2.0)


@virtual
async def test_any_number_may_wait_for_the_end() -> None:
    reasons: list[Any] = []

    async def wait(ref: ServerRef) -> None:
        reasons.append(await ref.wait())

    async with open_server(Puppet) as ref, trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(wait, ref)
        with trio.move_on_after(1.0) as scope:
            await ref.wait()
        assert scope.cancelled_caught
        await ref.stop()
    assert reasons == [NORMAL] * 3


@virtual
async def test_a_message_sent_after_a_while_belongs_to_one_incarnation() -> None:
    diary = Diary()
    async with open_supervisor([puppet("a", diary)]) as supervisor:
        ref = supervisor.child("a")
        timer = ref.send_after(1.0, "tick")
        assert bool(timer.active)
        await trio.sleep(1.5)
        assert not timer.active
        assert not timer.cancel()
        assert ref.send_after(1.0, "cancelled").cancel()
        ref.send_after(1.0, "of the last incarnation")
        ref.send(crash())
        await trio.sleep(5.0)
        assert diary.of("info") == [("a", "tick")]
        assert ref.alive


@virtual
async def test_a_pinned_stop_ends_an_incarnation_and_the_supervisor_starts_the_next() -> None:
    async with open_supervisor([puppet("a")]) as supervisor:
        one = pinned(supervisor, "a")
        await one.stop()
        await settle()
        assert await supervisor.child("a").call(ping) == 2


@virtual
async def test_a_stop_from_inside_that_is_being_stopped_raises_exit() -> None:
    """Every wait of this library inside a process that is being stopped raises Exit at once."""
    diary = Diary()

    async def wait_for_other(me: Puppet, _: Caller) -> Reply:
        other = me.whereis("other")
        assert other
        try:
            await other.wait()
        except Exit as error:
            diary.write("exit", error.reason)
            raise
        return Reply("never")

    specs = [puppet("other", name="other"), puppet("a", diary)]
    async with open_supervisor(specs) as supervisor:
        pending = supervisor.child("a").send_request(wait_for_other)
        await settle()
        before = trio.current_time()
        await supervisor.terminate_child("a")
        assert trio.current_time() == before
        with pytest.raises(ServerGoneError) as gone:
            await pending.wait()
        assert gone.value.reason == SHUTDOWN
    assert diary.of("exit") == [SHUTDOWN]


def test_an_ended_tree_keeps_nothing_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """TRI-098: what a process held is free once the tree has ended and nobody holds its reason."""
    # A log record that pytest keeps would hold the traceback.
    monkeypatch.setattr(logging.getLogger("slipstream"), "disabled", True)
    alive: list[weakref.ref[Any]] = []

    async def main() -> None:
        async with open_supervisor([puppet("a")]) as supervisor:

            def note(me: Puppet, _: Caller) -> Reply:
                alive.append(weakref.ref(me))
                return Reply(None)

            ref = supervisor.child("a")
            await ref.call(note)
            ref.send(crash(Boom("x")))
            await trio.testing.wait_all_tasks_blocked()
            await ref.call(note)

    trio.run(main)
    gc.collect()
    assert [ref() for ref in alive] == [None, None]
