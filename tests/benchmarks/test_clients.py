"""Every library does its work in every scenario, and no message gets lost."""

import gc
import json

import pytest

from tests.benchmarks.clients.__main__ import best_pass, check, main
from tests.benchmarks.clients.job import Stopwatch
from tests.benchmarks.scenarios import LIBRARIES, OURS, SCENARIOS, Library, Scenario
from tests.benchmarks.servers import Servers

# Others leave sockets to the garbage collector, when the server closes first. We must not.
LEAKING = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

CASES = [
    pytest.param(
        scenario,
        library,
        id=f"{scenario.name}-{library.name.replace(', ', '-')}",
        marks=[] if library.name == OURS else [LEAKING],
    )
    for scenario in SCENARIOS
    for library in LIBRARIES
    if library.name in scenario.libraries
]


@pytest.mark.parametrize(("scenario", "library"), CASES)
def test_a_library_does_its_work(
    scenario: Scenario, library: Library, servers: Servers, capsys: pytest.CaptureFixture[str]
) -> None:
    if not library.is_there:
        pytest.skip(f"{library.name} is not installed")
    base = servers.secure if scenario.secure else servers.plain
    arguments = [library.module, scenario.work, base + scenario.path, "--loop", library.loop]
    arguments += ["--ca", str(servers.ca)] if scenario.secure else []
    arguments += ["--tuned"] if library.tuned else []
    main([*arguments, "--count", "3"])
    gc.collect()  # what is left behind is this library's
    reading = json.loads(capsys.readouterr().out)
    assert reading["count"] == 3
    assert reading["seconds"] > 0
    assert reading["cpu_seconds"] >= 0
    assert reading.keys() == {"count", "seconds", "cpu_seconds", "resident_bytes"}


@pytest.mark.parametrize(("heard", "how"), [(2, "lost"), (4, "doubled")])
def test_a_pass_in_which_messages_got_lost_or_doubled_has_no_figure(heard: int, how: str) -> None:
    with pytest.raises(RuntimeError, match=f"3 were sent or asked for, and {heard} arrived"):
        check(heard, 3)


@pytest.mark.parametrize("module", ["ours", pytest.param("naive", marks=LEAKING)])
def test_a_message_that_the_server_kept_is_missed(module: str, servers: Servers) -> None:
    # The server takes the first count; the client believes in the one that it adds.
    with pytest.raises(RuntimeError, match="3 were sent or asked for, and 2 arrived"):
        main([module, "receive", f"{servers.plain}/blast?size=150&count=2", "--count", "3"])
    gc.collect()


def test_passes_become_longer_until_one_takes_long_enough_and_then_the_fastest_counts() -> None:
    counts: list[int] = []
    took = iter([0.0001, 0.01, 0.25, 0.21, 0.3])

    def run(count: int) -> Stopwatch:
        counts.append(count)
        watch = Stopwatch()
        watch.seconds = next(took)
        return watch

    count, watch = best_pass(run, 10, 0.2, 3)
    # Ten times as many at most, so that one that is too fast to be measured misleads nobody.
    assert counts == [10, 100, 1000, 1000, 1000]
    assert (count, watch.seconds) == (1000, 0.21)
