"""How figures are written."""

import pytest

from tests.benchmarks.report import busy_lines, short


@pytest.mark.parametrize(
    ("figure", "text"),
    [
        (0.0, "0.00"),
        (1.234, "1.23"),
        (45.67, "45.7"),
        (789.4, "789"),
        (999.7, "1.00 k"),
        (12_345, "12.3 k"),
        (999_999, "1.00 M"),
        (2_345_678, "2.35 M"),
        (-34.72, "-34.7"),
    ],
)
def test_a_figure_has_three_digits_that_count(figure: float, text: str) -> None:
    assert short(figure) == text


def test_a_busy_machine_is_told_of() -> None:
    assert busy_lines([0.4, 1.0]) == busy_lines([None, None]) == []
    assert busy_lines([0.4, 3.24]) == [
        "the machine was busy, 3.2 processes wanted each core: trust no figure"
    ]
