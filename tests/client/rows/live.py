"""The words of the test kit, said to a ``PhoenixServer`` over TCP in real time."""

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast

import trio

from slipstream import Config, SlipstreamClient, telemetry
from slipstream.errors import ConnectError
from slipstream.interfaces import ConnectRequest, Frame, Message
from slipstream.otp import GenServer, Supervisor, SupervisorRef, open_supervisor
from slipstream.protocol import V2Serializer
from slipstream.testing import (
    Channel,
    ConnectInfo,
    Error,
    Injected,
    Ok,
    PhoenixServer,
    Reject,
    ReplyWith,
    ServerSocket,
    SocketTest,
    Timeline,
    Traffic,
)
from slipstream.testing._recording import recorded
from slipstream.testing._script import Attempt, Script
from slipstream.testing._timeline import Call, End
from slipstream.testing.faults import half_open
from slipstream.transport import ClientClose

__all__ = ["LiveTest", "open_live_test"]

T = TypeVar("T")

WITHIN = 8.0
"""Real seconds after which what did not come does not come."""

_SERIALIZER = V2Serializer(role="server")


class _Decision:
    def __init__(self) -> None:
        self.made = trio.Event()
        self.answer: Ok | Error = Ok()


class Puppet(Channel):
    """A channel that does what the test says: it lets in when told to, and answers nothing by itself."""

    async def join(self, topic: str, payload: Any, socket: ServerSocket, /) -> Ok | Error:
        wire: LiveWire = socket.assigns["wire"]
        decision = wire.decision(topic, self.reply_ref.ref)
        await decision.made.wait()
        return decision.answer


class _Peer:
    """The server's end of one connection."""

    def __init__(self, wire: "LiveWire") -> None:
        self._wire = wire
        self.closed: ClientClose | None = None
        self.answers_close = True

    def send(self, *messages: str | bytes) -> None:
        socket = self._wire.socket
        for message in messages:
            data = message.encode() if isinstance(message, str) else message
            socket._queue(Frame(data, binary=isinstance(message, bytes)))

    def close(self, code: int, reason: str = "") -> None:
        self._wire.socket.close(code, reason)

    def drop(self, error: BaseException | None = None) -> None:
        self._wire.socket.drop()

    def stall_writes(self) -> None:
        """What is not read fills the buffers by itself."""

    def resume_writes(self) -> None:
        """Nothing of its own was held up."""


class LiveWire:
    """One connection over TCP, seen as the kit sees one."""

    def __init__(self, script: "LiveScript", number: int) -> None:
        self.script = script
        self.number = number
        self.open = True
        self.peer = _Peer(self)
        self._decisions: dict[tuple[str, str | None], _Decision] = {}

    @property
    def socket(self) -> ServerSocket:
        return self.script.socket(self.number)

    @property
    def joined(self) -> Mapping[str, str | None]:
        found = {topic: self.socket.channel(topic) for topic in self.socket.topics}
        return {topic: each.reply_ref.join_ref for topic, each in found.items() if each is not None}

    def decision(self, topic: str, ref: str | None) -> _Decision:
        return self._decisions.setdefault((topic, ref), _Decision())

    def decode(self, data: str | bytes) -> Message:
        return _SERIALIZER.decode(data)

    def hear(self, message: Message) -> None:
        """Do nothing: the server does what is to be done."""

    def answer_join(self, join: Message, status: str, response: Any) -> None:
        decision = self.decision(join.topic, join.ref)
        decision.answer = Ok(response) if status == "ok" else Error(response)
        decision.made.set()

    def reply(self, to: Message, status: str, response: Any) -> None:
        self.socket.send_reply(to.join_ref, to.ref, to.topic, ReplyWith(status, response))

    def say(
        self, join_ref: str | None, ref: str | None, topic: str, event: str, payload: Any
    ) -> None:
        self.socket.send(join_ref, ref, topic, event, payload)

    def end_channel(self, topic: str, event: str, payload: Any) -> None:
        if event == "phx_error":
            self.socket.crash_channel(topic, RuntimeError("crashed by the test"))
        else:
            self.script.start_soon(self.socket.stop_channel, topic)


