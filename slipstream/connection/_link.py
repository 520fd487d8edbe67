"""What a client keeps of its connections, from the first to the last.

Whether it wants one, when the next attempt may start, what was decided about the last loss. The
client's process owns it; the connection process of the moment reads it and reports to it. Both
run in one thread, so plain attributes and one event that is replaced at each change are enough.
"""

import enum
import math
from collections import Counter
from typing import Any, Protocol, TypeAlias

import attrs
import trio

from slipstream import telemetry
from slipstream.config import Config, safe_uri
from slipstream.errors import ConnectError, DisconnectedError, LinkError
from slipstream.interfaces import Fatal, Hold, Retry, Serializer, TransportStatistics, Verdict
from slipstream.otp import wait_event
from slipstream.protocol import Command, Event, Outgoing, RefCounter, TopicState, V2Serializer
from slipstream.reasons import (
    ClosedByClient,
    ClosedByServer,
    ConnectFailed,
    ConnectionCrashed,
    DisconnectReason,
)

from ._inbox import Inbox
from ._recorder import FlightRecorder, RecordedFrame
from ._rotation import Rotation

__all__ = [
    "ConnectionEnded",
    "ConnectionOpened",
    "Link",
    "LinkEvent",
    "Phase",
    "Wire",
    "serializer_of",
]


class Phase(enum.Enum):
    """What the link is doing just now."""

    DOWN = "down"
    WAITING = "waiting"
    CONNECTING = "connecting"
    OPEN = "open"


@attrs.frozen
class ConnectionOpened:
    """A connection is open. The first event of its *generation*."""

    generation: int
    headers: tuple[tuple[str, str], ...] = attrs.field(default=(), repr=False)


@attrs.frozen
class ConnectionEnded:
    """A connection ended, or an attempt failed. The last event of its *generation*."""

    generation: int
    reason: DisconnectReason
    was_open: bool


LinkEvent: TypeAlias = Event | ConnectionOpened | ConnectionEnded


class Wire(Protocol):
    """The connection process of the moment, as the client sees it."""

    def hang_up(self, code: int, /) -> None:
        """Close the connection, or give the attempt up. Does not wait."""
        ...

    def command(self, command: Command, /) -> Outgoing:
        """Carry *command* out: queue its frame."""
        ...

    async def wait_room(self) -> None:
        """Wait until the outbox has room."""
        ...

    def state(self, topic: str, /) -> TopicState:
        """Tell the state of *topic* on the wire."""
        ...

    def topic_of_push(self, ref: str, /) -> str | None:
        """Give the topic that a push went to, while it may still be answered."""
        ...

    @property
    def ending(self) -> DisconnectReason | None:
        """Why it takes no more, once that is so."""
        ...

    @property
    def last_rtt(self) -> float | None:
        """Seconds between the last heartbeat and its answer."""
        ...

    @property
    def queued_bytes(self) -> int:
        """How many bytes wait to be written."""
        ...

    @property
    def traffic(self) -> TransportStatistics:
        """What was sent and received over this connection so far."""
        ...


