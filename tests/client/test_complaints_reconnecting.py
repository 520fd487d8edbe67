"""What people complain of in clients of channels, 11 to 17: reconnecting.

Each test names its complaints. The guide to reliability says what this library does about them.
"""

import random
from collections.abc import Callable
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from slipstream import Config, Grow, ReconnectPolicy, RejoinPolicy, SlipstreamClient, Socket
from slipstream.errors import SupervisorGaveUpError
from slipstream.otp import open_supervisor
from slipstream.reasons import (
    ClosedByClient,
    ClosedByServer,
    ConnectFailed,
    Crashed,
    TransportFailed,
)
from slipstream.testing import Channel, PhoenixServer, Refuse, ServerSocket, Traffic
from slipstream.testing.faults import Fault, after, close, drop, refuse
from tests.client.kit import HOUR, TOPIC, URI, Visitor


def chance(seed: int = 7) -> random.Random:
    return random.Random(seed)  # noqa: S311 - the same every time


class Room(Channel):
    """Lets everybody in."""


class Busy(Channel):
    """Lets nobody in, for now."""

    async def join(self, topic: str, payload: Any, socket: ServerSocket, /) -> Refuse:
        return Refuse({"reason": "busy"})


@pytest.mark.parametrize(
    ("size", "down_for", "reconnect", "herd"),
    [
        (1000, 0.0, ReconnectPolicy(uniform=chance().uniform), False),
        (200, 20.0, ReconnectPolicy(uniform=chance().uniform), False),
        (200, 3.0, [1.0], True),
    ],
    ids=["1000, a short restart", "200, a long one", "200, with a literal delay for all"],
)
async def test_a_thousand_clients_come_back_from_a_restart_one_by_one(
    size: int, down_for: float, reconnect: Any, herd: bool, autojump_clock: MockClock
) -> None:
    """complaint-11: in no tenth of a second do more than a tenth of them arrive."""
    arrivals: list[int] = []

    def note(traffic: Traffic) -> None:
        if traffic.what == "connected":
            arrivals.append(int(10 * trio.current_time()))

    async with PhoenixServer({"rooms:*": Room}, memory=True) as server:
        config = Config(server.url, transport=server.open_transport, reconnect=reconnect)
        clients = [SlipstreamClient.child_spec(config, id=number) for number in range(size)]
        async with open_supervisor(clients):
            await server.wait_connections(size)
            server.on_traffic = note
            await server.restart(down_for=down_for)
            await server.wait_connections(size, within=120.0)
            assert len(arrivals) == size
            most = max(map(arrivals.count, set(arrivals)))
            assert (most > size / 10) is herd


CREDENTIAL = {"params": lambda: {"token": "no good"}}


@pytest.mark.parametrize(
    ("fault", "options", "most"),
    [
        (after(0.1, drop()), {}, 350),
        (after(0.1, close(1000)), {}, 350),
        (after(0.1, close(1013)), {}, 130),
        (refuse(500), {}, 350),
        (refuse(503), {}, 350),
        (refuse(403), CREDENTIAL, 60),
        (refuse(403), {}, 4),
        (refuse(404), {}, 4),
        (after(0.1, close(1008)), {}, 4),
    ],
    ids=str,
)
async def test_what_fails_again_and_again_is_tried_ever_more_seldom_or_not_at_all(
    fault: Fault, options: Any, most: int, autojump_clock: MockClock
) -> None:
    """complaint-12: so many connects in an hour; a constant that is refused is for the supervisor to judge."""
    async with PhoenixServer({"rooms:*": Room}, memory=True) as server:
        server.inject(fault)
        config = Config(
            server.url,
            transport=server.open_transport,
            reconnect=ReconnectPolicy(uniform=chance().uniform),
            **options,
        )
        try:
            async with open_supervisor([(Visitor, config)]):
                await trio.sleep(HOUR)
            assert most > 4
        except SupervisorGaveUpError:
            assert most == 4  # the first, and three restarts
        assert most / 4 < len(server.requests) <= most


async def test_a_refused_join_is_tried_ever_more_seldom(autojump_clock: MockClock) -> None:
    """complaint-12: each topic by itself, also over reconnects."""
    async with PhoenixServer({"rooms:*": Busy}, memory=True) as server:
        config = Config(
            server.url,
            transport=server.open_transport,
            rejoin=RejoinPolicy(uniform=chance().uniform),
        )
        async with open_supervisor([(Visitor, config)]):
            await trio.sleep(HOUR)
        joins = [frame for frame in server.frames if frame.event == "phx_join"]
        assert 100 < len(joins) < 350


@pytest.mark.parametrize("code", [1000, 1001, 1002, None, 1011, 1012, 1013, 3000, 4999])
async def test_whatever_the_server_says_to_end_it_it_is_dialled_again(
    socket_test: Any, code: int | None
) -> None:
    """complaint-13: 1000 and 1001 too; only we ourselves can end it in order."""
    async with socket_test(Visitor) as test:
        await test.connect_and_join(TOPIC)
        await (test.drop() if code is None else test.close(code))
        expected = TransportFailed if code is None else ClosedByServer(code)
        await test.assert_callback("handle_disconnect", expected)
        await test.connect_and_join(TOPIC)


