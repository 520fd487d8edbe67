"""Scripts: a connected socket as a block."""

from typing import Any

import attrs
import pytest
import trio

from slipstream import (
    AwaitTimeoutError,
    ChannelReply,
    ConfigError,
    ConnectError,
    DisconnectedError,
    JoinError,
    TopicClosedError,
    TransportFailed,
    WrongTaskError,
    open_socket,
)
from slipstream.testing import Channel, Ok, PhoenixServer, Refuse, ServerSocket
from tests.client.kit import config_to


class Room(Channel):
    async def join(self, topic: str, payload: Any, socket: ServerSocket, /) -> Any:
        return Refuse({"reason": "no"}) if topic == "rooms:closed" else Ok({"welcome": topic})

    async def handle_in(self, event: str, payload: Any, socket: ServerSocket, /) -> Any:
        match event:
            case "echo":
                return Ok(payload)
            case "count":
                for number in range(payload["to"]):
                    self.push("number", {"n": number})
                return Ok()
            case "stop":
                self.stop()
            case _:
                pass
        return None


CHANNELS = {"rooms:*": Room}


async def test_a_script_connects_joins_requests_and_leaves() -> None:
    with trio.fail_after(10):
        async with PhoenixServer(CHANNELS) as server:
            async with open_socket(server.url) as socket:
                assert socket.connected
                socket.join("rooms:1")
                assert await socket.await_join("rooms:1") == {"welcome": "rooms:1"}
                assert await socket.request("rooms:1", "echo", {"a": 1}) == ChannelReply(
                    "ok", {"a": 1}
                )
                ref = await socket.push("rooms:1", "echo", b"bin")
                assert (await socket.await_reply(ref)).response == b"bin"
                await socket.push("rooms:1", "count", {"to": 3})
                assert (await socket.await_message("rooms:1", payload={"n": 1})).event == "number"
                async with socket.messages("rooms:1") as messages:
                    assert [(await anext(messages)).payload["n"] for _ in range(2)] == [0, 2]
                socket.leave("rooms:1")
                await socket.await_leave("rooms:1")
                assert socket.topics == {"rooms:1": "closed"}
            await server.wait_connections(0)


async def test_the_iteration_ends_with_the_channel_or_the_connection(autojump_clock: Any) -> None:
    async with (
        PhoenixServer(CHANNELS, memory=True) as server,
        open_socket(config_to(server)) as socket,
    ):
        for end, error in (("stop", TopicClosedError), ("drop", DisconnectedError)):
            socket.join("rooms:1")
            socket.rejoin("rooms:1")
            await socket.await_join("rooms:1")
            await socket.push("rooms:1", "count", {"to": 2})
            got: list[int] = []

            async def listen(end: str = end, got: list[int] = got) -> None:
                async with socket.messages("rooms:1") as messages:
                    async for message in messages:
                        got.append(message.payload["n"])
                        if len(got) == 2 and end == "stop":
                            await socket.push("rooms:1", "stop")
                        elif len(got) == 2:
                            server.drop()

            with pytest.raises(error):
                await listen()
            assert got == [0, 1]


async def test_a_lost_connection_makes_every_wait_fail(autojump_clock: Any) -> None:
    async with (
        PhoenixServer(CHANNELS, memory=True) as server,
        open_socket(config_to(server)) as socket,
    ):
        socket.join("rooms:1")
        await socket.await_join("rooms:1")
        server.drop()
        reason = await socket.await_disconnect()
        assert isinstance(reason, TransportFailed)
        for wait in (
            socket.request("rooms:1", "echo"),
            socket.await_message("rooms:1"),
            socket.await_connect(),
        ):
            with pytest.raises(DisconnectedError) as caught:
                await wait
            assert caught.value.reason == reason
        assert socket.health().phase == "down"
        socket.reconnect()
        await socket.await_connect()
        await socket.await_join("rooms:1")


