"""What an outage takes away, and what a crash does: the table of the guide to clients."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from slipstream import (
    Caller,
    Config,
    Reply,
    ServerGoneError,
    ServerRef,
    SlipstreamClient,
    Socket,
    SupervisorRef,
    open_supervisor,
)
from slipstream.testing import Channel, PhoenixServer
from slipstream.testing.otp import advance


class Keeper(SlipstreamClient):
    """Takes a second for each message, and does what it is told."""

    async def init(self, config: Any, socket: Socket, /) -> None:
        """Ask for one topic; others are asked for by casts."""
        self.log: list[Any] = []
        socket.connect(config)
        socket.join("rooms:a")

    async def handle_message(self, topic: str, event: str, payload: Any, socket: Socket, /) -> None:
        await trio.sleep(1.0)
        self.log.append(payload["n"])

    async def handle_disconnect(self, reason: Any, socket: Socket, /) -> None:
        self.log.append("disconnected")

    async def handle_cast(self, message: Any, socket: Socket, /) -> None:
        match message:
            case ("join", topic):
                socket.join(topic)
            case ("push", event):
                await socket.push("rooms:a", event, when_unjoined="queue")
            case _:
                raise ValueError(message)

    async def handle_call(self, request: Any, caller: Caller, socket: Socket, /) -> Reply:
        return Reply(self.log)


@asynccontextmanager
async def serving() -> AsyncGenerator[tuple[PhoenixServer, SupervisorRef]]:
    """Run a keeper, and its server in memory."""
    async with PhoenixServer({"rooms:*": Channel}, memory=True) as server:
        config = Config(server.url, transport=server.open_transport)
        async with open_supervisor([(Keeper, config)]) as supervisor:
            yield server, supervisor


def heard(server: PhoenixServer) -> list[tuple[str, str]]:
    return [(each.topic, each.event) for each in server.frames if each.topic != "phoenix"]


async def test_what_an_outage_takes_away(autojump_clock: MockClock) -> None:
    """Nothing of the client's own, as the guide's table says."""
    async with serving() as (server, supervisor):
        keeper = supervisor.child(Keeper)
        keeper.cast(("join", "rooms:b"))
        await server.wait_joined("rooms:b")
        for number in range(3):
            server.broadcast("rooms:a", "m", {"n": number})
        await advance(0.5)
        server.drop()
        server.broadcast("rooms:a", "m", {"n": "while away"})
        keeper.cast(("push", "kept"))
        await advance(30.0)
        assert await keeper.call("log") == [0, 1, 2, "disconnected"]
        joins = [("rooms:a", "phx_join"), ("rooms:b", "phx_join")]
        assert heard(server) == [*joins, *joins, ("rooms:a", "kept")]


async def test_what_a_crash_takes_away(autojump_clock: MockClock) -> None:
    """All that the client did not ask for in its init, as the guide's table says."""
    gone: list[ServerGoneError] = []

    async def call(keeper: ServerRef) -> None:
        with pytest.raises(ServerGoneError) as caught:
            await keeper.call("log")
        gone.append(caught.value)

    async with serving() as (server, supervisor):
        keeper = supervisor.child(Keeper)
        keeper.cast(("join", "rooms:b"))
        await server.wait_joined("rooms:b")
        server.broadcast("rooms:a", "m", {"n": 0})
        await advance(0.5)
        keeper.cast("crash")
        server.broadcast("rooms:a", "m", {"n": 1})
        keeper.cast(("join", "rooms:c"))
        keeper.cast(("push", "lost"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call, keeper)
            await advance(30.0)
        assert len(gone) == 1
        assert await keeper.call("log") == []
        joins = [("rooms:a", "phx_join"), ("rooms:b", "phx_join"), ("rooms:a", "phx_join")]
        assert heard(server) == joins
