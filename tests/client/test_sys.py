"""Looking into a client: its state is that of the instance of its class."""

from typing import Any

import pytest
import trio

from slipstream import SlipstreamClient, Socket
from slipstream.otp import SlowReport, format_tree, sys
from tests.client.kit import Member, OpenTest, config


async def test_the_state_of_a_client_is_its_own(socket_test: OpenTest) -> None:
    """GS-080, GS-081: what the library keeps is not shown, and not replaced."""

    class Guest(SlipstreamClient):
        async def handle_connect(self, socket: Socket, /) -> None:
            self.room = "lobby"

    async with socket_test(Guest, config()) as test:
        await test.accept_connect()
        assert await sys.get_state(test.ref) == {"room": "lobby"}
        new = await sys.replace_state(test.ref, lambda old: {**old, "room": "cellar"})
        assert new["room"] == "cellar"
        assert (await sys.get_state(test.ref))["room"] == "cellar"
        assert test.ref.health().connected
        await test.close(1000)
        assert (await sys.get_status(test.ref)).cls is Guest


@pytest.mark.parametrize("shows", [False, True])
async def test_the_status_of_a_client_shows_payloads_only_if_that_is_wanted(
    socket_test: OpenTest, shows: bool
) -> None:
    """GS-082: design section 4, log_payloads."""
    async with socket_test(Member, config(log_payloads=shows)) as test:
        await test.connect_and_join("t")
        await test.broadcast("t", "news", {"body": "a payload"})
        status = await sys.get_status(test.ref)
        assert "news" in repr(status.message)
        assert ("a payload" in repr(status.message)) is shows


async def test_a_suspended_client_gets_its_messages_later(socket_test: OpenTest) -> None:
    async with socket_test(Member, config()) as test:
        await test.connect_and_join("t")
        await sys.suspend(test.ref)
        await test.broadcast("t", "news", {"n": 1})
        assert test.called("handle_message") == []
        await sys.resume(test.ref)
        await test.assert_callback("handle_message", "t", "news", {"n": 1}, within=0.0)


async def test_the_tree_of_a_client_shows_its_connection(socket_test: OpenTest) -> None:
    async with socket_test(Member, config()) as test:
        await test.connect_and_join("t")
        lines = format_tree(test.ref).splitlines()
        assert "Member  running" in lines[0]
        assert lines[1].startswith("└── connections  Supervisor  running")
        assert lines[2].startswith("    └── connection  Connection  running")


@pytest.mark.parametrize("shows", [False, True])
async def test_a_slow_callback_of_a_client_is_reported_and_its_connection_is_not(
    socket_test: OpenTest, shows: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The connection waits for its turn and for the network, as it should."""

    class Lingering(Member):
        async def handle_message(
            self, topic: str, event: str, payload: Any, socket: Socket, /
        ) -> None:
            await trio.sleep(5.0)

    options = config(log_payloads=shows, reconnect=[20.0])
    async with socket_test(Lingering, options, slow_after=1.0) as test:
        await test.connect_and_join("t")
        await test.broadcast("t", "news", {"body": "a payload"})
        await test.advance(10.0)
        await test.close(1011)
        await test.advance(10.0)
    found = [getattr(record, "report", None) for record in caplog.records]
    (report,) = [report for report in found if isinstance(report, SlowReport)]
    assert report.path[-1] == "client"
    assert report.stack
    assert any("handle_message" in line for line in report.stack)
    assert ("a payload" in report.render()) is shows
