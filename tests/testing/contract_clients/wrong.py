"""Clients with one mistake each, such as beginners make, or tired experts."""

import time
from collections import defaultdict
from typing import Any, ClassVar

import trio

from slipstream import (
    JoinRefused,
    NoReply,
    Reply,
    SlipstreamClient,
    Stop,
    on_message,
)
from slipstream.testing.contracts import (
    answered,
    bounded,
    never_before,
    only_while_joined,
    recovers,
)

TOPIC = "rooms:lobby"


class Base(SlipstreamClient):
    """Joins one room; no mistake in it."""

    async def init(self, argument: Any, socket: Any, /) -> Any:
        self.seen = 0
        self.prepare()
        socket.connect(argument)

    def prepare(self) -> None:
        """Set up what a client needs."""

    async def handle_connect(self, socket: Any, /) -> Any:
        socket.join(TOPIC)


# -- what the server says


class TakesEachFieldForGranted(Base):
    async def handle_message(self, topic: str, event: str, payload: Any, socket: Any, /) -> Any:
        self.seen = payload["n"]


class TakesEachReplyForOk(Base):
    async def handle_join(self, topic: str, response: Any, socket: Any, /) -> Any:
        await socket.push(topic, "hello", {})

    async def handle_reply(self, ref: str, reply: Any, socket: Any, /) -> Any:
        self.seen = reply.response["count"]


class KnowsAllEvents(Base):
    async def handle_message(self, topic: str, event: str, payload: Any, socket: Any, /) -> Any:
        {"msg": int, "ping": int}[event]()


class LeavesUponWhatItDoesNotKnow(Base):
    async def handle_message(self, topic: str, event: str, payload: Any, socket: Any, /) -> Any:
        if event not in {"msg", "ping"}:
            socket.disconnect()


class StopsUponWhatItDoesNotKnow(Base):
    async def handle_message(self, topic: str, event: str, payload: Any, socket: Any, /) -> Any:
        return None if event in {"msg", "ping"} else Stop()


class TrustsTheOrder(Base):
    async def handle_message(self, topic: str, event: str, payload: Any, socket: Any, /) -> Any:
        if event == "msg":
            assert payload["n"] > self.seen
            self.seen = payload["n"]


class TrustsThatNothingComesTwice(Base):
    def prepare(self) -> None:
        self.ids: set[int] = set()

    async def handle_message(self, topic: str, event: str, payload: Any, socket: Any, /) -> Any:
        if event == "msg":
            if payload["n"] in self.ids:
                raise RuntimeError("the same message again")
            self.ids.add(payload["n"])


class ChangesWhatItIsGiven(Base):
    async def handle_message(self, topic: str, event: str, payload: Any, socket: Any, /) -> Any:
        self.seen += payload.pop("n", 0)


class TakesThePlaceOfAnotherForItsOwn(Base):
    """A room for each message, and one message that names none."""

    def prepare(self) -> None:
        self.rooms = {TOPIC: 0}

    @on_message(TOPIC, "ping")
    async def ping(self, topic: str, payload: Any, socket: Any) -> Any:
        self.rooms[payload["room"]] += 1


# -- joining and leaving


class JoinsOnceOnly(Base):
    def prepare(self) -> None:
        self.rooms: list[str] = []

    async def handle_join(self, topic: str, response: Any, socket: Any, /) -> Any:
        assert topic not in self.rooms
        self.rooms.append(topic)


class ForgetsWhoLeft(Base):
    def prepare(self) -> None:
        self.rooms: list[str] = []

    async def handle_join(self, topic: str, response: Any, socket: Any, /) -> Any:
        self.rooms.append(topic)


class PushesBeforeItHasJoined(Base):
    async def handle_connect(self, socket: Any, /) -> Any:
        socket.join(TOPIC)
        await socket.push(TOPIC, "hello", {})


class PushesWithoutJoining(Base):
    async def handle_connect(self, socket: Any, /) -> Any:
        await socket.push("rooms:other", "hello", {})


class PushesByTheClock(Base):
    def prepare(self) -> None:
        self.send_every(5.0, "report")

    async def handle_info(self, message: Any, socket: Any, /) -> Any:
        await socket.push(TOPIC, "report", {})


