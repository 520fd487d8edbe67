"""The level below the kit: a recording client over the transport in memory, and a bare server's end.

For tests that bring a server of their own: those of models and sweeps, in which a client may crash at
any moment; those that the kit itself is compared with; and those of a client that nobody watches, as
the kit does with its callbacks and events. All others use the kit.
"""

from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import trio
import trio.testing
from trio.testing import MockClock

from slipstream import Config, Message, SlipstreamClient, Socket, open_supervisor
from slipstream.client import ClientRef, ClientServer
from slipstream.otp import SupervisorRef, process_of
from slipstream.protocol import V2Serializer
from slipstream.transport import MemoryNetwork, MemoryPeer

T = TypeVar("T")

URI = "ws://server.test/socket/websocket"
SERVER = V2Serializer(role="server")


def virtual(scenario: Callable[[], Awaitable[T]]) -> T:
    """Run *scenario* in virtual time, which goes on when nothing else can."""

    async def bounded() -> T:
        with trio.fail_after(100_000.0):
            return await scenario()

    return trio.run(bounded, clock=MockClock(autojump_threshold=0))


class Recorder(SlipstreamClient):
    """Notes its callbacks, and does in each what the test says in *scripts*."""

    calls: list[tuple[Any, ...]]
    scripts: dict[str, Callable[..., Awaitable[Any]]]

    async def init(self, argument: Any, socket: Socket, /) -> Any:
        """Connect, unless the script says otherwise."""
        config, self.calls, self.scripts = argument
        if "init" in self.scripts:
            self.calls.append(("init",))
            return await self.scripts["init"](self, socket)
        self.calls.append(("init",))
        socket.connect(config)
        return None

    async def _note(self, name: str, *args: Any) -> Any:
        self.calls.append((name, *args[:-1]))
        script = self.scripts.get(name)
        return None if script is None else await script(self, *args)

    async def handle_connect(self, socket: Socket, /) -> Any:
        return await self._note("handle_connect", socket)

    async def handle_disconnect(self, reason: Any, socket: Socket, /) -> Any:
        return await self._note("handle_disconnect", reason, socket)

    async def handle_join(self, topic: str, response: Any, socket: Socket, /) -> Any:
        return await self._note("handle_join", topic, response, socket)

    async def handle_topic_close(self, topic: str, reason: Any, socket: Socket, /) -> Any:
        return await self._note("handle_topic_close", topic, reason, socket)

    async def handle_leave(self, topic: str, socket: Socket, /) -> Any:
        return await self._note("handle_leave", topic, socket)

    async def handle_message(self, topic: str, event: str, payload: Any, socket: Socket, /) -> Any:
        return await self._note("handle_message", topic, event, payload, socket)

    async def handle_reply(self, ref: str, reply: Any, socket: Socket, /) -> Any:
        return await self._note("handle_reply", ref, reply, socket)

    async def handle_push_failed(self, ref: str, reason: Any, socket: Socket, /) -> Any:
        return await self._note("handle_push_failed", ref, reason, socket)

    async def handle_call(self, request: Any, caller: Any, socket: Socket, /) -> Any:
        return await self._note("handle_call", request, caller, socket)

    async def handle_cast(self, message: Any, socket: Socket, /) -> Any:
        """Run a function of the test's inside the client."""
        return await message(self, socket)

    async def handle_info(self, message: Any, socket: Socket, /) -> Any:
        return await self._note("handle_info", message, socket)

    async def handle_continue(self, argument: Any, socket: Socket, /) -> Any:
        return await self._note("handle_continue", argument, socket)

    async def terminate(self, reason: Any, socket: Socket, /) -> None:
        await self._note("terminate", reason, socket)