async def test_with_reconnect_it_comes_back_by_itself(autojump_clock: Any) -> None:
    async with PhoenixServer(CHANNELS, memory=True) as server:
        server.refuse_connects(500)
        async with trio.open_nursery() as nursery:

            async def relent() -> None:
                await server.wait_until(lambda: len(server.requests) >= 2)
                server.accept_connects()

            nursery.start_soon(relent)
            async with open_socket(config_to(server), reconnect=True) as socket:
                socket.join("rooms:1")
                await socket.await_join("rooms:1")
                server.drop()
                await socket.await_disconnect()
                await socket.await_join("rooms:1")
                assert (await socket.request("rooms:1", "echo", {})).ok


async def test_what_goes_wrong_while_opening_is_raised_bare(autojump_clock: Any) -> None:
    async with PhoenixServer(CHANNELS, memory=True) as server:
        server.refuse_connects(429, body=b"later")
        with pytest.raises(ConnectError) as caught:
            async with open_socket(config_to(server)):
                raise AssertionError("it must not open")
        assert (caught.value.status, caught.value.body) == (429, b"later")
    with pytest.raises(ConfigError, match="http"):
        async with open_socket("http://x"):
            raise AssertionError("it must not open")


async def test_refusals_and_time_outs(autojump_clock: Any) -> None:
    async with (
        PhoenixServer(CHANNELS, memory=True) as server,
        open_socket(config_to(server)) as socket,
    ):
        socket.join("rooms:closed", rejoin=False)
        with pytest.raises(JoinError):
            await socket.await_join("rooms:closed")
        socket.join("rooms:1")
        await socket.await_join("rooms:1")
        with pytest.raises(AwaitTimeoutError):
            await socket.await_message("rooms:1", timeout=0.01)


async def test_awaiting_belongs_to_the_task_that_opened_it_and_requests_to_any(
    autojump_clock: Any,
) -> None:
    async with (
        PhoenixServer(CHANNELS, memory=True) as server,
        open_socket(config_to(server)) as socket,
    ):
        socket.join("rooms:1")
        await socket.await_join("rooms:1")
        done: list[Any] = []

        async def elsewhere() -> None:
            done.append((await socket.request("rooms:1", "echo", {})).ok)
            with pytest.raises(WrongTaskError, match="opened the socket"):
                await socket.await_message()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(elsewhere)
        assert done == [True]


async def test_messages_that_nobody_awaits_are_dropped_oldest_first(autojump_clock: Any) -> None:
    async with (
        PhoenixServer(CHANNELS, memory=True) as server,
        open_socket(config_to(server, inbound_limit=32)) as socket,
    ):
        socket.join("rooms:1")
        await socket.await_join("rooms:1")
        await socket.request("rooms:1", "count", {"to": 500})
        first = (await socket.await_message("rooms:1")).payload["n"]
        assert first > 300
        assert socket.health().counters["dropped"] >= first


async def test_outcomes_that_nobody_awaits_are_not_kept_without_number(autojump_clock: Any) -> None:
    async with (
        PhoenixServer(CHANNELS, memory=True) as server,
        open_socket(config_to(server, inbound_limit=32)) as socket,
    ):
        socket.join("rooms:1")
        await socket.await_join("rooms:1")
        for _ in range(4000):
            await socket.push("rooms:1", "echo")
        assert (await socket.request("rooms:1", "echo", {})).ok
        # 1056, and the batch of the transport that came last.
        assert socket.health().inbound < 2200


@pytest.mark.parametrize("reconnect", [True, False])
async def test_a_script_that_moves_is_a_script_still(autojump_clock: Any, reconnect: bool) -> None:
    """It keeps the newest messages, and reconnects as it was opened to."""
    async with (
        PhoenixServer(CHANNELS, memory=True) as first,
        PhoenixServer(CHANNELS, memory=True) as second,
    ):
        options = config_to(first, inbound_limit=4)
        async with open_socket(options, reconnect=reconnect) as socket:
            await first.wait_connections(1)
            socket.join("rooms:1")
            elsewhere: dict[str, Any] = {"uri": second.url, "transport": second.open_transport}
            socket.connect(attrs.evolve(options, **elsewhere, on_overflow="pause"))
            await second.wait_joined("rooms:1")
            await first.wait_connections(0)
            for number in range(20):
                second.broadcast("rooms:1", "e", number)
            assert (await socket.await_message("rooms:1", payload=19)).payload == 19
            second.drop()
            await trio.sleep(5.0)
            assert socket.health().counters["attempts"] == (3 if reconnect else 2)
