"""What runs a supervisor: one task, one queue; starts, restarts and stops go through it in turn."""

import inspect
import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import trio

from slipstream.errors import (
    AlreadyPresentError,
    AlreadyStartedError,
    BadReturnError,
    ChildRestartingError,
    ChildRunningError,
    SlipstreamError,
    StartError,
    SupervisorGaveUpError,
)
from slipstream.reasons import (
    NOPROC,
    NORMAL,
    SHUTDOWN,
    Crashed,
    ExitReason,
    Shutdown,
)

from ._calls import Caller, SystemCall
from ._child_spec import ChildSpec
from ._children import (
    Child,
    Flags,
    check_children,
    check_significant,
    flags_of,
    is_restart_due,
)
from ._intensity import Intensity
from ._keeper import Keeper
from ._process import call_user
from ._ref import ServerRef
from ._reports import SupervisorReport, explain, join_path, log_report, logger, show
from ._results import FailedToStart, Ignore, StopCause, check_duration
from ._shell import Shell
from ._signatures import fit_arguments
from ._system import obey, traced
from ._telemetry import child_event

if TYPE_CHECKING:
    from ._supervisor import Supervisor

__all__ = ["Operation", "SupervisorProcess"]

BURST: Final = 64


class _Ended:
    """That an incarnation of a child has ended by itself."""

    __slots__ = ("child", "process")

    def __init__(self, child: Child, process: Shell) -> None:
        self.child = child
        self.process = process


class _TryAgain:
    """That the restart of a child is to be tried (again)."""

    __slots__ = ("child", "counted", "reason", "ticket")

    def __init__(self, child: Child, reason: ExitReason, *, counted: bool) -> None:
        self.child = child
        self.ticket = child.ticket
        self.reason = reason
        self.counted = counted


class Operation:
    """A request of a caller: a method of the supervisor process and its argument."""

    __slots__ = ("argument", "method")

    def __init__(self, method: "Method", argument: Any) -> None:
        self.method = method
        self.argument = argument

    def __repr__(self) -> str:
        return f"{self.method.__name__}({self.argument!r})"


def _described(item: Any) -> tuple[str, Any]:
    """Tell what a supervisor does about *item*, and to what."""
    match item:
        case _Ended():
            return "child_ended", item.child.label
        case _TryAgain():
            return "try_again", item.child.label
        case Caller(request=Operation()):
            return item.request.method.__name__, item.request.argument
        case _:
            return "drop", item


Method: TypeAlias = Callable[["SupervisorProcess", Any], Any]


