"""The GenServer against a model of OTP's that two pages can hold."""

import logging
import math
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import attrs
import hypothesis
import pytest
import trio
from hypothesis import given, settings, strategies as st

from slipstream.errors import (
    AwaitTimeoutError,
    BadReturnError,
    CallTimeoutError,
    ServerGoneError,
    SlipstreamError,
    StartError,
)
from slipstream.otp import (
    Caller,
    Exit,
    GenServer,
    Ignore,
    NoReply,
    Pending,
    Reply,
    ServerRef,
    Stop,
    SupervisorRef,
    Timeout,
    open_supervisor,
)
from slipstream.reasons import KILLED, NOPROC, NORMAL, SHUTDOWN, Crashed, ExitReason, Shutdown
from tests.otp.server_model import Doing, Item, Model, Slot
from tests.otp.support import Boom, run_virtually, settle

# Durations have fractions of their own, so that no two things are due at the same instant;
# messages come, and callbacks last, by whole seconds.
IDLE, INTERRUPT, BUDGET, CALL = 2.0**-6, 2.0**-10, 2.0**-11, 2.0**-12

UNANSWERED = {"timeout", "cancelled"}
REASONS: dict[str, ExitReason] = {"normal": NORMAL, "x": Shutdown("x")}
WORDS: dict[ExitReason, str] = {
    NORMAL: "normal",
    SHUTDOWN: "shutdown",
    Shutdown("x"): "x",
    Shutdown("exit"): "exit",
    KILLED: "killed",
    NOPROC: "noproc",
}


def word(reason: ExitReason) -> str:
    """Say *reason* in the model's words."""
    if isinstance(reason, Crashed):
        return "bad" if isinstance(reason.exception, BadReturnError) else "crash"
    return WORDS[reason]


@attrs.frozen
class Letter:
    """A message that says what its callback is to do."""

    id: str
    doing: Doing


idles = st.sampled_from([None, None, 0.0, 1 + IDLE, 2 + IDLE])
takes = st.sampled_from([0, 0, 1, 2])
going = st.sampled_from(["none", "noreply", "noreply", "noreply"])
leaving = st.sampled_from(["stop", "stop reply", "crash", "exit", "odd"])
answers = st.sampled_from(["reply", "reply", "reply", "noreply", "noreply"])
mixed = st.one_of(going, going, going, answers, leaving)


def doings(
    results: st.SearchStrategy[str], then: st.SearchStrategy[Doing | None]
) -> st.SearchStrategy[Doing]:
    return st.builds(
        Doing,
        results,
        takes,
        st.booleans(),
        st.sampled_from([False, False, False, True]),
        st.sampled_from([0, 0, 0, 1, 2]),
        idles,
        then,
    )


last = doings(mixed, st.none())
chained = doings(mixed, st.one_of(st.none(), st.none(), st.none(), last))
thens = st.one_of(st.none(), st.none(), st.none(), chained)
told = doings(st.one_of(going, going, going, going, going, going, mixed), thens)
asked = doings(st.one_of(answers, answers, answers, answers, mixed), thens)
timeouts = st.sampled_from([None, 1 + CALL, 2 + CALL, 4 + CALL])
tells = st.tuples(st.sampled_from(["cast", "info"]), told)
calls = st.tuples(st.sampled_from(["call", "call", "request"]), asked, timeouts)
promises = st.tuples(st.just("request"), asked, timeouts)
numbers = st.integers(0, 5)
advances = st.tuples(st.just("advance"), st.integers(1, 3))
steps = st.one_of(
    tells,
    calls,
    calls,
    advances,
    advances,
    st.tuples(st.just("reply"), numbers),
    st.tuples(st.just("cancel"), numbers),
    st.tuples(st.just("again"), numbers, timeouts),
    st.tuples(st.just("burst"), st.lists(st.one_of(tells, promises), min_size=2, max_size=4)),
)
stops = st.one_of(
    st.tuples(st.just("stop"), st.sampled_from(["normal", "x"])),
    st.just(("shutdown",)),
)
first = st.one_of(
    st.builds(Doing, st.just("noreply"), sends=st.integers(0, 1), timeout=idles, then=thens),
    st.sampled_from([Doing(), Doing(), Doing(), *map(Doing, ["stop", "crash", "ignore", "odd"])]),
)
on_timeouts = st.one_of(
    st.just(Doing()),
    st.builds(
        Doing,
        st.sampled_from(["none", "noreply", "noreply", "stop", "crash"]),
        takes,
        st.booleans(),
        timeout=st.sampled_from([None, 1 + IDLE, 2 + IDLE]),
    ),
)
goodbyes = st.builds(
    Doing, st.sampled_from(["none", "none", "none", "crash", "exit"]), st.integers(0, 2)
)
shutdowns = st.sampled_from([1 + BUDGET, 3 + BUDGET, 3 + BUDGET, math.inf, "brutal_kill"])
interrupts = st.sampled_from([INTERRUPT, 1 + INTERRUPT, 2 + INTERRUPT])


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> Iterator[None]:
    """Thousands of reports would only be in the way."""
    logger = logging.getLogger("slipstream")
    logger.disabled = True
    yield
    logger.disabled = False


