"""The connection process: one WebSocket connection, from its attempt to its end.

Two helper tasks do the work: one dials and then reads, one keeps the deadlines. Writing is done by
the transport's own task. Commands of the client come as plain calls, since both processes run in
one thread: check, change the state machine, queue the frame; nothing in between can be cancelled.
"""

import math
import sys
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, NoReturn

import attrs
import trio

from slipstream import telemetry
from slipstream.config import Coalesce, Config, safe_uri
from slipstream.errors import ConnectError, DisconnectedError, LinkError, ServerGoneError
from slipstream.interfaces import Message, Transport, TransportStatistics
from slipstream.otp import Exit, GenServer, NoReply, Status, wait_event
from slipstream.protocol import (
    Command,
    Event,
    FrameDiscarded,
    FrameUndecodable,
    HeartbeatAcknowledged,
    HeartbeatTimedOut,
    Outgoing,
    SocketMachine,
    TopicState,
)
from slipstream.reasons import (
    KILLED,
    NORMAL,
    ClosedByClient,
    ClosedByServer,
    ConnectFailed,
    ConnectionCrashed,
    ConsumerTooSlow,
    Crashed,
    DisconnectReason,
    ExitReason,
    HeartbeatTimeout,
    TransportFailed,
)
from slipstream.transport import current_transport

from ._link import Link, serializer_of
from ._request import build_request

__all__ = ["Connection"]


