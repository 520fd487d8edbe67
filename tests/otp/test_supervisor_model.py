"""The supervisor against a model of OTP's that a page can hold."""

import copy
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeAlias

import attrs
import hypothesis
import pytest
import trio
from hypothesis import given, settings, strategies as st

from slipstream.errors import SlipstreamError, StartError
from slipstream.otp import ChildSpec, Ignore, Supervisor, SupervisorRef, open_supervisor
from slipstream.reasons import NORMAL, SHUTDOWN, ExitReason, Shutdown
from tests.otp.supervisor_model import DELAY, PERIOD, SLOW, Kid, Model
from tests.otp.support import (
    Boom,
    Diary,
    Puppet,
    crash,
    end,
    puppet,
    run_virtually,
    settle,
)

EPSILON = 2.0**-10  # a clock that jumps by such steps is exact
IDS = ["a", "b", "c", "d"]
ENDS = {"crash": crash(), "normal": end(NORMAL), "shutdown": end(Shutdown("x"))}
WRITTEN: dict[ExitReason, str] = {NORMAL: "normal", Shutdown("x"): "shutdown", SHUTDOWN: "asked"}

# What is drawn has to collide: few names, mostly crashes, and the clock mostly where it matters.
outcomes = st.lists(st.sampled_from(["ok", "fail", "fail", "ignore"]), max_size=3)
plans: st.SearchStrategy[list[str]] = st.one_of(st.just([]), outcomes)
restarts = st.sampled_from(["permanent", "permanent", "transient", "temporary"])
ids = st.sampled_from(IDS[:3])
ends = st.sampled_from(["crash", "crash", "normal", "shutdown"])
all_ends = st.one_of(ends, ends, ends, st.just("stopped"))
requests = st.sampled_from(["terminate", "restart", "delete"])
delays = st.sampled_from([1.0, DELAY - EPSILON, DELAY, DELAY + EPSILON])
offsets = st.sampled_from([-EPSILON, 0.0, EPSILON])


@attrs.frozen
class Given:
    """How a child is specified."""

    restart: str
    delays: bool
    significant: bool
    plan: list[str]


givens = st.builds(Given, restarts, st.booleans(), st.booleans(), plans)
first_plans = st.sampled_from([[], [], [], [], [], ["ignore"], ["fail"]])
firsts = st.builds(Given, restarts, st.booleans(), st.booleans(), first_plans)
mattering = st.builds(
    Given,
    st.sampled_from(["transient", "transient", "temporary"]),
    st.booleans(),
    st.just(True),
    st.just([]),
)
behind_step = st.tuples(
    st.just("behind"),
    ids,
    plans,
    st.one_of(
        st.tuples(st.just("start"), ids, givens),
        st.tuples(requests, ids, plans),
        st.just(("stop",)),
    ),
)
end_step = st.tuples(st.just("end"), ids, all_ends, plans, ids, plans)
steps = st.one_of(
    end_step,
    st.tuples(st.just("both"), ids, ends, ids, ends),
    st.tuples(st.just("edge"), offsets, ids),
    st.tuples(st.just("start"), st.sampled_from(IDS), givens),
    st.tuples(requests, ids, plans),
    st.tuples(st.just("advance"), delays),
    behind_step,
)

# What can only be told by restarts that lie close together, or not quite.
window_steps = st.one_of(
    st.tuples(st.just("end"), ids, st.just("crash"), st.just([]), ids, st.just([])),
    st.tuples(st.just("advance"), delays),
    st.tuples(st.just("edge"), offsets, ids),
    st.tuples(st.sampled_from(["terminate", "restart"]), ids, st.just([])),
)

Request: TypeAlias = tuple[Callable[[], Awaitable[Any]], Callable[[Model], None]]


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> Iterator[None]:
    """Thousands of reports would only be in the way."""
    logger = logging.getLogger("slipstream")
    logger.disabled = True
    yield
    logger.disabled = False


