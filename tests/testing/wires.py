"""The same client and the same server over both wires: TCP in real time, memory in virtual time."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import pytest
import trio
from trio.testing import MockClock

from slipstream import Config, Socket, open_supervisor
from slipstream.client import ClientRef
from slipstream.otp import SupervisorRef, process_of
from slipstream.testing import Channel, PhoenixServer
from tests.client.support import Recorder

from .support import Room

__all__ = ["Client", "Scenario", "both_wires", "client_of", "over", "running"]

WITHIN = 20.0
"""Real seconds after which a scenario hangs."""

Scenario: TypeAlias = Callable[[bool], Awaitable[None]]
"""Is told whether it runs in memory."""

both_wires = pytest.mark.parametrize("memory", [True, False], ids=["memory", "tcp"])


def over(scenario: Scenario, *, memory: bool) -> None:
    """Run *scenario* on the clock that befits the wire."""

    async def main() -> None:
        with trio.fail_after(1000.0 if memory else WITHIN):
            await scenario(memory)

    if memory:
        trio.run(main, clock=MockClock(autojump_threshold=0))
    else:
        trio.run(main)


class Calls(list[Any]):
    """What was called, and a way to wait for more."""

    def __init__(self) -> None:
        super().__init__()
        self._more = trio.lowlevel.ParkingLot()

    def append(self, call: Any, /) -> None:
        super().append(call)
        self._more.unpark_all()

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        await trio.lowlevel.checkpoint()
        while not condition():
            await self._more.park()


class Client:
    """A client that notes its callbacks."""

    def __init__(self, supervisor: SupervisorRef, server: PhoenixServer, calls: Calls) -> None:
        self.server = server
        self.calls = calls
        self._supervisor = supervisor

    @property
    def socket(self) -> Socket:
        """Its socket."""
        ref = self._supervisor.child("client")
        assert isinstance(ref, ClientRef)
        process = process_of(ref)
        assert process is not None
        socket: Socket = process.server.socket
        return socket

    def of(self, name: str) -> list[tuple[Any, ...]]:
        """Give the arguments of each call of the callback *name*."""
        return [call[1:] for call in self.calls if call[0] == name]

    async def called(self, name: str, times: int = 1) -> tuple[Any, ...]:
        """Wait for the callback *name*, for the *times*-th time; give its arguments."""
        await self.calls.wait_until(lambda: len(self.of(name)) >= times)
        return self.of(name)[times - 1]

    async def joined(self, topic: str = "rooms:1") -> None:
        """Join *topic* and wait until the client is in."""
        self.socket.join(topic)
        await self.calls.wait_until(lambda: self.socket.joined(topic))

    async def push(self, event: str, payload: Any, *, timeout: float | None = None) -> str:
        """Push to ``rooms:1``; give the ref."""
        return await self.socket.push("rooms:1", event, payload, timeout=timeout)


@asynccontextmanager
async def running(
    *,
    memory: bool,
    channels: Mapping[str, type[Channel]] | None = None,
    serving: Mapping[str, Any] | None = None,
    prepare: Callable[[PhoenixServer], None] | None = None,
    **options: Any,
) -> AsyncGenerator[Client]:
    """Run a server, and a client with *options* that connects to it."""
    async with PhoenixServer(
        channels or {"rooms:*": Room}, memory=memory, **(serving or {})
    ) as server:
        if prepare is not None:
            prepare(server)
        async with client_of(server, memory=memory, **options) as client:
            yield client


@asynccontextmanager
async def client_of(
    server: PhoenixServer, *, memory: bool, **options: Any
) -> AsyncGenerator[Client]:
    """Run a client with *options* that connects to *server*."""
    options = {"heartbeat_interval": None, "reconnect": [0.01], "rejoin": [0.01], **options}
    calls = Calls()
    transport = server.open_transport if memory else None
    config = Config(server.url, transport=transport, **options)
    spec = Recorder.child_spec((config, calls, {}), id="client")
    async with open_supervisor([spec]) as supervisor:
        yield Client(supervisor, server, calls)
