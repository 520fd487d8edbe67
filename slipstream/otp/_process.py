"""The shell of every process: its scopes, its end, and what others may ask of it.

From outside to inside: ``kill_scope``, shielded, which only being killed cancels; a nursery for
helpers and for children; ``main_scope`` round ``init`` and the loop, which being interrupted or a
helper's crash cancels. ``terminate`` runs between the two. What a process ends with comes from what
was asked of it, then from the exception that left it; never from having been cancelled.
"""

import enum
import inspect
import math
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, Protocol, cast

import trio
from trio.lowlevel import Task, disable_ki_protection, enable_ki_protection

from slipstream.errors import BadReturnError, WrongTaskError
from slipstream.reasons import (
    KILLED,
    NOPROC,
    SHUTDOWN,
    Crashed,
    ExitReason,
)

from ._calls import Caller
from ._child_spec import ChildSpec, Start
from ._exits import fatal_of, normalise, without
from ._mailbox import Mailbox, Tick, Timer
from ._ref import ServerRef, Target
from ._reports import SupervisorReport, report_supervisor
from ._results import Down, Exit, Ignore, StopCause
from ._timers import Alarm
from ._tree import Tree
from ._waits import OWNERS, Host, Signal, wait_for

__all__ = ["Monitor", "Parent", "Phase", "Process", "call_user"]


class Phase(enum.Enum):
    """How far a process has come."""

    STARTING = "starting"
    RUNNING = "running"
    ENDING = "ending"
    DEAD = "dead"


class Parent(Protocol):
    """Who started a process and is told of its end."""

    def child_ended(self, process: "Process") -> None:
        """Take note that *process* has ended; must not block or raise."""
        ...

    def child_started(self, process: "Process") -> None:
        """Take note that *process* has started; must not block or raise."""
        ...


class Monitor:
    """What ``monitor`` gave: it tells the watcher of one process's end, once."""

    __slots__ = ("ref", "target", "watcher")

    def __init__(self, watcher: "Process", ref: ServerRef) -> None:
        self.watcher = watcher
        self.ref = ref
        self.target: Process | None = None

    def tell(self, reason: ExitReason) -> None:
        """Tell the watcher that the process has ended, for *reason*."""
        self.target = None
        self.watcher.watching.discard(self)
        if self.watcher.phase is not Phase.DEAD:
            self.watcher.mailbox.append(Down(self, self.ref, reason))

    def drop(self) -> None:
        """Have nobody told."""
        if self.target is not None:
            self.target.monitors.pop(self, None)
            self.target = None
        self.watcher.watching.discard(self)


