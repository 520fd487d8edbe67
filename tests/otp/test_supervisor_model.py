"""The supervisor against a model of OTP's that a page can hold."""

import copy
from collections import deque
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

outcomes = st.lists(st.sampled_from(["ok", "fail", "fail", "ignore"]), max_size=3)
restarts = st.sampled_from(["permanent", "permanent", "transient", "temporary"])
ids = st.sampled_from(IDS)
ends = st.sampled_from(sorted(ENDS))
steps = st.one_of(
    st.tuples(st.just("end"), ids, ends, outcomes, ids, outcomes),
    st.tuples(st.just("end"), ids, st.just("crash"), outcomes, ids, outcomes),
    st.tuples(st.just("both"), ids, ends, ids, ends),
    st.tuples(st.just("start"), ids, restarts, outcomes, st.booleans()),
    st.tuples(st.sampled_from(["terminate", "restart", "delete"]), ids, outcomes),
    st.tuples(st.just("advance"), st.sampled_from([1.0, DELAY - EPSILON, DELAY, DELAY + EPSILON])),
    st.tuples(st.just("edge"), st.sampled_from([-EPSILON, 0.0, EPSILON])),
)


class Script:
    """A supervisor and its model, and the steps that both of them take."""

    def __init__(self, strategy: str, intensity: int, kids: list[tuple[str, bool]]) -> None:
        self.delays_allowed = strategy == "one_for_one"
        self.model = Model(strategy, intensity)
        self.diary = Diary()
        self.plans: dict[str, deque[str]] = {id_: deque() for id_ in IDS}
        self.children = [self.kid(IDS[n], *kid) for n, kid in enumerate(kids)]
        for kid in self.children:
            self.model.start_child(kid)

    def kid(self, id_: str, restart: str, delays: bool, plan: Any = ()) -> Kid:
        self.plans[id_] = deque(plan)
        return Kid(id_, restart, deque(plan), delays and self.delays_allowed)

    def plan(self, id_: str, plan: list[str]) -> None:
        """Say how the next starts of a child end."""
        kid = self.model.find(id_)
        if kid is not None:
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
            self.compare(supervisor, [self.model])
            for step in script:
                candidates = await self.step(supervisor, step)
                await settle()
                self.compare(supervisor, candidates)
                if not self.model.alive:
                    return
            self.model.give_up(Kid("", "permanent"))  # an ordered stop looks the same
        assert self.written() == self.model.trace

    def written(self) -> list[tuple[Any, ...]]:
        return [entry[:2] for entry in self.diary]

    def compare(self, supervisor: SupervisorRef, candidates: list[Model]) -> None:
        """Find the one of the possible models that is right, and go on with it."""
        seen = self.written()
        for model in candidates:
            if model.trace == seen and model.alive == supervisor.alive:
                self.model = model
                break
        else:
            assert seen == candidates[0].trace
            assert supervisor.alive == candidates[0].alive
        if self.model.alive:
            shown = [(info.id, info.status.value) for info in supervisor.which_children()]
            assert shown == self.model.which()
            counts = supervisor.count_children()
            up = sum(kid.state == "up" for kid in self.model.kids)
            assert counts == (len(self.model.kids), up, 0, len(self.model.kids))
        assert trio.current_time() == self.model.now

    async def step(self, supervisor: SupervisorRef, step: Any) -> list[Model]:
        match step:
            case ("end", id_, how, plan, other, other_plan):
                self.plan(id_, plan)
                if other != id_:
                    self.plan(other, other_plan)
                if self.model.which() and (id_, "running") in self.model.which():
                    supervisor.child(id_).cast(ENDS[how])
                    self.model.end(_kid(self.model, id_), how)
                    self.model.work()
            case ("both", one, how, two, how_two):
                up = self.model.which()
                if one != two and (one, "running") in up and (two, "running") in up:
                    supervisor.child(one).cast(ENDS[how])
                    supervisor.child(two).cast(ENDS[how_two])
                    return self.both((one, how), (two, how_two))
            case ("start", id_, restart, plan, delays):
                if self.model.find(id_) is None:
                    kid = self.kid(id_, restart, delays, plan)
                else:
                    kid = Kid(id_, restart)
                await self.ask(
                    supervisor.start_child(self.spec(kid)), lambda: self.model.start_child(kid)
                )
            case ("advance", seconds):
                await trio.sleep(seconds)
                self.model.advance(seconds)
            case ("edge", offset):
                edge = self.model.edge()
                if edge is not None and edge + offset > 0:
                    await trio.sleep(edge + offset)
                    self.model.advance(edge + offset)
            case (what, id_, plan):
                self.plan(id_, plan)
                function = getattr(supervisor, f"{what}_child")
                await self.ask(function(id_), lambda: self.model.request(what, id_))
            case _:
                pytest.fail(f"no such step: {step}")
        return [self.model]

    def both(self, *endings: tuple[str, str]) -> list[Model]:
        """Nobody can say which of two ends in one tick comes first."""
        candidates: list[Model] = []
        for order in (endings, tuple(reversed(endings))):
            for heard in (False, True):
                model = copy.deepcopy(self.model)
                for id_, how in order:
                    model.end(_kid(model, id_), how)
                if heard:
                    model.queue.reverse()
                model.work()
                candidates.append(model)
        return candidates

    @staticmethod
    async def ask(request: Any, model: Any) -> None:
        """Have both answer, and compare what they refuse."""
        expected = refused = ""
        try:
            model()
        except Refusal as refusal:
            (expected,) = refusal.args
        try:
            await request
        except SlipstreamError as error:
            refused = type(error).__name__.removesuffix("Error")
        assert refused == expected


def _kid(model: Model, id_: str) -> Kid:
    kid = model.find(id_)
    assert kid is not None
    return kid


@settings(
    max_examples=250,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
@given(
    strategy=st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"]),
    intensity=st.integers(0, 3),
    kids=st.lists(st.tuples(restarts, st.booleans()), min_size=1, max_size=4),
    script=st.lists(steps, max_size=10),
)
def test_the_supervisor_agrees_with_the_model(
    strategy: str, intensity: int, kids: list[tuple[str, bool]], script: list[Any]
) -> None:
    """Starts, stops, restarts, requests and refusals, step by step, to the edge of the window."""
    run_virtually(Script(strategy, intensity, kids).run, script)