@attrs.define(eq=False)
class Play:
    """What a scripted process is to do, and what it writes down."""

    first: Doing
    on_timeout: Doing
    goodbye: Doing
    trace: list[tuple[Any, ...]] = attrs.field(factory=list)
    callers: dict[str, Caller] = attrs.field(factory=dict)
    busy: bool = False

    def write(self, *entry: Any) -> None:
        self.trace.append((*entry, trio.current_time()))


class Scripted(GenServer):
    """Does what its messages say."""

    async def init(self, play: Play) -> Any:
        self.play = play
        return await self.act("init", Letter("", play.first))

    async def handle_call(self, request: Letter, caller: Caller) -> Any:
        self.play.callers[request.id] = caller
        return await self.act("call", request, caller)

    async def handle_cast(self, message: Letter) -> Any:
        return await self.act("cast", message)

    async def handle_info(self, message: Any) -> Any:
        if isinstance(message, Timeout):
            return await self.act("timeout", Letter("", self.play.on_timeout))
        return await self.act("info", message)

    async def handle_continue(self, argument: Letter) -> Any:
        return await self.act("continue", argument)

    async def terminate(self, reason: ExitReason) -> None:
        goodbye = attrs.evolve(self.play.goodbye, waits=False)
        await self.act("terminate", Letter(word(reason), goodbye))

    async def act(self, kind: str, letter: Letter, caller: Caller | None = None) -> Any:
        play, doing = self.play, letter.doing
        play.write(kind, letter.id)
        if play.busy:
            play.write("overlaps", letter.id)
        play.busy = True
        try:
            if caller is not None and doing.early:
                play.write("answered", letter.id, caller.reply("early"))
            for number in range(doing.sends):
                self.ref.send(Letter(f"{letter.id}.{number}", Doing()))
            if doing.takes and doing.waits:
                with suppress(AwaitTimeoutError):
                    await self.receive(lambda _: False, doing.takes)
            elif doing.takes:
                await trio.sleep(doing.takes)
        finally:
            play.busy = False
        return _result(letter)


def _result(letter: Letter) -> Any:
    doing = letter.doing
    more: dict[str, Any] = {"timeout": doing.timeout}
    if doing.then is not None:
        more["continue_with"] = Letter(f"{letter.id}+", doing.then)
    match doing.result:
        case "none":
            return None
        case "noreply":
            return NoReply(**more)
        case "reply":
            return Reply(letter.id, **more)
        case "stop":
            return Stop()
        case "stop reply":
            return Stop(Shutdown("x"), reply="last")
        case "crash":
            raise Boom
        case "exit":
            raise Exit(Shutdown("exit"))
        case "ignore":
            return Ignore()
        case _:
            return doing.result