class Connection(GenServer, restart="permanent"):
    """The process that owns one connection. A new one is started for each attempt.

    It exits ``NORMAL`` after a clean close, ``Crashed(ConnectError | DisconnectedError)`` after any
    other loss (no bug, so no crash report), and as any process does where it has a bug. Whatever
    happens, it tells the link of its end exactly once.
    """

    async def init(self, link: Link) -> NoReply:
        """Take the *link*; the attempt is made after the start, since a start blocks a supervisor."""
        self._link = link
        self._machine: SocketMachine | None = None
        self._transport: Transport | None = None
        self._config: Config | None = None
        self._attempt = trio.CancelScope()
        self._why: DisconnectReason | None = None
        self._failure: BaseException | None = None
        self._ending = False
        self._queued = 0
        self._room = trio.Event()
        self._rearmed = trio.Event()
        self._armed_for = -1.0
        return NoReply(continue_with="run")

    async def handle_continue(self, argument: Any, /) -> None:
        """Start to wait for the turn of this connection."""
        self.start_soon(self._keep_time)
        self.start_soon(self._run)

    async def terminate(self, reason: ExitReason, /) -> None:
        """Close in order, within ``close_timeout``; the code is the client's."""
        self._ending = True
        if isinstance(reason, Crashed):
            self._why = self._why or ConnectionCrashed(reason.exception)
        self._attempt_only_cancel()
        if self._transport is not None and self._transport.closed is None:
            code = 1011 if isinstance(reason, Crashed) else self._link.close_code
            await self._transport.close(code)

    def reports_crash(self, reason: ExitReason, /) -> bool:
        """Report bugs only: an outage is no crash, and a close is how connections end."""
        return reason.abnormal and not (
            isinstance(reason, Crashed) and isinstance(reason.exception, LinkError)
        )

    def format_status(self, status: Status, /) -> Status:
        """Show the last frames: a bug here is often about one of them."""
        return attrs.evolve(status, log=self._link.log())

    # What the client calls

    def command(self, command: Command, /) -> Outgoing:
        """Carry *command* out: change the state machine and queue the frame, or raise and do neither.

        Raises:
            DisconnectedError: if the connection is not open, or closing.
            LocalProtocolError: if the state of the topic does not allow it.
            EncodeError: if the payload cannot be put on the wire.
        """
        transport, machine = self._transport, self._machine
        if transport is None or machine is None or self.ending is not None:
            raise DisconnectedError(self.ending)
        outgoing = machine.handle(command, trio.current_time())
        self._send(outgoing)
        return outgoing

    async def wait_room(self) -> None:
        """Wait until less than ``outbound_bytes`` is queued, or the connection ended. Safe to cancel."""
        await trio.lowlevel.checkpoint()
        config = self._config
        while config is not None and self._transport is not None:
            if self._queued < config.outbound_bytes:
                return
            if self._room.is_set():
                self._room = trio.Event()
            await wait_event(self._room)

    def hang_up(self, code: int, /) -> None:
        """Close the connection, or give the attempt up. Does not wait."""
        self._why = self._why or ClosedByClient()
        if self._transport is None:
            self._attempt.cancel()
        else:
            self._close_soon(code)

    def state(self, topic: str, /) -> TopicState:
        """Tell the state of *topic* on the wire."""
        return self._machine.state(topic) if self._machine is not None else TopicState.CLOSED

    def topic_of_push(self, ref: str, /) -> str | None:
        """Give the topic that the push *ref* went to, while it may still be answered."""
        return self._machine.topic_of_push(ref) if self._machine is not None else None

    @property
    def ending(self) -> DisconnectReason | None:
        """Why the connection takes no more, once that is so; its end is told when it has closed."""
        closed = self._transport.closed if self._transport is not None else None
        return closed if closed is not None else self._why

    @property
    def last_rtt(self) -> float | None:
        """Seconds between the last heartbeat and its answer."""
        return self._machine.last_rtt if self._machine is not None else None

    @property
    def queued_bytes(self) -> int:
        """How many bytes wait to be written."""
        return self._queued

    @property
    def traffic(self) -> TransportStatistics:
        """What was sent and received over this connection so far."""
        transport = self._transport
        return transport.statistics() if transport is not None else TransportStatistics()

    @property
    def discarded(self) -> dict[str, int]:
        """How many frames were discarded so far, by kind."""
        return dict(self._machine.discarded) if self._machine is not None else {}

    # The helper that dials and reads

    async def _run(self) -> None:
        link = self._link
        config = self._config = await link.wait_turn()
        link.begin(self)
        reason: DisconnectReason | None = None
        try:
            with self._attempt:
                reason = await self._connect_and_read(config)
            if reason is None and self._attempt.cancelled_caught:
                reason = ClosedByClient()
        finally:
            # Sync from here on: the client learns of every end, also of a bug's and of a kill's.
            traffic = self.traffic
            machine, self._machine, self._transport = self._machine, None, None
            self._room.set()
            events = machine.end() if machine is not None else []
            reason = self._why or reason or ConnectionCrashed(self._failure_or(sys.exception()))
            if telemetry.attached("slipstream.connection.disconnect"):
                self._execute(
                    "slipstream.connection.disconnect",
                    reason=reason,
                    frames=link.recorded_frames(),
                )
            link.ended(reason, list(events), traffic)
        if not self._ending:  # else the process ends already, for a reason of its own
            raise self._exit_for(reason)

    async def _connect_and_read(self, config: Config) -> DisconnectReason:
        try:
            with telemetry.span(
                "slipstream.connection.connect",
                clock=trio.current_time,
                client=self._link.client,
                generation=self._link.generation,
                config=config,
                uri=safe_uri(self._link.uri or ""),
            ):
                block = await self._open(config)
                transport = await block.__aenter__()
        except ConnectError as error:
            return ConnectFailed(error, error.status, error.headers, error.body)
        try:
            await self._read(config, transport)
        except DisconnectedError as error:
            await block.__aexit__(None, None, None)
            return error.reason or TransportFailed(error)
        except BaseException:
            # The block decides from the exception how to close, and never swallows one.
            await block.__aexit__(*sys.exc_info())
            raise

    async def _open(self, config: Config) -> AbstractAsyncContextManager[Transport]:
        request = await build_request(config, self._link.uri)
        opener = config.transport or current_transport()
        return opener(request, on_written=self._written)

    async def _read(self, config: Config, transport: Transport) -> NoReturn:
        link, inbox, recorder = self._link, self._link.inbox, self._link.recorder
        serializer = serializer_of(config)
        machine = self._machine = SocketMachine(
            serializer,
            refs=link.refs,
            heartbeat_interval=config.heartbeat_interval or None,
            heartbeat_timeout=config.heartbeat_timeout,
        )
        self._transport = transport
        machine.start(trio.current_time())
        link.opened(transport.response_headers)
        self._rearmed.set()
        while True:
            frames = await transport.receive()
            now = trio.current_time()
            size = sum(map(len, frames))
            recorder.received(frames, size, now)
            events = machine.receive(frames, now)
            self._execute(
                "slipstream.connection.handle", frames=len(frames), size=size, events=len(events)
            )
            inbox.deliver(
                [event for event in events if type(event) is Message or self._is_for_client(event)],
                size,
            )
            self._rearm()
            if inbox.full and transport.closed is None:  # else this is the rest, and no more comes
                await self._overflow(config, transport, machine)

    async def _overflow(self, config: Config, transport: Transport, machine: SocketMachine) -> None:
        inbox = self._link.inbox
        if config.on_overflow == "drop_oldest":
            count = inbox.drop_oldest()
            self._link.counters["dropped"] += count
            self._execute("slipstream.connection.dropped", count=count)
            return
        if config.on_overflow == "disconnect":
            self._why = self._why or ConsumerTooSlow(0.0)
            await transport.close(1001)
            return
        if isinstance(config.on_overflow, Coalesce):
            merged = inbox.coalesce(config.on_overflow.key)
            self._link.counters["coalesced"] += merged
            self._execute("slipstream.connection.coalesced", count=merged)
            # Room for a few only would cost as much again for the next few.
            if not inbox.full and merged >= config.inbound_limit // 16:
                return
        if inbox.waits_too_long():
            inbox.give_up_waits()
        self._link.counters["pauses"] += 1
        started = trio.current_time()
        machine.pause(started)
        self._execute("slipstream.connection.pause", messages=inbox.count, size=inbox.bytes)
        room_wanted = True  # also where merging has made a little of it
        while (inbox.full or room_wanted) and not inbox.awaiting:
            room_wanted = False
            if not await wait_event(inbox.room(), deadline=started + config.max_pause):
                if transport.closed is None:  # else it had ended before, for a reason of its own
                    self._why = self._why or ConsumerTooSlow(trio.current_time() - started)
                await transport.close(1001)
                return
        now = trio.current_time()
        machine.resume(now)
        self._execute("slipstream.connection.resume", seconds=now - started)
        self._rearm()

    # The helper that keeps the deadlines

    async def _keep_time(self) -> None:
        try:
            while True:
                self._rearmed = trio.Event()
                self._armed_for = self._due_at()
                await wait_event(self._rearmed, deadline=self._armed_for)
                self._advance()
        finally:
            self._failure = sys.exception()

    def _advance(self) -> None:
        machine, transport = self._machine, self._transport
        if machine is None or transport is None or transport.closed is not None:
            return
        events, frames = machine.advance(trio.current_time(), transport.last_received)
        for outgoing in frames:
            self._send(outgoing)
        self._link.inbox.deliver([event for event in events if self._is_for_client(event)], 0)

    def _due_at(self) -> float:
        machine, transport = self._machine, self._transport
        # The end may take long to be read, where reading is paused; till then nothing is due.
        if machine is None or transport is None or transport.closed is not None:
            return math.inf
        return machine.deadline()

    def _rearm(self) -> None:
        # Only an earlier deadline is worth waking the helper for.
        if self._due_at() < self._armed_for:
            self._rearmed.set()

    # Small parts

    def _send(self, outgoing: Outgoing) -> None:
        if self._transport is None:
            return
        try:
            self._transport.send_nowait(outgoing.frame, token=outgoing, urgent=outgoing.urgent)
        except DisconnectedError:
            # It is closing: the machine's end() will tell of everything that was not written.
            return
        self._queued += len(outgoing.frame.data)
        self._link.recorder.sent(outgoing.frame, trio.current_time())
        self._rearm()

    def _written(self, tokens: Sequence[Any]) -> None:
        for outgoing in tokens:
            self._queued -= len(outgoing.frame.data)
        self._room.set()
        if self._machine is not None:
            self._machine.written([outgoing.ref for outgoing in tokens], trio.current_time())
            self._rearm()

    def _is_for_client(self, event: Event) -> bool:
        match event:
            case HeartbeatAcknowledged(seconds=seconds):
                self._execute("slipstream.connection.heartbeat", seconds=seconds)
            case HeartbeatTimedOut():
                self._execute("slipstream.connection.heartbeat_timeout")
                self._why = self._why or HeartbeatTimeout()
                if self._transport is not None:
                    # A peer that is silent will not answer a Close either.
                    self._transport.abort(1001)
            case FrameDiscarded(why=why, message=message):
                self._link.counters["discarded"] += 1
                self._execute(
                    "slipstream.connection.discarded",
                    why=why,
                    topic=message.topic,
                    event=message.event,
                )
            case FrameUndecodable(error=error):
                self._link.counters["undecodable"] += 1
                self._execute("slipstream.connection.undecodable", error=error)
                if self._config is not None and self._config.on_undecodable == "close":
                    self._why = self._why or TransportFailed(error)
                    self._close_soon(1007)
            case _:
                return True
        return False

    def _close_soon(self, code: int) -> None:
        if self._transport is not None and not self._ending:  # else terminate closes it
            self.start_soon(self._transport.close, code)

    def _execute(self, event: str, /, **metadata: Any) -> None:
        if telemetry.attached(event):
            link = self._link
            telemetry.execute(event, client=link.client, generation=link.generation, **metadata)

    def _attempt_only_cancel(self) -> None:
        if self._transport is None:
            self._attempt.cancel()

    def _failure_or(self, raised: BaseException | None) -> BaseException:
        for error in (self._failure, raised):
            if isinstance(error, Exception):
                return error
        return ServerGoneError(self.ref, KILLED)

    def _exit_for(self, reason: DisconnectReason) -> BaseException:
        match reason:
            case ClosedByClient() | ClosedByServer(code=1000 | 1001):
                return Exit(NORMAL)
            case ConnectFailed(error=ConnectError() as error):
                return error
            case _:
                return DisconnectedError(reason)
