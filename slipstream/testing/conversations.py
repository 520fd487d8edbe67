"""What a Phoenix server says, as a script: steps that are values, and what plays them.

A conversation is a sequence of steps. A step that does not apply just then (an answer where nothing
was asked, the crash of a channel that is not there) says nothing: so whatever the client does, and
whatever is left out of a conversation, it stays one. That is what lets Hypothesis cut a failing
conversation down to the steps that matter; :mod:`slipstream.testing.strategies` draws them.
"""

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, TypeAlias

import attrs
import trio
from trio.testing import wait_all_tasks_blocked

from slipstream.errors import ConnectError, DecodeError, DisconnectedError
from slipstream.interfaces import Message, Payload, Serializer
from slipstream.protocol import V1Serializer, V2Serializer
from slipstream.protocol.messages import (
    HEARTBEAT,
    PHOENIX,
    PHX_CLOSE,
    PHX_ERROR,
    PHX_JOIN,
    PHX_LEAVE,
    PHX_REPLY,
)
from slipstream.transport import MemoryNetwork, MemoryPeer

__all__ = [
    "AnswerAgain",
    "AnswerNext",
    "CloseChannel",
    "CloseConnection",
    "Conversation",
    "CrashChannel",
    "DropConnection",
    "IllegalStep",
    "LegalStep",
    "RefuseConnect",
    "SendBroadcast",
    "SendData",
    "SendMessage",
    "SendPush",
    "Speaker",
    "Step",
    "Wait",
    "play",
]

_UNMATCHED: Final = {"reason": "unmatched topic"}


def _no_response() -> Payload:
    return {}


@attrs.frozen
class AnswerNext:
    """Answer a join, a push or a leave that waits for it: the oldest, or *skip* further on.

    A join that is answered with anything but ``ok`` is refused; a leave is always granted.
    """

    status: str = "ok"
    response: Payload = attrs.field(factory=_no_response)
    skip: int = 0


@attrs.frozen
class AnswerAgain:
    """Answer the last answered push once more, as a channel may."""

    status: str = "ok"
    response: Payload = attrs.field(factory=_no_response)


@attrs.frozen
class SendPush:
    """Push to the client, if it has joined *topic*."""

    topic: str
    event: str
    payload: Payload = attrs.field(factory=_no_response)


@attrs.frozen
class SendBroadcast:
    """Broadcast to *topic*, which reaches the client if it has joined."""

    topic: str
    event: str
    payload: Payload = attrs.field(factory=_no_response)


@attrs.frozen
class CrashChannel:
    """Let the channel of *topic* crash: ``phx_error``."""

    topic: str


@attrs.frozen
class CloseChannel:
    """Let the channel of *topic* stop in an orderly way: ``phx_close``."""

    topic: str


@attrs.frozen
class CloseConnection:
    """Close the connection with *code*."""

    code: int = 1000
    reason: str = ""


@attrs.frozen
class DropConnection:
    """End the connection without a Close."""


@attrs.frozen
class RefuseConnect:
    """Refuse the next connect with the HTTP *status*."""

    status: int = 503


@attrs.frozen
class Wait:
    """Say nothing for so many *seconds*."""

    seconds: float


@attrs.frozen
class SendMessage:
    """Send *message* as it is, whether a server may say it just now or not."""

    message: Message


@attrs.frozen
class SendData:
    """Send *data* as one WebSocket message, text (``str``) or binary, whatever it says."""

    data: str | bytes


LegalStep: TypeAlias = (
    AnswerNext
    | AnswerAgain
    | SendPush
    | SendBroadcast
    | CrashChannel
    | CloseChannel
    | CloseConnection
    | DropConnection
    | RefuseConnect
    | Wait
)
"""What a Phoenix server, and the network before it, may do."""

IllegalStep: TypeAlias = SendMessage | SendData
"""What is not held to Phoenix's rules."""

Step: TypeAlias = LegalStep | IllegalStep

Conversation: TypeAlias = Sequence[Step]
"""Steps, in order; connects that no step refuses are accepted."""


