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
    """How a client's link is doing; a snapshot. All durations are in seconds.

    Attributes:
        phase: ``"down"``, ``"waiting"``, ``"connecting"`` or ``"open"``.
        connected: whether the connection is open.
        uri: where to, or where the next attempt goes to; without query and userinfo.
        since: for how long the phase has lasted.
        uptime: for how long the connection has been open; 0.0 while it is not.
        generation: attempts so far.
        attempt: failures in a row, as the policy counts them.
        next_attempt_in: until the next attempt may start, while waiting.
        gave_up: why the policy will not have another attempt, once that is so.
        last_disconnect: how the last connection or attempt ended.
        last_error: the error in *last_disconnect*, where it has one.
        last_rtt: between the last heartbeat and its answer.
        topics: each topic with its status.
        over_limit: topics that wait because the server lets one connection join no more.
        inbound: messages and events that lie unread.
        inbound_bytes: what they came in.
        outbound_bytes: what waits to be written.
        queued_pushes: pushes that wait for their topic.
        awaited_replies: pushes whose replies somebody waits for.
        counters: over the client's whole life. ``attempts``, ``connects`` and ``disconnects``;
            ``messages_sent``, ``messages_received``, ``bytes_sent`` and ``bytes_received``; what
            came and was ``discarded``, ``undecodable``, ``dropped`` or ``stale``; presence that was
            malformed or dropped, and so on. One that is not there is 0.
    """

    phase: str
    connected: bool
    uri: str | None
    since: float
    uptime: float
    generation: int
    attempt: int
    next_attempt_in: float | None
    gave_up: str | None
    last_disconnect: DisconnectReason | None
    last_error: BaseException | None
    last_rtt: float | None
    topics: Mapping[str, str]
    over_limit: int
    inbound: int
    inbound_bytes: int
    outbound_bytes: int
    queued_pushes: int
    awaited_replies: int
    counters: Mapping[str, int]

    def as_dict(self) -> dict[str, Any]:
        """Give it in JSON's types, as for the health endpoint of a web server.

        Reasons and errors are told by their type and message; nothing that the server sent is in it.
        """
        plain = attrs.asdict(self, recurse=False)
        plain["topics"], plain["counters"] = dict(self.topics), dict(self.counters)
        plain["last_disconnect"] = _named(self.last_disconnect)
        plain["last_error"] = _named(self.last_error)
        return plain


def _named(what: object) -> str | None:
    if what is None:
        return None
    told = str(what) if isinstance(what, BaseException) else ""
    return f"{type(what).__name__}: {told}" if told else type(what).__name__


def health_of(server: "ClientServer") -> Health:
    """Take a snapshot of how the link of *server* is doing."""
    link, now = server.uplink, trio.current_time()
    is_open = link.phase is Phase.OPEN
    waiting = link.phase is Phase.WAITING and not link.undecided
    connection = link.connection
    reason = link.last_end.reason if link.last_end is not None else None
    return Health(
        phase=link.phase.value,
        connected=is_open,
        uri=safe_uri(link.uri) if link.uri is not None else None,
        since=now - link.since,
        uptime=now - link.opened_at if is_open else 0.0,
        generation=link.generation,
        attempt=link.attempt,
        next_attempt_in=max(0.0, link.not_before - now) if waiting else None,
        gave_up=link.fatal,
        last_disconnect=reason,
        last_error=getattr(reason, "error", None),
        last_rtt=connection.last_rtt if connection is not None else None,
        topics=server.socket.topics,
        over_limit=server.topics.over_limit,
        inbound=link.inbox.count,
        inbound_bytes=link.inbox.bytes,
        outbound_bytes=connection.queued_bytes if connection is not None else 0,
        queued_pushes=server.pushes.queued,
        awaited_replies=len(link.inbox.waiters),
        counters=link.count(),
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
