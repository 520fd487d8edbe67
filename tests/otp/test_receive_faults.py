"""Faults planted into selective receive: its model has to find each of them."""

from collections.abc import Callable
from typing import Any, Final

import pytest
import trio

from slipstream.errors import AwaitTimeoutError
from slipstream.otp import _gen_server, _receive
from slipstream.otp._calls import Caller
from slipstream.otp._mailbox import Mailbox, is_cast
from slipstream.otp._server_process import ServerProcess
from tests.otp import test_receive_model
from tests.otp.planted import Fault, Patch, around, find, finds


def receive_takes_the_newest(patch: Patch) -> None:
    def wrong(self: Mailbox, matching: Callable[[Any], bool], start: int) -> tuple[bool, Any]:
        for place in range(len(self.queue) - 1, start - 1, -1):
            item = self.queue[place]
            if not (is_cast(item) or isinstance(item, Caller)) and matching(item):
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

    around(patch, _gen_server, "receive", make)


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

    around(patch, _receive, "wait_for_mail", make)


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
                if is_cast(item) and matching(item[1]):
                    self.queue.remove(item)
                    return True, item[1]
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

    around(patch, _gen_server, "receive", make)


FAULTS: Final[dict[str, list[Fault]]] = {
    "anything": [
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
    ],
}


@finds(FAULTS)
def test_the_model_of_receive_finds(
    drawn: str, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Section 4.3: a property that survives a planted fault is too weak."""
    fault(monkeypatch)
    find(test_receive_model.check, getattr(test_receive_model, drawn), 1_000)
