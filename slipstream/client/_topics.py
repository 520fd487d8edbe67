"""The topics that a client wants, and what has become of them: they outlive connections.

The states here follow the events as the client handles them, and so lag behind those of the wire
by what lies unread. That is what makes them a fence: a message that was read before a rejoin finds
its topic not joined, and is dropped.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, Final, Protocol

import trio

from slipstream import telemetry
from slipstream.config import is_over_limit
from slipstream.connection import ConnectionEnded, Link, Phase, provide
from slipstream.errors import (
    ConfigError,
    ConnectError,
    DisconnectedError,
    EncodeError,
    LocalProtocolError,
    NotJoinedError,
    WrongTaskError,
)
from slipstream.interfaces import Fatal, JoinContext, Message, Retry, Verdict
from slipstream.presence import PresenceState
from slipstream.protocol import (
    JoinTopic,
    LeaveTopic,
    TopicClosed,
    TopicJoined,
    TopicJoinFailed,
    TopicLeft,
    TopicState,
)
from slipstream.reasons import DisconnectReason, JoinFailed, TopicCloseReason

from ._resume import check_provider, with_context
from ._topic import Alarm, Topic, TopicStatus

__all__ = ["Host", "Topics"]

logger: Final = logging.getLogger("slipstream.client")

_CLOSED_LIMIT = 1024


class Host(Protocol):
    """What topics and pushes need of the client that they belong to."""

    uplink: Link

    def call_at(self, when: float, function: Callable[[], None], /) -> Alarm:
        """Call *function* at *when*, on trio's clock, unless the client is ending by then."""
        ...

    def start_soon(self, function: Callable[..., Any], /, *args: Any) -> None:
        """Run a helper task of the client."""
        ...

    def post(self, *events: Any) -> None:
        """Let the client handle *events* as if the network had brought them."""
        ...

    def runs_here(self) -> bool:
        """Tell whether this is the task that runs the callbacks."""
        ...

    def topic_ended(self, topic: str, reason: TopicCloseReason | None) -> None:
        """Note that *topic* is not wanted, or not to be had, any more."""
        ...


