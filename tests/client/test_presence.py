"""Presence in clients: what handle_presence is told, what is kept, and what nobody may break."""

import logging
from typing import Any

import pytest

from slipstream import (
    NORMAL,
    CallbackSignatureError,
    ChannelClosed,
    Fatal,
    LocalProtocolError,
    NotJoinedError,
    PresenceDiff,
    PresenceState,
    SlipstreamClient,
    Socket,
    Stop,
    on_message,
    open_socket,
)
from slipstream.telemetry import capture_events
from tests.client.support import Recorder, ServerEnd, harness, settle, virtual

OWN = {"joins": {"me": {"metas": [{"phx_ref": "m"}]}}, "leaves": {}}
ALL = {"me": {"metas": [{"phx_ref": "m"}]}, "u1": {"metas": [{"phx_ref": "1"}]}}
U1_LEFT = {"joins": {}, "leaves": {"u1": {"metas": [{"phx_ref": "1"}]}}}


class Watcher(Recorder):
    """Notes what came and what is known at that moment."""

    async def handle_presence(self, topic: str, diff: PresenceDiff, socket: Socket, /) -> Any:
        came = [join.key for join in diff.joins]
        went = [leave.key for leave in diff.leaves]
        there = sorted(socket.presences(topic))
        self.calls.append(("handle_presence", topic, came, went, there))
        script = self.scripts.get("handle_presence")
        return None if script is None else await script(self, topic, diff, socket)


async def sync(end: ServerEnd, join_ref: str | None, topic: str = "t", state: Any = None) -> None:
    """Say who is there, as Phoenix does: to one client, which knows of itself before."""
    end.broadcast(topic, "presence_diff", OWN)
    end.say(join_ref, None, topic, "presence_state", ALL if state is None else state)
    await settle()


def test_a_client_is_told_who_comes_and_goes() -> None:
    """PR11, PR12: once for the state and the diffs before it, then for each diff."""

    async def scenario() -> None:
        async with harness(client=Watcher) as h:
            end, join = await h.joined()
            assert h.socket.presences("t") == {}
            await sync(end, join.join_ref)
            end.broadcast("t", "presence_diff", U1_LEFT)
            end.broadcast("t", "presence_diff", U1_LEFT)
            end.broadcast("t", "other", 1)
            await settle()
            assert h.calls[-4:] == [
                ("handle_presence", "t", ["me", "u1"], [], ["me", "u1"]),
                ("handle_presence", "t", [], ["u1"], ["me"]),
                ("handle_presence", "t", [], [], ["me"]),
                ("handle_message", "t", "other", 1),
            ]

    virtual(scenario)


@pytest.mark.parametrize("how", ["connection", "channel", "params"])
def test_after_a_rejoin_diffs_wait_and_the_next_state_is_told_as_what_changed(how: str) -> None:
    """PR12, complaint-28."""

    async def scenario() -> None:
        async with harness(client=Watcher) as h:
            end, join = await h.joined()
            await sync(end, join.join_ref)
            match how:
                case "connection":
                    end.peer.drop()
                    end = await h.accept()
                case "channel":
                    end.say(join.join_ref, join.join_ref, "t", "phx_error")
                case _:
                    h.socket.rejoin("t", {"x": 1})
            await settle()
            assert sorted(h.socket.presences("t")) == ["me", "u1"]
            again = await end.accept_join()
            assert again.join_ref != join.join_ref
            h.calls.clear()
            end.broadcast("t", "presence_diff", U1_LEFT)
            await settle()
            assert h.of("handle_presence") == []
            assert sorted(h.socket.presences("t")) == ["me", "u1"]
            end.say(again.join_ref, None, "t", "presence_state", ALL)
            await settle()
            assert h.of("handle_presence") == [("t", [], ["u1"], ["me"])]

    virtual(scenario)


@pytest.mark.parametrize("how", ["left", "closed", "lost for good", "left while waiting"])
def test_who_was_there_is_forgotten_when_the_topic_ends(how: str) -> None:
    """complaint-3: and a later join begins with nobody."""

    async def scenario() -> None:
        async with harness(client=Watcher) as h:
            end = await h.accept()
            h.socket.join("t", rejoin=how != "lost for good")
            join = await end.accept_join()
            await sync(end, join.join_ref)
            assert len(h.socket.presences("t")) == 2
            match how:
                case "left":
                    h.socket.leave("t")
                    end.reply(await end.next("phx_leave"))
                case "closed":
                    end.say(join.join_ref, join.join_ref, "t", "phx_close")
                case _:
                    end.peer.drop()
                    await settle()
                    if how == "left while waiting":
                        h.socket.leave("t")
                    end = await h.accept()
            await settle()
            assert h.socket.join_status("t") == "closed"
            assert h.socket.presences("t") == {}
            assert h.server.topics.presences == {}
            h.calls.clear()
            h.socket.join("t")
            again = await end.accept_join()
            await sync(end, again.join_ref)
            assert h.of("handle_presence") == [("t", ["me", "u1"], [], ["me", "u1"])]

    virtual(scenario)


