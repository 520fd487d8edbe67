"""What a policy's table says about a cause: the rules, and how the table is read."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import Any, Final, TypeAlias, cast

import attrs

from slipstream.errors import ConfigError, RemoteProtocolError
from slipstream.interfaces import Fatal, Hold, Retry
from slipstream.reasons import ClosedByServer, ConnectFailed, DisconnectReason, TransportFailed

from ._validators import Field, refuse, seconds

__all__ = [
    "CAUSES",
    "Between",
    "Cause",
    "Grow",
    "Refresh",
    "RetryAfter",
    "Rule",
    "causes_field",
    "describe",
    "read_retry_after",
    "rule_for",
]


@attrs.frozen
class Grow:
    """Try again after the policy's own delay, which grows; *maximum* (seconds) replaces the policy's."""

    maximum: float | None = attrs.field(default=None, validator=seconds(zero=True, none=True))


@attrs.frozen
class Between:
    """Try again after uniform(*low*, *high*) seconds, however often it failed."""

    low: float = attrs.field(validator=seconds(zero=True))
    high: float = attrs.field(validator=seconds(zero=True))

    def __attrs_post_init__(self) -> None:
        if self.low > self.high:
            raise ConfigError(
                f"Between.low is {self.low!r}; accepted is at most Between.high, {self.high!r}"
            )


@attrs.frozen
class RetryAfter:
    """Try again as the response's ``Retry-After`` says, at most *most* seconds; never before :class:`Grow`."""

    most: float = attrs.field(default=3600.0, validator=seconds())


@attrs.frozen
class Refresh:
    """Ask the providers of credentials for fresh ones.

    Once at once; while those are refused, too, after delays that grow up to *maximum* (seconds).
    Fatal where every credential is a constant: it would be refused again.
    """

    maximum: float = attrs.field(default=300.0, validator=seconds(zero=True))


Rule: TypeAlias = Retry | Hold | Fatal | Grow | Between | RetryAfter | Refresh
"""What follows a cause: a verdict, or how to come to one."""

Cause: TypeAlias = int | range | type[DisconnectReason]
"""A close code (1000-4999) or an HTTP status (100-599), a range of them, or a class of reasons."""

CAUSES: Final[Mapping[Cause, Rule]] = MappingProxyType(
    {
        # The next attempt would meet these again: we are what the server objects to.
        **dict.fromkeys((1003, 1007, 1008, 1009, 1010), Fatal()),
        1012: Between(1.0, 5.0),
        1013: Between(30.0, 60.0),
        range(300, 500): Fatal(),
        401: Refresh(),
        403: Refresh(),
        429: RetryAfter(),
        503: RetryAfter(),
        DisconnectReason: Grow(),
    }
)
"""The rules that hold unless a policy's ``causes`` says otherwise."""


def rule_for(causes: Mapping[Cause, Rule], reason: DisconnectReason) -> Rule:
    """Give the rule for *reason*: that of its number, of the narrowest range, of the nearest class."""
    number = _number(reason)
    if number is not None:
        if number in causes:
            return causes[number]
        ranges = [cause for cause in causes if isinstance(cause, range) and number in cause]
        if ranges:
            return causes[min(reversed(ranges), key=len)]  # among equals the one given last
    known = [kind for kind in type(reason).__mro__ if kind in causes]
    return causes[known[0]] if known else Grow()


def _number(reason: DisconnectReason) -> int | None:
    match reason:
        case ClosedByServer(code=code):
            return code
        case ConnectFailed(status=status):
            return status
        case TransportFailed(error=RemoteProtocolError(code=1009)):
            return 1009  # too large is too large, whichever side says so
        case _:
            return None


def describe(reason: DisconnectReason) -> str:
    """Say for people why nothing more is tried after *reason*."""
    match reason:
        case ClosedByServer(code=code, reason=text):
            return f"the server closed with {code} {text}".rstrip()
        case TransportFailed(error=RemoteProtocolError(code=1009)):
            return "a message was larger than max_message_size"
        case ConnectFailed(status=int(status)):
            return f"the server answered the upgrade with HTTP {status}"
        case _:
            return f"{type(reason).__name__} is final"


def read_retry_after(reason: DisconnectReason, most: float) -> float:
    """Read ``Retry-After`` (RFC 9110, 10.2.3) as seconds from now; 0.0 where there is none."""
    headers = reason.headers if isinstance(reason, ConnectFailed) else ()
    value = dict(headers).get("retry-after", "").strip()
    if value.isdecimal():
        return min(float(value), most)
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, OverflowError):  # whatever a server writes
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max(0.0, (moment - datetime.now(UTC)).total_seconds()), most)


def causes_field(instance: Any, field: Field, value: Any) -> None:
    if not isinstance(value, Mapping):
        refuse(instance, field, value, "a mapping of causes to rules")
    for cause, rule in cast("Any", value).items():
        if not _is_cause(cause):
            refuse(
                instance, field, value,
                "a mapping whose keys are close codes (1000-4999), HTTP statuses (100-599), ranges "
                f"of one or the other, or classes of disconnect reasons; not {cause!r}",
            )  # fmt: skip
        if not isinstance(rule, Rule):
            refuse(
                instance, field, value,
                "a mapping whose values are Retry, Hold, Fatal, Grow, Between, RetryAfter or "
                f"Refresh; not {rule!r}",
            )  # fmt: skip


def _is_cause(cause: Any) -> bool:
    match cause:
        case bool():
            return False
        case int():
            return 100 <= cause <= 599 or 1000 <= cause <= 4999
        case range():
            if len(cause) == 0 or cause.step != 1:
                return False
            first, last = cause[0], cause[-1]
            return _is_cause(first) and _is_cause(last) and (first < 1000) == (last < 1000)
        case _:
            return isinstance(cause, type) and issubclass(cause, DisconnectReason)
