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
    Message,
    NotJoinedError,
    PresenceDiff,
    PresenceState,
    SlipstreamClient,
    Socket,
    Stop,
    on_message,
    open_socket,
)
from slipstream.testing import Channel, PhoenixServer, SocketTest
from tests.client.kit import Member, OpenTest, config, config_to, server_of

OWN = {"joins": {"me": {"metas": [{"phx_ref": "m"}]}}, "leaves": {}}
ALL = {"me": {"metas": [{"phx_ref": "m"}]}, "u1": {"metas": [{"phx_ref": "1"}]}}
U1_LEFT = {"joins": {}, "leaves": {"u1": {"metas": [{"phx_ref": "1"}]}}}


class Watcher(Member):
    """Notes who came and went, and who is there at that moment."""

    async def init(self, argument: Any, socket: Socket, /) -> None:
        self.told: list[Any] = []
        await super().init(argument, socket)

    async def handle_presence(self, topic: str, diff: PresenceDiff, socket: Socket, /) -> Any:
        came = [join.key for join in diff.joins]
        went = [leave.key for leave in diff.leaves]
        self.told.append((topic, came, went, sorted(socket.presences(topic))))
        return None


EVERYBODY: Any = ("t", ["me", "u1"], [], ["me", "u1"])


def told(test: SocketTest) -> list[Any]:
    """What the watcher was told since the last time."""
    client = test.client
    assert isinstance(client, Watcher)
    news, client.told = client.told, []
    return news


async def sync(test: SocketTest, topic: str = "t") -> None:
    """Say who is there, as Phoenix does: to one client, which knows of itself before."""
    await test.broadcast(topic, "presence_diff", OWN)
    await test.push(topic, "presence_state", ALL)


async def test_a_client_is_told_who_comes_and_goes(socket_test: OpenTest) -> None:
    """PR11, PR12: once for the state and the diffs before it, then for each diff."""
    async with socket_test(Watcher, config()) as test:
        await test.connect_and_join("t")
        assert test.socket.presences("t") == {}
        await sync(test)
        await test.broadcast("t", "presence_diff", U1_LEFT)
        await test.broadcast("t", "presence_diff", U1_LEFT)
        await test.broadcast("t", "other", 1)
        assert told(test) == [EVERYBODY, ("t", [], ["u1"], ["me"]), ("t", [], [], ["me"])]
        assert test.callbacks[-4:] == ["handle_presence"] * 3 + ["handle_message"]
        assert test.called("handle_message") == [("t", "other", 1)]


@pytest.mark.parametrize("how", ["connection", "channel", "params"])
async def test_after_a_rejoin_diffs_wait_and_the_next_state_is_told_as_what_changed(
    socket_test: OpenTest, how: str
) -> None:
    """PR12, complaint-28."""
    async with socket_test(Watcher, config()) as test:
        join = await test.connect_and_join("t")
        await sync(test)
        match how:
            case "connection":
                await test.drop()
                await test.accept_connect()
            case "channel":
                await test.crash_topic("t")
            case _:
                test.socket.rejoin("t", {"x": 1})
        assert sorted(test.socket.presences("t")) == ["me", "u1"]
        again = await test.accept_join("t", within=5.0)
        assert again.join_ref != join.join_ref
        assert told(test) == [EVERYBODY]
        await test.broadcast("t", "presence_diff", U1_LEFT)
        assert told(test) == []
        assert sorted(test.socket.presences("t")) == ["me", "u1"]
        await test.push("t", "presence_state", ALL)
        assert told(test) == [("t", [], ["u1"], ["me"])]


@pytest.mark.parametrize("how", ["left", "closed", "lost for good", "left while waiting"])
async def test_who_was_there_is_forgotten_when_the_topic_ends(
    socket_test: OpenTest, how: str
) -> None:
    """complaint-3: and a later join begins with nobody."""

    class Once(Watcher):
        async def handle_connect(self, socket: Socket, /) -> None:
            """Join nothing by itself."""

    async with socket_test(Once, config()) as test:
        test.socket.join("t", rejoin=how != "lost for good")
        await test.connect_and_join("t")
        await sync(test)
        assert len(test.socket.presences("t")) == 2
        match how:
            case "left":
                test.socket.leave("t")
                await test.assert_leave("t")
            case "closed":
                await test.close_topic("t")
            case _:
                await test.drop()
                if how == "left while waiting":
                    test.socket.leave("t")
                await test.accept_connect()
        assert test.socket.join_status("t") == "closed"
        assert test.socket.presences("t") == {}
        assert server_of(test).topics.presences == {}
        assert told(test) == [EVERYBODY]
        test.socket.join("t")
        await test.accept_join("t")
        await sync(test)
        assert told(test) == [EVERYBODY]


