"""Faults planted into the GenServer: its model has to find each of them."""

import math
from collections.abc import Callable
from typing import Any, Final

import pytest
import trio

from slipstream.errors import CallTimeoutError
from slipstream.otp import Exit
from slipstream.otp._calls import Caller, Pending, SlotState
from slipstream.otp._mailbox import STOP_MARK, Mailbox, is_cast
from slipstream.otp._process import Process
from slipstream.otp._results import UNSET
from slipstream.otp._server_process import ServerProcess
from slipstream.otp._shell import Phase
from slipstream.otp._waits import Host
from slipstream.reasons import NORMAL, SHUTDOWN, ExitReason
from tests.otp import test_server_model
from tests.otp.planted import Fault, Patch, around, find, finds


def a_reply_is_lost(patch: Patch) -> None:
    def make(reply: Callable[..., bool]) -> Callable[..., bool]:
        def wrong(self: Caller, value: Any) -> bool:
            return len(self.server.slots) < 3 and reply(self, value)

        return wrong

    around(patch, Caller, "reply", make)


def messages_come_before_continue(patch: Patch) -> None:
    def make(begin: Callable[..., Any]) -> Callable[..., Any]:
        def wrong(self: ServerProcess) -> Any:
            argument = self._argument
            if argument is UNSET or not self.mailbox.queue:
                return begin(self)
            self._argument = UNSET
            callback = begin(self)
            self._argument = argument
            return callback

        return wrong

    around(patch, ServerProcess, "_begin", make)


def terminate_is_called_twice(patch: Patch) -> None:
    def make(finish: Callable[..., Any]) -> Callable[..., Any]:
        async def wrong(self: ServerProcess, reason: ExitReason) -> None:
            await finish(self, reason)
            if reason.abnormal:
                await finish(self, reason)

        return wrong

    around(patch, ServerProcess, "finish", make)


def terminate_is_left_out_of_a_crash(patch: Patch) -> None:
    def make(finish: Callable[..., Any]) -> Callable[..., Any]:
        async def wrong(self: ServerProcess, reason: ExitReason) -> None:
            if not reason.abnormal:
                await finish(self, reason)

        return wrong

    around(patch, ServerProcess, "finish", make)


def terminate_runs_without_an_init(patch: Patch) -> None:
    def make(live: Callable[..., Any]) -> Callable[..., Any]:
        async def wrong(self: Process) -> Any:
            reason = await live(self)
            if isinstance(self, ServerProcess) and not self.was_started and not self.ignored:
                await self.finish(reason)
            return reason

        return wrong

    around(patch, Process, "_live", make)


def terminate_is_told_another_reason(patch: Patch) -> None:
    def make(finish: Callable[..., Any]) -> Callable[..., Any]:
        async def wrong(self: ServerProcess, reason: ExitReason) -> None:
            await finish(self, NORMAL if self.stopping else reason)

        return wrong

    around(patch, ServerProcess, "finish", make)


def _is_call(item: Any) -> bool:
    return isinstance(item, Caller)


def _but_not(patch: Patch, spares: Callable[[Any], bool]) -> None:
    """Have messages that it *spares* not cancel an idle time-out."""

    def make(begin: Callable[..., Any]) -> Callable[..., Any]:
        def wrong(self: ServerProcess) -> Any:
            queue, idle = self.mailbox.queue, self._idle
            spared = (
                idle is not None
                and self._argument is UNSET
                and not self._idle_due
                and bool(queue)
                and spares(queue[0])
            )
            if spared:
                self._idle = None
            callback = begin(self)
            if spared:
                self._idle = idle
            return callback

        return wrong

    around(patch, ServerProcess, "_begin", make)


def a_cast_does_not_cancel_the_idle_timeout(patch: Patch) -> None:
    _but_not(patch, is_cast)


def a_call_does_not_cancel_the_idle_timeout(patch: Patch) -> None:
    _but_not(patch, _is_call)


def an_info_does_not_cancel_the_idle_timeout(patch: Patch) -> None:
    _but_not(patch, lambda item: isinstance(item, test_server_model.Letter))


