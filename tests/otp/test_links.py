"""Links: the end of one process reaches those that are tied to it."""

import gc
import logging
import math
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import trio
from hypothesis import given, settings, strategies as st

from slipstream.errors import ServerGoneError, StartError, WrongTaskError
from slipstream.otp import (
    Caller,
    ChildSpec,
    Exit,
    Exited,
    GenServer,
    Ignore,
    NoReply,
    Reply,
    ServerRef,
    Stop,
    SupervisorRef,
    open_server,
    open_supervisor,
    process_of,
)
from slipstream.reasons import KILLED, NOPROC, NORMAL, SHUTDOWN, Crashed, ExitReason, Shutdown
from tests.otp.support import (
    Boom,
    Diary,
    Puppet,
    Role,
    crash,
    end,
    no_answer,
    pinned,
    puppet,
    records,
    run_virtually,
    settle,
    sleep_then,
    started,
    virtual,
)


class Trapper(Puppet):
    """A puppet that hears of the ends of others as a message."""

    trap_exits = True


def trapper(name: str, diary: Diary, **keywords: Any) -> ChildSpec:
    """Specify a puppet that traps exits."""
    return Trapper.child_spec(Role(diary, name), id=name, **keywords)


def linking(*refs: ServerRef) -> Callable[..., Reply]:
    """Have a puppet link to *refs*."""

    def act(me: Puppet, _: Caller) -> Reply:
        for ref in refs:
            me.link(ref)
        return Reply(None)

    return act


async def tie(supervisor: SupervisorRef, one: str, other: str) -> tuple[ServerRef, ServerRef]:
    """Link two children, and give the references of the incarnations."""
    await supervisor.child(one).call(linking(supervisor.child(other)))
    return pinned(supervisor, one), pinned(supervisor, other)


def peers_of(ref: ServerRef) -> list[Any]:
    """Give the processes that the one of *ref* is linked to."""
    process = process_of(ref)
    assert process is not None
    return [] if process.links is None else list(process.links.peers)


BOOM = Crashed(Boom("crash"))
ENDS = [NORMAL, SHUTDOWN, Shutdown("x"), BOOM, NOPROC]


@pytest.mark.parametrize("from_linker", [True, False])
@pytest.mark.parametrize("reason", ENDS)
@virtual
async def test_the_end_of_one_stops_the_other_for_the_same_reason_but_not_a_normal_end(
    reason: ExitReason, from_linker: bool
) -> None:
    """Either may end first; who is stopped by it runs terminate; NORMAL stops nobody."""
    diary = Diary()
    kids = [puppet("a", diary, restart="temporary"), puppet("b", diary, restart="temporary")]
    async with open_supervisor(kids) as supervisor:
        a, b = await tie(supervisor, "a", "b")
        first, second = (a, b) if from_linker else (b, a)
        first.cast(end(reason))
        await settle()
        assert await first.wait() == reason
        if reason == NORMAL:
            assert second.alive
        else:
            assert not second.alive
            assert await second.wait() is await first.wait()
            assert diary.of("terminate") == (
                [("a", reason), ("b", reason)] if from_linker else [("b", reason), ("a", reason)]
            )


@pytest.mark.parametrize("reason", ENDS)
@virtual
async def test_a_process_that_traps_exits_gets_a_message_for_any_reason(reason: ExitReason) -> None:
    """``trap_exits``: one Exited, also for NORMAL, and it goes on; the link is gone."""
    diary = Diary()
    kids = [trapper("a", diary), puppet("b", diary, restart="temporary")]
    async with open_supervisor(kids) as supervisor:
        ref = supervisor.child("b")
        a, b = await tie(supervisor, "a", "b")
        b.cast(end(reason))
        await settle()
        assert a.alive
        assert diary.of("info") == [("a", Exited(ref, reason))]


