"""The life of every process, from its start to its end.

It has two scopes, one after the other, both shielded. The first, round ``init`` and the loop, is
cancelled by being interrupted, by a helper's crash, or by being killed; the second, round
``terminate`` and the stop of what is below, by being killed alone. Helpers and children run in the
nursery of the supervisor above, beside the process, and it waits for them before it ends: a nursery
for each process would double what it costs to start one. What a process ends with comes from what
was asked of it, then from the exception that left it; never from having been cancelled.
"""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import trio
from trio.lowlevel import disable_ki_protection, enable_ki_protection

from slipstream.errors import BadReturnError, WrongTaskError
from slipstream.reasons import (
    KILLED,
    SHUTDOWN,
    Crashed,
    ExitReason,
)

from ._child_spec import Start
from ._exits import fatal_of, normalise, without
from ._links import tell_links
from ._results import Exit, Ignore
from ._shell import Phase, Shell
from ._waits import FIRED, OWNERS, Signal, blocked_on, wait_for

__all__ = ["Process", "call_user"]


@disable_ki_protection
async def call_user(function: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    """Call a function of the user's, where Ctrl-C may strike."""
    return await function(*args)


class Process(Shell):
    """A process at work; what it does is up to its subclasses."""

    __slots__ = ()

    # -- its life

    @enable_ki_protection
    async def run(self) -> None:
        """Live. Never raises: whatever leaves the process becomes its exit reason."""
        task = self.task = trio.lowlevel.current_task()
        OWNERS[task] = self
        verdict: ExitReason | None = None
        error: BaseException | None = None
        try:
            reason = await self._live()
            if reason is not None:
                self.scope = trio.CancelScope(shield=True, deadline=self._die_at)
                with self.scope:
                    verdict = await self._end(reason)
        except BaseException as exc:  # noqa: BLE001 - boundary: the process wrapper
            error = exc
        if self.helpers or self.children():
            await self._clear_out()
        if self.helper_error is not None:
            error = self.helper_error if error is None else _both(error, self.helper_error)
        del OWNERS[task]
        self._bury(verdict, error)

    async def _live(self) -> ExitReason | None:
        """Start and serve; give the reason to end for, ``None`` if the process has been killed."""
        try:
            with self.scope:
                if self._was_killed:  # before it ran: init must not even begin
                    await trio.lowlevel.checkpoint_if_cancelled()
                reason = await self.start()
                if reason is None:
                    reason = await self.serve()
                if self.helper_error is None:
                    return reason
        except BaseException as exc:
            if self.killed:
                raise
            return self.judge(exc)
        if self.killed:
            return None
        if self.helper_error is not None:
            error, self.helper_error = self.helper_error, None
            return self.judge(error)
        return self.stop_reason

    async def _end(self, reason: ExitReason) -> ExitReason:
        self.halt = None  # waits work again
        self.phase = Phase.ENDING
        if self.was_started and not self.killed:
            try:
                await self.finish(reason)
            except BaseException as exc:
                if self.killed:
                    raise
                reason = self.judge(exc)
        if self.killed:
            await trio.lowlevel.checkpoint_if_cancelled()
        self._end_helpers()  # before the children: their end, which is due, is no error of a helper
        await self.wind_up(reason)
        return reason

    def _end_helpers(self) -> None:
        self.helpers_over = True
        for scope in self.helpers:
            scope.cancel()

    async def _clear_out(self) -> None:
        """End whatever is left beside and below, which is shielded: nobody else would."""
        self._end_helpers()
        self.kill_children()
        with trio.CancelScope(shield=True):
            for done in [*self.helpers.values(), *(child.done for child in self.children())]:
                await wait_for(done, timers=self.timers, host=None)

    async def start(self) -> ExitReason | None:
        """Start and call :meth:`mark_started`, or give the reason to end for."""
        raise NotImplementedError

    async def serve(self) -> ExitReason:
        """Do what there is to do, and give the exit reason."""
        raise NotImplementedError

    async def finish(self, reason: ExitReason) -> None:
        """Say goodbye: the user's ``terminate``."""

    async def wind_up(self, reason: ExitReason) -> None:
        """Stop the children, last first."""

    def mark_started(self) -> None:
        """Tell whoever started it that it has started."""
        self.phase = Phase.RUNNING
        self.was_started = True
        self.parent.child_started(self)
        self._fire_started()

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

    def nursery(self) -> trio.Nursery:
        """Give the nursery for helpers and children.

        Raises:
            WrongTaskError: if the process has ended, or is about to have.
        """
        nursery = None if self.task is None or self.helpers_over else self.task.parent_nursery
        if nursery is None:
            raise WrongTaskError(f"process {self.label} has ended: it can start nothing")
        return nursery

    def start_helper(self, function: Callable[..., Awaitable[Any]], args: tuple[Any, ...]) -> None:
        """Run a task that lives and dies with the process.

        Raises:
            WrongTaskError: if the process has ended, or is about to have.
        """
        nursery = self.nursery()
        scope = trio.CancelScope(shield=True, deadline=self._die_at)
        self.helpers[scope] = Signal()
        name = getattr(function, "__qualname__", repr(function))
        nursery.start_soon(self._help, scope, function, args, name=f"{self.label}: {name}")

    @enable_ki_protection
    async def _help(
        self,
        scope: trio.CancelScope,
        function: Callable[..., Awaitable[Any]],
        args: tuple[Any, ...],
    ) -> None:
        """Run a helper. Never raises: the nursery is the supervisor's."""
        task = trio.lowlevel.current_task()
        OWNERS[task] = self
        try:
            with scope:
                await call_user(function, *args)
        except BaseException as exc:  # noqa: BLE001 - boundary: the process wrapper
            self._take_helper_error(exc)
        del OWNERS[task]
        self.helpers.pop(scope).fire()

    def _take_helper_error(self, error: BaseException) -> None:
        if (self.stopping or self.helpers_over) and isinstance(normalise(error), Exit):
            return
        if self.helper_error is None:
            self.helper_error = error
        elif fatal_of(error) is not None or self.helpers_over:
            self.helper_error = _both(self.helper_error, error)
        if self.phase is not Phase.ENDING:  # terminate may run to its end
            self.scope.cancel()

    # -- its end

    @enable_ki_protection
    def _bury(self, verdict: ExitReason | None, error: BaseException | None) -> None:
        if error is not None:
            simple, crash = normalise(error), self.crash
            reason = KILLED if isinstance(simple, Exit) and self.killed else self.judge(simple)
            if verdict is not None and verdict.abnormal:
                # What ended it first is why; what its helpers raised after that came of it.
                reason, self.crash = verdict, crash
        elif verdict is not None:
            reason = verdict
        else:
            reason = KILLED
        self.exit_reason = reason
        ended_by_link = self.links is not None and self.links.signal is reason
        if reason.abnormal and self.was_started and reason != KILLED and not ended_by_link:
            self.report(reason)
        self.phase = Phase.DEAD
        for alarm in self._alarms:
            alarm.cancel()
        self._alarms.clear()
        if self._grace is not None:
            self._grace.cancel()
        if verdict is not None:
            self.settle_last_call()
        for slot in list(self.slots):
            slot.gone(self.slot_reason())
        self._leave_names()
        for monitor in list(self.watching):
            monitor.drop()
        for monitor in list(self.monitors):
            monitor.tell(reason)
        self.monitors.clear()
        tell_links(self, reason)
        self.mailbox.queue.clear()
        self.buried()
        self.parent.child_ended(self)
        self._fire_started()
        if self._done is not None:
            self._done.fire()

    def _fire_started(self) -> None:
        self.started.fire()
        self.started = FIRED  # a signal less to keep

    def _leave_names(self) -> None:
        if self.spec.name is not None:
            self.tree.unregister(self.spec.name, self)
        if self.tables is not None:
            for table in list(self.tables):
                table.process_ended(self)
            self.tables = None

    def slot_reason(self) -> ExitReason:
        """Tell what the calls that it owes an answer are told."""
        return self.last_reason()

    def settle_last_call(self) -> None:
        """Answer the call that ended it, if it was one."""

    def report(self, reason: ExitReason) -> None:
        """Report a crash."""

    def buried(self) -> None:
        """Do what else the end needs."""

    async def wait_done(self, process: Shell) -> None:
        """Wait until *process*, which this one stops, has ended; nothing interrupts that."""
        with blocked_on(self, process):
            await wait_for(process.done, timers=self.timers, host=None)


def _both(first: BaseException, second: BaseException) -> BaseException:
    return BaseExceptionGroup("a process and its helpers", [first, second])


def _call_starter(start: Callable[[], Any]) -> object:
    return start()
