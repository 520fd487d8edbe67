"""That the models are worth something: each finds every wrong behaviour that is planted here.

A fault replaces one function by name, and breaks loudly once that name is gone: plant it anew where
its behaviour has moved to.
"""

import logging
import math
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import attrs
import hypothesis
import pytest
import trio
from hypothesis import Phase

from slipstream.errors import AwaitTimeoutError, CallTimeoutError, StartError
from slipstream.otp._calls import Caller, Pending, SlotState
from slipstream.otp._children import Child
from slipstream.otp._intensity import Intensity
from slipstream.otp._keeper import Keeper
from slipstream.otp._mailbox import STOP_MARK, CastItem, Mailbox
from slipstream.otp._process import Process
from slipstream.otp._results import UNSET
from slipstream.otp._server_process import ServerProcess
from slipstream.otp._supervisor_process import SupervisorProcess, _TryAgain
from slipstream.otp._waits import Host
from slipstream.reasons import NORMAL, SHUTDOWN, ExitReason
from tests.otp import test_receive_model, test_server_model, test_supervisor_model

Patch: TypeAlias = pytest.MonkeyPatch
Fault: TypeAlias = Callable[[Patch], None]
Made: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]


def around(patch: Patch, cls: type[Any], name: str, make: Made) -> None:
    """Replace a method by what *make* makes of it."""
    patch.setattr(cls, name, make(getattr(cls, name)), raising=True)


def find(check: Callable[..., None], drawn: Any, examples: int) -> None:
    """Assert that *check* finds something within so many *examples*, the same ones each time."""
    logger = logging.getLogger("slipstream")
    logger.disabled = True
    try:
        with pytest.raises((AssertionError, trio.TooSlowError)):
            check(
                drawn,
                examples,
                derandomize=True,
                database=None,
                phases=[Phase.generate],
                report_multiple_bugs=False,
                verbosity=hypothesis.Verbosity.quiet,
            )
    finally:
        logger.disabled = False


# -- the supervisor


def one_restart_too_many(patch: Patch) -> None:
    def make(allow: Callable[..., bool]) -> Callable[..., bool]:
        def wrong(self: Intensity, now: float) -> bool:
            return allow(self, now) or len(self._recent) == self.max_restarts + 1

        return wrong

    around(patch, Intensity, "allow", make)


def one_restart_too_few(patch: Patch) -> None:
    def make(allow: Callable[..., bool]) -> Callable[..., bool]:
        def wrong(self: Intensity, now: float) -> bool:
            return allow(self, now) and len(self._recent) < max(1, self.max_restarts)

        return wrong

    around(patch, Intensity, "allow", make)


def the_window_is_open(patch: Patch) -> None:
    def wrong(self: Intensity, now: float) -> bool:
        self._recent.append(now)
        while self._recent[0] + self.max_seconds <= now:
            self._recent.popleft()
        return len(self._recent) <= self.max_restarts

    patch.setattr(Intensity, "allow", wrong)


def the_window_tumbles(patch: Patch) -> None:
    def wrong(self: Intensity, now: float) -> bool:
        if self._recent and self._recent[0] + self.max_seconds < now:
            self._recent.clear()
        self._recent.append(now)
        return len(self._recent) <= self.max_restarts

    patch.setattr(Intensity, "allow", wrong)


def children_stop_first_to_last(patch: Patch) -> None:
    def make(wind_up: Callable[..., Any]) -> Callable[..., Any]:
        async def wrong(self: SupervisorProcess, reason: ExitReason) -> None:
            self.kids = dict(reversed(self.kids.items()))
            await wind_up(self, reason)

        return wrong

    around(patch, SupervisorProcess, "wind_up", make)


def children_stop_all_at_once(patch: Patch) -> None:
    def make(wind_up: Callable[..., Any]) -> Callable[..., Any]:
        async def wrong(self: SupervisorProcess, reason: ExitReason) -> None:
            for kid in reversed(self.kids.values()):
                if kid.process is not None:
                    kid.being_stopped = True
                    kid.process.shut_down(SHUTDOWN, "failed")
            await wind_up(self, reason)

        return wrong

    around(patch, SupervisorProcess, "wind_up", make)


