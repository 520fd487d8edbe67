"""What the server of a test does to the client."""

from contextlib import suppress
from typing import Any, Final, Self

import attrs

from slipstream.errors import DecodeError
from slipstream.interfaces import Message
from slipstream.reasons import (
    ClosedByServer,
    DisconnectReason,
    HeartbeatTimeout,
    TransportFailed,
)

from ._script import Heard, Wire
from ._subject import Subject

__all__ = ["ClientMessage", "Serving"]

__tracebackhide__ = True  # pytest shows the line of the test

_SILENCE: Final = 3600.0
"""Seconds within which a client gives up a silent server, or never."""


@attrs.frozen
class ClientMessage:
    """What the client has sent: a join, a leave, a push.

    Attributes:
        topic, event, payload: as on the wire; the payload of a join is its params.
        ref, join_ref: its references.
        at: when, on trio's clock.
    """

    topic: str
    event: str
    payload: Any
    ref: str | None
    join_ref: str | None
    at: float
    heard: Heard = attrs.field(repr=False, eq=False)

    @classmethod
    def of(cls, heard: Heard) -> Self:
        """Show what was *heard*."""
        told = heard.message
        return cls(told.topic, told.event, told.payload, told.ref, told.join_ref, heard.at, heard)


class Serving(Subject):
    """The server: each of these returns when the client has done all that it can do upon it."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self._ends_seen: set[int] = set()  # ends of connections, by the server or asserted

    async def reply(self, to: ClientMessage, response: Any = None, *, status: str = "ok") -> None:
        """Answer a push, with any *status*.

        Raises:
            AssertionError: if its channel, or its connection, has ended: no server answers then.
        """
        wire = to.heard.wire
        if not wire.open or wire.joined.get(to.topic, wire) != to.join_ref:
            raise self.failed(
                f"the push of {to.event!r} to {to.topic!r} cannot be answered: its channel has "
                "ended, and no server answers then"
            )
        wire.reply(to.heard.message, status, {} if response is None else response)
        await self.settle()

    async def push(self, topic: str, event: str, payload: Any = None, *, times: int = 1) -> None:
        """Push *event* to this client alone, as its channel does; so many *times* in a row.

        Raises:
            AssertionError: if it has not joined *topic* on this connection.
        """
        await self._say(topic, event, payload, own=True, times=times)

    async def broadcast(self, topic: str, event: str, payload: Any = None) -> None:
        """Broadcast *event* to *topic*: it comes without a join_ref.

        Raises:
            AssertionError: if the client has not joined *topic* on this connection.
        """
        await self._say(topic, event, payload, own=False)

    async def _say(
        self, topic: str, event: str, payload: Any, *, own: bool, times: int = 1
    ) -> None:
        wire = self._joined(topic)
        said: Any = {} if payload is None else payload
        for _ in range(times):
            wire.say(wire.joined[topic] if own else None, None, topic, event, said)
        await self.settle()

    async def crash_topic(self, topic: str, payload: Any = None) -> None:
        """Let the server's channel of *topic* crash, as Phoenix tells of it."""
        told = {"reason": "channel_crash"} if payload is None else payload
        await self._end_topic(topic, "phx_error", told)

    async def close_topic(self, topic: str) -> None:
        """Let the server's channel of *topic* stop in order."""
        await self._end_topic(topic, "phx_close", {})

    async def _end_topic(self, topic: str, event: str, payload: Any) -> None:
        self._joined(topic).end_channel(topic, event, payload)
        await self.settle()

    def _joined(self, topic: str) -> Wire:
        wire = self._wire()
        if topic not in wire.joined:
            names = ", ".join(map(repr, wire.joined)) or "none"
            raise self.failed(
                f"the client has not joined {topic!r} on this connection (it has: {names})"
            )
        return wire

    def _wire(self) -> Wire:
        """Give the newest connection, for the server to do something on it."""
        wire = self._script.wire()
        if wire is None:
            raise self.failed("the client is not connected: there is nobody to send to")
        return wire

    async def send(self, *messages: Message | str | bytes) -> None:
        """Send messages just as they are, in one delivery: for what no server sends, or not now.

        A :class:`~slipstream.Message` is encoded as the connection wants it; ``str`` is a WebSocket
        message of text, ``bytes`` a binary one.
        """
        wire = self._wire()
        self.timeline.note("server", f"→ {', '.join(map(repr, messages))}")
        data = [wire.encode(each) if isinstance(each, Message) else each for each in messages]
        for each in data:
            with suppress(DecodeError):
                self.timeline.watcher.said(wire, wire.decode(each))
        wire.peer.send(*data)
        await self.settle()

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection with a close frame.

        Raises:
            AssertionError: if there is none.
            ValueError: if *code* may not go on the wire or *reason* is over 123 bytes.
        """
        wire = self._wire()
        wire.peer.close(code, reason)
        self._ending(wire, f"closes with {code} {reason}".rstrip())
        await self.settle()

    async def drop(self, error: BaseException | None = None) -> None:
        """Cut the connection without a close frame; *error* is what the network says."""
        wire = self._script.wire()
        if wire is None:
            raise self.failed("the client is not connected: there is no connection to drop")
        self._ending(wire, "drops the connection")
        wire.peer.drop(error)
        await self.settle()

    async def disconnect(self, reason: DisconnectReason | None = None) -> None:
        """End the connection so that the client is told *reason*.

        By default as Phoenix's ``disconnect`` broadcast does, with 1001. For a ``HeartbeatTimeout``
        the server is silent for as long as it takes.

        Raises:
            ValueError: if no server can bring *reason* about.
        """
        match reason:
            case None:
                await self.close(1001)
            case ClosedByServer(code, text):
                await self.close(code, text)
            case TransportFailed(error):
                await self.drop(error)
            case HeartbeatTimeout():
                await self._fall_silent()
            case _:
                raise ValueError(
                    f"reason={reason!r} is wrong: a server brings about ClosedByServer, "
                    "TransportFailed and HeartbeatTimeout. For a ConnectFailed use "
                    "refuse_connect() or fail_connect()"
                )

    async def _fall_silent(self) -> None:
        await self.stall()
        wire = self._script.wire()
        await self.wait_for(
            "the client to give up a silent server",
            lambda: [] if wire is None or wire.open else [wire],
            lambda _: [],
            _SILENCE,
        )
        self._ends_seen.add(id(wire))
        await self.resume()

    def _ending(self, wire: Wire, what: str) -> None:
        wire.open = False
        self._ends_seen.add(id(wire))  # it is no end of the client's
        self.timeline.note("server", what)
        self.timeline.watcher.closed(wire)

    async def stall(self, topic: str | None = None, *, buffers_full: bool = False) -> None:
        """Read nothing that the client sends, and answer nothing, until :meth:`resume`.

        The network between keeps what is written, so that the client only hears silence; with
        *buffers_full* it takes nothing any more, and writing stalls. With a *topic* it is that channel
        alone which answers nothing, not even a leave; what the client sends to it can be asserted.

        Raises:
            AssertionError: if the client has not joined *topic* on this connection.
        """
        if topic is not None:
            self._joined(topic).hang_channel(topic)
            self.timeline.note("server", f"has the channel of {topic!r} stall")
            return
        self._script.stall()
        wire = self._script.wire()
        if buffers_full and wire is not None:
            wire.peer.stall_writes()
        self.timeline.note("server", "stalls")
        await self.settle()

    async def resume(self) -> None:
        """Read and answer again, what was sent meanwhile first."""
        self.timeline.note("server", "goes on")
        self._script.resume()
        await self.settle()
