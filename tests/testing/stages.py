"""The same client and the same script on several stages: what it was called with, step by step.

On each stage the server is another, and the steps are the same. In memory time is virtual; over TCP
it is real, and after each step one waits for as much as happened in memory.
"""

from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeAlias

import attrs
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from slipstream import (
    Config,
    EncodeError,
    Message,
    NotJoinedError,
    Socket,
    open_supervisor,
    telemetry,
)
from slipstream.otp import ServerRef, process_of
from slipstream.reasons import ConnectFailed, TransportFailed
from slipstream.testing import (
    Answer,
    Channel,
    ConnectInfo,
    Ok,
    PhoenixServer,
    Refuse,
    Reject,
    ReplyRef,
    ReplyWith,
    ServerSocket,
)
from slipstream.testing.conversations import (
    AnswerAgain,
    AnswerNext,
    CloseChannel,
    CloseConnection,
    CrashChannel,
    DropConnection,
    Player,
    RefuseConnect,
    SendBroadcast,
    SendMessage,
    SendPush,
    Step,
    open_player,
)
from slipstream.transport import MemoryNetwork
from tests.client.support import Recorder

__all__ = ["Act", "Scene", "in_memory", "over_tcp"]

TOPICS = ("a", "b")
WITHIN = 10.0
"""Real seconds after which what did not happen does not happen."""

_OPTIONS: dict[str, Any] = {
    "heartbeat_interval": None,
    "reconnect": [0.02],
    "rejoin": [0.02],
    # Nothing but the pushes that are meant to times out.
    "join_timeout": 60.0,
    "leave_timeout": 60.0,
}


@attrs.frozen
class Act:
    """Something that the client does, inside a callback."""

    name: str
    topic: str = ""
    timeout: float | None = None


Script: TypeAlias = Sequence[Act | Step]


@attrs.frozen
class Scene:
    """What came of one step, and how things stand after it.

    Attributes:
        calls: the client's callbacks.
        heard: what the server has read of the client's.
        waiting: how much of that it may answer.
        status: of each topic, as the client sees it.
        connected: whether the client is.
    """

    calls: list[Any]
    heard: list[Message]
    waiting: int
    status: dict[str, str | None]
    connected: bool


Rest: TypeAlias = Callable[[Callable[[], Scene], int], Awaitable[None]]
"""Waits for the end of a step: gets what looks at it, and its number."""


class Stage(Protocol):
    """A server that does as steps say."""

    async def do(self, step: Step) -> None: ...

    def client_leaves(self) -> None:
        """Note that the client closes the connection."""
        ...

    def heard(self) -> list[Message]:
        """What the client has said so far, as far as it was read."""
        ...

    def waiting(self) -> int:
        """How many of them may be answered now."""
        ...


class Actor(Recorder):
    """Notes its callbacks, and acts when it is told to."""

    async def handle_cast(self, message: Any, socket: Socket, /) -> Any:
        match message:
            case Act("join", topic):
                socket.join(topic)
            case Act("rejoin", topic):
                if topic in socket.topics:
                    socket.rejoin(topic, {"again": True})
            case Act("leave", topic):
                socket.leave(topic)
            case Act("push" | "push binary", topic, timeout):
                payload = {"n": 1} if message.name == "push" else b"\x00\xff"
                try:
                    ref = await socket.push(topic, "ask", payload, timeout=timeout)
                except (NotJoinedError, EncodeError) as error:
                    ref = type(error).__name__
                self.calls.append(("pushed", ref))
            case Act("disconnect"):
                socket.disconnect()
            case Act("connect"):
                assert socket.config is not None
                socket.connect(socket.config)
            case _:
                raise AssertionError(message)
        self.calls.append(("done", message))


def compared(call: tuple[Any, ...]) -> tuple[Any, ...]:
    """Leave out of a callback what belongs to the network and not to Phoenix."""
    match call:
        case (name, ConnectFailed(status=status, body=body)):
            return name, "ConnectFailed", status, body
        case (name, TransportFailed()):
            return name, "TransportFailed"
        case _:
            return call