@pytest.mark.parametrize("code", [1003, 1007, 1008, 1009, 1010])
async def test_codes_that_the_next_connection_would_meet_again_end_the_client(
    socket_test: Any, code: int
) -> None:
    """complaint-13: the terminal set, which ``causes`` may change."""
    async with socket_test(Visitor, restart="temporary") as test:
        await test.connect_and_join(TOPIC)
        await test.close(code, "why")
        reason = await test.assert_stopped(Crashed)
        assert reason.exception.reason == ClosedByServer(code, "why")
    config = Config(URI, reconnect=ReconnectPolicy(causes={code: Grow()}))
    async with socket_test(Visitor, config) as test:
        await test.connect_and_join(TOPIC)
        await test.close(code)
        await test.connect_and_join(TOPIC)


@pytest.mark.parametrize("phase", ["connecting", "open", "joining", "waiting"])
@pytest.mark.parametrize("how", ["disconnect", "stop"])
async def test_a_client_can_be_stopped_whatever_it_is_doing(
    socket_test: Any, phase: str, how: str
) -> None:
    """complaint-14: timers and the handshake under way are off; an hour later all is still quiet."""
    config = Config(URI, reconnect=[10.0], rejoin=[10.0], connect_timeout=30.0)
    async with socket_test(Visitor, config, restart="temporary") as test:
        if phase == "connecting":
            await test.assert_connect()
        else:
            await test.accept_connect()
        if phase == "open":
            await test.accept_join()
        if phase == "waiting":
            await test.drop()
            await test.advance(1.0)
        started = trio.current_time()
        if how == "stop":
            await test.ref.stop()
        else:
            test.socket.disconnect()
            if phase != "waiting":  # the loss that it waits after has been told
                await test.assert_callback("handle_disconnect", ClosedByClient)
            assert test.ref.health().phase == "down"
        assert trio.current_time() == started
        await test.refute_connect(within=HOUR)
        if how == "disconnect":
            test.socket.reconnect()
            await test.connect_and_join(TOPIC)


@pytest.mark.parametrize("seed", range(5))
async def test_there_is_never_more_than_one_connection_whatever_is_called(
    seed: int, autojump_clock: MockClock
) -> None:
    """complaint-15: of any number of calls, while one opens, is open, closes; and in the end one is there."""
    draw = chance(seed)
    most: list[int] = []
    async with PhoenixServer({"rooms:*": Room}, memory=True) as server:
        server.on_traffic = lambda _: most.append(len(server.sockets))
        config = Config(server.url, transport=server.open_transport, reconnect=[0.5])
        other = attrs.evolve(config, params={"other": "1"})
        box: list[Socket] = []

        class Calling(Visitor):
            async def init(self, argument: Any, socket: Socket, /) -> None:
                box.append(socket)
                socket.connect(argument)

        async with open_supervisor([(Calling, config)]):
            [socket] = box
            calls: list[Callable[[], None]] = [
                lambda: socket.connect(config),
                lambda: socket.connect(other),
                socket.reconnect,
                socket.reconnect_now,
                socket.disconnect,
                lambda: socket.reconnect(after=0.3),
                server.drop,
                server.close,
            ]
            for _ in range(300):
                draw.choice(calls)()
                await trio.sleep(draw.choice([0.0, 0.0, 0.1, 1.0]))
            socket.reconnect()
            await trio.sleep(5.0)
            assert len(server.sockets) == 1
            assert len(server.channels(TOPIC)) == 1
    assert max(most) == 1
    assert len(server.requests) > 50


async def test_credentials_and_params_are_asked_for_again_every_time(socket_test: Any) -> None:
    """complaint-16: by async functions, for each attempt and each join."""
    asked = {"params": 0, "headers": 0, "token": 0, "join": 0}

    def provider(name: str, give: Callable[[str], Any]) -> Any:
        async def ask() -> Any:
            await trio.sleep(0.1)
            asked[name] += 1
            return give(f"{name}{asked[name]}")

        return ask

    class Asking(SlipstreamClient):
        async def handle_connect(self, socket: Socket, /) -> None:
            socket.join(TOPIC, provider("join", lambda value: {"token": value}))

    config = Config(
        URI,
        params=provider("params", lambda value: {"key": value}),
        headers=provider("headers", lambda value: [("x-key", value)]),
        auth_token=provider("token", str),
        reconnect=[1.0],
        rejoin=[1.0],
    )
    async with socket_test(Asking, config) as test:
        await test.refuse_connect(503)
        await test.accept_connect(lambda uri: "key=params2" in uri)
        await test.assert_join(TOPIC, {"token": "join1"})
        await test.accept_join(TOPIC)
        await test.crash_topic(TOPIC)
        await test.assert_join(TOPIC, {"token": "join2"}, within=1.2)
        await test.accept_join(TOPIC)
        await test.drop()
        request = await test.accept_connect(lambda uri: "key=params3" in uri)
        assert ("x-key", "headers3") in request.headers
        assert any("bearer" in each for each in request.subprotocols)
        await test.assert_join(TOPIC, {"token": "join3"})
    assert asked == {"params": 3, "headers": 3, "token": 3, "join": 3}


async def test_a_refused_handshake_is_told_with_all_that_the_server_said(socket_test: Any) -> None:
    """complaint-17: status, headers and body, to the callback and to whoever looks."""
    config = Config(URI, reconnect=ReconnectPolicy(causes={403: Grow()}))
    async with socket_test(Visitor, config) as test:
        await test.refuse_connect(403, {"X-Why": "expired"}, b"no")
        [reason] = (await test.assert_callback("handle_disconnect", ConnectFailed)).args
        assert (reason.status, dict(reason.headers), reason.body) == (
            403,
            {"x-why": "expired"},
            b"no",
        )
        assert test.ref.health().last_disconnect == reason
        await test.connect_and_join(TOPIC)