class SupervisorProcess(Keeper):
    """A supervisor at work."""

    __slots__ = ("_auto_shut", "_intensity", "_loading", "flags", "gave_up")

    server: "Supervisor"

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.flags = Flags()
        self._intensity = Intensity(0, 1.0)
        self._loading = False
        self._auto_shut = False
        self.gave_up: SupervisorGaveUpError | None = None

    # -- its life

    async def serve(self) -> ExitReason:
        self.work()
        specs = await self._load()
        if specs is None:
            self.ignored = True
            return NORMAL
        for spec in specs:
            self.kids[spec.id] = Child(spec, thread=self.thread)
        for child in list(self.kids.values()):
            try:
                await self._start(child)
            except StartError as error:
                self.start_cause = error.__cause__ if error.__cause__ is not None else error
                return Shutdown(FailedToStart(child.spec.id, error.reason))
            if child.process is None and child.spec.restart == "temporary":
                self._forget(child)
        self.mark_started()
        return await self._loop()

    async def _load(self) -> list[ChildSpec] | None:
        """Have the user's ``init`` tell the children, and check everything before any start."""
        self._loading = True
        start = await self.make()
        if start is None:
            return None
        self.flags = flags_of({**self.server.options(), **start.options})
        self._intensity = Intensity(self.flags.max_restarts, self.flags.max_seconds)
        init = self.server.init
        children: Any = await call_user(init, *fit_arguments(init, start.args))
        self._loading = False
        if isinstance(children, Ignore):
            return None
        if not isinstance(cast("object", children), Iterable) or isinstance(children, str | bytes):
            what = f"{children!r}"
            if inspect.iscoroutine(children):
                what = f"the coroutine {children.__qualname__}: did you forget await?"
                children.close()
            raise BadReturnError(
                f"{type(self.server).__qualname__}.init returned {what} "
                "(it takes a list of children, or Ignore)",
                value=children,
            )
        specs = [ChildSpec.of(child) for child in children]
        check_children(specs, self.flags)
        return specs

    async def _loop(self) -> ExitReason:
        queue = self.mailbox.queue
        room = BURST
        while not self.stopping:
            if not queue:
                self.rest(trio.current_time())
                await self.mailbox.park()
                self.work()
                room = BURST
                continue
            item = queue.popleft()
            if item.__class__ is SystemCall:
                await obey(self, item)
            elif self.tracer is None:
                await self._handle(item)
            else:
                await traced(self, *_described(item), self._handle(item))
            if self.gave_up is not None or self._auto_shut:
                return SHUTDOWN
            room -= 1
            if room <= 0:
                await trio.lowlevel.checkpoint()
                room = BURST
        return self.stop_reason

    async def _handle(self, item: Any) -> None:
        self.handled += 1
        match item:
            case _Ended():
                await self._child_ended(item.child, item.process)
            case _TryAgain():
                await self._try_again(item)
            case Caller(request=Operation()):
                await self._operate(item)
            case _:
                logger.error("supervisor %s drops an unexpected message: %s", self, show(item))

    def stop_starting(self) -> None:
        """Stop while children start: those that have started are stopped in order."""
        self.interrupt_waits(self.stop_reason)
        if self._loading:
            self.main_scope.cancel()

    async def wind_up(self, reason: ExitReason) -> None:
        """Stop the children, last first."""
        del reason
        for slot in list(self.slots):
            slot.gone(NOPROC)
        for child in self.kids.values():
            child.settle()
        cause: StopCause = self.stop_cause or ("asked" if self._auto_shut else "failed")
        for child in reversed(list(self.kids.values())):
            await self._stop(child, cause)

    def slot_reason(self) -> ExitReason:
        return NOPROC

    def report(self, reason: ExitReason) -> None:
        text = f"crashed: {explain(reason)}"
        report = SupervisorReport(self.label, self.path, "crash", reason, {}, text)
        log_report(report, error=self.crash)

    def cause_of_end(self) -> BaseException | None:
        return self.gave_up or super().cause_of_end()

    # -- the end of a child

    def ended_by_itself(self, child: Child, process: Shell) -> None:
        child.restarting = self._is_due(child, child.last)
        now = trio.current_time()
        if child.started_at is not None and now - child.started_at >= self.flags.max_seconds:
            child.restarts = 0
        self.mailbox.append(_Ended(child, process))

    def _is_due(self, child: Child, reason: ExitReason) -> bool:
        return (
            is_restart_due(child.spec.restart, reason)
            and not self.stopping
            and self.tree.fatal is None
        )

    async def _child_ended(self, child: Child, process: Shell) -> None:
        if child.process is not process:
            return  # of an incarnation that has been replaced, or stopped by this supervisor
        child.process = None
        reason = process.last_reason()
        child_event("stop", self.label, child.spec.id, reason)
        if self._is_due(child, reason):
            await self._restart(child, reason, loud=process.is_loud(reason))
            return
        child.settle()
        if reason.abnormal and process.is_loud(reason):
            text = f"child {child.label} ended: {explain(reason)}"
            self._report("child_terminated", child, reason, text)
        if child.spec.restart == "temporary":
            self._forget(child)
        if child.spec.significant and self.tree.fatal is None:
            self._auto_shut = self._is_over()

    def _is_over(self) -> bool:
        match self.flags.auto_shutdown:
            case "never":
                return False
            case "any_significant":
                return True
            case "all_significant":
                return not any(
                    kid.spec.significant and (kid.live() is not None or kid.restarting)
                    for kid in self.kids.values()
                )

    # -- restarts

    async def _restart(self, child: Child, reason: ExitReason, *, loud: bool) -> None:
        """Restart *child* now, or have it restarted later."""
        delay = self._delay(child, reason)
        child.restarting = True
        if delay is not None:
            self._later(child, reason, delay)
            return
        if loud:
            self._report(
                "child_terminated",
                child,
                reason,
                f"child {child.label} ended and is restarted: {explain(reason)}",
                level=logging.ERROR if reason.abnormal else logging.INFO,
            )
        await self._attempt(child, reason, counted=True)

    def _delay(self, child: Child, reason: ExitReason) -> float | None:
        """Ask the child's back-off; ``None`` if the restart counts and happens at once."""
        restarts = child.restarts
        child.restarts += 1
        if child.spec.backoff is None:
            return None
        delay: object = child.spec.backoff(reason, restarts)
        if delay is None:
            return None
        return check_duration(f"the delay that backoff of child {child.label} gave", delay)

    def _later(self, child: Child, reason: ExitReason, delay: float) -> None:
        item = _TryAgain(child, reason, counted=False)

        def ring() -> None:
            child.alarm = None
            self.mailbox.append(item)

        child.alarm = self.timers.at(trio.current_time() + delay, ring)

    async def _try_again(self, item: _TryAgain) -> None:
        if item.ticket == item.child.ticket and self.tree.fatal is None:
            await self._attempt(item.child, item.reason, counted=item.counted)

    async def _attempt(self, child: Child, reason: ExitReason, *, counted: bool) -> None:
        """Restart *child* and whom the strategy says; a failure is retried, through the queue."""
        if counted and not self._intensity.allow(trio.current_time()):
            self._give_up(child, reason)
            return
        child_event("restart", self.label, child.spec.id, reason)
        failed = await self._restart_group(child)
        if failed is None:
            return
        kid, error = failed
        kid.cause = error.__cause__ or error
        delay = self._delay(kid, error.reason)
        kid.restarting = True
        if delay is not None:
            self._later(kid, error.reason, delay)
            return
        text = f"child {kid.label} did not start again, which is retried"
        self._report("start_error", kid, error.reason, text, error=error)
        self.mailbox.append(_TryAgain(kid, error.reason, counted=True))

    async def _restart_group(self, child: Child) -> tuple[Child, StartError] | None:
        """Stop and start the children that go with *child*; give the one that did not start."""
        group = list(self.kids.values())
        match self.flags.strategy:
            case "one_for_one":
                group = [child]
            case "one_for_all":
                pass
            case "rest_for_one":
                group = group[group.index(child) :]
        for kid in group:
            if kid is not child:
                kid.settle()
                kid.awaited = True
        for kid in reversed(group):
            await self._stop(kid, "failed")
            if kid.spec.restart == "temporary":
                self._forget(kid)
        for kid in group:
            if not kid.gone:
                try:
                    await self._start(kid)
                except StartError as error:
                    return kid, error
        return None

    def _give_up(self, child: Child, reason: ExitReason) -> None:
        flags, restarts, seconds = self.flags, self._intensity.count - 1, self._intensity.span
        why = explain(reason if child.cause is None else Crashed(child.cause))
        story = (
            f"gave up: child {child.label} failed once more ({why}), after {restarts} restarts in "
            f"the last {seconds:.3g} s; allowed are max_restarts={flags.max_restarts} within "
            f"max_seconds={flags.max_seconds:g}"
        )
        self.gave_up = SupervisorGaveUpError(
            f"supervisor {join_path(self.path)} {story}",
            child=child.spec.id,
            reason=reason,
            restarts=restarts,
            seconds=seconds,
        )
        self.gave_up.__cause__ = child.cause
        child.settle()
        self._report("shutdown", child, "reached_max_restart_intensity", story)

    # -- requests

    async def _operate(self, caller: Caller) -> None:
        operation: Operation = caller.request
        try:
            result = await operation.method(self, operation.argument)
        except SlipstreamError as error:
            caller.fail(error)
        else:
            caller.reply(result)

    async def start_child(self, spec: ChildSpec) -> ServerRef | None:
        """Start a new child, the last in the order."""
        check_significant(spec, self.flags)
        known = self.kids.get(spec.id)
        if known is not None:
            if known.live() is None:
                raise AlreadyPresentError(spec.id)
            message = f"child {spec.id!r} runs already"
            raise AlreadyStartedError(message, reason=NORMAL, ref=known.ref)
        child = self.kids[spec.id] = Child(spec, thread=self.thread)
        try:
            await self._start(child)
        except StartError:
            self._forget(child)
            raise
        return self._started(child)

    def _started(self, child: Child) -> ServerRef | None:
        if child.process is not None:
            return child.ref
        if child.spec.restart == "temporary":
            self._forget(child)
        return None

    async def terminate_child(self, id: object) -> None:  # noqa: A002 - OTP's word
        """Stop a child; its specification stays, unless it is temporary."""
        child = self.find(id)
        child.settle()
        await self._stop(child, "asked")
        if child.spec.restart == "temporary":
            self._forget(child)

    async def restart_child(self, id: object) -> ServerRef | None:  # noqa: A002 - OTP's word
        """Start a child that does not run."""
        child = self._find_down(id)
        await self._start(child)
        return self._started(child)

    async def delete_child(self, id: object) -> None:  # noqa: A002 - OTP's word
        """Forget a child that does not run."""
        self._forget(self._find_down(id))

    def _find_down(self, id: object) -> Child:  # noqa: A002 - OTP's word
        child = self.find(id)
        if child.live() is not None:
            raise ChildRunningError(id)
        if child.restarting:
            raise ChildRestartingError(id)
        return child
