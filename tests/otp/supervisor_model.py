"""OTP's supervisor on a page: no tasks, no clock of its own, everything happens at once."""

from collections import deque
from typing import Any

import attrs

__all__ = ["Kid", "Model", "Refusal"]

PERIOD = 5.0
DELAY = 2.0


class Refusal(Exception):
    """A request that the supervisor refuses; its argument names the error."""


@attrs.define(eq=False)
class Kid:
    """A child: how it is specified, and how it is."""

    id: str
    restart: str
    plan: deque[str] = attrs.field(factory=deque)
    delays: bool = False
    state: str = "down"
    incarnation: int = 0
    due: float | None = None
    order: int = 0


@attrs.define(eq=False)
class Model:
    """A supervisor; *trace* is what its children write down."""

    strategy: str
    intensity: int
    now: float = 0.0
    alive: bool = True
    kids: list[Kid] = attrs.field(factory=list)
    delayed: int = 0
    window: list[float] = attrs.field(factory=list)
    queue: deque[tuple[str, Kid, int]] = attrs.field(factory=deque)
    trace: list[tuple[str, str]] = attrs.field(factory=list)

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
        self.trace.append(("init", kid.id))
        kid.state = "up" if outcome == "ok" else "down"
        return outcome

    def stop(self, kid: Kid) -> None:
        if kid.state == "up":
            self.trace.append(("terminate", kid.id))
        kid.incarnation += 1
        kid.due = None
        kid.state = "down"
        if kid.restart == "temporary":
            self.kids.remove(kid)

    def end(self, kid: Kid, how: str) -> None:
        """Have a child end by itself; the supervisor has yet to hear of it."""
        self.trace.append(("terminate", kid.id))
        kid.state = "dead"
        self.queue.append((how, kid, kid.incarnation))

    # -- what the supervisor does

    def work(self) -> None:
        """Handle everything that lies in the queue, and what comes of it."""
        while self.queue and self.alive:
            what, kid, incarnation = self.queue.popleft()
            if kid.incarnation != incarnation or kid not in self.kids:
                continue
            if what == "retry":
                self.attempt(kid, counted=True)
            elif what == "delayed":
                self.attempt(kid, counted=False)
            else:
                self.ended(kid, abnormal=what == "crash")

    def ended(self, kid: Kid, *, abnormal: bool) -> None:
        kid.state = "down"
        if kid.restart == "permanent" or (kid.restart == "transient" and abnormal):
            self.restart(kid)
        elif kid.restart == "temporary":
            self.kids.remove(kid)

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
                self.give_up(kid)
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

    def give_up(self, offender: Kid) -> None:
        offender.state = "down"
        for kid in reversed(list(self.kids)):
            self.stop(kid)
        self.alive = False

    # -- what callers ask for

    def start_child(self, kid: Kid) -> None:
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
        elif self.start(kid) == "fail":
            raise Refusal("Start")

    def advance(self, seconds: float) -> None:
        goal = self.now + seconds
        while self.alive:
            due = [kid for kid in self.kids if kid.due is not None and kid.due <= goal]
            if not due:
                break
            kid = min(due, key=_due)  # at the same instant the one that was set first
            self.now = kid.due or 0.0
            kid.due = None
            self.queue.append(("delayed", kid, kid.incarnation))
            self.work()
        self.now = goal

    def edge(self) -> float | None:
        """Tell in how many seconds the oldest restart is exactly as old as the window."""
        ages = [at + PERIOD - self.now for at in self.window if at + PERIOD > self.now]
        return min(ages, default=None)


def _due(kid: Kid) -> Any:
    return kid.due, kid.order