class SaysHelloTooEarly(Base):
    """Answers before it has been welcomed."""

    async def handle_message(self, topic: str, event: str, payload: Any, socket: Any, /) -> Any:
        await socket.push(topic, "hello", {})


class InsistsOnARoom(Base):
    async def handle_topic_close(self, topic: str, reason: Any, socket: Any, /) -> Any:
        if isinstance(reason, JoinRefused):
            socket.rejoin(topic)


class GivesUpARoom(Base):
    async def handle_topic_close(self, topic: str, reason: Any, socket: Any, /) -> Any:
        socket.leave(topic)


class JoinsForOneConnection(Base):
    async def init(self, argument: Any, socket: Any, /) -> Any:
        socket.join(TOPIC, rejoin=False)
        socket.connect(argument)

    async def handle_connect(self, socket: Any, /) -> Any:
        self.connected = True


class AsksWithWhatItKnewAtFirst(Base):
    async def init(self, argument: Any, socket: Any, /) -> Any:
        self.seen = 0
        socket.join(TOPIC, {"since": self.seen})
        socket.connect(argument)

    async def handle_connect(self, socket: Any, /) -> Any:
        pass

    async def handle_message(self, topic: str, event: str, payload: Any, socket: Any, /) -> Any:
        if event == "msg":
            self.seen = max(self.seen, payload["n"])


# -- outages


class ConnectsAgainAtOnce(Base):
    async def handle_disconnect(self, reason: Any, socket: Any, /) -> Any:
        socket.reconnect()


class GivesUpTheConnection(Base):
    async def handle_disconnect(self, reason: Any, socket: Any, /) -> Any:
        socket.disconnect()


class StartsATimerOnEachConnect(Base):
    async def handle_connect(self, socket: Any, /) -> Any:
        self.send_every(30.0, "report")
        socket.join(TOPIC)

    async def handle_info(self, message: Any, socket: Any, /) -> Any:
        self.seen += 1


class StartsATaskOnEachJoin(Base):
    async def handle_join(self, topic: str, response: Any, socket: Any, /) -> Any:
        self.start_soon(self.poll)

    async def poll(self) -> None:
        while True:
            await trio.sleep(7.0)
            self.seen += 1


class KeepsEachOutage(Base):
    def prepare(self) -> None:
        self.outages: list[Any] = []

    async def handle_disconnect(self, reason: Any, socket: Any, /) -> Any:
        self.outages.append(reason)


class KeepsEachMessage(Base):
    async def handle_message(self, topic: str, event: str, payload: Any, socket: Any, /) -> Any:
        socket.assigns.setdefault("heard", []).append(payload)


class KeepsARefOfEachPush(Base):
    def prepare(self) -> None:
        self.waiting: dict[str, str] = {}

    async def handle_join(self, topic: str, response: Any, socket: Any, /) -> Any:
        self.waiting[await socket.push(topic, "hello", {})] = topic

    async def handle_reply(self, ref: str, reply: Any, socket: Any, /) -> Any:
        self.waiting.pop(ref, None)


# -- waiting


class Sleeps(Base):
    async def handle_message(self, topic: str, event: str, payload: Any, socket: Any, /) -> Any:
        time.sleep(0.02)  # noqa: ASYNC251 - this is what is wrong with it


class SleepsInATask(Base):
    async def handle_join(self, topic: str, response: Any, socket: Any, /) -> Any:
        self.start_soon(self.work)

    async def work(self) -> None:
        await trio.sleep(1.0)
        time.sleep(0.02)  # noqa: ASYNC251 - this is what is wrong with it


class WaitsForEver(Base):
    async def handle_join(self, topic: str, response: Any, socket: Any, /) -> Any:
        self.ready = trio.Event()
        await self.ready.wait()

    async def handle_message(self, topic: str, event: str, payload: Any, socket: Any, /) -> Any:
        self.ready.set()


class WaitsForAMessageWithoutALimit(Base):
    async def handle_join(self, topic: str, response: Any, socket: Any, /) -> Any:
        await socket.await_message(topic, "welcome", timeout=float("inf"))


class WaitsInATaskOfItsOwn(Base):
    async def handle_join(self, topic: str, response: Any, socket: Any, /) -> Any:
        self.start_soon(self.greet, socket)

    async def greet(self, socket: Any) -> None:
        await socket.await_message(TOPIC, "msg")


