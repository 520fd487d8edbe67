"""The server of a test: the test itself says what it answers, frame by frame."""

import math
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import attrs
import trio

from slipstream.errors import ConnectError, DecodeError, DisconnectedError
from slipstream.interfaces import ConnectRequest, Message, Serializer, Transport
from slipstream.otp import GenServer
from slipstream.protocol import V1Serializer, V2Serializer
from slipstream.protocol.messages import (
    HEARTBEAT,
    PHOENIX,
    PHX_CLOSE,
    PHX_JOIN,
    PHX_LEAVE,
    PHX_REPLY,
)
from slipstream.transport import MemoryNetwork, MemoryPeer

from ._timeline import Timeline

__all__ = ["Attempt", "Heard", "Listener", "Script", "Wire"]


class Attempt:
    """A connect that the test has yet to decide on.

    Attributes:
        request: what the client connects with.
        decided: set once it has been.
        error: why it fails, if it does.
    """

    def __init__(self, request: ConnectRequest) -> None:
        self.request = request
        self.decided = trio.Event()
        self.error: ConnectError | None = None


@attrs.frozen(eq=False)
class Heard:
    """A message of the client's, on one connection, *at* that moment."""

    message: Message
    wire: "Wire"
    at: float

    @property
    def kind(self) -> str:
        """What it is: ``"join"``, ``"leave"``, ``"heartbeat"`` or ``"push"``."""
        if self.message.topic == PHOENIX and self.message.event == HEARTBEAT:
            return "heartbeat"
        return {PHX_JOIN: "join", PHX_LEAVE: "leave"}.get(self.message.event, "push")


class Wire:
    """One connection, seen from the server; what a Phoenix server does by itself, it does by itself.

    It answers heartbeats and leaves, and refuses a push that no channel takes. A join is for the test
    to answer, and what the client sends to that topic behind it waits until then.

    Attributes:
        peer: the server's end of the network.
        open: whether neither side has ended it.
        joined: the join_ref of each topic that is joined.
    """

    def __init__(
        self, peer: MemoryPeer, timeline: Timeline, serializer: Serializer | None = None
    ) -> None:
        self.peer = peer
        self.open = True
        self.joined: dict[str, str | None] = {}
        self._waiting: dict[str, list[Message]] = {}  # joins that have not been answered
        self._hung: set[str] = set()  # topics whose channels answer nothing now
        self._held: dict[str, list[Message]] = {}  # what came behind either
        self._timeline = timeline
        # No vsn is V1's, as for Phoenix.
        second = "vsn=2." in peer.request.uri
        usual = V2Serializer if second else V1Serializer
        self._serializer = serializer or usual(role="server")

    def say(
        self, join_ref: str | None, ref: str | None, topic: str, event: str, payload: Any
    ) -> None:
        """Send one message; a connection that has ended loses it."""
        message = Message(join_ref, ref, topic, event, payload)
        self._timeline.note("server", f"→ {message_text(message)}")
        self._timeline.watcher.said(self, message)
        with suppress(DisconnectedError):
            self.peer.send(self.encode(message))

    def encode(self, message: Message) -> str | bytes:
        """Write *message* as a server puts it on the wire."""
        frame = self._serializer.encode(message)
        return frame.data if frame.binary else frame.data.decode()

    def reply(self, to: Message, status: str, response: Any) -> None:
        """Answer *to*, a message of the client's."""
        payload = {"response": response, "status": status}
        self.say(to.join_ref, to.ref, to.topic, PHX_REPLY, payload)

    def decode(self, data: str | bytes) -> Message:
        """Read what the client has sent."""
        return self._serializer.decode(data)

    def hear(self, message: Message) -> None:
        """Do what a server does upon *message* without being told."""
        topic = message.topic
        if topic == PHOENIX and message.event == HEARTBEAT:
            self.reply(message, "ok", {})
        elif message.event == PHX_JOIN:
            self._waiting.setdefault(topic, []).append(message)
        elif topic in self._waiting or topic in self._hung:
            self._held.setdefault(topic, []).append(message)
        else:
            self._react(message)

    def answer_join(self, join: Message, status: str, response: Any) -> None:
        """Let the client into a topic, with the *status* ``"ok"``, or refuse it."""
        topic = join.topic
        old = self.joined.pop(topic, None)
        if status == "ok":
            self.joined[topic] = join.join_ref
        self.reply(join, status, response)
        if old is not None:
            # A second join ends the first at once, and yet its close comes after the new reply.
            self.say(old, old, topic, PHX_CLOSE, {})
        self._waiting[topic].remove(join)
        if not self._waiting[topic]:
            del self._waiting[topic]
            self._go_on(topic)

    def hang_channel(self, topic: str) -> None:
        """Let the channel of *topic* answer nothing, until :meth:`resume`."""
        self._hung.add(topic)

    def resume(self) -> None:
        """Let channels answer again what came meanwhile, and whatever the client writes through."""
        hung, self._hung = self._hung, set()
        for topic in hung:
            self._go_on(topic)
        self.peer.answers_close = True
        self.peer.resume_writes()

    def _go_on(self, topic: str) -> None:
        if topic not in self._waiting and topic not in self._hung:
            for message in self._held.pop(topic, []):
                self._react(message)

    def end_channel(self, topic: str, event: str, payload: Any) -> None:
        """End the channel of *topic*, by ``phx_close`` or ``phx_error``."""
        join_ref = self.joined.pop(topic)
        if topic in self._hung:  # what it has not taken goes with it
            self._hung.remove(topic)
            self._held.pop(topic, None)
        self.say(join_ref, join_ref, topic, event, payload)

    def _react(self, message: Message) -> None:
        topic, leaves = message.topic, message.event == PHX_LEAVE
        if topic not in self.joined:
            if leaves:
                self.reply(message, "ok", {})
            else:
                unmatched = {"response": {"reason": "unmatched topic"}, "status": "error"}
                self.say(None, message.ref, topic, PHX_REPLY, unmatched)
        elif leaves and self.joined[topic] == message.join_ref:
            self.reply(message, "ok", {})
            self.end_channel(topic, PHX_CLOSE, {})


