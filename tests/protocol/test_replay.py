"""Recorded conversations of four real servers, and what a client would have made of them."""

import pytest

from tests.protocol.replay import SCENARIOS, SERVERS, TRANSCRIPTS, replay

RECORDED = [
    (server, scenario)
    for server in SERVERS
    for scenario in SCENARIOS
    if (TRANSCRIPTS / server / f"{scenario}.jsonl").exists()
]


@pytest.mark.parametrize(("server", "scenario"), RECORDED)
def test_a_recorded_conversation_gives_the_events_that_are_written_beside_it(
    server: str, scenario: str
) -> None:
    """complaint-20: what versions of Phoenix did, each on both web servers."""
    expected = (TRANSCRIPTS / server / f"{scenario}.events").read_text().splitlines()
    assert replay(server, scenario) == expected


def test_the_recordings_are_there() -> None:
    assert len(SERVERS) == 4
    assert len(RECORDED) == 42
