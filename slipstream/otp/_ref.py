"""References: how a process is spoken to from outside."""

import math
import threading
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar, cast, overload

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from slipstream.errors import (
    CallingSelfError,
    CallTimeoutError,
    DeadlockError,
    WrongTaskError,
)
from slipstream.reasons import NOPROC, NORMAL, ExitReason

from ._calls import Caller, Pending, SlotState, SystemCall, gone_error, settle_deadline
from ._mailbox import CAST, Timer
from ._results import Exit, Request, check_duration
from ._waits import Host, check_task, enclosing, is_deadlock, leads_to, wait_for

if TYPE_CHECKING:
    from ._names import Via
    from ._shell import Shell

__all__ = [
    "ServerRef",
    "ServerStatistics",
    "Target",
    "ask",
    "process_of",
    "reach",
    "statistics_of",
    "target_of",
]

T = TypeVar("T")


class Target(Protocol):
    """What a reference leads to: one incarnation, or a child over its incarnations."""

    dropped: int
    thread: int

    @property
    def label(self) -> str:
        """What it is called in reports."""
        ...

    @property
    def name(self) -> "str | Via | None":
        """Its name in the tree."""
        ...

    @property
    def starts(self) -> int:
        """How often it has started."""
        ...

    def live(self) -> "Shell | None":
        """Give the process that lives now."""
        ...

    def absence(self) -> ExitReason:
        """Tell why there is none."""
        ...

    def last_reason(self) -> ExitReason:
        """Tell how the last one ended."""
        ...


@attrs.frozen
class ServerStatistics:
    """What a process has done.

    Attributes:
        waiting: messages that lie in its mailbox.
        handled: messages that this incarnation has handled.
        open_calls: calls that have not been answered.
        dropped: casts and messages that found no process.
        restarts: how often its supervisor has started the child again.
        busy: seconds that this incarnation has spent in callbacks, on trio's clock.
    """

    waiting: int
    handled: int
    open_calls: int
    dropped: int
    restarts: int = 0
    busy: float = 0.0


