"""OTP's gen_server on two pages: no tasks, no clock of its own, one event after the other."""

import math
from collections import deque
from typing import Any

import attrs

__all__ = ["MARK", "Doing", "Item", "Model", "Slot"]


@attrs.frozen
class Doing:
    """What a callback does, and returns.

    Attributes:
        result: ``none``, ``noreply``, ``reply``, ``stop``, ``stop reply``, ``crash``, ``exit`` or
            ``odd``; from ``init`` also ``ignore``.
        takes: seconds.
        waits: whether it spends them in a wait that being stopped interrupts.
        early: whether it answers the call before.
        sends: how many messages it sends to its own process.
        timeout: the idle time-out of its result.
        then: what ``handle_continue`` does after it.
    """

    result: str = "none"
    takes: int = 0
    waits: bool = False
    early: bool = False
    sends: int = 0
    timeout: float | None = None
    then: "Doing | None" = None


@attrs.define(eq=False)
class Slot:
    """A call, and what has become of it: for its process (*state*), and for its caller."""

    id: str
    deadline: float
    abandons: bool
    state: str = "open"
    settled: tuple[Any, ...] = ()
    outcome: tuple[Any, ...] | None = None

    def settle(self, state: str, *outcome: Any) -> bool:
        if self.state != "open":
            return False
        self.state, self.settled = state, outcome[:-1]
        if self.outcome is None:
            self.outcome = outcome
        return True

    def give_up(self, *outcome: Any) -> None:
        """Have the caller wait no longer; one that asked with a promise may come back."""
        if self.outcome is None:
            self.outcome = outcome
            if self.abandons:
                self.state = "abandoned"

    def wait_again(self, now: float, deadline: float) -> None:
        """Have the caller come back."""
        self.deadline = deadline
        self.outcome = None if self.state == "open" else (*self.settled, now)


@attrs.define(eq=False)
class Item:
    """A message, and what its callback does."""

    kind: str
    id: str
    doing: Doing
    slot: Slot | None = None
    ends_at: float = 0.0


MARK = Item("mark", "", Doing())


