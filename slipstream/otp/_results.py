"""What callbacks return, what arrives in mailboxes, and how a callback leaves its process."""

import enum
from collections.abc import Mapping
from typing import Any, Final, Generic, Literal, TypeAlias, TypeVar

import attrs

from slipstream.errors import ConfigError
from slipstream.reasons import NORMAL, ExitReason

__all__ = [
    "UNSET",
    "Down",
    "Exit",
    "Exited",
    "FailedToStart",
    "Ignore",
    "NoReply",
    "Reply",
    "Request",
    "Status",
    "Stop",
    "StopCause",
    "Timeout",
    "Unset",
    "check_duration",
]

T_co = TypeVar("T_co", covariant=True)

StopCause: TypeAlias = Literal["asked", "cancelled", "failed"]
"""Why a tree, or a part of it, is being stopped; handed down beside the exit reason."""


class Unset(enum.Enum):
    """The type of :data:`UNSET`."""

    UNSET = "unset"


UNSET: Final = Unset.UNSET
"""Stands for an option that was not given, where ``None`` is a value."""


def check_duration(
    name: str,
    value: object,
    *,
    error: type[ValueError] = ConfigError,
    accepted: str = "seconds as a number of 0 or more, or math.inf",
) -> float:
    """Give *value* as a ``float``, if it is a duration.

    Raises:
        ConfigError: (or *error*) if it is no number, not a number, or negative.
    """
    if type(value) is float or (isinstance(value, int | float) and not isinstance(value, bool)):
        seconds = float(value)
        if seconds >= 0.0:  # false for NaN
            return seconds
    raise error(f"{name}={value!r} is wrong: it takes {accepted}")


class Exit(BaseException):
    """Raise it anywhere below a callback to end the process with *reason*.

    It is no ``Exception``, so that an ``except Exception`` on its way cannot keep a process alive
    that is being stopped.
    """

    def __init__(self, reason: ExitReason = NORMAL) -> None:
        super().__init__(reason)
        self.reason = reason


def _check_timeout(timeout: object) -> None:
    if timeout is not None:
        check_duration("timeout", timeout)


@attrs.frozen
class Reply:
    """Answer the call with *value* and go on.

    *continue_with* has ``handle_continue`` called with it, before any message. *timeout* is an
    idle time-out in seconds: ``handle_info`` gets :class:`Timeout` unless a message arrives first.
    """

    value: Any
    continue_with: Any = attrs.field(default=UNSET, kw_only=True)
    timeout: float | None = attrs.field(default=None, kw_only=True)

    def __attrs_post_init__(self) -> None:
        _check_timeout(self.timeout)


@attrs.frozen
class NoReply:
    """Go on without an answer; *continue_with* and *timeout* as in :class:`Reply`."""

    continue_with: Any = attrs.field(default=UNSET, kw_only=True)
    timeout: float | None = attrs.field(default=None, kw_only=True)

    def __attrs_post_init__(self) -> None:
        _check_timeout(self.timeout)


def _is_reason(_: object, attribute: "attrs.Attribute[Any]", value: object) -> None:
    if not isinstance(value, ExitReason):
        raise ConfigError(
            f"{attribute.name}={value!r} is wrong: it takes an exit reason, such as NORMAL, "
            "SHUTDOWN, Shutdown(detail) or Crashed(exception)"
        )


@attrs.frozen
class Stop:
    """End the process with *reason*, after ``terminate``; in ``handle_call``, answer with *reply*."""

    reason: ExitReason = attrs.field(default=NORMAL, validator=_is_reason)
    reply: Any = attrs.field(default=UNSET, kw_only=True)


@attrs.frozen
class Ignore:
    """From ``init``: do not start, and let that be no error."""


@attrs.frozen
class Timeout:
    """What ``handle_info`` gets when the idle time-out of the last result has passed."""


@attrs.frozen
class Down:
    """What ``handle_info`` gets when a monitored process has ended.

    *monitor* is what ``monitor`` gave, *ref* what it was given.
    """

    monitor: Any
    ref: Any
    reason: ExitReason


@attrs.frozen
class Exited:
    """What ``handle_info`` of a process with ``trap_exits`` gets when a linked one has ended.

    *ref* is what ``link`` was given, or, where the other one linked, its address.
    """

    ref: Any
    reason: ExitReason


@attrs.frozen
class FailedToStart:
    """The detail of a supervisor's ``Shutdown`` when its child *id* did not start, for *reason*."""

    id: Any
    reason: ExitReason


@attrs.frozen
class Status:
    """What reports and ``sys.get_status`` show of a process, for ``format_status`` to redact.

    Attributes:
        state: the attributes of the instance.
        message: the message that was being handled last.
        reason: why the process ended; ``None`` while it runs.
        log: what the process has kept of its last doings, a line each; most keep nothing.
    """

    state: Mapping[str, Any]
    message: Any
    reason: ExitReason | None
    log: tuple[str, ...] = ()


class Request(Generic[T_co]):
    """The base of requests that say what they are answered with.

    For ``class Get(Request[int])`` a type checker knows that ``await ref.call(Get())`` is an
    ``int``.
    """

    __slots__ = ()
