"""What the server of a test does to the client."""

from typing import Any, Self

import attrs

from slipstream.reasons import ClosedByServer, DisconnectReason, ExitReason, TransportFailed

from ._script import Heard, Script, Wire
from ._timeline import Timeline
from ._waiting import Waiting

__all__ = ["ClientMessage", "Serving"]


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


class Serving(Waiting):
    """The server: each of these returns when the client has done all that it can do upon it."""

    def __init__(self, script: Script, timeline: Timeline, ends: list[ExitReason]) -> None:
        super().__init__(timeline, ends)
        self._script = script
        self._ends_seen: set[int] = set()  # ends of connections, by the server or asserted

    async def reply(self, to: ClientMessage, response: Any = None, *, status: str = "ok") -> None:
        """Answer a push, with any *status*; a connection that has ended loses it."""
        to.heard.wire.reply(to.heard.message, status, {} if response is None else response)
        await self.settle()

    async def push(self, topic: str, event: str, payload: Any = None) -> None:
        """Push *event* to this client alone, as its channel does.

        Raises:
            AssertionError: if it has not asked to join *topic* on this connection.
        """
        await self._say(topic, event, payload, own=True)

    async def broadcast(self, topic: str, event: str, payload: Any = None) -> None:
        """Broadcast *event* to *topic*: it comes without a join_ref."""
        await self._say(topic, event, payload, own=False)

    async def _say(self, topic: str, event: str, payload: Any, *, own: bool) -> None:
        wire = self._script.wire()
        join_ref = self._join_ref(wire, topic) if own else None
        wire.say(join_ref, None, topic, event, {} if payload is None else payload)
        await self.settle()

    async def crash_topic(self, topic: str, payload: Any = None) -> None:
        """Let the server's channel of *topic* crash, as Phoenix tells of it."""
        told = {"reason": "channel_crash"} if payload is None else payload
        await self._end_topic(topic, "phx_error", told)

    async def close_topic(self, topic: str) -> None:
        """Let the server's channel of *topic* stop in order."""
        await self._end_topic(topic, "phx_close", {})

    async def _end_topic(self, topic: str, event: str, payload: Any) -> None:
        wire = self._script.wire()
        join_ref = self._join_ref(wire, topic)
        del wire.join_refs[topic]
        wire.say(join_ref, join_ref, topic, event, payload)
        await self.settle()

    def _join_ref(self, wire: Wire, topic: str) -> str | None:
        if topic not in wire.join_refs:
            asked = ", ".join(map(repr, wire.join_refs)) or "none"
            raise AssertionError(
                f"the client has not joined {topic!r} on this connection (it has: {asked})"
            )
        return wire.join_refs[topic]

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection with a close frame."""
        wire = self._ending(f"closes with {code} {reason}".rstrip())
        wire.peer.close(code, reason)
        await self.settle()

    async def drop(self, error: BaseException | None = None) -> None:
        """Cut the connection without a close frame; *error* is what the network says."""
        wire = self._ending("drops the connection")
        wire.peer.drop(error)
        await self.settle()

    async def disconnect(self, reason: DisconnectReason | None = None) -> None:
        """End the connection so that the client is told *reason*.

        By default as Phoenix's ``disconnect`` broadcast does, with 1001.

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
            case _:
                raise ValueError(
                    f"reason={reason!r} is wrong: a server brings about ClosedByServer and "
                    "TransportFailed. For a HeartbeatTimeout use stall() and advance(…); for a "
                    "ConnectFailed refuse_connect() or fail_connect()"
                )

    def _ending(self, what: str) -> Wire:
        wire = self._script.wire()
        wire.open = False
        self._ends_seen.add(id(wire))  # it is no end of the client's
        self.timeline.note("server", what)
        return wire

    async def stall(self, *, buffers_full: bool = False) -> None:
        """Read nothing that the client sends, and answer nothing, until :meth:`resume`.

        The network between keeps what is written, so that the client only hears silence; with
        *buffers_full* it takes nothing any more, and writing stalls.
        """
        self._script.stalled = True
        if buffers_full:
            self._script.wire().peer.stall_writes()
        self.timeline.note("server", "stalls")
        await self.settle()

    async def resume(self) -> None:
        """Read and answer again, what was sent meanwhile first."""
        self.timeline.note("server", "goes on")
        self._script.resume()
        await self.settle()