@asynccontextmanager
async def client_on(config: Config) -> AsyncGenerator[tuple[ServerRef, list[Any]]]:
    """Start the client under a supervisor; give it, and its callbacks so far."""
    calls: list[Any] = []
    spec = Actor.child_spec((config, calls, {}), id="client")
    async with open_supervisor([spec]) as supervisor:
        client = supervisor.child("client")
        assert client is not None
        yield client, calls


async def perform(
    script: Script, stage: Stage, config: Config, rest: Rest, expected: Sequence[Scene] = ()
) -> list[Scene]:
    """Play *script*; *rest* waits until all that a step brings about has happened.

    What differs from *expected* is the last that is played.
    """
    scenes: list[Scene] = []
    async with client_on(config) as (client, calls):
        told = said = 0

        def look() -> Scene:
            process = process_of(client)
            assert process is not None
            socket: Socket = process.server.socket
            return Scene(
                [compared(call) for call in calls[told:]],
                stage.heard()[said:],
                stage.waiting(),
                {topic: socket.join_status(topic) for topic in TOPICS},
                socket.connected,
            )

        for number, step in enumerate([None, *script]):
            if isinstance(step, Act):
                client.cast(step)
                if step.name == "disconnect":
                    stage.client_leaves()
            elif step is not None:
                await stage.do(step)
            await rest(look, number)
            scenes.append(look())
            told += len(scenes[-1].calls)
            said += len(scenes[-1].heard)
            if expected and scenes[-1] != expected[number]:
                break
    return scenes


# In memory


class MemoryStage:
    """The speaker of a conversation, in memory."""

    def __init__(self, player: Player) -> None:
        self._player = player

    async def do(self, step: Step) -> None:
        await self._player.do(step)

    def client_leaves(self) -> None: ...

    async def let_go(self) -> None:
        """Answer leaves, as a channel does at once."""
        speaker = self._player.speaker
        for at, message in enumerate(speaker.waiting if speaker is not None else []):
            if message.event == "phx_leave":
                await self.do(AnswerNext(skip=at))
                return await self.let_go()
        return None

    def heard(self) -> list[Message]:
        return self._player.heard

    def waiting(self) -> int:
        speaker = self._player.speaker
        return len(speaker.waiting) if speaker is not None else 0


def in_memory(script: Script, **options: Any) -> list[Scene]:
    """Play *script* in memory and in virtual time."""

    async def scenario() -> list[Scene]:
        network = MemoryNetwork()
        config = Config(
            "ws://server.test/socket/websocket",
            transport=network.open_transport,
            **_OPTIONS,
            **options,
        )
        async with open_player(network) as player:
            stage = MemoryStage(player)

            async def rest(look: Callable[[], Scene], number: int) -> None:
                await wait_all_tasks_blocked()
                await stage.let_go()
                await trio.sleep(1.0)

            return await perform(script, stage, config, rest)

    return trio.run(scenario, clock=MockClock(autojump_threshold=0))


# Over TCP


class Puppet(Channel):
    """A channel that leaves every decision to the script."""

    async def join(self, topic: str, payload: Any, socket: ServerSocket, /) -> Any:
        return await self.stage.decide_join(self)

    async def handle_in(self, event: str, payload: Any, socket: ServerSocket, /) -> Answer | None:
        self.stage.asked.append((self, self.reply_ref))
        return None

    stage: "TcpStage"