def _with_strategy(patch: Patch, strategy: str, wrong_strategy: Any) -> None:
    def make(restart_group: Callable[..., Any]) -> Callable[..., Any]:
        async def wrong(self: SupervisorProcess, child: Child) -> Any:
            flags = self.flags
            if flags.strategy == strategy:
                self.flags = attrs.evolve(flags, strategy=wrong_strategy)
            try:
                return await restart_group(self, child)
            finally:
                self.flags = flags

        return wrong

    around(patch, SupervisorProcess, "_restart_group", make)


def rest_for_one_is_too_wide(patch: Patch) -> None:
    _with_strategy(patch, "rest_for_one", "one_for_all")


def rest_for_one_is_too_narrow(patch: Patch) -> None:
    _with_strategy(patch, "rest_for_one", "one_for_one")


def one_for_all_spares_the_older(patch: Patch) -> None:
    _with_strategy(patch, "one_for_all", "rest_for_one")


def _with_rule(patch: Patch, rule: Callable[[str, ExitReason], bool | None]) -> None:
    def make(is_restart_due: Callable[..., bool]) -> Callable[..., bool]:
        def wrong(restart: str, reason: ExitReason) -> bool:
            ruled = rule(restart, reason)
            return is_restart_due(restart, reason) if ruled is None else ruled

        return wrong

    module = "slipstream.otp._supervisor_process.is_restart_due"
    from slipstream.otp._children import is_restart_due  # noqa: PLC0415 - what is there now

    patch.setattr(module, make(is_restart_due), raising=True)


def temporary_children_are_restarted(patch: Patch) -> None:
    _with_rule(patch, lambda restart, _: True if restart == "temporary" else None)


def transient_children_are_restarted_after_all(patch: Patch) -> None:
    _with_rule(patch, lambda restart, _: True if restart == "transient" else None)


def transient_children_are_not_restarted(patch: Patch) -> None:
    _with_rule(patch, lambda restart, _: False if restart == "transient" else None)


def permanent_children_may_end(patch: Patch) -> None:
    _with_rule(patch, lambda _, reason: None if reason.abnormal else False)


def a_group_restart_counts_for_each(patch: Patch) -> None:
    def make(restart_group: Callable[..., Any]) -> Callable[..., Any]:
        async def wrong(self: SupervisorProcess, child: Child) -> Any:
            if self.flags.strategy == "one_for_all":
                for _ in range(len(self.kids) - 1):
                    self._intensity.allow(trio.current_time())
            return await restart_group(self, child)

        return wrong

    around(patch, SupervisorProcess, "_restart_group", make)


def a_group_restart_leaves_out_who_was_down(patch: Patch) -> None:
    def make(start: Callable[..., Any]) -> Callable[..., Any]:
        async def wrong(self: SupervisorProcess, child: Child) -> None:
            if child.awaited and child.last == SHUTDOWN and child.started_at is None:
                return
            await start(self, child)

        return wrong

    def make_terminate(terminate: Callable[..., Any]) -> Callable[..., Any]:
        async def noted(self: SupervisorProcess, id_: object) -> None:
            child = self.find(id_)
            await terminate(self, id_)
            child.started_at = None

        return noted

    around(patch, SupervisorProcess, "_start", make)
    around(patch, SupervisorProcess, "terminate_child", make_terminate)


def a_temporary_bystander_comes_back(patch: Patch) -> None:
    def make(restart_group: Callable[..., Any]) -> Callable[..., Any]:
        async def wrong(self: SupervisorProcess, child: Child) -> Any:
            lost = [kid.spec for kid in self.kids.values() if kid.spec.restart == "temporary"]
            result = await restart_group(self, child)
            for spec in lost:
                if spec.id not in self.kids:
                    await self.start_child(spec)
            return result

        return wrong

    around(patch, SupervisorProcess, "_restart_group", make)


def a_restarted_child_is_the_last_in_the_order(patch: Patch) -> None:
    def make(restart_group: Callable[..., Any]) -> Callable[..., Any]:
        async def wrong(self: SupervisorProcess, child: Child) -> Any:
            result = await restart_group(self, child)
            if self.kids.pop(child.spec.id, None) is not None:
                self.kids[child.spec.id] = child
            return result

        return wrong

    around(patch, SupervisorProcess, "_restart_group", make)


