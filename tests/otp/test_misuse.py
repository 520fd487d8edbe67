"""Wrong use of processes is refused at once, by an error that teaches the right one."""

import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from slipstream.errors import (
    CallingSelfError,
    CallTimeoutError,
    DeadlockError,
    ServerGoneError,
    StartError,
    WrongTaskError,
)
from slipstream.otp import (
    Caller,
    NoReply,
    Reply,
    ServerRef,
    open_server,
    open_supervisor,
)
from slipstream.reasons import SHUTDOWN
from tests.otp.support import Diary, Puppet, Role, ping, puppet, run_virtually, settle, virtual

WAITS: dict[str, Callable[[Any], Awaitable[Any]]] = {
    "call": lambda ref: ref.call(ping),
    "pending": lambda ref: ref.send_request(ping).wait(),
    "wait": lambda ref: ref.wait(),
    "stop": lambda ref: ref.stop(),
}


@pytest.mark.parametrize("parent", ["supervisor", "owner"])
@pytest.mark.parametrize("what", WAITS)
@virtual
async def test_a_child_that_waits_in_init_for_who_starts_it_is_told_at_once(
    what: str, parent: str
) -> None:
    """TRI-062: whichever wait; both would wait for ever otherwise."""

    async def init(me: Puppet) -> None:
        top = me.whereis("top")
        assert top is not None
        await WAITS[what](top)

    async def own(me: Puppet) -> None:
        await me.start_owned(puppet("a", init=init))

    children = [puppet("a", init=init)] if parent == "supervisor" else []
    if parent == "owner":
        children = [puppet("owner", init=own, name="top")]
    with pytest.raises(StartError) as error:
        async with open_supervisor(children, name="top" if parent == "supervisor" else None):
            pytest.fail("it must not start")
    cause: BaseException | None = error.value
    while cause is not None and not isinstance(cause, DeadlockError):
        cause = cause.__cause__
    assert cause is not None
    assert "waits for the caller" in str(cause)
    assert trio.current_time() == 0.0


@pytest.mark.parametrize("what", WAITS)
@virtual
async def test_a_process_that_waits_for_itself_is_told_at_once(what: str) -> None:
    """GS-045: by any wait; a helper of it may wait, since the callback goes on."""

    async def act(me: Puppet, _: Caller) -> Reply:
        with pytest.raises(CallingSelfError):
            await WAITS[what](me.ref)
        return Reply(None)

    async def help_wait(me: Puppet) -> None:
        assert await me.ref.call(ping) == 1
        me.role.diary.write("helped")

    diary = Diary()
    async with open_server(Puppet, Role(diary)) as ref:
        await ref.call(act)
        ref.cast(lambda me: me.start_soon(help_wait, me))
        await settle()
        assert ("helped",) in diary


@pytest.mark.parametrize("what", ["call", "pending", "wait"])
@virtual
async def test_a_cycle_of_waits_is_refused_and_stopping_the_other_breaks_it(what: str) -> None:
    """GS-067: whoever would close the circle is told; to stop who waits for one is no circle."""

    async def ask_b(me: Puppet, _: Caller) -> Reply:
        return Reply(await b.call(ask_a))

    async def ask_a(me: Puppet, _: Caller) -> Reply:
        try:
            await WAITS[what](a)
        except DeadlockError as error:
            return Reply(str(error))
        return Reply("waited")

    async def stop_b(me: Puppet) -> None:
        waiting = b.send_request(ask_loop)
        await trio.sleep(1.0)
        await b.stop(SHUTDOWN)
        me.write("stopped", waiting.done)

    async def ask_loop(me: Puppet, _: Caller) -> Reply:
        return Reply(await a.call(ping, timeout=None))

    diary = Diary()
    kids = [puppet("a", diary), puppet("b", diary, restart="temporary")]
    async with open_supervisor(kids) as supervisor:
        a, b = supervisor.child("a"), supervisor.child("b")
        assert "waits for the caller" in await a.call(ask_b)
        a.cast(stop_b)
        await trio.sleep(2.0)
        assert ("stopped", "a", True) in diary


@virtual
async def test_one_may_look_at_a_pending_answer_also_where_waiting_for_it_would_be_a_circle() -> (
    None
):
    """GS-041: a look of zero seconds waits for nothing; outside of the circle one may wait."""

    async def look(me: Puppet, _: Caller) -> Reply:
        asked = b.send_request(ask_a)
        await trio.sleep(1.0)
        with pytest.raises(CallTimeoutError):
            await asked.wait(timeout=0.0)
        with pytest.raises(DeadlockError):
            await asked.wait(timeout=1.0)
        return Reply(asked)

    async def ask_a(me: Puppet, _: Caller) -> Reply:
        return Reply(await a.call(ping, timeout=None))

    async with open_supervisor([puppet("a"), puppet("b")]) as supervisor:
        a, b = supervisor.child("a"), supervisor.child("b")
        asked = await a.call(look)
        assert await asked.wait() == 1


INSIDE: dict[str, Callable[[Any, ServerRef], Any]] = {
    "monitor": lambda me, ref: me.monitor(ref),
    "link": lambda me, ref: me.link(ref),
    "send_after": lambda me, _: me.send_after(1.0, "x"),
    "send_every": lambda me, _: me.send_every(1.0, "x"),
    "start_soon": lambda me, _: me.start_soon(trio.sleep, 1.0),
    "start_owned": lambda me, _: me.start_owned(puppet("x")),
    "receive": lambda me, _: me.receive(bool),
}


