"""``socket.messages``: a block with a bounded buffer of its own."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from hypothesis import given, strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from slipstream import (
    ANY,
    AwaitTimeoutError,
    ConfigError,
    DisconnectedError,
    NotJoinedError,
    Socket,
    TopicClosedError,
    open_socket,
)
from slipstream.client import Messages
from slipstream.testing import Channel, PhoenixServer
from tests.client.kit import Member, OpenTest, config, config_to


@asynccontextmanager
async def script(*topics: str) -> AsyncGenerator[tuple[Socket, PhoenixServer]]:
    """Open a socket that has joined *topics*; give its server, too."""
    async with PhoenixServer(dict.fromkeys(topics, Channel), memory=True) as server:
        async with open_socket(config_to(server)) as socket:
            for topic in topics:
                socket.join(topic)
                await socket.await_join(topic)
            yield socket, server


async def send(server: PhoenixServer, *numbers: int, topic: str = "t", event: str = "m") -> None:
    """Broadcast *numbers*; they have arrived afterwards."""
    for number in numbers:
        server.broadcast(topic, event, number)
    await wait_all_tasks_blocked()


async def take(messages: Any, count: int) -> list[int]:
    return [(await anext(messages)).payload for _ in range(count)]


async def test_what_fits_goes_to_the_block_and_the_rest_can_be_awaited(autojump_clock: Any) -> None:
    async with script("t", "u") as (socket, server):
        await send(server, 0, 1)
        async with socket.messages("t", "m") as messages:
            await send(server, 2)
            await send(server, 10, topic="u")
            await send(server, 11, event="other")
            await send(server, 3)
            assert await take(messages, 4) == [0, 1, 2, 3]
            assert (await socket.await_message(payload=int)).payload == 10
            with pytest.raises(AwaitTimeoutError):
                await socket.await_message("t", "m", timeout=1.0)
            assert (await socket.await_message("t")).payload == 11
        assert socket.health().inbound == 0


async def test_what_nobody_took_can_still_be_awaited_in_order(autojump_clock: Any) -> None:
    async with script("t") as (socket, server):
        async with socket.messages("t") as messages:
            await send(server, *range(5))
            assert await take(messages, 2) == [0, 1]
        await send(server, 5)
        assert [(await socket.await_message("t")).payload for _ in range(4)] == [2, 3, 4, 5]
        assert messages.dropped == 0


async def test_over_the_limit_the_oldest_are_dropped_and_counted(autojump_clock: Any) -> None:
    async with script("t") as (socket, server):
        async with socket.messages("t", limit=10) as messages:
            await send(server, *range(100))
            assert await take(messages, 10) == [*range(90, 100)]
            assert messages.dropped == 90
            assert socket.health().counters["dropped"] == 90


async def _drop(server: PhoenixServer) -> None:
    server.drop()


async def _close(server: PhoenixServer) -> None:
    await server.stop_channel("t")


@pytest.mark.parametrize(
    ("end_it", "error"), [(_drop, DisconnectedError), (_close, TopicClosedError)]
)
async def test_what_has_come_is_given_before_the_end(
    autojump_clock: Any, end_it: Any, error: Any
) -> None:
    got: list[int] = []
    async with script("t") as (socket, server):

        async def listen() -> None:
            async with socket.messages("t") as messages:
                with pytest.raises(error):
                    async for message in messages:
                        got.append(message.payload)
                        await trio.sleep(1.0)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            await wait_all_tasks_blocked()
            await send(server, 0, 1, 2)
            await end_it(server)
        assert got == [0, 1, 2]


async def test_the_end_wakes_who_waits(autojump_clock: Any) -> None:
    async with script("t") as (socket, server):
        async with socket.messages(ANY) as messages, trio.open_nursery() as nursery:

            async def listen() -> None:
                with pytest.raises(DisconnectedError):
                    await anext(messages)

            for _ in range(2):
                nursery.start_soon(listen)
            await wait_all_tasks_blocked()
            server.drop()


@given(
    st.lists(st.sampled_from("tu"), max_size=30),
    st.integers(1, 3),
    st.sets(st.integers(0, 29)),
    st.integers(5, 9),  # so many steps a frame takes, give or take some
)
def test_any_task_may_iterate_and_each_message_is_given_once(
    topics: list[str], listeners: int, cancelled_at: set[int], steps: int
) -> None:
    """Also where some of those who wait are cancelled, wherever the message is on its way."""

    async def scenario() -> None:
        got: dict[str, list[int]] = {"t": [], "u": []}

        async def listen(topic: str, messages: Messages, scope: trio.CancelScope) -> None:
            with scope:
                async for message in messages:
                    got[topic].append(message.payload)

        async with script("t", "u") as (socket, server), trio.open_nursery() as nursery:
            async with socket.messages("t") as of_t, socket.messages("u") as of_u:
                scopes: dict[str, list[trio.CancelScope]] = {}
                for topic, messages in (("t", of_t), ("u", of_u)):
                    scopes[topic] = [trio.CancelScope() for _ in range(listeners + 1)]
                    for scope in scopes[topic]:
                        nursery.start_soon(listen, topic, messages, scope)
                await wait_all_tasks_blocked()
                for number, topic in enumerate(topics):
                    server.broadcast(topic, "m", number)
                    for _ in range(steps):
                        await trio.lowlevel.checkpoint()
                    if number in cancelled_at and len(scopes[topic]) > 1:
                        scopes[topic].pop(0).cancel()
                await wait_all_tasks_blocked()
                for topic in "tu":
                    assert sorted(got[topic]) == [n for n, t in enumerate(topics) if t == topic]
                nursery.cancel_scope.cancel()

    trio.run(scenario, clock=MockClock(autojump_threshold=0))


async def test_a_wrong_limit_and_an_unknown_topic_are_refused(autojump_clock: Any) -> None:
    async with script("t") as (socket, _):
        for limit in (0, -1, 1.5, True, None):
            with pytest.raises(ConfigError, match=r"limit is .*; accepted is a whole number"):
                socket.messages("t", limit=limit)  # type: ignore[arg-type]  # that is the point
        with pytest.raises(NotJoinedError):
            async with socket.messages("nowhere"):
                raise AssertionError("it must not open")


async def test_in_a_callback_the_block_takes_from_what_waits(socket_test: OpenTest) -> None:
    async def listen(client: Any, socket: Socket) -> list[int]:
        async with socket.messages("t", "m", lambda number: number % 2) as messages:
            return await take(messages, 2)

    async with socket_test(Member, config()) as test:
        await test.connect_and_join("t")
        listening = await test.start_inside(listen)
        await test.send(*[f'[null,null,"t","m",{number}]' for number in range(5)])
        assert await listening.outcome(within=0.0) == [1, 3]
        assert [args[2] for args in test.called("handle_message")] == [0, 2, 4]


async def test_what_a_predicate_raises_is_raised_where_the_block_is_read(
    autojump_clock: Any,
) -> None:
    """The connection, whose task asks it, lives on; what came before is given first."""
    async with script("t") as (socket, server):
        async with socket.messages("t", payload=lambda number: 6 // number) as messages:
            await send(server, 1, 2, 0, 3)
            assert await take(messages, 2) == [1, 2]
            with pytest.raises(ZeroDivisionError):
                await anext(messages)
        assert socket.connected
        assert [(await socket.await_message("t")).payload for _ in range(2)] == [0, 3]
