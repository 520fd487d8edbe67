"""``handle_messages``: what waits comes in lists, and nothing else changes."""

from typing import Any

import trio
from hypothesis import given, strategies as st

from slipstream import NORMAL, Message, Stop, on_message
from tests.client.support import Recorder, harness, settle, virtual


class Batching(Recorder):
    async def handle_messages(self, messages: list[Message], socket: Any, /) -> Any:
        return await self._note("handle_messages", [each.payload for each in messages], socket)

    @on_message("t", "routed")
    async def routed(self, topic: str, payload: Any, socket: Any) -> None:
        self.calls.append(("routed", payload))


def message(number: int, event: str = "m", topic: str = "t") -> Message:
    return Message(None, None, topic, event, number)


def test_all_that_waits_comes_at_once_whatever_its_topic() -> None:
    async def slow(*_: Any) -> None:
        await trio.sleep(1.0)

    async def scenario() -> None:
        async with harness({"handle_messages": slow}, client=Batching) as h:
            end, _ = await h.joined()
            await h.joined("u", end)
            end.send(*[message(number, topic="tu"[number % 2]) for number in range(200)])
            await settle()
            end.send(*[message(number) for number in range(200, 1000)])
            await trio.sleep(10.0)
            assert h.of("handle_messages") == [([*range(200)],), ([*range(200, 1000)],)]
            assert h.of("handle_message") == []
            assert h.ref.health().inbound == 0

    virtual(scenario)


KINDS = st.sampled_from(["plain", "plain", "plain", "routed", "reply", "stale"])


@given(st.lists(st.lists(KINDS, min_size=1, max_size=12), max_size=6))
def test_everything_keeps_its_order(deliveries: list[list[str]]) -> None:
    """Cut into pieces by whatever has a callback of its own, the messages are all there, once."""

    async def scenario() -> None:
        async with harness(client=Batching) as h:
            end, _ = await h.joined()
            pushes = []
            for _ in range(sum(kind == "reply" for kinds in deliveries for kind in kinds)):
                await h.socket.push("t", "e", timeout=1e4)
                pushes.append(await end.next("e"))
            h.calls.clear()
            wanted: list[Any] = []
            for kinds in deliveries:
                frames: list[Message] = []
                for kind in kinds:
                    number = len(wanted)
                    match kind:
                        case "reply":
                            push = pushes.pop(0)
                            payload = {"status": "ok", "response": number}
                            frames.append(
                                Message(push.join_ref, push.ref, "t", "phx_reply", payload)
                            )
                        case "stale":  # it is dropped, and is in nobody's way
                            frames.append(Message("999", None, "t", "m", number))
                            continue
                        case _:
                            frames.append(message(number, {"plain": "m"}.get(kind, kind)))
                    wanted.append((kind, number))
                end.send(*frames)
                await settle()
            heard: list[Any] = []
            for name, *args in h.calls:
                match name:
                    case "handle_messages":
                        heard += [("plain", number) for number in args[0]]
                    case "handle_reply":
                        heard.append(("reply", args[1].response))
                    case _:
                        heard.append((name, args[0]))
            assert heard == wanted

    virtual(scenario)


def test_what_is_stale_by_now_is_left_out_and_counted() -> None:
    async def leave_later(client: Any, _messages: Any, socket: Any) -> None:
        client.scripts.clear()
        await trio.sleep(1.0)
        socket.leave("u")

    async def scenario() -> None:
        async with harness({"handle_messages": leave_later}, client=Batching) as h:
            end, _ = await h.joined()
            await h.joined("u", end)
            end.send(message(1))
            await settle()
            end.send(message(2), message(3, topic="u"), message(4))
            await trio.sleep(2.0)
            assert h.of("handle_messages") == [([1],), ([2, 4],)]
            assert h.ref.health().counters["stale"] == 1

    virtual(scenario)


def test_awaiting_in_a_batch_finds_only_later_messages() -> None:
    async def awaiting(client: Any, _messages: Any, socket: Any) -> None:
        client.scripts.clear()
        client.calls.append(("awaited", (await socket.await_message("t")).payload))

    async def scenario() -> None:
        async with harness({"handle_messages": awaiting}, client=Batching) as h:
            end, _ = await h.joined()
            end.send(message(1), message(2))
            await settle()
            end.send(message(3), message(4))
            await settle()
            assert h.calls[-3:] == [
                ("handle_messages", [1, 2]),
                ("awaited", 3),
                ("handle_messages", [4]),
            ]

    virtual(scenario)


def test_a_batch_may_stop_the_client() -> None:
    async def stopping(*_: Any) -> Stop:
        return Stop(NORMAL)

    async def scenario() -> None:
        async with harness(
            {"handle_messages": stopping}, client=Batching, restart="temporary"
        ) as h:
            end, _ = await h.joined()
            end.send(message(1), message(2))
            assert (await end.peer.wait_closed()).code == 1000
            await settle()
            assert h.names()[-2:] == ["handle_messages", "terminate"]

    virtual(scenario)


class Falling(Recorder):
    async def handle_messages(self, messages: list[Message], socket: Any, /) -> Any:
        return await super().handle_messages([each for each in messages if each.payload], socket)


def test_the_default_hands_them_on_one_by_one_up_to_a_stop() -> None:
    async def stop_at_2(client: Any, topic: str, event: str, payload: Any, socket: Any) -> Any:
        return Stop(NORMAL) if payload == 2 else None

    async def scenario() -> None:
        async with harness({"handle_message": stop_at_2}, client=Falling, restart="temporary") as h:
            end, _ = await h.joined()
            end.send(message(0), message(1), message(2), message(3))
            await end.peer.wait_closed()
            assert h.of("handle_message") == [("t", "m", 1), ("t", "m", 2)]

    virtual(scenario)
