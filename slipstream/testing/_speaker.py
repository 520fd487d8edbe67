"""The server's half of one connection, which speaks as the steps of a conversation say."""

from collections import deque
from typing import Any, Final

from slipstream.interfaces import Message, Payload, Serializer
from slipstream.protocol import V2Serializer
from slipstream.protocol.messages import (
    HEARTBEAT,
    PHOENIX,
    PHX_CLOSE,
    PHX_ERROR,
    PHX_JOIN,
    PHX_LEAVE,
    PHX_REPLY,
)

from ._steps import (
    AnswerAgain,
    AnswerNext,
    CloseChannel,
    CrashChannel,
    SendBroadcast,
    SendData,
    SendMessage,
    SendPush,
    Step,
)

__all__ = ["Speaker"]

_UNMATCHED: Final = {"reason": "unmatched topic"}


class _Joined:
    """A channel that the client has joined."""

    __slots__ = ("join_ref", "leaving")

    def __init__(self, join_ref: str | None) -> None:
        self.join_ref = join_ref
        self.leaving = False


class Speaker:
    """The server's half of one connection, without I/O: hears a client, and speaks as steps say.

    What needs no decision is answered at once: heartbeats, pushes to a topic without a channel. As
    with Phoenix, a join that is not answered yet blocks whatever the client says after it.

    Args:
        serializer: one of the role ``"server"``; by default V2.

    Attributes:
        heard: what the client has said, as far as it was read.
    """

    def __init__(self, serializer: Serializer | None = None) -> None:
        self.heard: list[Message] = []
        self._serializer = serializer or V2Serializer(role="server")
        self._channels: dict[str, _Joined] = {}
        self._asked: list[Message] = []  # pushes and leaves that their channels may answer
        self._unread: deque[Message] = deque()  # a join, and what came behind it
        self._answered: Message | None = None
        self._replaced: list[_Joined] = []  # the channel that the join that waits has ended

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
                answered = self._answered
                return [] if answered is None else [self._reply(answered, status, response)]
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
        while self._unread:
            self.heard.append(self._unread[0])
            if self._unread[0].event == PHX_JOIN:
                return said + self._make_room(self._unread[0].topic)
            said += self._read(self._unread.popleft())
        return said

    def _make_room(self, topic: str) -> list[str | bytes]:
        leaves = [m for m in self._asked if m.topic == topic and m.event == PHX_LEAVE]
        said = [data for leave in leaves for data in self._let_go(leave)]
        self._replaced += self._remove(topic)
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
        self._answered = message
        return [self._reply(message, status, response)]

    def _answer_join(self, message: Message, status: str, response: Payload) -> list[str | bytes]:
        self._unread.popleft()
        refused = status != "ok"
        join_ref = None if refused and response == _UNMATCHED else message.join_ref
        reply = self._reply(message, "error" if refused else "ok", response, join_ref=join_ref)
        # A second join ends the first at once, and yet its close comes after the new reply.
        ended = [self._ended(message.topic, old, PHX_CLOSE, {}) for old in self._replaced]
        self._replaced.clear()
        if not refused:
            self._channels[message.topic] = _Joined(message.join_ref)
        return [reply, *ended, *self._read_on()]

    def _let_go(self, leave: Message) -> list[str | bytes]:
        return [self._reply(leave, "ok", {}), *self._end(leave.topic, PHX_CLOSE, {})]

    def _end(self, topic: str, event: str, payload: Payload) -> list[str | bytes]:
        return [self._ended(topic, channel, event, payload) for channel in self._remove(topic)]

    def _remove(self, topic: str) -> list[_Joined]:
        channel = self._channels.pop(topic, None)
        if channel is None:
            return []
        self._asked = [message for message in self._asked if message.topic != topic]
        if self._answered is not None and self._answered.topic == topic:
            self._answered = None
        return [channel]

    def _ended(self, topic: str, channel: _Joined, event: str, payload: Payload) -> str | bytes:
        return self._encode(channel.join_ref, channel.join_ref, topic, event, payload)

    def _reply(
        self, to: Message, status: str, response: Payload, **other: str | None
    ) -> str | bytes:
        join_ref = other.get("join_ref", to.join_ref)
        reply = {"response": response, "status": status}
        return self._encode(join_ref, to.ref, to.topic, PHX_REPLY, reply)

    def _encode(self, *fields: Any) -> str | bytes:
        frame = self._serializer.encode(Message(*fields))
        return frame.data if frame.binary else frame.data.decode()