@virtual
async def test_a_killed_process_is_heard_of_as_killed() -> None:
    """A kill cannot be passed on: who is linked ends in order, for KILLED."""
    diary = Diary()
    kids = [
        puppet("a", diary, restart="temporary"),
        puppet("b", diary, restart="temporary", shutdown="brutal_kill"),
        trapper("c", diary),
    ]
    async with open_supervisor(kids) as supervisor:
        a, b = await tie(supervisor, "a", "b")
        await tie(supervisor, "c", "b")
        await supervisor.terminate_child("b")
        await settle()
        assert (await a.wait(), await b.wait()) == (KILLED, KILLED)
        assert diary.names("terminate") == ["a"]
        assert [entry[2].reason for entry in diary if entry[0] == "info"] == [KILLED]


@virtual
async def test_trap_exits_may_be_set_while_it_runs() -> None:
    """As with Erlang's process flag, what counts is how it stands when the other one ends."""
    diary = Diary()

    def trap(me: Puppet) -> None:
        me.trap_exits = True

    kids = [puppet("a", diary, init=trap), puppet("b", diary, restart="temporary")]
    async with open_supervisor(kids) as supervisor:
        a, b = await tie(supervisor, "a", "b")
        b.cast(crash())
        await settle()
        assert a.alive
        assert len(diary.of("info")) == 1


@pytest.mark.parametrize("traps", [True, False])
@virtual
async def test_a_link_to_a_dead_process_tells_of_it_at_once(traps: bool) -> None:
    """NOPROC, as a message or as the end."""
    diary = Diary()
    async with open_supervisor([puppet("dead")]) as supervisor:
        dead = pinned(supervisor, "dead")
        await supervisor.terminate_child("dead")
        kid = trapper("a", diary) if traps else puppet("a", diary, restart="temporary")
        await supervisor.start_child(kid)
        ref = pinned(supervisor, "a")
        if traps:
            await ref.call(linking(dead))
            assert diary.of("info") == [("a", Exited(dead, NOPROC))]
        else:
            with pytest.raises(ServerGoneError) as gone:
                await ref.call(lambda me, _: me.link(dead) or no_answer(me, _))
            assert gone.value.reason == await ref.wait() == NOPROC
            assert diary.of("terminate") == [("a", NOPROC)]


@pytest.mark.parametrize("checkpoint", [True, False])
@virtual
async def test_a_link_in_init_to_a_dead_process_is_a_start_error(checkpoint: bool) -> None:
    """It does not count as started, whether init gets to its end or not; terminate does not run."""
    diary = Diary()
    async with open_supervisor([puppet("dead")]) as supervisor:
        dead = pinned(supervisor, "dead")
        await supervisor.terminate_child("dead")

        async def init(me: Puppet) -> None:
            me.link(dead)
            if checkpoint:
                await trio.sleep(60.0)

        with pytest.raises(StartError) as error:
            await supervisor.start_child(puppet("a", diary, init=init))
        assert error.value.reason == NOPROC
        assert diary == [("init", "a")]
        assert trio.current_time() < 60.0


@virtual
async def test_an_exit_signal_in_init_is_a_start_error_with_its_reason() -> None:
    """The other one ends while this one starts."""
    async with open_supervisor([puppet("b", restart="temporary")]) as supervisor:
        other = supervisor.child("b")

        async def init(me: Puppet) -> None:
            me.link(other)
            other.cast(crash())
            await trio.sleep(60.0)

        with pytest.raises(StartError) as error:
            await supervisor.start_child(puppet("a", init=init))
        assert isinstance(error.value.reason, Crashed)
        assert isinstance(error.value.__cause__, Boom)


@pytest.mark.parametrize(
    ("outcome", "lives"), [(Ignore(), True), (Stop(SHUTDOWN), False), (Boom("init"), False)]
)
@virtual
async def test_an_init_that_fails_after_it_linked_reaches_the_other(
    outcome: Any, lives: bool
) -> None:
    """A start that comes to nothing is an end like another: one that is ignored is normal."""
    async with open_supervisor([puppet("b", restart="temporary")]) as supervisor:
        other = pinned(supervisor, "b")

        def init(me: Puppet) -> Any:
            me.link(other)
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

        try:
            assert await supervisor.start_child(puppet("a", init=init)) is None
        except StartError as error:
            assert not lives
            assert await other.wait() == error.reason
        await settle()
        assert other.alive is lives


