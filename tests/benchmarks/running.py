"""Measures: rounds of all scenarios with all libraries, each in a process of its own.

The libraries of a scenario follow each other at once, and a ratio is that of one round; so what
else the machine does falls upon both, and the median over the rounds tells the rest apart.
"""

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence

import attrs

from .scenarios import LIBRARIES, OURS, Library, Reading, Scenario, Target
from .servers import ROOT, Cores, Servers

__all__ = ["Outcome", "Verdict", "measure", "run_client"]

PASSES = 3
"""So many passes of the full length, of which the fastest counts."""

PATIENCE = 60
"""Seconds that a client may take beside those of its passes."""


@attrs.frozen
class Verdict:
    """A target, the median of what the rounds say of it, and whether that is enough."""

    target: Target
    value: float
    met: bool


@attrs.define
class Outcome:
    """The readings of a scenario: of each library, one a round."""

    scenario: Scenario
    readings: dict[str, list[Reading]] = attrs.field(factory=dict)

    def figures(self, library: str) -> list[float]:
        """Give the figure of each round."""
        return [
            self.scenario.unit.figure(reading, self.scenario.size)
            for reading in self.readings[library]
        ]

    def median(self, library: str) -> float:
        """Give the figure to show."""
        return statistics.median(self.figures(library))

    def ratio(self, library: str) -> float | None:
        """Give ours to that of *library*, the median of the rounds' ratios; ``None`` without it."""
        if library not in self.readings:
            return None
        pairs = zip(self.figures(OURS), self.figures(library), strict=True)
        return statistics.median(ours / theirs for ours, theirs in pairs)

    def verdicts(self) -> list[Verdict]:
        """Judge the targets whose library was measured."""
        verdicts: list[Verdict] = []
        for target in self.scenario.targets:
            if target.against in self.readings:
                pairs = zip(self.figures(OURS), self.figures(target.against), strict=True)
                value = statistics.median(target.compare(*pair) for pair in pairs)
                verdicts.append(Verdict(target, value, target.is_met(value)))
        return verdicts


def run_client(
    scenario: Scenario, library: Library, servers: Servers, cores: Cores, seconds: float
) -> Reading:
    """Measure once.

    Raises:
        RuntimeError: if the client failed, as it does when a message got lost, or hangs.
    """
    base = servers.secure if scenario.secure else servers.plain
    command = [sys.executable, "-m", "tests.benchmarks.clients"]
    command += [library.module, scenario.work, base + scenario.path, "--loop", library.loop]
    command += ["--count", str(scenario.count), "--seconds", str(0 if scenario.once else seconds)]
    command += ["--passes", str(1 if scenario.once else PASSES)]
    command += ["--ca", str(servers.ca)] if scenario.secure else []
    command += ["--cpu", str(cores.client)] if cores.client is not None else []
    command += ["--tuned"] if library.tuned else []
    what = f"{scenario.name} with {library.name}"
    try:
        done = subprocess.run(  # noqa: S603 - our own
            command,
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
            timeout=PATIENCE + 20 * PASSES * seconds,
        )
    except subprocess.TimeoutExpired as expired:
        raise RuntimeError(f"{what} hangs: did messages get lost?") from expired
    if done.returncode:
        raise RuntimeError(f"{what} failed:\n{done.stderr}")
    return Reading(**json.loads(done.stdout))


def measure(
    scenarios: Sequence[Scenario],
    rounds: int,
    run: Callable[[Scenario, Library], Reading],
    progress: Callable[[str], None],
) -> list[Outcome]:
    """Run every scenario in every round, with every library that is there.

    Each round begins with another library, so that none always comes after the same one.
    """
    outcomes = [Outcome(scenario) for scenario in scenarios]
    for number in range(rounds):
        for outcome in outcomes:
            names = outcome.scenario.libraries
            libraries = [each for each in LIBRARIES if each.name in names and each.is_there]
            first = number % len(libraries)
            for library in libraries[first:] + libraries[:first]:
                progress(f"round {number + 1}/{rounds}: {outcome.scenario.name}, {library.name}")
                reading = run(outcome.scenario, library)
                outcome.readings.setdefault(library.name, []).append(reading)
    return outcomes
