"""One scenario, played in the test kit, and over TCP against an embedded server.

A scenario is an async function whose first parameter is the test. In the kit that is a
``SocketTest`` on a virtual clock; over TCP it is the same words said to a ``PhoenixServer``, with all
durations made shorter by *scale*.
"""

import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal, TypeAlias
from urllib.parse import parse_qs, urlsplit

import attrs
import pytest
import trio
from trio.testing import MockClock

from slipstream import ChannelReply, Config, ReconnectPolicy, RejoinPolicy, SlipstreamClient, Socket
from slipstream.errors import LinkError
from slipstream.interfaces import ConnectRequest
from slipstream.testing import ClientMessage, PhoenixServer, SocketTest, open_socket_test
from slipstream.testing.otp import check_leaks, wait_until

from .live import LiveTest, open_live_test

__all__ = [
    "Lodger",
    "Outcome",
    "Stage",
    "both_wires",
    "check_took",
    "in_the_kit",
    "inside",
    "is_kit",
    "joined",
    "over_tcp",
    "query",
    "scale_of",
    "server_of",
    "until",
]

Wire: TypeAlias = Literal["kit", "tcp"]
Stage: TypeAlias = SocketTest
Scenario: TypeAlias = Callable[..., Awaitable[None]]

REAL_SECONDS = 30.0
"""After these a scenario over TCP hangs."""


DEFAULTS: Mapping[str, Any] = {
    "serving": {},
    "scale": 0.02,
    "heartbeat_interval": None,
    "reconnect": [1.0],
    "rejoin": [1.0],
}


class Lodger(SlipstreamClient):
    """Connects, and does inside itself what a test casts to it."""

    async def handle_cast(self, message: Any, socket: Socket, /) -> Any:
        return await message(self, socket)


def both_wires(**options: Any) -> Callable[[Scenario], Callable[..., None]]:
    """Play a scenario in the kit and over TCP; see :func:`in_the_kit` for *options*."""
    return _play("kit", "tcp", **options)


def over_tcp(**options: Any) -> Callable[[Scenario], Callable[..., None]]:
    """Play a scenario over TCP alone, for what the kit's server does not do."""
    return _play("tcp", **options)


def in_the_kit(**options: Any) -> Callable[[Scenario], Callable[..., None]]:
    """Play a scenario in the kit alone: its clock, or its server, does what no real one can.

    *options* are those of the configuration, and ``client=``, the class under test, ``serving=``,
    keywords of ``PhoenixServer``, and ``scale=``.
    """
    return _play("kit", **options)


