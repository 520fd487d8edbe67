"""Rules of a user's own: what has to hold of this very client."""

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

import trio

from slipstream.interfaces import Message
from slipstream.testing._timeline import Call

from ._sizes import biggest, size_of

if TYPE_CHECKING:
    from slipstream.testing._socket_test import SocketTest

__all__ = [
    "Rule",
    "after",
    "answered",
    "bounded",
    "invariant",
    "never_before",
    "only_while_joined",
    "recovers",
    "sent",
]

Check = Callable[..., object]


def _demand(holds: object, text: str) -> None:
    """Fail with *text* unless something *holds*."""
    if not holds:
        raise AssertionError(text)


class Rule:
    """What has to hold: subclass it for what the others here cannot say.

    Each method may raise, best an ``AssertionError``, or return ``False``; anything else is good.
    The state of a rule is of one example: :meth:`begin` gives a fresh one.
    """

    name: str = "a rule"

    @property
    def source(self) -> tuple[str, str]:
        """From where to import what, for a test that is shown."""
        return __name__.rpartition(".")[0], self.name.partition("(")[0]

    def begin(self) -> Self:
        """Give the rule as it is at the beginning of an example."""
        return copy.deepcopy(self)

    def look(self, test: "SocketTest") -> object:
        """Look at a client that has nothing to do just now; not called while there is none."""

    def after(self, test: "SocketTest", call: Call) -> object:
        """Look at a callback that has just returned."""

    def before(self, test: "SocketTest", call: Call) -> object:
        """Look at a callback that is about to be called."""

    def said(self, test: "SocketTest", message: Message) -> object:
        """Look at what the server says."""

    def sent(self, test: "SocketTest", message: Message) -> object:
        """Look at what the client has sent: joins (``phx_join``), leaves, pushes, heartbeats."""

    def tried(self, test: "SocketTest", topic: str, event: str, status: str | None) -> object:
        """Look at a push, before it is known whether it can go out; *status* is the topic's."""

    def lost(self, test: "SocketTest", topic: str | None) -> object:
        """Note that *topic*, or everything, is gone: its channel or the connection has ended."""

    def at_rest(self, test: "SocketTest") -> object:
        """Look at a client whose server has let it do whatever it wanted, for two minutes."""

    def __repr__(self) -> str:
        return self.name


class _Function(Rule):
    """A rule that a function says."""

    def __init__(self, check: Check, names: tuple[str, ...] = ()) -> None:
        self.check = check
        self.names = names
        self.name = getattr(check, "__name__", repr(check))

    @property
    def source(self) -> tuple[str, str]:
        return self.check.__module__, self.name

    def begin(self) -> Self:
        return self  # it has no state, and its function may have a closure


class _Invariant(_Function):
    def look(self, test: "SocketTest") -> object:
        return self.check(test)


class _After(_Function):
    def after(self, test: "SocketTest", call: Call) -> object:
        return self.check(test, call) if call.name in self.names and call.error is None else None


class _Sent(_Function):
    def sent(self, test: "SocketTest", message: Message) -> object:
        return self.check(test, message) if message.event in self.names else None


def invariant(check: Check) -> Rule:
    """Make a rule of ``check(test)``, which has to hold whenever the client has nothing to do.

    *test* is the :class:`~slipstream.testing.SocketTest`: ``test.client``, ``test.assigns`` …
    """
    return _Invariant(check)


def after(*callbacks: str) -> Callable[[Check], Rule]:
    """Make a rule of ``check(test, call)``, which has to hold when one of *callbacks* has returned.

    *call* is the :class:`~slipstream.testing.Call`, with its arguments and its result.
    """
    return lambda check: _After(check, callbacks)


def sent(*events: str) -> Callable[[Check], Rule]:
    """Make a rule of ``check(test, message)``, for each message that the client sends with an event.

    Joins are ``"phx_join"``; the payload of one is its params.
    """
    return lambda check: _Sent(check, events)


