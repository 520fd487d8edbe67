"""Events by name, to whoever asked."""

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from slipstream import ConfigError
from slipstream.telemetry import (
    attach,
    attached,
    capture_events,
    detach,
    execute,
    span,
)


def test_an_event_reaches_its_name_and_its_prefixes_only() -> None:
    heard: list[tuple[str, str]] = []
    prefixes = ["", "a", "a.b", "a.bc", "b"]
    for prefix in prefixes:
        attach(
            f"h-{prefix}", prefix, lambda event, data, prefix=prefix: heard.append((prefix, event))
        )
    try:
        execute("a.b", x=1)
    finally:
        for prefix in prefixes:
            assert detach(f"h-{prefix}")
    assert heard == [("", "a.b"), ("a", "a.b"), ("a.b", "a.b")]
    execute("a.b", x=1)
    assert len(heard) == 3


def test_nobody_attached_costs_nothing_and_says_so() -> None:
    assert not attached("some.event")
    with capture_events("some"):
        assert attached("some.event")
        assert attached("some")
    assert not attached("some.event")


def test_a_handler_that_raises_is_detached_and_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(event: str, data: Any) -> None:
        raise ValueError("broken observer")

    attach("broken", "x", fail)
    with capture_events("x") as events:
        execute("x.y")
        execute("x.y")
    assert len(events) == 2
    assert len(caplog.records) == 1
    assert "broken observer" in caplog.text
    assert not detach("broken")


def test_an_id_is_attached_once() -> None:
    attach("one", "x", lambda event, data: None)
    try:
        with pytest.raises(ConfigError, match="'one'"):
            attach("one", "y", lambda event, data: None)
    finally:
        detach("one")


def test_a_span_tells_of_start_and_end_with_its_duration() -> None:
    async def scenario() -> None:
        with capture_events("job") as events:
            with span("job", clock=trio.current_time, id=1) as extra:
                await trio.sleep(2.0)
                extra["rows"] = 3
            with trio.move_on_after(1.0), span("job", clock=trio.current_time, id=2):
                await trio.sleep_forever()
            assert events[:2] == [
                ("job.start", {"id": 1}),
                ("job.stop", {"id": 1, "rows": 3, "duration": 2.0}),
            ]
            name, data = events[3]
            assert name == "job.exception"
            assert data["duration"] == 1.0
            assert isinstance(data["error"], trio.Cancelled)

    trio.run(scenario, clock=MockClock(autojump_threshold=0))
