"""Tasks: processes whose work is one function, and the handle of whoever waits for its result."""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Generic, Literal, TypeVar, cast

import trio
from trio.lowlevel import enable_ki_protection

from slipstream.errors import AwaitTimeoutError, CallingSelfError, DeadlockError
from slipstream.reasons import NORMAL, SHUTDOWN

from ._calls import gone_error, settle_deadline
from ._gen_server import GenServer
from ._links import link, sever
from ._ref import ServerRef, reach
from ._results import UNSET, Exit, Ignore, NoReply, Stop, StopCause, check_duration
from ._shell import Shell
from ._waits import blocked_on, check_task, enclosing, is_deadlock, wait_for

__all__ = ["Task", "TaskServer", "Work", "check_function"]

T = TypeVar("T")


class Work:
    """What a task does, and what has become of it.

    Attributes:
        owner: the process that it is linked to, if it is to one.
        process: the process that does it, or did, once there is one.
        value: what the function returned, once it has.
    """

    __slots__ = ("args", "function", "owner", "process", "value", "withdrawn")

    def __init__(
        self,
        function: Callable[..., Awaitable[Any]],
        args: tuple[Any, ...],
        owner: Shell | None = None,
    ) -> None:
        self.function = function
        self.args = args
        self.owner = owner
        self.process: Shell | None = None
        self.value: Any = UNSET
        self.withdrawn = False

    def withdraw(self) -> None:
        """Have it not done, or not to its end: nobody will ask for its result."""
        self.withdrawn = True
        if self.process is not None:
            self.process.shut_down(SHUTDOWN, "cancelled")

    def __repr__(self) -> str:
        return f"{label_of_function(self.function)}{self.args!r}"


def label_of_function(function: Callable[..., Any]) -> str:
    """Give what reports call a task that runs *function*."""
    return getattr(function, "__qualname__", None) or repr(function)


def check_function(function: object) -> None:
    """Check that *function* can be the work of a task.

    Raises:
        TypeError: if it cannot be called.
    """
    if not callable(function):
        given = repr(function)
        if inspect.iscoroutine(function):
            given = f"the coroutine {function.__qualname__}: leave the call to it"
            function.close()
        raise TypeError(f"a task takes an async function and its arguments, not {given}")


class TaskServer(GenServer, restart="temporary", interrupt_after=0.0):
    """The process of a task. Being stopped cancels its function at once."""

    async def init(self, work: Work) -> NoReply | Ignore:
        if work.withdrawn:
            return Ignore()
        work.process = process = self._process
        if work.owner is not None:
            # Before the function runs: its end has to find the link.
            link(process, work.owner.make_ref(), work.owner)
        return NoReply(continue_with=work)

    async def handle_continue(self, argument: Work, /) -> Stop:
        """Do the work; it is the end, whatever comes of it."""
        result: object = argument.function(*argument.args)
        if not inspect.isawaitable(result):
            raise TypeError(
                f"a task takes an async function, but {label_of_function(argument.function)} "
                f"returned {result!r}"
            )
        argument.value = await result
        return Stop(NORMAL)


class Task(Generic[T]):
    """A function that a process runs, and whose result this gives.

    Whoever has it may :meth:`wait`, any number of times and from any task of the trio run: the
    result lies here, and not, as with OTP, in the mailbox of an owner.

    Attributes:
        ref: the reference of the process.
    """

    __slots__ = ("_given_up", "_process", "_work", "ref")

    def __init__(self, ref: ServerRef, work: Work) -> None:
        self.ref = ref
        self._work = work
        self._process = cast("Shell", work.process)
        self._given_up = False

    @property
    def done(self) -> bool:
        """Whether :meth:`wait` has a result, or an error, at once."""
        return self._given_up or self._process.done.fired

    async def wait(self, *, timeout: float | None = 5.0) -> T:
        """Wait for the result. A result beats the time-out. Safe to cancel.

        A time-out gives the task up: its result, should there be one later, is dropped. The
        function itself goes on; :meth:`shutdown` ends it.

        Args:
            timeout: in seconds; 0 looks once, ``None`` waits for ever.

        Raises:
            AwaitTimeoutError: if it is not done in time, or was given up before.
            ServerGoneError: if the task failed; the cause is its exception, if it was one.
            DeadlockError: if the task waits, directly or not, for the caller.
            WrongTaskError: from another thread than trio's.
            Exit: if the process round the current task is being stopped, also by being linked to
                this very task.
        """
        check_task()
        deadline = settle_deadline(timeout)
        reach(self.ref)
        host, in_callback = enclosing()
        process, work = self._process, self._work
        if self._given_up:
            await trio.lowlevel.checkpoint()
            raise AwaitTimeoutError(f"the result of {work!r}, given up before,", timeout or 0.0)
        if (
            not process.done.fired
            and deadline > trio.current_time()
            and is_deadlock(process, host, in_callback=in_callback)
        ):
            await trio.lowlevel.checkpoint()
            if process is host:
                raise CallingSelfError(f"{self.ref} cannot wait for its own result")
            raise DeadlockError(f"{self.ref} could never end: it waits for the caller")
        with blocked_on(host if in_callback else None, process):
            ended = await wait_for(
                process.done, timers=process.timers, host=host, deadline=deadline
            )
        if work.value is not UNSET:
            return cast("T", work.value)
        if not ended:
            self._given_up = True
            raise AwaitTimeoutError(f"the result of {work!r}", timeout or 0.0)
        if host is not None and host.halt is not None:
            # The end of the task is that of the process, too: it has one reason, not two.
            raise Exit(host.halt)
        raise gone_error(self.ref, process.last_reason())

    async def shutdown(self, *, timeout: float | Literal["brutal_kill"] = 5.0) -> bool:
        """Stop the task, and wait until it has ended. Its link, if it has one, is taken back first.

        Its function is cancelled at once, and killed after *timeout* seconds;
        ``"brutal_kill"`` kills at once.

        Returns:
            Whether it had ended before by itself; :meth:`wait` tells how.

        Raises:
            ConfigError: if *timeout* is neither.
            CallingSelfError: from the task itself.
            WrongTaskError: from another thread than trio's.
            Exit: if the process round the current task is being stopped.
        """
        check_task()
        if timeout != "brutal_kill":
            accepted = "seconds as a number of 0 or more, math.inf, or 'brutal_kill'"
            check_duration("timeout", timeout, accepted=accepted)
        reach(self.ref)
        host, in_callback = enclosing()
        process = self._process
        if process is host and in_callback:
            await trio.lowlevel.checkpoint()
            raise CallingSelfError(f"{self.ref} cannot stop itself and wait: raise Exit")
        had_ended = process.done.fired
        self._stop(timeout, "asked")
        await wait_for(process.done, timers=process.timers, host=host)
        return had_ended

    @enable_ki_protection
    def _stop(self, timeout: float | Literal["brutal_kill"], cause: StopCause) -> None:
        if self._work.owner is not None:
            sever(self._process, self._work.owner)
        if timeout == "brutal_kill":
            self._process.kill(cause)
        else:
            self._process.shut_down(SHUTDOWN, cause, within=timeout)

    def __repr__(self) -> str:
        return f"<Task {self._work!r}{', done' if self.done else ''}>"