def test_topics_are_apart() -> None:
    async def scenario() -> None:
        async with harness(client=Watcher) as h:
            end, join = await h.joined("t")
            await h.joined("other", end)
            await sync(end, join.join_ref)
            end.broadcast("other", "presence_diff", OWN)
            await settle()
            assert len(h.socket.presences("t")) == 2
            assert h.socket.presences("other") == {}
            assert h.socket.presences("never asked for") == {}

    virtual(scenario)


def test_a_stale_state_changes_nothing() -> None:
    """d34: it is of an earlier join."""

    async def scenario() -> None:
        async with harness(client=Watcher) as h:
            end, join = await h.joined()
            h.socket.rejoin("t", {"x": 1})
            await end.accept_join()
            await sync(end, join.join_ref)
            assert h.of("handle_presence") == []
            assert h.socket.presences("t") == {}

    virtual(scenario)


def test_where_it_is_not_overridden_presence_is_messages() -> None:
    """They are seen by handle_message and await_message; nobody keeps who is there."""

    class Router(Recorder):
        @on_message("*", "presence_diff")
        async def on_diff(self, topic: str, payload: Any, socket: Any) -> None:
            self.calls.append(("on_diff", payload))

    async def scenario() -> None:
        async with harness(client=Router) as h:
            end, join = await h.joined()
            await sync(end, join.join_ref)
            assert h.calls[-2:] == [
                ("on_diff", OWN),
                ("handle_message", "t", "presence_state", ALL),
            ]
            with pytest.raises(LocalProtocolError, match="Router does not override handle_presen"):
                h.socket.presences("t")
            assert h.server.topics.presences == {}

    virtual(scenario)


def test_where_it_is_overridden_nothing_else_takes_presence() -> None:
    """Neither a route nor an await_message may make a hole in what is known."""

    class Both(Watcher):
        @on_message("*", "*")
        async def on_any(self, topic: str, event: str, payload: Any, socket: Any) -> None:
            self.calls.append(("on_any", event))

    async def wait(client: Any, topic: str, response: Any, socket: Any) -> None:
        client.calls.append(("awaited", (await socket.await_message("t")).event))

    async def scenario() -> None:
        async with harness({"handle_join": wait}, client=Both) as h:
            end, join = await h.joined()
            await sync(end, join.join_ref)
            end.broadcast("t", "one")
            end.broadcast("t", "two")
            await settle()
            assert h.calls[-3:] == [
                ("awaited", "one"),
                ("handle_presence", "t", ["me", "u1"], [], ["me", "u1"]),
                ("on_any", "two"),
            ]

    virtual(scenario)


def test_the_events_may_have_other_names() -> None:
    """PR13: those of Phoenix are ordinary messages then."""

    class Renamed(Watcher):
        presence_events = ("who", "who:diff")

    async def scenario() -> None:
        async with harness(client=Renamed) as h:
            end, join = await h.joined()
            await sync(end, join.join_ref)
            assert h.names()[-2:] == ["handle_message", "handle_message"]
            end.broadcast("t", "who:diff", OWN)
            end.say(join.join_ref, None, "t", "who", ALL)
            await settle()
            assert h.calls[-1] == ("handle_presence", "t", ["me", "u1"], [], ["me", "u1"])

    virtual(scenario)


@pytest.mark.parametrize("names", ["presence", ("a",), ("a", "a"), ("a", ""), ("a", 1), None])
def test_wrong_names_of_events_are_refused_when_the_class_is_made(names: Any) -> None:
    """PR13."""
    with pytest.raises(CallbackSignatureError, match=r"Wrong\.presence_events is .*two names that"):
        type("Wrong", (SlipstreamClient,), {"presence_events": names})


def test_a_handler_that_cannot_be_called_is_refused_when_the_class_is_made() -> None:
    async def few(self: Any, topic: Any, diff: Any) -> None: ...

    def sync(self: Any, topic: Any, diff: Any, socket: Any) -> None: ...

    for wrong in (few, sync):
        with pytest.raises(CallbackSignatureError, match="topic, diff, socket"):
            type("Wrong", (SlipstreamClient,), {"handle_presence": wrong})