class ServerEnd:
    """The server's end of one connection: frames of the client, one by one, and answers."""

    def __init__(self, peer: MemoryPeer) -> None:
        self.peer = peer
        self._frames: deque[Message] = deque()

    async def next(self, event: str | None = None) -> Message:
        """Give the client's next frame; with *event*, it has to be that."""
        while not self._frames:
            for frame in await self.peer.receive():
                data = frame.data if frame.binary else frame.data.decode()
                self._frames.append(SERVER.decode(data))
        message = self._frames.popleft()
        assert event is None or message.event == event, f"expected {event}, got {message}"
        return message

    def say(
        self, join_ref: str | None, ref: str | None, topic: str, event: str, payload: Any = None
    ) -> None:
        """Send one message."""
        self.send(Message(join_ref, ref, topic, event, {} if payload is None else payload))

    def send(self, *messages: Message) -> None:
        """Send messages in one delivery."""
        frames = [SERVER.encode(message) for message in messages]
        self.peer.send(*[frame.data if frame.binary else frame.data.decode() for frame in frames])

    def reply(self, to: Message, status: str = "ok", response: Any = None) -> None:
        """Answer a frame of the client."""
        payload = {"status": status, "response": {} if response is None else response}
        self.say(to.join_ref, to.ref, to.topic, "phx_reply", payload)

    def broadcast(self, topic: str, event: str, payload: Any = None) -> None:
        """Broadcast to the topic."""
        self.say(None, None, topic, event, payload)

    async def accept_join(self, topic: str = "t", response: Any = None) -> Message:
        """Expect a join of *topic*, and let it in."""
        join = await self.next("phx_join")
        assert join.topic == topic
        self.reply(join, "ok", response)
        return join


class Harness:
    """A network, a recording client under a supervisor, and what it did."""

    def __init__(self, supervisor: SupervisorRef, network: MemoryNetwork, calls: list[Any]) -> None:
        self.supervisor = supervisor
        self.network = network
        self.calls = calls

    @property
    def ref(self) -> ClientRef:
        """The client's reference."""
        child = self.supervisor.child("client")
        assert isinstance(child, ClientRef)
        return child

    @property
    def server(self) -> ClientServer:
        """The process behind it."""
        process = process_of(self.ref)
        assert process is not None
        server: ClientServer = process.server
        return server

    @property
    def socket(self) -> Socket:
        """Its socket."""
        return self.server.socket

    def names(self) -> list[str]:
        """The names of the callbacks so far, in order."""
        return [call[0] for call in self.calls]

    def of(self, name: str) -> list[tuple[Any, ...]]:
        """The arguments of each call of the callback *name*."""
        return [call[1:] for call in self.calls if call[0] == name]

    async def accept(self) -> ServerEnd:
        """Accept the client's next connection."""
        return ServerEnd(await self.network.accept(within=10_000.0))

    async def joined(
        self, topic: str = "t", end: ServerEnd | None = None
    ) -> tuple[ServerEnd, Message]:
        """Have the client join *topic*; give the server's end and the join."""
        end = end or await self.accept()
        self.socket.join(topic)
        join = await end.accept_join(topic)
        await settle()
        assert self.socket.joined(topic)
        return end, join


async def settle() -> None:
    """Let everything happen that can happen now."""
    await trio.testing.wait_all_tasks_blocked()


@asynccontextmanager
async def harness(
    scripts: dict[str, Callable[..., Awaitable[Any]]] | None = None,
    *,
    client: type[Recorder] = Recorder,
    restart: Any = "permanent",
    supervisor_options: dict[str, Any] | None = None,
    **options: Any,
) -> AsyncGenerator[Harness]:
    """Start a recording client with *options* as its configuration."""
    network = MemoryNetwork()
    calls: list[Any] = []
    options.setdefault("heartbeat_interval", None)
    options.setdefault("reconnect", [1.0])
    options.setdefault("rejoin", [1.0])
    uri = options.pop("uri", URI)
    config = Config(uri, transport=network.open_transport, **options)
    spec = client.child_spec((config, calls, scripts or {}), id="client", restart=restart)
    async with open_supervisor([spec], **(supervisor_options or {})) as supervisor:
        yield Harness(supervisor, network, calls)
