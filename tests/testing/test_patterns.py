"""Patterns: what fits, and what is told where something does not."""

import re
from typing import Any

import pytest

from slipstream.client.awaiting import matches
from slipstream.reasons import ClosedByServer
from slipstream.testing import ANY, exactly
from slipstream.testing._patterns import describe, differences


def trips(value: Any) -> bool:
    raise KeyError(value)


def is_even(value: Any) -> bool:
    return isinstance(value, int) and value % 2 == 0


@pytest.mark.parametrize(
    ("pattern", "value"),
    [
        (ANY, object()),
        (int, 3),
        (is_even, 4),
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"a": {"b": is_even}}, {"a": {"b": 2, "c": 3}}),
        ([1, ANY], [1, 2]),
        ((1, {"a": ANY}), [1, {"a": None}]),
        (None, None),
        (b"x", b"x"),
        (exactly({"a": 1}), {"a": 1}),
        ({"a": exactly([{}])}, {"a": [{}], "b": 2}),
        (ClosedByServer(1012, ANY), ClosedByServer(1012, "bye")),
    ],
)
def test_what_fits_differs_nowhere(pattern: Any, value: Any) -> None:
    assert differences(pattern, value) == []
    assert matches(pattern, value)  # as for await_message


@pytest.mark.parametrize(
    ("pattern", "value", "told"),
    [
        (int, "3", ["x: expected int, got '3'"]),
        (is_even, 3, ["x: expected what fits is_even, got 3"]),
        (
            {"a": 1, "b": 2},
            {"a": 2},
            ["x['a']: expected 1, got 2", "x['b']: expected 2, but it is not there"],
        ),
        ({"a": 1}, 5, ["x: expected {'a': 1}, got 5"]),
        ([1, 2], [1], ["x: expected 2 items, got 1: [1]"]),
        ([1, 2], [1, 3], ["x[1]: expected 2, got 3"]),
        ([1], "1", ["x: expected [1], got '1'"]),
        (trips, 3, ["x: what fits trips raised KeyError(3) for 3"]),
        (exactly([]), [1], ["x: expected exactly([]), got [1]"]),
        (
            exactly({"a": 1, "b": 2, "c": 3}),
            {"a": 1, "b": 3, "d": 4},
            [
                "x['b']: expected 2, got 3",
                "x['c']: expected 3, but it is not there",
                "x['d']: expected not to be there, got 4",
            ],
        ),
        ({"a": [{"b": 1}]}, {"a": [{"b": 2}]}, ["x['a'][0]['b']: expected 1, got 2"]),
    ],
)
def test_what_does_not_fit_tells_where(pattern: Any, value: Any, told: list[str]) -> None:
    assert differences(pattern, value, "x") == told
    if pattern is not trips:
        assert not matches(pattern, value)  # as for await_message


def test_a_pattern_is_described_as_a_person_would() -> None:
    assert [describe(each) for each in (ANY, int, is_even, {"a": 1}, exactly({}))] == [
        "ANY",
        "int",
        "what fits is_even",
        "{'a': 1}",
        "exactly({})",
    ]
    assert re.fullmatch(r"what fits the lambda of line \d+", describe(lambda _: True))