async def test_topics_are_apart(socket_test: OpenTest) -> None:
    async with socket_test(Watcher, config()) as test:
        test.socket.join("other")
        await test.connect_and_join("t")
        await test.accept_join("other")
        await sync(test)
        await test.broadcast("other", "presence_diff", OWN)
        assert len(test.socket.presences("t")) == 2
        assert test.socket.presences("other") == {}
        assert test.socket.presences("never asked for") == {}


async def test_a_stale_state_changes_nothing(socket_test: OpenTest) -> None:
    """d34: it is of an earlier join."""
    async with socket_test(Watcher, config()) as test:
        join = await test.connect_and_join("t")
        test.socket.rejoin("t", {"x": 1})
        await test.accept_join("t")
        await test.broadcast("t", "presence_diff", OWN)
        await test.send(Message(join.join_ref, None, "t", "presence_state", ALL))
        assert told(test) == []
        assert test.socket.presences("t") == {}


async def test_where_it_is_not_overridden_presence_is_messages(socket_test: OpenTest) -> None:
    """They are seen by handle_message and await_message; nobody keeps who is there."""

    class Router(Member):
        @on_message("*", "presence_diff")
        async def on_diff(self, topic: str, payload: Any, socket: Socket) -> None:
            """Take it."""

    async with socket_test(Router, config()) as test:
        await test.connect_and_join("t")
        await sync(test)
        assert [(call.name, *call.args) for call in test.calls[-2:]] == [
            ("on_diff", "t", OWN),
            ("handle_message", "t", "presence_state", ALL),
        ]
        with pytest.raises(LocalProtocolError, match="Router does not override handle_presen"):
            test.socket.presences("t")
        assert server_of(test).topics.presences == {}


async def test_where_it_is_overridden_nothing_else_takes_presence(socket_test: OpenTest) -> None:
    """Neither a route nor an await_message may make a hole in what is known."""

    class Both(Watcher):
        @on_message("*", "*")
        async def on_any(self, topic: str, event: str, payload: Any, socket: Socket) -> None:
            """Take whatever it is."""

        async def handle_join(self, topic: str, response: Any, socket: Socket, /) -> None:
            self.awaited = (await socket.await_message("t")).event

    async with socket_test(Both, config()) as test:
        await test.connect_and_join("t")
        await sync(test)
        assert told(test) == []
        await test.broadcast("t", "one")
        await test.broadcast("t", "two")
        assert isinstance(test.client, Both)
        assert test.client.awaited == "one"
        assert test.callbacks[-3:] == ["handle_join", "handle_presence", "on_any"]
        assert told(test) == [EVERYBODY]
        assert test.called("on_any") == [("t", "two", {})]


async def test_the_events_may_have_other_names(socket_test: OpenTest) -> None:
    """PR13: those of Phoenix are ordinary messages then."""

    class Renamed(Watcher):
        presence_events = ("who", "who:diff")

    async with socket_test(Renamed, config()) as test:
        await test.connect_and_join("t")
        await sync(test)
        assert test.callbacks[-2:] == ["handle_message", "handle_message"]
        await test.broadcast("t", "who:diff", OWN)
        await test.push("t", "who", ALL)
        assert told(test) == [EVERYBODY]


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


async def test_malformed_presence_is_counted_warned_of_once_and_handled_as_a_message(
    socket_test: OpenTest, caplog: pytest.LogCaptureFixture
) -> None:
    """complaint-28, complaint-5: what was known before stands, and the client lives."""
    wrong = [7, {"secret name": 1}, {"secret name": {"metas": [{}]}}]
    caplog.set_level(logging.WARNING)
    async with socket_test(Watcher, config()) as test:
        await test.connect_and_join("t")
        await sync(test)
        for payload in wrong:
            await test.push("t", "presence_state", payload)
        await test.broadcast("t", "presence_diff", {"joins": {}})
        await test.broadcast("t", "presence_diff", U1_LEFT)
        assert test.callbacks[-5:] == ["handle_message"] * 4 + ["handle_presence"]
        assert test.called("handle_message") == [
            *(("t", "presence_state", payload) for payload in wrong),
            ("t", "presence_diff", {"joins": {}}),
        ]
        assert told(test) == [EVERYBODY, ("t", [], ["u1"], ["me"])]
        assert test.ref.health().counters["malformed_presence"] == 4
        events = test.events("slipstream.client.malformed_presence")
        assert [data["topic"] for data in events] == ["t"] * 4
    assert caplog.text.count("a malformed 'presence_state' on 't'") == 1
    assert "secret" not in caplog.text


