"""Selective receive: the oldest message that matches, wherever it lies in the mailbox."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import trio
from trio.lowlevel import enable_ki_protection

from slipstream.errors import AwaitTimeoutError, WrongTaskError

from ._calls import settle_deadline
from ._results import Exit
from ._waits import Cell

if TYPE_CHECKING:
    from ._shell import Shell

__all__ = ["receive"]


async def receive(
    process: "Shell", matching: Callable[[Any], bool], timeout: float | None, what: str
) -> Any:
    """Take the oldest *matching* message out of the mailbox; see ``GenServer.receive``.

    What has been looked at is not looked at again, however often the wait is woken.
    """
    deadline = settle_deadline(timeout)
    if trio.lowlevel.current_task() is not process.task:
        raise WrongTaskError(
            f"only the own task of process {process.label} may receive from its mailbox"
        )
    mailbox = process.mailbox
    start, removals = 0, mailbox.removals
    await trio.lowlevel.checkpoint_if_cancelled()
    yielded = False
    while True:
        if process.halt is not None:
            if not yielded:
                await trio.lowlevel.checkpoint()
            raise Exit(process.halt)
        if removals != mailbox.removals:
            start, removals = 0, mailbox.removals
        found, message = mailbox.take(matching, start)
        if found:
            if not yielded:
                await trio.lowlevel.cancel_shielded_checkpoint()
            return message
        start = len(mailbox.queue)
        if trio.current_time() < deadline:
            await wait_for_mail(process, deadline)
        elif yielded:
            raise AwaitTimeoutError(what, timeout or 0.0)
        else:
            await trio.lowlevel.checkpoint()
        yielded = True


@enable_ki_protection
async def wait_for_mail(process: "Shell", deadline: float) -> None:
    """Wait until a message comes, the *deadline*, or being stopped."""
    mailbox = process.mailbox
    alarm = None if deadline == math.inf else process.timers.at(deadline, mailbox.wake)
    cell = _MailCell(process)
    process.cells[cell] = None
    try:
        await mailbox.park()
    finally:
        process.cells.pop(cell, None)
        if alarm is not None:
            alarm.cancel()


class _MailCell(Cell):
    """A task that waits for the mailbox of its own process."""

    __slots__ = ("process",)

    def __init__(self, process: "Shell") -> None:
        self.process = process
        self.done = False
        self.halt = None

    def wake(self) -> None:
        self.process.mailbox.wake()