def test_malformed_presence_is_counted_warned_of_once_and_handled_as_a_message(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """complaint-28, complaint-5: what was known before stands, and the client lives."""
    wrong = [7, {"secret name": 1}, {"secret name": {"metas": [{}]}}]

    async def scenario() -> None:
        with capture_events("slipstream.client.malformed_presence") as events:
            async with harness(client=Watcher) as h:
                end, join = await h.joined()
                await sync(end, join.join_ref)
                h.calls.clear()
                for payload in wrong:
                    end.say(join.join_ref, None, "t", "presence_state", payload)
                end.broadcast("t", "presence_diff", {"joins": {}})
                end.broadcast("t", "presence_diff", U1_LEFT)
                await settle()
                assert h.calls == [
                    *(("handle_message", "t", "presence_state", payload) for payload in wrong),
                    ("handle_message", "t", "presence_diff", {"joins": {}}),
                    ("handle_presence", "t", [], ["u1"], ["me"]),
                ]
                assert h.ref.health().counters["malformed_presence"] == 4
        assert [data["topic"] for _, data in events] == ["t"] * 4

    with caplog.at_level(logging.WARNING):
        virtual(scenario)
    assert caplog.text.count("a malformed 'presence_state' on 't'") == 1
    assert "secret" not in caplog.text


def test_a_channel_that_never_sends_a_state_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    """complaint-3: its diffs are not kept without number."""

    async def scenario() -> None:
        async with harness(client=Watcher) as h:
            end, _ = await h.joined()
            for _ in range(300):
                end.broadcast("t", "presence_diff", OWN)
            await settle()
            assert h.of("handle_presence") == []
            assert h.ref.health().counters["dropped_presence"] == 44
            assert h.server.topics.presences["t"].pending == 256

    virtual(scenario)
    assert caplog.text.count("does the channel push one after the join?") == 1


def test_it_returns_what_other_callbacks_do() -> None:
    async def stop(*_: Any) -> Stop:
        return Stop(NORMAL)

    async def push(client: Any, topic: str, diff: PresenceDiff, socket: Socket) -> None:
        await socket.request("nowhere", "e")

    async def outage(client: Any, topic: str, diff: PresenceDiff, socket: Socket) -> None:
        socket.disconnect()
        await socket.request(topic, "e")

    async def outcome(script: Any) -> Any:
        async with harness({"handle_presence": script}, client=Watcher, restart="temporary") as h:
            end, join = await h.joined()
            ref = h.ref.pin()
            await sync(end, join.join_ref)
            return None if ref.alive else await ref.wait()

    async def scenario() -> None:
        assert await outcome(stop) == NORMAL
        assert isinstance((await outcome(push)).exception, NotJoinedError)
        assert await outcome(outage) is None

    virtual(scenario)


def test_presence_may_join_and_leave_topics() -> None:
    async def leave(client: Any, topic: str, diff: PresenceDiff, socket: Socket) -> None:
        socket.leave(topic)
        await socket.await_leave(topic)
        client.calls.append(("left", dict(socket.presences(topic))))

    async def scenario() -> None:
        async with harness({"handle_presence": leave}, client=Watcher) as h:
            end, join = await h.joined()
            await sync(end, join.join_ref)
            end.reply(await end.next("phx_leave"))
            end.broadcast("t", "presence_diff", OWN)
            await settle()
            assert h.calls[-1] == ("left", {})

    virtual(scenario)


def test_each_incarnation_begins_with_nobody() -> None:
    async def scenario() -> None:
        async with harness(client=Watcher) as h:
            end, join = await h.joined()
            await sync(end, join.join_ref)
            old = h.socket
            h.ref.kill()
            await settle()
            assert len(old.presences("t")) == 2  # a look at what was; the process has ended
            assert h.socket.presences("t") == {}

    virtual(scenario)


def test_a_script_keeps_presence_with_a_state_of_its_own() -> None:
    """It sees the messages as they are."""

    async def scenario() -> None:
        async with harness(client=Watcher) as h:
            end = await h.accept()
            config = h.socket.config
            assert config is not None
            async with open_socket(config) as socket:
                end = await h.accept()
                socket.join("t")
                join = await end.accept_join()
                await sync(end, join.join_ref)
                state, told = PresenceState(), list[Any]()
                async with socket.messages("t") as messages:
                    async for message in messages:
                        if message.event == "presence_state":
                            told.append(state.sync_state(message.payload))
                            break
                        told.append(state.sync_diff(message.payload))
                assert told[0] is None
                assert sorted(state.presences) == ["me", "u1"]
                with pytest.raises(LocalProtocolError, match="presence comes as messages"):
                    socket.presences("t")

    virtual(scenario)


def test_a_policy_that_gives_a_topic_up_has_it_forgotten() -> None:
    class GivesUp:
        stable_after = 30.0
        max_joins_per_second = None

        def verdict(self, topic: str, reason: Any, attempt: int, /) -> Fatal:
            return Fatal("enough")

    async def scenario() -> None:
        async with harness(client=Watcher, rejoin=GivesUp()) as h:
            end, join = await h.joined()
            await sync(end, join.join_ref)
            end.say(join.join_ref, join.join_ref, "t", "phx_error", {})
            await settle()
            assert h.socket.join_status("t") == "closed"
            assert h.server.topics.presences == {}
            assert type(h.of("handle_topic_close")[-1][1]) is not ChannelClosed

    virtual(scenario)
