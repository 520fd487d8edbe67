"""The table of a reconnect policy: which entry holds, what each rule says, what is refused."""

import re
from typing import Any

import pytest
from hypothesis import given, strategies as st

from slipstream import (
    Between,
    ClosedByServer,
    ConfigError,
    ConnectError,
    ConnectFailed,
    ConsumerTooSlow,
    Fatal,
    Grow,
    HeartbeatTimeout,
    Hold,
    ReconnectPolicy,
    Refresh,
    Retry,
    RetryAfter,
)
from slipstream.config import CAUSES, Cause, Rule
from slipstream.reasons import DisconnectReason


def refused(status: int, **headers: str) -> ConnectFailed:
    pairs = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return ConnectFailed(ConnectError("x", step="upgrade"), status, pairs)


def high(causes: dict[Cause, Rule], **options: Any) -> ReconnectPolicy:
    """Make a policy that always draws the longest delay."""
    return ReconnectPolicy(causes=causes, uniform=lambda low, high: high, **options)


@pytest.mark.parametrize(
    ("causes", "reason", "verdict"),
    [
        ({4001: Refresh()}, ClosedByServer(4001), Retry(0.0, refresh=True)),
        ({4001: Fatal("banned")}, ClosedByServer(4001), Fatal("banned")),
        ({4001: Fatal("banned")}, ClosedByServer(4002), Retry(4.0)),
        ({range(4000, 4100): Hold(9.0)}, ClosedByServer(4099), Hold(9.0)),
        ({range(4000, 4100): Hold(9.0)}, ClosedByServer(4100), Retry(4.0)),
        ({range(4000, 5000): Fatal(), range(4000, 4010): Grow()}, ClosedByServer(4009), Retry(4.0)),
        (
            {range(4000, 4010): Grow(), range(4000, 5000): Fatal("x")},
            ClosedByServer(4010),
            Fatal("x"),
        ),
        ({range(400, 500): Grow()}, refused(404), Retry(4.0)),
        ({404: Retry(1.5)}, refused(404), Retry(1.5)),
        ({range(400, 500): Grow()}, refused(403), Retry(0.0, refresh=True)),
        ({403: Grow(maximum=2.0)}, refused(403), Retry(2.0)),
        ({1008: Between(3.0, 7.0)}, ClosedByServer(1008), Retry(7.0)),
        ({500: RetryAfter(most=5.0)}, refused(500, retry_after="60"), Retry(5.0)),
        ({HeartbeatTimeout: Retry(0.0)}, HeartbeatTimeout(), Retry(0.0)),
        ({DisconnectReason: Fatal("all")}, ConsumerTooSlow(1.0), Fatal("all")),
        ({DisconnectReason: Fatal("all")}, ClosedByServer(1012), Retry(5.0)),
        ({ClosedByServer: Hold(2.0)}, ClosedByServer(1006), Hold(2.0)),
        ({}, ClosedByServer(1008, "no"), Fatal("the server closed with 1008 no")),
        ({}, refused(404), Fatal("the server answered the upgrade with HTTP 404")),
        ({HeartbeatTimeout: Fatal()}, HeartbeatTimeout(), Fatal("HeartbeatTimeout is final")),
    ],
)
def test_the_most_specific_entry_holds(
    causes: dict[Cause, Rule], reason: DisconnectReason, verdict: Any
) -> None:
    """d13, d14: one table, overridable by code, status, range and class."""
    assert high(causes).verdict(reason, 2, refreshable=True) == verdict


@given(st.sampled_from(list(CAUSES)), st.integers(1000, 4999))
def test_an_entry_of_its_own_always_replaces_the_tables(cause: Cause, code: int) -> None:
    """d13: what a user says about a cause is what holds."""
    policy = ReconnectPolicy(causes={cause: Hold(1.25), code: Hold(2.5)})
    assert policy.verdict(ClosedByServer(code), 3) == Hold(2.5)
    assert policy.rule_for(ClosedByServer(code)) == Hold(2.5)


def test_literal_delays_replace_the_spread_of_the_table_but_no_entry_of_ones_own() -> None:
    """d9, d13."""
    policy = ReconnectPolicy(delays=[0.5], causes={1013: Between(2.0, 2.0)})
    assert policy.verdict(ClosedByServer(1012), 0) == Retry(0.5)
    assert policy.verdict(ClosedByServer(1013), 0) == Retry(2.0)


def test_credentials_are_asked_for_once_at_once_and_then_ever_more_seldom() -> None:
    """complaint-12, d14."""
    policy = high({}, first=1.0)
    verdicts = [policy.verdict(refused(403), 7, refreshable=True, refreshes=n) for n in (0, 1, 9)]
    assert verdicts == [Retry(delay, refresh=True) for delay in (0.0, 2.0, 300.0)]
    assert isinstance(policy.verdict(refused(403), 0), Fatal)


def test_no_attempt_begins_later_than_max_elapsed() -> None:
    """d14: a ceiling over attempts and one over time; each says so, and counts for every URI."""
    policy = high({}, max_elapsed=60.0, max_attempts=9)
    assert policy.verdict(HeartbeatTimeout(), 3, elapsed=52.0) == Retry(8.0)
    late = policy.verdict(HeartbeatTimeout(), 3, elapsed=52.5)
    assert late == Fatal("no connection within 60 s", everywhere=True)
    asked = refused(429, retry_after="61")
    assert isinstance(policy.verdict(asked, 0), Fatal)
    often = policy.verdict(HeartbeatTimeout(), 9)
    assert often == Fatal("9 attempts failed", everywhere=True)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"causes": [4001]}, "ReconnectPolicy.causes is [4001]; accepted is a mapping"),
        ({"causes": {99: Grow()}}, "close codes (1000-4999), HTTP statuses (100-599)"),
        ({"causes": {True: Grow()}}, "not True"),
        ({"causes": {"403": Grow()}}, "not '403'"),
        ({"causes": {range(0): Grow()}}, "not range(0, 0)"),
        ({"causes": {range(500, 1001): Fatal()}}, "not range(500, 1001)"),
        ({"causes": {range(400, 500, 2): Fatal()}}, "not range(400, 500, 2)"),
        ({"causes": {ValueError: Grow()}}, "ValueError"),
        ({"causes": {4001: "retry"}}, "Retry, Hold, Fatal, Grow, Between, RetryAfter or Refresh"),
        ({"max_elapsed": -1}, "ReconnectPolicy.max_elapsed is -1"),
    ],
)
def test_a_wrong_table_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ReconnectPolicy(**options)
    assert says in str(caught.value)


def test_a_wrong_rule_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"Between.low is 3.0; accepted is at most Between.high, 2"
    ):
        Between(3.0, 2.0)
    with pytest.raises(ConfigError, match=r"Refresh.maximum is -1"):
        Refresh(-1)


def test_the_table_is_written_down_where_it_can_be_read() -> None:
    """d13, d14: the documented table is the one that holds."""
    text = (ReconnectPolicy.__doc__ or "").partition("cause   ")[2].partition("For example")[0]
    written: dict[Any, Any] = {}
    for line in text.splitlines():
        if not line.strip() or line.strip().startswith(("=", "rule")):
            continue
        causes, _, rule = line.strip().replace("``", "").rpartition("  ")
        for cause in re.findall(r"range\(.*?\)|\w+", causes):
            written[eval(cause)] = eval(rule)  # noqa: S307 - our own docstring
    assert written == dict(CAUSES)
