"""Clients without a mistake, each in a style of its own."""

from collections import deque
from typing import Any

import attrs
import trio

from slipstream import (
    ChannelCrashed,
    LinkError,
    NoReply,
    Reply,
    SlipstreamClient,
    Stop,
    on_message,
)

TOPIC = "rooms:lobby"


class Silent(SlipstreamClient):
    """Does nothing but connect."""


class Greeter(SlipstreamClient):
    """Joins, greets, and remembers the ref of its greeting."""

    greeting: str | None = None

    async def handle_connect(self, socket: Any, /) -> Any:
        socket.join(TOPIC, {"user": 1})

    async def handle_join(self, topic: str, response: Any, socket: Any, /) -> Any:
        self.greeting = await socket.push(topic, "hello", {"body": "hello"}, timeout=5.0)

    async def handle_reply(self, ref: str, reply: Any, socket: Any, /) -> Any:
        if ref == self.greeting:
            self.greeting = None

    async def handle_push_failed(self, ref: str, reason: Any, socket: Any, /) -> Any:
        if ref == self.greeting:
            self.greeting = None


class Ticker(SlipstreamClient):
    """Follows prices, reports by the clock, asks for what it has missed, answers calls."""

    async def init(self, argument: Any, socket: Any, /) -> Any:
        self.seen = 0
        self.send_every(60.0, "report")
        socket.join(TOPIC, self.params)
        socket.connect(argument)

    def params(self) -> dict[str, int]:
        return {"since": self.seen}

    @on_message(TOPIC, "msg")
    async def price(self, topic: str, payload: Any, socket: Any) -> Any:
        self.seen = max(self.seen, payload["n"])

    async def handle_info(self, message: Any, socket: Any, /) -> Any:
        if socket.joined(TOPIC):
            await socket.push(TOPIC, "report", {"seen": self.seen})

    async def handle_call(self, request: Any, caller: Any, socket: Any, /) -> Any:
        return Reply(self.seen)

    async def handle_cast(self, message: Any, socket: Any, /) -> Any:
        self.seen = 0


class Linear(SlipstreamClient):
    """Awaits one thing after the other in a callback; an outage ends the callback, and no more."""

    async def init(self, argument: Any, socket: Any, /) -> Any:
        self.stage = "new"
        socket.connect(argument)

    async def handle_connect(self, socket: Any, /) -> Any:
        self.stage = "connected"
        socket.join(TOPIC)
        await socket.await_join(TOPIC)
        self.stage = "joined"
        reply = await socket.request(TOPIC, "hello", {}, timeout=5.0)
        self.stage = "greeted" if reply.ok else "refused"
        message = await socket.await_message(TOPIC, "msg", timeout=10.0)
        self.stage = f"heard {message.payload['n']}"


class Worker(SlipstreamClient):
    """One task for all its life, which asks whenever it can."""

    async def init(self, argument: Any, socket: Any, /) -> Any:
        self.answers: deque[Any] = deque(maxlen=20)
        socket.connect(argument)
        self.start_soon(self.work, socket)

    async def work(self, socket: Any) -> None:
        while True:
            await trio.sleep(3.0)
            if not socket.joined(TOPIC):
                continue
            try:
                self.answers.append(await socket.request(TOPIC, "hello", {}, timeout=2.0))
            except LinkError:
                self.answers.append(None)

    async def handle_connect(self, socket: Any, /) -> Any:
        socket.join(TOPIC)


class Later(SlipstreamClient):
    """Answers calls later, from a task, and in any case."""

    async def handle_connect(self, socket: Any, /) -> Any:
        socket.join(TOPIC)

    async def handle_call(self, request: Any, caller: Any, socket: Any, /) -> Any:
        self.start_soon(self.answer, caller, socket)
        return NoReply()

    async def answer(self, caller: Any, socket: Any) -> None:
        try:
            with trio.move_on_after(4.0):
                reply = await socket.request(TOPIC, "hello", {}, timeout=3.0)
                caller.reply(reply.status)
        except (LinkError, ValueError):
            caller.reply("nobody there")
        finally:
            caller.reply("no time")


