"""What runs a GenServer: the loop that takes messages out of the mailbox and calls callbacks."""

import math
from collections import deque
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import attrs
import trio
from trio.lowlevel import disable_ki_protection, enable_ki_protection

from slipstream.errors import BadReturnError
from slipstream.reasons import NOPROC, NORMAL, SHUTDOWN, Crashed, ExitReason

from ._calls import Caller, SystemCall
from ._child_spec import ChildSpec
from ._exits import normalise
from ._launch import launch, make_process
from ._links import links_of
from ._mailbox import STOP_MARK, Tick, is_cast
from ._process import Process, call_user
from ._ref import ServerRef
from ._reports import CrashReport, log_report, show
from ._results import (
    UNSET,
    Down,
    Exit,
    Exited,
    Ignore,
    NoReply,
    Reply,
    Status,
    Stop,
    StopCause,
    Timeout,
    Unset,
)
from ._shell import Monitor, Phase, Shell
from ._signatures import bad_return, fit_arguments
from ._slow import SlowWatch
from ._system import obey, traced
from ._timers import Alarm
from ._waits import enclosing

if TYPE_CHECKING:
    from ._gen_server import GenServer

__all__ = ["ServerProcess"]

T = TypeVar("T")

BURST: Final = 64
"""Messages between two checkpoints, at most."""
QUICK: Final = 0.0002
"""Seconds; what a few callbacks take that are quick."""
SLICE: Final = 0.005
"""Seconds between two checkpoints, at most."""


