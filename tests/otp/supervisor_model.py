"""OTP's supervisor on a page: no tasks, no clock of its own, everything happens at once."""

from collections import deque
from collections.abc import Callable
from typing import Any

import attrs

__all__ = ["DELAY", "PERIOD", "SLOW", "Kid", "Model"]

PERIOD = 5.0
DELAY = 2.0
SLOW = 1.0
"""Seconds that a start takes that is to fail slowly."""


class Refusal(Exception):
    """A request that the supervisor refuses; its argument names the error."""


class _StoppedMeanwhile(Exception):
    """A start that the stop of its supervisor cuts short."""


@attrs.define(eq=False)
class Kid:
    """A child: how it is specified, and how it is."""

    id: str
    restart: str
    plan: deque[str] = attrs.field(factory=deque)
    delays: bool = False
    significant: bool = False
    state: str = "down"
    incarnation: int = 0
    due: float | None = None
    order: int = 0

    def is_due(self, how: str) -> bool:
        return self.restart == "permanent" or (self.restart == "transient" and how == "crash")


@attrs.define(eq=False)
class Model:
    """A supervisor; *trace* is what its children write down."""

    strategy: str
    intensity: int
    auto_shutdown: str = "never"
    now: float = 0.0
    ending: str = ""
    stop_in: float | None = None
    kids: list[Kid] = attrs.field(factory=list)
    delayed: int = 0
    window: list[float] = attrs.field(factory=list)
    queue: deque[tuple[str, Any, int]] = attrs.field(factory=deque)
    trace: list[tuple[str, ...]] = attrs.field(factory=list)
    answers: list[str] = attrs.field(factory=list)

    @property
    def alive(self) -> bool:
        return not self.ending

    def find(self, id_: str) -> Kid | None:
        return next((kid for kid in self.kids if kid.id == id_), None)

    def which(self) -> list[tuple[str, str]]:
        shown = {"up": "running", "down": "down", "restarting": "restarting"}
        return [(kid.id, shown[kid.state]) for kid in self.kids]

    # -- what children do

    def start(self, kid: Kid) -> str:
        outcome = kid.plan.popleft() if kid.plan else "ok"
        kid.incarnation += 1
        kid.due = None
        kid.state = "down"
        self.trace.append(("init", kid.id))
        if outcome == "slow":
            if self.stop_in is not None:
                self.now += self.stop_in
                raise _StoppedMeanwhile
            self.elapse(SLOW)
            return "fail"
        kid.state = "up" if outcome == "ok" else "down"
        return outcome

    def stop(self, kid: Kid) -> None:
        if kid.state == "up":
            self.trace += [("terminate", kid.id, "asked"), ("gone", kid.id)]
        kid.incarnation += 1
        kid.due = None
        kid.state = "down"
        if kid.restart == "temporary":
            self.kids.remove(kid)

    def end(self, kid: Kid, how: str) -> None:
        """Have a child end by itself; the supervisor has yet to hear of it."""
        self.trace.append(("terminate", kid.id, how))
        kid.state = "dead"
        self.queue.append((how, kid, kid.incarnation))

    # -- what the supervisor does

    def begin(self) -> str:
        """Start the children there are; tell which of them failed, and with it the supervisor."""
        for kid in list(self.kids):
            match self.start(kid):
                case "fail":
                    self.shut("failed to start")
                    return kid.id
                case "ignore" if kid.restart == "temporary":
                    self.kids.remove(kid)
        return ""

    def work(self) -> None:
        """Handle everything that lies in the queue, and what comes of it."""
        try:
            while self.queue and self.alive:
                self.handle(*self.queue.popleft())
        except _StoppedMeanwhile:
            self.shut("stopped")
        while self.queue:
            what, _, _ = self.queue.popleft()
            if what == "ask":
                self.answers.append("ServerGone")

    def handle(self, what: str, kid: Any, incarnation: int) -> None:
        if what == "ask":
            self.answers.append(self.answer(kid))
        elif kid.incarnation != incarnation or kid not in self.kids:
            pass  # of one that has been replaced, or stopped
        elif what == "retry":
            self.attempt(kid, counted=True)
        elif what == "delayed":
            self.attempt(kid, counted=False)
        else:
            self.ended(kid, what)

    def ended(self, kid: Kid, how: str) -> None:
        kid.state = "down"
        if kid.is_due(how):
            self.restart(kid)
            return
        if kid.restart == "temporary":
            self.kids.remove(kid)
        if kid.significant and not (
            self.auto_shutdown == "all_significant"
            and any(other.significant and other.state != "down" for other in self.kids)
        ):
            self.shut("auto")

    def restart(self, kid: Kid) -> None:
        if kid.delays:
            kid.state = "restarting"
            self.delay(kid)
        else:
            self.attempt(kid, counted=True)

    def delay(self, kid: Kid) -> None:
        self.delayed += 1
        kid.due, kid.order = self.now + DELAY, self.delayed

    def attempt(self, kid: Kid, *, counted: bool) -> None:
        if counted:
            self.window = [self.now] + [at for at in self.window if at + PERIOD >= self.now]
            if len(self.window) > self.intensity:
                kid.state = "down"
                self.shut("gave up")
                return
        place = self.kids.index(kid)
        match self.strategy:
            case "one_for_one":
                group = [kid]
            case "rest_for_one":
                group = self.kids[place:]
            case _:
                group = list(self.kids)
        for other in reversed(group):
            if other is not kid or other.state == "up":
                self.stop(other)
        for other in group:
            if other in self.kids and self.start(other) == "fail":
                other.state = "restarting"
                if other.delays:
                    self.delay(other)
                else:
                    self.queue.append(("retry", other, other.incarnation))
                return

    def shut(self, ending: str) -> None:
        """End: the children are stopped, last first."""
        for kid in reversed(list(self.kids)):
            self.stop(kid)
        self.ending = ending

    # -- what callers ask for

    def ask(self, request: Callable[["Model"], None]) -> None:
        """Put a request into the queue; *answers* will have what it is refused with, or ""."""
        self.queue.append(("ask", request, 0))

    def answer(self, request: Callable[["Model"], None]) -> str:
        try:
            request(self)
        except Refusal as refusal:
            return str(refusal)
        return ""

    def start_child(self, kid: Kid) -> None:
        if kid.significant and self.auto_shutdown == "never":
            raise Refusal("ChildSpec")
        present = self.find(kid.id)
        if present is not None:
            raise Refusal("AlreadyStarted" if present.state == "up" else "AlreadyPresent")
        outcome = self.start(kid)
        if outcome == "fail":
            raise Refusal("Start")
        if outcome == "ok" or kid.restart != "temporary":
            self.kids.append(kid)

    def request(self, what: str, id_: str) -> None:
        kid = self.find(id_)
        if kid is None:
            raise Refusal("ChildNotFound")
        if what == "terminate":
            self.stop(kid)
            return
        if kid.state != "down":
            raise Refusal("ChildRunning" if kid.state == "up" else "ChildRestarting")
        if what == "delete":
            self.kids.remove(kid)
            return
        outcome = self.start(kid)
        if outcome == "fail":
            raise Refusal("Start")
        if outcome == "ignore" and kid.restart == "temporary":
            self.kids.remove(kid)

    # -- the clock

    def elapse(self, seconds: float, *, busy: bool = True) -> None:
        """Let time pass; what becomes due is put into the queue, and handled unless *busy*."""
        goal = self.now + seconds
        while self.alive:
            due = [kid for kid in self.kids if kid.due is not None and kid.due <= goal]
            if not due:
                break
            kid = min(due, key=_due)  # at the same instant the one that was set first
            self.now = kid.due or 0.0
            kid.due = None
            self.queue.append(("delayed", kid, kid.incarnation))
            if not busy:
                self.work()
        self.now = goal

    def edge(self) -> float | None:
        """Tell in how many seconds the oldest restart is exactly as old as the window."""
        ages = [at + PERIOD - self.now for at in self.window if at + PERIOD > self.now]
        return min(ages, default=None)


def _due(kid: Kid) -> Any:
    return kid.due, kid.order