class Script:
    """A process and its model, and the steps that both take."""

    root: SupervisorRef
    ref: ServerRef
    nursery: trio.Nursery

    def __init__(self, model: Model, play: Play) -> None:
        self.model = model
        self.play = play
        self.outcomes: dict[str, tuple[Any, ...]] = {}
        self.stops: dict[str, tuple[Any, ...] | None] = {}
        self.scopes: dict[str, trio.CancelScope] = {}
        self.promises: dict[str, Pending[Any]] = {}
        self.ended: list[tuple[str, float]] = []
        self.serial = 0

    async def run(self, script: list[Any]) -> None:
        model = self.model
        async with trio.open_nursery() as self.nursery:
            async with open_supervisor() as self.root:
                model.now = trio.current_time()
                begun = model.start(self.play.first)
                assert await self.start() == begun
                if begun == "ok":
                    for step in script:
                        await self.step(step)
                        self.compare()
                    model.parent_stops()
            while model.alive:
                model.elapse(model.next_event() - model.now)
            if begun == "ok":
                assert trio.current_time() == max(model.ended_at, model.now)
            model.elapse(math.inf)
        self.compare_ends()

    async def start(self) -> str:
        """Start the process; tell what came of it in the model's words."""
        spec = Scripted.child_spec(
            self.play,
            id="it",
            name="bob",
            restart="temporary",
            drain=self.model.drain,
            shutdown=self.model.shutdown,  # type: ignore[arg-type]  # the one string is right
            interrupt_after=self.model.interrupt_after,
        )
        try:
            ref = await self.root.start_child(spec)
        except StartError as error:
            return word(error.reason)
        if ref is None:
            return "ignore"
        self.ref = ref.pin() if ref.alive else ref  # it may be over before its starter goes on
        self.nursery.start_soon(self.wait)
        await settle()
        self.compare()
        return "ok"

    async def wait(self) -> None:
        reason = await self.ref.wait()
        self.ended.append((word(reason), trio.current_time()))

    async def step(self, step: Any) -> None:
        match step:
            case ("advance", seconds):
                await trio.sleep(seconds)
                self.model.elapse(seconds)
            case ("reply", number) if self.play.callers:
                id_ = sorted(self.play.callers)[number % len(self.play.callers)]
                seen = self.play.callers[id_].reply("late")
                assert seen == self.model.answer(id_, "late")
            case ("cancel", number) if self.scopes:
                id_ = sorted(self.scopes)[number % len(self.scopes)]
                self.scopes[id_].cancel()
                await settle()
                self.model.cancel(id_)
            case ("again", number, timeout):
                self.wait_again(number, timeout)
            case ("stop", reason):
                self.serial += 1
                self.stops[f"{self.serial:02}"] = None
                self.nursery.start_soon(self.stop, f"{self.serial:02}", reason)
                await settle()
                self.model.stop(f"{self.serial:02}", reason)
            case ("shutdown",):
                self.nursery.start_soon(self.shut_down)
                await settle()
                self.model.parent_stops()
            case ("burst", messages):
                for message in messages:  # all are there before the first is handled
                    self.send(*message)
            case ("reply" | "cancel", _):
                pass
            case message:
                self.send(*message)
        self.model.work()
        await settle()

    def send(self, kind: str, doing: Doing, timeout: float | None = None) -> None:
        """Send a message, or have a task call."""
        self.serial += 1
        id_ = f"{self.serial:02}"
        letter = Letter(id_, doing)
        slot = None
        match kind:
            case "cast":
                self.ref.cast(letter)
            case "info":
                self.ref.send(letter)
            case _:
                slot = Slot(id_, self.deadline(timeout), abandons=kind == "call")
                self.scopes[id_] = trio.CancelScope()
                if kind == "request":
                    self.promises[id_] = self.ref.send_request(letter)
                self.nursery.start_soon(self.call, letter, timeout)
        self.model.receive(Item("call" if slot else kind, id_, doing, slot))

    def deadline(self, timeout: float | None) -> float:
        return math.inf if timeout is None else self.model.now + timeout

    def wait_again(self, number: int, timeout: float | None) -> None:
        """Come back to a promise whose wait has ended without an answer."""
        left = [i for i in sorted(self.promises) if self.outcomes.get(i, ("",))[0] in UNANSWERED]
        if left:
            id_ = left[number % len(left)]
            del self.outcomes[id_]
            self.scopes[id_] = trio.CancelScope()
            self.nursery.start_soon(self.call, Letter(id_, Doing()), timeout)
            self.model.slots[id_].wait_again(self.model.now, self.deadline(timeout))

    async def call(self, letter: Letter, timeout: float | None) -> None:
        pending = self.promises.get(letter.id)
        outcome: tuple[Any, ...] = ("cancelled",)
        with self.scopes[letter.id]:
            try:
                if pending is None:
                    value = await self.ref.call(letter, timeout=timeout)
                else:
                    value = await pending.wait(timeout=timeout)
                outcome = ("value", value)
            except CallTimeoutError:
                outcome = ("timeout",)
            except ServerGoneError as error:
                outcome = ("gone", word(error.reason))
        self.outcomes[letter.id] = (*outcome, trio.current_time())

    async def stop(self, id_: str, reason: str) -> None:
        outcome = ("ok", reason)
        try:
            await self.ref.stop(REASONS[reason])
        except ServerGoneError as error:
            outcome = ("gone", word(error.reason))
        self.stops[id_] = (*outcome, trio.current_time())

    async def shut_down(self) -> None:
        with suppress(SlipstreamError):  # it may be gone
            await self.root.terminate_child("it")

    def compare(self) -> None:
        model = self.model
        assert trio.current_time() == model.now
        assert self.play.trace == model.trace
        assert self.ref.alive == model.alive
        outcomes = {s.id: s.outcome for s in model.slots.values() if s.outcome is not None}
        assert self.outcomes == outcomes
        assert self.stops == model.stops
        statistics = self.ref.statistics()
        if model.alive:
            assert statistics.open_calls == model.open_calls
            assert statistics.waiting == len(model.queue)
        else:
            assert (statistics.open_calls, statistics.waiting) == (0, 0)
            assert self.root.whereis("bob") is None
            self.compare_ends()

    def compare_ends(self) -> None:
        model = self.model
        assert self.play.trace == model.trace
        if self.ended or model.phase == "dead":
            expected = [(model.reason, model.ended_at)] if hasattr(self, "ref") else []
            assert self.ended == expected
        outcomes = {slot.id: slot.outcome for slot in model.slots.values()}
        assert self.outcomes == {id_: outcome for id_, outcome in outcomes.items() if outcome}
        assert self.stops == model.stops


