"""What others may know and ask of a process: where it stands, to stop, to tell of its end."""

import enum
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

import trio
from trio.lowlevel import enable_ki_protection

from slipstream.reasons import (
    NOPROC,
    SHUTDOWN,
    Crashed,
    ExitReason,
)

from ._calls import Caller
from ._child_spec import ChildSpec, Start
from ._links import Links
from ._mailbox import Mailbox, Tick, Timer
from ._names import Name
from ._ref import ServerRef, Target
from ._reports import SupervisorReport, log_report, stack_of, state_of
from ._results import Down, Status, StopCause
from ._system import TraceFunction
from ._table import Table
from ._timers import Alarm
from ._tree import Tree
from ._waits import FIRED, Host, Signal

if TYPE_CHECKING:
    from ._children import Child

__all__ = ["Monitor", "Parent", "Phase", "Shell"]


class Phase(enum.Enum):
    """How far a process has come."""

    STARTING = "starting"
    RUNNING = "running"
    ENDING = "ending"
    DEAD = "dead"


class Parent(Protocol):
    """Who started a process and is told of its end.

    Attributes:
        slow_after: how many seconds a callback may run before it is reported, where the process
            does not say so itself.
    """

    slow_after: float

    @property
    def path(self) -> tuple[str, ...]:
        """What reports call it, after all that is above it."""
        ...

    def child_ended(self, process: "Shell") -> None:
        """Take note that *process* has ended; must not block or raise."""
        ...

    def child_started(self, process: "Shell") -> None:
        """Take note that *process* has started; must not block or raise."""
        ...


class Monitor:
    """What ``monitor`` gave: it tells the watcher of one process's end, once."""

    __slots__ = ("ref", "target", "watcher")

    def __init__(self, watcher: "Shell", ref: ServerRef) -> None:
        self.watcher = watcher
        self.ref = ref
        self.target: Shell | None = None

    def tell(self, reason: ExitReason) -> None:
        """Tell the watcher that the process has ended, for *reason*."""
        self.target = None
        self.watcher.watching.pop(self, None)
        if self.watcher.phase is not Phase.DEAD:
            self.watcher.mailbox.append(Down(self, self.ref, reason))

    def drop(self) -> None:
        """Have nobody told."""
        if self.target is not None:
            self.target.monitors.pop(self, None)
            self.target = None
        self.watcher.watching.pop(self, None)


