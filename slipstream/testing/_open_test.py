"""The block of a test: a client under a supervisor, over a network in memory."""

import itertools
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, Unpack

from slipstream import telemetry
from slipstream.client import SlipstreamClient
from slipstream.errors import SupervisorGaveUpError
from slipstream.otp import ChildKeywords, open_supervisor
from slipstream.reasons import ExitReason
from slipstream.transport import use_transport

from ._recording import recording
from ._script import Listener, Script
from ._socket_test import CLIENT, SocketTest
from ._time import set_off_clock, settle
from ._timeline import Call, Timeline

__all__ = ["URI", "open_socket_test"]

URI: Final = "ws://server.test/socket/websocket"
_numbers = itertools.count(1)


@asynccontextmanager
async def open_socket_test(
    client: type[SlipstreamClient],
    argument: Any = URI,
    *,
    strict: bool = False,
    max_restarts: int = 100,
    **overrides: Unpack[ChildKeywords],
) -> AsyncGenerator[SocketTest]:
    """Run *client* under a supervisor, and be the server that it talks to.

    Its frames, its connection and its supervision are the real ones; only the network is one in
    memory, which connections go through whose ``Config`` names no transport. On a virtual clock
    (``trio.testing.MockClock``, with or without autojump) time passes when the test waits for
    something, or says so. A client that crashes fails the test, unless ``expect_crash`` says that it may.

    Args:
        client: the class under test.
        argument: what its ``init`` gets.
        strict: whether pushes that the test did not assert fail it at the end.
        max_restarts: how many crashes within 5 s end the test.
        overrides: of the child specification, as in ``client.child_spec``.

    Raises:
        TypeError: if *client* is no class of clients.
        StartError: if the client's ``init`` fails.
        AssertionError: at the end, for what *strict* says, or a crash; it is the cause.
    """
    given: Any = client
    if not isinstance(given, type) or not issubclass(given, SlipstreamClient):
        raise TypeError(f"client={client!r} is wrong: it takes a subclass of SlipstreamClient")
    timeline = Timeline()
    script, calls = Script(timeline), list[Call]()
    ends: list[ExitReason] = []
    name = f"socket_test_{next(_numbers)}"

    def child_stopped(_: str, data: Mapping[str, Any]) -> None:
        if data["supervisor"] == name and data["id"] == CLIENT:
            ends.append(data["reason"])
            timeline.note("client", f"ended: {data['reason']}")

    overrides["id"] = CLIENT
    spec = recording(client, calls, timeline).child_spec(argument, **overrides)
    telemetry.attach(name, "slipstream.supervisor.child.stop", child_stopped)
    try:
        with telemetry.capture_events() as events, use_transport(script.open_transport):
            async with open_supervisor(
                [Listener.child_spec(script)], name=name, max_restarts=max_restarts
            ) as supervisor:
                ref = await supervisor.start_child(spec)
                test = SocketTest(script, timeline, calls, events, ends, ref)
                try:
                    yield test
                    await settle()
                    test.finish(strict=strict)
                finally:
                    test.release()
                    set_off_clock()
    except SupervisorGaveUpError as error:
        raise AssertionError(
            f"the client crashed more than max_restarts={max_restarts} times: {error}\n"
            f"  what happened:\n{timeline.render()}"
        ) from error.__cause__
    finally:
        telemetry.detach(name)