async def do(act: Callable[[Any, ServerRef], Any], me: Any, ref: ServerRef) -> None:
    """Do *act*, which may be async."""
    done = act(me, ref)
    if isinstance(done, Awaitable):
        await done


@pytest.mark.parametrize("what", INSIDE)
def test_the_instance_of_a_process_that_has_ended_can_do_nothing_more(what: str) -> None:
    """TRI-097: in the same trio run, or in a later one in the same thread."""
    kept: list[Puppet] = []

    async def first() -> None:
        async with open_supervisor([puppet("b")]) as supervisor:
            async with open_server(Puppet, Role(init=kept.append)):
                pass
            with pytest.raises(WrongTaskError):
                await do(INSIDE[what], kept[0], supervisor.child("b"))

    async def later() -> None:
        async with open_supervisor([puppet("b")]) as supervisor:
            with pytest.raises(WrongTaskError):
                await do(INSIDE[what], kept[0], supervisor.child("b"))

    run_virtually(first)
    run_virtually(later)


@pytest.mark.parametrize("what", INSIDE)
def test_an_instance_that_nobody_started_is_no_process(what: str) -> None:
    """The message tells what starts one."""

    async def main() -> None:
        async with open_server(Puppet) as ref:
            with pytest.raises(WrongTaskError, match="is no process"):
                await do(INSIDE[what], Puppet(), ref)

    run_virtually(main)


@pytest.mark.parametrize("what", ["monitor", "link", "unlink"])
@virtual
async def test_a_process_of_a_foreign_thread_cannot_be_linked_or_monitored(what: str) -> None:
    """TRI-097: nothing but from_thread reaches over; both sides are unharmed."""
    raised: list[str] = []

    async def tie(me: Puppet, _: Caller) -> Reply:
        with pytest.raises(WrongTaskError) as error:
            getattr(me, what)(ref)
        raised.append(str(error.value))
        return Reply(None)

    def work() -> None:
        async def main() -> None:
            async with open_server(Puppet) as other:
                await other.call(tie)
                assert await other.call(ping) == 1

        run_virtually(main)

    async with open_server(Puppet) as ref:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(10.0)
        assert not thread.is_alive()
        assert await ref.call(ping) == 1
    assert len(raised) == 1
    assert "from_thread" in raised[0]


@pytest.mark.parametrize("wrong", [None, "name", 5, Puppet])
@pytest.mark.parametrize("what", ["monitor", "link", "unlink"])
@virtual
async def test_what_is_no_reference_is_refused_by_name(what: str, wrong: Any) -> None:
    """Above all the None of a whereis that found nobody."""

    def act(me: Puppet, _: Caller) -> Reply:
        with pytest.raises(TypeError, match="whereis") as error:
            getattr(me, what)(wrong)
        assert repr(wrong) in str(error.value)
        return Reply(None)

    async with open_server(Puppet) as ref:
        await ref.call(act)


@virtual
async def test_a_reference_of_an_ended_process_says_so_whatever_is_asked() -> None:
    """TRI-097: messages are dropped and counted, everything else is an error or the reason."""
    async with open_supervisor([puppet("a")], name="top") as supervisor:
        ref = supervisor.child("a")
        pending = ref.send_request(lambda *_: NoReply())
        await settle()
    for function in (
        lambda: ref.call(ping),
        ref.stop,
        lambda: ref.send_request(ping).wait(),
        pending.wait,
        lambda: supervisor.start_child(puppet("b")),
        lambda: supervisor.terminate_child("a"),
        lambda: supervisor.restart_child("a"),
        lambda: supervisor.delete_child("a"),
    ):
        with pytest.raises(ServerGoneError):
            await function()
    for look in (ref.pin, supervisor.which_children, supervisor.count_children):
        with pytest.raises(ServerGoneError):
            look()
    ref.cast("x")
    ref.send("x")
    assert not ref.send_after(1.0, "x").active
    assert not ref.alive
    assert supervisor.whereis("top") is None
    assert await ref.wait() == SHUTDOWN


@pytest.mark.parametrize("how", ["start_child", "start_owned", "reply"])
@virtual
async def test_who_has_been_answered_waits_no_longer_though_it_has_not_gone_on_yet(
    how: str,
) -> None:
    """TRI-062: a child that has started, and a server that has replied, may call back at once."""

    async def call_back(me: Puppet) -> None:
        me.write("answer", await a.call(ping))

    async def start(me: Puppet, _: Caller) -> Reply:
        spec = puppet("b", diary, init=lambda _: NoReply(continue_with=call_back))
        if how == "start_child":
            await supervisor.start_child(spec)
        elif how == "start_owned":
            await me.start_owned(spec)
        else:
            assert await c.call(reply_first) == "first"
        return Reply(None)

    async def reply_first(me: Puppet, caller: Caller) -> NoReply:
        caller.reply("first")
        await call_back(me)
        return NoReply()

    diary = Diary()
    async with open_supervisor([puppet("a"), puppet("c", diary)]) as supervisor:
        a, c = supervisor.child("a"), supervisor.child("c")
        await a.call(start)
        await settle()
        assert diary.of("answer") == [("c" if how == "reply" else "b", 1)]
