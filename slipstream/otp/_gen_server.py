"""GenServer: the class that applications subclass."""

import logging
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar, Final, TypeAlias, Unpack, cast

import trio

from slipstream.errors import ServerGoneError, WrongTaskError
from slipstream.reasons import NOPROC, ExitReason

from ._calls import Caller, gone_error
from ._child_spec import ChildDefaults, ChildKeywords, ChildSpec, Start
from ._launch import PROCESS_CLASSES
from ._links import link, unlink
from ._mailbox import Mailbox, Timer
from ._names import Name
from ._receive import receive
from ._ref import ServerRef, reach
from ._results import (
    Ignore,
    NoReply,
    Reply,
    Status,
    Stop,
    StopCause,
    check_duration,
)
from ._server_process import ServerProcess
from ._shell import Monitor
from ._signatures import check_callbacks

__all__ = ["GenServer"]

logger = logging.getLogger("slipstream")

InitResult: TypeAlias = NoReply | Stop | Ignore | None
CallResult: TypeAlias = Reply | NoReply | Stop
Result: TypeAlias = NoReply | Stop | None

ASYNC_CALLBACKS: Final[Mapping[str, str]] = {
    "init": "*",
    "handle_call": "request, caller",
    "handle_cast": "message",
    "handle_info": "message",
    "handle_continue": "argument",
    "terminate": "reason",
}
SYNC_CALLBACKS: Final[Mapping[str, str]] = {"format_status": "status", "reports_crash": "reason"}


