"""What every supervisor does: a queue, restarts and their limit, requests; one after the other."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

import trio

from slipstream.errors import SlipstreamError, StartError, SupervisorGaveUpError
from slipstream.reasons import NOPROC, NORMAL, SHUTDOWN, Crashed, ExitReason

from ._calls import Caller, SystemCall
from ._child_spec import ChildSpec, Start
from ._children import Child, Flags, is_restart_due
from ._intensity import Intensity
from ._keeper import Keeper
from ._process import call_user
from ._ref import ServerRef
from ._reports import SupervisorReport, explain, join_path, log_report, logger, show
from ._results import Ignore, StopCause, check_duration
from ._shell import Shell
from ._signatures import fit_arguments
from ._system import obey, traced
from ._telemetry import child_event

__all__ = ["Method", "Operation", "Overseer"]

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


Method: TypeAlias = Callable[[Any, Any], Awaitable[Any]]


class Overseer(Keeper):
    """A supervisor at work. Which children it has, and which go together, is up to its subclasses.

    Attributes:
        flags: its options.
        ending: why it ends, once it does so of its own accord.
        gave_up: the error that tells that there were too many restarts, once there were.
    """

    __slots__ = ("_intensity", "_loading", "ending", "flags", "gave_up")

    flags: Flags

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.flags = Flags()
        self._intensity = Intensity(0, 1.0)
        self._loading = False
        self.ending: StopCause | None = None
        self.gave_up: SupervisorGaveUpError | None = None

    # -- its life

    async def start(self) -> ExitReason | None:
        self.work()
        self._loading = True
        start = await self.make()
        result: Any = Ignore()
        if start is not None:
            init = self.server.init
            result = await call_user(init, *fit_arguments(init, start.args))
        self._loading = False
        if start is None or isinstance(result, Ignore):
            self.ignored = True
            return NORMAL
        reason = await self.begin(start, result)
        if reason is None:
            self.mark_started()
        return reason

    async def begin(self, start: Start, result: Any) -> ExitReason | None:
        """Start with what ``init`` gave; give the exit reason if that came to nothing."""
        raise NotImplementedError

    def set_flags(self, flags: Flags) -> None:
        """Go by *flags* from here on."""
        self.flags = flags
        self._intensity = Intensity(flags.max_restarts, flags.max_seconds)

    async def serve(self) -> ExitReason:
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
            if self.ending is not None:
                return SHUTDOWN
            del item  # it would keep what it asks for, and its arguments, while the queue is empty
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
            self.scope.cancel()

    async def wind_up(self, reason: ExitReason) -> None:
        """Stop the children."""
        del reason
        for slot in list(self.slots):
            slot.gone(NOPROC)
        for child in self.kids.values():
            child.settle()
        await self.stop_all(self.stop_cause or self.ending or "failed")

    async def stop_all(self, cause: StopCause) -> None:
        """Stop every child."""
        raise NotImplementedError

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
        child_event("stop", self, child.spec.id, reason)
        if self._is_due(child, reason):
            await self._restart(child, reason, loud=process.is_loud(reason))
            return
        child.settle()
        if reason.abnormal and process.is_loud(reason):
            text = f"child {child.label} ended: {explain(reason)}"
            self._report("child_terminated", child, reason, text)
        self.drop_if_down(child)
        self.child_over(child)

    def keeps(self, child: Child) -> bool:
        """Tell whether *child* is kept while it does not run, and is not to be restarted."""
        raise NotImplementedError

    def drop_if_down(self, child: Child) -> None:
        """Forget *child*, if there is no process of it and it is not kept without."""
        if child.process is None and not self.keeps(child):
            self._forget(child)

    def child_over(self, child: Child) -> None:
        """Take note that *child* has ended by itself, and is not restarted."""

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
        child_event("restart", self, child.spec.id, reason)
        failed = await self.start_again(child)
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

    async def start_again(self, child: Child) -> tuple[Child, StartError] | None:
        """Restart *child* and those that go with it; give the one that did not start."""
        try:
            await self._start(child)
        except StartError as error:
            return child, error
        self.drop_if_down(child)
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
        self.ending = "failed"
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
        """Start a new child."""
        child = self.admit(spec)
        try:
            await self._start(child)
        except StartError:
            self._forget(child)
            raise
        return self.started_child(child)

    def admit(self, spec: ChildSpec) -> Child:
        """Take in a new child, which is not started yet.

        Raises:
            SlipstreamError: if it may not be taken in.
        """
        raise NotImplementedError

    def started_child(self, child: Child) -> ServerRef | None:
        """Give what whoever asked for the start of *child* gets."""
        self.drop_if_down(child)
        return None if child.process is None else child.ref

    async def terminate_child(self, id: object) -> None:  # noqa: A002 - OTP's word
        """Stop a child, or cancel its restart."""
        child = self.find(id)
        child.settle()
        await self._stop(child, "asked")
        self.drop_if_down(child)