class Shell(Host):
    """One incarnation of a process. Also the target of references that are pinned to it.

    Attributes:
        spec: how it was specified.
        server: the instance of the user's class, once it is made.
        started: fires when ``init`` is done, or has failed.
        slots: the calls that it owes an answer.
        scope: what cancels it: its life when it is interrupted or killed, then, another one, its
            end when it is killed. Shielded: nobody else does.
        helpers: its helper tasks, by their scopes.
        tables: the registries that it stands in, and its own if it is one.
        suspended: whether it handles nothing but system calls.
        tracer: what is told of all that it handles.
        slow_after: how many seconds a callback may run before it is reported.
        busy: the seconds that it has worked, up to when it last rested.
        since: since when it has worked; infinity while it rests.
        began: when the present callback began; infinity while it rests.
    """

    __slots__ = (
        "_alarms",
        "_die_at",
        "_done",
        "_grace",
        "_was_killed",
        "address",
        "began",
        "busy",
        "crash",
        "dropped",
        "exit_reason",
        "handled",
        "helper_error",
        "helpers",
        "helpers_over",
        "ignored",
        "links",
        "mailbox",
        "monitors",
        "parent",
        "phase",
        "scope",
        "server",
        "since",
        "slots",
        "slow_after",
        "spec",
        "start_cause",
        "started",
        "stop_cause",
        "stop_reason",
        "stopping",
        "suspended",
        "tables",
        "thread",
        "tracer",
        "tree",
        "was_started",
        "watching",
    )

    serves: ClassVar[type[Any]]

    def __init__(
        self, spec: ChildSpec, *, tree: Tree, parent: Parent, address: Target | None = None
    ) -> None:
        super().__init__(tree.timers)
        self.spec = spec
        self.tree = tree
        self.thread = tree.thread
        self.parent = parent
        self.address: Target = self if address is None else address
        self.server: Any = None
        self.mailbox = Mailbox()
        self.slots: dict[Caller, None] = {}
        self.monitors: dict[Monitor, None] = {}
        self.watching: dict[Monitor, None] = {}
        self.links: Links | None = None
        self._alarms: dict[Alarm, None] = {}
        self._grace: Alarm | None = None
        self._die_at = math.inf
        self._was_killed = False
        self.scope = trio.CancelScope(shield=True)
        self.phase = Phase.STARTING
        self.was_started = False
        self.ignored = False
        self.started = Signal()
        self._done: Signal | None = None
        self.stopping = False
        self.stop_reason: ExitReason = SHUTDOWN
        self.stop_cause: StopCause | None = None
        self.exit_reason: ExitReason | None = None
        self.start_cause: BaseException | None = None
        self.crash: BaseException | None = None
        self.helper_error: BaseException | None = None
        self.helpers: dict[trio.CancelScope, Signal] = {}
        self.helpers_over = False
        self.handled = 0
        self.dropped = 0
        self.tables: dict[Table, None] | None = None
        self.suspended = False
        self.tracer: TraceFunction | None = None
        self.slow_after = parent.slow_after if spec.slow_after is None else spec.slow_after
        self.busy = 0.0
        self.since = self.began = math.inf
        if spec.name is not None:
            tree.register(spec.name, self)

    # -- as a target of references

    @property
    def label(self) -> str:
        """What reports call it."""
        return self.spec.label

    @property
    def name(self) -> Name | None:
        """Its name in the tree."""
        return self.spec.name

    @property
    def path(self) -> tuple[str, ...]:
        """What reports call it, after all that is above it, from the root of the tree on."""
        return (*self.parent.path, self.label)

    @property
    def starts(self) -> int:
        """How often it has started: one incarnation, once."""
        return 1

    def live(self) -> "Shell | None":
        """Give itself while it lives."""
        return None if self.phase is Phase.DEAD else self

    def absence(self) -> ExitReason:
        """Tell why it does not."""
        return NOPROC

    def last_reason(self) -> ExitReason:
        """Tell how it ended."""
        return NOPROC if self.exit_reason is None else self.exit_reason

    def __str__(self) -> str:
        return self.label

    def cause_of_end(self) -> BaseException | None:
        """Give the exception that it ended with, if it was one."""
        reason = self.exit_reason
        return reason.exception if isinstance(reason, Crashed) else None

    def make_ref(self) -> Any:
        """Give a reference to its address, of the class that its own class wants."""
        return self.ref_class()(self.address)

    def ref_class(self) -> type[ServerRef]:
        """Give the class of references to it."""
        start = self.spec.start
        source: Any = start.cls if isinstance(start, Start) else self.server or self.serves
        return cast("type[ServerRef]", getattr(source, "ref_class", ServerRef))

    # -- what others ask of it

    @property
    def done(self) -> Signal:
        """What fires when the process has ended; made when somebody first waits for it."""
        if self._done is None:
            self._done = FIRED if self.phase is Phase.DEAD else Signal()
        return self._done

    @property
    def is_starting(self) -> bool:
        """Whether its ``init`` is not done yet."""
        return self.phase is Phase.STARTING

    @property
    def killed(self) -> bool:
        """Whether it has been killed, or has used up its time to stop."""
        return self._was_killed or self._die_at <= trio.current_time()

    @enable_ki_protection
    def shut_down(
        self,
        reason: ExitReason,
        cause: StopCause,
        *,
        within: float | None = None,
        forgive_brutal: bool = False,
    ) -> None:
        """Ask it to stop for *reason*, in the time that its specification gives it, or *within*.

        A second request can only shorten the time.
        """
        if self.phase is Phase.DEAD:
            return
        seconds = self.spec.shutdown if within is None else within
        if seconds == "brutal_kill":
            if not forgive_brutal:
                self.kill(cause)
                return
            seconds = math.inf
        now = trio.current_time()
        self._die_by(now + seconds)
        if self.stopping or self.phase is Phase.ENDING:
            return
        self.stopping = True
        self.stop_reason = reason
        self.stop_cause = cause
        if self.phase is Phase.STARTING:
            self.stop_starting()
        else:
            interrupt = self.spec.interrupt_after
            if interrupt is None:
                interrupt = self.spec.interrupt_seconds if within is None else seconds / 2
            self.scope.deadline = min(self.scope.deadline, now + interrupt)
            self.stop_running()
            self.interrupt_waits(reason)
            self.mailbox.wake()

    def stop_starting(self) -> None:
        """Stop while starting: there is nothing to terminate yet."""
        self.kill()

    def stop_running(self) -> None:
        """Do what else a request to stop needs."""

    @enable_ki_protection
    def kill(self, cause: StopCause | None = None) -> None:
        """End it now, as far as that is possible, and all below it; ``terminate`` does not run."""
        if self.phase is Phase.DEAD:
            return
        self.stopping = True
        self.stop_cause = self.stop_cause or cause
        self._die_by(trio.current_time())
        self._was_killed = True
        self.scope.cancel()
        for scope in list(self.helpers):
            scope.cancel()
        self.kill_children()

    def children(self) -> list["Shell"]:
        """Give the processes that run below it, in the order of their start."""
        return []

    def kill_children(self) -> None:
        """Kill whatever runs below it."""
        for child in self.children():
            child.kill("failed")

    def _die_by(self, deadline: float) -> None:
        if deadline < self._die_at:
            self._die_at = deadline
            for scope in (self.scope, *self.helpers):
                scope.deadline = min(scope.deadline, deadline)
            if self._grace is not None:
                self._grace.cancel()
            self._grace = self.timers.at(deadline + self.spec.kill_grace, self._refuses_to_die)

    def _refuses_to_die(self) -> None:
        task = self.task
        where = "?" if task is None else "\n    ".join([repr(task.name), *stack_of(task)])
        text = (
            f"{self.label} refuses to die: killed {self.spec.kill_grace:g} s ago, it still runs "
            f"in task {where}"
        )
        offender = {"id": self.spec.id}
        log_report(
            SupervisorReport(str(self.parent), self.parent.path, "killing", None, offender, text)
        )

    # -- how it works

    def work(self) -> float:
        """Take note that it works from now on, and give the time."""
        self.since = self.began = now = trio.current_time()
        return now

    def rest(self, now: float) -> None:
        """Take note that it has nothing to do since *now*."""
        self.busy += max(0.0, now - self.since)
        self.since = self.began = math.inf

    def busy_seconds(self) -> float:
        """Tell how long it has worked."""
        return self.busy + max(0.0, trio.current_time() - self.since)

    def instance(self) -> Any:
        """Give the object whose attributes are its state."""
        return self.server

    def status(self, reason: ExitReason | None) -> Status:
        """Describe it, as far as its user wants that; *reason* is why it has ended, if it has."""
        return Status(state=state_of(self.instance()), message=None, reason=reason)

    def below(self) -> "Sequence[Shell | Child]":
        """Give what its part of the tree shows below it, in the order of the start."""
        return self.children()

    def monitor(self, monitor: Monitor) -> None:
        """Have *monitor* told of the end."""
        monitor.target = self
        self.monitors[monitor] = None
        monitor.watcher.watching[monitor] = None

    def exit_signal(self, ref: ServerRef, reason: ExitReason, cause: StopCause) -> None:
        """Hear that the linked process that *ref* leads to has ended; must not block or raise.

        A supervisor takes no note: it ends when its own children, or whoever started it, say so.
        """

    def start_timer(self, seconds: float, message: Any, *, repeat: bool) -> Timer:
        """Put *message* into the mailbox in *seconds*; with *repeat* again and again."""
        timer = Timer(None)
        tick = Tick(message)
        due = trio.current_time() + seconds

        def ring() -> None:
            nonlocal due
            self._alarms.pop(alarms.pop(), None)
            if not repeat:
                self.mailbox.append(message)
                return
            if not tick.waiting:  # a process that lags behind gets one tick, not all of them
                tick.waiting = True
                self.mailbox.append(tick)
            due = max(due + seconds, trio.current_time())
            set_off()

        def set_off() -> None:
            alarm = self.timers.at(due, ring)
            alarms.append(alarm)
            self._alarms[alarm] = None
            timer.set_alarm(alarm)

        alarms: list[Alarm] = []
        set_off()
        return timer

    def is_loud(self, reason: ExitReason) -> bool:
        """Tell whether ending for *reason* is worth a report."""
        del reason
        return True