class NeverReplies(Base):
    async def handle_call(self, request: Any, caller: Any, socket: Any, /) -> Any:
        self.caller = caller
        return NoReply()


class WaitsInACall(Base):
    async def handle_call(self, request: Any, caller: Any, socket: Any, /) -> Any:
        await trio.sleep_forever()


class CallsItself(Base):
    async def handle_call(self, request: Any, caller: Any, socket: Any, /) -> Any:
        return Reply(self.seen)

    async def handle_message(self, topic: str, event: str, payload: Any, socket: Any, /) -> Any:
        self.seen = await self.call(self.ref, "seen")


# -- what a callback gives back


class ReturnsAValue(Base):
    async def handle_message(self, topic: str, event: str, payload: Any, socket: Any, /) -> Any:
        return {"heard": event}


class ReturnsNothingFromACall(Base):
    async def handle_call(self, request: Any, caller: Any, socket: Any, /) -> Any:
        caller.reply(self.seen)


class RepliesToACast(Base):
    async def handle_cast(self, message: Any, socket: Any, /) -> Any:
        return Reply(message)


class HasNoHandleCast(Base):
    pass


class ForgetsToAwait(Base):
    async def handle_join(self, topic: str, response: Any, socket: Any, /) -> Any:
        socket.push(topic, "hello", {})


class ReturnsWhatItShouldAwait(Base):
    async def handle_join(self, topic: str, response: Any, socket: Any, /) -> Any:
        return socket.push(topic, "hello", {})


class FailsToStart(Base):
    def prepare(self) -> None:
        raise RuntimeError("no configuration")


# -- ending


class CatchesEverything(Base):
    async def handle_join(self, topic: str, response: Any, socket: Any, /) -> Any:
        try:
            await socket.request(topic, "hello", {})
        except BaseException:  # noqa: BLE001 - this is what is wrong with it
            self.seen = -1


class IgnoresThatItIsCancelled(Base):
    async def handle_message(self, topic: str, event: str, payload: Any, socket: Any, /) -> Any:
        try:
            await trio.sleep(30.0)
        except trio.Cancelled:
            self.seen = -1


class RetriesWhateverHappens(Base):
    async def handle_join(self, topic: str, response: Any, socket: Any, /) -> Any:
        while True:
            try:
                await trio.sleep(20.0)
                return  # noqa: TRY300 - or it would say less
            except BaseException:  # noqa: BLE001 - this is what is wrong with it
                self.seen += 1


class FailsToSayGoodbye(Base):
    async def terminate(self, reason: Any, socket: Any, /) -> Any:
        await socket.push("rooms:bye", "bye", {})


class TakesTooLongToSayGoodbye(Base):
    async def terminate(self, reason: Any, socket: Any, /) -> Any:
        await trio.sleep(600.0)


class LeavesATaskBehind(Base):
    async def handle_connect(self, socket: Any, /) -> Any:
        trio.lowlevel.spawn_system_task(trio.sleep_forever)
        socket.join(TOPIC)


# -- what is whose


class SharesAList(Base):
    heard: ClassVar[list[int]] = []

    async def handle_message(self, topic: str, event: str, payload: Any, socket: Any, /) -> Any:
        self.heard.append(1)


class SharesACounter(Base):
    connects = 0

    async def handle_connect(self, socket: Any, /) -> Any:
        type(self).connects += 1
        socket.join(TOPIC)


class SharesADefaultDict(Base):
    counts: ClassVar[dict[str, int]] = defaultdict(int)

    async def handle_message(self, topic: str, event: str, payload: Any, socket: Any, /) -> Any:
        self.counts[event] += 1


# -- rules of one's own


class ForgetsToAnswer(Base):
    async def handle_message(self, topic: str, event: str, payload: Any, socket: Any, /) -> Any:
        if event == "ping":
            await trio.sleep(payload.get("n", 9) / 4)
            await socket.push(topic, "pong", {})


ANSWERS = [answered("ping", by="pong", within=1.0)]
JOINED = [only_while_joined("report")]
WELCOMED = [never_before("hello", "handle_presence")]
BOUNDED = [bounded(30)]
RECOVERS = [recovers(TOPIC)]
