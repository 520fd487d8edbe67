"""Presence in a client: which messages are it, and what is made of one that is malformed."""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, TypeAlias

from slipstream import telemetry
from slipstream.errors import CallbackSignatureError, LocalProtocolError, RemoteProtocolError
from slipstream.interfaces import Message
from slipstream.presence import Presence, PresenceDiff, PresenceState

if TYPE_CHECKING:  # a cycle by nature: the server has it, it looks at the server
    from ._server import ClientServer

__all__ = ["PresenceEvents", "Presences", "check_presence_events"]

logger: Final = logging.getLogger("slipstream.client")

PresenceEvents: TypeAlias = tuple[str, str]
"""The names of the events that bring the state and the diffs."""


def check_presence_events(owner: type[object], events: object) -> None:
    """Check the names that a client class gives.

    Raises:
        CallbackSignatureError: if they are not two names that differ.
    """
    match events:
        case (str(state), str(diff)) if state and diff and state != diff:
            return
        case _:
            raise CallbackSignatureError(
                f"{owner.__qualname__}.presence_events is {events!r}; accepted are two names that "
                "differ, of the state and of the diffs"
            )


class Presences:
    """What one client knows of who is there: on each topic that is not closed, a state."""

    def __init__(self, server: "ClientServer") -> None:
        kind = type(server.client)
        self._server = server
        self._states = server.topics.presences
        self._state_event, self._diff_event = kind.presence_events
        # None of them where handle_presence is not overridden: presence is messages then.
        self.events = kind.presence_events if kind.wants_presence else ()
        self._warned_of: set[str] = set()

    def of(self, topic: str) -> Mapping[str, Presence]:
        """Give who is there on *topic*: a snapshot.

        Raises:
            LocalProtocolError: if nobody keeps it, since ``handle_presence`` is not overridden.
        """
        if not self.events:
            raise LocalProtocolError(
                f"{type(self._server.client).__qualname__} does not override handle_presence, so "
                "presence comes as messages and is not kept: override it, or keep a "
                "slipstream.presence.PresenceState"
            )
        state = self._states.get(topic)
        return {} if state is None else state.presences

    def follow(self, message: Message) -> PresenceDiff | None:
        """Follow a message that is one of the events; ``None`` where it has to wait for its state.

        Raises:
            RemoteProtocolError: if it is malformed; it is counted, and the first is warned of.
        """
        topic = self._server.topics.get(message.topic)
        join_ref = topic.join_ref if topic is not None else None
        state = self._states.setdefault(message.topic, PresenceState())
        try:
            if message.event == self._state_event:
                return state.sync_state(message.payload, join_ref=join_ref)
            dropped = state.dropped
            diff = state.sync_diff(message.payload, join_ref=join_ref)
        except RemoteProtocolError as error:
            self._warn_of_malformed(message, error)
            raise
        if state.dropped > dropped:
            self._warn_of_stateless(message, state)
        return diff

    def _warn_of_malformed(self, message: Message, error: RemoteProtocolError) -> None:
        self._server.uplink.counters["malformed_presence"] += 1
        if telemetry.attached("slipstream.client.malformed_presence"):
            telemetry.execute(
                "slipstream.client.malformed_presence",
                client=str(self._server.ref),
                topic=message.topic,
                event=message.event,
                error=error,
            )
        if "malformed" not in self._warned_of:
            self._warned_of.add("malformed")
            logger.warning(
                "%s: a malformed %r on %r is handled like any other message, as all that follow: %s",
                self._server.ref, message.event, message.topic, error,
            )  # fmt: skip

    def _warn_of_stateless(self, message: Message, state: PresenceState) -> None:
        self._server.uplink.counters["dropped_presence"] += 1
        if "stateless" not in self._warned_of:
            self._warned_of.add("stateless")
            logger.warning(
                "%s: %d messages %r on %r, and no %r before them: does the channel push one after "
                "the join? The oldest are dropped",
                self._server.ref, state.pending, message.event, message.topic, self._state_event,
            )  # fmt: skip
