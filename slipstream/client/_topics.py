"""The topics that a client wants, and what has become of them: they outlive connections.

The states here follow the events as the client handles them, and so lag behind those of the wire
by what lies unread. That is what makes them a fence: a message that was read before a rejoin finds
its topic not joined, and is dropped.
"""

import enum
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol

import trio

from slipstream import telemetry
from slipstream.connection import ConnectionEnded, Link, Phase, provide
from slipstream.errors import (
    ConfigError,
    ConnectError,
    DisconnectedError,
    EncodeError,
    LocalProtocolError,
    NotJoinedError,
)
from slipstream.interfaces import Fatal, Message, Retry, Verdict
from slipstream.protocol import (
    JoinTopic,
    LeaveTopic,
    TopicClosed,
    TopicJoined,
    TopicJoinFailed,
    TopicLeft,
    TopicState,
    V2Serializer,
)
from slipstream.reasons import JoinFailed, TopicCloseReason

__all__ = ["Alarm", "Host", "Topic", "TopicStatus", "Topics"]

_CLOSED_LIMIT = 1024


class TopicStatus(enum.StrEnum):
    """What has become of a topic, as the client sees it."""

    REQUESTED = "requested"
    JOINED = "joined"
    LEAVING = "leaving"
    CLOSED = "closed"
    WAITING = "waiting"


class Alarm(Protocol):
    """A call that is due later."""

    def cancel(self) -> None:
        """Take it back."""
        ...


class Host(Protocol):
    """What topics and pushes need of the client that they belong to."""

    uplink: Link

    def call_at(self, when: float, function: Callable[[], None], /) -> Alarm:
        """Call *function* at *when*, on trio's clock, unless the client has ended by then."""
        ...

    def start_soon(self, function: Callable[..., Any], /, *args: Any) -> None:
        """Run a helper task of the client."""
        ...

    def post(self, *events: Any) -> None:
        """Let the client handle *events* as if the network had brought them."""
        ...

    def topic_ended(self, topic: str, reason: TopicCloseReason | None) -> None:
        """Note that *topic* is not wanted, or not to be had, any more."""
        ...


class Topic:
    """One topic: what is wanted of it, and what has become of it."""

    __slots__ = (
        "asked_at",
        "attempt",
        "confirmed",
        "failures",
        "fetching",
        "generation",
        "join_ref",
        "joined_at",
        "name",
        "params",
        "reason",
        "rejoin",
        "response",
        "span",
        "status",
        "timer",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.params: Any = {}
        self.rejoin = True
        self.status = TopicStatus.REQUESTED
        self.join_ref: str | None = None
        self.confirmed = False  # whether the server let this join in
        self.generation = 0
        self.response: Any = None
        self.reason: TopicCloseReason | None = None
        self.span = 0
        self.failures = 0
        self.fetching = 0  # the generation that a provider of params was called for
        self.attempt = 0
        self.asked_at = 0.0
        self.joined_at = 0.0
        self.timer: Alarm | None = None

    def cancel_timer(self) -> None:
        """Take a planned join back."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class Topics:
    """The topics of one client."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._topics: dict[str, Topic] = {}
        # Topics that were left or lost keep their params for a later rejoin; not without number.
        self._closed: OrderedDict[str, None] = OrderedDict()
        self._next_join_at = 0.0

    def __iter__(self) -> Iterator[Topic]:
        return iter(list(self._topics.values()))

    def get(self, name: str) -> Topic | None:
        """Give the topic of that *name*, if it was ever asked for."""
        return self._topics.get(name)

    # What the client asks

    def join(self, name: str, params: Any, *, rejoin: bool) -> None:
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

    def leave(self, name: str) -> None:
        """Want *name* no longer. It is left at once, or forgotten where there is nothing to leave."""
        topic = self._topics.get(name)
        if topic is None or topic.status in {TopicStatus.LEAVING, TopicStatus.CLOSED}:
            return
        topic.cancel_timer()
        self._host.topic_ended(name, None)
        link = self._host.uplink
        on_wire = topic.join_ref is not None and topic.generation == link.generation
        if on_wire and link.connection is not None and self._leave_wire(topic):
            topic.status = TopicStatus.LEAVING
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
            if (unsent and not under_way) or (name is None and topic.status is TopicStatus.WAITING):
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
                self._tell_of_join(topic, "stop", response=response)
            case TopicLeft(join_ref=join_ref):
                if topic.status is TopicStatus.LEAVING and join_ref == topic.join_ref:
                    self._close(topic, None)
            case TopicJoinFailed() | TopicClosed() if event.join_ref == topic.join_ref:
                if isinstance(event, TopicJoinFailed):
                    self._tell_of_join(topic, "exception", reason=event.reason)
                self._failed(topic, event.reason)
            case _:
                return False
        return True

    def disconnected(self, ended: ConnectionEnded) -> None:
        """Let the topics of that connection wait for the next one."""
        for topic in self:
            if topic.generation > ended.generation:
                continue
            topic.cancel_timer()
            self._count_as_stable(topic)
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
        config = self._host.uplink.config
        serializer = (config.serializer if config is not None else None) or V2Serializer()
        shown: Any = {} if callable(params) else params
        serializer.encode(Message(None, None, name, "phx_join", shown))

    def _request(self, topic: Topic) -> None:
        topic.cancel_timer()
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
            self._host.start_soon(self._provide_and_send, topic, topic.params)
        else:
            self._send_with(topic, topic.params)

    async def _provide_and_send(self, topic: Topic, provider: Any) -> None:
        config = self._host.uplink.config
        timeout = config.provider_timeout if config is not None else 10.0
        try:
            params = await provide(provider, timeout=timeout, what=f"params of {topic.name!r}")
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
            topic.join_ref = next(self._host.uplink.refs)
            topic.generation = self._host.uplink.generation
            self._host.post(TopicJoinFailed(topic.name, JoinFailed(error), topic.join_ref))

    def _send_with(self, topic: Topic, params: Any) -> None:
        link = self._host.uplink
        if link.connection is None or link.config is None:
            return
        try:
            sent = link.connection.command(JoinTopic(topic.name, params, link.config.join_timeout))
        except DisconnectedError:
            return  # the next connection sends it
        except EncodeError as error:
            self._could_not_send(topic, topic.params, error)
            return
        topic.join_ref = sent.ref
        topic.generation = link.generation
        topic.asked_at = trio.current_time()
        topic.span = telemetry.new_span()
        self._tell_of_join(topic, "start", params=params)

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

    def _leave_wire(self, topic: Topic) -> bool:
        link = self._host.uplink
        if link.connection is None or link.config is None:
            return False
        if link.connection.state(topic.name) in {TopicState.CLOSED, TopicState.LEAVING}:
            return False
        try:
            link.connection.command(LeaveTopic(topic.name, link.config.leave_timeout))
        except (DisconnectedError, LocalProtocolError):
            return False
        return True

    def _count_as_stable(self, topic: Topic) -> None:
        config = self._host.uplink.config
        if topic.status is TopicStatus.JOINED and config is not None:
            up = trio.current_time() - topic.joined_at
            if up >= config.rejoin.stable_after:
                topic.attempt = 0

    def _failed(self, topic: Topic, reason: TopicCloseReason) -> None:
        self._count_as_stable(topic)
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
        topic.join_ref = None
        topic.reason = reason
        self._closed[topic.name] = None
        if len(self._closed) > _CLOSED_LIMIT:
            oldest, _ = self._closed.popitem(last=False)
            del self._topics[oldest]
