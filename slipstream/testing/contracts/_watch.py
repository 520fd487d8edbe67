"""What watches a client: every callback, every frame, every await; and says what is wrong."""

import copy
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec
import trio

from slipstream.client import SlipstreamClient
from slipstream.errors import LinkError
from slipstream.interfaces import Message
from slipstream.otp import Stop
from slipstream.protocol import ChannelReply
from slipstream.protocol.messages import (
    PHX_CLOSE,
    PHX_ERROR,
    PHX_JOIN,
    PHX_LEAVE,
    PHX_REPLY,
)
from slipstream.reasons import Crashed
from slipstream.testing._timeline import Call, End, Watcher

from ._laws import Laws
from ._mistake import CODES, ContractBrokenError, Mistake
from ._rest import come_to_rest
from ._rules import Rule
from ._server import ContractServer, Helper, Ticking
from ._shared import SharedState
from ._stories import crash_story, place_of

if TYPE_CHECKING:
    from slipstream.testing._script import Wire
    from slipstream.testing._socket_test import SocketTest

__all__ = ["UNKNOWN", "Watch"]

UNKNOWN: Final = "contract:unknown"
"""An event that no client knows."""

_AT_ONCE: Final = 0.01
"""Seconds of virtual time in which nothing has been waited for."""
_LOOP: Final = 5
"""So many attempts at once, one after the other, are a loop."""
_ON_EACH: Final = frozenset({"handle_connect", "handle_join", "handle_disconnect"})
_OWN: Final = frozenset({"init", "handle_call", "handle_cast", "handle_info", "handle_continue"})
"""Callbacks whose arguments come from the program itself."""


