"""What a client tells its observers."""

from typing import Any

import pytest

from slipstream import ConnectError, JoinError, Message, SlipstreamClient, Socket
from slipstream.testing import SocketTest
from tests.client.kit import GONE, Member, OpenTest, config


def told(test: SocketTest, prefix: str) -> list[str]:
    """The names of the events under *prefix*, so far."""
    return [name for name, _ in test.telemetry if name.startswith(prefix)]


async def test_a_life_is_told_event_by_event(socket_test: OpenTest) -> None:
    """SL-E1-E5, row 54."""
    async with socket_test(Member, config(heartbeat_interval=30.0)) as test:
        await test.connect_and_join("t")
        await test.assert_heartbeat()
        await test.send("{")
        await test.send(Message("9", None, "t", "stale", {}))
        await test.crash_topic("t")
        await test.drop()
        await test.fail_connect(GONE)
        await test.accept_connect()
    names = told(test, "slipstream.")
    for expected in (
        "slipstream.client.connect.start",
        "slipstream.client.connect.stop",
        "slipstream.client.connect.exception",
        "slipstream.client.join.start",
        "slipstream.client.join.stop",
        "slipstream.client.handle_join.start",
        "slipstream.client.handle_join.stop",
        "slipstream.client.rejoin",
        "slipstream.connection.connect.start",
        "slipstream.connection.connect.stop",
        "slipstream.connection.connect.exception",
        "slipstream.connection.disconnect",
        "slipstream.connection.reconnect",
        "slipstream.connection.handle",
        "slipstream.connection.heartbeat",
        "slipstream.connection.undecodable",
        "slipstream.connection.discarded",
    ):
        assert expected in names, expected
    data = dict(test.telemetry)
    assert data["slipstream.client.join.stop"]["topic"] == "t"
    assert data["slipstream.connection.reconnect"]["delay"] == 1.0


async def test_callbacks_that_fail_are_told_too(socket_test: OpenTest) -> None:
    class Failing(SlipstreamClient):
        async def handle_info(self, message: Any, socket: Socket, /) -> None:
            raise ConnectError("an outage", step="tcp") if message == "link" else ValueError("bug")

    async with socket_test(Failing, config()) as test:
        test.ref.send("link")
        test.ref.send("bug")
        await test.expect_crash(ValueError)
        names = told(test, "slipstream.client.")
        assert names.count("slipstream.client.handle_info.exception") == 2
        assert names.count("slipstream.client.link_error") == 1


async def test_secrets_stand_in_no_log_line_and_no_event(
    socket_test: OpenTest, caplog: pytest.LogCaptureFixture
) -> None:
    class Fragile(SlipstreamClient):
        async def handle_info(self, message: Any, socket: Socket, /) -> None:
            raise ValueError("a bug")

    options = config(
        params={"token": "s3cret"},
        headers={"authorization": "s3cret"},
        auth_token="s3cret",  # noqa: S106 - the point
    )
    async with socket_test(Fragile, options) as test:
        request = await test.accept_connect()
        assert "s3cret" in request.uri
        await test.close(1011)
        test.ref.send("now")
        await test.expect_crash(ValueError)
        await test.accept_connect()
        await test.close(1008)
        await test.expect_crash()
    assert "s3cret" not in repr(test.telemetry)
    assert "s3cret" not in repr(test.requests)
    assert "s3cret" not in test.story
    assert "s3cret" not in caplog.text
    assert "a bug" in caplog.text
    assert "1008" in caplog.text


@pytest.mark.parametrize("shows", [False, True])
async def test_payloads_stand_in_reports_only_if_that_is_wanted(
    socket_test: OpenTest, shows: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Design section 4: log_payloads; the state in a report is the client's own."""

    class Failing(Member):
        async def handle_message(
            self, topic: str, event: str, payload: Any, socket: Socket, /
        ) -> None:
            self.mine = "my state"
            raise ValueError("a bug")

        async def handle_topic_close(self, topic: str, reason: Any, socket: Socket, /) -> None:
            raise JoinError(topic, reason)

    async with socket_test(Failing, config(log_payloads=shows)) as test:
        await test.connect_and_join("t")
        test.socket.join("u")
        await test.refuse_join("u", {"why": "a response"})
        await test.broadcast("t", "news", {"body": "a payload"})
        await test.expect_crash(ValueError)
    assert "my state" in caplog.text
    (message,) = [line for line in caplog.text.splitlines() if "last message" in line]
    assert "news" in message
    assert ("a payload" in message) is shows
    (warning,) = [line for line in caplog.text.splitlines() if "ended early" in line]
    assert "'u'" in warning
    assert ("a response" in warning) is shows


@pytest.mark.parametrize("what", ["lost", "left", "asked again", "never sent"])
async def test_each_join_that_began_ends_once(socket_test: OpenTest, what: str) -> None:
    async def params() -> Any:
        raise ValueError("no token")

    async with socket_test(SlipstreamClient, config()) as test:
        await test.accept_connect()
        test.socket.join("t", params if what == "never sent" else {})
        await test.settle()
        match what:
            case "lost":
                await test.drop()
                await test.connect_and_join("t")
            case "asked again":
                test.socket.rejoin("t", {"n": 2})
                await test.assert_join("t", {"n": 2})
                for _ in range(2):
                    await test.accept_join("t")
            case "left":
                test.socket.leave("t")
                await test.accept_join("t")  # too late
            case _:
                test.socket.leave("t")
        await test.settle()
        events = [pair for pair in test.telemetry if pair[0].startswith("slipstream.client.join.")]
        spans: dict[int, list[str]] = {}
        for name, data in events:
            spans.setdefault(data["span"], []).append(name.rpartition(".")[2])
        first, *others = spans.values()
        assert first == ["start", "exception"]
        again = what in {"lost", "asked again"}
        assert others == ([["start", "stop"]] if again else [])
        ended = next(data for name, data in events if name.endswith("exception"))
        assert (ended["reason"] is None) == (what in {"left", "asked again"})


@pytest.mark.parametrize("end", ["phx_close", "phx_error"])
async def test_a_join_that_the_end_of_its_channel_overtakes_ends_once(
    socket_test: OpenTest, end: str
) -> None:
    async with socket_test(Member, config()) as test:
        await test.accept_connect()
        join = await test.assert_join("t")
        await test.send(Message(join.join_ref, join.ref, "t", end, {}))
        events = [each for each in test.telemetry if each[0].startswith("slipstream.client.join")]
    assert [name.rpartition(".")[2] for name, _ in events] == ["start", "exception"]
    assert len({data["span"] for _, data in events}) == 1
