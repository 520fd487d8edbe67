"""Going on where one was: what a rejoin is told, and what the client is told of a gap."""

from typing import Any, ClassVar

import pytest
import trio

from slipstream import (
    Config,
    ConfigError,
    JoinContext,
    Message,
    Socket,
    Stop,
    open_socket,
    open_supervisor,
)
from slipstream.client import SlipstreamClient
from slipstream.reasons import NORMAL
from slipstream.telemetry import capture_events
from slipstream.testing import Channel, PhoenixServer
from slipstream.transport import MemoryNetwork
from tests.client.support import URI, Recorder, ServerEnd, harness, settle, virtual


class Noticing(Recorder):
    """Also notes gaps."""

    async def handle_gap(self, topic: str, last_seen: Any, socket: Socket, /) -> Any:
        return await self._note("handle_gap", topic, last_seen, socket)


def number_of(message: Message) -> Any:
    """What a message of these tests is known by."""
    return message.payload.get("n")


def since(context: JoinContext) -> dict[str, Any]:
    """The join params of these tests."""
    return {"since": context.last_seen}


async def since_later(context: JoinContext) -> dict[str, Any]:
    await trio.sleep(0.5)
    return {"since": context.last_seen}


@pytest.mark.parametrize("params", [since, since_later])
@pytest.mark.parametrize("where", ["config", "join"])
def test_a_rejoin_is_told_what_was_seen_last(where: str, params: Any) -> None:
    """complaint-25: last_seen in the join params, over every reconnect."""

    async def scenario() -> None:
        options: dict[str, Any] = {"last_seen": number_of} if where == "config" else {}
        async with harness(client=Noticing, **options) as h:
            extract = number_of if where == "join" else None
            h.socket.join("t", params, last_seen=extract)
            h.socket.join("other", params, last_seen=extract)
            asked: list[Any] = []
            for number in (7, 8, None):
                end = await h.accept()
                joins = [await end.next("phx_join"), await end.next("phx_join")]
                asked.append({join.topic: join.payload["since"] for join in joins})
                for join in joins:
                    end.reply(join)
                end.broadcast("t", "new", {"n": number})
                end.broadcast("t", "no number")  # changes nothing
                await settle()
                end.peer.drop()
            assert [each["t"] for each in asked] == [None, 7, 8]
            assert [each["other"] for each in asked] == [None] * 3
            assert h.socket.last_seen("t") == 8
            assert h.socket.last_seen("other") is None
            assert h.socket.last_seen("never") is None

    virtual(scenario)


def test_a_gap_is_told_right_after_the_join_and_before_what_follows_it() -> None:
    """complaint-25: also where nothing was numbered; and not for the first join."""

    async def scenario() -> None:
        with capture_events("slipstream.client.gap") as events:
            async with harness(client=Noticing, last_seen=number_of) as h:
                end, _ = await h.joined("t")
                end.broadcast("t", "new", {"n": 3})
                await settle()
                end.peer.drop()
                end = await h.accept()
                join = await end.next("phx_join")
                end.send(
                    Message(
                        join.join_ref, join.ref, "t", "phx_reply", {"status": "ok", "response": {}}
                    ),
                    Message(None, None, "t", "new", {"n": 4}),
                )
                await settle()
                told = [name for name in h.names() if name not in {"init", "handle_connect"}]
                assert told == [
                    "handle_join", "handle_message", "handle_disconnect",
                    "handle_join", "handle_gap", "handle_message",
                ]  # fmt: skip
                assert h.of("handle_gap") == [("t", 3)]
        assert [data for _, data in events] == [{"topic": "t", "seconds": 1.0}]

    virtual(scenario)


@pytest.mark.parametrize("loss", ["crash", "rejoin", "leave", "never joined"])
def test_what_is_a_gap_and_what_is_none(loss: str) -> None:
    """complaint-25: every loss of a joined topic that was wanted all the time, and nothing else."""

    async def scenario() -> None:
        async with harness(client=Noticing) as h:
            end = await h.accept()
            if loss == "never joined":
                h.socket.join("t")
                end.reply(await end.next("phx_join"), "error", {"reason": "busy"})
            else:
                end, join = await h.joined("t", end)
                if loss == "crash":
                    end.say(join.join_ref, None, "t", "phx_error")
                elif loss == "rejoin":
                    h.socket.rejoin("t", {"other": True})
                else:
                    h.socket.leave("t")
                    end.reply(await end.next("phx_leave"))
                    await settle()
                    h.socket.join("t")
            await end.accept_join()
            await settle()
            assert h.of("handle_gap") == ([("t", None)] if loss in {"crash", "rejoin"} else [])

    virtual(scenario)


def test_a_client_that_ends_in_handle_join_is_told_of_no_gap() -> None:
    async def second_is_enough(client: Any, topic: str, response: Any, socket: Socket) -> Any:
        return Stop(NORMAL) if client.calls.count(("handle_join", "t", {})) == 2 else None

    async def scenario() -> None:
        scripts: dict[str, Any] = {"handle_join": second_is_enough}
        async with harness(scripts, client=Noticing, restart="temporary") as h:
            end, _ = await h.joined("t")
            end.peer.drop()
            await (await h.accept()).accept_join()
            assert await h.ref.wait() == NORMAL
            assert h.of("handle_gap") == []

    virtual(scenario)


