"""One client's connection, seen from the server: a process that owns its channels."""

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import trio

from slipstream.errors import DecodeError, ServerGoneError, StartError
from slipstream.interfaces import Frame, Message, Payload, Serializer
from slipstream.otp import Down, GenServer, Monitor, ServerRef, Stop
from slipstream.protocol.messages import (
    HEARTBEAT,
    PHOENIX,
    PHX_CLOSE,
    PHX_ERROR,
    PHX_JOIN,
    PHX_LEAVE,
    PHX_REPLY,
)
from slipstream.reasons import NOPROC, NORMAL, SHUTDOWN, Crashed, ExitReason, Shutdown

from ._channel import Answer, Channel, Error, Ok
from ._channel_process import ChannelProcess, Crash, Intercepted
from ._faults_line import Line
from ._serializers import serializer_for
from ._traffic import Traffic
from ._wire import Wire, WireClosed

if TYPE_CHECKING:  # a cycle by nature: the server starts sockets, a socket acts on its server
    from ._server import PhoenixServer

__all__ = ["ServerSocket"]

_CLOSE_GRACE: Final = 1.0
_QUEUE: Final = 100_000
_UNMATCHED: Final = Error({"reason": "unmatched topic"})


class _Joined:
    """A channel that a client has joined."""

    __slots__ = ("channel", "join_ref", "leaving", "monitor", "ref")

    def __init__(
        self, channel: Channel, join_ref: str | None, ref: ServerRef, monitor: Monitor
    ) -> None:
        self.channel = channel
        self.join_ref = join_ref
        self.ref = ref
        self.monitor = monitor
        self.leaving = False


async def _stop(channel: ServerRef, reason: ExitReason) -> None:
    # How it ends is told by its Down, also where its terminate crashes.
    with suppress(ServerGoneError):
        await channel.stop(reason)