class Script:
    """The server's side: attempts, connections and what came over them.

    Attributes:
        requests: the connects so far.
        attempts: those that wait for a decision.
        wires: the connections so far.
        sent: what the client has sent, and the server has read.
        heard: what of it nobody has asserted yet, but for heartbeats, which would be most of it.
        beats: the heartbeats that nobody has asserted yet.
        stalled: whether the server reads nothing.
        start_soon: runs a task beside the test.
    """

    start_soon: Callable[..., None]

    def __init__(self, timeline: Timeline, serializer: Serializer | None = None) -> None:
        self.timeline = timeline
        self._serializer = serializer
        self.network = MemoryNetwork()
        self.requests: list[ConnectRequest] = []
        self.attempts: list[Attempt] = []
        self.wires: list[Wire] = []
        self.sent: list[Heard] = []
        self.heard: list[Heard] = []
        self.beats: list[Heard] = []
        self.stalled = False
        self._unread: list[tuple[Wire, str | bytes]] = []

    @asynccontextmanager
    async def open_transport(
        self, request: ConnectRequest, /, *, on_written: Callable[[Sequence[Any]], None]
    ) -> AsyncGenerator[Transport]:
        """Connect, once the test has decided on it."""
        attempt = Attempt(request)
        self.requests.append(request)
        self.attempts.append(attempt)
        self.timeline.note("client", f"connects to {request.uri.split('?')[0]}")
        self.timeline.watcher.attempted(attempt)
        try:
            with trio.move_on_after(request.connect_timeout):
                await attempt.decided.wait()
        finally:
            if attempt in self.attempts:
                self.attempts.remove(attempt)
            if not attempt.decided.is_set() or attempt.error is not None:
                self.timeline.watcher.attempt_failed(attempt)
        if not attempt.decided.is_set():
            seconds = request.connect_timeout
            raise ConnectError(
                f"no connection within connect_timeout, {seconds:g} s: the server never answered",
                step="upgrade",
                seconds=seconds,
            )
        if attempt.error is not None:
            raise attempt.error
        async with self.network.open_transport(request, on_written=on_written) as transport:
            yield transport

    async def accept(self) -> Wire:
        """Wait for a connection that the test lets come about."""
        peer = await self.network.accept(within=math.inf)
        wire = Wire(peer, self.timeline, self._serializer)
        wire.peer.answers_close = not self.stalled
        self.wires.append(wire)
        self.timeline.watcher.opened(wire)
        self.timeline.tell()
        return wire

    async def hear_out(self, wire: Wire) -> None:
        """Hear whatever comes over *wire*, until it ends."""
        with suppress(DisconnectedError):
            while True:
                for frame in await wire.peer.receive():
                    self._hear(wire, frame.data if frame.binary else frame.data.decode())
        if not wire.open:
            return  # the server has ended it
        wire.open = False
        closed = wire.peer.closed
        how = "without a close" if closed is None or closed.code is None else f"with {closed.code}"
        self.timeline.note("wire", f"ended by the client, {how}")
        self.timeline.watcher.closed(wire)

    def _hear(self, wire: Wire, data: str | bytes) -> None:
        if self.stalled:
            self._unread.append((wire, data))
            return
        try:
            message = wire.decode(data)
        except DecodeError as error:
            self.timeline.note("client", f"sent what is no message: {error}")
            wire.peer.close(1011)  # as Phoenix does
            return
        self.timeline.note("client", f"→ {message_text(message)}")
        self.timeline.watcher.heard(wire, message)
        heard = Heard(message, wire, trio.current_time())
        self.sent.append(heard)
        self.unasserted(heard.kind).append(heard)
        wire.hear(message)

    def unasserted(self, kind: str) -> list[Heard]:
        """Give the list that messages of the client's of that *kind* are in until they are asserted."""
        return self.beats if kind == "heartbeat" else self.heard

    def stall(self) -> None:
        """Read nothing, and so answer nothing, not even a Close."""
        self.stalled = True
        self.timeline.watcher.stalled()
        for wire in self.wires:
            wire.peer.answers_close = False

    def resume(self) -> None:
        """Read again, what was sent meanwhile first."""
        self.stalled = False
        unread, self._unread = self._unread, []
        for wire, data in unread:
            self._hear(wire, data)
        for wire in self.wires:
            wire.resume()

    def wire(self) -> Wire | None:
        """Give the newest connection that is open."""
        return next((wire for wire in reversed(self.wires) if wire.open), None)


class Listener(GenServer, restart="temporary", shutdown="brutal_kill"):
    """Accepts connections and hears what comes over them."""

    async def init(self, script: Script) -> None:
        """Begin with it."""
        self._script = script
        script.start_soon = self.start_soon
        self.start_soon(self._accept)

    async def _accept(self) -> None:
        while True:
            self.start_soon(self._script.hear_out, await self._script.accept())


def message_text(message: Message) -> str:
    """Write *message* on a line."""
    refs = f"join_ref={message.join_ref} ref={message.ref}"
    return f"{message.topic} {message.event} {message.payload!r} ({refs})"