class Watch(Watcher):
    """Watches one client over all its lives.

    Args:
        client: its class.
        rules: what has to hold of it besides.
        allow: codes of mistakes that are none here.
        longest_callback: seconds that a callback may take.
        names_calls: whether to find out what blocks.

    Attributes:
        mistakes: what was found, the first thing first.
        awaits_link: whether a callback has awaited what would come as a callback.
        steered: whether the client connects and disconnects by its own decision.
        welcomes: what the joins of each topic were answered with last.
        welcome: what the others are answered with.
        over: whether what there was to see has been seen: there is no rest to come to.
        target: the callback whose steps are counted.
        stepped: is told of each.
        grows: whether what grows in its state does so for ever; ``None`` if nobody knows yet.
    """

    test: "SocketTest"
    server_class = ContractServer

    def __init__(
        self,
        client: type[SlipstreamClient],
        rules: Iterable[Rule] = (),
        *,
        allow: Iterable[str] = (),
        longest_callback: float = 60.0,
        names_calls: bool = False,
    ) -> None:
        self.client = client
        self.rules = [rule.begin() for rule in rules]
        self.allow = frozenset(allow)
        self.longest_callback = longest_callback
        self.names_calls = names_calls
        self.mistakes: list[Mistake] = []
        self.over = False
        self.target: str | None = None
        self.stepped: Callable[[int], None] | None = None
        self.grows: bool | None = None
        self.steered = False
        self.welcomes: dict[str, Any] = {}
        self.welcome: Any = {}
        self.timers: list[Ticking] = []
        self.helpers: list[Helper] = []
        self.topics: set[str] = set()
        self._laws = Laws(self._law_broken)
        self._crashed: list[tuple[End, Mistake]] = []
        self._callers: list[tuple[Any, float]] = []
        self._server: ContractServer | None = None
        self._newest: Message | None = None
        self._given: list[tuple[Any, Any]] = []
        self._ended_at = -1.0
        self._in_a_row = 0
        self._refused_at: dict[str, float] = {}
        self._rejoins: Counter[str] = Counter()
        self._shared = SharedState(client)

    # -- its block

    @contextmanager
    def watching(self) -> Generator[None]:
        """Hear of coroutines that nobody awaits, and keep one example's class state out of the next."""
        self._shared.restore()
        depth = sys.get_coroutine_origin_tracking_depth()
        with warnings.catch_warnings():
            show = warnings.showwarning

            def heard(message: Any, category: Any, *rest: Any, **options: Any) -> None:
                if issubclass(category, RuntimeWarning) and "was never awaited" in str(message):
                    self._never_awaited(str(message))
                else:
                    show(message, category, *rest, **options)

            warnings.showwarning = heard
            warnings.filterwarnings(
                "always", message=".*was never awaited", category=RuntimeWarning
            )
            sys.set_coroutine_origin_tracking_depth(2)
            try:
                yield
            finally:
                sys.set_coroutine_origin_tracking_depth(depth)
                self._shared.restore()

    def check(self) -> None:
        """Fail if anything is wrong.

        Raises:
            ContractBrokenError: for the first mistake.
        """
        mistake = self.first()
        if mistake is not None:
            raise ContractBrokenError(mistake, self.client.__qualname__) from mistake.cause

    def first(self) -> Mistake | None:
        """Give the first mistake, if there is one."""
        crashed = [mistake for end, mistake in self._crashed if not end.forgiven]
        return next(iter([*self.mistakes, *crashed]), None)

    async def finish(self) -> None:
        """Let the client do whatever it wants, stop it, and fail if anything is wrong by then."""
        if not self.broken and not self.over:
            await come_to_rest(self)
        self.check()

    def blame(self, code: str, text: str, cause: BaseException | None = None) -> None:
        """Note a mistake, unless it is allowed."""
        assert code in CODES  # noqa: S101 - a slip of ours
        if code not in self.allow:
            self.mistakes.append(Mistake(code, text, cause))

    @property
    def broken(self) -> bool:
        """Whether something is wrong already."""
        return bool(self.mistakes or self._crashed)

    @property
    def server(self) -> ContractServer | None:
        """The present life of the client."""
        return self._server

    @server.setter
    def server(self, server: ContractServer) -> None:
        self._server = server
        self._callers.clear()
        self.timers.clear()
        self.helpers.clear()
        self._rejoins.clear()
        self.awaits_link = False
        self.steered = False
        self._ended_at = -1.0

    @property
    def awaits_link(self) -> bool:
        """Whether a callback has awaited what would have come as a callback."""
        return self._laws.awaits_link

    @awaits_link.setter
    def awaits_link(self, value: bool) -> None:
        self._laws.awaits_link = value

    # -- told by the network

    def attempted(self, attempt: Any) -> None:
        """Follow that the client wants to connect."""
        self._laws.attempted(attempt)
        at_once = 0.0 <= trio.current_time() - self._ended_at < _AT_ONCE
        self._in_a_row = self._in_a_row + 1 if at_once else 0
        if self._in_a_row == _LOOP:
            self.blame(
                "tight-reconnect",
                f"it has connected {_LOOP} times in a row at once after the last end: leave the delay "
                "to the policy, or give one: socket.reconnect(after=…)",
            )

    def attempt_failed(self, attempt: Any) -> None:
        """Follow that an attempt has failed."""
        self._laws.attempt_failed(attempt)
        self._ended_at = trio.current_time()

    def opened(self, wire: "Wire") -> None:
        """Follow that a connection is open."""
        self._laws.opened(wire)

    def closed(self, wire: "Wire") -> None:
        """Follow that a connection has ended."""
        self._laws.closed(wire)
        self._ended_at = trio.current_time()
        self._each(lambda rule: rule.lost(self.test, None))

    def stalled(self) -> None:
        """Follow that the server reads nothing."""
        self._each(lambda rule: rule.lost(self.test, None))

    def said(self, wire: "Wire", message: Message) -> None:
        """Follow what the server says."""
        if not isinstance(message.payload, bytes):
            # As the client will read it.
            plain = msgspec.json.decode(msgspec.json.encode(message.payload))
            message = Message(message.join_ref, message.ref, message.topic, message.event, plain)
        topic = message.topic
        present = wire.joined.get(topic)
        joined = topic in wire.joined and message.join_ref in {None, present}
        self._laws.said(wire, message, joined=joined)
        if message.event == PHX_REPLY:
            self._answered(message)
        elif message.event in {PHX_ERROR, PHX_CLOSE}:
            self._refused_at[topic] = trio.current_time()
            self._each(lambda rule: rule.lost(self.test, topic))
        elif joined:
            self._each(lambda rule: rule.said(self.test, message))

    def _answered(self, reply: Message) -> None:
        status, response = reply.payload["status"], reply.payload["response"]
        if reply.ref == reply.join_ref and reply.ref is not None:
            if status == "ok":
                self.welcomes[reply.topic] = response
            else:
                self._refused_at[reply.topic] = trio.current_time()

    def heard(self, wire: "Wire", message: Message) -> None:
        """Follow what the client says."""
        self._laws.heard(wire, message)
        topic = message.topic
        if message.event == PHX_JOIN:
            gap = trio.current_time() - self._refused_at.get(topic, -1.0)
            self._rejoins[topic] = self._rejoins[topic] + 1 if gap < _AT_ONCE else 0
            if self._rejoins[topic] == _LOOP:
                self.blame(
                    "tight-rejoin",
                    f"it has joined {topic!r} {_LOOP} times in a row at once after it was refused or "
                    "closed: leave it to the policy (Config.rejoin), or let time pass",
                )
        if message.event in {PHX_JOIN, PHX_LEAVE}:
            self._each(lambda rule: rule.lost(self.test, topic))
        self._each(lambda rule: rule.sent(self.test, message))

    # -- told by the client

    def began(self, call: Call) -> None:
        """Follow that a callback is called."""
        server = self._server
        socket = server.socket if server is not None else None
        self._laws.began(
            call,
            joined=lambda topic: socket is not None and socket.joined(topic),
            connected=socket is not None and socket.connected,
        )
        if call.name == "handle_call":
            self._callers.append((call.args[1], trio.current_time()))
        if call.name not in _OWN:
            self._given = [(value, copy.deepcopy(value)) for value in _payloads(call.args)]
        self._each(lambda rule: rule.before(self.test, call))

    def ended(self, call: Call) -> None:
        """Follow that it has ended."""
        self._laws.ended(call)
        given, self._given = self._given, []
        if any(value != before for value, before in given):
            self.blame(
                "changed-payload",
                f"{call.name} changes the payload that it was given: telemetry, batches and other "
                "handlers may look at the same one. Make a copy",
            )
        if isinstance(call.result, Stop):
            self._gives_up(call, f"returns {call.result!r}")
        if call.error is None:
            self._each(lambda rule: rule.after(self.test, call))

    def life_ended(self, end: End) -> None:
        """Follow that an incarnation has ended."""
        self._laws.life_ended(end.reason)
        if not isinstance(end.reason, Crashed):
            return
        error = end.reason.exception
        if isinstance(error, LinkError) or "crash" in self.allow:
            return  # the policy gave up
        text = crash_story(error, self.test.calls)
        self._crashed.append((end, Mistake("crash", text, error)))

    def delivered(self, message: Message, *, awaited: bool = False) -> None:
        """Follow that *message* is handed over, to a callback or to one who awaits it."""
        self._newest = message
        self._laws.delivered(message, awaited=awaited)

    def asked(self, topic: str) -> None:
        """Follow that the client wants *topic* joined."""
        self.topics.add(topic)
        self._laws.asked(topic)

    def tried(
        self, topic: str, event: str, status: str | None, when_unjoined: str, *, asked: bool
    ) -> None:
        """Follow that the client is about to push."""
        if asked and status in {"requested", "waiting"} and when_unjoined == "fail":
            self.blame(
                "push-before-join",
                f"it pushes {event!r} to {topic!r} in the very callback that asks to join it: the join "
                "has no answer yet, so the push fails. Push in handle_join, or await_join first",
            )
        if when_unjoined != "queue":
            self._each(lambda rule: rule.tried(self.test, topic, event, status))

    def gives_up(self, what: str) -> None:
        """Follow that the client leaves, or disconnects."""
        server = self._server
        call = server.callback() if server is not None else None
        if call is not None:
            self._gives_up(call, f"calls {what}")

    def _gives_up(self, call: Call, what: str) -> None:
        message = self._newest
        is_message = message is not None and message.event == UNKNOWN and call.name not in _OWN
        if is_message and _about(call, cast("Message", message)):
            self.blame(
                "unknown-event",
                f"{call.name} {what} upon {UNKNOWN!r}, an event that it does not know: a server that "
                "is newer may say more. Ignore it",
            )

    def blocked(self, who: str, seconds: float, what: str) -> None:
        """Follow that *who* has blocked for so long."""
        inside = f" in {what}" if what else ""
        self.blame(
            "blocking-call",
            f"{who} blocks for {seconds:.2f} s{inside}: heartbeats and all other tasks stand still. Use "
            "trio.sleep, trio's files and sockets, or trio.to_thread.run_sync",
        )

    def swallowed(self, call: Call) -> None:
        """Follow that a callback goes on, though it is being stopped."""
        self.blame(
            "swallowed-cancel",
            f"{call.name} goes on although it is being stopped: it catches trio.Cancelled, or Exit. Catch "
            "Exception at most, never BaseException, or raise it again",
        )

    def _never_awaited(self, message: str) -> None:
        first, _, rest = message.replace("_WatchedSocket", "Socket").partition("\n")
        places = [line.strip() for line in rest.splitlines() if line.strip().startswith("File")]
        ours = [place for place in places if "/contracts/_server.py" not in place]
        where = f", made at {ours[-1]}" if ours else ""
        self.blame("never-awaited", f"{first}{where}: did you forget await?")

    # -- when there is nothing to do just now

    def look(self) -> None:
        """Look at a client that has done all that it can do just now."""
        shared = self._shared.changed()
        if shared:
            self.blame(
                "shared-state",
                f"{self.client.__qualname__}.{shared} has changed: it is the class's, and so that of all "
                "clients and all their lives. Make it in init",
            )
        self._check_stuck()
        server = self._server
        if server is not None and server.exit_reason is None and not self.test.has_stopped():
            if not server.client.__dict__.get("_slipstream_server"):
                return
            self._each(lambda rule: rule.look(self.test))

    def _check_stuck(self) -> None:
        server = self._server
        if server is None or not self.test.calls:
            return
        call = self.test.calls[-1]
        waited = trio.current_time() - call.at
        if call.done or waited <= self.longest_callback:
            return
        where = place_of(server.running)
        self.blame(
            "stuck-callback",
            f"{call.name} has not returned for {waited:g} s{where}: the client is deaf meanwhile. Give the "
            "wait a time-out, or let a task wait (start_soon)",
        )

    def at_rest(self) -> None:
        """Look at a client that was let do whatever it wanted, for long enough."""
        self.look()
        server = self._server
        if server is None or self.broken or server.exit_reason is not None:
            return
        now = trio.current_time()
        for caller, at in self._callers:
            if caller.state.value == "open" and now - at > self.longest_callback:
                self.blame(
                    "unanswered-call",
                    f"handle_call({caller.request!r}) was not answered within {now - at:g} s: it "
                    "returned NoReply(), and nobody called caller.reply",
                )
        timers = [each for each in self.timers if each.timer.active and each.by in _ON_EACH]
        self._check_twice("timer", timers, lambda each: (each.by, each.seconds, repr(each.message)))
        helpers = [each for each in self.helpers if each.runs and each.by in _ON_EACH]
        self._check_twice("task", helpers, lambda each: (each.by, each.name))
        health = server.health()
        stuck = not self.test.calls[-1].done
        self._laws.at_rest(
            unread=0 if stuck else health.inbound,
            queued=0,
            waiters=health.awaited_replies if not self.helpers and not stuck else 0,
            steered=self.steered or stuck or health.phase not in {"open", "waiting"},
        )
        self._each(lambda rule: rule.at_rest(self.test))

    def _check_twice(self, what: str, found: list[Any], key: Callable[[Any], Any]) -> None:
        for each, count in Counter(map(key, found)).items():
            if count > 1:
                shown = f"of {each[1]} s for {each[2]}" if what == "timer" else f"{each[1]}"
                self.blame(
                    f"duplicate-{what}",
                    f"{count} {what}s {shown} run at once, each begun by a {each[0]}: a client connects "
                    "and joins more than once. Begin it in init, or end the last one first",
                )

    # -- inside

    def _law_broken(self, number: int, text: str) -> None:
        self.blame("framework", f"invariant {number}: {text}")

    def _each(self, look: Callable[[Rule], object]) -> None:
        if not hasattr(self, "test"):
            return  # it is only just starting
        for rule in self.rules:
            try:
                good = look(rule)
            except Exception as error:  # noqa: BLE001 - boundary: a user's rule, told of at the end
                text = str(error) or repr(error)
                # Of our own rules the text says all.
                ours = rule.source[0] == __name__.rpartition(".")[0]
                self.blame("rule", f"{rule.name}: {text}", None if ours else error)
            else:
                if good is False:
                    self.blame("rule", f"{rule.name} does not hold")


def _payloads(args: tuple[Any, ...]) -> list[Any]:
    found: list[Any] = []
    for arg in args:
        if isinstance(arg, ChannelReply):
            found.append(arg.response)
        elif isinstance(arg, list) and arg and isinstance(arg[0], Message):
            found += [message.payload for message in cast("list[Message]", arg)]
        elif isinstance(arg, dict | list):
            found.append(arg)
    return found


def _about(call: Call, message: Message) -> bool:
    """Tell whether *call* is one that handles *message*."""
    if call.name == "handle_messages":
        return True
    return call.name.startswith("handle_m") and call.args[:2] == (message.topic, message.event)