class ServerRef:
    """The address of a process.

    It follows its child over restarts, and lives as long as its supervisor's incarnation.
    References are equal if they lead to the same.
    """

    __slots__ = ("_target",)

    def __init__(self, target: Target) -> None:
        self._target = target

    # -- what it leads to

    @property
    def alive(self) -> bool:
        """Whether there is a process now."""
        return self._target.live() is not None

    @property
    def name(self) -> "str | Via | None":
        """The name of the process, if it has one."""
        return self._target.name

    def pin(self) -> Self:
        """Give a reference to the incarnation that lives now, and to no later one.

        Raises:
            ServerGoneError: if none does.
        """
        process = self._target.live()
        if process is None:
            raise gone_error(self, self._target.absence())
        return type(self)(process)

    def statistics(self) -> ServerStatistics:
        """Tell what the process has done so far."""
        return statistics_of(self._target)

    # -- messages

    def cast(self, message: Any) -> None:
        """Send *message* to ``handle_cast``. Never blocks; a dead process drops it.

        Raises:
            WrongTaskError: from another thread than trio's.
        """
        process = self._receiver()
        if process is not None:
            process.mailbox.append((CAST, message))

    def send(self, message: Any) -> None:
        """Send *message* to ``handle_info``. Never blocks; a dead process drops it.

        Raises:
            WrongTaskError: from another thread than trio's.
        """
        process = self._receiver()
        if process is not None:
            process.mailbox.append(message)

    def send_after(self, seconds: float, message: Any) -> Timer:
        """Send *message* to ``handle_info`` of this incarnation in *seconds*.

        Raises:
            ConfigError: if *seconds* is no duration.
            WrongTaskError: from another thread than trio's.
        """
        check_duration("seconds", seconds)
        process = self._receiver()
        if process is None:
            return Timer(None)
        return process.start_timer(seconds, message, repeat=False)

    def _receiver(self) -> "Shell | None":
        if threading.get_ident() != self._target.thread:
            raise WrongTaskError(
                f"{self} is of a trio run in another thread: go through trio.from_thread.run_sync"
            )
        process = self._target.live()
        if process is None:
            self._target.dropped += 1
        return process

    # -- calls

    @overload
    async def call(self, request: Request[T], *, timeout: float | None = 5.0) -> T: ...
    @overload
    async def call(self, request: Any, *, timeout: float | None = 5.0) -> Any: ...
    async def call(self, request: Any, *, timeout: float | None = 5.0) -> Any:
        """Have ``handle_call`` answer *request*, and give the answer.

        Safe to cancel; the request may be handled all the same. An answer beats the time-out.

        Args:
            request: anything.
            timeout: in seconds; 0 looks once, ``None`` waits for ever.

        Raises:
            CallTimeoutError: if no answer came in time.
            ServerGoneError: if there is no process, or it ended first.
            CallingSelfError: if a process calls itself.
            DeadlockError: if the process waits, directly or not, for the caller.
            WrongTaskError: from another thread than trio's.
            Exit: if the process round the current task is being stopped.
        """
        check_task()
        deadline = settle_deadline(timeout)
        process = self._live_here()
        refusal = None if process else gone_error(self, self._target.absence())
        caller = await ask(self, process, refusal, request, what="call", deadline=deadline)
        if caller.state is SlotState.ABANDONED:
            raise CallTimeoutError(self, request, timeout or 0.0)
        return caller.result(self)

    @overload
    def send_request(self, request: Request[T]) -> Pending[T]: ...
    @overload
    def send_request(self, request: Any) -> Pending[Any]: ...
    def send_request(self, request: Any) -> Pending[Any]:
        """Have ``handle_call`` answer *request*, without waiting here.

        Raises:
            WrongTaskError: from another thread than trio's.
        """
        task = check_task()
        process = self._live_here()
        if process is None:
            return Pending(self, self._target.absence())
        caller = Caller(process, request, task=task, host=enclosing()[0])
        process.slots[caller] = None
        process.mailbox.append(caller)
        return Pending(self, caller)

    def _live_here(self) -> "Shell | None":
        if threading.get_ident() != self._target.thread:
            raise WrongTaskError(
                f"{self} is of a trio run in another thread: go through trio.from_thread.run"
            )
        return self._target.live()

    # -- the end

    async def stop(self, reason: ExitReason = NORMAL, *, timeout: float | None = None) -> None:
        """Stop the process: its callback may finish, ``terminate`` runs. Wait until it has ended.

        It has as long as its specification's ``shutdown`` says. One that is still starting hears
        of it once it has started. A supervisor may start it again.

        Raises:
            ServerGoneError: if there is no process, or it ended for another reason.
            CallTimeoutError: if it has not ended within *timeout* seconds; it is still stopping, or,
                where it was still starting, has not heard of it and lives on. So it is when cancelled.
            CallingSelfError: from a callback of the process itself.
            DeadlockError: if the process is still starting, and waits for the caller.
            WrongTaskError: from another thread than trio's.
            Exit: if the process round the current task is being stopped.
        """
        check_task()
        deadline = settle_deadline(timeout)
        if not isinstance(cast("object", reason), ExitReason):
            raise TypeError(f"reason={reason!r} is wrong: it takes an exit reason")
        process = self._live_here()
        host, in_callback = enclosing()
        if process is None:
            await trio.lowlevel.checkpoint()
            raise gone_error(self, NOPROC)
        if process is host and in_callback:
            await trio.lowlevel.checkpoint()
            raise CallingSelfError(
                f"{self} cannot stop itself and wait: return Stop, or raise Exit"
            )
        # As in OTP, a process that starts hears of it once it has started.
        if process.is_starting:
            if is_deadlock(process, host, in_callback=in_callback):
                await trio.lowlevel.checkpoint()
                raise DeadlockError(f"{self} waits for the caller to start: it cannot stop yet")
            await wait_for(process.started, timers=process.timers, host=host, deadline=deadline)
        if not process.is_starting:
            process.shut_down(reason, "asked", forgive_brutal=True)
        if not await wait_for(process.done, timers=process.timers, host=host, deadline=deadline):
            raise CallTimeoutError(self, "stop", timeout or 0.0)
        if process.exit_reason != reason:
            raise gone_error(self, process.exit_reason or NOPROC)

    def kill(self) -> None:
        """End the process now, as far as that is possible, and all below it.

        Its callback is cancelled and ``terminate`` does not run; it ends as ``KILLED``, and its
        supervisor may start it again. Does not wait: :meth:`wait` does.

        Raises:
            WrongTaskError: from another thread than trio's.
        """
        check_task()
        process = self._live_here()
        if process is not None:
            process.kill()

    async def wait(self) -> ExitReason:
        """Wait until this incarnation has ended, and give its exit reason. Safe to cancel.

        Of a process that has ended already, the reason is told at once.

        Raises:
            CallingSelfError: from a callback of the process itself.
            DeadlockError: if the process waits, directly or not, for the caller.
            WrongTaskError: from another thread than trio's.
            Exit: if the process round the current task is being stopped.
        """
        check_task()
        process = self._live_here()
        if process is None:
            await trio.lowlevel.checkpoint()
            return self._target.last_reason()
        host, in_callback = enclosing()
        if process is host and in_callback:
            await trio.lowlevel.checkpoint()
            raise CallingSelfError(f"{self} cannot wait for its own end")
        if is_deadlock(process, host, in_callback=in_callback):
            await trio.lowlevel.checkpoint()
            raise DeadlockError(f"the end of {self} could never come: it waits for the caller")
        await wait_for(process.done, timers=process.timers, host=host)
        return process.exit_reason or NOPROC

    def __eq__(self, other: object) -> bool:
        if isinstance(other, ServerRef):
            return self._target is other._target
        return NotImplemented

    def __hash__(self) -> int:
        return hash(id(self._target))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._target.label}>"


