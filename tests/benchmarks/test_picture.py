"""The picture is well-formed, and its bars are as long as their figures."""

from xml.etree import ElementTree as ET

import pytest

from tests.benchmarks.picture import COLOURS, draw
from tests.benchmarks.running import Outcome
from tests.benchmarks.scenarios import LIBRARIES, SCENARIOS, Reading

SVG = "{http://www.w3.org/2000/svg}"


def bars(picture: str, colour: str) -> list[float]:
    rectangles = ET.fromstring(picture).iter(f"{SVG}rect")  # noqa: S314 - our own
    return [float(each.attrib["width"]) for each in rectangles if each.attrib["fill"] == colour]


def test_every_library_has_its_colour() -> None:
    assert set(COLOURS) == {library.name for library in LIBRARIES}
    assert len(set(COLOURS.values())) == len(COLOURS)


def test_a_bar_is_as_long_as_its_figure() -> None:
    outcome = Outcome(
        SCENARIOS[0],
        {
            "slipstream": [Reading(9000, 1.0, 1.0, 0)],
            "trio-websocket": [Reading(3000, 1.0, 1.0, 0)],
        },
    )
    picture = draw([outcome], "under <test> & more")
    [ours], [theirs] = (bars(picture, COLOURS[name]) for name in outcome.readings)
    assert ours == pytest.approx(3 * theirs, rel=0.01)
    assert "under &lt;test&gt; &amp; more" in picture


def test_a_picture_of_every_scenario_is_well_formed() -> None:
    reading = Reading(100, 1.0, 1.0, -1)
    outcomes = [Outcome(each, {name: [reading] for name in each.libraries}) for each in SCENARIOS]
    root = ET.fromstring(draw(outcomes, ""))  # noqa: S314 - our own
    assert len(root.findall(f"{SVG}g")) == len(SCENARIOS)
    lines = sum(len(each.targets) for each in SCENARIOS)
    assert len(list(root.iter(f"{SVG}line"))) == lines
