"""Keeping children: how a supervisor starts and stops one, and what it knows of each."""

import logging
from typing import Any

import trio
from trio.lowlevel import enable_ki_protection

from slipstream.errors import ChildNotFoundError, StartError, WrongTaskError
from slipstream.reasons import SHUTDOWN, ExitReason

from ._child_spec import ChildSpec, Start
from ._children import Child, ChildCounts, is_stop_fine
from ._launch import launch, make_process
from ._process import Process
from ._reports import SupervisorReport, explain, log_report
from ._results import StopCause
from ._shell import Shell
from ._telemetry import child_event

__all__ = ["Keeper"]


class Keeper(Process):
    """A process that has children; when they are started and stopped is up to a supervisor."""

    __slots__ = ("_by_process", "_nursery", "kids")

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.kids: dict[Any, Child] = {}
        self._by_process: dict[Shell, Child] = {}
        self._nursery: trio.Nursery | None = None

    @enable_ki_protection
    async def run(self) -> None:
        async with trio.open_nursery() as self._nursery:
            await super().run()

    def nursery(self) -> trio.Nursery:
        nursery = None if self.helpers_over else self._nursery
        if nursery is None:
            raise WrongTaskError(f"supervisor {self.label} has ended: it can start nothing")
        return nursery

    def children(self) -> list[Shell]:
        return [kid.process for kid in self.kids.values() if kid.process is not None]

    def below(self) -> list[Child]:
        return list(self.kids.values())

    def find(self, id: object) -> Child:  # noqa: A002 - OTP's word
        """Give the child of that *id*.

        Raises:
            ChildNotFoundError: if there is none.
        """
        try:
            child = self.kids.get(id)
        except TypeError:  # not hashable
            child = None
        if child is None:
            raise ChildNotFoundError(id)
        return child

    def count(self) -> ChildCounts:
        """Count the children."""
        kids = list(self.kids.values())
        return ChildCounts(
            specs=len(kids),
            active=sum(kid.live() is not None for kid in kids),
            supervisors=sum(kid.spec.type == "supervisor" for kid in kids),
            workers=sum(kid.spec.type == "worker" for kid in kids),
        )

    async def _start(self, child: Child) -> None:
        """Start *child*; ignored, it has no process afterwards.

        Raises:
            StartError: if it did not start.
            Exit: if this supervisor is being stopped.
        """
        child.disarm()  # a restart is due until it is done: one that fails leaves it so
        child.started_at = None
        child.process = None
        nursery = self.nursery()
        process = make_process(self.spec_for(child), tree=self.tree, parent=self, address=child)
        child.process = process
        self._by_process[process] = child
        try:
            await launch(process, nursery, host=self, blocked=self)
        except StartError:
            child.process = None
            raise
        child.settle()
        if process.ignored:
            child.process = None
            return
        child_event("start", self, child.spec.id)
        if child.spec.restart == "temporary":
            # It will never be started again: nobody needs its arguments.
            child.spec = process.spec = child.spec.starting(Start(process.server.__class__))

    def spec_for(self, child: Child) -> ChildSpec:
        """Give what an incarnation of *child* is made from."""
        return child.spec

    async def _stop(self, child: Child, cause: StopCause) -> None:
        """Stop *child* in the time that it has, and wait without a limit until it has ended."""
        process = child.process
        if process is not None:
            asked = self._ask_to_stop(child, process, cause)
            if asked:
                await self.wait_done(process)
            self._note_stop(child, process, asked=asked)

    def _ask_to_stop(self, child: Child, process: Shell, cause: StopCause) -> bool:
        """Ask *process* of *child* to stop; tell whether it lives."""
        if process.live() is None:
            return False
        child.being_stopped = True
        process.shut_down(SHUTDOWN, cause)
        return True

    def _note_stop(self, child: Child, process: Shell, *, asked: bool) -> None:
        """Take note that *process* of *child* has ended, having been *asked* to or by itself."""
        child.being_stopped = False
        child.process = None
        reason = process.last_reason()
        child_event("stop", self, child.spec.id, reason)
        fine = self.is_stop_fine(child, reason) or not process.is_loud(reason)
        if asked and process.was_started and not fine:
            self._report(
                "shutdown_error",
                child,
                reason,
                f"child {child.label} stopped badly: {explain(reason)}",
            )

    def is_stop_fine(self, child: Child, reason: ExitReason) -> bool:
        """Tell whether *reason* is what *child* may end with that has been stopped."""
        return is_stop_fine(child.spec, reason)

    def _forget(self, child: Child) -> None:
        child.settle()
        child.gone = True
        if self.kids.get(child.spec.id) is child:
            del self.kids[child.spec.id]

    @enable_ki_protection
    def child_ended(self, process: Shell) -> None:
        child = self._by_process.pop(process, None)
        if child is None:
            return
        child.last = process.last_reason()
        child.cause = process.cause_of_end()
        # Whoever starts or stops it knows.
        if process.was_started and child.process is process and not child.being_stopped:
            self.ended_by_itself(child, process)

    def ended_by_itself(self, child: Child, process: Shell) -> None:
        """Take note that *process* of *child* has ended; must not block or raise."""
        raise NotImplementedError

    def child_started(self, process: Shell) -> None:
        child = self._by_process.get(process)
        if child is not None:
            child.started_at = trio.current_time()
            child.starts += 1

    def buried(self) -> None:
        for child in self.kids.values():
            child.settle()
            child.gone = True

    def _report(
        self,
        context: str,
        child: Child,
        reason: object,
        text: str,
        *,
        level: int = logging.ERROR,
        error: BaseException | None = None,
    ) -> None:
        report = SupervisorReport(self.label, self.path, context, reason, child.offender(), text)
        log_report(report, level=level, error=error)
