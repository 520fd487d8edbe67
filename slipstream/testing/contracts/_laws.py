"""The callback contract itself: what holds for every client, whatever its server does.

These laws bind the library more than its user. A client that breaks one has most likely found a
fault of the library's, or goes round it.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

from slipstream.errors import LinkError
from slipstream.interfaces import Message
from slipstream.protocol.messages import HEARTBEAT, PHX_JOIN, PHX_LEAVE, PHX_REPLY
from slipstream.reasons import Crashed, HeartbeatTimeout
from slipstream.testing._timeline import Call

__all__ = ["Laws"]


class _Wire:
    """What went over one connection."""

    def __init__(self, number: int, life: "_Life | None") -> None:
        self.number = number
        self.life = life
        self.open = True
        self.last_ref = 0
        self.joined: dict[str, str | None] = {}  # the last join that was let in
        self.heartbeat_timeouts = 0


class _Life:
    """What one incarnation has been told."""

    def __init__(self) -> None:
        self.connected = False
        self.connects = 0
        self.disconnects = 0
        self.terminated = False
        self.crashed = False
        self.attempts = 0
        self.failures = 0
        self.opened = 0
        self.closed = 0
        self.asked: set[str] = set()
        self.let_in: dict[str, deque[Any]] = {}  # responses of joins that were not told yet
        self.legal: deque[tuple[int, Message]] = deque()  # what may still be delivered, in order
        self.ended_pushes: set[str] = set()
        self.replied: set[str] = set()


class Laws:
    """Follows what happens, and says what may not have happened.

    Args:
        broken: is told which law, and how it was broken.
    """

    def __init__(self, broken: Callable[[int, str], None]) -> None:
        self._broken = broken
        self._wires: dict[int, _Wire] = {}
        self._attempts: dict[int, _Life] = {}
        self._newest: _Wire | None = None
        self._life: _Life | None = None
        self._running: Call | None = None
        self._delivered: set[int] = set()
        self._kept: list[Message] = []  # so that no identity is used twice
        self.awaits_link = False

    # -- the network

    def attempted(self, attempt: object) -> None:
        """Follow that the client wants to connect."""
        if self._life is not None:
            self._life.attempts += 1
            self._attempts[id(attempt)] = self._life
        newest = self._newest
        if newest is not None and newest.open and newest.life is self._life:
            self._broken(9, "it connects while a connection is open")

    def attempt_failed(self, attempt: object) -> None:
        """Follow that an attempt has failed."""
        life = self._attempts.pop(id(attempt), None)
        if life is not None:
            life.failures += 1

    def opened(self, wire: object) -> None:
        """Follow that a connection is open."""
        self._newest = self._wires[id(wire)] = _Wire(len(self._wires) + 1, self._life)
        if self._life is not None:
            self._life.opened += 1

    def closed(self, wire: object) -> None:
        """Follow that it has ended."""
        known = self._wires[id(wire)]
        if known.open:
            known.open = False
            if known.life is not None:
                known.life.closed += 1

    def said(self, wire: object, message: Message, *, joined: bool) -> None:
        """Follow what the server says; *joined* is whether the topic is, by this join_ref or none."""
        known, life = self._wires[id(wire)], self._life
        if life is None:
            return
        if message.event == PHX_REPLY:
            if message.ref is not None and message.ref == message.join_ref:
                if message.payload["status"] == "ok":
                    known.joined[message.topic] = message.join_ref
                    life.let_in.setdefault(message.topic, deque()).append(
                        message.payload["response"]
                    )
            elif message.ref is not None:
                life.replied.add(message.ref)
        elif joined:
            life.legal.append((known.number, message))

    def heard(self, wire: object, message: Message) -> None:
        """Follow what the client says. Law 8."""
        known = self._wires[id(wire)]
        if message.event == HEARTBEAT or message.ref is None:
            return
        ref = int(message.ref)
        if ref <= known.last_ref:
            self._broken(8, f"the ref {ref} comes after {known.last_ref}")
        known.last_ref = ref
        if message.event not in {PHX_JOIN, PHX_LEAVE}:
            self._heard_push(known, message)

    def _heard_push(self, known: _Wire, message: Message) -> None:
        if message.join_ref != known.joined.get(message.topic, message.join_ref):
            self._broken(8, f"{message} is of another join than the present one")

    def asked(self, topic: str) -> None:
        """Follow that the client wants *topic* joined."""
        if self._life is not None:
            self._life.asked.add(topic)

    def delivered(self, message: Message, *, awaited: bool) -> None:
        """Follow that *message* is handed over, to a callback or to an await. Laws 6 and 7."""
        life = self._life
        if id(message) in self._delivered:
            self._broken(7, f"{message} was delivered twice")
        self._delivered.add(id(message))
        self._kept.append(message)
        if life is None:
            return
        told = (message.topic, message.event, message.payload)
        for place, (_, each) in enumerate(life.legal):
            if (each.topic, each.event, each.payload) == told:
                del life.legal[place]
                # What lies before it was dropped, or is stale by now; an await leaves it there.
                for _ in range(0 if awaited else place):
                    life.legal.popleft()
                return
        self._broken(6, f"{message} was not to be delivered: it is stale, out of order, or twice")

    # -- the client

    def began(self, call: Call, *, joined: Callable[[str], bool], connected: bool) -> None:
        """Follow that a callback is called. Laws 1 to 5, 10 and 11."""
        if call.name == "init":
            life = self._life
            if life is not None and self._running is not None and not self._running.done:
                self._broken(1, f"init begins while {self._running.name} of the last life runs")
            self._life = _Life()
        elif self._running is not None and not self._running.done:
            self._broken(1, f"{call.name} begins while {self._running.name} still runs")
        self._running = call
        life = self._life
        if life is None:
            self._broken(11, f"{call.name} comes before init")
            return
        if life.terminated:
            self._broken(1, f"{call.name} comes after terminate")
        if life.crashed and call.name != "terminate":
            self._broken(11, f"{call.name} comes after a crash, in the place of terminate")
        self._follow(life, call, joined, connected=connected)

    def _follow(
        self, life: _Life, call: Call, joined: Callable[[str], bool], *, connected: bool
    ) -> None:
        match call.name, call.args:
            case "terminate", _:
                life.terminated = True
            case "handle_connect", _:
                self._connects(life)
            case "handle_disconnect", (reason,):
                self._disconnects(life, reason, joined, connected=connected)
            case "handle_join", (topic, response):
                self._joins(life, topic, response)
            case (("handle_topic_close" | "handle_leave"), (topic, *_)):
                if topic not in life.asked and call.name == "handle_topic_close":
                    self._broken(4, f"{call.name} of {topic!r}, which was never asked for")
                if joined(topic):
                    self._broken(4, f"{call.name} of {topic!r}, which is joined")
            case (("handle_reply" | "handle_push_failed"), (ref, *_)):
                if ref in life.ended_pushes:
                    self._broken(5, f"the push {ref} ends twice")
                life.ended_pushes.add(ref)
                if call.name == "handle_reply" and ref not in life.replied:
                    self._broken(5, f"handle_reply for {ref}, to which nobody replied")
            case _:
                pass

    def _connects(self, life: _Life) -> None:
        if life.connected and not self.awaits_link:
            self._broken(2, "handle_connect twice, without a handle_disconnect between")
        life.connected = True
        life.connects += 1
        if life.connects > life.attempts:
            self._broken(2, "handle_connect without a connection")
        # Nothing of an earlier connection may come any more.
        newest = self._newest.number if self._newest is not None else 0
        while life.connects == life.opened and life.legal and life.legal[0][0] < newest:
            life.legal.popleft()

    def _disconnects(
        self, life: _Life, reason: Any, joined: Callable[[str], bool], *, connected: bool
    ) -> None:
        life.connected = False
        life.disconnects += 1
        if life.disconnects > life.opened + life.attempts:
            self._broken(2, "handle_disconnect more often than there were connections")
        if not connected and any(joined(topic) for topic in life.asked):
            self._broken(4, "a topic is joined without a connection")
        if isinstance(reason, HeartbeatTimeout) and self._newest is not None:
            self._newest.heartbeat_timeouts += 1
            if self._newest.heartbeat_timeouts > 1:
                self._broken(10, "two HeartbeatTimeouts of one connection")

    def _joins(self, life: _Life, topic: str, response: Any) -> None:
        if topic not in life.asked:
            self._broken(3, f"handle_join of {topic!r}, which was never asked for")
        waiting = life.let_in.get(topic, deque())
        while waiting:
            if waiting.popleft() == response:
                return
        self._broken(3, f"handle_join of {topic!r} with {response!r}, which no join was told")

    def ended(self, call: Call) -> None:
        """Follow that a callback has ended. Law 11."""
        error = call.error
        bug = isinstance(error, Exception) and not isinstance(error, LinkError | BaseExceptionGroup)
        if bug and self._life is not None and call.name not in {"init", "terminate", "handle_call"}:
            self._life.crashed = True

    def life_ended(self, reason: object) -> None:
        """Follow that an incarnation has ended. Law 11."""
        if isinstance(reason, Crashed) and self._life is not None:
            self._life.crashed = True

    # -- at rest

    def at_rest(self, *, unread: int, queued: int, waiters: int, steered: bool) -> None:
        """Check what holds when nothing goes on any more. Laws 2 and 12.

        One that *steered* has ended attempts of its own, which may have had no time to begin.
        """
        life = self._life
        if life is None or life.terminated:
            return
        if unread or queued or waiters:
            left = f"{unread} events unread, {queued} pushes queued, {waiters} replies awaited"
            self._broken(12, f"at rest there are {left}")
        if self.awaits_link or steered:
            return
        if life.connects != life.opened:
            self._broken(2, f"{life.connects} handle_connect for {life.opened} connections")
        ends = life.closed + life.failures
        if life.disconnects != ends:
            self._broken(2, f"{life.disconnects} handle_disconnect for {ends} ends")