class Link:
    """A client's link to its server, over all its connections.

    Attributes:
        config: what the next attempt uses.
        inbox: where events go.
        refs: the one counter of refs: a late reply of the last connection must not match a push of
            this one (phoenix.js counts likewise).
        generation: the number of attempts so far; each connection has one.
        phase: what the link is doing.
        since: when the phase began, on trio's clock.
        client: what the client is called, in telemetry events.
        recorder: the last frames, of all connections.
        connection: the connection process of the moment, from the start of its attempt.
        attempt: failures in a row, as the policy counts them.
        close_code: the code that a stop of the client closes with.
        fatal: why the policy will not have another attempt, until the client decides otherwise.
        gave_up_told: whether the client has been told of that.
        last_end: how the last connection or attempt ended.
    """

    def __init__(self, inbox: Inbox, *, client: str = "") -> None:
        self.config: Config | None = None
        self.inbox = inbox
        self.client = client
        self.recorder = FlightRecorder()
        self.refs = RefCounter()
        self.generation = 0
        self._phase = Phase.DOWN
        self.since = trio.current_time()
        self._span = 0
        self.connection: Wire | None = None
        self.attempt = 0
        self.close_code = 1000
        self.last_end: ConnectionEnded | None = None
        self.opened_at = 0.0
        self.counters: Counter[str] = Counter()
        self.changed = trio.Event()
        self.not_before = 0.0
        self.fatal: str | None = None
        self.gave_up_told = False
        self._rotation: Rotation | None = None
        self._refreshes = 0
        self._trouble_since: float | None = None  # when the connection was lost, or first tried for
        self._wanted = False
        self._undecided: ConnectionEnded | None = None
        self._ended_at = 0.0
        self._began_at = 0.0

    # What the client does

    def connect(self, config: Config) -> None:
        """Want a connection with *config*, at once. The same configuration twice is no change."""
        if self._wanted and config == self.config and self.phase is not Phase.WAITING:
            self._decided()
            return
        moved = self.config is not None and config != self.config
        if moved or self._rotation is None:
            self._rotation = Rotation(config.uris)
        self.config = config
        self.inbox.set_limits(config.inbound_limit, config.inbound_bytes)
        self.recorder.resize(config.flight_recorder)
        self._want(at=0.0)
        if moved:
            self._count_afresh()
            self._hang_up()

    def reconnect(self, after: float | None) -> None:
        """Want a connection again, *after* so many seconds, or at once.

        One that is open or being opened is left alone.
        """
        self._want(at=trio.current_time() + after if after else 0.0)

    def reconnect_now(self) -> None:
        """Make the attempt that is waited for at once, as if nothing had failed yet.

        A connection that is open, or being opened, is left alone, and so is a client that wants none.
        """
        gave_up = self.fatal is not None
        if self.connection is None and (self._wanted or gave_up):
            self._count_afresh()
            self._want(at=0.0)

    def disconnect(self) -> None:
        """Want no connection: close the one there is, or give up the attempt."""
        self._wanted = False
        self._trouble_since = None  # time spent down on purpose is none
        self._decided()
        self._hang_up()
        if self.phase is Phase.WAITING:
            self.phase = Phase.DOWN
        self._tell()

    def decide(self) -> None:
        """Let the policy decide about the last end, unless the client has.

        Called when ``handle_disconnect`` has returned, and when a callback starts to wait for the
        next connection.
        """
        ended = self._undecided
        if ended is None:
            return
        self._undecided = None
        verdict = self.verdict(ended)
        if verdict is None:
            self._stay_down()
            return
        if isinstance(verdict, Fatal):
            if verdict.everywhere or self._rotation is None or not self._rotation.give_up_last():
                self._give_up(verdict, ended)
                return
            verdict = Retry(0.0)  # another server has not been asked yet
        delay = verdict.delay
        if isinstance(verdict, Retry):
            self.attempt += 1
            self._refreshes = self._refreshes + 1 if verdict.refresh else 0
        self.not_before = self._ended_at + delay
        if telemetry.attached("slipstream.connection.reconnect"):
            telemetry.execute(
                "slipstream.connection.reconnect",
                client=self.client,
                delay=delay,
                attempt=self.attempt,
                reason=ended.reason,
            )
        self._tell()

    def verdict(self, ended: ConnectionEnded) -> Verdict | None:
        """Judge *ended* by restart type and policy; ``None`` means to stay down quietly."""
        config = self.config
        if config is None or isinstance(ended.reason, ClosedByClient):
            return None if not self._wanted else Retry(0.0)
        match config.connection_restart, ended.reason:
            case "temporary", _:
                return None
            case "transient", ClosedByServer(code=1000 | 1001):
                return None
            case _, ConnectionCrashed():
                return Hold(0.0)  # the supervisor counts it against max_restarts
            case _, reason:
                since = self._trouble_since if self._trouble_since is not None else self._ended_at
                return config.reconnect.verdict(
                    reason,
                    self.attempt,
                    refreshable=config.refreshable,
                    refreshes=self._refreshes,
                    elapsed=self._ended_at - since,
                )

    @property
    def uri(self) -> str | None:
        """The URI of the connection, or of the next attempt: one of the configuration's."""
        return self._rotation.uri if self._rotation is not None else None

    @property
    def serializer(self) -> Serializer:
        """What a connection with the present configuration speaks."""
        return serializer_of(self.config) if self.config is not None else V2Serializer()

    @property
    def phase(self) -> Phase:
        """What the link is doing."""
        return self._phase

    @phase.setter
    def phase(self, phase: Phase) -> None:
        if phase is not self._phase:
            self._phase = phase
            self.since = trio.current_time()

    def count(self) -> Counter[str]:
        """Give the counters, with what the connection of the moment has carried so far."""
        counters = self.counters.copy()
        if self.connection is not None:
            counters.update(_counted(self.connection.traffic))
        return counters

    def recorded_frames(self) -> tuple[RecordedFrame, ...]:
        """Give the last frames, the oldest first; payloads only with ``Config.log_payloads``."""
        config = self.config
        if config is None:
            return ()
        serializer = config.serializer or V2Serializer(json=config.json)
        return self.recorder.frames(serializer, payloads=config.log_payloads)

    def log(self) -> tuple[str, ...]:
        """Give the last frames as lines of a report."""
        now = trio.current_time()
        return tuple(frame.ago(now) for frame in self.recorded_frames())

    @property
    def wanted(self) -> bool:
        """Whether the client wants a connection."""
        return self._wanted

    @property
    def up(self) -> bool:
        """Whether a connection is open, and not about to end: hung up, say."""
        return self._phase is Phase.OPEN and self.ending is None

    @property
    def ending(self) -> DisconnectReason | None:
        """Why the connection takes no more, once that is so; its end is told a little later."""
        return self.connection.ending if self.connection is not None else None

    @property
    def undecided(self) -> bool:
        """Whether nobody has decided yet what follows the last end."""
        return self._undecided is not None

    # What the connection process does

    async def wait_turn(self) -> Config:
        """Wait until a connection is wanted, decided on, and due; give its configuration.

        Safe to cancel. A process that is being stopped leaves with ``Exit``.
        """
        while True:
            due = self._wanted and self._undecided is None
            deadline = self.not_before if due else math.inf
            if due and self.config is not None and deadline <= trio.current_time():
                await trio.lowlevel.checkpoint()
                if self._wanted and self._undecided is None:
                    return self.config
                continue
            await wait_event(self.changed, deadline=deadline)

    def begin(self, connection: Wire) -> int:
        """Note that *connection* starts an attempt; give its generation."""
        self.generation += 1
        self.connection = connection
        self.phase = Phase.CONNECTING
        self.counters["attempts"] += 1
        self._began_at = trio.current_time()
        self._span = telemetry.new_span()
        self._tell_of_connect("start")
        self._tell()
        return self.generation

    def opened(self, headers: tuple[tuple[str, str], ...]) -> None:
        """Note that the attempt succeeded, and tell the client."""
        self.phase = Phase.OPEN
        self.counters["connects"] += 1
        self.opened_at = trio.current_time()
        self._tell_of_connect("stop", duration=self.opened_at - self._began_at, headers=headers)
        self.inbox.deliver([ConnectionOpened(self.generation, headers)], 0)
        self._tell()

    def ended(
        self,
        reason: DisconnectReason,
        events: list[Any],
        traffic: TransportStatistics,
    ) -> None:
        """Note that the connection ended, or the attempt failed; tell the client, with last *events*."""
        now = trio.current_time()
        was_open = self.phase is Phase.OPEN
        stable_after = self.config.reconnect.stable_after if self.config else 0.0
        stable = was_open and now - self.opened_at >= stable_after
        if stable:
            self.attempt = self._refreshes = 0
        if isinstance(reason, ClosedByClient):
            self._trouble_since = None
        elif stable or self._trouble_since is None:
            self._trouble_since = now if was_open else self._began_at
        ended = ConnectionEnded(self.generation, reason, was_open)
        if not was_open:
            self._tell_of_connect("exception", duration=now - self._began_at, reason=reason)
        if self._rotation is not None and not isinstance(reason, ClosedByClient):
            self._rotation.ended(reason, stable=stable)
        # Where the client itself closed, it has decided already.
        self._undecided = None if isinstance(reason, ClosedByClient) else ended
        self._ended_at = now
        if was_open:
            self.counters["disconnects"] += 1
        self.counters.update(_counted(traffic))
        self.last_end = ended
        self.connection = None
        self.phase = Phase.WAITING if self._wanted else Phase.DOWN
        self.inbox.deliver_end([*events, ended], reason)
        self._tell()

    def error_of_end(self) -> LinkError:
        """Make the error that tells how the last connection or attempt ended."""
        reason = self.last_end.reason if self.last_end is not None else None
        if isinstance(reason, ConnectFailed) and isinstance(reason.error, ConnectError):
            return reason.error
        return DisconnectedError(reason)

    def _tell_of_connect(self, what: str, **data: Any) -> None:
        event = f"slipstream.client.connect.{what}"
        if telemetry.attached(event):
            telemetry.execute(
                event,
                span=self._span,
                client=self.client,
                generation=self.generation,
                config=self.config,
                uri=safe_uri(self.uri or ""),
                **data,
            )

    def _want(self, *, at: float) -> None:
        self._wanted = True
        self.not_before = at
        self._decided()
        if self.phase is Phase.DOWN:
            self.phase = Phase.WAITING
        self._tell()

    def _decided(self) -> None:
        """Note that the client has decided itself what follows the last end."""
        self._undecided = None
        if self.fatal is not None:
            self.fatal = None
            self._count_afresh()

    def _count_afresh(self) -> None:
        self.attempt = self._refreshes = 0
        self._trouble_since = None
        if self._rotation is not None:
            self._rotation.start_afresh()

    def _give_up(self, verdict: Fatal, ended: ConnectionEnded) -> None:
        self.fatal = verdict.why
        self.gave_up_told = False
        if telemetry.attached("slipstream.connection.gave_up"):
            telemetry.execute(
                "slipstream.connection.gave_up",
                client=self.client,
                attempt=self.attempt,
                reason=ended.reason,
                why=verdict.why,
            )
        self._stay_down()

    def _stay_down(self) -> None:
        self._wanted = False
        self._trouble_since = None
        self.phase = Phase.DOWN
        self._tell()

    def _hang_up(self) -> None:
        if self.connection is not None:
            self.connection.hang_up(1000)

    def _tell(self) -> None:
        changed, self.changed = self.changed, trio.Event()
        changed.set()


def serializer_of(config: Config) -> Serializer:
    """Give what a connection with *config* speaks."""
    return config.serializer or V2Serializer(json=config.json)


def _counted(traffic: TransportStatistics) -> dict[str, int]:
    return {
        "messages_sent": traffic.messages_sent,
        "messages_received": traffic.messages_received,
        "bytes_sent": traffic.bytes_sent,
        "bytes_received": traffic.bytes_received,
    }