class ServerProcess(Process):
    """A GenServer at work."""

    __slots__ = (
        "_argument",
        "_carried",
        "_current",
        "_idle",
        "_idle_due",
        "_last",
        "_last_call",
        "_look",
        "_looked",
        "_needs_result",
        "_room",
        "_slice",
        "_slow",
        "_until",
        "kind",
        "owned",
        "warned",
    )

    server: "GenServer"

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._argument: Any = UNSET
        self._carried: float | None = None
        self._idle: Alarm | None = None
        self._idle_due = False
        self._last: Any = UNSET
        self.kind = "init"
        self._needs_result = False
        self._current: Caller | None = None
        self._last_call: tuple[Caller, Any] | None = None
        limit = self.slow_after
        self._slow = None if limit == math.inf else SlowWatch(self, limit)
        # A callback that is too long for the watch is too long for a slice, too.
        self._slice = min(SLICE, limit)
        # What is left of the burst: messages, and the time that it ends at.
        self._room, self._until = 0, 0.0
        self._look, self._looked = 0, 0.0  # at how many to look at the clock, and when that was
        self.owned: dict[Shell, None] = {}
        self.warned = False

    # -- its life

    async def start(self) -> ExitReason | None:
        self.work()
        # Ctrl-C may strike in init, but not between it and the mark: terminate would be left out.
        start = await call_user(self.make)
        if start is None:
            self.ignored = True
            return NORMAL
        server = self.server
        result = await call_user(
            server.init, *fit_arguments(server.init, (*start.bound, *start.args))
        )
        del start  # its arguments are for init alone
        if isinstance(result, Ignore):
            self.ignored = True
            return NORMAL
        if (reason := self._take("init", result, None)) is not None:
            return reason
        if self.stopping:  # killed, or ended by a link
            await trio.lowlevel.checkpoint_if_cancelled()
        self.mark_started()
        return None

    @disable_ki_protection
    async def serve(self) -> ExitReason:
        mailbox, clock = self.mailbox, self.timers.clock
        queue = mailbox.queue
        self.rest(clock())  # ``init`` is over
        now = self._resume()
        while not self.stopping or self._drains():
            callback = self._begin(queue)
            if callback is None:
                self.rest(now)
                await mailbox.park()
                now = self._resume()
                continue
            if self.tracer is not None and self.kind != "system":
                callback = traced(self, self.kind, self._last, callback)
            try:
                result = await callback
            except BaseException as exc:
                if not self._was_interrupted_to_drain(exc):
                    raise
                result = None if self._current is None else NoReply()
            if result is not None or self._needs_result:
                reason = self._take(self.kind, result, self._current)
                if reason is not None:
                    return reason
            self._room -= 1
            now = clock()
            if self._room > 0 and now < self._until:
                self.began = now
                continue
            if self._slow is not None:
                self._slow.look_back(now)
            if not (queue or self._idle_due or self._argument is not UNSET):
                continue  # to wait, which is a checkpoint as well
            self.rest(now)
            await trio.lowlevel.checkpoint()
            now = self._resume()
        return self.stop_reason

    def _resume(self) -> float:
        """Go to work, and give the time."""
        now = self.work()
        self._room, self._until = BURST, now + self._slice
        self._look, self._looked = BURST, now
        if self._slow is not None:
            self._slow.start(now)
        return now

    def follow_up(self, kind: type[T]) -> T | None:
        """Take the next message, if it is of *kind* and would be handled at once; else ``None``.

        For a ``handle_info`` that is called for many in a row, and may as well go on with the next:
        it is as if it had returned ``None`` and been called again.
        """
        queue = self.mailbox.queue
        if self.stopping or not queue or queue[0].__class__ is not kind:
            return None
        if self.tracer is not None or self._slow is not None:
            return None  # who watches wants to see each by itself
        room = self._room = self._room - 1
        # A look at the clock costs as much as a callback that does nothing: one for every four,
        # as long as four take no time to speak of.
        if room <= self._look:
            now, before = self.timers.clock(), self._looked
            if room <= 0 or now >= self._until:
                return None
            self._looked, self._look = now, max(0, room - (4 if now - before < QUICK else 1))
        self.handled += 1
        item: T = queue.popleft()
        self._last = item
        return item

    def _begin(self, queue: deque[Any]) -> Coroutine[Any, Any, Any] | None:
        """Call the next callback, without awaiting it; ``None`` if there is nothing to do."""
        server = self.server
        self._current = None
        self.kind = "handle_info"
        if self._argument is not UNSET:
            self.kind, self._needs_result = "handle_continue", True
            self._last, self._argument = self._argument, UNSET
            return server.handle_continue(self._last)
        self._needs_result = False
        if self._idle_due:
            self._idle_due = False
            self._last = Timeout()
            return server.handle_info(self._last)
        if not queue:
            return None
        item = queue.popleft()
        cls = item.__class__
        if cls is SystemCall:
            self.kind = "system"
            return obey(self, item)
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        self.handled += 1
        if cls is tuple and is_cast(item):
            self.kind = "handle_cast"
            self._last = item[1]
            return server.handle_cast(self._last)
        if cls is Caller:
            self.kind, self._needs_result = "handle_call", True
            self._last = item.request
            self._current = item
            return server.handle_call(self._last, item)
        if cls is Tick:
            item.waiting = False
            item = item.message
        self._last = item
        return server.handle_info(item)

    def _take(self, kind: str, result: Any, caller: Caller | None) -> ExitReason | None:
        """Do what a callback's *result* says; give a reason if it is to stop."""
        timeout: float | None = None
        argument: Any = UNSET
        match result:
            case None if caller is None:
                timeout = self._carried
            case NoReply():
                timeout, argument = result.timeout, result.continue_with
                if caller is not None:
                    caller.binding = False  # from here on, anyone may answer
            case Reply() if caller is not None:
                timeout, argument = result.timeout, result.continue_with
                caller.reply(result.value)
            case Stop() if caller is not None or isinstance(result.reply, Unset):
                if caller is not None and not isinstance(result.reply, Unset):
                    self._last_call = (caller, result.reply)
                return result.reason
            case _:
                raise self._bad_return(kind, result)
        self._carried = None
        self._argument = argument
        if timeout is None:
            return None
        if argument is not UNSET:
            self._carried = timeout  # armed once handle_continue has nothing else to say
        elif timeout <= 0.0:
            self._idle_due = True
        elif timeout != math.inf:
            self._idle = self.timers.at(trio.current_time() + timeout, self._ring_idle)
        return None

    def _bad_return(self, kind: str, result: Any) -> BadReturnError:
        accepted = {
            "init": "None, NoReply, Stop or Ignore",
            "handle_call": "Reply, NoReply or Stop, never None",
        }.get(kind, "None, NoReply or Stop without a reply")
        return bad_return(self.server, kind, result, accepted)

    def _ring_idle(self) -> None:
        self._idle = None
        # A message that arrived before has cancelled it, whether it was seen or not.
        if all(type(item) is SystemCall for item in self.mailbox.queue):
            self._idle_due = True
            self.mailbox.wake()

    def _drains(self) -> bool:
        queue = self.mailbox.queue
        if not self.spec.drain or self.suspended:
            return False
        if self._argument is UNSET and (not queue or queue[0] is STOP_MARK):
            return False
        self.halt = None  # the callback that had to be interrupted is over
        return True

    def _was_interrupted_to_drain(self, error: BaseException) -> bool:
        if not self.spec.drain or self.halt is None or self.killed or self.scope.cancel_called:
            return False
        simple = normalise(error)
        # That of a wait has the very reason of the stop; any other is the callback's own.
        return isinstance(simple, Exit) and simple.reason is self.halt

    def stop_starting(self) -> None:
        if self.links is not None and self.links.signal is self.stop_reason:
            self.scope.cancel()  # it ends for the reason of the signal, not for being killed
        else:
            super().stop_starting()

    def stop_running(self) -> None:
        if self.spec.drain:
            self.mailbox.append(STOP_MARK)

    @enable_ki_protection
    async def finish(self, reason: ExitReason) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if self._slow is not None:
            self._slow.stop()
        await call_user(self.server.terminate, reason)

    async def wind_up(self, reason: ExitReason) -> None:
        cause: StopCause = self.stop_cause or ("failed" if reason.abnormal else "asked")
        for child in reversed(list(self.owned)):
            child.shut_down(SHUTDOWN, cause)
            await self.wait_done(child)

    def settle_last_call(self) -> None:
        if self._last_call is not None:
            caller, value = self._last_call
            caller.reply(value)

    def child_started(self, process: Shell) -> None:
        del process

    def is_loud(self, reason: ExitReason) -> bool:
        try:
            return self.server.reports_crash(reason)
        except Exception:  # noqa: BLE001 - boundary: a hook must not hide the report
            return True

    def report(self, reason: ExitReason) -> None:
        if not self.is_loud(reason):
            return
        status = self.status(reason)
        error = self.crash if isinstance(reason, Crashed) else None
        if status.reason is not reason:  # redacted: then the exception itself must not show
            error = status.reason.exception if isinstance(status.reason, Crashed) else None
        report = CrashReport(
            process=self.label,
            path=self.path,
            reason=status.reason,
            message=status.message,
            state=status.state,
            client=None if self._current is None else self._current.describe_task(),
            log=status.log,
        )
        log_report(report, error=error)

    def instance(self) -> object:
        if cast("GenServer | None", self.server) is None:
            return None  # its start function has not made it yet
        return self.server._slipstream_state  # pyright: ignore[reportPrivateUsage]  # of this package

    def status(self, reason: ExitReason | None) -> Status:
        status = attrs.evolve(super().status(reason), message=self._last)
        try:
            given = cast("object", self.server.format_status(status))
        except Exception as error:  # noqa: BLE001 - boundary: a formatter must not hide the report
            return Status(
                state={"<format_status raised>": show(error)}, message="<hidden>", reason=reason
            )
        return given if isinstance(given, Status) else status

    def buried(self) -> None:
        if self._slow is not None:
            self._slow.stop()

    # -- what its instance does

    async def start_owned(self, spec: ChildSpec) -> ServerRef | None:
        """Start a process that lives inside this one; see ``GenServer.start_owned``."""
        host, in_callback = enclosing()
        # Before the child is made: one that never runs could not be waited for.
        nursery = self.nursery()
        child = make_process(spec, tree=self.tree, parent=self)
        self.owned[child] = None
        try:
            blocked = host if in_callback else None
            await launch(child, nursery, host=host, blocked=blocked)
        except BaseException:
            child.kill("failed")
            with trio.CancelScope(shield=True):
                await self.wait_done(child)
            raise
        if child.ignored:
            return None
        ref: ServerRef = child.make_ref()
        return ref

    def watch(self, ref: ServerRef, process: Shell | None) -> Monitor:
        """Have the end of *process*, which *ref* leads to, told to ``handle_info``."""
        monitor = Monitor(self, ref)
        if process is None or process.phase is Phase.DEAD:
            reason = NOPROC if process is None else process.last_reason()
            self.mailbox.append(Down(monitor, ref, reason))
        else:
            process.monitor(monitor)
        return monitor

    def unwatch(self, monitor: Monitor) -> None:
        """Have it not told, not even if it lies in the mailbox already."""
        monitor.drop()
        self.mailbox.remove(
            lambda message: isinstance(message, Down) and message.monitor is monitor
        )

    @enable_ki_protection
    def exit_signal(self, ref: ServerRef, reason: ExitReason, cause: StopCause) -> None:
        if cast("GenServer | None", self.server) is not None and self.server.trap_exits:
            self.mailbox.append(Exited(ref, reason))
            return
        if reason == NORMAL:
            return
        if not self.stopping:
            links_of(self).signal = reason
        self.shut_down(reason, cause, forgive_brutal=True)

    def children(self) -> list[Shell]:
        return list(self.owned)

    def child_ended(self, process: Shell) -> None:
        self.owned.pop(process, None)