class TcpStage:
    """An embedded server on a loopback port."""

    def __init__(self) -> None:
        channel = type("Puppet", (Puppet,), {"stage": self})
        self.server = PhoenixServer({"*": channel}, connect=self._judge)
        self.asked: list[tuple[Channel, ReplyRef]] = []
        self._answered: tuple[Channel, ReplyRef] | None = None
        self._refusals: deque[int] = deque()
        self._joins: list[tuple[Channel, trio.Event, list[Any]]] = []
        self.handled = 0

    def read(self, _: str, data: Mapping[str, Any]) -> None:
        """Take note that the client has read frames."""
        self.handled += data["frames"]

    def _judge(self, info: ConnectInfo) -> Reject | None:
        return Reject(self._refusals.popleft()) if self._refusals else None

    async def decide_join(self, channel: Channel) -> Any:
        decided, decision = trio.Event(), list[Any]()
        self._joins.append((channel, decided, decision))
        try:
            await decided.wait()
        finally:
            self._joins = [join for join in self._joins if join[0] is not channel]
        return decision[0]

    def client_leaves(self) -> None:
        # A server whose join hangs does not see the client's Close; nor does Phoenix.
        self._joins.clear()

    def _lives(self, channel: Channel) -> bool:
        return (
            channel.socket in self.server.sockets
            and channel.socket.channel(channel.topic) is channel
        )

    def _clean(self) -> None:
        self.asked = [(channel, ref) for channel, ref in self.asked if self._lives(channel)]
        if self._answered is not None and not self._lives(self._answered[0]):
            self._answered = None

    def heard(self) -> list[Message]:
        return list(self.server.frames)

    def waiting(self) -> int:
        self._clean()
        return len(self.asked) + len(self._joins)

    async def do(self, step: Step) -> None:
        self._clean()
        server, topic = self.server, getattr(step, "topic", "")
        channel = next(reversed(server.channels(topic)), None)
        match step:
            case AnswerNext(status, response, skip) if self.waiting():
                at = skip % self.waiting()
                if at == len(self.asked):
                    _, decided, decision = self._joins[0]
                    decision.append(Ok(response) if status == "ok" else Refuse(response))
                    decided.set()
                else:
                    self._answered = asked, ref = self.asked.pop(at)
                    asked.reply(ref, ReplyWith(status, response))
            case AnswerAgain(status, response) if self._answered is not None:
                self._answered[0].reply(self._answered[1], ReplyWith(status, response))
            case SendPush(_, event, payload) if channel is not None:
                channel.push(event, payload)
            case SendBroadcast(_, event, payload):
                server.broadcast(topic, event, payload)
            case CrashChannel():
                server.crash(topic)
            case CloseChannel():
                await server.stop_channel(topic)
            case CloseConnection(code, reason):
                server.close(code, reason)
            case DropConnection():
                server.drop()
            case RefuseConnect(status):
                self._refusals.append(status)
            case SendMessage(message) if server.sockets:
                before = self.handled
                server.sockets[-1].send(
                    message.join_ref, message.ref, message.topic, message.event, message.payload
                )
                # It may well do nothing that could be seen, and what follows must not overtake it.
                with trio.move_on_after(WITHIN):
                    while self.handled == before:  # noqa: ASYNC110 - there is nothing to wait for
                        await trio.sleep(0.001)
            case _:
                pass


def over_tcp(script: Script, expected: Sequence[Scene], **options: Any) -> list[Scene]:
    """Play *script* on the real clock; after each step wait for as much as *expected* tells of."""

    async def scenario() -> list[Scene]:
        stage = TcpStage()
        telemetry.attach("stage", "slipstream.connection.handle", stage.read)
        async with stage.server:
            config = Config(stage.server.url, **_OPTIONS, **options)

            async def rest(look: Callable[[], Scene], number: int) -> None:
                with trio.move_on_after(WITHIN):
                    while look() != expected[number]:  # noqa: ASYNC110 - callbacks are only noted
                        await trio.sleep(0.001)
                if number + 1 == len(expected):
                    await trio.sleep(0.05)  # what is too much has time to show itself

            return await perform(script, stage, config, rest, expected)

    async def bounded() -> list[Scene]:
        with trio.fail_after(60.0):
            return await scenario()

    try:
        return trio.run(bounded)
    finally:
        telemetry.detach("stage")
