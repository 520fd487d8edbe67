"""The life of every process, from its start to its end.

From outside to inside: ``kill_scope``, shielded, which only being killed cancels; a nursery for
helpers and for children; ``main_scope`` round ``init`` and the loop, which being interrupted or a
helper's crash cancels. ``terminate`` runs between the two. What a process ends with comes from what
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
from ._waits import OWNERS, blocked_on, wait_for

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
                        self.helpers_over = True
                        # Children are shielded: nobody else would end them.
                        self.kill_children()
                        nursery.cancel_scope.cancel()
        except BaseException as exc:  # noqa: BLE001 - boundary: the process wrapper
            error = exc
        del OWNERS[self.task]
        self._bury(verdict, error)

    async def _live_and_end(self) -> ExitReason:
        if self.killed:  # before it ran: init must not even begin
            await trio.lowlevel.checkpoint_if_cancelled()
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
        # Before the children: a helper must not take their end, which is due, for an error.
        self.helpers_over = True
        for scope in self.helper_scopes:
            scope.cancel()
        await self.wind_up(reason)
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

    async def wind_up(self, reason: ExitReason) -> None:
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
        """Run a task that lives and dies with the process.

        Raises:
            WrongTaskError: if the process has ended, or is about to have.
        """
        if self.helpers_over:
            raise WrongTaskError(f"process {self.label} has ended: it can start nothing")
        name = getattr(function, "__qualname__", repr(function))
        self.open_nursery().start_soon(self._help, function, args, name=f"{self.label}: {name}")

    @enable_ki_protection
    async def _help(self, function: Callable[..., Awaitable[Any]], args: tuple[Any, ...]) -> None:
        scope = trio.CancelScope()
        self.helper_scopes.add(scope)
        try:
            with scope:
                await call_user(function, *args)
        except BaseException as exc:
            if (self.stopping or self.helpers_over) and isinstance(normalise(exc), Exit):
                return
            if self.killed or self.helpers_over:
                raise
            if self.helper_error is None:
                self.helper_error = exc
            self.main_scope.cancel()
        finally:
            self.helper_scopes.discard(scope)

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
        tell_links(self, reason)
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

    def buried(self) -> None:
        """Do what else the end needs."""

    async def wait_done(self, process: Shell) -> None:
        """Wait until *process*, which this one stops, has ended; nothing interrupts that."""
        with blocked_on(self, process):
            await wait_for(process.done, timers=self.timers, host=None)


def _call_starter(start: Callable[[], Any]) -> object:
    return start()
