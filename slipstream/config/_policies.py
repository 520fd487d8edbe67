"""When to try again, and after how long: the policies for connections and for topics."""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, assert_never, cast

import attrs

from slipstream.errors import ConfigError
from slipstream.interfaces import (
    Fatal,
    Hold,
    Retry,
    Verdict,
)
from slipstream.reasons import (
    ChannelClosed,
    ConnectFailed,
    DisconnectReason,
    JoinRefused,
    TopicCloseReason,
)

from ._rules import (
    CAUSES,
    Between,
    Cause,
    Grow,
    Refresh,
    RetryAfter,
    Rule,
    causes_field,
    describe,
    read_retry_after,
    rule_for,
)
from ._validators import Field, checks_names, function, instance_of, refuse, seconds, whole

__all__ = ["ReconnectPolicy", "RejoinPolicy", "is_over_limit"]


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
    seconds of uptime.

    It gives up after *max_attempts* failures in a row, and where the next attempt would begin later
    than *max_elapsed* after the connection was lost (or first tried for). What then follows is up to
    ``handle_gave_up``.

    *causes* replaces or adds entries of a table, ``slipstream.config.CAUSES``. A key is a close code,
    an HTTP status, a range of either, or a class of reasons; the most specific one that fits holds.
    A value is a verdict (:class:`~slipstream.interfaces.Retry`, :class:`~slipstream.interfaces.Hold`,
    :class:`~slipstream.interfaces.Fatal`), or a rule: :class:`Grow`, :class:`Between`,
    :class:`RetryAfter`, :class:`Refresh`. The table says:

    =================================== ========================
    cause                               rule
    =================================== ========================
    1003, 1007, 1008, 1009, 1010        ``Fatal()``
    1012                                ``Between(1.0, 5.0)``
    1013                                ``Between(30.0, 60.0)``
    401, 403                            ``Refresh()``
    429, 503                            ``RetryAfter()``
    ``range(300, 500)``                 ``Fatal()``
    ``DisconnectReason``                ``Grow()``
    =================================== ========================

    For example, ``causes={4001: Refresh(), 404: Grow(), HeartbeatTimeout: Retry(0.0)}``.

    Subclass it and override :meth:`verdict` for what no table can say.
    """

    max_elapsed: float | None = attrs.field(default=None, validator=seconds(zero=True, none=True))
    causes: Mapping[Cause, Rule] = attrs.field(
        factory=dict[Cause, Rule], validator=causes_field, repr=False
    )

    def verdict(
        self,
        reason: DisconnectReason,
        attempt: int,
        /,
        *,
        refreshable: bool = False,
        refreshes: int = 0,
        elapsed: float = 0.0,
    ) -> Verdict:
        """Judge *reason* after *attempt* (0 for the first) failures in a row.

        See :meth:`.ReconnectDecider.verdict` for the others.
        """
        if self.max_attempts is not None and attempt >= self.max_attempts:
            return Fatal(f"{self.max_attempts} attempts failed", everywhere=True)
        if isinstance(reason, ConnectFailed) and isinstance(reason.error, ConfigError):
            return Fatal(str(reason.error), everywhere=True)
        verdict = self._follow(
            self.rule_for(reason), reason, attempt, refreshable=refreshable, refreshes=refreshes
        )
        if self.max_elapsed is None or isinstance(verdict, Fatal):
            return verdict
        if elapsed + verdict.delay > self.max_elapsed:
            return Fatal(f"no connection within {self.max_elapsed:g} s", everywhere=True)
        return verdict

    def rule_for(self, reason: DisconnectReason) -> Rule:
        """Give the rule of the table that holds for *reason*."""
        table: dict[Cause, Rule] = dict(CAUSES)
        if self.delays is not None:  # they are taken literally, also after 1012 and 1013
            table = {key: rule for key, rule in table.items() if not isinstance(rule, Between)}
        return rule_for({**table, **self.causes}, reason)

    def _follow(
        self,
        rule: Rule,
        reason: DisconnectReason,
        attempt: int,
        *,
        refreshable: bool,
        refreshes: int,
    ) -> Verdict:
        match rule:
            case Retry() | Hold():
                return rule
            case Fatal():
                return rule if rule.why else attrs.evolve(rule, why=describe(reason))
            case Grow(maximum=maximum):
                return Retry(self.delay(attempt, maximum=maximum))
            case Between(low=low, high=high):
                return Retry(self.uniform(low, high))
            case RetryAfter(most=most):
                return Retry(max(self.delay(attempt), read_retry_after(reason, most)))
            case Refresh():
                if not refreshable:
                    return Fatal(describe(reason))
                delay = self.delay(refreshes, maximum=rule.maximum) if refreshes else 0.0
                return Retry(delay, refresh=True)
            case _:
                assert_never(rule)


checks_names(ReconnectPolicy)


def is_over_limit(reason: TopicCloseReason) -> bool:
    """Tell whether *reason* is that the server lets one connection join no more topics.

    Phoenix, since 1.8.9: 100, unless ``max_channels_per_transport`` says otherwise.
    """
    match reason:
        case JoinRefused(response={"reason": "too many channels joined"}):
            return True
        case _:
            return False


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
    orderly way. *max_joins_per_second* spreads joins out. Where the server lets one connection join
    no more topics, those over its limit are asked for again after *maximum*, which is not counted.
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
            case JoinRefused() if is_over_limit(reason):
                return Hold(self.maximum)
            case JoinRefused(response=response) if self.is_final(response):
                return Fatal(f"the server refused {topic!r} for good")
            case ChannelClosed() if not self.after_close:
                return Fatal(f"the server closed {topic!r}")
            case _:
                return Retry(self.delay(attempt))


checks_names(RejoinPolicy)