class ServerSocket(GenServer, restart="temporary", shutdown=2.0):
    """A client's connection. Channels get it; tests find it in ``server.sockets``.

    Attributes:
        server: the server it belongs to.
        number: how many connections came before it, and this one.
        id: what the server's ``id`` function gave, for ``server.disconnect(id=…)``.
        params: the query parameters of its URI.
        headers: the headers of its request, names in lower case.
        closed_with: the close code, once it is over.
        wire: what carries it, for tests that look at it.
        line: what goes wrong on it.
        assigns: a dict for whatever the connection wants to keep; ``connect`` may have filled it.
    """

    server: "PhoenixServer"
    line: Line
    number: int
    id: str | None
    params: Mapping[str, str]
    headers: Mapping[str, str]
    assigns: dict[str, Any]

    async def init(self, server: "PhoenixServer", wire: Wire, /) -> None:
        """Take the accepted connection; the handshake is made by a helper."""
        self.server, self.id = server, None
        self.number, self.closed_with = server.next_number(), "1006"
        self.params, self.headers, self.assigns = {}, {}, {}
        self.wire = wire
        self.line = server.injections.new_line(self, wire)
        self._serializer: Serializer = serializer_for("2.0.0")
        self._frozen = self._open = False
        self._joined: dict[str, _Joined] = {}
        self._close_with: tuple[int, str] = (1012, "")
        self._closing, self._written, self._over = trio.Event(), trio.Event(), trio.Event()
        self._out, self._outgoing = trio.open_memory_channel[Frame](_QUEUE)
        self.start_soon(self._serve)

    def open(self) -> None:
        """Count as open; before the client hears of it, since it may act on it at once."""
        self._serializer = serializer_for(self.params.get("vsn", "1.0.0"))
        self._open = True
        self.server.socket_opened(self)

    # What channels and tests do

    @property
    def topics(self) -> list[str]:
        """The topics that are joined on this connection."""
        return list(self._joined)

    def channel(self, topic: str) -> Channel | None:
        """Give the channel of *topic*, if it is joined."""
        joined = self._joined.get(topic)
        return joined.channel if joined is not None else None

    def send(
        self, join_ref: str | None, ref: str | None, topic: str, event: str, payload: Payload
    ) -> None:
        """Queue a message to the client; to a lagging or closed one it is dropped."""
        self._queue(self._serializer.encode(Message(join_ref, ref, topic, event, payload)))

    def send_reply(self, join_ref: str | None, ref: str | None, topic: str, answer: Answer) -> None:
        """Queue a reply."""
        self._queue(self.encode_reply(join_ref, ref, topic, answer))

    def encode_reply(
        self, join_ref: str | None, ref: str | None, topic: str, answer: Answer
    ) -> Frame:
        """Encode a reply. Keys are in Phoenix's order, ``response`` first.

        Raises:
            EncodeError: if the response cannot be put on the wire.
        """
        reply = {"response": answer.response, "status": answer.status}
        return self._serializer.encode(Message(join_ref, ref, topic, PHX_REPLY, reply))

    def drop(self) -> None:
        """Cut the connection without a close frame."""
        self.wire.cut()
        self.close()  # with nobody to hear it: a join that hangs must not keep the process

    def freeze(self) -> None:
        """Read nothing more from the client, and so answer nothing: a peer that hangs."""
        self._frozen = True

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection with a close frame, after what is queued; only the first counts."""
        if self._closing.is_set():
            return
        self._close_with = (code, reason)
        self._closing.set()
        self._out.close()

    def deliver(self, topic: str, event: str, payload: Payload, *, but: Channel | None) -> bool:
        """Take a broadcast, unless *topic* is not joined here, or by *but*; tell whether it was taken."""
        joined = self._joined.get(topic)
        if joined is None or joined.channel is but:
            return False
        if event in joined.channel.intercept:
            joined.ref.send(Intercepted(event, payload))
        else:
            self.send(None, None, topic, event, payload)
        return True

    def disconnect(self) -> None:
        """Close the connection as a ``disconnect`` broadcast does."""
        self.close(self.server.profile.disconnect_code)

    def crash_channel(self, topic: str, error: Exception) -> None:
        """Let the channel of *topic*, if it is joined, crash with *error*."""
        joined = self._joined.get(topic)
        if joined is not None:
            joined.ref.send(Crash(error))

    async def stop_channel(self, topic: str) -> None:
        """Let the channel of *topic*, if it is joined, stop in an orderly way."""
        joined = self._joined.get(topic)
        if joined is None:
            await trio.lowlevel.checkpoint()
        else:
            await _stop(joined.ref, NORMAL)

    # The process

    async def handle_info(self, item: Any, /) -> Stop | None:
        """Note the end of a channel, or of the connection."""
        match item:
            case Down(monitor=monitor, reason=reason):
                for joined in list(self._joined.values()):
                    if joined.monitor is monitor:
                        # Of one that ended before it was monitored only its ref knows the reason.
                        ended = await joined.ref.wait() if reason is NOPROC else reason
                        self._channel_ended(joined, ended)
            case _:
                return Stop(SHUTDOWN)
        return None

    async def terminate(self, reason: ExitReason, /) -> None:
        """Close the connection in order, for a short time."""
        self.close(*self._close_with)
        with trio.move_on_after(_CLOSE_GRACE * 1.5):
            await self._over.wait()

    async def _serve(self) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._end_in_time, nursery.cancel_scope)
                accepted = False
                shaking_hands = trio.CancelScope()
                nursery.start_soon(self._give_up, shaking_hands)
                with shaking_hands:
                    accepted = await self.server.shake_hands(nursery, self)
                if accepted:
                    self.line.opened()
                    nursery.start_soon(self.line.run)
                    nursery.start_soon(self._end_idleness)
                    nursery.start_soon(self._write)
                    await self._read()
                    if self.wire.closed_code is not None:
                        self.closed_with = str(self.wire.closed_code)
                nursery.cancel_scope.cancel()
        finally:
            self._out.close()
            with trio.CancelScope(shield=True):
                await self.wire.aclose()
            self.server.socket_closed(self)
            for joined in self._joined.values():
                self.server.presence_table.forget(joined.channel)
            self._over.set()
        self.ref.send("connection ended")

    async def _give_up(self, shaking_hands: trio.CancelScope) -> None:
        # Neither trio-websocket nor a connect function notices that the client has hung up.
        await self.wire.wait_ended()
        shaking_hands.cancel()

    async def _end_in_time(self, everything: trio.CancelScope) -> None:
        # Whatever the client does: once a close is asked for, it is over soon.
        await self._closing.wait()
        if self._open:
            with trio.move_on_after(_CLOSE_GRACE):
                await self._written.wait()
        everything.cancel()

    async def _end_idleness(self) -> None:
        while True:
            deadline = self.wire.last_received + self.server.idle_timeout
            if deadline <= trio.current_time():
                break
            await trio.sleep_until(deadline)
        self.close(self.server.profile.idle_code)

    async def _write(self) -> None:
        try:
            async for frame in self._outgoing:
                data = frame.data if frame.binary else frame.data.decode()
                self.server.show(Traffic(self.number, "sent", data))
                await self.line.send(frame)
            await self.line.close(*self._close_with)
        except WireClosed:
            return  # the reader notices, too
        finally:
            self._written.set()

    async def _read(self) -> None:
        while True:
            try:
                data = await self.wire.receive()
                self.server.show(Traffic(self.number, "received", data))
                message = self._serializer.decode(data)
            except (WireClosed, DecodeError) as error:
                if isinstance(error, DecodeError):
                    self.close(1011)  # as where Phoenix's transport process raises
                if self._closing.is_set():
                    await self._written.wait()  # the client has a moment for its own Close
                return
            self.server.heard(message)
            self.line.heard(message)
            if self.line.over:
                return
            if self._frozen:
                await self.wire.wait_ended()
                return
            await self._handle(message, binary=isinstance(data, bytes))

    async def _handle(self, message: Message, *, binary: bool) -> None:
        topic, ref, join_ref = message.topic, message.ref, message.join_ref
        joined = self._joined.get(topic)
        # In a binary message an absent join_ref is an empty one, which Phoenix takes for a stale one.
        absent = join_ref is None and not binary and self.server.profile.takes_null_join_ref
        stale = joined is not None and join_ref != joined.join_ref and not absent
        if topic == PHOENIX and message.event == HEARTBEAT:
            self.send_reply(None, ref, topic, Ok())
        elif message.event == PHX_JOIN:
            await self._join(message, joined)
        elif joined is None:
            if message.event == PHX_LEAVE:
                self.send_reply(join_ref, ref, topic, Ok())
            else:
                self.send_reply(None, ref, topic, _UNMATCHED)
        elif not stale:
            # A leave, too, waits for the pushes before it.
            joined.leaving = joined.leaving or message.event == PHX_LEAVE
            joined.ref.send(message)

    async def _join(self, message: Message, old: _Joined | None) -> None:
        topic = message.topic
        if old is not None and old.leaving:
            # As Phoenix: the close of the old one comes before the reply to the new join.
            self._channel_ended(old, await old.ref.wait())
            old = None
        channel = self.server.make_channel(topic)
        if channel is None:
            self.send_reply(None, message.ref, topic, _UNMATCHED)
        elif old is None and len(self._joined) >= self.server.max_channels:
            full = Error({"reason": "too many channels joined"})
            self.send_reply(message.join_ref, message.ref, topic, full)
        elif old is None:
            await self._start_channel(channel, message)
        else:
            # A second join ends the first at once, and yet its close comes after the new reply.
            del self._joined[topic]
            try:
                await _stop(old.ref, Shutdown("duplicate join"))
            finally:  # where the connection ends meanwhile, too
                self.server.presence_table.forget(old.channel)
            await self._start_channel(channel, message)
            self.send(old.join_ref, old.join_ref, topic, PHX_CLOSE, {})
            self.server.tell()

    async def _start_channel(self, channel: Channel, message: Message) -> None:
        topic, ref, join_ref = message.topic, message.ref, message.join_ref
        channel.attach(self, topic, ref, join_ref)
        replies: list[Frame] = []
        process = None
        try:
            process = await self.start_owned(
                ChannelProcess.child_spec(
                    channel, message.payload, replies, id=f"{topic} {join_ref}"
                )
            )
        except trio.Cancelled:  # the connection has ended meanwhile
            self.server.presence_table.forget(channel)
            raise
        except StartError as error:
            self.server.presence_table.forget(channel)
            self._note_crash(error.reason)
            self.send_reply(join_ref, ref, topic, Error({"reason": "join crashed"}))
            return
        self._queue(replies[0])
        if process is None:
            self.server.presence_table.forget(channel)
        else:
            self._joined[topic] = _Joined(channel, join_ref, process, self.monitor(process))
            channel.let_in(process)
            self.server.tell()

    def _channel_ended(self, joined: _Joined, reason: ExitReason) -> None:
        topic, join_ref = joined.channel.topic, joined.join_ref
        if self._joined.get(topic) is not joined:
            return  # told already
        del self._joined[topic]
        if reason.abnormal:
            self._note_crash(reason)
            crash = dict(self.server.profile.crash_payload)
            self.send(join_ref, join_ref, topic, PHX_ERROR, crash)
        else:
            self.send(join_ref, join_ref, topic, PHX_CLOSE, {})
        self.server.presence_table.forget(joined.channel)
        self.server.tell()

    def _note_crash(self, reason: ExitReason) -> None:
        if isinstance(reason, Crashed):
            self.server.crashes.append(reason.exception)

    def _queue(self, frame: Frame) -> None:
        try:
            self._out.send_nowait(frame)
        except (trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
            self.server.dropped += 1  # a client that lags, or has gone
