"""The command measures, prints and draws; no test judges a figure."""

import importlib.util
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tests.benchmarks.__main__ import main
from tests.benchmarks.scenarios import LIBRARIES, SCENARIOS

TINY = ["--rounds", "1", "--seconds", "0"]


@pytest.fixture
def without_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide what only the extra installs."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: None if name in {"picows", "websockets"} else find_spec(name),
    )


def test_a_run_has_its_figures_as_json_and_a_picture(
    compiler: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["receive-small", "receive-tls"]
    main([*TINY, "--only", *names, "--json", "--output", str(tmp_path)])
    result = json.loads(capsys.readouterr().out)
    there = [library.name for library in LIBRARIES if library.is_there]
    assert [scenario["name"] for scenario in result["scenarios"]] == names
    assert result["missing"] == [each.name for each in LIBRARIES if not each.is_there]
    assert {"slipstream", "trio-websocket", "trio"} <= set(result["versions"])
    for scenario in result["scenarios"]:
        judge_shape(scenario, there)
    assert json.loads((tmp_path / "benchmarks.json").read_text("utf-8")) == result
    root = ET.fromstring((tmp_path / "benchmarks.svg").read_text("utf-8"))  # noqa: S314 - our own
    assert root.tag.endswith("svg")


def judge_shape(scenario: dict[str, Any], there: list[str]) -> None:
    [declared] = [each for each in SCENARIOS if each.name == scenario["name"]]
    expected = {name for name in declared.libraries if name in there}
    assert set(scenario["figures"]) == set(scenario["median"]) == expected
    assert set(scenario["ratio"]) == expected - {"slipstream"}
    assert all(len(figures) == 1 and figures[0] > 0 for figures in scenario["figures"].values())
    for target in scenario["targets"]:
        assert target.keys() == {"against", "wanted", "value", "met"}
        assert target["against"] in expected


@pytest.mark.usefixtures("without_others")
def test_a_library_that_is_not_there_is_left_out_with_a_line(
    compiler: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([*TINY, "--only", "connect", "--output", str(tmp_path)])
    told = capsys.readouterr()
    for name in ("websockets", "picows"):
        assert f"{name} is not installed and left out: pip install '.[bench]'" in told.err
        assert name not in told.out
    for word in ("slipstream", "trio-websocket", "Connect and", "≤ 1.2 ×", "benchmarks.svg"):
        assert word in told.out


def test_without_a_compiler_the_command_ends_with_a_message(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(SystemExit, match="error: the benchmarks' server is written in C, and no"):
        main([*TINY, "--output", str(tmp_path / "nothing")])
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [(["--rounds", "0"], "--rounds is at least 1"), (["--only", "nothing"], "invalid choice")],
)
def test_what_cannot_be_asked_for_is_told(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert complaint in capsys.readouterr().err
