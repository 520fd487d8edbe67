"""Each job measures something; no test judges a figure."""

from typing import Any

import pytest
import trio

from . import jobs
from .__main__ import COMPARISONS, main


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("name", jobs.JOBS)
def test_each_job_gives_a_figure(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "MESSAGES", 4_000)
    figure = trio.run(jobs.JOBS[name], 2)
    assert figure > 0 or name == "memory"  # which two connections may not show


def test_every_job_belongs_to_a_comparison() -> None:
    used = {job for each in COMPARISONS for job in (each.ours, each.other) if job is not None}
    assert {name for name, _ in used} == set(jobs.JOBS)


def test_the_command_measures_each(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Any] = []

    def measure(package: str, job: tuple[str, int], share: float) -> float:
        asked.append((package, *job, share))
        return 1.0

    monkeypatch.setattr("tests.benchmarks.comparing.measure", measure)
    main(["--rounds", "1"])
    assert len(asked) == sum(1 + (each.other is not None) for each in COMPARISONS)
    assert "What whole clients cost" in capsys.readouterr().out
