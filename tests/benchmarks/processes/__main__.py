"""Measure what processes cost: ``python -m tests.benchmarks.processes``.

Each figure comes from a process of its own, ours and the other in turns; what counts is the median
of the rounds' ratios (or differences). Figures only orient.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import attrs
import trio
from rich.console import Console
from rich.table import Table

from .jobs import JOBS

__all__ = ["COMPARISONS", "Comparison", "main"]

ROOT = Path(__file__).resolve().parents[3]
MANY, FEW = 20_000, 2_000


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


COMPARISONS = (
    Comparison(
        f"Start each of {MANY:,} processes",
        ("start_ours", MANY),
        ("start_bare", MANY),
        "a task and an event",
        5.0,
    ),
    Comparison(
        f"Memory of each of {MANY:,} idle processes",
        ("memory_ours", MANY),
        None,
        "",
        8.0,
        scale=1 / 1024,
        unit="KiB",
    ),
    Comparison(
        "Cast to a busy process",
        ("cast_ours", MANY),
        ("cast_bare", MANY),
        "deque.append and Event.set",
        0.5,
        above=True,
    ),
    Comparison(
        "Call and be answered",
        ("call_ours", MANY),
        ("call_bare", MANY),
        "two switches between tasks",
        2.5,
    ),
    Comparison(
        f"Restart one of {MANY:,} children",
        ("restart_one", MANY),
        ("restart_one", FEW),
        f"one of {FEW:,}",
        2.0,
    ),
    Comparison(
        f"which_children of {MANY:,}, a child",
        ("which_children", MANY),
        ("which_children", FEW),
        f"of {FEW:,}",
        2.0,
    ),
    Comparison(
        f"Stop {MANY:,} children, a child",
        ("stop_all", MANY),
        ("stop_all", FEW),
        f"of {FEW:,}",
        2.0,
    ),
)


def measure(job: tuple[str, int], share: float) -> float:
    """Measure one job in a process of its own, with *share* of its count."""
    name, count = job
    command = [sys.executable, "-m", __package__, "--job", name, str(max(1, int(count * share)))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603 - ourselves
    if done.returncode:
        raise RuntimeError(f"{name} failed:\n{done.stderr}")
    return float(done.stdout)


def compare(comparison: Comparison, rounds: int, share: float) -> tuple[float, float | None, float]:
    """Give the medians of ours and the other, and of what the limit is for."""
    ours: list[float] = []
    other: list[float] = []
    values: list[float] = []
    for _ in range(rounds):
        ours.append(measure(comparison.ours, share) * comparison.scale)
        if comparison.other is not None:
            other.append(measure(comparison.other, share) * comparison.scale)
        values.append(comparison.value(ours[-1], other[-1] if other else None))
    return (
        statistics.median(ours),
        statistics.median(other) if other else None,
        statistics.median(values),
    )


def main(arguments: list[str] | None = None) -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="the more, the less noise (5)")
    parser.add_argument(
        "--share", type=float, default=1.0, help="of the counts, to look quickly (1)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, and no table")
    parser.add_argument("--job", nargs=2, metavar=("NAME", "COUNT"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.job is not None:
        name, count = options.job
        print(trio.run(JOBS[name], int(count)))
        return
    if options.rounds < 1:
        parser.error(f"--rounds is at least 1, not {options.rounds}")
    table = Table("", "ours", "beside", "theirs", "wanted", "reached", title="What processes cost")
    result = []
    with Console(stderr=True).status("measuring") as status:
        for each in COMPARISONS:
            status.update(each.title)
            ours, other, value = compare(each, options.rounds, options.share)
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


if __name__ == "__main__":
    main()