async def test_a_channel_that_never_sends_a_state_is_told_of(
    socket_test: OpenTest, caplog: pytest.LogCaptureFixture
) -> None:
    """complaint-3: its diffs are not kept without number."""
    async with socket_test(Watcher, config()) as test:
        await test.connect_and_join("t")
        for _ in range(300):
            await test.broadcast("t", "presence_diff", OWN)
        assert told(test) == []
        assert test.ref.health().counters["dropped_presence"] == 44
        assert server_of(test).topics.presences["t"].pending == 256
    assert caplog.text.count("does the channel push one after the join?") == 1


class Stopping(Member):
    async def handle_presence(self, topic: str, diff: PresenceDiff, socket: Socket, /) -> Stop:
        return Stop(NORMAL)


class Crashing(Member):
    async def handle_presence(self, topic: str, diff: PresenceDiff, socket: Socket, /) -> None:
        await socket.request("nowhere", "e")


class HangingUp(Member):
    async def handle_presence(self, topic: str, diff: PresenceDiff, socket: Socket, /) -> None:
        socket.disconnect()
        await socket.request(topic, "e")


@pytest.mark.parametrize("client", [Stopping, Crashing, HangingUp])
async def test_it_returns_what_other_callbacks_do(
    socket_test: OpenTest, client: type[SlipstreamClient]
) -> None:
    async with socket_test(client, config(), restart="temporary") as test:
        await test.connect_and_join("t")
        await sync(test)
        if client is Stopping:
            assert await test.assert_stopped(within=0.0) == NORMAL
        elif client is Crashing:
            await test.expect_crash(NotJoinedError)
        else:
            assert test.ref.alive


async def test_presence_may_join_and_leave_topics(socket_test: OpenTest) -> None:
    class Leaving(Member):
        async def handle_presence(self, topic: str, diff: PresenceDiff, socket: Socket, /) -> None:
            socket.leave(topic)
            await socket.await_leave(topic)
            socket.assigns["left"] = dict(socket.presences(topic))

    async with socket_test(Leaving, config()) as test:
        await test.connect_and_join("t")
        await sync(test)
        await test.assert_leave("t")
        await test.send(Message(None, None, "t", "presence_diff", OWN))
        assert test.assigns["left"] == {}
        assert test.callbacks[-1] == "handle_presence"


async def test_each_incarnation_begins_with_nobody(socket_test: OpenTest) -> None:
    async with socket_test(Watcher, config()) as test:
        await test.connect_and_join("t")
        await sync(test)
        old = test.socket
        await test.kill()
        assert len(old.presences("t")) == 2  # a look at what was; the process has ended
        assert test.socket is not old
        assert test.socket.presences("t") == {}


async def test_a_script_keeps_presence_with_a_state_of_its_own(autojump_clock: Any) -> None:
    """It sees the messages as they are."""

    class Room(Channel):
        async def handle_info(self, message: Any) -> None:
            self.push("presence_diff", OWN)
            self.push("presence_state", ALL)

    async with PhoenixServer({"t": Room}, memory=True) as server:
        async with open_socket(config_to(server)) as socket:
            socket.join("t")
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


async def test_a_policy_that_gives_a_topic_up_has_it_forgotten(socket_test: OpenTest) -> None:
    class GivesUp:
        stable_after = 30.0
        max_joins_per_second = None

        def verdict(self, topic: str, reason: Any, attempt: int, /) -> Fatal:
            return Fatal("enough")

    async with socket_test(Watcher, config(rejoin=GivesUp())) as test:
        await test.connect_and_join("t")
        await sync(test)
        await test.crash_topic("t", {})
        assert test.socket.join_status("t") == "closed"
        assert server_of(test).topics.presences == {}
        assert type(test.called("handle_topic_close")[-1][1]) is not ChannelClosed
