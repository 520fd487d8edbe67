"""The supervisor against a model of OTP's that a page can hold."""

import copy
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import hypothesis
import pytest
import trio
from hypothesis import given, settings, strategies as st

from slipstream.errors import SlipstreamError
from slipstream.otp import ChildSpec, Ignore, Supervisor, SupervisorRef, open_supervisor
from slipstream.reasons import NORMAL, Shutdown
from tests.otp.supervisor_model import DELAY, PERIOD, Kid, Model, Refusal
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

# What is drawn has to collide: few names, mostly crashes, and the clock mostly where it matters.
outcomes = st.lists(st.sampled_from(["ok", "fail", "fail", "ignore"]), max_size=3)
plans: st.SearchStrategy[list[str]] = st.one_of(st.just([]), outcomes)
restarts = st.sampled_from(["permanent", "permanent", "transient", "temporary"])
ids = st.sampled_from(IDS[:3])
ends = st.sampled_from(["crash", "crash", "normal", "shutdown"])
requests = st.sampled_from(["terminate", "restart", "delete"])
delays = st.sampled_from([1.0, DELAY - EPSILON, DELAY, DELAY + EPSILON])
offsets = st.sampled_from([-EPSILON, 0.0, EPSILON])
end_step = st.tuples(st.just("end"), ids, ends, plans, ids, plans)
steps = st.one_of(
    end_step,
    st.tuples(st.just("both"), ids, ends, ids, ends),
    st.tuples(st.just("edge"), offsets, ids),
    st.tuples(st.just("start"), st.sampled_from(IDS), restarts, plans, st.booleans()),
    st.tuples(requests, ids, plans),
    st.tuples(st.just("advance"), delays),
)


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

    def __init__(self, strategy: str, intensity: int, kids: list[tuple[str, bool]]) -> None:
        self.delays_allowed = strategy == "one_for_one"
        model = Model(strategy, intensity)
        self.models = [model]
        self.diary = Diary()
        self.plans: dict[str, deque[str]] = {id_: deque() for id_ in IDS}
        self.children = [
            self.kid(IDS[n], restart, delays=delays) for n, (restart, delays) in enumerate(kids)
        ]
        for kid in self.children:
            model.start_child(kid)

    @property
    def model(self) -> Model:
        """One of them: what can be seen, they agree on."""
        return self.models[0]

    def kid(self, id_: str, restart: str, *, delays: bool = False, plan: Any = ()) -> Kid:
        return Kid(id_, restart, deque(plan), delays and self.delays_allowed)

    def plan(self, id_: str, plan: list[str]) -> None:
        """Say how the next starts of a child end."""
        for model in self.models:
            if (kid := model.find(id_)) is not None:
                kid.plan = deque(plan)
                self.plans[id_] = deque(plan)

    def spec(self, kid: Kid) -> ChildSpec:
        plans = self.plans

        def init(_: Puppet) -> Any:
            plan = plans[kid.id]
            match plan.popleft() if plan else "ok":
                case "fail":
                    raise Boom
                case "ignore":
                    return Ignore()
                case _:
                    return None

        backoff = (lambda *_: DELAY) if kid.delays else None
        return puppet(kid.id, self.diary, init=init, restart=kid.restart, backoff=backoff)

    async def run(self, script: list[Any]) -> None:
        spec = Supervisor.child_spec(
            [self.spec(kid) for kid in self.children],
            id="sub",
            restart="temporary",
            strategy=self.model.strategy,  # type: ignore[arg-type]  # drawn from the three
            max_restarts=self.model.intensity,
            max_seconds=PERIOD,
        )
        async with open_supervisor([spec]) as root:
            supervisor = root.child("sub").pin()
            assert isinstance(supervisor, SupervisorRef)
            self.model.now = trio.current_time()
            self.compare(supervisor)
            for step in script:
                await self.step(supervisor, step)
                await settle()
                self.compare(supervisor)
                if not self.model.alive:
                    return
            for model in self.models:
                model.give_up(Kid("", "permanent"))  # an ordered stop looks the same
        assert self.written() in [model.trace for model in self.models]

    def written(self) -> list[tuple[Any, ...]]:
        return [entry[:2] for entry in self.diary]

    def compare(self, supervisor: SupervisorRef) -> None:
        """Keep the models that are right; there has to be one."""
        trace, alive = self.written(), supervisor.alive
        right = [model for model in self.models if (model.trace, model.alive) == (trace, alive)]
        if not right:
            assert (trace, alive) == (self.model.trace, self.model.alive)
        self.models = right
        for model in self.models:
            assert trio.current_time() == model.now
            if alive:
                shown = [(info.id, info.status.value) for info in supervisor.which_children()]
                assert shown == model.which()
                up = sum(kid.state == "up" for kid in model.kids)
                counts = (len(model.kids), up, 0, len(model.kids))
                assert supervisor.count_children() == counts

    async def step(self, supervisor: SupervisorRef, step: Any) -> None:
        match step:
            case ("end", id_, how, plan, other, other_plan):
                self.plan(id_, plan)
                if other != id_:
                    self.plan(other, other_plan)
                if (id_, "running") in self.model.which():
                    supervisor.child(id_).cast(ENDS[how])
                    for model in self.models:
                        model.end(_kid(model, id_), how)
                        model.work()
            case ("both", one, how, two, how_two):
                up = self.model.which()
                if one != two and (one, "running") in up and (two, "running") in up:
                    supervisor.child(one).cast(ENDS[how])
                    supervisor.child(two).cast(ENDS[how_two])
                    self.both((one, how), (two, how_two))
            case ("start", id_, restart, plan, delays):
                kid = self.kid(id_, restart, delays=delays, plan=plan)
                if self.model.find(id_) is None:
                    self.plans[id_] = deque(plan)
                await self.ask(
                    supervisor.start_child(self.spec(kid)),
                    lambda model: model.start_child(copy.deepcopy(kid)),
                )
            case ("advance", seconds):
                await self.advance(seconds)
            case ("edge", offset, id_):
                edge = self.model.edge()
                if edge is not None and edge + offset > 0:
                    await self.advance(edge + offset)
                    await settle()
                    self.compare(supervisor)
                    if self.model.alive:
                        await self.step(supervisor, ("end", id_, "crash", [], id_, []))
            case (what, id_, plan):
                self.plan(id_, plan)
                function = getattr(supervisor, f"{what}_child")
                await self.ask(function(id_), lambda model: model.request(what, id_))
            case _:
                pytest.fail(f"no such step: {step}")

    async def advance(self, seconds: float) -> None:
        await trio.sleep(seconds)
        for model in self.models:
            model.advance(seconds)

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

    async def ask(self, request: Awaitable[Any], ask_model: Callable[[Model], None]) -> None:
        """Have all answer, and compare what they refuse."""
        expected = {_refusal(ask_model, model) for model in self.models}
        assert len(expected) == 1
        refused = ""
        try:
            await request
        except SlipstreamError as error:
            refused = type(error).__name__.removesuffix("Error")
        assert {refused} == expected


def _refusal(ask_model: Callable[[Model], None], model: Model) -> str:
    try:
        ask_model(model)
    except Refusal as refusal:
        return str(refusal)
    return ""


def _kid(model: Model, id_: str) -> Kid:
    kid = model.find(id_)
    assert kid is not None
    return kid


@settings(
    max_examples=400,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
@given(
    strategy=st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"]),
    intensity=st.integers(0, 3),
    kids=st.lists(st.tuples(restarts, st.booleans()), min_size=2, max_size=4),
    script=st.lists(steps, min_size=3, max_size=12),
)
def test_the_supervisor_agrees_with_the_model(
    strategy: str, intensity: int, kids: list[tuple[str, bool]], script: list[Any]
) -> None:
    """Starts, stops, restarts, requests and refusals, step by step, to the edge of the window."""
    run_virtually(Script(strategy, intensity, kids).run, script)
