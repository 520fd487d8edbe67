"""``handle_messages``: what waits comes in lists, and nothing else changes."""

from typing import Any

import trio
from hypothesis import given, strategies as st
from trio.testing import MockClock

from slipstream import NORMAL, Message, Socket, Stop, on_message
from slipstream.testing import SocketTest, open_socket_test
from tests.client.kit import Member, OpenTest, answer, config


class Batching(Member):
    async def handle_messages(self, messages: list[Message], socket: Socket, /) -> Any:
        return None

    @on_message("t", "routed")
    async def routed(self, topic: str, payload: Any, socket: Socket) -> None: ...


def message(number: int, event: str = "m", topic: str = "t") -> Message:
    return Message(None, None, topic, event, number)


def batches(test: SocketTest) -> list[list[Any]]:
    """The payloads of each batch so far."""
    return [[each.payload for each in args[0]] for args in test.called("handle_messages")]


async def test_all_that_waits_comes_at_once_whatever_its_topic(socket_test: OpenTest) -> None:
    class Slow(Batching):
        async def handle_messages(self, messages: list[Message], socket: Socket, /) -> None:
            await trio.sleep(1.0)

    async with socket_test(Slow, config()) as test:
        test.socket.join("u")
        await test.connect_and_join("t")
        await test.accept_join("u")
        await test.send(*[message(number, topic="tu"[number % 2]) for number in range(200)])
        await test.send(*[message(number) for number in range(200, 1000)])
        await test.advance(10.0)
        assert batches(test) == [[*range(200)], [*range(200, 1000)]]
        assert test.called("handle_message") == []
        assert test.ref.health().inbound == 0


KINDS = st.sampled_from(["plain", "plain", "plain", "routed", "reply", "stale"])


@given(st.lists(st.lists(KINDS, min_size=1, max_size=12), max_size=6))
def test_everything_keeps_its_order(deliveries: list[list[str]]) -> None:
    """Cut into pieces by whatever has a callback of its own, the messages are all there, once."""

    async def scenario() -> None:
        async with open_socket_test(Batching, config()) as test:
            await test.connect_and_join("t")
            pushes = []
            for _ in range(sum(kind == "reply" for kinds in deliveries for kind in kinds)):
                await test.socket.push("t", "e", timeout=1e4)
                pushes.append(await test.assert_push("t", "e"))
            before = len(test.calls)
            wanted: list[Any] = []
            for kinds in deliveries:
                frames: list[Message] = []
                for kind in kinds:
                    number = len(wanted)
                    match kind:
                        case "reply":
                            frames.append(answer(pushes.pop(0), response=number))
                        case "stale":  # it is dropped, and is in nobody's way
                            frames.append(Message("999", None, "t", "m", number))
                            continue
                        case _:
                            frames.append(message(number, {"plain": "m"}.get(kind, kind)))
                    wanted.append((kind, number))
                await test.send(*frames)
            heard: list[Any] = []
            for call in test.calls[before:]:
                match call.name:
                    case "handle_messages":
                        heard += [("plain", each.payload) for each in call.args[0]]
                    case "handle_reply":
                        heard.append(("reply", call.args[1].response))
                    case _:
                        heard.append((call.name, call.args[1]))
            assert heard == wanted

    trio.run(scenario, clock=MockClock(autojump_threshold=0))


async def test_what_is_stale_by_now_is_left_out_and_counted(socket_test: OpenTest) -> None:
    class Leaving(Batching):
        async def handle_messages(self, messages: list[Message], socket: Socket, /) -> None:
            if messages[0].payload == 1:
                await trio.sleep(1.0)
                socket.leave("u")

    async with socket_test(Leaving, config()) as test:
        test.socket.join("u")
        await test.connect_and_join("t")
        await test.accept_join("u")
        await test.send(message(1))
        await test.send(message(2), message(3, topic="u"), message(4))
        await test.advance(2.0)
        assert batches(test) == [[1], [2, 4]]
        assert test.ref.health().counters["stale"] == 1


async def test_awaiting_in_a_batch_finds_only_later_messages(socket_test: OpenTest) -> None:
    class Awaiting(Batching):
        async def handle_messages(self, messages: list[Message], socket: Socket, /) -> None:
            if messages[0].payload == 1:
                socket.assigns["awaited"] = (await socket.await_message("t")).payload

    async with socket_test(Awaiting, config()) as test:
        await test.connect_and_join("t")
        await test.send(message(1), message(2))
        await test.send(message(3), message(4))
        assert batches(test) == [[1, 2], [4]]
        assert test.assigns["awaited"] == 3


async def test_a_batch_may_stop_the_client(socket_test: OpenTest) -> None:
    class Stopping(Batching):
        async def handle_messages(self, messages: list[Message], socket: Socket, /) -> Stop:
            return Stop(NORMAL)

    async with socket_test(Stopping, config(), restart="temporary") as test:
        await test.connect_and_join("t")
        await test.send(message(1), message(2))
        await test.assert_disconnect(1000, within=0.0)
        assert test.callbacks[-2:] == ["handle_messages", "terminate"]


async def test_the_default_hands_them_on_one_by_one_up_to_a_stop(socket_test: OpenTest) -> None:
    seen: list[Any] = []

    class Falling(Member):
        async def handle_messages(self, messages: list[Message], socket: Socket, /) -> Any:
            return await super().handle_messages(
                [each for each in messages if each.payload], socket
            )

        async def handle_message(
            self, topic: str, event: str, payload: Any, socket: Socket, /
        ) -> Stop | None:
            seen.append((topic, event, payload))
            return Stop(NORMAL) if payload == 2 else None

    async with socket_test(Falling, config(), restart="temporary") as test:
        await test.connect_and_join("t")
        await test.send(message(0), message(1), message(2), message(3))
        await test.assert_disconnect(1000, within=0.0)
        assert seen == [("t", "m", 1), ("t", "m", 2)]
