"""What is measured of whole clients; each gives CPU seconds, bytes, or seconds of delay."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import trio
from trio_websocket import open_websocket_url

from slipstream import Config, SlipstreamClient, Socket, open_supervisor, telemetry
from slipstream.otp import ChildSpec, SupervisorRef
from tests.benchmarks.clients.job import WARM_CONNECTIONS, Stopwatch
from tests.benchmarks.comparing import Job

from .server import open_fast_server, open_phoenix

__all__ = ["JOBS"]

MESSAGES = 1_000_000
PERIOD = 0.005
"""Seconds between two looks at the delay of the event loop."""


class Member(SlipstreamClient, restart="temporary"):
    """Joins its topics, counts what it hears, and tells when it is in and when it is done."""

    async def init(
        self, argument: tuple[Config, int, trio.Event, trio.Event, list[int]], socket: Socket, /
    ) -> None:
        config, self.topics, self.ready, self.done, self.counted = argument
        self.joined = self.heard = 0
        socket.connect(config)
        for number in range(self.topics):
            socket.join(f"bench:{number}")

    async def handle_join(self, topic: str, response: object, socket: Socket, /) -> None:
        self.joined += 1
        if self.joined % self.topics == 0:
            self.ready.set()

    async def handle_message(
        self, topic: str, event: str, payload: object, socket: Socket, /
    ) -> None:
        self.heard += 1
        if event == "done":
            self.counted.append(self.heard)
            self.done.set()


def _config(uri: str) -> Config:
    return Config(uri, heartbeat_interval=None)


def _member(
    config: Config, number: int, topics: int = 1
) -> tuple[ChildSpec, trio.Event, trio.Event, list[int]]:
    ready, done, counted = trio.Event(), trio.Event(), list[int]()
    spec = Member.child_spec((config, topics, ready, done, counted), id=number)
    return spec, ready, done, counted


async def life_ours(count: int) -> float:
    """Start a supervised client, join a topic, and stop it."""
    async with open_phoenix() as server, open_supervisor([]) as supervisor:
        config = _config(server.url)
        await _live(config, supervisor)
        with Stopwatch() as watch:
            for _ in range(count):
                await _live(config, supervisor)
    return watch.cpu_seconds / count


async def _live(config: Config, supervisor: SupervisorRef) -> None:
    spec, ready, _, _ = _member(config, 0)
    client = await supervisor.start_child(spec)
    assert client is not None
    await ready.wait()
    await client.stop()


async def life_bare(count: int) -> float:
    """Connect with trio-websocket, and close."""
    async with open_phoenix() as server:
        uri = f"{server.url}?vsn=2.0.0"
        async with open_websocket_url(uri):
            pass
        with Stopwatch() as watch:
            for _ in range(count):
                async with open_websocket_url(uri):
                    pass
    return watch.cpu_seconds / count


async def memory(count: int) -> float:
    """Keep so many supervised clients, each with a topic that it has joined."""
    async with open_phoenix() as server, open_supervisor([]) as supervisor:
        config = _config(server.url)
        for number in range(WARM_CONNECTIONS):
            await _hold(config, supervisor, -1 - number)
        with Stopwatch() as watch:
            for number in range(count):
                await _hold(config, supervisor, number)
    return watch.resident_bytes / count


async def _hold(config: Config, supervisor: SupervisorRef, number: int) -> None:
    spec, ready, _, _ = _member(config, number)
    await supervisor.start_child(spec)
    await ready.wait()


async def message_by_topics(count: int) -> float:
    """Handle a message, with so many topics joined."""
    return await _messages(clients=1, topics=count)


async def message_by_clients(count: int) -> float:
    """Handle a message, in so many clients."""
    return await _messages(clients=count, topics=1)


async def _messages(*, clients: int, topics: int) -> float:
    with open_fast_server() as base:
        each = MESSAGES // clients
        config = _config(f"{base}/fleet?topics={topics}&clients={clients}&count={each}")
        members = [_member(config, number, topics) for number in range(clients)]
        async with open_supervisor([spec for spec, _, _, _ in members]):
            for _, ready, _, _ in members:
                await ready.wait()
            with Stopwatch() as watch:
                for _, _, done, _ in members:
                    await done.wait()
    return watch.cpu_seconds / sum(counted[0] for _, _, _, counted in members)


async def delay_in_restart(count: int) -> float:
    """Let the server restart; give the delay of the event loop that one look in a hundred exceeds.

    Raises:
        RuntimeError: if not all come back, or many at the same time.
    """
    arrivals: Counter[int] = Counter()
    delays: list[float] = []
    back, all_back = set[int](), trio.Event()

    def planned(_event: str, data: Mapping[str, Any]) -> None:
        arrivals[int((trio.current_time() + data["delay"]) * 2)] += 1

    def arrived(_event: str, data: Mapping[str, Any]) -> None:
        back.add(data["span"])
        if len(back) == count:
            all_back.set()

    async def look() -> None:
        while True:
            due = trio.current_time() + PERIOD
            await trio.sleep_until(due)
            delays.append(trio.current_time() - due)

    async with open_phoenix() as server, open_supervisor([]) as supervisor:
        config = _config(server.url)
        for number in range(count):
            await _hold(config, supervisor, number)
        telemetry.attach("arrivals", "slipstream.client.connect.stop", arrived)
        telemetry.attach("plans", "slipstream.connection.reconnect", planned)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            server.restart()
            with trio.fail_after(60.0):
                await all_back.wait()
            nursery.cancel_scope.cancel()
        telemetry.detach("arrivals")
        telemetry.detach("plans")
    most = max(arrivals.values())
    if count >= 100 and most > count // 4:
        raise RuntimeError(f"{most} of {count} clients come within half a second: {dict(arrivals)}")
    delays.sort()
    return delays[len(delays) * 99 // 100]


JOBS: dict[str, Job] = {
    job.__name__: job
    for job in (
        life_ours,
        life_bare,
        memory,
        message_by_topics,
        message_by_clients,
        delay_in_restart,
    )
}
