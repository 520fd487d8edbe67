"""Which callback a message is for: presence, a route, a batch, or the one for all others."""

from collections.abc import Coroutine
from typing import Any, Final, TypeAlias

from slipstream import telemetry
from slipstream.errors import DecodeError, LinkError, RemoteProtocolError
from slipstream.interfaces import Message
from slipstream.presence import PresenceDiff
from slipstream.protocol import convert

from ._callbacks import EVENTS, CallbackRunner
from ._presence import Presences
from ._topic import TopicStatus
from ._topics import Topics

__all__ = ["Dispatcher"]

_JOINED: Final = TopicStatus.JOINED
# Looking a member up in its enum takes longer than all the rest.


_Called: TypeAlias = tuple[str, str | None, Coroutine[Any, Any, Any]]
"""The name of a callback, the topic that it is about, and itself, to be awaited."""


class Dispatcher(CallbackRunner):
    """The part of a client's process that finds the callback of a message."""

    topics: Topics
    presences: Presences

    def is_current(self, message: Message) -> bool:
        """Tell whether *message* belongs to the present join of its topic."""
        topic = self.topics.get(message.topic)
        if topic is None:
            return False
        if message.join_ref is None:
            return topic.status is _JOINED
        live = topic.status is _JOINED or topic.status is TopicStatus.LEAVING
        # A join that was left before it was let in has no messages: nobody was told of it.
        return live and topic.confirmed and message.join_ref == topic.join_ref

    async def run(self, message: Message | None) -> Any:
        """Hand *message* to its callback, and those right after it, for as long as none has a result.

        Most of what a message costs is what is round its callback; so a run of them shares that.
        """
        link, follow_up = self.uplink, self._process.follow_up
        taken = link.inbox.message_taken
        result = None
        while message is not None and result is None:
            taken()
            called = self._message(message)
            if called is not None:
                name, topic, callback = called
                try:
                    if self.is_watched or telemetry.attached(EVENTS[name]):
                        callback = self.told(name, callback, topic)
                    result = await callback
                    if result is not None:
                        result = self.checked(name, result)
                except (LinkError, BaseExceptionGroup) as error:
                    self.ended_early(name, error)
                if link.fatal is not None:
                    return await self.or_gave_up(result)
            message = None if result is not None else follow_up(Message)
        return result

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
        client = self.client
        if client.is_plain:
            callback = client.handle_message(topic, message.event, message.payload, self.socket)
            return "handle_message", topic, callback
        if message.event in self.presences.events:
            try:
                diff = self.presences.follow(message)
            except RemoteProtocolError:
                pass  # it goes on as the ordinary message that it may be
            else:
                return self._presence(topic, diff)
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
        self.execute("slipstream.client.bad_payload", topic=topic, event=event, error=error)
        callback = self.client.handle_bad_payload(topic, event, payload, error, self.socket)
        return "handle_bad_payload", topic, callback

    def _presence(self, topic: str, diff: PresenceDiff | None) -> _Called | None:
        if diff is None:
            return None
        return "handle_presence", topic, self.client.handle_presence(topic, diff, self.socket)
