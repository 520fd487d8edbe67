"""The benchmark runs and prints its ratio; no test judges the figure."""

import json

import pytest

from tests.benchmarks import messages


def test_a_run_in_which_messages_got_lost_has_no_figure() -> None:
    with pytest.raises(RuntimeError, match="3 messages were sent, and 2 arrived"):
        messages._rate(2, 3, 1.0)


def test_the_benchmark_prints_its_ratio(capsys: pytest.CaptureFixture[str]) -> None:
    messages.main(["--messages", "250", "--rounds", "1", "--json"])
    result = json.loads(capsys.readouterr().out)
    assert result["ratio"] > 0
    messages.main(["--messages", "200", "--rounds", "1"])
    assert "ratio: " in capsys.readouterr().out
