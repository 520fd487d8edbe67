"""What was measured, as a table for people and as one JSON object for programs."""

import platform
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from .running import Outcome
from .scenarios import LIBRARIES, OURS, Library
from .servers import Cores

__all__ = ["as_json", "as_table", "busy_lines", "missing_lines", "short"]

BUSY = 1.1
"""A client and a server that never wait come to one for each of two cores."""


def short(figure: float) -> str:
    """Write *figure* with three digits that count: ``1.23 M``, ``45.6 k``, ``789``, ``1.5``."""
    for factor, sign in ((1e6, " M"), (1e3, " k")):
        if abs(figure) >= factor * 0.9995:
            return f"{figure / factor:#.3g}".rstrip(".") + sign
    return f"{figure:#.3g}".rstrip(".")


def missing_lines(missing: Sequence[Library]) -> list[str]:
    """Say what is left out, and how it would not be."""
    return [
        f"{library.name} is not installed and left out: pip install '.[bench]'"
        for library in missing
    ]


def busy_lines(loads: Sequence[float | None]) -> list[str]:
    """Say that something else ran, where it did."""
    highest = max((load for load in loads if load is not None), default=0.0)
    if highest <= BUSY:
        return []
    return [f"the machine was busy, {highest:.1f} processes wanted each core: trust no figure"]


def as_table(outcomes: Sequence[Outcome]) -> Table:
    """Show each scenario with every library's median, our ratio to each, and the targets."""
    libraries = [
        library.name
        for library in LIBRARIES
        if any(library.name in outcome.readings for outcome in outcomes)
    ]
    table = Table(title="Medians, and ours to theirs", show_lines=True)
    table.add_column("scenario")
    for name in libraries:
        table.add_column(name, justify="right")
    for heading in ("target", "reached"):
        table.add_column(heading, no_wrap=True)
    for outcome in outcomes:
        targets, reached = _target_cells(outcome)
        title = f"[b]{outcome.scenario.title}[/b]\n[dim]{outcome.scenario.unit.value}[/dim]"
        table.add_row(title, *(_cell(outcome, name) for name in libraries), targets, reached)
    return table


def _cell(outcome: Outcome, library: str) -> str:
    ratio = outcome.ratio(library)
    if ratio is None:
        return ""
    figure = short(outcome.median(library))
    return f"[b]{figure}[/b]" if library == OURS else f"{figure}\n[dim]{ratio:.2f} ×[/dim]"


def _target_cells(outcome: Outcome) -> tuple[str, str]:
    verdicts = outcome.verdicts()
    targets = (f"{verdict.target} {verdict.target.against}" for verdict in verdicts)
    reached = (
        f"[green]{verdict.value:.2f} yes[/green]"
        if verdict.met
        else f"[red]{verdict.value:.2f} no[/red]"
        for verdict in verdicts
    )
    return "\n".join(targets), "\n".join(reached)


def as_json(
    outcomes: Sequence[Outcome],
    missing: Sequence[Library],
    cores: Cores,
    loads: Sequence[float | None],
) -> dict[str, Any]:
    """Give everything that was measured: each round's figures, medians, ratios and verdicts."""
    used = [each for each in LIBRARIES if any(each.name in one.readings for one in outcomes)]
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": {"client": cores.client, "server": cores.server},
        "load_per_core": list(loads),
        "versions": {library.distribution: library.version for library in used},
        "missing": [library.name for library in missing],
        "scenarios": [_scenario(outcome) for outcome in outcomes],
    }


def _scenario(outcome: Outcome) -> dict[str, Any]:
    scenario = outcome.scenario
    return {
        "name": scenario.name,
        "title": scenario.title,
        "unit": scenario.unit.value,
        "better": "less" if scenario.unit.less_is_better else "more",
        "figures": {name: outcome.figures(name) for name in outcome.readings},
        # Beside the figure, since a client that waits for the server is faster than it looks.
        "cpu_share": {
            name: [reading.cpu_seconds / reading.seconds for reading in readings]
            for name, readings in outcome.readings.items()
        },
        "median": {name: outcome.median(name) for name in outcome.readings},
        "ratio": {name: outcome.ratio(name) for name in outcome.readings if name != OURS},
        "targets": [
            {
                "against": verdict.target.against,
                "wanted": str(verdict.target),
                "value": verdict.value,
                "met": verdict.met,
            }
            for verdict in outcome.verdicts()
        ],
    }