@virtual
async def test_unlink_takes_back_both_sides_and_what_lies_in_the_mailbox() -> None:
    """After it, no Exited of that process comes or is there; those of others stay."""
    diary = Diary()

    async def untie(me: Puppet) -> None:
        me.unlink(b)
        await trio.sleep(1.0)  # "c" and "d" end meanwhile
        me.unlink(d)
        me.write("waiting", list(me.mailbox))

    kids = [trapper("a", diary), *[puppet(x, diary, restart="temporary") for x in "bcd"]]
    async with open_supervisor(kids) as supervisor:
        b, c, d = (supervisor.child(name) for name in "bcd")
        await supervisor.child("a").call(linking(b, c, d))
        a, pinned_b = pinned(supervisor, "a"), pinned(supervisor, "b")
        a.cast(untie)
        await settle()
        c.cast(crash(Boom("c")))
        d.cast(crash(Boom("d")))
        await trio.sleep(2.0)
        [(_, waiting)] = diary.of("waiting")
        assert [message.ref for message in waiting] == [c]
        assert [message.ref for _, message in diary.of("info")] == [c]
        # Nor is there anything left on the other side.
        a.cast(crash(Boom("a")))
        await settle()
        assert pinned_b.alive


@pytest.mark.parametrize("to", ["address", "incarnation"])
@pytest.mark.parametrize("back", ["address", "incarnation"])
@virtual
async def test_unlink_takes_an_address_for_its_incarnation_and_the_other_way_round(
    to: str, back: str
) -> None:
    """Whichever reference the link was made by, alive or when it has ended."""
    diary = Diary()

    async def link_twice(me: Puppet, _: Caller) -> Reply:
        for ends in (False, True):
            me.link(refs[to])
            if ends:
                refs["address"].cast(crash())
                await trio.sleep(1.0)
                me.write("waiting", len(me.mailbox))
            me.unlink(refs[back])
            me.write("left", len(me.mailbox), len(peers_of(me.ref)))
        return Reply(None)

    kids = [trapper("a", diary), puppet("b", diary, restart="temporary")]
    async with open_supervisor(kids) as supervisor:
        refs = {"address": supervisor.child("b"), "incarnation": pinned(supervisor, "b")}
        await supervisor.child("a").call(link_twice)
        assert diary.of("left") == [("a", 0, 0), ("a", 0, 0)]
        assert diary.of("waiting") == [("a", 1)]
        await settle()
        assert diary.of("info") == []


@virtual
async def test_unlink_of_what_is_not_linked_does_nothing() -> None:
    """Not linked, linked once and taken back, or itself."""

    def act(me: Puppet, _: Caller) -> Reply:
        me.unlink(other)
        me.link(other)
        me.unlink(other)
        me.unlink(other)
        me.unlink(me.ref)
        return Reply(None)

    async with open_supervisor([puppet("a"), puppet("b")]) as supervisor:
        other = supervisor.child("b")
        await supervisor.child("a").call(act)


@virtual
async def test_to_link_twice_is_to_link_once_and_to_itself_is_nothing() -> None:
    """One message, one unlink."""
    diary = Diary()
    kids = [trapper("a", diary), puppet("b", diary, restart="temporary")]
    async with open_supervisor(kids) as supervisor:
        a, b = supervisor.child("a"), supervisor.child("b")
        await a.call(linking(a, b, b))
        await b.call(linking(a))
        b.cast(end(NORMAL))
        await settle()
        assert diary.of("info") == [("a", Exited(b, NORMAL))]