class _Joined:
    """A channel that the client has joined."""

    __slots__ = ("answered", "join_ref", "leaving")

    def __init__(self, join_ref: str | None) -> None:
        self.join_ref = join_ref
        self.leaving = False
        self.answered: Message | None = None


class Speaker:
    """The server's half of one connection, without I/O: hears a client, and speaks as steps say.

    What needs no decision is answered at once: heartbeats, pushes to a topic without a channel. As
    with Phoenix, a join that is not answered yet blocks whatever the client says after it.

    Args:
        serializer: one of the role ``"server"``; by default V2.
    """

    def __init__(self, serializer: Serializer | None = None) -> None:
        self._serializer = serializer or V2Serializer(role="server")
        self._channels: dict[str, _Joined] = {}
        self._asked: list[Message] = []  # pushes and leaves that their channels may answer
        self._unread: deque[Message] = deque()  # a join, and what came behind it

    @property
    def joined(self) -> dict[str, str | None]:
        """The topics that are joined, with their join_refs."""
        return {topic: channel.join_ref for topic, channel in self._channels.items()}

    @property
    def waiting(self) -> list[Message]:
        """What an :class:`AnswerNext` may answer now, oldest first."""
        return [*self._asked, *list(self._unread)[:1]]

    def hear(self, data: str | bytes) -> list[str | bytes]:
        """Take a message of the client's; give what is said to it at once.

        Raises:
            DecodeError: if it is none.
        """
        self._unread.append(self._serializer.decode(data))
        return self._read_on() if len(self._unread) == 1 else []

    def say(self, step: Step) -> list[str | bytes]:
        """Give what *step* says just now: nothing, where it does not apply or is the network's."""
        match step:
            case AnswerNext(status, response, skip):
                waiting = self.waiting
                return self._answer(waiting, skip, status, response) if waiting else []
            case AnswerAgain(status, response):
                answered = [c.answered for c in self._channels.values() if c.answered is not None]
                return [self._reply(answered[-1], status, response)] if answered else []
            case SendPush(topic, event, payload) if topic in self._channels:
                return [self._encode(self._channels[topic].join_ref, None, topic, event, payload)]
            case SendBroadcast(topic, event, payload) if topic in self._channels:
                return [self._encode(None, None, topic, event, payload)]
            case CrashChannel(topic):
                return self._end(topic, PHX_ERROR, {"reason": "channel_crash"})
            case CloseChannel(topic):
                return self._end(topic, PHX_CLOSE, {})
            case SendMessage(message):
                return [self._encode(*map(message.__getattribute__, message.__struct_fields__))]
            case SendData(data):
                return [data]
            case _:
                return []

    def _read_on(self) -> list[str | bytes]:
        said: list[str | bytes] = []
        while self._unread and self._unread[0].event != PHX_JOIN:
            said += self._read(self._unread.popleft())
        return said

    def _read(self, message: Message) -> list[str | bytes]:
        topic, event = message.topic, message.event
        channel = self._channels.get(topic)
        if topic == PHOENIX and event == HEARTBEAT:
            return [self._reply(message, "ok", {})]
        if channel is None and event == PHX_LEAVE:
            return [self._reply(message, "ok", {})]
        if channel is None:
            return [self._reply(message, "error", _UNMATCHED, join_ref=None)]
        # In a binary message an absent join_ref is an empty one, which Phoenix takes for a stale one.
        stale = message.join_ref != channel.join_ref
        lenient = message.join_ref is None and not isinstance(message.payload, bytes)
        if (not stale or lenient) and not channel.leaving:
            channel.leaving = event == PHX_LEAVE
            self._asked.append(message)
        return []

    def _answer(
        self, waiting: list[Message], skip: int, status: str, response: Payload
    ) -> list[str | bytes]:
        at = skip % len(waiting)
        message = waiting[at]
        if at == len(self._asked):
            return self._answer_join(message, status, response)
        del self._asked[at]
        if message.event == PHX_LEAVE:
            return self._let_go(message)
        self._channels[message.topic].answered = message
        return [self._reply(message, status, response)]

    def _answer_join(self, message: Message, status: str, response: Payload) -> list[str | bytes]:
        topic, said = message.topic, list[str | bytes]()
        self._unread.popleft()
        for leave in [m for m in self._asked if m.topic == topic and m.event == PHX_LEAVE]:
            said += self._let_go(
                leave
            )  # before the reply; of a second join the close comes after it
        refusal = "ok" if status == "ok" else "error"
        unmatched = refusal == "error" and response == _UNMATCHED
        join_ref = None if unmatched else message.join_ref
        said.append(self._reply(message, refusal, response, join_ref=join_ref))
        said += self._end(topic, PHX_CLOSE, {})
        if status == "ok":
            self._channels[topic] = _Joined(message.join_ref)
        return said + self._read_on()

    def _let_go(self, leave: Message) -> list[str | bytes]:
        return [self._reply(leave, "ok", {}), *self._end(leave.topic, PHX_CLOSE, {})]

    def _end(self, topic: str, event: str, payload: Payload) -> list[str | bytes]:
        channel = self._channels.pop(topic, None)
        if channel is None:
            return []
        self._asked = [message for message in self._asked if message.topic != topic]
        return [self._encode(channel.join_ref, channel.join_ref, topic, event, payload)]

    def _reply(
        self, to: Message, status: str, response: Payload, **other: str | None
    ) -> str | bytes:
        join_ref = other.get("join_ref", to.join_ref)
        reply = {"response": response, "status": status}
        return self._encode(join_ref, to.ref, to.topic, PHX_REPLY, reply)

    def _encode(self, *fields: Any) -> str | bytes:
        frame = self._serializer.encode(Message(*fields))
        return frame.data if frame.binary else frame.data.decode()


