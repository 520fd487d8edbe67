"""``socket.messages``: a block with a bounded buffer of its own."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from hypothesis import given, strategies as st

from slipstream import (
    ANY,
    AwaitTimeoutError,
    Config,
    ConfigError,
    DisconnectedError,
    Message,
    NotJoinedError,
    Socket,
    TopicClosedError,
    open_socket,
)
from slipstream.client import Messages
from slipstream.transport import MemoryNetwork
from tests.client.support import URI, ServerEnd, harness, settle, virtual


@asynccontextmanager
async def script(*topics: str, **options: Any) -> AsyncGenerator[tuple[Socket, ServerEnd]]:
    """Open a socket that has joined *topics*; give the server's end, too."""
    network = MemoryNetwork()
    ends: list[ServerEnd] = []

    async def serve() -> None:
        end = ServerEnd(await network.accept())
        ends.append(end)
        for topic in topics:
            await end.accept_join(topic)

    config = Config(URI, transport=network.open_transport, heartbeat_interval=None, **options)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        async with open_socket(config) as socket:
            for topic in topics:
                socket.join(topic)
                await socket.await_join(topic)
            yield socket, ends[0]


def send(end: ServerEnd, *numbers: int, topic: str = "t", event: str = "m") -> None:
    end.send(*[Message(None, None, topic, event, number) for number in numbers])


async def take(messages: Any, count: int) -> list[int]:
    return [(await anext(messages)).payload for _ in range(count)]


def test_what_fits_goes_to_the_block_and_the_rest_can_be_awaited() -> None:
    async def scenario() -> None:
        async with script("t", "u") as (socket, end):
            send(end, 0, 1)
            await settle()
            async with socket.messages("t", "m") as messages:
                send(end, 2)
                send(end, 10, topic="u")
                send(end, 11, event="other")
                send(end, 3)
                assert await take(messages, 4) == [0, 1, 2, 3]
                assert (await socket.await_message(payload=int)).payload == 10
                with pytest.raises(AwaitTimeoutError):
                    await socket.await_message("t", "m", timeout=1.0)
                assert (await socket.await_message("t")).payload == 11
            assert socket.health().inbound == 0

    virtual(scenario)


def test_what_nobody_took_can_still_be_awaited_in_order() -> None:
    async def scenario() -> None:
        async with script("t") as (socket, end):
            async with socket.messages("t") as messages:
                send(end, *range(5))
                assert await take(messages, 2) == [0, 1]
            send(end, 5)
            assert [(await socket.await_message("t")).payload for _ in range(4)] == [2, 3, 4, 5]
            assert messages.dropped == 0

    virtual(scenario)


def test_over_the_limit_the_oldest_are_dropped_and_counted() -> None:
    async def scenario() -> None:
        async with script("t") as (socket, end):
            async with socket.messages("t", limit=10) as messages:
                send(end, *range(100))
                await settle()
                assert await take(messages, 10) == [*range(90, 100)]
                assert messages.dropped == 90
                assert socket.health().counters["dropped"] == 90

    virtual(scenario)


@pytest.mark.parametrize(
    ("end_it", "error"),
    [
        (lambda end, join: end.peer.drop(), DisconnectedError),
        (lambda end, join: end.broadcast("t", "phx_close"), TopicClosedError),
    ],
    ids=["drop", "close"],
)
def test_what_has_come_is_given_before_the_end(end_it: Any, error: Any) -> None:
    async def scenario() -> None:
        got: list[int] = []
        async with script("t") as (socket, end):

            async def listen() -> None:
                async with socket.messages("t") as messages:
                    with pytest.raises(error):
                        async for message in messages:
                            got.append(message.payload)
                            await trio.sleep(1.0)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(listen)
                await settle()
                send(end, 0, 1, 2)
                await settle()
                end_it(end, None)
            assert got == [0, 1, 2]

    virtual(scenario)


def test_the_end_wakes_who_waits() -> None:
    async def scenario() -> None:
        async with script("t") as (socket, end):
            async with socket.messages(ANY) as messages, trio.open_nursery() as nursery:

                async def listen() -> None:
                    with pytest.raises(DisconnectedError):
                        await anext(messages)

                for _ in range(2):
                    nursery.start_soon(listen)
                await settle()
                end.peer.drop()

    virtual(scenario)


@given(st.lists(st.sampled_from("tu"), max_size=30), st.integers(1, 3), st.integers(0, 30))
def test_any_task_may_iterate_and_each_message_is_given_once(
    topics: list[str], listeners: int, cancelled_at: int
) -> None:
    """Also where one of those who wait is cancelled."""

    async def scenario() -> None:
        got: dict[str, list[int]] = {"t": [], "u": []}

        async def listen(topic: str, messages: Messages, scope: trio.CancelScope) -> None:
            with scope:
                async for message in messages:
                    got[topic].append(message.payload)

        async with script("t", "u") as (socket, end), trio.open_nursery() as nursery:
            async with socket.messages("t") as of_t, socket.messages("u") as of_u:
                first: list[trio.CancelScope] = []
                for topic, messages in (("t", of_t), ("u", of_u)):
                    scopes = [trio.CancelScope() for _ in range(listeners + 1)]
                    first.append(scopes[0])
                    for scope in scopes:
                        nursery.start_soon(listen, topic, messages, scope)
                await settle()
                for number, topic in enumerate(topics):
                    send(end, number, topic=topic)
                    if number == cancelled_at:
                        first[number % 2].cancel()
                    await trio.sleep(0.0)
                await settle()
                for topic in "tu":
                    assert sorted(got[topic]) == [n for n, t in enumerate(topics) if t == topic]
                nursery.cancel_scope.cancel()

    virtual(scenario)


def test_a_wrong_limit_and_an_unknown_topic_are_refused() -> None:
    async def scenario() -> None:
        async with script("t") as (socket, _):
            for limit in (0, -1, 1.5, True, None):
                with pytest.raises(ConfigError, match=r"limit is .*; accepted is a whole number"):
                    socket.messages("t", limit=limit)  # type: ignore[arg-type]  # that is the point
            with pytest.raises(NotJoinedError):
                async with socket.messages("nowhere"):
                    raise AssertionError("it must not open")

    virtual(scenario)


def test_in_a_callback_the_block_takes_from_what_waits() -> None:
    async def listening(client: Any, _topic: str, _event: str, _payload: Any, socket: Any) -> None:
        async with socket.messages("t", "m", lambda number: number % 2) as messages:
            client.calls.append(("took", await take(messages, 2)))
        client.scripts.clear()

    async def scenario() -> None:
        async with harness({"handle_message": listening}) as h:
            end, _ = await h.joined()
            send(end, 0, 1, 2, 3, 4)
            await settle()
            assert h.of("took") == [([1, 3],)]
            assert [args[2] for args in h.of("handle_message")] == [0, 2, 4]

    virtual(scenario)


def test_what_a_predicate_raises_is_raised_where_the_block_is_read() -> None:
    """The connection, whose task asks it, lives on; what came before is given first."""

    async def scenario() -> None:
        async with script("t") as (socket, end):
            async with socket.messages("t", payload=lambda number: 6 // number) as messages:
                send(end, 1, 2, 0, 3)
                assert await take(messages, 2) == [1, 2]
                with pytest.raises(ZeroDivisionError):
                    await anext(messages)
            assert socket.connected
            assert [(await socket.await_message("t")).payload for _ in range(2)] == [0, 3]

    virtual(scenario)
