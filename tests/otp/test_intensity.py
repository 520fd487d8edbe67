"""How many restarts are too many."""

from fractions import Fraction

import pytest
from hypothesis import given, strategies as st

from slipstream.otp._intensity import Intensity


@given(
    max_restarts=st.integers(0, 4),
    max_seconds=st.sampled_from([1, 2, 3]),
    gaps=st.lists(
        st.sampled_from([Fraction(0), Fraction(1, 2), Fraction(1), Fraction(7, 4)]), max_size=25
    ),
)
def test_it_agrees_with_counting_the_closed_window_by_hand(
    max_restarts: int, max_seconds: int, gaps: list[Fraction]
) -> None:
    """Section 4.5: allowed iff at most max_restarts attempts lie in [now - max_seconds, now]."""
    policy = Intensity(max_restarts, max_seconds)
    now = Fraction(0)
    attempts: list[Fraction] = []
    for gap in gaps:
        now += gap
        attempts.append(now)
        window = [at for at in attempts if now - max_seconds <= at]
        assert policy.allow(float(now)) == (len(window) <= max_restarts)


@pytest.mark.parametrize(
    ("age", "trips"), [(4.999, True), (5.0, True), (5.001, False), (10.0, False)]
)
def test_the_window_is_closed_on_the_left(age: float, trips: bool) -> None:
    """SUP-049: an attempt that is exactly max_seconds old still counts."""
    policy = Intensity(1, 5.0)
    assert policy.allow(100.0)
    assert policy.allow(100.0 + age) is not trips


def test_the_window_slides() -> None:
    """SUP-050: old attempts expire one by one."""
    policy = Intensity(2, 5.0)
    assert policy.allow(0.0)
    assert policy.allow(3.0)
    assert policy.allow(5.5)  # that of 0 has expired, that of 3 has not
    assert not policy.allow(6.0)


def test_none_allowed_trips_at_the_first() -> None:
    """SUP-048."""
    assert not Intensity(0, 5.0).allow(0.0)
