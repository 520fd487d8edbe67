"""Calls: one-shot slots that a reply, a death or an abandoning caller settles, whoever is first."""

import enum
import math
import threading
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import trio
from trio.lowlevel import Task, enable_ki_protection

from slipstream.errors import (
    CallingSelfError,
    CallTimeoutError,
    DeadlockError,
    ServerGoneError,
    WrongTaskError,
)
from slipstream.reasons import Crashed, ExitReason

from ._reports import stack_of
from ._results import check_duration
from ._waits import Host, Signal, enclosing, is_deadlock, wait_for

if TYPE_CHECKING:
    from ._shell import Shell

__all__ = ["Caller", "Pending", "SlotState", "SystemCall", "gone_error", "settle_deadline"]

T = TypeVar("T")


class SlotState(enum.Enum):
    """What has become of a call."""

    OPEN = "open"
    ANSWERED = "answered"
    FAILED = "failed"
    GONE = "gone"
    ABANDONED = "abandoned"


def gone_error(server: object, reason: ExitReason) -> ServerGoneError:
    """Make the error for a process that is gone, with its exception as the cause.

    Each caller gets its own: an exception that several tasks raise gathers their tracebacks.
    """
    error = ServerGoneError(server, reason)
    if isinstance(reason, Crashed):
        error.__cause__ = reason.exception
    return error


def settle_deadline(timeout: float | None) -> float:
    """Turn a time-out of *timeout* seconds into a deadline.

    Raises:
        ConfigError: if it is no duration.
    """
    if timeout is None:
        return math.inf
    seconds = check_duration(
        "timeout", timeout, accepted="seconds as a number of 0 or more, or None for no limit"
    )
    return trio.current_time() + seconds


class Caller:
    """Whoever made a call: answer with :meth:`reply`, now or later, from any task.

    Attributes:
        request: what was asked.
    """

    __slots__ = ("_task", "binding", "host", "request", "server", "signal", "state", "value")

    def __init__(
        self, server: "Shell", request: Any, *, task: Task | None, host: Host | None
    ) -> None:
        self.server: Shell = server
        self.request = request
        self.binding = True
        self.state = SlotState.OPEN
        self.value: Any = None
        self.signal = Signal()
        self.host = host
        self._task = task

    def reply(self, value: Any) -> bool:
        """Answer with *value*.

        Returns:
            Whether the answer will be seen; ``False`` for a second one, and where the caller has
            given up, or its process has ended.

        Raises:
            WrongTaskError: from another thread than trio's.
        """
        if threading.get_ident() != self.server.thread:
            raise WrongTaskError(
                f"{self} is of a trio run in another thread: go through trio.from_thread.run_sync"
            )
        return self._settle(SlotState.ANSWERED, value)

    def fail(self, error: BaseException) -> bool:
        """Have the call raise *error*, which nobody else may raise."""
        return self._settle(SlotState.FAILED, error)

    def gone(self, reason: ExitReason) -> None:
        """Have the call tell that the process ended first, for *reason*."""
        self._settle(SlotState.GONE, reason)

    def abandon(self) -> None:
        """Give the call up. The request may still be handled; its answer is dropped."""
        self._settle(SlotState.ABANDONED, None)

    @enable_ki_protection
    def _settle(self, state: SlotState, value: Any) -> bool:
        if self.state is not SlotState.OPEN:
            return False
        self.state = state
        self.binding = False  # whoever waits is free, though it may take a moment to go on
        self.value = value
        self.server.slots.pop(self, None)
        self.signal.fire()
        return True

    def result(self, ref: object) -> Any:
        """Give the answer of a call to *ref* that has been settled, or raise its error."""
        if self.state is SlotState.GONE:
            raise gone_error(ref, self.value)
        if self.state is SlotState.FAILED:
            try:
                raise self.value
            finally:
                self.value = None  # the error's traceback leads to whoever holds this
        return self.value

    def describe_task(self) -> str:
        """Tell who called, and where it waits, for a report."""
        if self._task is None:
            return "unknown"
        text = self._task.name
        if self.host is not None:
            text = f"{self.host} in task {text}"
        if self.state is SlotState.OPEN:
            text = "\n    ".join([text, *stack_of(self._task)])
        return text

    def __repr__(self) -> str:
        return f"<Caller {self.state.value}, asked for {self.request!r}>"


class SystemCall(Caller):
    """A call that the process itself answers, between two callbacks; it is no message."""

    __slots__ = ()


class Pending(Generic[T]):
    """A call under way. Nothing is lost by not waiting for it."""

    __slots__ = ("_caller", "_ref")

    def __init__(self, ref: object, caller: Caller | ExitReason) -> None:
        self._ref = ref
        self._caller = caller

    @property
    def done(self) -> bool:
        """Whether :meth:`wait` has its answer or its error."""
        return isinstance(self._caller, ExitReason) or self._caller.state is not SlotState.OPEN

    async def wait(self, *, timeout: float | None = None) -> T:
        """Wait for the answer. After a time-out one may wait again. Safe to cancel.

        Raises:
            CallTimeoutError: if there is none within *timeout* seconds (``None``: no limit).
            ServerGoneError: if the process is gone, or ends first.
            DeadlockError: if the process waits, directly or not, for the caller.
            Exit: if the process round the current task is being stopped.
        """
        host, in_callback = enclosing()
        deadline = settle_deadline(timeout)
        if isinstance(self._caller, ExitReason):
            await trio.lowlevel.checkpoint()
            raise gone_error(self._ref, self._caller)
        caller = self._caller
        if caller.state is SlotState.ABANDONED:
            await trio.lowlevel.checkpoint()
            raise CallTimeoutError(self._ref, caller.request, timeout or 0.0)
        if (
            not self.done
            and deadline > trio.current_time()
            and is_deadlock(caller.server, host, in_callback=in_callback)
        ):
            await trio.lowlevel.checkpoint()
            if caller.server is host:
                raise CallingSelfError(f"{self._ref} cannot wait for its own answer")
            raise DeadlockError(f"{self._ref} could never answer: it waits for the caller")
        if host is not None and in_callback:
            host.edges[caller] = None
        try:
            answered = await wait_for(
                caller.signal, timers=caller.server.timers, host=host, deadline=deadline
            )
        finally:
            if host is not None and in_callback:
                host.edges.pop(caller, None)
        if not answered:
            raise CallTimeoutError(self._ref, caller.request, timeout or 0.0)
        return caller.result(self._ref)  # type: ignore[no-any-return]  # only the request's type knows

    def abandon(self) -> None:
        """Give it up: an answer that comes later is dropped."""
        if isinstance(self._caller, Caller):
            self._caller.abandon()