@enable_ki_protection
async def ask(
    ref: ServerRef,
    process: "Shell | None",
    refusal: BaseException | None,
    request: Any,
    *,
    what: str,
    deadline: float = math.inf,
    kind: type[Caller] = Caller,
) -> Caller:
    """Put *request* into the mailbox of *process* and wait until it is settled or the *deadline*.

    Always a checkpoint, also where a *refusal* is raised at once.
    """
    host, in_callback = enclosing()
    if process is not None and refusal is None and host is not None:
        refusal = _refuse_wait(host, process, ref, what, in_callback=in_callback)
    if process is None or refusal is not None:
        await trio.lowlevel.checkpoint()
        raise refusal or gone_error(ref, NOPROC)
    caller = kind(process, request, task=trio.lowlevel.current_task(), host=host)
    process.slots[caller] = None
    process.mailbox.append(caller)
    blocked = host if in_callback else None
    if blocked is not None:
        blocked.edges[caller] = None
    try:
        await wait_for(caller.signal, timers=process.timers, host=host, deadline=deadline)
    finally:
        if blocked is not None:
            del blocked.edges[caller]
        caller.abandon()
    return caller


def _refuse_wait(
    host: Host, process: Host, ref: object, what: str, *, in_callback: bool
) -> BaseException | None:
    """Tell why a task inside *host* must not wait for *process*, if it must not."""
    if host.halt is not None:
        return Exit(host.halt)
    if in_callback and process is host:
        return CallingSelfError(f"{ref} cannot {what} itself: nobody would answer")
    if in_callback and leads_to(process, host):
        return DeadlockError(
            f"the {what} to {ref} could never be answered: it waits for the caller"
        )
    return None


def process_of(ref: ServerRef) -> "Shell | None":
    """Give the process that *ref* leads to now."""
    return ref._target.live()  # pyright: ignore[reportPrivateUsage]  # of this module


def statistics_of(target: Target) -> ServerStatistics:
    """Tell what *target* has done."""
    process = target.live()
    if process is None:
        return ServerStatistics(0, 0, 0, target.dropped, max(0, target.starts - 1))
    return ServerStatistics(
        waiting=len(process.mailbox),
        handled=process.handled,
        open_calls=sum(type(slot) is not SystemCall for slot in process.slots),
        dropped=target.dropped,
        restarts=max(0, process.address.starts - 1),
        busy=process.busy_seconds(),
    )


def reach(ref: ServerRef) -> "Shell | None":
    """Give the process that *ref* leads to now, for what the current process does to it.

    Raises:
        TypeError: if *ref* is no reference.
        WrongTaskError: from another thread than trio's.
    """
    if not isinstance(cast("object", ref), ServerRef):
        raise TypeError(
            f"{ref!r} is no reference to a process: whereis gives the one that has a name, or None"
        )
    return ref._live_here()  # pyright: ignore[reportPrivateUsage]  # of this module


def target_of(ref: ServerRef) -> Target:
    """Give what *ref* leads to."""
    return ref._target  # pyright: ignore[reportPrivateUsage]  # of this module
