"""When to try again, and after how long: the policies for connections and for topics."""

import math
import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, cast

import attrs

from slipstream.errors import ConfigError, RemoteProtocolError
from slipstream.interfaces import (
    Fatal,
    Hold,
    Retry,
    Verdict,
)
from slipstream.reasons import (
    ChannelClosed,
    ClosedByServer,
    ConnectFailed,
    DisconnectReason,
    JoinRefused,
    TopicCloseReason,
    TransportFailed,
)

from ._validators import Field, checks_names, function, instance_of, refuse, seconds, whole

__all__ = ["ReconnectPolicy", "RejoinPolicy"]

FATAL_CLOSE_CODES = frozenset({1003, 1007, 1008, 1009, 1010})
"""Close codes that the next attempt would meet again: we are what the server objects to."""


def _delays(instance: Any, field: Field, value: Any) -> None:
    accepted = "a sequence of one or more numbers of seconds from 0, or None"
    if value is None:
        return
    if not isinstance(value, tuple) or not value:
        refuse(instance, field, value, accepted)
    for delay in value:  # pyright: ignore[reportUnknownVariableType]  # any tuple
        number = isinstance(delay, int | float) and not isinstance(delay, bool)
        if not number or not 0 <= delay < math.inf:
            refuse(instance, field, value, accepted)


def _literal_delays(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else value  # pyright: ignore[reportUnknownArgumentType,reportUnknownVariableType]  # any list


@attrs.frozen(kw_only=True)
class _BackOff:
    """Delays that grow: uniform(0, min(maximum, first · factorⁿ)), or *delays* taken literally."""

    first: float = attrs.field(default=1.0, validator=seconds(zero=True))
    factor: float = attrs.field(default=2.0, validator=seconds())
    maximum: float = attrs.field(default=30.0, validator=seconds(zero=True))
    delays: Sequence[float] | None = attrs.field(
        default=None, converter=_literal_delays, validator=_delays
    )
    stable_after: float = attrs.field(default=30.0, validator=seconds(zero=True))
    max_attempts: int | None = attrs.field(default=None, validator=whole(least=0, none=True))
    uniform: Callable[[float, float], float] = attrs.field(
        default=random.uniform, validator=function("(low, high) -> number"), repr=False
    )

    def delay(self, attempt: int, *, maximum: float | None = None) -> float:
        """Draw the delay in seconds that follows *attempt* (0 for the first) failures in a row."""
        if self.delays is not None:
            return self.delays[min(attempt, len(self.delays) - 1)]
        ceiling = self.maximum if maximum is None else maximum
        try:
            grown = self.first * float(self.factor) ** attempt
        except OverflowError:
            grown = ceiling if self.first else 0.0
        return self.uniform(0.0, min(ceiling, grown))


@attrs.frozen(kw_only=True)
class ReconnectPolicy(_BackOff):
    """Decides what follows the end of a connection, or a failed attempt at one.

    All durations are in seconds. A delay is drawn from uniform(0, min(*maximum*, *first* ·
    *factor* ⁿ)) after n failures in a row (RFC 6455, 7.2.3, asks for such a spread); *delays* are
    taken literally instead, the last one repeated. n goes back to 0 only after *stable_after*
    seconds of uptime. After *max_attempts* failures in a row the verdict is fatal.

    Subclass it and override :meth:`verdict` for a table of one's own.
    """

    def verdict(
        self, reason: DisconnectReason, attempt: int, /, *, refreshable: bool = False
    ) -> Verdict:
        """Judge *reason* after *attempt* (0 for the first) failures in a row."""
        if self.max_attempts is not None and attempt >= self.max_attempts:
            return Fatal(f"{self.max_attempts} attempts failed")
        match reason:
            case ClosedByServer(code=code, reason=text) if code in FATAL_CLOSE_CODES:
                return Fatal(f"the server closed with {code} {text}".rstrip())
            case ClosedByServer(code=1012) if self.delays is None:
                return Retry(self.uniform(1.0, 5.0))
            case ClosedByServer(code=1013) if self.delays is None:
                return Retry(self.uniform(30.0, 60.0))
            case TransportFailed(error=RemoteProtocolError(code=1009)):
                return Fatal("a message was larger than max_message_size")
            case ConnectFailed():
                return self._after_failed_attempt(reason, attempt, refreshable=refreshable)
            case _:
                return Retry(self.delay(attempt))

    def _after_failed_attempt(
        self, failed: ConnectFailed, attempt: int, *, refreshable: bool
    ) -> Verdict:
        if isinstance(failed.error, ConfigError):
            return Fatal(str(failed.error))
        match failed.status:
            case 401 | 403 if refreshable:
                # One retry at once, with a fresh credential; after that it is no accident.
                return Retry(0.0 if attempt == 0 else self.delay(attempt, maximum=300.0))
            case 429 | 503:
                return Retry(max(self.delay(attempt), _retry_after(failed.headers)))
            case int(status) if 300 <= status < 500:
                return Fatal(f"the server answered the upgrade with HTTP {status}")
            case _:
                return Retry(self.delay(attempt))


checks_names(ReconnectPolicy)


def _retry_after(headers: tuple[tuple[str, str], ...]) -> float:
    """Read ``Retry-After`` (RFC 9110, 10.2.3) as seconds from now; 0.0 where there is none."""
    value = dict(headers).get("retry-after", "").strip()
    if value.isdecimal():
        return min(float(value), 3600.0)
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, OverflowError):  # whatever a server writes
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max(0.0, (moment - datetime.now(UTC)).total_seconds()), 3600.0)


def _is_final(response: Any) -> bool:
    """Tell whether a refused join would be refused again: no such topic, or not allowed."""
    reason = cast("dict[str, Any]", response).get("reason") if isinstance(response, dict) else None
    return reason in ("unmatched topic", "unauthorized")  # no set: it may not be hashable


@attrs.frozen(kw_only=True)
class RejoinPolicy(_BackOff):
    """Decides what follows a refused or timed-out join, a channel's crash, or its close.

    Delays are those of :class:`ReconnectPolicy`, for each topic by itself; the count goes back to
    0 only after *stable_after* seconds joined. *is_final* tells from the response of a refused
    join that it is of no use to ask again (by default for the reasons ``unmatched topic`` and
    ``unauthorized``). *after_close* rejoins also after the server closed the channel in an
    orderly way. *max_joins_per_second* spreads joins out.
    """

    is_final: Callable[[Any], bool] = attrs.field(
        default=_is_final, validator=function("(response) -> bool"), repr=False
    )
    after_close: bool = attrs.field(default=False, validator=instance_of(bool))
    max_joins_per_second: float | None = attrs.field(default=None, validator=seconds(none=True))

    def verdict(self, topic: str, reason: TopicCloseReason, attempt: int, /) -> Verdict:
        """Judge *reason* after *attempt* (0 for the first) failures of *topic* in a row."""
        if self.max_attempts is not None and attempt >= self.max_attempts:
            return Fatal(f"{self.max_attempts} joins of {topic!r} failed")
        match reason:
            case JoinRefused(response={"reason": "too many channels joined"}):
                return Hold(self.maximum)
            case JoinRefused(response=response) if self.is_final(response):
                return Fatal(f"the server refused {topic!r} for good")
            case ChannelClosed() if not self.after_close:
                return Fatal(f"the server closed {topic!r}")
            case _:
                return Retry(self.delay(attempt))


checks_names(RejoinPolicy)