class Topics:
    """The topics of one client."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._topics = self.by_name = dict[str, Topic]()
        # Topics that were left or lost keep their params for a later rejoin; not without number.
        self._closed: OrderedDict[str, None] = OrderedDict()
        self._next_join_at = 0.0
        # Who is there, on topics that are not closed; made and followed by Presences.
        self.presences: dict[str, PresenceState] = {}
        self.watches = False  # whether any topic wants to know what was seen last

    def __iter__(self) -> Iterator[Topic]:
        return iter(list(self._topics.values()))

    def get(self, name: str) -> Topic | None:
        """Give the topic of that *name*, if it was ever asked for."""
        return self._topics.get(name)

    # What the client asks

    @property
    def over_limit(self) -> int:
        """How many topics the server has no room for on this connection."""
        return sum(topic.held for topic in self._topics.values())

    def join(
        self,
        name: str,
        params: Any,
        *,
        rejoin: bool,
        timeout: float | None = None,
        last_seen: Callable[[Message], Any] | None = None,
    ) -> None:
        """Want *name* joined. One that is joined, or asked for, is left as it is."""
        self._check(name, params)
        topic = self._topics.get(name)
        if topic is not None:
            sent = topic.status is TopicStatus.REQUESTED and topic.join_ref is not None
            if topic.status is TopicStatus.JOINED or sent:
                return
        else:
            topic = self._topics[name] = Topic(name)
        self._closed.pop(name, None)
        topic.params, topic.rejoin = params, rejoin
        topic.join_timeout, topic.seen_by = timeout, last_seen
        self.watches = self.watches or last_seen is not None
        self._request(topic)

    def rejoin(self, name: str, params: Any, *, changed: bool) -> None:
        """Join *name* anew: at once where it waits or is closed, or where its params *changed*.

        Raises:
            NotJoinedError: if it was never asked for.
        """
        topic = self._topics.get(name)
        if topic is None:
            raise NotJoinedError(name)
        if changed:
            self._check(name, params)
            topic.params = params
        elif topic.status in {TopicStatus.JOINED, TopicStatus.REQUESTED}:
            return
        self._closed.pop(name, None)
        self._request(topic)

    def leave(self, name: str, timeout: float | None = None) -> None:
        """Want *name* no longer. It is left at once, or forgotten where there is nothing to leave."""
        topic = self._topics.get(name)
        if topic is None or topic.status in {TopicStatus.LEAVING, TopicStatus.CLOSED}:
            return
        topic.cancel_timer()
        self._end_span(topic, None)
        topic.joined_before = topic.held = False
        self._host.topic_ended(name, None)
        link = self._host.uplink
        on_wire = topic.join_ref is not None and topic.generation == link.generation
        if on_wire and link.connection is not None and self._leave_wire(topic, timeout):
            topic.status, topic.reason = TopicStatus.LEAVING, None
            link.inbox.nudge()  # whoever waits for its join waits in vain
            return
        self._close(topic, None)
        self._host.post(TopicLeft(name, ""))

    def flush(self, name: str | None = None) -> None:
        """Send the joins that wait for a connection: of all topics, or of *name*."""
        if self._host.uplink.phase is not Phase.OPEN:
            return
        chosen = self if name is None else filter(None, [self.get(name)])
        for topic in chosen:
            unsent = topic.status is TopicStatus.REQUESTED and topic.join_ref is None
            under_way = topic.fetching == self._host.uplink.generation or topic.timer is not None
            # One that waits for its own delay was refused on this connection.
            waits = topic.status is TopicStatus.WAITING and topic.timer is None
            if (unsent and not under_way) or waits:
                self._request(topic)

    # What the client learns

    def apply(self, event: Any) -> bool:
        """Follow *event*; tell whether it is news. What belongs to an earlier join is none."""
        topic = self._topics.get(event.topic)
        if topic is None:
            return isinstance(event, TopicLeft)
        match event:
            case TopicJoined(response=response, join_ref=join_ref) if join_ref == topic.join_ref:
                if topic.status is not TopicStatus.REQUESTED:
                    return False
                topic.status = TopicStatus.JOINED
                topic.confirmed = True
                topic.response, topic.reason = response, None
                topic.joined_at = trio.current_time()
                topic.held = False
                self._tell_of_join(topic, "stop", response=response)
                self._look_for_gap(topic)
            case TopicLeft(join_ref=join_ref):
                if topic.status is TopicStatus.LEAVING and join_ref == topic.join_ref:
                    self._close(topic, None)
                    self._use_room()
            case TopicJoinFailed() | TopicClosed() if event.join_ref == topic.join_ref:
                self._end_span(topic, event.reason)
                self._failed(topic, event.reason)
            case _:
                return False
        return True

    def see(self, message: Message) -> None:
        """Note what *message*, which is handed to the client, is known by on the server."""
        topic = self._topics.get(message.topic)
        config = self._host.uplink.config
        if topic is None:
            return
        seen_by = topic.seen_by or (config.last_seen if config is not None else None)
        value = seen_by(message) if seen_by is not None else None
        if value is not None:
            topic.last_seen = value

    def disconnected(self, ended: ConnectionEnded) -> None:
        """Let the topics of that connection wait for the next one."""
        self._next_join_at = 0.0  # whatever was planned on that connection is off
        for topic in self:
            if topic.generation > ended.generation:
                continue
            topic.cancel_timer()
            topic.held = False  # the next connection has room again
            self._count_as_stable(topic)
            self._note_loss(topic)
            self._end_span(topic, ended.reason)
            match topic.status:
                case TopicStatus.JOINED | TopicStatus.REQUESTED | TopicStatus.WAITING:
                    asked_only = topic.status is TopicStatus.REQUESTED and topic.join_ref is None
                    topic.join_ref = None
                    if not topic.rejoin and not asked_only:
                        self._close(topic, None)
                    elif not asked_only:
                        topic.status = TopicStatus.WAITING
                case TopicStatus.LEAVING:
                    self._close(topic, None)
                case TopicStatus.CLOSED:
                    pass

    # Inside

    def _check(self, name: str, params: Any) -> None:
        given: Any = name
        if not isinstance(given, str) or not given:
            raise ConfigError(f"topic is {name!r}; accepted is a name that is not empty")
        if name == "phoenix":
            raise ConfigError("topic is 'phoenix', which is the socket's own and cannot be joined")
        if callable(params):
            check_provider(params)
        shown: Any = {} if callable(params) else params
        self._host.uplink.serializer.encode(Message(None, None, name, "phx_join", shown))

    def _request(self, topic: Topic) -> None:
        topic.cancel_timer()
        self._note_loss(topic)
        self._end_span(topic, None)
        topic.fetching = 0
        topic.status = TopicStatus.REQUESTED
        topic.join_ref = None
        topic.confirmed = False
        link = self._host.uplink
        if link.phase is not Phase.OPEN or link.connection is None:
            return
        rate = link.config.rejoin.max_joins_per_second if link.config is not None else None
        if rate is not None:
            now = trio.current_time()
            slot = max(now, self._next_join_at)
            self._next_join_at = slot + 1.0 / rate
            if slot > now:
                topic.timer = self._host.call_at(slot, partial(self._send, topic))
                return
        self._send(topic)

    def _send(self, topic: Topic) -> None:
        topic.timer = None
        if callable(topic.params):
            topic.fetching = self._host.uplink.generation
            # Nobody joins from a client that is ending.
            with suppress(WrongTaskError):
                self._host.start_soon(self._provide_and_send, topic, topic.params)
        else:
            self._send_with(topic, topic.params)

    async def _provide_and_send(self, topic: Topic, provider: Any) -> None:
        config = self._host.uplink.config
        timeout = config.provider_timeout if config is not None else 10.0
        ask = with_context(provider, JoinContext(topic.name, topic.attempt, topic.last_seen))
        try:
            params = await provide(ask, timeout=timeout, what=f"params of {topic.name!r}")
        except ConnectError as error:
            self._could_not_send(topic, provider, error.__cause__ or error)
            return
        if self._still_wants(topic, provider):
            self._send_with(topic, params)

    def _still_wants(self, topic: Topic, provider: Any) -> bool:
        return (
            topic.status is TopicStatus.REQUESTED
            and topic.join_ref is None
            and topic.params is provider
        )

    def _could_not_send(self, topic: Topic, provider: Any, error: BaseException) -> None:
        if self._still_wants(topic, provider):
            # A ref of its own, so that the failure belongs to this attempt and no later one.
            ref = next(self._host.uplink.refs)
            self._asked(topic, ref, None)
            self._host.post(TopicJoinFailed(topic.name, JoinFailed(error), ref))

    def _send_with(self, topic: Topic, params: Any) -> None:
        link = self._host.uplink
        if link.connection is None or link.config is None:
            return
        timeout = topic.join_timeout or link.config.join_timeout
        try:
            sent = link.connection.command(JoinTopic(topic.name, params, timeout))
        except DisconnectedError:
            return  # the next connection sends it
        except EncodeError as error:
            self._could_not_send(topic, topic.params, error)
            return
        self._asked(topic, sent.ref, params)

    def _asked(self, topic: Topic, ref: str, params: Any) -> None:
        topic.join_ref = ref
        topic.generation = self._host.uplink.generation
        topic.asked_at = trio.current_time()
        topic.span = telemetry.new_span()
        self._tell_of_join(topic, "start", params=params)

    def _end_span(self, topic: Topic, reason: DisconnectReason | TopicCloseReason | None) -> None:
        """Tell that the join under way, if one is, has failed, or is lost, or is wanted no longer."""
        if topic.status is TopicStatus.REQUESTED and topic.join_ref is not None:
            self._tell_of_join(topic, "exception", reason=reason)

    def _tell_of_join(self, topic: Topic, what: str, **data: Any) -> None:
        event = f"slipstream.client.join.{what}"
        if telemetry.attached(event):
            config = self._host.uplink.config
            if config is None or not config.log_payloads:
                # Params often hold a token; what the server answers is its own affair.
                data = {key: value for key, value in data.items() if key == "reason"}
            if what != "start":
                data["duration"] = trio.current_time() - topic.asked_at
            client = self._host.uplink.client
            telemetry.execute(event, span=topic.span, client=client, topic=topic.name, **data)

    def _leave_wire(self, topic: Topic, timeout: float | None) -> bool:
        link = self._host.uplink
        if link.connection is None or link.config is None:
            return False
        if link.connection.state(topic.name) in {TopicState.CLOSED, TopicState.LEAVING}:
            return False
        try:
            seconds = link.config.leave_timeout if timeout is None else timeout
            link.connection.command(LeaveTopic(topic.name, seconds))
        except (DisconnectedError, LocalProtocolError):
            return False
        return True

    def _count_as_stable(self, topic: Topic) -> None:
        config = self._host.uplink.config
        if topic.status is TopicStatus.JOINED and config is not None:
            up = trio.current_time() - topic.joined_at
            if up >= config.rejoin.stable_after:
                topic.attempt = 0

    def _note_loss(self, topic: Topic) -> None:
        if topic.status is TopicStatus.JOINED:
            topic.lost_at = trio.current_time()

    def _look_for_gap(self, topic: Topic) -> None:
        topic.gap, topic.joined_before = topic.joined_before, True
        if topic.gap and telemetry.attached("slipstream.client.gap"):
            seconds = topic.joined_at - topic.lost_at
            telemetry.execute(
                "slipstream.client.gap",
                client=self._host.uplink.client,
                topic=topic.name,
                seconds=seconds,
            )

    def _tell_of_limit(self, topic: Topic) -> None:
        joined = sum(other.status is TopicStatus.JOINED for other in self._topics.values())
        if self.over_limit == 0:  # once, not for each of them
            logger.warning(
                "the server lets one connection join no more than %d topics; %r and others wait: "
                "spread them over several clients",
                joined, topic.name,
            )  # fmt: skip
        topic.held = True
        if telemetry.attached("slipstream.client.too_many_topics"):
            telemetry.execute(
                "slipstream.client.too_many_topics",
                client=self._host.uplink.client,
                topic=topic.name,
                joined=joined,
            )

    def _use_room(self) -> None:
        """Ask again for one of the topics that the server had no room for."""
        held = (topic for topic in self if topic.held and topic.status is TopicStatus.WAITING)
        topic = next(held, None)
        if topic is not None:
            self._request(topic)

    def _failed(self, topic: Topic, reason: TopicCloseReason) -> None:
        self._count_as_stable(topic)
        self._note_loss(topic)
        if is_over_limit(reason):
            self._tell_of_limit(topic)
        topic.reason = reason
        topic.failures += 1
        topic.join_ref = None
        verdict = self._verdict(topic, reason)
        if isinstance(verdict, Fatal):
            self._close(topic, reason)
            self._host.topic_ended(topic.name, reason)
            return
        delay = verdict.delay
        topic.attempt += isinstance(verdict, Retry)
        topic.status = TopicStatus.WAITING
        due = trio.current_time() + delay
        topic.timer = self._host.call_at(due, partial(self._due, topic))
        if telemetry.attached("slipstream.client.rejoin"):
            telemetry.execute(
                "slipstream.client.rejoin",
                client=self._host.uplink.client,
                topic=topic.name,
                reason=reason,
                delay=delay,
                attempt=topic.attempt,
            )

    def _verdict(self, topic: Topic, reason: TopicCloseReason) -> Verdict:
        config = self._host.uplink.config
        if not topic.rejoin or config is None:
            return Fatal("rejoin=False")
        return config.rejoin.verdict(topic.name, reason, topic.attempt)

    def _due(self, topic: Topic) -> None:
        topic.timer = None
        if topic.status is TopicStatus.WAITING:
            self._request(topic)

    def _close(self, topic: Topic, reason: TopicCloseReason | None) -> None:
        topic.status = TopicStatus.CLOSED
        self.presences.pop(topic.name, None)
        topic.join_ref = None
        topic.reason = reason
        self._closed[topic.name] = None
        if len(self._closed) > _CLOSED_LIMIT:
            oldest, _ = self._closed.popitem(last=False)
            del self._topics[oldest]
