"""Which callback a message is for: presence, a route, a batch, or the one for all others."""

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from slipstream.connection import Link
from slipstream.errors import DecodeError, RemoteProtocolError
from slipstream.interfaces import Message
from slipstream.otp import GenServer
from slipstream.presence import PresenceDiff
from slipstream.protocol import convert

from ._presence import Presences
from ._socket import Socket
from ._topics import Topics

if TYPE_CHECKING:  # a cycle by nature, as in the module of the process itself
    from ._client import SlipstreamClient

__all__ = ["Dispatcher"]


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

    def _message(self, message: Message) -> Coroutine[Any, Any, Any] | None:
        """Call the callback that *message* is for, without awaiting it."""
        if not self.is_current(message):
            self.uplink.counters["stale"] += 1
            return None
        if self.topics.watches:
            self.topics.see(message)
        if message.event in self.presences.events:
            try:
                diff = self.presences.follow(message)
            except RemoteProtocolError:
                pass  # it goes on as the ordinary message that it may be
            else:
                return self._presence(message.topic, diff)
        client = self.client
        routes = client.routes
        found = None if routes.empty else routes.find(message.topic, message.event)
        if found is None:
            if client.wants_batches:
                batch = [message, *self._following()]
                return self._call("handle_messages", batch, self.socket)
            callback = client.handle_message(
                message.topic, message.event, message.payload, self.socket
            )
            return self._guard("handle_message", callback)
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
        return self._guard(route.method, method(message.topic, *names, self.socket, **captures))

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

    def _bad_payload(self, message: Message, error: DecodeError) -> Coroutine[Any, Any, Any]:
        topic, event, payload = message.topic, message.event, message.payload
        self.uplink.counters["bad_payloads"] += 1
        self._execute("slipstream.client.bad_payload", topic=topic, event=event, error=error)
        return self._call("handle_bad_payload", topic, event, payload, error, self.socket)

    async def _presence(self, topic: str, diff: PresenceDiff | None) -> Any:
        if diff is None:
            return None
        return await self._call("handle_presence", topic, diff, self.socket)

    def _call(self, name: str, *args: Any, raises: bool = False) -> Coroutine[Any, Any, Any]:
        raise NotImplementedError

    def _guard(
        self, name: str, callback: Coroutine[Any, Any, Any], *, raises: bool = False
    ) -> Coroutine[Any, Any, Any]:
        raise NotImplementedError

    def _execute(self, event: str, /, **metadata: Any) -> None:
        raise NotImplementedError