@attrs.frozen
class Price:
    n: int


class Typed(SlipstreamClient):
    """Takes typed payloads, all at once where there are many, and keeps the newest hundred."""

    async def init(self, argument: Any, socket: Any, /) -> Any:
        self.newest: list[int] = []
        self.others = 0
        self.misfits = 0
        socket.connect(argument)

    async def handle_connect(self, socket: Any, /) -> Any:
        socket.join(TOPIC)
        socket.join("rooms:other")

    @on_message("rooms:*", "msg", payload=Price)
    async def price(self, topic: str, price: Price, socket: Any) -> Any:
        self.newest = [*self.newest, price.n][-100:]

    async def handle_messages(self, messages: Any, socket: Any, /) -> Any:
        self.others += len(messages)

    async def handle_bad_payload(
        self, topic: str, event: str, payload: Any, error: Any, socket: Any, /
    ) -> Any:
        self.misfits += 1


class Careful(SlipstreamClient):
    """Decides for itself when to come back, and cleans up what a connection has begun."""

    async def init(self, argument: Any, socket: Any, /) -> Any:
        self.timer: Any = None
        self.failures = 0
        socket.connect(argument)

    async def handle_connect(self, socket: Any, /) -> Any:
        self.failures = 0
        self.timer = self.send_every(20.0, "still there")
        socket.join(TOPIC)

    async def handle_disconnect(self, reason: Any, socket: Any, /) -> Any:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        self.failures += 1
        socket.reconnect(after=min(2.0**self.failures, 20.0))

    async def handle_topic_close(self, topic: str, reason: Any, socket: Any, /) -> Any:
        if not isinstance(reason, ChannelCrashed):
            return
        await trio.sleep(1.0)
        if socket.join_status(topic) in {"waiting", "closed"}:
            socket.rejoin(topic)

    async def handle_info(self, message: Any, socket: Any, /) -> Any:
        self.failures = 0

    async def terminate(self, reason: Any, socket: Any, /) -> Any:
        if socket.joined(TOPIC):
            await socket.push(TOPIC, "bye", {})


class OneShot(SlipstreamClient, restart="temporary"):
    """Does its errand, leaves, and ends; whatever goes wrong, it ends."""

    async def handle_connect(self, socket: Any, /) -> Any:
        socket.join(TOPIC)

    async def handle_join(self, topic: str, response: Any, socket: Any, /) -> Any:
        await socket.push(topic, "hello", {})
        socket.leave(topic)

    async def handle_leave(self, topic: str, socket: Any, /) -> Any:
        return Stop()

    async def handle_topic_close(self, topic: str, reason: Any, socket: Any, /) -> Any:
        return Stop()

    async def handle_disconnect(self, reason: Any, socket: Any, /) -> Any:
        return Stop()


class Hopper(SlipstreamClient):
    """Goes from room to room, and idles in between."""

    async def init(self, argument: Any, socket: Any, /) -> Any:
        self.place = 0
        socket.connect(argument)

    @property
    def room(self) -> str:
        return [TOPIC, "rooms:other"][self.place % 2]

    async def handle_connect(self, socket: Any, /) -> Any:
        socket.join(self.room)

    async def handle_join(self, topic: str, response: Any, socket: Any, /) -> Any:
        return NoReply(timeout=15.0)

    async def handle_info(self, message: Any, socket: Any, /) -> Any:
        if socket.joined(self.room):
            socket.leave(self.room)

    async def handle_leave(self, topic: str, socket: Any, /) -> Any:
        self.place += 1
        return NoReply(continue_with="join")

    async def handle_continue(self, argument: Any, socket: Any, /) -> Any:
        socket.join(self.room)


RIGHT = [Silent, Greeter, Ticker, Linear, Worker, Later, Typed, Careful, OneShot, Hopper]
