"""The server that a test is, and the embedded one over TCP: the client is called with the same."""

from collections.abc import Callable
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings, strategies as st
from trio.testing import MockClock

from slipstream import Config, SlipstreamClient, Socket, TransportFailed, open_supervisor
from slipstream.testing import (
    Channel,
    Ok,
    PhoenixServer,
    Refuse,
    ServerSocket,
    SocketTest,
    open_socket_test,
)

WITHIN = 20.0
"""Real seconds after which what did not happen does not happen."""
OPTIONS: dict[str, Any] = {
    "heartbeat_interval": None,
    "reconnect": [0.01],
    "rejoin": [0.01],
    "join_timeout": 60.0,
    "leave_timeout": 60.0,
}
TOPIC = "t"

Trace = list[tuple[Any, ...]]
Step = tuple[str, Any]


class Diarist(SlipstreamClient):
    """Writes down what it is called with, and does what it is cast."""

    trace: Trace

    async def init(self, argument: Any, socket: Socket, /) -> None:
        uri, self.trace = argument
        socket.connect(Config(uri, **OPTIONS))

    async def handle_connect(self, socket: Socket, /) -> None:
        self.trace.append(("connect",))

    async def handle_disconnect(self, reason: Any, socket: Socket, /) -> None:
        # What a network says of itself differs.
        told = TransportFailed if isinstance(reason, TransportFailed) else reason
        self.trace.append(("disconnect", told))

    async def handle_join(self, topic: str, response: Any, socket: Socket, /) -> None:
        self.trace.append(("join", topic, response))

    async def handle_topic_close(self, topic: str, reason: Any, socket: Socket, /) -> None:
        self.trace.append(("close", topic, reason))

    async def handle_leave(self, topic: str, socket: Socket, /) -> None:
        self.trace.append(("leave", topic))

    async def handle_message(self, topic: str, event: str, payload: Any, socket: Socket, /) -> None:
        self.trace.append(("message", topic, event, payload))

    async def handle_reply(self, ref: str, reply: Any, socket: Socket, /) -> None:
        self.trace.append(("reply", reply))

    async def handle_push_failed(self, ref: str, reason: Any, socket: Socket, /) -> None:
        self.trace.append(("failed", reason))

    async def handle_cast(self, step: Step, socket: Socket, /) -> None:
        match step:
            case ("join", params):
                socket.join(TOPIC, params, rejoin=False)
            case ("rejoin", params) if socket.join_status(TOPIC):
                socket.rejoin(TOPIC, params)
            case ("leave", _):
                socket.leave(TOPIC)
            case ("ask", payload) if socket.join_status(TOPIC):
                await socket.push(TOPIC, "ask", payload)
            case _:
                pass


class Room(Channel):
    async def join(self, topic: str, payload: Any, socket: ServerSocket, /) -> Ok | Refuse:
        return Refuse({"reason": "no"}) if payload.get("refuse") else Ok({"seats": 1})

    async def handle_in(self, event: str, payload: Any, socket: ServerSocket, /) -> Ok:
        return Ok({"answer": payload})


OURS = {"join", "rejoin", "leave", "ask"}


async def _in_the_kit(test: SocketTest, step: Step) -> None:
    what, value = step
    joined = test.socket.joined(TOPIC)
    if what in OURS:
        test.ref.cast(step)
    elif what == "crash" and joined:
        await test.crash_topic(TOPIC)
    elif what == "stop" and joined:
        await test.close_topic(TOPIC)
    elif what == "say" and joined:
        await test.broadcast(TOPIC, "say", value)
    elif what == "close":
        await test.close(value)
    elif what == "drop":
        await test.drop()
    await _serve(test)


async def _serve(test: SocketTest) -> None:
    """Answer whatever the client wants, until it wants nothing more."""
    while True:
        try:
            if not test.socket.connected:
                await test.accept_connect(within=1.0)
            push = await test.assert_push(within=0.0)
            if test.socket.joined(TOPIC):
                await test.reply(push, {"answer": push.payload})
            continue
        except AssertionError:
            pass
        try:
            join = await test.assert_join(within=0.5)
        except AssertionError:
            return
        if join.payload.get("refuse"):
            await test.refuse_join(TOPIC, {"reason": "no"})
        else:
            await test.accept_join(TOPIC, {"seats": 1})


def kit(script: list[Step]) -> list[Trace]:
    """Play *script* in the kit; give what was written down by the end of each step."""
    trace: Trace = []
    scenes: list[Trace] = []

    async def main() -> None:
        async with open_socket_test(Diarist, ("ws://a/socket/websocket", trace)) as test:
            await _serve(test)
            scenes.append(list(trace))
            for step in script:
                await _in_the_kit(test, step)
                scenes.append(list(trace))

    trio.run(main, clock=MockClock())
    return scenes


def over_tcp(script: list[Step], expected: list[Trace]) -> list[Trace]:
    """Play *script* over TCP, and wait after each step for as much as is *expected*."""
    trace: Trace = []
    scenes: list[Trace] = []

    async def wait_for(scene: Trace) -> None:
        with trio.move_on_after(WITHIN):
            while len(trace) < len(scene):  # noqa: ASYNC110 - the client knows of no event
                await trio.sleep(0.001)
        scenes.append(list(trace))

    async def main() -> None:
        async with (
            PhoenixServer({TOPIC: Room}) as server,
            open_supervisor([Diarist.child_spec((server.url, trace), id="client")]) as supervisor,
        ):
            await wait_for(expected[0])
            for step, scene in zip(script, expected[1:], strict=True):
                what, value = step
                acts: dict[str, Callable[[], Any]] = {
                    "crash": lambda: server.crash(TOPIC),
                    "say": lambda value=value: server.broadcast(TOPIC, "say", value),  # type: ignore[misc]  # bound now
                    "close": lambda value=value: server.close(value),  # type: ignore[misc]  # bound now
                    "drop": server.drop,
                }
                if what in OURS:
                    supervisor.child("client").cast(step)
                elif what == "stop":
                    await server.stop_channel(TOPIC)
                else:
                    acts[what]()
                await wait_for(scene)

    trio.run(main)
    return scenes


SCRIPTS: dict[str, list[Step]] = {
    "join and leave": [("join", {}), ("leave", None), ("leave", None), ("join", {})],
    "join again": [("join", {}), ("rejoin", {"n": 2}), ("say", {"n": 3}), ("leave", None)],
    "join again, refused": [("join", {}), ("rejoin", {"refuse": True}), ("say", {"n": 3})],
    "refused": [("join", {"refuse": True}), ("rejoin", {}), ("ask", {"n": 1})],
    "asked": [("join", {}), ("ask", {"n": 1}), ("ask", {}), ("leave", None), ("ask", {})],
    "crash": [("join", {}), ("ask", {"n": 1}), ("crash", None), ("rejoin", {}), ("say", {})],
    "stop": [("join", {}), ("stop", None), ("say", {}), ("rejoin", {}), ("ask", {"n": 2})],
    "ends": [("join", {}), ("close", 1012), ("join", {}), ("drop", None), ("close", 1001)],
}
steps = st.sampled_from(
    sorted({repr(step): step for script in SCRIPTS.values() for step in script}.items())
).map(lambda pair: pair[1])


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_each_script_is_played_alike(script: list[Step]) -> None:
    expected = kit(script)
    assert len(expected[-1]) > 2
    assert over_tcp(script, expected) == expected


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(steps, min_size=1, max_size=10).map(lambda drawn: [("join", {}), *drawn]))
def test_any_script_is_played_alike(script: list[Step]) -> None:
    expected = kit(script)
    assert over_tcp(script, expected) == expected