processes = st.builds(
    Model,
    drain=st.sampled_from([False, False, True]),
    shutdown=shutdowns,
    interrupt_after=interrupts,
    on_timeout=on_timeouts,
    goodbye=goodbyes,
)
anything = st.tuples(
    processes,
    first,
    st.builds(
        lambda before, stop, after: [*before, *stop, *after],
        st.lists(steps, min_size=3, max_size=12),
        st.lists(stops, max_size=1),
        st.lists(st.one_of(steps, steps, steps, stops), max_size=4),
    ),
)

# What can only be told by waiting, and by hardly any message.
quiet = st.builds(
    Doing,
    st.sampled_from(["none", "noreply", "noreply"]),
    timeout=idles,
    then=st.sampled_from([None, None, Doing(), Doing("noreply")]),
)
idling = st.tuples(
    processes,
    st.just(Doing()),
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from(["cast", "info"]), quiet),
            st.tuples(
                st.just("call"), st.builds(Doing, st.just("reply"), timeout=idles), st.none()
            ),
            advances,
        ),
        min_size=3,
        max_size=10,
    ),
)

# What can only be told by ends that take their time, and meet.
ending = st.tuples(
    st.builds(
        Model,
        drain=st.booleans(),
        shutdown=shutdowns,
        interrupt_after=interrupts,
        on_timeout=st.just(Doing()),
        goodbye=st.builds(Doing, st.sampled_from(["none", "crash", "exit"]), st.integers(1, 2)),
    ),
    st.just(Doing()),
    st.lists(
        st.one_of(
            st.tuples(
                st.just("call"),
                st.builds(
                    Doing,
                    st.sampled_from(["reply", "noreply", "stop reply", "exit"]),
                    takes,
                    st.booleans(),
                ),
                timeouts,
            ),
            st.tuples(st.just("advance"), st.just(1)),
            stops,
        ),
        min_size=3,
        max_size=8,
    ),
)


def check(drawn: st.SearchStrategy[Any], examples: int = 400, **options: Any) -> None:
    """Compare as many *examples* of processes with the model; raise at the first difference."""

    @settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
        **options,
    )
    @given(drawn)
    def compare(example: Any) -> None:
        model, begin, script = example
        play = Play(begin, model.on_timeout, model.goodbye)
        try:
            run_virtually(Script(model, play).run, script)
        except BaseExceptionGroup as group:  # of the nursery that the callers wait in
            raise group.exceptions[0] from None

    compare()


def test_the_process_agrees_with_the_model() -> None:
    """Section 4.2: messages, answers, time-outs, ends; each call is settled once, none hangs."""
    check(anything)


def test_an_idle_process_agrees_with_the_model() -> None:
    """Section 4.2, GS-073: an idle time-out comes if the mailbox stays empty for so long."""
    check(idling, 150)


def test_the_end_of_a_process_agrees_with_the_model() -> None:
    """Section 4.2, GS-061, GS-065, GS-069: stops and kills that meet goodbyes and last replies."""
    check(ending, 150)