class GenServer(ChildDefaults):
    """A process that handles one message after the other.

    Subclass it, and override the callbacks you need. An object of the class is one incarnation of
    the process, and its attributes are the state: a restarted process is a new object.

    Class keywords say what it is as a child: ``class Counter(GenServer, restart="transient")``.
    """

    __slots__ = ("__dict__", "__weakref__", "_slipstream_process")

    _slipstream_process: ServerProcess

    ref_class: ClassVar[type[ServerRef]] = ServerRef
    trap_exits: bool = False
    """Whether the end of a linked process comes as a message, ``Exited``, and stops nothing."""

    def __init_subclass__(cls, **keywords: Unpack[ChildKeywords]) -> None:
        super().__init_subclass__(**keywords)
        check_callbacks(cls, async_callbacks=ASYNC_CALLBACKS, sync_callbacks=SYNC_CALLBACKS)

    @classmethod
    def child_spec(cls, *args: Any, **overrides: Unpack[ChildKeywords]) -> ChildSpec:
        """Give the specification of a child of this class, whose ``init`` gets *args*.

        Raises:
            ChildSpecError: for an unknown key or a wrong value.
        """
        options: dict[str, Any] = {"id": cls, **cls._keywords_of(), **overrides}
        return ChildSpec(start=Start(cls, args), **options)

    # -- callbacks

    async def init(self, *args: Any, **_: Any) -> InitResult:
        """Start. Whoever started the process waits for it, and gets what it raises.

        Returns:
            ``None`` or ``NoReply(...)`` to go on, ``Ignore()`` not to start, ``Stop(reason)`` to
            fail.
        """
        if args and args != (None,):
            raise TypeError(
                f"{type(self).__qualname__} was given {len(args)} argument(s), but has no init"
            )
        return None

    async def handle_call(self, request: Any, caller: Caller, /) -> CallResult:
        """Answer a call.

        Returns:
            ``Reply(value)``; ``NoReply()`` to answer later with ``caller.reply(value)``; or
            ``Stop(reason, reply=value)``. Never ``None``.
        """
        raise NotImplementedError(
            f"{type(self).__qualname__} has no handle_call, but was asked {request!r}"
        )

    async def handle_cast(self, message: Any, /) -> Result:
        """Handle what was sent with ``cast``."""
        raise NotImplementedError(
            f"{type(self).__qualname__} has no handle_cast, but was sent {message!r}"
        )

    async def handle_info(self, message: Any, /) -> Result:
        """Handle any other message: sent with ``send``, a ``Down``, a ``Timeout``."""
        process = self._slipstream_process
        if not process.warned:
            process.warned = True
            logger.warning(
                "process %s has no handle_info: it drops %r, and will drop others in silence",
                process.label,
                message,
            )
        return None

    async def handle_continue(self, argument: Any, /) -> Result:
        """Go on with what the last result's ``continue_with`` said, before any message."""
        raise NotImplementedError(
            f"{type(self).__qualname__} has no handle_continue, but was to continue with "
            f"{argument!r}"
        )

    async def terminate(self, reason: ExitReason, /) -> None:
        """Clean up. Not called after a failed ``init``, nor when the process is killed."""

    def format_status(self, status: Status, /) -> Status:
        """Give what reports and ``sys.get_status`` may show of the process.

        What it redacts, *reason* included, stands in no report of this process; the supervisor
        above reports the reason as it is.
        """
        return status

    def reports_crash(self, reason: ExitReason, /) -> bool:
        """Tell whether ending for *reason*, which is abnormal, is a bug to be reported."""
        del reason
        return True

    # -- for use inside

    @property
    def _process(self) -> ServerProcess:
        try:
            process = self._slipstream_process
        except AttributeError:
            raise WrongTaskError(
                f"this {type(self).__qualname__} is no process: processes are started by "
                "open_server, open_supervisor or a supervisor"
            ) from None
        if threading.get_ident() != process.thread:
            raise WrongTaskError(
                f"process {process.label} is of a trio run in another thread: go through "
                "trio.from_thread.run_sync"
            )
        return process

    @property
    def _slipstream_state(self) -> object:
        """The object whose attributes are the state: this one, unless it stands for another."""
        return self

    @property
    def _living(self) -> ServerProcess:
        process = self._process
        if process.exit_reason is not None:
            raise WrongTaskError(f"process {process.label} has ended: nobody would be told")
        return process

    @property
    def ref(self) -> ServerRef:
        """A reference to this process."""
        return cast("ServerRef", self._process.make_ref())

    @property
    def stop_cause(self) -> StopCause | None:
        """Why the process is being stopped; ``None`` if it ends by itself."""
        return self._process.stop_cause

    @property
    def mailbox(self) -> Mailbox:
        """What the process has yet to handle."""
        return self._process.mailbox

    def whereis(self, name: Name) -> ServerRef | None:
        """Give the process that has *name* in this tree.

        Raises:
            ServerGoneError: if it is a registry's to give, and that is gone.
        """
        holder = self._process.tree.find(name)
        return None if holder is None else cast("ServerRef", holder.make_ref())

    def cast(self, to: Name | ServerRef, message: Any) -> None:
        """Cast *message* to a process, by name or reference. Nobody there: nothing happens."""
        try:
            ref = to if isinstance(to, ServerRef) else self.whereis(to)
        except ServerGoneError:  # the registry is not there either
            return
        if ref is not None:
            ref.cast(message)

    async def call(self, to: Name | ServerRef, request: Any, *, timeout: float | None = 5.0) -> Any:
        """Call a process, by name or reference; see :meth:`ServerRef.call`.

        Raises:
            ServerGoneError: also if nobody has the name.
        """
        ref, refusal = None, gone_error(to, NOPROC)
        try:
            ref = to if isinstance(to, ServerRef) else self.whereis(to)
        except ServerGoneError as error:  # the registry is not there either
            refusal = error
        if ref is None:
            await trio.lowlevel.checkpoint()
            raise refusal
        return await ref.call(request, timeout=timeout)

    def monitor(self, ref: ServerRef) -> Monitor:
        """Have ``handle_info`` get one ``Down`` when the process that *ref* leads to ends.

        If there is none, it gets it at once.

        Raises:
            WrongTaskError: if this process has ended, or from another thread than trio's.
        """
        return self._living.watch(ref, reach(ref))

    def demonitor(self, monitor: Monitor) -> None:
        """Take *monitor* back; a ``Down`` that waits in the mailbox is taken out."""
        self._process.unwatch(monitor)

    def link(self, ref: ServerRef) -> None:
        """Tie this process and the one that *ref* leads to together: one's end reaches the other.

        It stops in the ordinary way, for the same reason: the callback may finish, ``terminate``
        runs, within its ``shutdown``. An end for ``NORMAL`` stops nobody. With ``trap_exits`` a
        process goes on instead, whatever the reason, and its ``handle_info`` gets an ``Exited``.
        A supervisor goes on, too, and takes no note.

        If there is no such process, this one hears of ``NOPROC`` at once. A link ties two
        incarnations: a restarted process has none. To link twice is to link once.

        Raises:
            WrongTaskError: if this process has ended, or from another thread than trio's.
        """
        link(self._living, ref, reach(ref))

    def unlink(self, ref: ServerRef) -> None:
        """Take the link back, for both; an ``Exited`` that waits in the mailbox is taken out."""
        reach(ref)  # nothing of another thread's
        unlink(self._process, ref)

    def start_soon(self, function: Callable[..., Awaitable[Any]], *args: Any) -> None:
        """Run ``function(*args)`` in a task that lives and dies with the process.

        Its crash is the process's. It ends, cancelled, after ``terminate``.
        """
        self._process.start_helper(function, args)

    def send_after(self, seconds: float, message: Any) -> Timer:
        """Send *message* to this process in *seconds*.

        Raises:
            ConfigError: if *seconds* is no duration.
            WrongTaskError: if this process has ended, or from another thread than trio's.
        """
        check_duration("seconds", seconds)
        return self._living.start_timer(seconds, message, repeat=False)

    def send_every(self, seconds: float, message: Any) -> Timer:
        """Send *message* to this process every *seconds*; at most one of it waits at a time.

        Raises:
            ConfigError: if *seconds* is no duration above 0.
            WrongTaskError: if this process has ended, or from another thread than trio's.
        """
        if check_duration("seconds", seconds) == 0.0:
            check_duration("seconds", None, accepted="seconds above 0")
        return self._living.start_timer(seconds, message, repeat=True)

    async def receive(self, matching: Callable[[Any], bool], timeout: float | None = None) -> Any:
        """Wait for the oldest message for ``handle_info`` that is *matching* and take it out.

        The others keep their places, as with Erlang's ``receive``. Safe to cancel: no message is
        lost.

        Raises:
            AwaitTimeoutError: if none came within *timeout* seconds (``None``: no limit).
            WrongTaskError: from a task that is not the process's own.
            Exit: at once, if the process is being stopped.
        """
        return await receive(self._process, matching, timeout, "a matching message")

    async def start_owned(self, spec: ChildSpec) -> ServerRef | None:
        """Start a child whose life is nested in this process.

        It is stopped after ``terminate``, the last one first, and killed with this process.
        Nobody restarts it; :meth:`monitor` it to be told of its end.

        Returns:
            Its reference, or ``None`` if it chose to be ignored.

        Raises:
            StartError: if it did not start.
            Exit: if this process is being stopped.
        """
        return await self._process.start_owned(spec)


ServerProcess.serves = GenServer
PROCESS_CLASSES["worker"] = ServerProcess
