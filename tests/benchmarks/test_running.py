"""Rounds are interleaved, ratios are those of a round, and what fails is told."""

import attrs
import pytest

from tests.benchmarks.running import Outcome, measure, run_client
from tests.benchmarks.scenarios import LIBRARIES, OURS, SCENARIOS, Library, Reading, Scenario
from tests.benchmarks.servers import Cores, Servers

[SMALL] = [scenario for scenario in SCENARIOS if scenario.name == "receive-small"]
[IDLE] = [scenario for scenario in SCENARIOS if scenario.name == "idle"]
NAIVE = "trio-websocket"


def in_seconds(seconds: float) -> Reading:
    return Reading(1000, seconds, seconds, 0)


def test_each_round_begins_with_another_library() -> None:
    order: list[str] = []

    def run(_scenario: Scenario, library: Library) -> Reading:
        order.append(library.name)
        return in_seconds(1.0)

    scenario = attrs.evolve(SMALL, libraries=(OURS, NAIVE))
    [outcome] = measure([scenario], 3, run, lambda _line: None)
    assert order == [OURS, NAIVE, NAIVE, OURS, OURS, NAIVE]
    assert {name: len(readings) for name, readings in outcome.readings.items()} == {
        OURS: 3,
        NAIVE: 3,
    }


def test_a_ratio_is_the_median_of_the_rounds_ratios_and_not_that_of_medians() -> None:
    outcome = Outcome(SMALL)
    outcome.readings[OURS] = [in_seconds(1.0), in_seconds(2.0), in_seconds(4.0)]
    outcome.readings[NAIVE] = [in_seconds(2.0), in_seconds(2.0), in_seconds(40.0)]
    assert outcome.ratio(NAIVE) == 2.0
    assert outcome.ratio("picows") is None


def test_a_target_is_judged_only_where_its_library_was_measured() -> None:
    outcome = Outcome(SMALL, {OURS: [in_seconds(1.0)], NAIVE: [in_seconds(31.0)]})
    [verdict] = outcome.verdicts()
    assert (verdict.met, verdict.value, str(verdict.target)) == (True, 31.0, "≥ 30 ×")


@pytest.mark.parametrize(("kibibytes", "met"), [(20, True), (24, False)])
def test_memory_is_judged_by_the_difference(kibibytes: int, met: bool) -> None:
    ours, bare = (Reading(10, 1.0, 1.0, each * 1024 * 10) for each in (kibibytes, 5))
    [verdict] = Outcome(IDLE, {OURS: [ours], "bare trio stream": [bare]}).verdicts()
    assert verdict.value == kibibytes - 5
    assert verdict.met is met
    assert verdict.target.mark(5) == 21


def test_a_client_that_lost_a_message_ends_the_run(servers: Servers) -> None:
    scenario = attrs.evolve(SMALL, path=f"{SMALL.path}&count=2", count=3)
    with pytest.raises(RuntimeError, match=r"receive-small with slipstream failed:(?s:.*) 2 arriv"):
        run_client(scenario, LIBRARIES[0], servers, Cores(None, None), 0.0)