@virtual
async def test_the_end_goes_on_through_those_that_it_stops(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A chain of links ends as a whole, a trapper ends it; one crash is one crash report."""
    diary = Diary()
    kids = [*[puppet(x, diary, restart="temporary") for x in "abcd"], trapper("e", diary)]
    async with open_supervisor(kids) as supervisor:
        for one, other in map(tuple, ("ab", "bc", "ca", "cd", "de")):
            await tie(supervisor, one, other)
        refs = [pinned(supervisor, name) for name in "abcd"]
        caplog.clear()
        refs[0].cast(crash())
        await settle()
        reasons = [await ref.wait() for ref in refs]
        assert all(reason is reasons[0] for reason in reasons)
        assert supervisor.child("e").alive
        assert [message.reason for _, message in diary.of("info")] == [reasons[0]]
    crashes = [record for record in records(caplog) if hasattr(record.report, "process")]
    assert [record.report.process for record in crashes] == ["a"]


@virtual
async def test_who_asked_for_an_abnormal_end_gets_its_report_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Only what a link has ended says nothing: its reason was reported by who ended first."""
    async with open_supervisor([puppet("a", restart="temporary")]) as supervisor:
        await supervisor.child("a").stop(BOOM)
    assert [r.report.process for r in records(caplog) if hasattr(r.report, "process")] == ["a"]


@virtual
async def test_two_linked_processes_that_die_in_one_tick_keep_their_own_reasons() -> None:
    """Neither overwrites the other, and nothing is told twice."""
    for order in ("ab", "ba"):
        kids = [puppet("a", restart="temporary"), puppet("b", restart="temporary")]
        async with open_supervisor(kids) as supervisor:
            a, b = await tie(supervisor, "a", "b")
            for name in order:
                supervisor.child(name).cast(sleep_then(1.0, Stop(Shutdown(name))))
            assert (await a.wait(), await b.wait()) == (Shutdown("a"), Shutdown("b"))


@virtual
async def test_the_callback_that_runs_may_finish_or_is_interrupted_like_by_any_stop() -> None:
    """The ordinary way: it may finish, is cancelled in time, and waits raise Exit at once."""
    diary = Diary()

    def nap(seconds: float) -> Callable[..., Any]:
        async def act(me: Puppet) -> None:
            try:
                await trio.sleep(seconds)
            finally:
                me.write("woke", trio.current_time() - begin)

        return act

    async def wait(me: Puppet) -> None:
        try:
            await me.receive(lambda _: False)
        except Exit as error:
            me.write("exit", error.reason)
            raise

    kids = [puppet(name, diary, restart="temporary", shutdown=4.0) for name in ("a", "b", "c", "d")]
    async with open_supervisor(kids) as supervisor:
        for name in "bcd":
            await tie(supervisor, "a", name)
        refs = [pinned(supervisor, name) for name in "abcd"]
        begin = trio.current_time()
        for ref, act in zip(refs[1:], [nap(1.0), nap(60.0), wait], strict=True):
            ref.cast(act)
        await settle()
        refs[0].cast(end(BOOM))
        assert [await ref.wait() for ref in refs] == [BOOM] * 4
        assert diary.of("exit") == [("d", BOOM)]
        assert diary.of("woke") == [("b", 1.0), ("c", 2.0)]
        assert diary.names("terminate") == ["a", "d", "b", "c"]


@virtual
async def test_an_exit_signal_has_its_limit_and_brutal_kill_is_for_supervisors() -> None:
    """Whose goodbye takes too long is killed; ``"brutal_kill"`` cancels the callback only."""
    diary = Diary()
    kids = [
        puppet("a", restart="temporary"),
        puppet("b", restart="temporary", terminate=sleep_then(60.0), shutdown=4.0),
        puppet("c", diary, restart="temporary", shutdown="brutal_kill"),
    ]
    async with open_supervisor(kids) as supervisor:
        await tie(supervisor, "a", "b")
        await tie(supervisor, "a", "c")
        a, b, c = (pinned(supervisor, name) for name in "abc")
        c.cast(sleep_then(60.0))
        await settle()
        begin = trio.current_time()
        a.cast(end(BOOM))
        assert await c.wait() == BOOM
        assert trio.current_time() == begin
        assert diary.of("terminate") == [("c", BOOM)]
        assert await b.wait() == KILLED
        assert trio.current_time() == begin + 4.0


@pytest.mark.parametrize("order", ["ab", "ba"])
@virtual
async def test_a_supervisor_that_stops_a_linked_pair_restarts_neither(
    order: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The one stopped first takes the other one along, for SHUTDOWN: nothing to report."""
    diary = Diary()
    async with open_supervisor([puppet(name, diary) for name in order]) as supervisor:
        refs = await tie(supervisor, "a", "b")
        diary.clear()
    assert started(diary) == []
    assert diary.of("terminate") == [(order[1], SHUTDOWN), (order[0], SHUTDOWN)]
    assert [await ref.wait() for ref in refs] == [SHUTDOWN, SHUTDOWN]
    assert records(caplog, logging.INFO) == []


@virtual
async def test_a_child_that_is_terminated_takes_a_linked_sibling_along_which_is_restarted() -> None:
    """As in OTP: SHUTDOWN is no normal end, so a link passes it on."""
    diary = Diary()
    async with open_supervisor([puppet("a", diary), puppet("b", diary)]) as supervisor:
        await tie(supervisor, "a", "b")
        await supervisor.terminate_child("b")
        await settle()
        assert [entry[1:] for entry in diary if entry[0] != "cast"] == [
            ("a",),
            ("b",),
            ("b", SHUTDOWN),
            ("a", SHUTDOWN),
            ("a",),
        ]
        # The new one is linked to nobody.
        await supervisor.restart_child("b")
        await supervisor.terminate_child("b")
        await settle()
        assert started(diary) == ["a", "b", "a", "b"]


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
@virtual
async def test_a_group_restart_of_a_linked_pair_is_one_restart(strategy: Any) -> None:
    """The link ends the sibling that the supervisor was about to stop."""
    diary = Diary()
    kids = [puppet("a", diary), puppet("b", diary)]
    async with open_supervisor(kids, strategy=strategy, max_restarts=1) as supervisor:
        await tie(supervisor, "a", "b")
        supervisor.child("a").cast(crash())
        await settle()
        assert started(diary) == ["a", "b", "a", "b"]


@virtual
async def test_a_supervisor_takes_no_note_of_a_link_but_passes_its_own_end_on() -> None:
    """It ends when its children say so, not when a stranger does."""
    async with open_supervisor([puppet("x")], shutdown=math.inf) as stranger:
        async with open_server(Puppet, restart="temporary") as ref:
            with pytest.raises(ServerGoneError):
                await ref.call(lambda me, _: me.link(stranger) or Stop(SHUTDOWN))
        assert stranger.alive
        async with open_server(Trapper, Role(diary := Diary())) as ref:
            await ref.call(linking(stranger))
            await stranger.stop(SHUTDOWN)
            await settle()
            assert diary.of("info") == [("puppet", Exited(stranger, SHUTDOWN))]


@virtual
async def test_an_owned_process_may_be_linked_to_its_owner() -> None:
    """Then its crash is the owner's end, too, as with OTP's ``start_link``."""

    async def own(me: Puppet, _: Caller) -> NoReply:
        ref = await me.start_owned(puppet("inner"))
        assert ref is not None
        me.link(ref)
        ref.cast(crash())
        return NoReply()

    async with open_supervisor([puppet("outer", restart="temporary")]) as supervisor:
        with pytest.raises(ServerGoneError) as gone:
            await supervisor.child("outer").call(own)
        assert isinstance(gone.value.__cause__, Boom)


class Model:
    """What links do, in a page: who lives, who ended why, who was told of whom."""

    def __init__(self, traps: list[bool]) -> None:
        self.traps = traps
        self.ended: dict[int, ExitReason] = {}
        self.links: set[frozenset[int]] = set()
        self.told: set[tuple[int, int, ExitReason]] = set()

    def link(self, one: int, other: int) -> None:
        if other in self.ended:
            self.hear(one, other, NOPROC)
        elif one != other:
            self.links.add(frozenset({one, other}))

    def unlink(self, one: int, other: int) -> None:
        self.links.discard(frozenset({one, other}))

    def end(self, one: int, reason: ExitReason) -> None:
        self.ended[one] = reason
        tied = [pair for pair in self.links if one in pair]
        self.links.difference_update(tied)
        for pair in tied:
            [other] = pair - {one}
            if other not in self.ended:
                self.hear(other, one, reason)

    def hear(self, one: int, other: int, reason: ExitReason) -> None:
        if self.traps[one]:
            self.told.add((one, other, reason))
        elif reason != NORMAL:
            self.end(one, reason)


COUNT = 3  # few, so that they collide
NUMBERS = st.integers(0, COUNT - 1)
PAIRS = st.permutations(range(COUNT)).map(lambda order: order[:2])
STEPS = st.one_of(
    PAIRS.map(lambda pair: ("link", *pair)),
    PAIRS.map(lambda pair: ("unlink", *pair)),
    st.tuples(st.just("link"), NUMBERS, NUMBERS),
    st.tuples(st.just("end"), NUMBERS, st.sampled_from([NORMAL, BOOM, KILLED])),
)


@settings(max_examples=200)
@given(
    traps=st.lists(st.booleans(), min_size=COUNT, max_size=COUNT),
    first=PAIRS,
    steps=st.lists(STEPS, max_size=25),
)
def test_any_web_of_links_comes_apart_as_the_model_says(
    traps: list[bool], first: list[int], steps: list[tuple[str, int, Any]]
) -> None:
    """Whoever links whom, takes it back and ends: the same live, for the same reasons."""
    run_virtually(_check_web, traps, [("link", *first), *steps])


async def _check_web(traps: list[bool], steps: list[tuple[str, int, Any]]) -> None:
    model, diary = Model(traps), Diary()
    kids = [
        (trapper if trap else puppet)(str(number), diary, restart="temporary")
        for number, trap in enumerate(traps)
    ]
    async with open_supervisor(kids) as supervisor:
        refs = [pinned(supervisor, str(number)) for number in range(COUNT)]
        numbers = {supervisor.child(str(number)): number for number in range(COUNT)}
        numbers |= {ref: number for number, ref in enumerate(refs)}
        for what, one, other in steps:
            if one in model.ended:
                continue
            getattr(model, what)(one, other)
            if what == "end" and other == KILLED:
                refs[one].kill()
            elif what == "end":
                refs[one].cast(end(other))
            else:
                refs[one].cast(lambda me, what=what, other=other: getattr(me, what)(refs[other]))
            await settle()
            assert alive_of(refs) == [
                number for number in range(COUNT) if number not in model.ended
            ]
            for number, reason in model.ended.items():
                assert await refs[number].wait() == reason
        told = {(int(name), numbers[m.ref], m.reason) for name, m in diary.of("info")}
        assert told == model.told
        tied = {
            frozenset({number, refs.index(peer.make_ref().pin())})
            for number in alive_of(refs)
            for peer in peers_of(refs[number])
        }
        assert tied == model.links


def alive_of(refs: list[ServerRef]) -> list[int]:
    """Give the numbers of those that live."""
    return [number for number, ref in enumerate(refs) if ref.alive]


@virtual
async def test_links_do_not_gather_over_restarts() -> None:
    """A long life that is linked by many short ones keeps none of them."""
    long_lived = Trapper.child_spec(Role(Diary(), "long"), id="long")

    class Short(GenServer):
        async def init(self) -> None:
            self.link(found)

        async def handle_cast(self, message: Any) -> Any:
            return message()

    async with open_supervisor([long_lived], max_restarts=1000) as supervisor:
        found = supervisor.child("long")
        await supervisor.start_child(Short)
        dead: list[weakref.ref[Any]] = []
        for _ in range(50):
            process = process_of(supervisor.child(Short))
            assert process is not None
            dead.append(weakref.ref(process.server))
            del process
            supervisor.child(Short).cast(crash(Exit(SHUTDOWN)))
            await settle()
        assert len(peers_of(found)) == 1
        gc.collect()
        # The supervisor's loop still holds on to the last one.
        assert [ref for ref in dead[:-1] if ref() is not None] == []


@virtual
async def test_a_process_without_links_has_nothing_for_them() -> None:
    """They are paid for by who has them."""
    async with open_server(Puppet) as ref:
        process = process_of(ref)
        assert process is not None
        assert process.links is None


@virtual
async def test_an_instance_whose_process_has_ended_links_to_nothing() -> None:
    """It is told so, instead of waiting for ever for what nobody would tell it."""
    kept: list[Puppet] = []
    async with open_supervisor([puppet("b")]) as supervisor:
        other = supervisor.child("b")
        async with open_server(Puppet, Role(init=kept.append)):
            pass
        with pytest.raises(WrongTaskError, match="has ended"):
            kept[0].link(other)
        with pytest.raises(WrongTaskError, match="is no process"):
            Puppet().link(other)