def the_idle_timeout_repeats(patch: Patch) -> None:
    def make(ring: Callable[..., None]) -> Callable[..., None]:
        def wrong(self: ServerProcess) -> None:
            ring(self)
            self._idle = self.timers.at(trio.current_time() + 1.0, self._ring_idle)

        return wrong

    around(patch, ServerProcess, "_ring_idle", make)


def an_idle_timeout_of_zero_waits_its_turn(patch: Patch) -> None:
    def make(begin: Callable[..., Any]) -> Callable[..., Any]:
        def wrong(self: ServerProcess) -> Any:
            due = self._idle_due and self._argument is UNSET and bool(self.mailbox.queue)
            if due:
                self._idle_due = False
            callback = begin(self)
            self._idle_due = self._idle_due or due
            return callback

        return wrong

    around(patch, ServerProcess, "_begin", make)


def continuing_forgets_the_idle_timeout(patch: Patch) -> None:
    def make(take: Callable[..., Any]) -> Callable[..., Any]:
        def wrong(self: ServerProcess, *args: Any) -> Any:
            reason = take(self, *args)
            self._carried = None
            return reason

        return wrong

    around(patch, ServerProcess, "_take", make)


def a_late_reply_seems_to_be_seen(patch: Patch) -> None:
    def make(settle: Callable[..., bool]) -> Callable[..., bool]:
        def wrong(self: Caller, state: SlotState, value: Any) -> bool:
            return settle(self, state, value) or self.state is SlotState.ABANDONED

        return wrong

    around(patch, Caller, "_settle", make)


def a_second_reply_counts(patch: Patch) -> None:
    def make(settle: Callable[..., bool]) -> Callable[..., bool]:
        def wrong(self: Caller, state: SlotState, value: Any) -> bool:
            if state is SlotState.ANSWERED and self.state is state:
                self.state = SlotState.OPEN
            return settle(self, state, value)

        return wrong

    around(patch, Caller, "_settle", make)


def the_last_reply_comes_before_terminate(patch: Patch) -> None:
    def make(finish: Callable[..., Any]) -> Callable[..., Any]:
        async def wrong(self: ServerProcess, reason: ExitReason) -> None:
            self.settle_last_call()
            await finish(self, reason)

        return wrong

    around(patch, ServerProcess, "finish", make)


def the_last_reply_is_lost_when_terminate_raises(patch: Patch) -> None:
    def make(finish: Callable[..., Any]) -> Callable[..., Any]:
        async def wrong(self: ServerProcess, reason: ExitReason) -> None:
            last, self._last_call = self._last_call, None
            await finish(self, reason)
            self._last_call = last

        return wrong

    around(patch, ServerProcess, "finish", make)


def a_killed_process_gives_its_last_reply(patch: Patch) -> None:
    def make(kill: Callable[..., None]) -> Callable[..., None]:
        def wrong(self: Process, *args: Any) -> None:
            self.settle_last_call()
            kill(self, *args)

        return wrong

    around(patch, Process, "kill", make)


def callers_of_what_was_left_hang(patch: Patch) -> None:
    def make(bury: Callable[..., None]) -> Callable[..., None]:
        def wrong(self: Process, *args: Any) -> None:
            for item in self.mailbox.queue:
                self.slots.pop(item, None)
            bury(self, *args)

        return wrong

    around(patch, Process, "_bury", make)


def callers_to_be_answered_later_hang(patch: Patch) -> None:
    def make(bury: Callable[..., None]) -> Callable[..., None]:
        def wrong(self: Process, *args: Any) -> None:
            for slot in [slot for slot in self.slots if slot not in self.mailbox.queue]:
                del self.slots[slot]
            bury(self, *args)

        return wrong

    around(patch, Process, "_bury", make)


def callers_are_told_of_a_shutdown_always(patch: Patch) -> None:
    patch.setattr(ServerProcess, "slot_reason", lambda _: SHUTDOWN, raising=True)


def what_waits_is_handled_before_the_stop(patch: Patch) -> None:
    def make(drains: Callable[..., bool]) -> Callable[..., bool]:
        def wrong(self: ServerProcess) -> bool:
            return drains(self) or bool(self.mailbox.queue and not self.spec.drain)

        return wrong

    around(patch, ServerProcess, "_drains", make)


def draining_does_not_end(patch: Patch) -> None:
    def wrong(self: ServerProcess) -> None:
        if self.spec.drain:
            self.mailbox.queue.appendleft(STOP_MARK)

    patch.setattr(ServerProcess, "stop_running", wrong, raising=True)


