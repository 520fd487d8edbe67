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
from slipstream.config import Config
from slipstream.errors import ConnectError, DisconnectedError, LinkError
from slipstream.interfaces import Fatal, Hold, Retry, TransportStatistics, Verdict
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

__all__ = ["ConnectionEnded", "ConnectionOpened", "Link", "LinkEvent", "Phase", "Wire"]


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
        self._refusals = 0
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
        self.config = config
        self.inbox.set_limits(config.inbound_limit, config.inbound_bytes)
        self.recorder.resize(config.flight_recorder)
        self._want(at=0.0)
        if moved:
            self.attempt = self._refusals = 0
            self._hang_up()

    def reconnect(self, after: float | None) -> None:
        """Want a connection again, *after* so many seconds, or at once.

        One that is open or being opened is left alone.
        """
        self._want(at=trio.current_time() + after if after else 0.0)

    def disconnect(self) -> None:
        """Want no connection: close the one there is, or give up the attempt."""
        self._wanted = False
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
        if verdict is None or isinstance(verdict, Fatal):
            self.fatal = verdict.why if verdict is not None else None
            self._stay_down()
            if verdict is not None and telemetry.attached("slipstream.connection.gave_up"):
                telemetry.execute(
                    "slipstream.connection.gave_up",
                    client=self.client,
                    attempt=self.attempt,
                    reason=ended.reason,
                    why=verdict.why,
                )
            return
        delay = verdict.delay
        if isinstance(verdict, Retry):
            self.attempt += 1
            self._refusals = self._refusals + 1 if _is_refusal(ended.reason) else 0
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
                attempt = self._refusals if _is_refusal(reason) else self.attempt
                return config.reconnect.verdict(reason, attempt, refreshable=config.refreshable)

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
        if was_open and now - self.opened_at >= stable_after:
            self.attempt = self._refusals = 0
        ended = ConnectionEnded(self.generation, reason, was_open)
        if not was_open:
            self._tell_of_connect("exception", duration=now - self._began_at, reason=reason)
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
        self.fatal = None

    def _stay_down(self) -> None:
        self._wanted = False
        self.phase = Phase.DOWN
        self._tell()

    def _hang_up(self) -> None:
        if self.connection is not None:
            self.connection.hang_up(1000)

    def _tell(self) -> None:
        changed, self.changed = self.changed, trio.Event()
        changed.set()


def _counted(traffic: TransportStatistics) -> dict[str, int]:
    return {
        "messages_sent": traffic.messages_sent,
        "messages_received": traffic.messages_received,
        "bytes_sent": traffic.bytes_sent,
        "bytes_received": traffic.bytes_received,
    }


def _is_refusal(reason: DisconnectReason) -> bool:
    return isinstance(reason, ConnectFailed) and reason.status in {401, 403}
