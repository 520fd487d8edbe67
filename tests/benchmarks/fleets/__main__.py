"""Measure what whole clients cost, one and many: ``python -m tests.benchmarks.fleets``.

Each figure comes from a process of its own, with the server in another; ours and the other in turns.
What counts is the median of the rounds' ratios. Figures only orient.
"""

from tests.benchmarks.comparing import Comparison, run

from .jobs import JOBS

__all__ = ["COMPARISONS", "main"]

LIVES, IDLE, TOPICS, CLIENTS = 200, 500, 10_000, 1_000

COMPARISONS = (
    Comparison(
        "Start a supervised client, join, stop it",
        ("life_ours", LIVES),
        ("life_bare", LIVES),
        "trio-websocket: connect, close",
        1.5,
    ),
    Comparison(
        f"Memory of each of {IDLE} idle, joined, supervised clients",
        ("memory", IDLE),
        None,
        "",
        64.0,
        scale=1 / 1024,
        unit="KiB",
    ),
    Comparison(
        f"A message, with {TOPICS:,} topics joined",
        ("message_by_topics", TOPICS),
        ("message_by_topics", 1),
        "with one",
        1.2,
    ),
    Comparison(
        f"A message, in {CLIENTS:,} clients",
        ("message_by_clients", CLIENTS),
        ("message_by_clients", 1),
        "in one",
        1.2,
    ),
    Comparison(
        f"Delay of the event loop (p99) while a server of {CLIENTS:,} clients restarts",
        ("delay_in_restart", CLIENTS),
        None,
        "",
        100.0,
        scale=1e3,
        unit="ms",
    ),
)


def main(arguments: list[str] | None = None) -> None:
    """Do what the command line says."""
    run(
        "tests.benchmarks.fleets", "What whole clients cost", COMPARISONS, JOBS,
        about=__doc__, arguments=arguments,
    )  # fmt: skip


if __name__ == "__main__":
    main()