class Script:
    """A supervisor and its models, and the steps that all of them take.

    Nobody can say which of two ends in one tick is heard of first; so there may be several models,
    until something tells which is right.
    """

    root: SupervisorRef
    supervisor: SupervisorRef

    def __init__(
        self, strategy: str, intensity: int, auto_shutdown: str, kids: list[Given]
    ) -> None:
        self.delays_allowed = strategy == "one_for_one"
        model = Model(strategy, intensity, auto_shutdown)
        self.models = [model]
        self.diary = Diary()
        self.plans: dict[str, deque[str]] = {id_: deque() for id_ in IDS}
        for id_, given_ in zip(IDS, kids, strict=False):
            kid = self.kid(id_, given_)
            # A supervisor that does not mind would not have it.
            kid.significant = kid.significant and auto_shutdown != "never"
            model.kids.append(kid)

    @property
    def model(self) -> Model:
        """One of them: what can be seen, they agree on."""
        return self.models[0]

    def kid(self, id_: str, given_: Given) -> Kid:
        return Kid(
            id_,
            given_.restart,
            deque(given_.plan),
            delays=given_.delays and self.delays_allowed,
            significant=given_.significant and given_.restart != "permanent",
        )

    def plan(self, id_: str, plan: list[str]) -> None:
        """Say how the next starts of a child end."""
        for model in self.models:
            if (kid := model.find(id_)) is not None:
                kid.plan = deque(plan)
                self.plans[id_] = deque(plan)

    def spec(self, kid: Kid) -> ChildSpec:
        plans, first = self.plans, [deque(kid.plan)]

        async def init(_: Puppet) -> Any:
            if first:
                plans[kid.id] = first.pop()
            plan = plans[kid.id]
            match plan.popleft() if plan else "ok":
                case "slow":
                    await trio.sleep(SLOW)
                    raise Boom
                case "fail":
                    raise Boom
                case "ignore":
                    return Ignore()
                case _:
                    return None

        async def terminate(me: Puppet, reason: ExitReason) -> None:
            if reason == SHUTDOWN:  # of those that are asked to, one at a time ends
                await trio.lowlevel.checkpoint()
                me.write("gone")

        return puppet(
            kid.id,
            self.diary,
            init=init,
            terminate=terminate,
            restart=kid.restart,
            backoff=(lambda *_: DELAY) if kid.delays else None,
            significant=kid.significant,
        )

    async def run(self, script: list[Any]) -> None:
        model = self.model
        spec = Supervisor.child_spec(
            [self.spec(kid) for kid in model.kids],
            id="sub",
            restart="temporary",
            strategy=model.strategy,  # type: ignore[arg-type]  # drawn from the three
            max_restarts=model.intensity,
            max_seconds=PERIOD,
            auto_shutdown=model.auto_shutdown,  # type: ignore[arg-type]  # drawn from the three
        )
        async with open_supervisor() as self.root:
            model.now = trio.current_time()
            failed = model.begin()
            try:
                started = await self.root.start_child(spec)
            except StartError as error:
                assert failed
                assert f"> {failed} did not start" in str(error)
                assert self.root.which_children() == []
            else:
                assert failed == ""
                assert isinstance(started, SupervisorRef)
                await self.follow(started.pin(), script)
        assert self.written() in [model.trace for model in self.models]

    async def follow(self, supervisor: SupervisorRef, script: list[Any]) -> None:
        self.supervisor = supervisor
        self.compare()
        for step in script:
            await self.step(step)
            await self.catch_up()
            self.compare()
            if not self.model.alive:
                break
        else:
            for model in self.models:
                model.shut("stopped")
            await self.root.terminate_child("sub")
        assert await supervisor.wait() == SHUTDOWN
        assert {model.ending for model in self.models} <= {"stopped", "auto", "gave up"}
        gave_up = supervisor.gave_up is not None
        assert gave_up in [model.ending == "gave up" for model in self.models]

    async def catch_up(self) -> None:
        """Let happen what the models say has happened, until they all stand at one time."""
        now = max(model.now for model in self.models)
        for model in self.models:
            model.now = now
        await trio.sleep_until(now)
        await settle()

    def written(self) -> list[tuple[str, ...]]:
        """Give what the children wrote, their reasons in a word."""
        return [
            (*entry[:2], *(WRITTEN.get(reason, "crash") for reason in entry[2:]))
            for entry in self.diary
        ]

    def compare(self) -> None:
        """Keep the models that are right; there has to be one."""
        trace, alive = self.written(), self.supervisor.alive
        right = [model for model in self.models if (model.trace, model.alive) == (trace, alive)]
        if not right:
            assert (trace, alive) == (self.model.trace, self.model.alive)
        self.models = right
        for model in self.models:
            assert trio.current_time() == model.now
            if alive:
                children = self.supervisor.which_children()
                shown = [(info.id, info.status.value) for info in children]
                assert shown == model.which()
                assert all((info.ref is None) == (info.status != "running") for info in children)
                up = sum(kid.state == "up" for kid in model.kids)
                counts = (len(model.kids), up, 0, len(model.kids))
                assert self.supervisor.count_children() == counts

    async def step(self, step: Any) -> None:
        running = [id_ for id_, state in self.model.which() if state == "running"]
        match step:
            case ("end", id_, how, plan, other, other_plan):
                self.plan(id_, plan)
                if other != id_:
                    self.plan(other, other_plan)
                if id_ in running:
                    if how == "stopped":  # by somebody who is not its supervisor
                        how = "normal"
                        await self.supervisor.child(id_).stop()
                    else:
                        self.supervisor.child(id_).cast(ENDS[how])
                    for model in self.models:
                        model.end(_kid(model, id_), how)
                        model.work()
            case ("both", one, how, two, how_two):
                if one != two and {one, two} <= set(running):
                    self.supervisor.child(one).cast(ENDS[how])
                    self.supervisor.child(two).cast(ENDS[how_two])
                    self.both((one, how), (two, how_two))
            case ("advance", seconds):
                for model in self.models:
                    model.elapse(seconds, busy=False)
            case ("edge", offset, id_):
                edge = self.model.edge()
                if edge is not None and edge + offset > 0:
                    await self.step(("advance", edge + offset))
                    await self.catch_up()
                    self.compare()
                    if self.model.alive:
                        await self.step(("end", id_, "crash", [], id_, []))
            case ("behind", id_, plan, request):
                if id_ in running:
                    kid = _kid(self.model, id_)
                    if kid.is_due("crash") and not kid.delays:
                        await self.behind(id_, plan, request)
            case _:
                ask, ask_model = self.request(step)
                answer = await _answer(ask)
                self.expect(ask_model, answer)

    def both(self, *endings: tuple[str, str]) -> None:
        """Have two children end, in either order, and be heard of in either order."""
        possible: list[Model] = []
        for before in self.models:
            for order in (endings, tuple(reversed(endings))):
                for reverse in (False, True):
                    model = copy.deepcopy(before)
                    for id_, how in order:
                        model.end(_kid(model, id_), how)
                    if reverse:
                        model.queue.reverse()
                    model.work()
                    possible.append(model)
        self.models = possible

    async def behind(self, id_: str, plan: list[str], request: Any) -> None:
        """Have a request wait while a restart is about to fail: it comes before the next attempt."""
        self.plan(id_, ["slow", *plan])
        for other in self.models[0].kids:
            if other.id != id_ and self.model.strategy == "one_for_all":
                self.plan(other.id, [])  # those before it are not to fail first
        self.supervisor.child(id_).cast(ENDS["crash"])
        await settle()
        if request == ("stop",):
            await trio.sleep(SLOW / 2)
            await _answer(lambda: self.root.terminate_child("sub"))  # it may be gone
            for model in self.models:
                model.stop_in = SLOW / 2
                stopped_at = model.now + SLOW / 2
                model.end(_kid(model, id_), "crash")
                model.work()
                model.elapse(stopped_at - model.now, busy=False)
                if model.alive:
                    model.shut("stopped")
            return
        ask, ask_model = self.request(request, replan=False)
        for model in self.models:
            model.end(_kid(model, id_), "crash")
        answer = await _answer(ask)
        self.expect(ask_model, answer)
        # If nobody came to start it, it is to be slow no more.
        for slow in [self.plans[id_], *(kid.plan for model in self.models for kid in model.kids)]:
            if "slow" in slow:
                slow.remove("slow")

    def request(self, request: Any, *, replan: bool = True) -> Request:
        """Give a request to the supervisor, and the same for a model."""
        supervisor = self.supervisor
        match request:
            case ("start", id_, given_):
                kid = self.kid(id_, given_)
                spec = self.spec(kid)
                return (
                    lambda: supervisor.start_child(spec),
                    lambda model: model.start_child(copy.deepcopy(kid)),
                )
            case (what, id_, plan):
                if replan:
                    self.plan(id_, plan)
                function = getattr(supervisor, f"{what}_child")
                return lambda: function(id_), lambda model: model.request(what, id_)
            case _:
                pytest.fail(f"no such step: {request}")

    def expect(self, ask_model: Callable[[Model], None], answer: str) -> None:
        """Ask the models as well, and compare what they refuse."""
        for model in self.models:
            model.ask(ask_model)
            model.work()
        self.models = [model for model in self.models if model.answers[-1] == answer]
        assert self.models, answer


