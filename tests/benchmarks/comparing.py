"""Comparisons of one job with another, each in a process of its own, and the command that makes them."""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import attrs
import trio
from rich.console import Console
from rich.table import Table

__all__ = ["Comparison", "Job", "run"]

ROOT = Path(__file__).resolve().parents[2]

Job = Callable[[int], Awaitable[float]]
"""Does something *count* times, and gives what each took: CPU seconds, or bytes."""


@attrs.frozen
class Comparison:
    """Two measurements, *ours* and *other*, and what we want of them.

    Attributes:
        limit: the most that ours may be: times the other's, or, with *above*, more than the
            other's, or, without an *other*, at all.
    """

    title: str
    ours: tuple[str, int]
    other: tuple[str, int] | None
    beside: str
    limit: float
    above: bool = False
    scale: float = 1e6
    unit: str = "µs"

    def value(self, ours: float, other: float | None) -> float:
        """Give what the limit is for, of two figures in the table's unit."""
        if other is None:
            return ours
        return ours - other if self.above else ours / other

    @property
    def wanted(self) -> str:
        """Say what is wanted."""
        if self.other is None:
            return f"≤ {self.limit:g} {self.unit}"
        return f"≤ {self.limit:g} {self.unit} above" if self.above else f"≤ {self.limit:g} ×"


def measure(package: str, job: tuple[str, int], share: float) -> float:
    """Measure one job of *package* in a process of its own, with *share* of its count."""
    name, count = job
    command = [sys.executable, "-m", package, "--job", name, str(max(1, int(count * share)))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603 - ourselves
    if done.returncode:
        raise RuntimeError(f"{name} failed:\n{done.stderr}")
    return float(done.stdout)


def compare(
    package: str, comparison: Comparison, rounds: int, share: float
) -> tuple[float, float | None, float]:
    """Give the medians of ours and the other, and of what the limit is for."""
    ours: list[float] = []
    other: list[float] = []
    values: list[float] = []
    for _ in range(rounds):
        ours.append(measure(package, comparison.ours, share) * comparison.scale)
        if comparison.other is not None:
            other.append(measure(package, comparison.other, share) * comparison.scale)
        values.append(comparison.value(ours[-1], other[-1] if other else None))
    return (
        statistics.median(ours),
        statistics.median(other) if other else None,
        statistics.median(values),
    )


def run(
    package: str,
    title: str,
    comparisons: Sequence[Comparison],
    jobs: Mapping[str, Job],
    *,
    about: str | None,
    arguments: list[str] | None = None,
) -> None:
    """Be the command of *package*: measure *comparisons*, or, as one of its processes, one of *jobs*."""
    parser = argparse.ArgumentParser(prog=f"python -m {package}", description=about)
    parser.add_argument("--rounds", type=int, default=5, help="the more, the less noise (5)")
    parser.add_argument(
        "--share", type=float, default=1.0, help="of the counts, to look quickly (1)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, and no table")
    parser.add_argument("--job", nargs=2, metavar=("NAME", "COUNT"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.job is not None:
        name, count = options.job
        print(trio.run(jobs[name], int(count)))
        return
    if options.rounds < 1:
        parser.error(f"--rounds is at least 1, not {options.rounds}")
    table = Table("", "ours", "beside", "theirs", "wanted", "reached", title=title)
    result = []
    with Console(stderr=True).status("measuring") as status:
        for each in comparisons:
            status.update(each.title)
            ours, other, value = compare(package, each, options.rounds, options.share)
            met = value <= each.limit
            result.append(
                {"title": each.title, "ours": ours, "other": other, "value": value, "met": met}
                | {"unit": each.unit, "wanted": each.wanted}
            )
            table.add_row(
                each.title,
                f"{ours:.3g} {each.unit}",
                each.beside,
                "" if other is None else f"{other:.3g} {each.unit}",
                each.wanted,
                f"[{'green' if met else 'red'}]{value:.2f} {'yes' if met else 'no'}[/]",
            )
    if options.json:
        print(
            json.dumps(
                {"python": sys.version.split()[0], "cores": os.cpu_count(), "measured": result}
            )
        )
    else:
        Console(width=None if sys.stdout.isatty() else 150).print(table)
