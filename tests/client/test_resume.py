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
from slipstream.testing import Channel, PhoenixServer
from tests.client.kit import Member, OpenTest, answer, config, config_to, server_of


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
async def test_a_rejoin_is_told_what_was_seen_last(
    socket_test: OpenTest, where: str, params: Any
) -> None:
    """complaint-25: last_seen in the join params, over every reconnect."""
    options: dict[str, Any] = {"last_seen": number_of} if where == "config" else {}
    extract = number_of if where == "join" else None
    async with socket_test(SlipstreamClient, config(**options)) as test:
        test.socket.join("t", params, last_seen=extract)
        test.socket.join("other", params, last_seen=extract)
        asked: list[Any] = []
        for number in (7, 8, None):
            await test.accept_connect()
            joins = [await test.accept_join("t"), await test.accept_join("other")]
            asked.append([join.payload["since"] for join in joins])
            await test.broadcast("t", "new", {"n": number})
            await test.broadcast("t", "no number")  # changes nothing
            await test.drop()
        assert asked == [[None, None], [7, None], [8, None]]
        assert test.socket.last_seen("t") == 8
        assert test.socket.last_seen("other") is None
        assert test.socket.last_seen("never") is None


async def test_a_gap_is_told_right_after_the_join_and_before_what_follows_it(
    socket_test: OpenTest,
) -> None:
    """complaint-25: also where nothing was numbered; and not for the first join."""
    async with socket_test(Member, config(last_seen=number_of)) as test:
        await test.connect_and_join("t")
        await test.broadcast("t", "new", {"n": 3})
        await test.drop()
        await test.accept_connect()
        join = await test.assert_join("t")
        await test.send(answer(join), Message(None, None, "t", "new", {"n": 4}))
        told = [name for name in test.callbacks if name not in {"init", "handle_connect"}]
        assert told == [
            "handle_join", "handle_message", "handle_disconnect",
            "handle_join", "handle_gap", "handle_message",
        ]  # fmt: skip
        assert test.called("handle_gap") == [("t", 3)]
        assert test.events("slipstream.client.gap") == [
            {"client": "client", "topic": "t", "seconds": 1.0}
        ]


@pytest.mark.parametrize("loss", ["crash", "rejoin", "leave", "never joined"])
async def test_what_is_a_gap_and_what_is_none(socket_test: OpenTest, loss: str) -> None:
    """complaint-25: every loss of a joined topic that was wanted all the time, and nothing else."""
    async with socket_test(Member, config()) as test:
        await test.accept_connect()
        if loss == "never joined":
            await test.refuse_join("t", {"reason": "busy"})
        else:
            await test.accept_join("t")
            if loss == "crash":
                await test.crash_topic("t")
            elif loss == "rejoin":
                test.socket.rejoin("t", {"other": True})
            else:
                test.socket.leave("t")
                await test.assert_leave("t")
                test.socket.join("t")
        await test.accept_join("t")
        assert test.callbacks.count("handle_join") == (1 if loss == "never joined" else 2)
        assert test.called("handle_gap") == ([("t", None)] if loss in {"crash", "rejoin"} else [])


async def test_a_client_that_ends_in_handle_join_is_told_of_no_gap(socket_test: OpenTest) -> None:
    class TwiceIsEnough(Member):
        joins = 0

        async def handle_join(self, topic: str, response: Any, socket: Socket, /) -> Stop | None:
            self.joins += 1
            return Stop(NORMAL) if self.joins == 2 else None

    async with socket_test(TwiceIsEnough, config(), restart="temporary") as test:
        await test.connect_and_join("t")
        await test.drop()
        await test.connect_and_join("t")
        assert await test.assert_stopped(within=0.0) == NORMAL
        assert test.called("handle_gap") == []


async def test_what_an_await_takes_has_been_seen_and_what_is_dropped_has_not(
    socket_test: OpenTest,
) -> None:
    """complaint-25, d34: stale messages are not the client's, and count for nothing."""
    async with socket_test(Member, config(last_seen=number_of)) as test:
        join = await test.connect_and_join("t")
        taking = await test.start_inside(
            lambda client, socket: socket.await_message("t", "new", {"n": 2})
        )
        await test.broadcast("t", "new", {"n": 2})
        await taking.outcome(within=0.0)
        assert test.socket.last_seen("t") == 2
        test.socket.rejoin("t", {"again": True})
        await test.accept_join("t")
        await test.send(Message(join.join_ref, None, "t", "new", {"n": 9}))
        assert test.socket.last_seen("t") == 2
        assert test.called("handle_message") == []


async def test_a_script_resumes_as_a_client_does(autojump_clock: Any) -> None:
    class Saying(Channel):
        async def handle_info(self, message: Any) -> None:
            self.push("new", {"n": 5})

    async with PhoenixServer({"t": Saying}, memory=True) as server:
        options = config_to(server, last_seen=number_of)
        async with open_socket(options) as socket:
            socket.join("t")
            await socket.await_join("t")
            async with socket.messages("t") as messages:
                async for message in messages:
                    assert message.payload == {"n": 5}
                    break
            assert socket.last_seen("t") == 5


async def test_the_context_counts_the_failures_of_its_topic(socket_test: OpenTest) -> None:
    """d22."""
    seen: list[JoinContext] = []

    def params(context: JoinContext) -> dict[str, Any]:
        seen.append(context)
        return {}

    async with socket_test(SlipstreamClient, config()) as test:
        await test.accept_connect()
        test.socket.join("t", params)
        for _ in range(2):
            await test.refuse_join("t", {"reason": "busy"})
        await test.accept_join("t")
    assert seen == [JoinContext("t", attempt) for attempt in range(3)]


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
async def test_a_provider_gets_a_context_only_if_it_cannot_do_without(
    socket_test: OpenTest, params: Any, asked: Any
) -> None:
    """d7: what took no argument before takes none now."""
    async with socket_test(SlipstreamClient, config()) as test:
        await test.accept_connect()
        test.socket.join("t", params)
        assert (await test.assert_join("t")).payload.get("asked") is asked


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"params": lambda a, b: {}}, "takes (a, b); accepted is a function without arguments, or"),
        ({"last_seen": 7}, "last_seen is 7; accepted is a function (message) -> value, or None"),
        ({"timeout": -1}, "timeout is -1"),
    ],
)
async def test_a_wrong_argument_of_a_join_is_refused(
    socket_test: OpenTest, arguments: Any, says: str
) -> None:
    async with socket_test(SlipstreamClient, config()) as test:
        with pytest.raises(ConfigError) as caught:
            test.socket.join("t", **arguments)
        assert says in str(caught.value)
        assert test.socket.topics == {}


async def test_nothing_is_done_for_those_who_do_not_ask(socket_test: OpenTest) -> None:
    async with socket_test(Member, config()) as test:
        await test.connect_and_join("t")
        await test.broadcast("t", "new", {"n": 3})
        assert test.socket.last_seen("t") is None
        assert not server_of(test).topics.watches
    assert SlipstreamClient.handle_gap is Member.handle_gap


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
            async with open_supervisor([(Reader, Config(server.url, reconnect=[0.01]))]):
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