async def _answer(ask: Callable[[], Awaitable[Any]]) -> str:
    try:
        await ask()
    except SlipstreamError as error:
        return type(error).__name__.removesuffix("Error")
    return ""


def _kid(model: Model, id_: str) -> Kid:
    kid = model.find(id_)
    assert kid is not None
    return kid


strategies = st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"])
anything = st.tuples(
    strategies,
    st.integers(0, 3),
    st.sampled_from(["never", "any_significant", "all_significant"]),
    st.one_of(
        st.lists(firsts, min_size=1, max_size=4), st.lists(mattering, min_size=2, max_size=4)
    ),
    st.lists(steps, min_size=3, max_size=12),
)
windows = st.tuples(
    strategies,
    st.integers(1, 3),
    st.just("never"),
    st.just([Given("permanent", delays=False, significant=False, plan=[])] * 2),
    st.lists(window_steps, min_size=4, max_size=14),
)
significants = st.tuples(
    st.just("one_for_one"),
    st.just(3),
    st.sampled_from(["any_significant", "all_significant"]),
    st.lists(mattering, min_size=2, max_size=4),
    st.lists(
        st.one_of(end_step, end_step, st.tuples(requests, ids, plans)), min_size=2, max_size=8
    ),
)
behinds = st.tuples(
    strategies,
    st.integers(1, 3),
    st.just("never"),
    st.lists(firsts, min_size=1, max_size=3),
    st.lists(st.one_of(behind_step, behind_step, end_step), min_size=2, max_size=6),
)


def check(drawn: st.SearchStrategy[Any], examples: int = 400, **options: Any) -> None:
    """Compare as many *examples* of supervisors with the model; raise at the first difference."""

    @settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
        **options,
    )
    @given(drawn)
    def compare(example: Any) -> None:
        strategy, intensity, auto_shutdown, kids, script = example
        run_virtually(Script(strategy, intensity, auto_shutdown, kids).run, script)

    compare()


def test_the_supervisor_agrees_with_the_model() -> None:
    """Section 4.1: starts, stops, restarts, requests and refusals, step by step."""
    check(anything)


def test_the_window_of_restarts_agrees_with_the_model() -> None:
    """Section 4.1, SUP-049, SUP-050, SUP-062: to its edge, and what does not count."""
    check(windows, 100)


def test_significant_children_agree_with_the_model() -> None:
    """Section 4.1, SUP-092, SUP-093, SUP-097: whose end is the supervisor's."""
    check(significants, 100)


def test_requests_behind_a_failing_restart_agree_with_the_model() -> None:
    """Section 4.1, SUP-074: they are served before the next attempt."""
    check(behinds, 100)