@disable_ki_protection
async def call_user(function: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    """Call a function of the user's, where Ctrl-C may strike."""
    return await function(*args)


class Process(Host):
    """One incarnation of a process. Also the target of references that are pinned to it.

    Attributes:
        spec: how it was specified.
        server: the instance of the user's class, once it is made.
        started: fires when ``init`` is done, or has failed.
        done: fires when the process has ended.
        slots: the calls that it owes an answer.
    """

    __slots__ = (
        "_alarms",
        "_grace",
        "address",
        "crash",
        "done",
        "dropped",
        "exit_reason",
        "handled",
        "helper_error",
        "ignored",
        "kill_scope",
        "mailbox",
        "main_scope",
        "monitors",
        "parent",
        "phase",
        "server",
        "slots",
        "spec",
        "start_cause",
        "started",
        "stop_cause",
        "stop_reason",
        "stopping",
        "task",
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
        self.parent = parent
        self.address: Target = self if address is None else address
        self.server: Any = None
        self.task: Task | None = None
        self.mailbox = Mailbox()
        self.slots: set[Caller] = set()
        self.monitors: dict[Monitor, None] = {}
        self.watching: set[Monitor] = set()
        self._alarms: set[Alarm] = set()
        self._grace: Alarm | None = None
        self.kill_scope = trio.CancelScope(shield=True)
        self.main_scope = trio.CancelScope()
        self.phase = Phase.STARTING
        self.was_started = False
        self.ignored = False
        self.started = Signal()
        self.done = Signal()
        self.stopping = False
        self.stop_reason: ExitReason = SHUTDOWN
        self.stop_cause: StopCause | None = None
        self.exit_reason: ExitReason | None = None
        self.start_cause: BaseException | None = None
        self.crash: BaseException | None = None
        self.helper_error: BaseException | None = None
        self.handled = 0
        self.dropped = 0
        if spec.name is not None:
            tree.register(spec.name, self)

    # -- as a target of references

    @property
    def label(self) -> str:
        """What reports call it."""
        return self.spec.label

    @property
    def name(self) -> str | None:
        """Its name in the tree."""
        return self.spec.name

    def live(self) -> "Process | None":
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
    def killed(self) -> bool:
        """Whether it has been killed, or has used up its time to stop."""
        return self.kill_scope.cancel_called

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
            self.main_scope.deadline = now + interrupt
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
        self.kill_scope.cancel()
        self.kill_children()

    def children(self) -> list["Process"]:
        """Give the processes that run in its nursery, in the order of their start."""
        return []

    def kill_children(self) -> None:
        """Kill whatever runs below it."""
        for child in self.children():
            child.kill("failed")

    def _die_by(self, deadline: float) -> None:
        if deadline < self.kill_scope.deadline:
            self.kill_scope.deadline = deadline
            if self._grace is not None:
                self._grace.cancel()
            self._grace = self.timers.at(deadline + self.spec.kill_grace, self._refuses_to_die)

    def _refuses_to_die(self) -> None:
        stack = ""
        if self.task is not None:
            stack = "".join(
                f"\n    {frame.f_code.co_name} ({frame.f_code.co_filename}:{line})"
                for frame, line in self.task.iter_await_frames()
            )
        report_supervisor(
            SupervisorReport(str(self.parent), "killing", None, {"id": self.spec.id}),
            f"{self.label} refuses to die: killed {self.spec.kill_grace:g} s ago, it still runs "
            f"in task {self.task.name if self.task else '?'!r}{stack}",
        )

    def monitor(self, monitor: Monitor) -> None:
        """Have *monitor* told of the end."""
        monitor.target = self
        self.monitors[monitor] = None
        monitor.watcher.watching.add(monitor)

    def start_timer(self, seconds: float, message: Any, *, repeat: bool) -> Timer:
        """Put *message* into the mailbox in *seconds*; with *repeat* again and again."""
        timer = Timer(None)
        tick = Tick(message)
        due = trio.current_time() + seconds

        def ring() -> None:
            nonlocal due
            self._alarms.discard(alarms.pop())
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
            self._alarms.add(alarm)
            timer.set_alarm(alarm)

        alarms: list[Alarm] = []
        set_off()
        return timer

    # -- its life

    @enable_ki_protection
    async def run(self) -> None:
        """Live. Never raises: whatever leaves the process becomes its exit reason."""
        self.task = trio.lowlevel.current_task()
        OWNERS[self.task] = self
        verdict: ExitReason | None = None
        error: BaseException | None = None
        try:
            with self.kill_scope:
                async with trio.open_nursery() as nursery:
                    self.nursery = nursery
                    try:
                        verdict = await self._live_and_end()
                    finally:
                        # Children are shielded: nobody else would end them.
                        self.kill_children()
                        nursery.cancel_scope.cancel()
        except BaseException as exc:  # noqa: BLE001 - boundary: the process wrapper
            error = exc
        del OWNERS[self.task]
        self._bury(verdict, error)

    async def _live_and_end(self) -> ExitReason:
        reason = await self._live()
        self.halt = None  # waits work again
        self.phase = Phase.ENDING
        if not self.killed and self.was_started:
            try:
                await self.finish(reason)
            except BaseException as exc:
                if self.killed:
                    raise
                reason = self.judge(exc)
        if self.killed:
            await trio.lowlevel.checkpoint_if_cancelled()
        await self.wind_up()
        if self.helper_error is not None and not reason.abnormal:
            reason = self.judge(self.helper_error)
        return reason

    async def _live(self) -> ExitReason:
        try:
            with self.main_scope:
                reason = await self.serve()
                if self.helper_error is None:
                    return reason
        except BaseException as exc:
            if self.killed:
                raise  # for kill_scope, which takes out its own cancellation
            return self.judge(exc)
        if self.helper_error is not None:
            error, self.helper_error = self.helper_error, None
            return self.judge(error)
        return self.stop_reason

    async def serve(self) -> ExitReason:
        """Start, call :meth:`mark_started`, run, and give the exit reason."""
        raise NotImplementedError

    async def finish(self, reason: ExitReason) -> None:
        """Say goodbye: the user's ``terminate``."""

    async def wind_up(self) -> None:
        """Stop the children, last first."""

    def mark_started(self) -> None:
        """Tell whoever started it that it has started."""
        self.phase = Phase.RUNNING
        self.was_started = True
        self.parent.child_started(self)
        self.started.fire()

    async def make(self) -> Start | None:
        """Find out what to start, and make the instance; ``None`` if it is to be ignored."""
        start = self.spec.start
        if not isinstance(start, Start):
            made: object = _call_starter(start)
            if inspect.isawaitable(made):
                made = await made
            if isinstance(made, Ignore):
                return None
            if not isinstance(made, Start) or not issubclass(made.cls, self.serves):
                raise BadReturnError(
                    f"the start function of child {self.label} gave {made!r}: it takes "
                    f"start_of(cls, *args), with a subclass of {self.serves.__name__}, or Ignore()",
                    value=made,
                )
            start = made
        self.server = start.cls()
        object.__setattr__(self.server, "_slipstream_process", self)
        return start

    def judge(self, error: BaseException) -> ExitReason:
        """Turn what left a callback into an exit reason; what is no error of it ends the tree."""
        simple = normalise(error)
        if isinstance(simple, Exit):
            return simple.reason
        fatal = fatal_of(simple)
        if fatal is not None:
            self.stop_cause = self.stop_cause or "cancelled"
            self.tree.abort(fatal)
            rest = without(simple, type(fatal), trio.Cancelled)
            if rest is None or not isinstance(rest, Exception):
                return SHUTDOWN
            simple = normalise(rest)
        if not isinstance(simple, Exception):
            # The shield keeps the cancellations of others out, and ours is not the cause.
            leak = RuntimeError(
                f"a trio.Cancelled that belongs to no scope of process {self.label} left a callback"
            )
            leak.__cause__ = simple
            simple = leak
        self.crash = error
        return Crashed(simple)

    # -- helpers

    def open_nursery(self) -> trio.Nursery:
        """Give the nursery for helpers and children.

        Raises:
            WrongTaskError: if the process has ended, or is about to have.
        """
        if self.nursery is None or self.nursery.cancel_scope.cancel_called:
            raise WrongTaskError(f"process {self.label} has ended: it can start nothing")
        return self.nursery

    def start_helper(self, function: Callable[..., Awaitable[Any]], args: tuple[Any, ...]) -> None:
        """Run a task that lives and dies with the process."""
        name = getattr(function, "__qualname__", repr(function))
        self.open_nursery().start_soon(self._help, function, args, name=f"{self.label}: {name}")

    @enable_ki_protection
    async def _help(self, function: Callable[..., Awaitable[Any]], args: tuple[Any, ...]) -> None:
        try:
            await call_user(function, *args)
        except BaseException as exc:
            if self.killed or self.nursery is None or self.nursery.cancel_scope.cancel_called:
                raise
            if self.stopping and isinstance(normalise(exc), Exit):
                return
            if self.helper_error is None:
                self.helper_error = exc
            self.main_scope.cancel()

    # -- its end

    @enable_ki_protection
    def _bury(self, verdict: ExitReason | None, error: BaseException | None) -> None:
        if error is not None:
            simple = normalise(error)
            reason = KILLED if isinstance(simple, Exit) and self.killed else self.judge(simple)
        elif verdict is not None:
            reason = verdict
        else:
            reason = KILLED
        self.exit_reason = reason
        if reason.abnormal and self.was_started and reason != KILLED:
            self.report(reason)
        self.phase = Phase.DEAD
        self.nursery = None
        for alarm in self._alarms:
            alarm.cancel()
        self._alarms.clear()
        if self._grace is not None:
            self._grace.cancel()
        if verdict is not None:
            self.settle_last_call()
        for slot in list(self.slots):
            slot.gone(self.slot_reason())
        if self.spec.name is not None:
            self.tree.unregister(self.spec.name, self)
        for monitor in list(self.watching):
            monitor.drop()
        for monitor in list(self.monitors):
            monitor.tell(reason)
        self.monitors.clear()
        self.mailbox.queue.clear()
        self.buried()
        self.parent.child_ended(self)
        self.started.fire()
        self.done.fire()

    def slot_reason(self) -> ExitReason:
        """Tell what the calls that it owes an answer are told."""
        return self.last_reason()

    def settle_last_call(self) -> None:
        """Answer the call that ended it, if it was one."""

    def report(self, reason: ExitReason) -> None:
        """Report a crash."""

    def is_loud(self, reason: ExitReason) -> bool:
        """Tell whether ending for *reason* is worth a report."""
        del reason
        return True

    def buried(self) -> None:
        """Do what else the end needs."""

    async def wait_done(self, process: "Process") -> None:
        """Wait until *process* has ended; being stopped does not interrupt it."""
        await wait_for(process.done, timers=self.timers, host=None)


def _call_starter(start: Callable[[], Any]) -> object:
    return start()