def a_cast_overtakes(patch: Patch) -> None:
    def make(append: Callable[..., None]) -> Callable[..., None]:
        def wrong(self: Mailbox, item: Any) -> None:
            append(self, item)
            if is_cast(item):
                self.queue.rotate(1)

        return wrong

    around(patch, Mailbox, "append", make)


def being_stopped_interrupts_at_once(patch: Patch) -> None:
    def make(shut_down: Callable[..., None]) -> Callable[..., None]:
        def wrong(self: Process, *args: Any, **options: Any) -> None:
            shut_down(self, *args, **options)
            if self.phase is Phase.RUNNING:
                self.scope.deadline = trio.current_time()

        return wrong

    around(patch, Process, "shut_down", make)


def being_stopped_interrupts_nothing(patch: Patch) -> None:
    def make(shut_down: Callable[..., None]) -> Callable[..., None]:
        def wrong(self: Process, *args: Any, **options: Any) -> None:
            shut_down(self, *args, **options)
            self.scope.deadline = self._die_at

        return wrong

    around(patch, Process, "shut_down", make)


def waits_are_not_interrupted(patch: Patch) -> None:
    patch.setattr(Host, "interrupt_waits", lambda *_: None, raising=True)


def a_promise_ends_with_its_timeout(patch: Patch) -> None:
    def make(wait: Callable[..., Any]) -> Callable[..., Any]:
        async def wrong(self: Pending[Any], *, timeout: float | None = None) -> Any:
            try:
                return await wait(self, timeout=timeout)
            except CallTimeoutError:
                self.abandon()
                raise

        return wrong

    around(patch, Pending, "wait", make)


def a_second_stop_gives_more_time(patch: Patch) -> None:
    def make(die_by: Callable[..., None]) -> Callable[..., None]:
        def wrong(self: Process, deadline: float) -> None:
            if self._die_at < deadline < math.inf:
                self._die_at = self.scope.deadline = math.inf
            die_by(self, deadline)

        return wrong

    around(patch, Process, "_die_by", make)


def an_exit_of_its_own_does_not_end_a_drain(patch: Patch) -> None:
    def make(interrupted: Callable[..., bool]) -> Callable[..., bool]:
        def wrong(self: ServerProcess, error: BaseException) -> bool:
            if isinstance(error, Exit) and self.halt is not None:
                error = Exit(self.halt)
            return interrupted(self, error)

        return wrong

    around(patch, ServerProcess, "_was_interrupted_to_drain", make)


FAULTS: Final[dict[str, list[Fault]]] = {
    "anything": [
        a_reply_is_lost,
        messages_come_before_continue,
        terminate_is_called_twice,
        terminate_is_left_out_of_a_crash,
        terminate_runs_without_an_init,
        an_idle_timeout_of_zero_waits_its_turn,
        a_late_reply_seems_to_be_seen,
        a_second_reply_counts,
        callers_of_what_was_left_hang,
        callers_to_be_answered_later_hang,
        what_waits_is_handled_before_the_stop,
        draining_does_not_end,
        a_cast_overtakes,
        being_stopped_interrupts_at_once,
        being_stopped_interrupts_nothing,
        waits_are_not_interrupted,
        a_promise_ends_with_its_timeout,
    ],
    "idling": [
        a_cast_does_not_cancel_the_idle_timeout,
        a_call_does_not_cancel_the_idle_timeout,
        an_info_does_not_cancel_the_idle_timeout,
        the_idle_timeout_repeats,
        continuing_forgets_the_idle_timeout,
    ],
    "ending": [
        an_exit_of_its_own_does_not_end_a_drain,
        terminate_is_told_another_reason,
        the_last_reply_comes_before_terminate,
        the_last_reply_is_lost_when_terminate_raises,
        a_killed_process_gives_its_last_reply,
        a_second_stop_gives_more_time,
        callers_are_told_of_a_shutdown_always,
    ],
}


@finds(FAULTS)
def test_the_servers_model_finds(drawn: str, fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    """Section 4.2: a machine that survives a planted fault is too weak."""
    fault(monkeypatch)
    find(test_server_model.check, getattr(test_server_model, drawn), 1_000)
