"""What a client looks like from outside: a snapshot of its link, and what reports may show."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs
import trio

from slipstream.config import safe_uri
from slipstream.connection import Phase
from slipstream.errors import JoinError, TopicClosedError
from slipstream.interfaces import Message
from slipstream.protocol import ReplyReceived, TopicClosed, TopicJoined, TopicJoinFailed
from slipstream.reasons import DisconnectReason

if TYPE_CHECKING:  # a cycle by nature: the server is what is looked at
    from ._server import ClientServer

__all__ = ["Health", "health_of", "without_payload"]


@attrs.frozen
class Health:
    """How a client's link is doing; a snapshot.

    Attributes:
        phase: ``"down"``, ``"waiting"``, ``"connecting"`` or ``"open"``.
        connected: whether the connection is open.
        uri: where to, or where the next attempt goes to; without query and userinfo.
        gave_up: why the policy gave up, where it did.
        uptime: seconds since it opened; 0.0 while it is not.
        generation: attempts so far.
        attempt: failures in a row, as the policy counts them.
        next_attempt_in: seconds until the next attempt may start, while waiting.
        last_disconnect: how the last connection or attempt ended.
        last_rtt: seconds between the last heartbeat and its answer.
        topics: each topic with its status.
        over_limit: topics that wait because the server lets one connection join no more.
        inbound: messages and events that lie unread.
        queued_pushes: pushes that wait for their topic.
        counters: frames discarded, undecodable, dropped, stale; presence malformed or dropped.
    """

    phase: str
    connected: bool
    uri: str | None
    gave_up: str | None
    uptime: float
    generation: int
    attempt: int
    next_attempt_in: float | None
    last_disconnect: DisconnectReason | None
    last_rtt: float | None
    topics: Mapping[str, str]
    over_limit: int
    inbound: int
    queued_pushes: int
    counters: Mapping[str, int]


def health_of(server: "ClientServer") -> Health:
    """Take a snapshot of how the link of *server* is doing."""
    link, now = server.uplink, trio.current_time()
    is_open = link.phase is Phase.OPEN
    waiting = link.phase is Phase.WAITING and not link.undecided
    return Health(
        phase=link.phase.value,
        connected=is_open,
        uri=safe_uri(link.uri) if link.uri is not None else None,
        gave_up=link.fatal,
        uptime=now - link.opened_at if is_open else 0.0,
        generation=link.generation,
        attempt=link.attempt,
        next_attempt_in=max(0.0, link.not_before - now) if waiting else None,
        last_disconnect=link.last_end.reason if link.last_end is not None else None,
        last_rtt=link.connection.last_rtt if link.connection is not None else None,
        topics=server.socket.topics,
        over_limit=server.topics.over_limit,
        inbound=link.inbox.count,
        queued_pushes=server.pushes.queued,
        counters=dict(link.counters),
    )


def without_payload(shown: Any) -> Any:
    """Give *shown*, a message, an event or an error, without what the server sent in it."""
    match shown:
        case Message(topic=topic, event=event):
            return f"<Message {event!r} on {topic!r}>"
        case ReplyReceived(ref=ref, topic=topic):
            return f"<reply to push {ref} on {topic!r}>"
        case TopicJoined(topic=topic) | TopicJoinFailed(topic=topic) | TopicClosed(topic=topic):
            return f"<{type(shown).__name__} {topic!r}>"
        case JoinError(topic=topic, reason=reason) | TopicClosedError(topic=topic, reason=reason):
            return f"{type(shown).__name__}: {topic!r}, {type(reason).__name__}"
        case _:
            return shown
