"""Looking into a client: its state is that of the instance of its class."""

from typing import Any

import pytest
import trio

from slipstream.otp import SlowReport, format_tree, sys
from tests.client.support import harness, settle, virtual


def test_the_state_of_a_client_is_its_own() -> None:
    """GS-080, GS-081: what the library keeps is not shown, and not replaced."""

    async def change(client: Any, *_: Any) -> None:
        client.room = "lobby"

    async def scenario() -> None:
        async with harness({"handle_connect": change}) as h:
            end = await h.accept()
            await settle()
            state = await sys.get_state(h.ref)
            assert state.keys() == {"calls", "scripts", "room"}
            new = await sys.replace_state(h.ref, lambda old: {**old, "room": "cellar"})
            assert new["room"] == "cellar"
            assert (await sys.get_state(h.ref))["room"] == "cellar"
            assert h.ref.health().connected
            end.peer.close(1000)
            await settle()
            assert (await sys.get_status(h.ref)).cls.__name__ == "Recorder"

    virtual(scenario)


@pytest.mark.parametrize("shows", [False, True])
def test_the_status_of_a_client_shows_payloads_only_if_that_is_wanted(shows: bool) -> None:
    """GS-082: design section 4, log_payloads."""

    async def scenario() -> None:
        async with harness({}, log_payloads=shows) as h:
            end, _ = await h.joined()
            end.broadcast("t", "news", {"body": "a payload"})
            await settle()
            status = await sys.get_status(h.ref)
            assert "news" in repr(status.message)
            assert ("a payload" in repr(status.message)) is shows

    virtual(scenario)


def test_a_suspended_client_gets_its_messages_later() -> None:
    async def scenario() -> None:
        async with harness({}) as h:
            end, _ = await h.joined()
            await sys.suspend(h.ref)
            end.broadcast("t", "news", {"n": 1})
            await settle()
            assert "handle_message" not in [name for name, *_ in h.calls]
            await sys.resume(h.ref)
            await settle()
            assert "handle_message" in [name for name, *_ in h.calls]

    virtual(scenario)


def test_the_tree_of_a_client_shows_its_connection() -> None:
    async def scenario() -> None:
        async with harness({}) as h:
            await h.joined()
            lines = format_tree(h.ref).splitlines()
            assert "Recorder  running" in lines[0]
            assert lines[1].startswith("└── connections  Supervisor  running")
            assert lines[2].startswith("    └── connection  Connection  running")

    virtual(scenario)


@pytest.mark.parametrize("shows", [False, True])
def test_a_slow_callback_of_a_client_is_reported_and_its_connection_is_not(
    shows: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The connection waits for its turn and for the network, as it should."""

    async def linger(*_: Any) -> None:
        await trio.sleep(5.0)

    async def scenario() -> None:
        options: dict[str, Any] = {"slow_after": 1.0}
        async with harness(
            {"handle_message": linger},
            supervisor_options=options,
            log_payloads=shows,
            reconnect=[20.0],
        ) as h:
            end, _ = await h.joined()
            end.broadcast("t", "news", {"body": "a payload"})
            await trio.sleep(10.0)
            end.peer.close(1011)
            await trio.sleep(10.0)

    virtual(scenario)
    found = [getattr(record, "report", None) for record in caplog.records]
    (report,) = [report for report in found if isinstance(report, SlowReport)]
    assert report.path == ("root", "client")
    assert report.stack
    assert any("linger" in line for line in report.stack)
    assert ("a payload" in report.render()) is shows
