"""Measure Slipstream beside other WebSocket clients: ``python -m tests.benchmarks``.

In one run and in turns, each client in a process of its own on one core, a fast server on another.
Of a few passes the fastest counts; ratios are medians of the rounds' ratios; figures only orient.
"""

import argparse
import json
import sys
import tempfile
from functools import partial
from pathlib import Path

from rich.console import Console

from .building import NoCompilerError
from .picture import draw
from .report import as_json, as_table, busy_lines, missing_lines
from .running import measure, run_client
from .scenarios import LIBRARIES, SCENARIOS, Scenario, can_measure
from .servers import Cores, load_per_core, open_servers

WIDTH = 150
"""Columns of the table where it is not printed to a terminal."""


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="the more, the less noise (5)")
    parser.add_argument(
        "--seconds", type=float, default=0.2, help="the least that a pass takes (0.2)"
    )
    names = [scenario.name for scenario in SCENARIOS]
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument(
        "--output", type=Path, default=Path("build/benchmarks"), help="the folder of the picture"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, and no table")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error(f"--rounds is at least 1, not {options.rounds}")
    return options


def run(options: argparse.Namespace, scenarios: list[Scenario]) -> None:
    """Measure *scenarios*; print the table or the object, and write both files."""
    errors = Console(stderr=True, highlight=False)
    missing = [library for library in LIBRARIES if not library.is_there]
    cores = Cores.choose()
    loads = [load_per_core()]
    with (
        tempfile.TemporaryDirectory() as folder,
        open_servers(Path(folder), cores) as servers,
        errors.status("starting") as status,
    ):
        client = partial(run_client, servers=servers, cores=cores, seconds=options.seconds)
        outcomes = measure(scenarios, options.rounds, client, status.update)
    loads.append(load_per_core())
    result = as_json(outcomes, missing, cores, loads)
    used = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    subtitle = f"Python {result['python']}, {used}; rounds: {options.rounds}"
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "benchmarks.svg").write_text(draw(outcomes, subtitle), "utf-8")
    (options.output / "benchmarks.json").write_text(json.dumps(result, indent=1), "utf-8")
    if options.json:
        print(json.dumps(result))
    else:
        console = Console(width=None if sys.stdout.isatty() else WIDTH)
        console.print(as_table(outcomes))
        console.print(f"{subtitle}\nPicture: {options.output / 'benchmarks.svg'}", highlight=False)
    for line in [*missing_lines(missing), *busy_lines(loads)]:
        errors.print(line, markup=False)


def main(arguments: list[str] | None = None) -> None:
    """Do what the command line says; end with a message where it cannot be done."""
    options = parse(arguments)
    scenarios = [each for each in SCENARIOS if not options.only or each.name in options.only]
    for each in scenarios:
        if not can_measure(each):
            print(f"{each.name} is left out: it needs /proc", file=sys.stderr)
    try:
        run(options, list(filter(can_measure, scenarios)))
    except (NoCompilerError, RuntimeError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
