"""The block of a test: a client under a supervisor, over a network in memory."""

from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Final, Unpack, cast

from slipstream import telemetry
from slipstream.client import SlipstreamClient
from slipstream.interfaces import Serializer
from slipstream.otp import (
    ChildKeywords,
    ChildLike,
    ChildSpec,
    Supervisor,
    SupervisorRef,
    open_supervisor,
)
from slipstream.transport import use_transport

from ._recording import recorded
from ._script import Listener, Script
from ._socket_test import SocketTest
from ._subject import CLIENT
from ._time import set_off_clock, settle, time_passing
from ._timeline import Call, End, Timeline

if TYPE_CHECKING:
    from .contracts._watch import Watch

__all__ = ["URI", "open_socket_test"]

__tracebackhide__ = True  # pytest shows the line of the test

URI: Final = "ws://server.test/socket/websocket"


@asynccontextmanager
async def open_socket_test(
    client: type[SlipstreamClient] | ChildSpec,
    argument: Any = URI,
    *,
    children: Iterable[ChildLike] = (),
    strict: bool = False,
    serializer: Serializer | None = None,
    contract: Any = None,
    max_restarts: int = 3,
    max_seconds: float = 5.0,
    **overrides: Unpack[ChildKeywords],
) -> AsyncGenerator[SocketTest]:
    """Run *client* under a supervisor, and be the server that it talks to.

    Its frames, its connection and its supervision are the real ones; only the network is one in
    memory, which connections go through whose ``Config`` names no transport. On a virtual clock
    (``trio.testing.MockClock``, with or without autojump) time passes when the test waits for
    something, or says so. A client that crashes fails the test, unless ``expect_crash`` says that it may;
    an error of the block's own gets a note of what had happened. The block begins when the client has
    started, or its ``init`` goes on while it wants to connect, which is the test's to accept.

    Args:
        client: the class under test, or the specification of one as a child.
        argument: what its ``init`` gets; a specification has it already.
        children: what runs beside it, under the same supervisor, and is started before it.
        strict: whether pushes that the test did not assert fail it at the end.
        serializer: the server's half of a serializer of one's own; by default it speaks V1 or V2, as
            the client asks for.
        contract: whether the client is held to its contract: ``True``, rules of your own, or what
            ``client_contract`` gave; see :mod:`slipstream.testing.contracts`. At the end the server
            then lets it do whatever it wants for some minutes, and stops it.
        max_restarts: of that supervisor.
        max_seconds: likewise.
        overrides: of the child specification, as in ``client.child_spec``.

    Raises:
        TypeError: if *client* is no client.
        ChildSpecError: if a child or an override is wrong.
        StartError: if the client's ``init`` fails, or a child does not start.
        AssertionError: at the end, for what *strict* says, or a crash, which is the cause; and where the
            block waits for something that does not come in 100,000 s of virtual time.
    """
    timeline = Timeline()
    script, calls = Script(timeline, serializer), list[Call]()
    ends: list[End] = []

    spec = _spec_of(client, argument, overrides)
    watch = _watch_of(spec, contract)
    if watch is None:
        spec = recorded(spec, script, calls, ends)
    else:
        timeline.watcher = watch
        spec = recorded(spec, script, calls, ends, watch.server_class)
    # One that gives up is for the test to see, and cancels no block.
    under_test = Supervisor.child_spec(
        [*children, spec],
        id="socket_test",
        restart="temporary",
        max_restarts=max_restarts,
        max_seconds=max_seconds,
    )
    watching = nullcontext() if watch is None else watch.watching()
    with watching, telemetry.capture_events() as events, use_transport(script.open_transport):
        async with open_supervisor([Listener.child_spec(script)], max_restarts=0) as root:
            supervisor = await _start(root, under_test, script)
            test = SocketTest(script, timeline, calls, events, ends, supervisor)
            if watch is not None:
                watch.test = test
            try:
                with test.patience.scope:
                    yield test
                test.check_patience()
                await settle()
                test.finish(strict=strict)
                if watch is not None:
                    await watch.finish()
            except Exception as error:
                test.explain(error)
                raise
            finally:
                test.release()
                set_off_clock()


async def _start(root: SupervisorRef, spec: ChildSpec, script: Script) -> SupervisorRef:
    """Start what *spec* says, up to where the client's ``init`` has ended, or the test has to act."""
    started: list[SupervisorRef | Exception] = []

    async def start() -> None:
        try:
            started.append(cast("SupervisorRef", await root.start_child(spec)))
        except Exception as error:  # noqa: BLE001 - it is raised where the block begins
            started.append(error)
        script.timeline.tell()

    script.start_soon(start)
    with time_passing():
        while True:
            await settle()
            changed = script.timeline.changed
            if started:
                break
            if script.attempts:
                return cast("SupervisorRef", root.child(spec.id))
            await changed.wait()
    if isinstance(started[0], Exception):
        raise started[0]
    return started[0]


def _watch_of(spec: ChildSpec, contract: Any) -> "Watch | None":
    if contract is None or contract is False:
        return None
    # What has no contract needs no Hypothesis.
    from .contracts import watch_for  # noqa: PLC0415 - see above

    return watch_for(spec, contract)


def _spec_of(client: Any, argument: Any, overrides: ChildKeywords) -> ChildSpec:
    keywords: ChildKeywords = {**overrides, "id": CLIENT}
    if isinstance(client, ChildSpec):
        return ChildSpec.of(client, **keywords)
    if isinstance(client, type) and issubclass(client, SlipstreamClient):
        return client.child_spec(argument, **keywords)
    raise TypeError(
        f"client={client!r} is wrong: it takes a subclass of SlipstreamClient, or a ChildSpec of one"
    )