def terminate_child_shuts_down(patch: Patch) -> None:
    def make(terminate_child: Callable[..., Any]) -> Callable[..., Any]:
        async def wrong(self: SupervisorProcess, id_: object) -> None:
            significant = self.find(id_).spec.significant
            await terminate_child(self, id_)
            self._auto_shut = significant and self._is_over()

        return wrong

    around(patch, SupervisorProcess, "terminate_child", make)


def all_significant_forgets_the_restarting(patch: Patch) -> None:
    def make(is_over: Callable[..., bool]) -> Callable[..., bool]:
        def wrong(self: SupervisorProcess) -> bool:
            if self.flags.auto_shutdown != "all_significant":
                return is_over(self)
            kids = self.kids.values()
            return not any(kid.spec.significant and kid.live() is not None for kid in kids)

        return wrong

    around(patch, SupervisorProcess, "_is_over", make)


def any_significant_waits_for_all(patch: Patch) -> None:
    def make(is_over: Callable[..., bool]) -> Callable[..., bool]:
        def wrong(self: SupervisorProcess) -> bool:
            alive = [kid for kid in self.kids.values() if kid.spec.significant and kid.live()]
            return is_over(self) and not alive

        return wrong

    around(patch, SupervisorProcess, "_is_over", make)


def an_insignificant_end_shuts_down(patch: Patch) -> None:
    def make(child_ended: Callable[..., Any]) -> Callable[..., Any]:
        async def wrong(self: SupervisorProcess, child: Child, process: Any) -> None:
            await child_ended(self, child, process)
            if child.process is None and not child.restarting:
                self._auto_shut = self._is_over()

        return wrong

    around(patch, SupervisorProcess, "_child_ended", make)


def retries_do_not_count(patch: Patch) -> None:
    def make(try_again: Callable[..., Any]) -> Callable[..., Any]:
        async def wrong(self: SupervisorProcess, item: _TryAgain) -> None:
            item.counted = False
            await try_again(self, item)

        return wrong

    around(patch, SupervisorProcess, "_try_again", make)


def retries_jump_the_queue(patch: Patch) -> None:
    def make(append: Callable[..., None]) -> Callable[..., None]:
        def wrong(self: Mailbox, item: Any) -> None:
            append(self, item)
            if isinstance(item, _TryAgain):
                self.queue.rotate(1)

        return wrong

    around(patch, Mailbox, "append", make)


def terminate_child_does_not_cancel_a_retry(patch: Patch) -> None:
    def make(settle: Callable[..., None]) -> Callable[..., None]:
        def wrong(self: Child) -> None:
            ticket = self.ticket
            settle(self)
            self.ticket = ticket

        return wrong

    around(patch, Child, "settle", make)


def an_end_is_heard_of_a_child_that_was_replaced(patch: Patch) -> None:
    def make(child_ended: Callable[..., Any]) -> Callable[..., Any]:
        async def wrong(self: SupervisorProcess, child: Child, process: Any) -> None:
            if child.process is not None and child.process is not process:
                await self._stop(child, "failed")
                child.process = process
            await child_ended(self, child, process)

        return wrong

    around(patch, SupervisorProcess, "_child_ended", make)


def a_request_to_restart_counts(patch: Patch) -> None:
    def make(restart_child: Callable[..., Any]) -> Callable[..., Any]:
        async def wrong(self: SupervisorProcess, id_: object) -> Any:
            ref = await restart_child(self, id_)
            self._intensity.allow(trio.current_time())
            return ref

        return wrong

    around(patch, SupervisorProcess, "restart_child", make)


def a_restarting_child_may_be_deleted(patch: Patch) -> None:
    def make(find_down: Callable[..., Child]) -> Callable[..., Child]:
        def wrong(self: SupervisorProcess, id_: object) -> Child:
            self.find(id_).restarting = False
            return find_down(self, id_)

        return wrong

    around(patch, SupervisorProcess, "_find_down", make)


def a_child_that_did_not_start_is_remembered(patch: Patch) -> None:
    def make(forget: Callable[..., None]) -> Callable[..., None]:
        def wrong(self: Keeper, child: Child) -> None:
            if child.spec.restart == "temporary" or child.last.abnormal is False:
                forget(self, child)

        return wrong

    around(patch, Keeper, "_forget", make)


