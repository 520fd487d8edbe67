"""Which callback a message is for: presence, a route, a batch, or the one for all others."""

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from slipstream.connection import Link
from slipstream.errors import DecodeError, RemoteProtocolError
from slipstream.interfaces import Message
from slipstream.otp import GenServer
from slipstream.presence import PresenceDiff
from slipstream.protocol import convert

from ._presence import Presences
from ._socket import Socket
from ._topic import TopicStatus
from ._topics import Topics

if TYPE_CHECKING:  # a cycle by nature, as in the module of the process itself
    from ._client import SlipstreamClient

__all__ = ["Dispatcher"]

_JOINED: Final = TopicStatus.JOINED
# Looking a member up in its enum takes longer than all the rest.


_Called: TypeAlias = tuple[str, str | None, Coroutine[Any, Any, Any]]
"""The name of a callback, the topic that it is about, and itself, to be awaited."""


class Dispatcher(GenServer):
    """The part of a client's process that finds the callback of a message."""

    client: "SlipstreamClient"
    socket: Socket
    uplink: Link
    topics: Topics
    presences: Presences

    def is_current(self, message: Message) -> bool:
        """Tell whether *message* belongs to the topic as it is joined now."""
        raise NotImplementedError

    def _message(self, message: Message) -> _Called | None:
        """Call the callback that *message* is for, without awaiting it."""
        topics, topic = self.topics, message.topic
        known = topics.by_name.get(topic)
        if (
            known is None or known.status is not _JOINED or message.join_ref is not None
        ) and not self.is_current(message):
            self.uplink.counters["stale"] += 1
            return None
        if topics.watches:
            topics.see(message)
        if message.event in self.presences.events:
            try:
                diff = self.presences.follow(message)
            except RemoteProtocolError:
                pass  # it goes on as the ordinary message that it may be
            else:
                return self._presence(topic, diff)
        client = self.client
        routes = client.routes
        found = None if routes.empty else routes.find(topic, message.event)
        if found is None:
            if client.wants_batches:
                batch = [message, *self._following()]
                return "handle_messages", None, client.handle_messages(batch, self.socket)
            callback = client.handle_message(topic, message.event, message.payload, self.socket)
            return "handle_message", topic, callback
        route, captures = found
        payload, misfit = message.payload, None
        if route.typed:
            try:
                payload = convert(payload, route.payload, "payload")
            except DecodeError as error:
                misfit = error
        if misfit is not None:
            return self._bad_payload(message, misfit)
        names = (message.event, payload) if route.wants_event else (payload,)
        method = getattr(client, route.method)
        callback = method(topic, *names, self.socket, **captures)
        return route.method, topic, callback

    def _following(self) -> list[Message]:
        """Take the messages that wait at the head of the mailbox and that no route takes."""
        routes, inbox = self.client.routes, self.uplink.inbox
        presence = self.presences.events

        def goes_along(item: Any) -> bool:
            return (
                type(item) is Message
                and item.event not in presence
                and (routes.empty or routes.find(item.topic, item.event) is None)
            )

        run: list[Message] = self.mailbox.take_run(goes_along)
        for message in run:
            inbox.taken(message)
        current = [message for message in run if self.is_current(message)]
        self.uplink.counters["stale"] += len(run) - len(current)
        if self.topics.watches:
            for message in current:
                self.topics.see(message)
        return current

    def _bad_payload(self, message: Message, error: DecodeError) -> _Called:
        topic, event, payload = message.topic, message.event, message.payload
        self.uplink.counters["bad_payloads"] += 1
        self._execute("slipstream.client.bad_payload", topic=topic, event=event, error=error)
        callback = self.client.handle_bad_payload(topic, event, payload, error, self.socket)
        return "handle_bad_payload", topic, callback

    def _presence(self, topic: str, diff: PresenceDiff | None) -> _Called | None:
        if diff is None:
            return None
        return "handle_presence", topic, self.client.handle_presence(topic, diff, self.socket)

    def _execute(self, event: str, /, **metadata: Any) -> None:
        raise NotImplementedError