class _Answered(Rule):
    def __init__(self, cause: str, by: str, within: float) -> None:
        self.cause, self.by, self.within = cause, by, within
        self.name = f"answered({cause!r}, by={by!r}, within={within:g})"
        self.due: list[tuple[float, str]] = []

    def said(self, test: "SocketTest", message: Message) -> object:
        if message.event == self.cause:
            self._owe(message.topic)
        return True

    def after(self, test: "SocketTest", call: Call) -> object:
        if call.name == self.cause and call.args and isinstance(call.args[0], str):
            self._owe(call.args[0])
        return True

    def _owe(self, topic: str) -> None:
        self.due.append((trio.current_time() + self.within, topic))

    def sent(self, test: "SocketTest", message: Message) -> object:
        if message.event == self.by:
            for each in self.due:
                if each[1] == message.topic:
                    self._check(*each)
                    self.due.remove(each)
                    break
        return True

    def _check(self, due: float, topic: str) -> None:
        _demand(
            trio.current_time() <= due,
            f"{self.cause!r} on {topic!r} was not answered by {self.by!r} within {self.within:g} s",
        )

    def lost(self, test: "SocketTest", topic: str | None) -> object:
        self.due = [each for each in self.due if topic is not None and each[1] != topic]
        return True

    def look(self, test: "SocketTest") -> object:
        for due, topic in self.due:
            self._check(due, topic)
        return True

    def at_rest(self, test: "SocketTest") -> object:
        return self.look(test)


def answered(cause: str, *, by: str, within: float) -> Rule:
    """Make the rule that every *cause* is answered by a push *by*, on its topic and in time.

    *cause* is an event of the server's, or a callback with a topic, such as ``"handle_join"``.
    *within* is in seconds. What a connection or channel takes with it owes nothing.
    """
    return _Answered(cause, by, within)


class _NeverBefore(Rule):
    def __init__(self, event: str, callback: str) -> None:
        self.event, self.callback = event, callback
        self.name = f"never_before({event!r}, {callback!r})"
        self.seen: set[str] = set()

    def before(self, test: "SocketTest", call: Call) -> object:
        if call.name == self.callback and call.args:
            self.seen.add(call.args[0])
        return True

    def lost(self, test: "SocketTest", topic: str | None) -> object:
        self.seen = set() if topic is None else self.seen - {topic}
        return True

    def tried(self, test: "SocketTest", topic: str, event: str, status: str | None) -> object:
        _demand(
            event != self.event or topic in self.seen,
            f"{event!r} is pushed to {topic!r} before {self.callback}",
        )
        return True


def never_before(event: str, callback: str) -> Rule:
    """Make the rule that *event* is never pushed to a topic before *callback* was called for it.

    That holds anew for each join: ``never_before("new:msg", "handle_join")``.
    """
    return _NeverBefore(event, callback)


class _OnlyWhileJoined(Rule):
    def __init__(self, events: tuple[str, ...]) -> None:
        self.events = events
        self.name = f"only_while_joined({', '.join(map(repr, events))})"

    def tried(self, test: "SocketTest", topic: str, event: str, status: str | None) -> object:
        concerns = not self.events or event in self.events
        _demand(
            not concerns or status == "joined",
            f"{event!r} is pushed to {topic!r}, which is {status or 'not asked for'}",
        )
        return True


def only_while_joined(*events: str) -> Rule:
    """Make the rule that *events*, or all of them, are pushed only to topics that are joined."""
    return _OnlyWhileJoined(events)


class _Bounded(Rule):
    def __init__(self, most: int) -> None:
        self.most = most
        self.name = f"bounded({most})"

    def look(self, test: "SocketTest") -> object:
        client = test.client
        state = {**client.__dict__, "socket.assigns": test.assigns}
        whole = sum(size_of(value) for value in state.values())
        _demand(
            whole <= self.most,
            f"the state holds {whole} values, {self.most} at most: {biggest(state)}",
        )
        return True


def bounded(most: int) -> Rule:
    """Make the rule that the client's attributes and assigns together hold at most *most* values.

    Each item of a list, each entry of a mapping, each other value is one.
    """
    return _Bounded(most)


class _Recovers(Rule):
    def __init__(self, topics: tuple[str, ...]) -> None:
        self.topics = topics
        self.name = f"recovers({', '.join(map(repr, topics))})"

    def at_rest(self, test: "SocketTest") -> object:
        _demand(not test.has_stopped(), f"the client has stopped: {test.last_exit}")
        _demand(test.socket.connected, "the client is not connected any more")
        for topic in self.topics:
            status = test.socket.join_status(topic)
            _demand(status == "joined", f"{topic!r} is {status or 'not asked for'}")
        return True


def recovers(*topics: str) -> Rule:
    """Make the rule that a client comes back: with a willing server it is connected, and has joined *topics*."""
    return _Recovers(topics)