def _play(*wires: Wire, **options: Any) -> Callable[[Scenario], Callable[..., None]]:
    def decorate(scenario: Scenario) -> Callable[..., None]:
        signature = inspect.signature(scenario)
        _, *others = signature.parameters.values()

        def play(wire: Wire, **parameters: Any) -> None:
            if wire == "kit":
                trio.run(_in_the_kit, scenario, options, parameters, clock=MockClock(0.0, 0.0))
            else:
                trio.run(_over_tcp, scenario, options, parameters)

        functools.update_wrapper(play, scenario)
        # pytest would take the scenario for the function, whose parameters are others.
        vars(play).pop("__wrapped__")
        wire = inspect.Parameter("wire", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        play.__signature__ = signature.replace(parameters=[wire, *others])  # type: ignore[attr-defined]  # as inspect allows
        parametrised: Callable[..., None] = pytest.mark.parametrize("wire", wires)(play)
        return parametrised

    return decorate


async def _in_the_kit(
    scenario: Scenario, options: Mapping[str, Any], parameters: Mapping[str, Any]
) -> None:
    chosen = {"client": Lodger, **DEFAULTS, **options}
    client, _, _ = chosen.pop("client"), chosen.pop("serving"), chosen.pop("scale")
    config = Config("ws://server.test/socket/websocket", **chosen)
    with trio.fail_after(100_000.0):
        async with check_leaks(), open_socket_test(client, config) as test:
            await scenario(test, **parameters)


async def _over_tcp(
    scenario: Scenario, options: Mapping[str, Any], parameters: Mapping[str, Any]
) -> None:
    chosen = {"client": Lodger, **DEFAULTS, **options}
    client, serving, scale = chosen.pop("client"), chosen.pop("serving"), chosen.pop("scale")
    with trio.fail_after(REAL_SECONDS):
        async with (
            check_leaks(),
            open_live_test(client, _scaled(chosen, scale), scale=scale, **serving) as test,
        ):
            await scenario(test, **parameters)


def _scaled(options: Mapping[str, Any], scale: float) -> dict[str, Any]:
    """Give *options* with every duration made shorter."""

    def shorter(name: str, value: Any) -> Any:
        match value:
            case list():
                return [each * scale for each in value]
            case ReconnectPolicy() | RejoinPolicy():
                names = ("first", "maximum", "stable_after")
                delays = value.delays and [each * scale for each in value.delays]
                changed = {each: getattr(value, each) * scale for each in names}
                return attrs.evolve(value, delays=delays, **changed)
            case float() if name.endswith(("_timeout", "_interval", "_pause", "_ttl")):
                return value * scale
            case _:
                return value

    return {name: shorter(name, value) for name, value in options.items()}


# What scenarios have in common


def scale_of(test: Stage) -> float:
    """Give how long a second of the test is."""
    return test.scale if isinstance(test, LiveTest) else 1.0


def is_kit(test: Stage) -> bool:
    """Tell whether *test* is in the kit, where the clock is virtual and the server only the test."""
    return not isinstance(test, LiveTest)


def server_of(test: Stage) -> PhoenixServer:
    """Give the server of a *test* over TCP."""
    script: Any = test._script
    server: PhoenixServer = script.server
    return server


def check_took(test: Stage, since: float, till: float, *seconds: float) -> None:
    """Assert that so many *seconds* of the test lay between two moments.

    That is exact in the kit. Over TCP each of the two is looked at a little late, and so it is only
    asserted that not much less has passed.
    """
    took, wanted = (till - since) / scale_of(test), sum(seconds)
    if is_kit(test):
        assert took == pytest.approx(wanted)
    else:
        assert took > 0.6 * wanted


async def until(condition: Callable[[], bool]) -> None:
    """Wait until *condition* holds."""
    await wait_until(condition)


async def joined(test: Stage, topic: str = "t", params: Any = None) -> ClientMessage:
    """Let the client connect, if it has not, and join *topic*; give the join."""
    if not test.socket.connected:
        await test.accept_connect()
    if test.socket.join_status(topic) is None:
        test.socket.join(topic, params)
    join = await test.accept_join(topic)
    await test.assert_callback("handle_join", topic)
    return join


async def inside(test: Stage, function: Callable[[Any, Socket], Awaitable[Any]]) -> Any:
    """Run *function* in a callback of the client; give its result, or raise its error."""
    box: list[Any] = []
    done = trio.Event()

    async def wrapped(client: Any, socket: Socket) -> None:
        try:
            box.append(await function(client, socket))
        except Exception as error:  # noqa: BLE001 - it goes on to the test
            box.append(error)
        finally:
            done.set()

    test.ref.cast(wrapped)
    await done.wait()
    if box and isinstance(box[0], Exception):
        raise box[0]
    return box[0] if box else None


def query(request: ConnectRequest) -> dict[str, str]:
    """Give the parameters that the client connects with."""
    return {name: values[0] for name, values in parse_qs(urlsplit(request.uri).query).items()}


class Outcome:
    """What becomes of a request that runs beside the test."""

    def __init__(self, nursery: trio.Nursery, test: Stage, topic: str = "t", **how: Any) -> None:
        self.reply: ChannelReply | None = None
        self.error: LinkError | None = None
        self.at = 0.0
        nursery.start_soon(self._run, test, topic, how)

    async def _run(self, test: Stage, topic: str, how: dict[str, Any]) -> None:
        try:
            self.reply = await test.socket.request(topic, "ask", {"n": 1}, **how)
        except LinkError as error:
            self.error = error
        self.at = trio.current_time()

    @property
    def over(self) -> bool:
        return self.at > 0.0 or self.reply is not None or self.error is not None