def test_what_an_await_takes_has_been_seen_and_what_is_dropped_has_not() -> None:
    """complaint-25, d34: stale messages are not the client's, and count for nothing."""

    async def take(client: Any, socket: Socket) -> Any:
        return await socket.await_message("t", "new", {"n": 2})

    async def scenario() -> None:
        async with harness(client=Noticing, last_seen=number_of) as h:
            end, join = await h.joined("t")
            end.broadcast("t", "new", {"n": 2})
            await h.inside(take)
            assert h.socket.last_seen("t") == 2
            h.socket.rejoin("t", {"again": True})
            await end.accept_join()
            end.say(join.join_ref, None, "t", "new", {"n": 9})
            await settle()
            assert h.socket.last_seen("t") == 2

    virtual(scenario)


def test_a_script_resumes_as_a_client_does() -> None:
    async def scenario() -> None:
        network = MemoryNetwork()
        config = Config(
            URI, transport=network.open_transport, last_seen=number_of, heartbeat_interval=None
        )

        async def serve() -> None:
            end = ServerEnd(await network.accept())
            await end.accept_join()
            end.broadcast("t", "new", {"n": 5})

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            async with open_socket(config) as socket:
                socket.join("t")
                await socket.await_join("t")
                async with socket.messages("t") as messages:
                    async for message in messages:
                        assert message.payload == {"n": 5}
                        break
                assert socket.last_seen("t") == 5

    virtual(scenario)


def test_the_context_counts_the_failures_of_its_topic() -> None:
    """d22."""
    seen: list[JoinContext] = []

    def params(context: JoinContext) -> dict[str, Any]:
        seen.append(context)
        return {}

    async def scenario() -> None:
        async with harness() as h:
            end = await h.accept()
            h.socket.join("t", params)
            for _ in range(2):
                end.reply(await end.next("phx_join"), "error", {"reason": "busy"})
            await end.accept_join()
        assert seen == [JoinContext("t", attempt) for attempt in range(3)]

    virtual(scenario)


def _optional(context: JoinContext | None = None) -> dict[str, Any]:
    return {"asked": context is not None}


class _Provider:
    def method(self, context: JoinContext) -> dict[str, Any]:
        return {"asked": isinstance(context, JoinContext)}

    def __call__(self) -> dict[str, Any]:
        return {"asked": False}


@pytest.mark.parametrize(
    ("params", "asked"),
    [(_optional, False), (_Provider().method, True), (_Provider(), False), (dict, None)],
)
def test_a_provider_gets_a_context_only_if_it_cannot_do_without(params: Any, asked: Any) -> None:
    """d7: what took no argument before takes none now."""

    async def scenario() -> None:
        async with harness() as h:
            end = await h.accept()
            h.socket.join("t", params)
            assert (await end.next("phx_join")).payload.get("asked") is asked

    virtual(scenario)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"params": lambda a, b: {}}, "takes (a, b); accepted is a function without arguments, or"),
        ({"last_seen": 7}, "last_seen is 7; accepted is a function (message) -> value, or None"),
        ({"timeout": -1}, "timeout is -1"),
    ],
)
def test_a_wrong_argument_of_a_join_is_refused(arguments: Any, says: str) -> None:
    async def scenario() -> None:
        async with harness() as h:
            with pytest.raises(ConfigError) as caught:
                h.socket.join("t", **arguments)
            assert says in str(caught.value)
            assert h.socket.topics == {}

    virtual(scenario)


def test_nothing_is_done_for_those_who_do_not_ask() -> None:
    async def scenario() -> None:
        async with harness() as h:
            end, _ = await h.joined("t")
            end.broadcast("t", "new", {"n": 3})
            await settle()
            assert h.socket.last_seen("t") is None
            assert not h.server.topics.watches

    virtual(scenario)
    assert SlipstreamClient.handle_gap is Recorder.handle_gap


class Log(Channel):
    """A channel that sends what came after what the client has seen, whenever it is told to look."""

    entries: ClassVar[list[int]] = []

    async def join(self, topic: str, payload: Any, socket: Any, /) -> None:
        self.since = payload["since"] or 0

    async def handle_info(self, message: Any, /) -> None:
        for number in self.entries[self.since :]:
            self.push("entry", {"n": number})
        self.since = len(self.entries)


async def test_a_server_that_can_replay_leaves_no_gap() -> None:
    """complaint-25, over TCP: each entry once and in order, over connections that are cut."""
    heard: list[int] = []
    enough = trio.Event()

    class Reader(SlipstreamClient):
        async def handle_connect(self, socket: Socket, /) -> None:
            socket.join("log", since, last_seen=number_of)

        async def handle_message(
            self, topic: str, event: str, payload: Any, socket: Socket, /
        ) -> None:
            heard.append(payload["n"])
            if payload["n"] == 60:
                enough.set()

    Log.entries.clear()
    with trio.fail_after(20):
        async with PhoenixServer({"log": Log}) as server:
            config = Config(server.url, reconnect=[0.01])
            async with open_supervisor([(Reader, config)]):
                for number in range(1, 61):
                    if number % 20 == 5:
                        await server.wait_joined("log")
                    Log.entries.append(number)
                    for channel in server.channels("log"):
                        channel.send("look")
                    if number % 20 == 15:
                        server.drop()  # the log grows while the client is away
                        await server.wait_connections(0)
                    await trio.sleep(0.001)
                await enough.wait()
    assert heard == list(range(1, 61))
