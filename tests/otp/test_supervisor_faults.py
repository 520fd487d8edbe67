"""Faults planted into the supervisor: its model has to find each of them."""

from collections.abc import Callable
from typing import Any, Final

import attrs
import pytest
import trio

from slipstream.errors import StartError
from slipstream.otp._children import Child
from slipstream.otp._intensity import Intensity
from slipstream.otp._keeper import Keeper
from slipstream.otp._mailbox import Mailbox
from slipstream.otp._overseer import _TryAgain
from slipstream.otp._supervisor_process import SupervisorProcess
from slipstream.reasons import SHUTDOWN, ExitReason
from tests.otp import test_supervisor_model
from tests.otp.planted import Fault, Patch, around, find, finds


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

    around(patch, SupervisorProcess, "start_again", make)


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

    module = "slipstream.otp._overseer.is_restart_due"
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

    around(patch, SupervisorProcess, "start_again", make)


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

    around(patch, SupervisorProcess, "start_again", make)


def a_restarted_child_is_the_last_in_the_order(patch: Patch) -> None:
    def make(restart_group: Callable[..., Any]) -> Callable[..., Any]:
        async def wrong(self: SupervisorProcess, child: Child) -> Any:
            result = await restart_group(self, child)
            if self.kids.pop(child.spec.id, None) is not None:
                self.kids[child.spec.id] = child
            return result

        return wrong

    around(patch, SupervisorProcess, "start_again", make)


def terminate_child_shuts_down(patch: Patch) -> None:
    def make(terminate_child: Callable[..., Any]) -> Callable[..., Any]:
        async def wrong(self: SupervisorProcess, id_: object) -> None:
            significant = self.find(id_).spec.significant
            await terminate_child(self, id_)
            self.ending = "asked" if significant and self._is_over() else None

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
                self.ending = "asked" if self._is_over() else None

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


FAULTS: Final[dict[str, list[Fault]]] = {
    "anything": [
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
        an_insignificant_end_shuts_down,
        an_end_is_heard_of_a_child_that_was_replaced,
        a_child_that_did_not_start_is_remembered,
        a_failure_of_the_first_start_is_ignored,
    ],
    "significants": [
        all_significant_forgets_the_restarting,
        any_significant_waits_for_all,
        terminate_child_shuts_down,
    ],
    "behinds": [
        terminate_child_does_not_cancel_a_retry,
        retries_jump_the_queue,
        retries_do_not_count,
        a_restarting_child_may_be_deleted,
    ],
    "windows": [
        one_restart_too_many,
        one_restart_too_few,
        the_window_is_open,
        the_window_tumbles,
        a_group_restart_counts_for_each,
        a_request_to_restart_counts,
    ],
}


@finds(FAULTS)
def test_the_supervisors_model_finds(
    drawn: str, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Section 4.1: a machine that survives a planted fault is too weak."""
    fault(monkeypatch)
    find(test_supervisor_model.check, getattr(test_supervisor_model, drawn), 1_500)
