"""What may be lost and what not: the guarantees of the guide to reliability, each by a test."""

import json
from typing import Any

import pytest
import trio

from slipstream import Config, SlipstreamClient, Socket
from slipstream.reasons import ConnectionLost, TransportFailed

URI = "ws://server.test/socket/websocket"
TOPIC = "rooms:1"


class Visitor(SlipstreamClient):
    """Joins a room; handles slowly what it is told to be slow with."""

    async def handle_connect(self, socket: Socket, /) -> None:
        socket.join(TOPIC)

    async def handle_message(self, topic: str, event: str, payload: Any, socket: Socket, /) -> None:
        if event == "crash":
            raise ZeroDivisionError
        await trio.sleep(payload.get("seconds", 0.0))

    async def handle_cast(self, message: Any, socket: Socket, /) -> None:
        pass


def numbered(*payloads: dict[str, Any], event: str = "m") -> list[str]:
    return [json.dumps([None, None, TOPIC, event, payload]) for payload in payloads]


async def test_what_came_before_the_end_of_a_connection_is_handled_before_it_is_told(
    socket_test: Any,
) -> None:
    async with socket_test(Visitor, Config(URI, reconnect=[60.0])) as test:
        await test.connect_and_join(TOPIC)
        await test.send(*numbered({"seconds": 5.0}, *({"n": number} for number in range(10))))
        await test.drop()
        await test.advance(5.0)
        names = [(call.name, *call.args[2:]) for call in test.calls[-11:]]
        assert names[:-1] == [("handle_message", {"n": number}) for number in range(10)]
        assert names[-1][0] == "handle_disconnect"


async def test_a_push_is_written_once_and_never_again(socket_test: Any) -> None:
    """Whether it was answered or not: what the server did with it nobody knows."""
    async with socket_test(Visitor, Config(URI, reconnect=[1.0])) as test:
        await test.connect_and_join(TOPIC)
        ref = await test.socket.push(TOPIC, "pay", {"n": 1}, timeout=60.0)
        await test.assert_push(TOPIC, "pay")
        await test.drop()
        await test.assert_callback("handle_push_failed", ref, ConnectionLost(written=True))
        await test.connect_and_join(TOPIC)
        await test.refute_push(within=3600.0)


@pytest.mark.parametrize("how", ["disconnect", "stop"])
async def test_what_was_queued_before_an_end_in_order_is_written_before_it(
    socket_test: Any, how: str
) -> None:
    """Within ``close_timeout``, if the network takes it."""
    async with socket_test(Visitor, restart="temporary") as test, trio.open_nursery() as nursery:
        await test.connect_and_join(TOPIC)
        await test.stall(buffers_full=True)
        for number in range(100):
            await test.socket.push(TOPIC, "m", {"n": number})
        if how == "stop":
            nursery.start_soon(test.ref.stop)
        else:
            test.socket.disconnect()
        await test.advance(1.0)
        await test.resume()
        await test.assert_disconnect(1000)
        sent = [
            line.what for line in test.timeline.entries if line.what.startswith(f"→ {TOPIC} m ")
        ]
        assert len(sent) == 100


async def test_a_crash_loses_what_that_life_had_not_handled(socket_test: Any) -> None:
    """Its messages and its casts; the next life begins with an empty mailbox, and is told of no push."""
    async with socket_test(Visitor) as test:
        await test.connect_and_join(TOPIC)
        await test.socket.push(TOPIC, "ask", timeout=60.0)
        test.ref.cast("behind")
        await test.send(*numbered({}, event="crash"), *numbered({"n": 1}))
        await test.expect_crash(ZeroDivisionError)
        await test.assert_restarted()
        await test.connect_and_join(TOPIC)
        await test.refute_callback("handle_message", TOPIC, "m")
        await test.refute_callback("handle_push_failed", within=120.0)


@pytest.mark.parametrize("drain", [False, True])
async def test_a_stop_leaves_the_mailbox_as_it_is_unless_it_is_to_be_drained(
    socket_test: Any, drain: bool
) -> None:
    """The callback that runs may finish in any case."""
    async with socket_test(Visitor, drain=drain, restart="temporary") as test:
        await test.connect_and_join(TOPIC)
        await test.send(*numbered({"seconds": 1.0}, {"n": 1}, {"n": 2}))
        for number in range(3):
            test.ref.cast(number)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(test.ref.stop)
            await test.assert_stopped()
        slow = next(call for call in test.calls if call.name == "handle_message")
        assert slow.error is None
        handled = [call.name for call in test.calls]
        assert handled.count("handle_message") == (3 if drain else 1)
        assert handled.count("handle_cast") == (3 if drain else 0)


async def test_messages_that_are_dropped_are_counted_and_so_are_those_of_an_earlier_join(
    socket_test: Any,
) -> None:
    config = Config(URI, inbound_limit=10, on_overflow="drop_oldest")
    async with socket_test(Visitor, config) as test:
        await test.connect_and_join(TOPIC)
        await test.send(*numbered({"seconds": 5.0}))
        await test.send(*numbered(*({"n": number} for number in range(100))))
        await test.advance(5.0)
        handled = [
            call.args[2]["n"] for call in test.calls if call.args[2:] and "n" in call.args[2]
        ]
        counters = test.ref.health().counters
        assert counters["dropped"] + len(handled) == 100
        assert handled == list(range(100))[-len(handled) :]

        await test.send(*numbered({"seconds": 5.0}, {"n": 100}))
        test.socket.rejoin(TOPIC, {"again": True})
        await test.advance(5.0)
        await test.accept_join(TOPIC)
        await test.refute_callback("handle_message", TOPIC, "m", {"n": 100})
        assert test.ref.health().counters["stale"] == 1


async def test_an_outage_inside_a_callback_ends_the_callback_and_keeps_the_client(
    socket_test: Any,
) -> None:
    class Asking(Visitor):
        async def handle_join(self, topic: str, response: Any, socket: Socket, /) -> None:
            self.asked = True
            await socket.request(topic, "ask")

    async with socket_test(Asking) as test:
        await test.connect_and_join(TOPIC)
        client = test.client
        await test.drop()
        call = await test.assert_callback("handle_join")
        assert call.error.reason == (await test.assert_callback("handle_disconnect")).args[0]
        assert isinstance(call.error.reason, TransportFailed)
        assert test.client is client