async def play(conversation: Conversation, network: MemoryNetwork) -> None:
    """Be the server of *conversation* to the client that connects to *network*.

    Before each step the client does whatever it can do just then. Steps speak on the newest
    connection that is open. When the last step is done, and the client with it, the play is over:
    connections stay open, but nobody answers any more.

    Meant for a virtual clock: a :class:`Wait` takes as long as it says. Safe to cancel.
    """
    wires: list[_Wire] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_accept, network, wires, nursery)
        for step in conversation:
            await wait_all_tasks_blocked()
            open_ones = [wire for wire in wires if wire.open]
            match step:
                case Wait(seconds):
                    await trio.sleep(seconds)
                case RefuseConnect(status):
                    network.refuse(_refusal(status))
                case _ if open_ones:
                    open_ones[-1].do(step)
                case _:
                    pass
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


def _refusal(status: int) -> ConnectError:
    said = f"the server answered HTTP {status}"
    return ConnectError(said, step="upgrade", status=status)


async def _accept(network: MemoryNetwork, wires: list["_Wire"], nursery: trio.Nursery) -> None:
    while True:
        wire = _Wire(await network.accept(within=float("inf")))
        wires.append(wire)
        nursery.start_soon(wire.listen)


class _Wire:
    """One connection of a play."""

    def __init__(self, peer: MemoryPeer) -> None:
        self._peer = peer
        # No vsn is V1's, for Phoenix.
        second = "vsn=2." in peer.request.uri
        serializer = V2Serializer(role="server") if second else V1Serializer(role="server")
        self._speaker = Speaker(serializer)
        self.open = True

    async def listen(self) -> None:
        """Hear the client out, until the connection ends."""
        with suppress(DisconnectedError):
            while True:
                for frame in await self._peer.receive():
                    self._hear(frame.data if frame.binary else frame.data.decode())
        self.open = False

    def _hear(self, data: str | bytes) -> None:
        try:
            said = self._speaker.hear(data)
        except DecodeError:
            self.do(CloseConnection(1011))  # as where Phoenix's transport process raises
        else:
            self._send(said)

    def do(self, step: Step) -> None:
        """Do *step* on this connection."""
        match step:
            case CloseConnection(code, reason):
                self.open = False
                self._peer.close(code, reason)
            case DropConnection():
                self.open = False
                self._peer.drop()
            case _:
                self._send(self._speaker.say(step))

    def _send(self, said: list[str | bytes]) -> None:
        if said and self.open:
            with suppress(DisconnectedError):  # the client has gone just now
                self._peer.send(*said)
