"""The command measures and prints; no test judges a figure."""

import json

import pytest

from .__main__ import COMPARISONS, main
from .jobs import JOBS


def test_it_prints_a_row_for_each_comparison(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--rounds", "1", "--share", "0.001", "--json"])
    measured = json.loads(capsys.readouterr().out)["measured"]
    assert [row["title"] for row in measured] == [each.title for each in COMPARISONS]
    assert all(
        row["met"] == (row["value"] <= each.limit)
        for row, each in zip(measured, COMPARISONS, strict=True)
    )


def test_every_job_belongs_to_a_comparison() -> None:
    used = {job for each in COMPARISONS for job in (each.ours, each.other) if job is not None}
    assert {name for name, _ in used} == set(JOBS)


def test_no_round_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--rounds", "0"])
    assert "--rounds is at least 1, not 0" in capsys.readouterr().err