def a_failure_of_the_first_start_is_ignored(patch: Patch) -> None:
    def make(start: Callable[..., Any]) -> Callable[..., Any]:
        async def wrong(self: SupervisorProcess, child: Child) -> None:
            try:
                await start(self, child)
            except StartError:
                if self.was_started or child.spec.type == "supervisor":
                    raise

        return wrong

    around(patch, SupervisorProcess, "_start", make)


# -- the process


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


def _but_not(patch: Patch, *classes: type[Any]) -> None:
    """Have messages of these classes not cancel an idle time-out."""

    def make(begin: Callable[..., Any]) -> Callable[..., Any]:
        def wrong(self: ServerProcess) -> Any:
            queue, idle = self.mailbox.queue, self._idle
            spared = (
                idle is not None
                and self._argument is UNSET
                and not self._idle_due
                and bool(queue)
                and isinstance(queue[0], classes)
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
    _but_not(patch, CastItem)


def a_call_does_not_cancel_the_idle_timeout(patch: Patch) -> None:
    _but_not(patch, Caller)


def an_info_does_not_cancel_the_idle_timeout(patch: Patch) -> None:
    _but_not(patch, test_server_model.Letter)


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
                self.slots.discard(item)
            bury(self, *args)

        return wrong

    around(patch, Process, "_bury", make)


def callers_to_be_answered_later_hang(patch: Patch) -> None:
    def make(bury: Callable[..., None]) -> Callable[..., None]:
        def wrong(self: Process, *args: Any) -> None:
            self.slots.intersection_update([x for x in self.slots if x in self.mailbox.queue])
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
            if isinstance(item, CastItem):
                self.queue.rotate(1)

        return wrong

    around(patch, Mailbox, "append", make)


def being_stopped_interrupts_at_once(patch: Patch) -> None:
    def make(shut_down: Callable[..., None]) -> Callable[..., None]:
        def wrong(self: Process, *args: Any, **options: Any) -> None:
            shut_down(self, *args, **options)
            self.main_scope.deadline = min(self.main_scope.deadline, trio.current_time())

        return wrong

    around(patch, Process, "shut_down", make)


def being_stopped_interrupts_nothing(patch: Patch) -> None:
    def make(shut_down: Callable[..., None]) -> Callable[..., None]:
        def wrong(self: Process, *args: Any, **options: Any) -> None:
            shut_down(self, *args, **options)
            self.main_scope.deadline = math.inf

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
            if self.kill_scope.deadline < deadline < math.inf:
                self.kill_scope.deadline = math.inf
            die_by(self, deadline)

        return wrong

    around(patch, Process, "_die_by", make)


# -- selective receive


def receive_takes_the_newest(patch: Patch) -> None:
    def wrong(self: Mailbox, matching: Callable[[Any], bool], start: int) -> tuple[bool, Any]:
        for place in range(len(self.queue) - 1, start - 1, -1):
            item = self.queue[place]
            if not isinstance(item, CastItem | Caller) and matching(item):
                del self.queue[place]
                return True, item
        return False, None

    patch.setattr(Mailbox, "take", wrong, raising=True)


def _with_take(patch: Patch, change: Callable[[Mailbox, int, Any], None]) -> None:
    """Do something more to the mailbox once a message has been received from it."""

    def make(take: Callable[..., tuple[bool, Any]]) -> Callable[..., tuple[bool, Any]]:
        def wrong(self: Mailbox, matching: Any, start: int) -> tuple[bool, Any]:
            found, message = take(self, matching, start)
            if found:
                change(self, start, message)
            return found, message

        return wrong

    around(patch, Mailbox, "take", make)


def what_was_received_comes_again(patch: Patch) -> None:
    _with_take(patch, lambda box, _, message: box.queue.append(message))


def what_was_passed_over_changes_places(patch: Patch) -> None:
    _with_take(patch, lambda box, _, __: box.queue.rotate(1))


def what_was_passed_over_is_lost(patch: Patch) -> None:
    def change(box: Mailbox, _: int, __: Any) -> None:
        if len(box.queue) > 1:
            box.queue.popleft()

    _with_take(patch, change)


def _with_start(patch: Patch, place: Callable[[Mailbox, int], int]) -> None:
    def make(take: Callable[..., tuple[bool, Any]]) -> Callable[..., tuple[bool, Any]]:
        def wrong(self: Mailbox, matching: Any, start: int) -> tuple[bool, Any]:
            return take(self, matching, place(self, start))

        return wrong

    around(patch, Mailbox, "take", make)


def each_look_begins_anew(patch: Patch) -> None:
    _with_start(patch, lambda *_: 0)


def a_look_goes_on_too_far_behind(patch: Patch) -> None:
    _with_start(patch, lambda box, start: min(start + bool(start), len(box)))


def a_removal_is_not_noticed(patch: Patch) -> None:
    def make(remove: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
        def wrong(self: Mailbox, *args: Any) -> list[Any]:
            removals = self.removals
            taken = remove(self, *args)
            self.removals = removals
            return taken

        return wrong

    around(patch, Mailbox, "remove", make)


def a_removal_takes_one_too_many(patch: Patch) -> None:
    def make(remove: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
        def wrong(self: Mailbox, *args: Any) -> list[Any]:
            taken = remove(self, *args)
            if taken and self.queue:
                self.queue.pop()
            return taken

        return wrong

    around(patch, Mailbox, "remove", make)


def _with_receive(patch: Patch, change: Callable[[ServerProcess, float | None], Any]) -> None:
    """Do something else before a message is waited for."""

    def make(receive: Callable[..., Any]) -> Callable[..., Any]:
        async def wrong(
            self: ServerProcess, matching: Any, timeout: float | None, what: str
        ) -> Any:
            return await receive(self, matching, change(self, timeout), what)

        return wrong

    around(patch, ServerProcess, "receive", make)


def no_time_is_no_look(patch: Patch) -> None:
    def change(_: ServerProcess, timeout: float | None) -> float | None:
        if timeout == 0.0:
            raise AwaitTimeoutError("a message", 0.0)
        return timeout

    _with_receive(patch, change)


def a_receive_waits_too_long(patch: Patch) -> None:
    _with_receive(patch, lambda _, timeout: timeout and timeout + 1.0)


def a_receive_sleeps_on_behind_others(patch: Patch) -> None:
    def make(wait: Callable[..., Any]) -> Callable[..., Any]:
        async def wrong(self: ServerProcess, deadline: float) -> None:
            await wait(self, deadline)
            while trio.current_time() < deadline and len(self.mailbox.queue) > 1:
                await wait(self, deadline)

        return wrong

    around(patch, ServerProcess, "_wait_for_mail", make)


def a_message_behind_others_wakes_nobody(patch: Patch) -> None:
    def make(append: Callable[..., None]) -> Callable[..., None]:
        def wrong(self: Mailbox, item: Any) -> None:
            if self.queue:
                self.queue.append(item)
            else:
                append(self, item)

        return wrong

    around(patch, Mailbox, "append", make)


def a_cast_can_be_received(patch: Patch) -> None:
    def make(take: Callable[..., tuple[bool, Any]]) -> Callable[..., tuple[bool, Any]]:
        def wrong(self: Mailbox, matching: Any, start: int) -> tuple[bool, Any]:
            for item in self.queue:
                if isinstance(item, CastItem) and matching(item.message):
                    self.queue.remove(item)
                    return True, item.message
            return take(self, matching, start)

        return wrong

    around(patch, Mailbox, "take", make)


def a_timeout_costs_a_message(patch: Patch) -> None:
    def make(receive: Callable[..., Any]) -> Callable[..., Any]:
        async def wrong(self: ServerProcess, matching: Any, *args: Any) -> Any:
            try:
                return await receive(self, matching, *args)
            except AwaitTimeoutError:
                self.mailbox.remove(lambda _: True, limit=1)
                raise

        return wrong

    around(patch, ServerProcess, "receive", make)


SUPERVISOR_FAULTS: Final[list[Fault]] = [
    children_stop_first_to_last,
    children_stop_all_at_once,
    rest_for_one_is_too_wide,
    rest_for_one_is_too_narrow,
    one_for_all_spares_the_older,
    temporary_children_are_restarted,
    transient_children_are_restarted_after_all,
    transient_children_are_not_restarted,
    permanent_children_may_end,
    a_group_restart_leaves_out_who_was_down,
    a_temporary_bystander_comes_back,
    a_restarted_child_is_the_last_in_the_order,
    terminate_child_shuts_down,
    all_significant_forgets_the_restarting,
    any_significant_waits_for_all,
    an_insignificant_end_shuts_down,
    retries_do_not_count,
    retries_jump_the_queue,
    terminate_child_does_not_cancel_a_retry,
    an_end_is_heard_of_a_child_that_was_replaced,
    a_restarting_child_may_be_deleted,
    a_child_that_did_not_start_is_remembered,
    a_failure_of_the_first_start_is_ignored,
]


WINDOW_FAULTS: Final[list[Fault]] = [
    one_restart_too_many,
    one_restart_too_few,
    the_window_is_open,
    the_window_tumbles,
    a_group_restart_counts_for_each,
    a_request_to_restart_counts,
]


PROCESS_FAULTS: Final[list[Fault]] = [
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
]


IDLE_FAULTS: Final[list[Fault]] = [
    a_cast_does_not_cancel_the_idle_timeout,
    a_call_does_not_cancel_the_idle_timeout,
    an_info_does_not_cancel_the_idle_timeout,
    the_idle_timeout_repeats,
    continuing_forgets_the_idle_timeout,
]

ENDING_FAULTS: Final[list[Fault]] = [
    terminate_is_told_another_reason,
    the_last_reply_comes_before_terminate,
    the_last_reply_is_lost_when_terminate_raises,
    a_killed_process_gives_its_last_reply,
    a_second_stop_gives_more_time,
    callers_are_told_of_a_shutdown_always,
]


RECEIVE_FAULTS: Final[list[Fault]] = [
    receive_takes_the_newest,
    what_was_received_comes_again,
    what_was_passed_over_changes_places,
    what_was_passed_over_is_lost,
    each_look_begins_anew,
    a_look_goes_on_too_far_behind,
    a_removal_is_not_noticed,
    a_removal_takes_one_too_many,
    no_time_is_no_look,
    a_receive_waits_too_long,
    a_receive_sleeps_on_behind_others,
    a_message_behind_others_wakes_nobody,
    a_cast_can_be_received,
    a_timeout_costs_a_message,
]


def _name(fault: Fault) -> str:
    return fault.__name__


@pytest.mark.parametrize("fault", SUPERVISOR_FAULTS, ids=_name)
def test_the_supervisors_model_finds(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    """Section 4.1: a machine that survives a planted fault is too weak."""
    fault(monkeypatch)
    find(test_supervisor_model.check, test_supervisor_model.anything, 1_500)


@pytest.mark.parametrize("fault", WINDOW_FAULTS, ids=_name)
def test_the_model_of_the_window_finds(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    """Section 4.1, where only many restarts can tell."""
    fault(monkeypatch)
    find(test_supervisor_model.check, test_supervisor_model.windows, 1_000)


@pytest.mark.parametrize("fault", PROCESS_FAULTS, ids=_name)
def test_the_process_model_finds(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    """Section 4.2: the same for a process."""
    fault(monkeypatch)
    find(test_server_model.check, test_server_model.anything, 1_500)


@pytest.mark.parametrize("fault", IDLE_FAULTS, ids=_name)
def test_the_model_of_an_idle_process_finds(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    """Section 4.2, where only waiting can tell."""
    fault(monkeypatch)
    find(test_server_model.check, test_server_model.idling, 500)


@pytest.mark.parametrize("fault", ENDING_FAULTS, ids=_name)
def test_the_model_of_an_end_finds(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    """Section 4.2, where only ends that meet can tell."""
    fault(monkeypatch)
    find(test_server_model.check, test_server_model.ending, 500)


@pytest.mark.parametrize("fault", RECEIVE_FAULTS, ids=_name)
def test_the_model_of_receive_finds(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    """Section 4.3: the same for selective receive."""
    fault(monkeypatch)
    find(test_receive_model.check, test_receive_model.anything, 1_000)
