"""System calls: what ``slipstream.otp.sys`` asks of any process, and how a process obeys."""

import logging
from collections import deque
from collections.abc import Callable, Coroutine
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs
import trio

from ._calls import SlotState, SystemCall
from ._reports import join_path, show

if TYPE_CHECKING:
    from ._shell import Shell

__all__ = [
    "HandlingBegan",
    "HandlingEnded",
    "SystemRequest",
    "TraceFunction",
    "log_handling",
    "obey",
    "traced",
]

logger: Final = logging.getLogger("slipstream")


@attrs.frozen
class SystemRequest:
    """A request of ``slipstream.otp.sys``: its name, and what answers it for a process."""

    name: str
    answer: Callable[["Shell"], Any]

    def __repr__(self) -> str:
        return self.name


async def obey(process: "Shell", call: SystemCall) -> None:
    """Answer *call*; if it suspended the process, answer those that follow until it is resumed.

    Being stopped ends a suspension, too.
    """
    _answer(process, call)
    if process.suspended:
        await _stay_suspended(process)


async def _stay_suspended(process: "Shell") -> None:
    process.rest(trio.current_time())
    mailbox = process.mailbox
    start, removals = 0, mailbox.removals
    while process.suspended and not process.stopping:
        if removals != mailbox.removals:
            start, removals = 0, mailbox.removals
        following = _take_call(mailbox.queue, start)
        if following is not None:
            _answer(process, following)
            continue
        start = len(mailbox.queue)
        await mailbox.park()
    process.work()


def _take_call(queue: deque[Any], start: int) -> SystemCall | None:
    """Take out the oldest system call from place *start* on; the others keep their places."""
    fresh = list(islice(reversed(queue), len(queue) - start))
    for back, item in enumerate(reversed(fresh)):
        if isinstance(item, SystemCall):
            del queue[start + back]
            return item
    return None


def _answer(process: "Shell", call: SystemCall) -> None:
    if call.state is not SlotState.OPEN:
        return  # the caller has given up: it would not know that it is done after all
    try:
        result = call.request.answer(process)
    except Exception as error:  # noqa: BLE001 - boundary: an error of the caller's function is the caller's
        call.fail(error)
    else:
        call.reply(result)


@attrs.frozen
class HandlingBegan:
    """That a traced process has begun to handle something.

    Attributes:
        path: the process's name or id, after those of all the processes above it.
        handler: the name of the callback, or of what a supervisor does.
        message: what it handles.
    """

    path: tuple[str, ...]
    handler: str
    message: Any


@attrs.frozen
class HandlingEnded:
    """That a traced process has handled something.

    Attributes:
        path: the process's name or id, after those of all the processes above it.
        handler: the name of the callback, or of what a supervisor does.
        message: what it handled.
        result: what the callback returned, or the exception that left it.
        seconds: how long it took.
    """

    path: tuple[str, ...]
    handler: str
    message: Any
    result: Any
    seconds: float


TraceFunction: TypeAlias = Callable[[HandlingBegan | HandlingEnded], object]
"""What is called with all that a traced process handles."""


def log_handling(event: HandlingBegan | HandlingEnded) -> None:
    """Log *event*, at level INFO."""
    where = join_path(event.path)
    if isinstance(event, HandlingBegan):
        logger.info("%s: %s gets %s", where, event.handler, show(event.message))
    else:
        logger.info(
            "%s: %s took %.3g s and gave %s",
            where,
            event.handler,
            event.seconds,
            show(event.result),
        )


async def traced(
    process: "Shell", handler: str, message: Any, handling: Coroutine[Any, Any, Any]
) -> Any:
    """Await *handling*, and tell whoever traces *process*; the log, as ``format_status`` has it."""
    path, begin = process.path, trio.current_time()
    if process.tracer is log_handling:
        redacted = process.status(None).message
        message = message if redacted is None else redacted
    _tell(process, HandlingBegan(path, handler, message))

    def end(result: Any) -> None:
        seconds = trio.current_time() - begin
        _tell(process, HandlingEnded(path, handler, message, result, seconds))

    try:
        result = await handling
    except BaseException as error:
        end(error)
        raise
    end(result)
    return result


def _tell(process: "Shell", event: HandlingBegan | HandlingEnded) -> None:
    if process.tracer is None:
        return
    try:
        process.tracer(event)
    except Exception:  # boundary: who looks on must not change what happens
        process.tracer = None
        logger.exception("the trace of process %s raised: it is taken off", process)
