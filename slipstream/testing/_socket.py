"""One client's connection, seen from the server: a process that owns its channels."""

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection

from slipstream.errors import DecodeError, ServerGoneError, StartError
from slipstream.interfaces import Message, Payload, Serializer
from slipstream.otp import Down, GenServer, Ignore, Monitor, ServerRef, Stop
from slipstream.protocol import V1Serializer, V2Serializer
from slipstream.protocol.messages import (
    HEARTBEAT,
    PHOENIX,
    PHX_CLOSE,
    PHX_ERROR,
    PHX_JOIN,
    PHX_LEAVE,
    PHX_REPLY,
)
from slipstream.reasons import SHUTDOWN, ExitReason

from ._channel import Answer, Channel, Error, Ok, ReplyRef

if TYPE_CHECKING:  # a cycle by nature: the server starts sockets, a socket acts on its server
    from ._server import PhoenixServer

__all__ = ["ServerSocket"]

_UNMATCHED: Final = Error({"reason": "unmatched topic"})


class _Crash:
    """Lets a channel crash from outside."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class _ChannelProcess(GenServer, restart="temporary"):
    """The process of one joined channel."""

    async def init(
        self, channel: Channel, payload: Payload, outcome: list[Any], /
    ) -> Ignore | None:
        """Ask the channel to let the client in."""
        self._channel = channel
        answer = await channel.join(channel.topic, payload, channel.socket)
        outcome.append(Ok() if answer is None else answer)
        return Ignore() if isinstance(answer, Error) else None

    async def handle_info(self, item: Any, /) -> Stop | None:
        """Hand a push of the client, or any other message, to the channel."""
        channel = self._channel
        if isinstance(item, Message):
            channel.reply_ref = ReplyRef(item.ref, channel.reply_ref.join_ref)
            answer = await channel.handle_in(item.event, item.payload, channel.socket)
            if answer is not None:
                channel.reply(channel.reply_ref, answer)
        elif isinstance(item, _Crash):
            raise item.error
        else:
            await channel.handle_info(item)
        return None if channel.stop_reason is None else Stop(channel.stop_reason)

    async def terminate(self, reason: ExitReason, /) -> None:
        """Let the channel clean up."""
        await self._channel.terminate(reason)


class _Joined:
    """A channel that a client has joined."""

    __slots__ = ("channel", "join_ref", "monitor", "ref")

    def __init__(self, channel: Channel, join_ref: str | None) -> None:
        self.channel = channel
        self.join_ref = join_ref
        self.ref: ServerRef | None = None
        self.monitor: Monitor | None = None


async def _stop(channel: ServerRef) -> None:
    # How it ends is told by its Down, also where its terminate crashes.
    with suppress(ServerGoneError):
        await channel.stop(SHUTDOWN)


class ServerSocket(GenServer, restart="temporary", shutdown=2.0):
    """A client's connection. Channels get it; tests find it in ``server.sockets``.

    Attributes:
        server: the server it belongs to.
        params: the query parameters of its URI.
        headers: the headers of its request, names in lower case.
        assigns: a dict for whatever the connection wants to keep.
    """

    server: "PhoenixServer"
    params: Mapping[str, str]
    headers: Mapping[str, str]
    assigns: dict[str, Any]

    async def init(self, server: "PhoenixServer", stream: trio.SocketStream, /) -> None:
        """Take the accepted *stream*; the handshake is made by a helper."""
        self.server = server
        self.params, self.headers, self.assigns = {}, {}, {}
        self._stream = stream
        self._websocket: WebSocketConnection | None = None
        self._serializer: Serializer = V2Serializer(role="server")
        self._frozen = False
        self._joined: dict[str, _Joined] = {}
        self._ending: dict[Monitor, _Joined] = {}
        self._close_with: tuple[int, str] = (1012, "")
        self._out, self._outgoing = trio.open_memory_channel[str | bytes](100_000)
        self.start_soon(self._serve)

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
        frame = self._serializer.encode(Message(join_ref, ref, topic, event, payload))
        try:
            self._out.send_nowait(frame.data if frame.binary else frame.data.decode())
        except (trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
            self.server.dropped += 1

    def send_reply(self, join_ref: str | None, ref: str | None, topic: str, answer: Answer) -> None:
        """Queue a reply. Keys are in Phoenix's order, ``response`` first."""
        reply = {"response": answer.response, "status": answer.status}
        self.send(join_ref, ref, topic, PHX_REPLY, reply)

    def send_info(self, channel: Channel, message: Any) -> None:
        """Have *channel*'s ``handle_info`` called with *message*."""
        joined = self._joined.get(channel.topic)
        if joined is not None and joined.channel is channel and joined.ref is not None:
            joined.ref.send(message)

    def drop(self) -> None:
        """Cut the connection without a close frame."""
        self._stream.socket.close()

    def freeze(self) -> None:
        """Read nothing more from the client, and so answer nothing: a peer that hangs."""
        self._frozen = True

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection with a close frame."""
        self._close_with = (code, reason)
        self.start_soon(self._close)

    def disconnect(self) -> None:
        """Close the connection as a ``disconnect`` broadcast does."""
        self.close(1001)

    def crash_channel(self, topic: str, error: Exception) -> None:
        """Let the channel of *topic* crash with *error*."""
        joined = self._joined.get(topic)
        if joined is not None and joined.ref is not None:
            joined.ref.send(_Crash(error))

    def channel_ref(self, topic: str) -> ServerRef | None:
        """Give the process of the channel of *topic*, if it is joined."""
        joined = self._joined.get(topic)
        return joined.ref if joined is not None else None

    # The process

    async def handle_info(self, item: Any, /) -> Stop | None:
        """Note the end of a channel, or of the connection."""
        match item:
            case Down(monitor=monitor, reason=reason):
                self._channel_ended(monitor, reason)
            case _:
                return Stop(SHUTDOWN)
        return None

    async def terminate(self, reason: ExitReason, /) -> None:
        """Close the connection in order, for a short time."""
        await self._close()

    async def _close(self) -> None:
        with trio.move_on_after(1.0):
            if self._websocket is not None:
                await self._websocket.aclose(*self._close_with)
        await trio.aclose_forcefully(self._stream)

    async def _serve(self) -> None:
        try:
            async with trio.open_nursery() as nursery:
                websocket = await self.server.shake_hands(nursery, self._stream, self)
                if websocket is not None:
                    if self.params.get("vsn", "1.0.0").startswith("1."):
                        self._serializer = V1Serializer(role="server")
                    self._websocket = websocket
                    self.server.socket_opened(self)
                    nursery.start_soon(self._write, websocket)
                    await self._read(websocket)
                nursery.cancel_scope.cancel()
        finally:
            self.server.socket_closed(self)
            self._out.close()
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(self._stream)
        self.ref.send("connection ended")

    async def _write(self, websocket: WebSocketConnection) -> None:
        async for frame in self._outgoing:
            try:
                await websocket.send_message(frame)
            except (ConnectionClosed, trio.BrokenResourceError, trio.ClosedResourceError):
                return

    async def _read(self, websocket: WebSocketConnection) -> None:
        while True:
            try:
                data = await websocket.get_message()
                message = self._serializer.decode(data)
            except ConnectionClosed:
                return
            except DecodeError:
                # Phoenix raises in the transport process; the client sees a 1011.
                with trio.move_on_after(1.0):
                    await websocket.aclose(1011)
                return
            self.server.heard(message)
            if self._frozen:
                await trio.sleep_forever()
            await self._handle(message)

    async def _handle(self, message: Message) -> None:
        topic, ref, join_ref = message.topic, message.ref, message.join_ref
        joined = self._joined.get(topic)
        if topic == PHOENIX and message.event == HEARTBEAT:
            self.send_reply(None, ref, topic, Ok())
        elif message.event == PHX_JOIN:
            await self._join(message)
        elif joined is None:
            if message.event == PHX_LEAVE:
                self.send_reply(join_ref, ref, topic, Ok())
            else:
                self.send_reply(None, ref, topic, _UNMATCHED)
        elif join_ref is not None and join_ref != joined.join_ref:
            return  # of an earlier join: dropped in silence
        elif message.event == PHX_LEAVE:
            self.send_reply(joined.join_ref, ref, topic, Ok())
            self._detach(topic)
        elif joined.ref is not None:
            joined.ref.send(message)

    async def _join(self, message: Message) -> None:
        topic, ref = message.topic, message.ref
        join_ref = message.join_ref if self._serializer.vsn.startswith("2.") else ref
        channel = self.server.make_channel(topic)
        if channel is None:
            self.send_reply(None, ref, topic, _UNMATCHED)
            return
        if topic not in self._joined and len(self._joined) >= self.server.max_channels:
            self.send_reply(join_ref, ref, topic, Error({"reason": "too many channels joined"}))
            return
        channel.attach(self, topic, ref, join_ref)
        joined = _Joined(channel, join_ref)
        outcome: list[Any] = []
        spec = _ChannelProcess.child_spec(
            channel, message.payload, outcome, id=f"{topic} {join_ref}"
        )
        try:
            joined.ref = await self.start_owned(spec)
        except StartError as error:
            self.server.crashes.append(error.__cause__ or error)
            self.send_reply(join_ref, ref, topic, Error({"reason": "join crashed"}))
            return
        answer = outcome[0]
        self.send_reply(join_ref, ref, topic, answer)
        if joined.ref is None:
            return
        if topic in self._joined:
            self._detach(topic)  # its phx_close comes after the reply to the new join
        joined.monitor = self.monitor(joined.ref)
        self._joined[topic] = joined
        self._ending[joined.monitor] = joined
        joined.ref.send("after_join")
        self.server.joined()

    def _detach(self, topic: str) -> None:
        joined = self._joined.pop(topic)
        if joined.ref is not None:
            self.start_soon(_stop, joined.ref)

    def _channel_ended(self, monitor: Monitor, reason: ExitReason) -> None:
        joined = self._ending.pop(monitor, None)
        if joined is None:
            return
        topic = joined.channel.topic
        if self._joined.get(topic) is joined:
            del self._joined[topic]
        if reason.abnormal:
            crash = {"reason": "channel_crash"}
            self.send(joined.join_ref, joined.join_ref, topic, PHX_ERROR, crash)
        else:
            self.send(joined.join_ref, joined.join_ref, topic, PHX_CLOSE, {})
