"""Plays the steps of an example to a client, and writes them down as a test."""

import json
from collections.abc import Sequence
from typing import Any, Final

import trio

from slipstream.protocol.messages import PHX_JOIN
from slipstream.testing._serving import ClientMessage
from slipstream.testing._socket_test import SocketTest
from slipstream.testing._steps import (
    AnswerAgain,
    CloseChannel,
    CloseConnection,
    CrashChannel,
    DropConnection,
    SendBroadcast,
    SendPush,
    Wait,
)
from slipstream.testing._time import settle, wait_until

from ._steps import (
    Answer,
    Ask,
    Cast,
    ContractStep,
    FallSilent,
    Flood,
    GoDown,
    HoldJoin,
    Kill,
    RefuseJoins,
    Restart,
    SendStale,
    Tell,
)
from ._watch import Watch

__all__ = ["Play"]

_AT_ONCE: Final = 25
"""So many things that a client wants in one moment are too many."""


class Play:
    """A server that lets its client in at once, but for what the steps say.

    A step that does not apply does nothing, and stands in no test.

    Attributes:
        lines: what was done, as the lines of a test.
    """

    def __init__(self, test: SocketTest, watch: Watch, welcome: dict[str, Any]) -> None:
        self.lines: list[str] = []
        self._test = test
        self._watch = watch
        self._welcome = welcome
        self._refusals: list[Any] = []
        self._held = 0
        self._is_down = False
        self._answered: tuple[ClientMessage, str, Any] | None = None
        self._stale: dict[str, str | None] = {}
        self._since = trio.current_time()
        self._calls: list[Any] = []

    async def play(self, steps: Sequence[ContractStep]) -> None:
        """Do all *steps*.

        Raises:
            ContractBrokenError: as soon as the client has made a mistake.
        """
        begun = False
        for step in steps:
            # What is said of joins before anything else is of the first ones.
            if not begun and not isinstance(step, RefuseJoins | HoldJoin):
                begun = True
                await self._serve()
            if self._test.has_stopped():
                break
            await self.do(step)
            if begun:
                await self._serve()
        await self._serve()
        self._note_time()
        self._watch.check()

    async def do(self, step: ContractStep) -> None:
        """Do one step."""
        match step:
            case Wait(seconds):
                await self._wait(seconds)
            case GoDown(seconds):
                await self._go_down(seconds)
            case FallSilent(seconds):
                await self._fall_silent(seconds)
            case RefuseJoins(times, response):
                self._refusals += [response] * times
            case HoldJoin():
                self._held += 1
            case Answer(status, responses, skip):
                await self._answer(status, responses, skip)
            case Kill() | Restart() | Ask() | Cast() | Tell():
                await self._of_the_program(step)
            case _:
                await self._say(step)

    async def _of_the_program(self, step: Kill | Restart | Ask | Cast | Tell) -> None:
        test = self._test
        if not test.ref.alive:
            return
        match step:
            case Kill():
                await self._do("await test.kill()", test.kill())
            case Restart():
                await self._do("await test.restart()", test.restart())
            case Ask(request):
                self._calls.append(test.ref.send_request(request))
                self._note(f"calls.append(test.ref.send_request({request!r}))")
            case Cast(message):
                test.ref.cast(message)
                self._note(f"test.ref.cast({message!r})")
            case Tell(message):
                test.ref.send(message)
                self._note(f"test.ref.send({message!r})")

    async def _say(self, step: ContractStep) -> None:
        """Do a step that needs a connection."""
        test = self._test
        joined = test.joined
        if joined is None:
            return
        match step:
            case CloseConnection(code, _):
                await self._do(f"await test.close({code})", test.close(code))
            case DropConnection():
                await self._do("await test.drop()", test.drop())
            case SendPush(topic, event, payload) if topic in joined:
                line = f"await test.push({topic!r}, {event!r}, {payload!r})"
                await self._do(line, test.push(topic, event, payload))
            case SendBroadcast(topic, event, payload) if topic in joined:
                line = f"await test.broadcast({topic!r}, {event!r}, {payload!r})"
                await self._do(line, test.broadcast(topic, event, payload))
            case Flood(topic, event, payload, times) if topic in joined:
                line = f"await test.push({topic!r}, {event!r}, {payload!r}, times={times})"
                await self._do(line, test.push(topic, event, payload, times=times))
            case CrashChannel(topic) if topic in joined:
                self._stale[topic] = joined[topic]
                await self._do(f"await test.crash_topic({topic!r})", test.crash_topic(topic))
            case CloseChannel(topic) if topic in joined:
                self._stale[topic] = joined[topic]
                await self._do(f"await test.close_topic({topic!r})", test.close_topic(topic))
            case SendStale(topic, event, payload) if topic in self._stale:
                if not isinstance(payload, bytes):
                    data = json.dumps([self._stale[topic], None, topic, event, payload])
                    await self._do(f"await test.send({data!r})", test.send(data))
            case AnswerAgain() if self._answered is not None:
                await self._reply(joined, *self._answered)
            case _:
                pass

    async def _answer(self, status: str, responses: Any, skip: int) -> None:
        test = self._test
        joined = test.joined
        if joined is None:
            return
        joins = list(dict.fromkeys(test.joining))
        pushes = list(
            dict.fromkeys(
                (push.topic, push.event)
                for push in test.pushes
                if push.heard.wire.open and push.join_ref == joined.get(push.topic, "")
            )
        )
        waiting: list[Any] = [*pushes, *joins]
        if not waiting:
            return
        chosen = waiting[skip % len(waiting)]
        if isinstance(chosen, str):
            accepts = status == "ok"
            response = responses.get(PHX_JOIN, {}) if accepts else {"reason": "refused"}
            await self._answer_join(chosen, response, accepts=accepts)
            return
        topic, event = chosen
        while True:
            push = await test.assert_push(topic, event)
            self._note(f"push = await test.assert_push({topic!r}, {event!r})")
            if joined.get(topic, "") == push.join_ref and push.heard.wire.open:
                break
        response = responses.get(event, {}) if status == "ok" else {"reason": "refused"}
        await self._reply(joined, push, status, response)

    async def _reply(self, joined: Any, push: ClientMessage, status: str, response: Any) -> None:
        if not push.heard.wire.open or joined.get(push.topic, "") != push.join_ref:
            return
        self._answered = push, status, response
        suffix = "" if status == "ok" else f", status={status!r}"
        line = f"await test.reply(push, {response!r}{suffix})"
        await self._do(line, self._test.reply(push, response, status=status))

    async def _answer_join(self, topic: str, response: Any, *, accepts: bool) -> None:
        test = self._test
        replaced = (test.joined or {}).get(topic)
        if replaced is not None:
            self._stale[topic] = replaced
        if accepts:
            line = f"await test.accept_join({topic!r}, {response!r})"
            await self._do(line, test.accept_join(topic, response))
        else:
            line = f"await test.refuse_join({topic!r}, {response!r})"
            await self._do(line, test.refuse_join(topic, response))

    # -- time

    async def _wait(self, seconds: float) -> None:
        deadline = trio.current_time() + seconds
        while not self._watch.broken:
            await self._serve()
            if trio.current_time() >= deadline or self._test.has_stopped():
                break
            changed = self._test.timeline.changed
            await settle()
            if not changed.is_set():
                await wait_until(changed, deadline)

    async def _go_down(self, seconds: float) -> None:
        if self._test.joined is not None:
            await self._do("await test.close(1012)", self._test.close(1012))
        self._is_down = True
        await self._wait(seconds)
        self._is_down = False

    async def _fall_silent(self, seconds: float) -> None:
        test = self._test
        await self._do("await test.stall()", test.stall())
        await test.advance(seconds)
        await self._do("await test.resume()", test.resume())

    # -- what needs no step

    async def _serve(self) -> None:
        """Let the client in, wherever it wants to."""
        await settle()
        for _ in range(_AT_ONCE):
            self._watch.look()
            self._watch.check()
            if not await self._serve_one():
                return

    async def _serve_one(self) -> bool:
        test = self._test
        if test.connecting:
            if self._is_down:
                await self._do("await test.refuse_connect(503)", test.refuse_connect(503))
            else:
                await self._do("await test.accept_connect()", test.accept_connect())
            return True
        joins = test.joining
        if len(joins) <= self._held:
            self._held = min(self._held, len(joins)) if joins else self._held
            return False
        topic = joins[self._held]
        if topic in joins[: self._held]:
            return False  # an answer goes to the oldest
        if self._refusals:
            await self._answer_join(topic, self._refusals.pop(0), accepts=False)
        else:
            await self._answer_join(topic, self._welcome.get(PHX_JOIN, {}), accepts=True)
        return True

    # -- writing down

    async def _do(self, line: str, doing: Any) -> None:
        self._note(line)
        await doing
        self._since = trio.current_time()

    def _note(self, line: str) -> None:
        self._note_time()
        self.lines.append(line)

    def _note_time(self) -> None:
        passed = trio.current_time() - self._since
        # Of what the client does by itself, the test need not know the time to the nanosecond.
        if passed >= 0.001:
            self.lines.append(f"await test.advance({int(passed * 1000) / 1000:g})")
        self._since = trio.current_time()
