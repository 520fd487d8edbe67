"""What a client tells its observers."""

from typing import Any

import pytest
import trio

from slipstream import ConnectError, JoinError
from slipstream.telemetry import capture_events
from tests.client.support import harness, settle, virtual


def test_a_life_is_told_event_by_event() -> None:
    """SL-E1-E5, row 54."""

    async def scenario() -> None:
        with capture_events() as events:
            async with harness(heartbeat_interval=30.0) as h:
                end, join = await h.joined()
                end.reply(await end.next("heartbeat"))
                end.peer.send("{")
                end.say("9", None, "t", "stale")
                end.say(join.join_ref, join.ref, "t", "phx_error")
                await settle()
                h.network.refuse(ConnectError("no", step="tcp"))
                end.peer.drop()
                await h.accept()
        names = [name for name, _ in events]
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
        data = dict(events)
        assert data["slipstream.client.join.stop"]["topic"] == "t"
        assert data["slipstream.connection.reconnect"]["delay"] == 1.0

    virtual(scenario)


def test_callbacks_that_fail_are_told_too() -> None:
    async def fail(client: Any, message: Any, socket: Any) -> None:
        raise ConnectError("an outage", step="tcp") if message == "link" else ValueError("a bug")

    async def scenario() -> None:
        with capture_events("slipstream.client") as events:
            async with harness({"handle_info": fail}) as h:
                h.ref.send("link")
                await settle()
                h.ref.send("bug")
                await trio.sleep(1.0)
        names = [name for name, _ in events]
        assert names.count("slipstream.client.handle_info.exception") == 2
        assert names.count("slipstream.client.link_error") == 1

    virtual(scenario)


def test_secrets_stand_in_no_log_line_and_no_event(caplog: pytest.LogCaptureFixture) -> None:
    async def crash(client: Any, message: Any, socket: Any) -> None:
        raise ValueError("a bug")

    async def scenario() -> None:
        with capture_events() as events:
            async with harness(
                {"handle_info": crash},
                params={"token": "s3cret"},
                headers={"authorization": "s3cret"},
                auth_token="s3cret",  # noqa: S106 - the point
            ) as h:
                end = await h.accept()
                assert "s3cret" in h.network.requests[0].uri
                await settle()
                end.peer.close(1008)
                await settle()
                h.ref.send("now")
                await trio.sleep(1.0)
        assert "s3cret" not in repr(events)
        assert "s3cret" not in repr(h.network.requests)

    virtual(scenario)
    assert "s3cret" not in caplog.text
    assert "a bug" in caplog.text or "1008" in caplog.text


@pytest.mark.parametrize("shows", [False, True])
def test_payloads_stand_in_reports_only_if_that_is_wanted(
    shows: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Design section 4: log_payloads; the state in a report is the client's own."""

    async def crash(client: Any, topic: str, event: str, payload: Any, socket: Any) -> None:
        client.mine = "my state"
        raise ValueError("a bug")

    async def fail(client: Any, topic: str, reason: Any, socket: Any) -> None:
        raise JoinError(topic, reason)

    async def scenario() -> None:
        scripts: dict[str, Any] = {"handle_message": crash, "handle_topic_close": fail}
        async with harness(scripts, log_payloads=shows) as h:
            end, _ = await h.joined()
            h.socket.join("u")
            end.reply(await end.next("phx_join"), "error", {"why": "a response"})
            await settle()
            end.broadcast("t", "news", {"body": "a payload"})
            await settle()

    virtual(scenario)
    assert "my state" in caplog.text
    (message,) = [line for line in caplog.text.splitlines() if "last message" in line]
    assert "news" in message
    assert ("a payload" in message) is shows
    (warning,) = [line for line in caplog.text.splitlines() if "ended early" in line]
    assert "'u'" in warning
    assert ("a response" in warning) is shows


@pytest.mark.parametrize("what", ["lost", "left", "asked again", "never sent"])
def test_each_join_that_began_ends_once(what: str) -> None:
    async def params() -> Any:
        raise ValueError("no token")

    async def scenario() -> None:
        with capture_events("slipstream.client.join") as events:
            async with harness() as h:
                end = await h.accept()
                h.socket.join("t", params if what == "never sent" else {})
                if what == "never sent":
                    await settle()
                else:
                    await end.next("phx_join")
                match what:
                    case "lost":
                        end.peer.drop()
                        end = await h.accept()
                        await end.accept_join("t")
                    case "left":
                        h.socket.leave("t")
                        end.reply(await end.next("phx_leave"))
                    case "asked again":
                        h.socket.rejoin("t", {"n": 2})
                        await end.accept_join("t")
                    case _:
                        h.socket.leave("t")
                await settle()
        spans: dict[int, list[str]] = {}
        for name, data in events:
            spans.setdefault(data["span"], []).append(name.rpartition(".")[2])
        first, *others = spans.values()
        assert first == ["start", "exception"]
        again = what in {"lost", "asked again"}
        assert others == ([["start", "stop"]] if again else [])
        ended = next(data for name, data in events if name.endswith("exception"))
        assert (ended["reason"] is None) == (what in {"left", "asked again"})

    virtual(scenario)
