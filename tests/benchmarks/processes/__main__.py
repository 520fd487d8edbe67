"""Measure what processes cost: ``python -m tests.benchmarks.processes``.

Each figure comes from a process of its own, ours and the other in turns; what counts is the median
of the rounds' ratios (or differences). Figures only orient.
"""

from tests.benchmarks.comparing import Comparison, run

from .jobs import JOBS

__all__ = ["COMPARISONS", "main"]

MANY, FEW = 20_000, 2_000

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


def main(arguments: list[str] | None = None) -> None:
    """Do what the command line says."""
    run(
        "tests.benchmarks.processes", "What processes cost", COMPARISONS, JOBS,
        about=__doc__, arguments=arguments,
    )  # fmt: skip


if __name__ == "__main__":
    main()
