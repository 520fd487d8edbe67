"""Look into processes, and hold them: OTP's ``:sys``, for debugging.

Each of these is a request that the process handles between two callbacks, after what was in its
mailbox before. It neither counts as a message nor cancels an idle time-out. A process that is busy
answers when its callback has ended.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

import attrs

from slipstream.errors import BadReturnError, CallTimeoutError

from ._calls import SlotState, SystemCall, gone_error, settle_deadline
from ._format_tree import format_tree
from ._ref import ServerRef, ServerStatistics, ask, statistics_of, target_of
from ._reports import show, state_of
from ._shell import Shell
from ._system import (
    HandlingBegan,
    HandlingEnded,
    SystemRequest,
    TraceFunction,
    log_handling,
)
from ._waits import check_task

__all__ = [
    "HandlingBegan",
    "HandlingEnded",
    "ProcessStatus",
    "TraceFunction",
    "format_tree",
    "get_state",
    "get_status",
    "log_handling",
    "replace_state",
    "resume",
    "statistics",
    "suspend",
    "trace",
]

StateFunction = Callable[[dict[str, Any]], Mapping[str, Any]]


@attrs.frozen
class ProcessStatus:
    """What :func:`get_status` tells of a process.

    Attributes:
        path: its name or id, after those of all the processes above it, from the root on.
        cls: the class that its user wrote.
        suspended: whether it is.
        traced: whether it is.
        statistics: what it has done.
        state: the attributes of its instance. This and *message* are what ``format_status`` gave.
        message: what it has handled last.
    """

    path: tuple[str, ...]
    cls: type[Any]
    suspended: bool
    traced: bool
    statistics: ServerStatistics
    state: Mapping[str, Any]
    message: Any


async def get_state(ref: ServerRef, *, timeout: float | None = 5.0) -> dict[str, Any]:
    """Give the attributes of the process's instance, which are its state.

    For a client that is the instance of the client's class. The dict is new, its values are not.

    Raises:
        CallTimeoutError: if no answer came within *timeout* seconds (``None``: no limit).
        ServerGoneError: if there is no process, or it ended first.
        CallingSelfError: in a callback of the process itself.
        DeadlockError: if the process waits, directly or not, for the caller.
        WrongTaskError: from another thread than trio's.
        Exit: if the process round the current task is being stopped.
    """
    return cast("dict[str, Any]", await _request(ref, _GET_STATE, timeout))


async def replace_state(
    ref: ServerRef, function: StateFunction, *, timeout: float | None = 5.0
) -> dict[str, Any]:
    """Have *function* make a new state of the old one, and give the new one.

    What it gives are all the attributes that the instance has afterwards. It runs in the process,
    must not wait, and gets a dict of its own. If it raises, the state is what it was.

    Raises:
        BadReturnError: if *function* gives no mapping of names.
        Exception: whatever *function* raises.
        CallTimeoutError, ServerGoneError, CallingSelfError, DeadlockError, WrongTaskError, Exit: as
            :func:`get_state` does.
    """
    request = SystemRequest("replace_state", lambda process: _replace_state(process, function))
    return cast("dict[str, Any]", await _request(ref, request, timeout))


async def get_status(ref: ServerRef, *, timeout: float | None = 5.0) -> ProcessStatus:
    """Tell how the process is; its state and last message go through ``format_status``.

    Raises:
        CallTimeoutError, ServerGoneError, CallingSelfError, DeadlockError, WrongTaskError, Exit: as
            :func:`get_state` does.
    """
    return cast("ProcessStatus", await _request(ref, _GET_STATUS, timeout))


async def suspend(ref: ServerRef, *, timeout: float | None = 5.0) -> None:
    """Have the process handle nothing but requests of this module, until it is resumed.

    Messages wait in its mailbox meanwhile, and calls for their answer. It can be stopped all the
    same; its idle time-out and its helper tasks go on.

    Raises:
        CallTimeoutError, ServerGoneError, CallingSelfError, DeadlockError, WrongTaskError, Exit: as
            :func:`get_state` does. After a time-out the process will not be suspended.
    """
    await _request(ref, _SUSPEND, timeout)


async def resume(ref: ServerRef, *, timeout: float | None = 5.0) -> None:
    """Have a suspended process go on.

    Raises:
        CallTimeoutError, ServerGoneError, CallingSelfError, DeadlockError, WrongTaskError, Exit: as
            :func:`get_state` does.
    """
    await _request(ref, _RESUME, timeout)


async def trace(
    ref: ServerRef,
    function: TraceFunction | None = log_handling,
    *,
    timeout: float | None = 5.0,
) -> None:
    """Have *function* called before and after all that this incarnation of the process handles.

    By default it logs. ``None`` ends the trace. *function* gets a :class:`HandlingBegan` or a
    :class:`HandlingEnded`, unredacted, and must not wait; one that raises is taken off.

    Raises:
        CallTimeoutError, ServerGoneError, CallingSelfError, DeadlockError, WrongTaskError, Exit: as
            :func:`get_state` does.
    """

    def answer(process: Shell) -> None:
        process.tracer = function

    await _request(ref, SystemRequest("trace", answer), timeout)


async def statistics(ref: ServerRef, *, timeout: float | None = 5.0) -> ServerStatistics:
    """Tell what the process has done, once it has handled what was in its mailbox.

    ``ref.statistics()`` tells the same at once.

    Raises:
        CallTimeoutError, ServerGoneError, CallingSelfError, DeadlockError, WrongTaskError, Exit: as
            :func:`get_state` does.
    """
    return cast("ServerStatistics", await _request(ref, _STATISTICS, timeout))


async def _request(ref: ServerRef, request: SystemRequest, timeout: float | None) -> Any:
    check_task()
    deadline = settle_deadline(timeout)
    process = ref._live_here()  # pyright: ignore[reportPrivateUsage]  # of this package
    refusal = None
    if process is None:
        refusal = gone_error(ref, target_of(ref).absence())
    caller = await ask(
        ref, process, refusal, request, what="request", deadline=deadline, kind=SystemCall
    )
    if caller.state is SlotState.ABANDONED:
        raise CallTimeoutError(ref, request, timeout or 0.0)
    return caller.result(ref)


def _replace_state(process: Shell, function: StateFunction) -> dict[str, Any]:
    instance = process.instance()
    old = state_of(instance)
    new = cast("object", function(dict(old)))
    if inspect.iscoroutine(new):
        new.close()
        raise BadReturnError("the function of replace_state must not be async", value=new)
    if not _is_state(new):
        raise BadReturnError(
            f"the function of replace_state gave {show(new)} (it takes a mapping of names to "
            "values)",
            value=new,
        )
    try:
        _set_state(instance, dict(cast("Mapping[str, Any]", new)))
    except BaseException:
        _set_state(instance, old)
        raise
    return state_of(instance)


def _is_state(value: object) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(name, str) for name in cast("Mapping[object, Any]", value)
    )


def _set_state(instance: object, state: dict[str, Any]) -> None:
    # Past whatever a class does when an attribute is set: it may be frozen.
    for name in state_of(instance).keys() - state.keys():
        object.__delattr__(instance, name)
    for name, value in state.items():
        object.__setattr__(instance, name, value)


def _get_status(process: Shell) -> ProcessStatus:
    status = process.status(None)
    return ProcessStatus(
        path=process.path,
        cls=process.instance().__class__,
        suspended=process.suspended,
        traced=process.tracer is not None,
        statistics=statistics_of(process),
        state=status.state,
        message=status.message,
    )


def _suspend(process: Shell) -> None:
    process.suspended = True


def _resume(process: Shell) -> None:
    process.suspended = False


_GET_STATE: Final = SystemRequest("get_state", lambda process: state_of(process.instance()))
_GET_STATUS: Final = SystemRequest("get_status", _get_status)
_SUSPEND: Final = SystemRequest("suspend", _suspend)
_RESUME: Final = SystemRequest("resume", _resume)
_STATISTICS: Final = SystemRequest("statistics", statistics_of)