@attrs.define(eq=False)
class Model:
    """A process; *trace* is what its callbacks write down."""

    drain: bool
    shutdown: float | str
    interrupt_after: float
    on_timeout: Doing
    goodbye: Doing
    now: float = 0.0
    phase: str = "starting"
    reason: str = ""
    ended_at: float = 0.0
    queue: deque[Item] = attrs.field(factory=deque)
    running: Item | None = None
    then: Item | None = None
    carried: float | None = None
    idle: float = math.inf
    idle_due: bool = False
    stop_reason: str = ""
    interrupt_at: float = math.inf
    kill_at: float = math.inf
    goodbye_ends: float = math.inf
    last_call: Item | None = None
    slots: dict[str, Slot] = attrs.field(factory=dict)
    stops: dict[str, tuple[str, str, float] | None] = attrs.field(factory=dict)
    wanted: dict[str, str] = attrs.field(factory=dict)
    trace: list[tuple[Any, ...]] = attrs.field(factory=list)

    @property
    def alive(self) -> bool:
        return self.phase in {"running", "ending"}

    @property
    def open_calls(self) -> int:
        return sum(slot.state == "open" for slot in self.slots.values())

    def write(self, *entry: Any) -> None:
        self.trace.append((*entry, self.now))

    # -- what others do

    def start(self, doing: Doing) -> str:
        """Run ``init``; tell ``ok``, ``ignore`` or the reason of the failure."""
        if doing.result == "ignore":
            self.write("init", "")
            self.phase = "dead"
            return "ignore"
        self.begin(Item("init", "", doing))
        if self.phase != "starting":
            return self.reason
        self.phase = "running"
        self.work()
        return "ok"

    def receive(self, item: Item) -> None:
        """Take a message, to :meth:`work` at soon, or drop it."""
        slot = item.slot
        if slot is not None:
            self.slots[slot.id] = slot
        if self.alive:
            self.queue.append(item)
        elif slot is not None:
            slot.settle("gone", "gone", "noproc", self.now)

    def answer(self, id_: str, value: Any) -> bool:
        """Answer a call, from wherever; tell whether the answer will be seen."""
        return self.slots[id_].settle("answered", "value", value, self.now)

    def cancel(self, id_: str) -> None:
        """Cancel whoever waits for a call."""
        self.slots[id_].give_up("cancelled", self.now)

    def stop(self, id_: str, reason: str) -> None:
        """Have somebody ask for the stop and wait; a ``brutal_kill`` is meant for parents."""
        if not self.alive:
            self.stops[id_] = ("gone", "noproc", self.now)
            return
        self.stops[id_], self.wanted[id_] = None, reason
        seconds = math.inf if isinstance(self.shutdown, str) else self.shutdown
        self.shut_down(reason, seconds)

    def parent_stops(self) -> None:
        """Have the supervisor stop the process."""
        if isinstance(self.shutdown, str):
            if self.alive:
                self.bury("killed", killed=True)
        else:
            self.shut_down("shutdown", self.shutdown)

    def shut_down(self, reason: str, seconds: float) -> None:
        if not self.alive:
            return
        self.kill_at = min(self.kill_at, self.now + seconds)
        if self.stop_reason or self.phase == "ending":
            return
        self.stop_reason = reason
        self.interrupt_at = self.now + self.interrupt_after
        if self.drain:
            self.queue.append(MARK)
        if self.running is not None and self.running.doing.waits:
            if self.drain:
                self.go_on(self.running, None)
            else:
                self.leave(reason)
        self.work()

    # -- what the process does

    def work(self) -> None:
        """Call callbacks, until one takes its time or there is nothing to do."""
        while self.phase == "running" and self.running is None:
            if self.stop_reason and not (
                self.drain and (self.then or (self.queue and self.queue[0] is not MARK))
            ):
                self.leave(self.stop_reason)
                return
            if self.then is not None:
                item, self.then = self.then, None
            elif self.idle_due:
                item, self.idle_due = Item("timeout", "", self.on_timeout), False
            elif self.queue:
                item, self.idle = self.queue.popleft(), math.inf
            else:
                return
            self.begin(item)

    def begin(self, item: Item) -> None:
        doing = item.doing
        self.write(item.kind, item.id)
        if item.slot is not None and doing.early:
            self.write("answered", item.id, self.answer(item.id, "early"))
        self.queue.extend(Item("info", f"{item.id}.{n}", Doing()) for n in range(doing.sends))
        self.running = item
        item.ends_at = self.now + doing.takes
        if doing.takes == 0:
            self.finish(item)

    def finish(self, item: Item) -> None:
        doing = item.doing
        match doing.result:
            case "crash":
                self.leave("crash")
            case "exit":
                self.leave("exit")
            case "stop":
                self.leave("normal")
            case "stop reply" if item.kind == "call":
                self.last_call = item
                self.leave("x")
            case "none" if item.kind != "call":
                self.go_on(item, None)
            case "noreply":
                self.go_on(item, doing)
            case "reply" if item.kind == "call":
                self.answer(item.id, item.id)
                self.go_on(item, doing)
            case _:
                self.leave("bad")

    def go_on(self, item: Item, result: Doing | None) -> None:
        """Go on after a callback with what *result* says of time-outs and of continuing."""
        self.running = None
        timeout = self.carried if result is None else result.timeout
        self.carried = None
        if result is not None and result.then is not None:
            self.then = Item("continue", f"{item.id}+", result.then)
            self.carried = timeout
        elif timeout == 0.0:
            self.idle_due = True
        elif timeout is not None:
            self.idle = self.now + timeout

    def leave(self, reason: str) -> None:
        """Leave the loop, and say goodbye unless it never began."""
        self.reason = reason
        self.running, self.idle, self.idle_due = None, math.inf, False
        if self.phase == "starting":
            self.phase = "dead"
            return
        self.phase = "ending"
        self.write("terminate", reason)
        self.goodbye_ends = self.now + self.goodbye.takes
        if self.goodbye.takes == 0:
            self.say_goodbye()

    def say_goodbye(self) -> None:
        result = self.goodbye.result
        self.bury(result if result in {"crash", "exit"} else self.reason)

    def bury(self, reason: str, *, killed: bool = False) -> None:
        self.phase, self.reason, self.ended_at = "dead", reason, self.now
        if self.last_call is not None and not killed:
            self.answer(self.last_call.id, "last")
        for slot in self.slots.values():
            slot.settle("gone", "gone", reason, self.now)
        self.queue.clear()
        for id_, outcome in self.stops.items():
            if outcome is None:
                fine = self.wanted[id_] == reason
                self.stops[id_] = ("ok" if fine else "gone", reason, self.now)

    # -- the clock

    def elapse(self, seconds: float) -> None:
        """Let time pass, and happen what is due; no two things are at the same instant."""
        goal = self.now + seconds
        while (due := self.next_event()) <= goal:
            self.now = due
            for slot in self.slots.values():
                if slot.deadline <= due:
                    slot.give_up("timeout", due)
            if self.phase == "dead":
                continue
            running = self.running
            if self.kill_at <= due:
                self.bury("killed", killed=True)
            elif self.phase == "ending":
                if self.goodbye_ends <= due:
                    self.say_goodbye()
            elif self.interrupt_at <= due:
                self.leave(self.stop_reason)
            elif running is not None and running.ends_at <= due:
                self.finish(running)
                self.work()
            elif self.idle <= due:
                self.idle, self.idle_due = math.inf, True
                self.work()
        self.now = goal if goal < math.inf else self.now

    def next_event(self) -> float:
        events = [slot.deadline for slot in self.slots.values() if slot.outcome is None]
        if self.alive:
            events.append(self.kill_at)
        if self.phase == "running":
            events += [self.interrupt_at, self.idle]
            if self.running is not None:
                events.append(self.running.ends_at)
        if self.phase == "ending":
            events.append(self.goodbye_ends)
        return min((event for event in events if event < math.inf), default=math.nan)