class LiveScript(Script):
    """The server's side: attempts, connections and what came over them, of a ``PhoenixServer``."""

    def __init__(self, timeline: Timeline, routes: Mapping[str, type[Channel]], **serving: Any):
        super().__init__(timeline)
        self.server = PhoenixServer(routes, connect=self._decide, **serving)
        self.server.on_traffic = self._note
        self._sockets: dict[int, ServerSocket] = {}
        self._faults: list[Injected] = []

    def socket(self, number: int) -> ServerSocket:
        return self._sockets[number]

    async def _decide(self, info: ConnectInfo) -> Reject | None:
        query = "&".join(f"{name}={value}" for name, value in info.params.items())
        uri = f"ws://127.0.0.1:{self.server.port}{info.path}?{query}"
        request = ConnectRequest(uri, tuple(info.headers.items()), info.subprotocols)
        attempt = Attempt(request)
        self.attempts.append(attempt)
        self.timeline.note("client", f"connects to {info.path}")
        try:
            await attempt.decided.wait()
        finally:
            if attempt in self.attempts:
                self.attempts.remove(attempt)
        error: Any = attempt.error
        if isinstance(error, ConnectError):
            return Reject(cast("int", error.status), error.body, dict(error.headers))
        wire = LiveWire(self, 0)
        info.assigns["wire"] = wire
        return None

    def _note(self, traffic: Traffic) -> None:
        number = traffic.connection
        match traffic.what:
            case "connected":
                socket = next(each for each in self.server.sockets if each.number == number)
                wire: Any = socket.assigns["wire"]
                wire.number = number
                self._sockets[number] = socket
                self.wires.append(wire)
                self.timeline.note("server", "accepts the connection")
            case "received":
                self._hear(self._wire(number), traffic.detail)
            case "closed":
                wire = self._wire(number)
                wire.open = False
                code = int(traffic.detail)
                wire.peer.closed = ClientClose(
                    None if code == 1006 else code, at=trio.current_time()
                )
                self.timeline.note("wire", f"ended with {code}")
            case _:
                self.timeline.note("server", f"→ {traffic.detail!r}")
        self.timeline.tell()

    def _wire(self, number: int) -> Any:
        return next(wire for wire in self.wires if cast("Any", wire).number == number)

    def stall(self) -> None:
        self._faults += [self.server.inject(half_open(), to="open")]

    def resume(self) -> None:
        for fault in self._faults:
            fault.lift()
        self._faults.clear()


class _Helper(GenServer, shutdown="brutal_kill"):
    """Runs what is to be done beside a test."""

    async def init(self, script: LiveScript, /) -> None:
        script.start_soon = self.start_soon


class LiveTest(SocketTest):
    """A client under test that talks over TCP; all seconds are *scale* real ones.

    What an assertion waits for has time enough in any case. What is refuted is so for as long as
    the test says, and that says less than in the kit: what comes later was not seen.
    """

    def __init__(self, script: LiveScript, *parts: Any, scale: float) -> None:
        super().__init__(script, *parts)
        self.scale = scale

    async def advance(self, seconds: float) -> None:
        await trio.sleep(seconds * self.scale)

    async def wait_for(
        self,
        what: str,
        candidates: Callable[[], Iterable[T]],
        judge: Any,
        within: float,
        **how: Any,
    ) -> T:
        return await super().wait_for(what, candidates, judge, WITHIN, **how)

    async def refute(
        self, what: str, candidates: Callable[[], Iterable[T]], judge: Any, within: float
    ) -> None:
        await trio.sleep(max(0.02, within * self.scale))
        self.check_crashes()
        for candidate in candidates():
            if not judge(candidate):
                raise self.failed(f"expected no such thing: {what}; {candidate!r} came")

    async def accept_connect(self, *args: Any, **how: Any) -> ConnectRequest:
        request = await super().accept_connect(*args, **how)
        with trio.fail_after(WITHIN):
            while not self.socket.connected:  # noqa: ASYNC110 - the socket knows of no event
                await trio.sleep(0.001)
        return request


@asynccontextmanager
async def open_live_test(
    client: type[SlipstreamClient],
    options: Mapping[str, Any],
    *,
    scale: float,
    **serving: Any,
) -> AsyncGenerator[LiveTest]:
    """Run *client* with *options* as its configuration against a server that is told what to do."""
    timeline = Timeline()
    calls, ends = list[Call](), list[End]()
    script = LiveScript(timeline, {"t": Puppet, "t:*": Puppet}, **serving)
    with telemetry.capture_events() as events:
        async with script.server, open_supervisor([_Helper.child_spec(script)]) as root:
            config = Config(script.server.url, **options)
            spec = recorded(client.child_spec(config, id="client"), script, calls, ends)
            under_test = Supervisor.child_spec([spec], id="test", restart="temporary")
            supervisor = cast("SupervisorRef", await root.start_child(under_test))
            test = LiveTest(script, timeline, calls, events, ends, supervisor, scale=scale)
            try:
                yield test
                test.check_crashes()
            except Exception as error:
                test.explain(error)
                raise
            finally:
                script.resume()
