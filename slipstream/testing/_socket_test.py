"""SocketTest: one client under test, and a server that does what the test says."""

from collections.abc import Mapping
from typing import Any

from slipstream.client import ANY
from slipstream.errors import ConnectError
from slipstream.interfaces import ConnectRequest
from slipstream.transport import ClientClose

from ._patterns import describe, differences
from ._script import Attempt, Heard, Wire
from ._serving import ClientMessage, Serving
from ._time import settle
from ._waiting import differ, expected

__all__ = ["SocketTest"]

__tracebackhide__ = True  # pytest shows the line of the test


class SocketTest(Serving):
    """A client under test, over a network in memory, and the server's side of it.

    :func:`open_socket_test` makes one. What the client sends is asserted in the order that suits the
    test: an ``assert_…`` takes the oldest that fits and gives it, and leaves the others where they
    are; it waits for it at most *within* seconds of trio's clock, which on a virtual one take no time.
    A ``refute_…`` lets *within* seconds pass, and needs a virtual clock. Patterns are values to equal,
    ``ANY``, types, predicates, mappings (of which all entries must be there), lists of them, and
    ``exactly(…)``.

    What the server does (``push``, ``reply``, ``close`` …) returns when the client has done all that
    it can do upon it. It does nothing that a Phoenix server does not do (but for ``send``), and by itself
    what such a server does: it answers heartbeats and leaves, unless it is stalled.

    All of it is for the task that opened the block; safe to cancel.
    """

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self._joins: list[Heard] = []  # asserted, but not answered
        self._taken: list[Heard] = []  # asserted

    # -- what the client waits for

    @property
    def connecting(self) -> bool:
        """Whether the client wants to connect, and waits for the test's decision."""
        return bool(self._script.attempts)

    @property
    def joined(self) -> dict[str, str | None] | None:
        """The topics that are joined, with their join_refs; ``None`` without a connection."""
        wire = self._script.wire()
        return dict(wire.joined) if wire is not None else None

    @property
    def joining(self) -> list[str]:
        """The topics whose joins wait for the test's answer, the oldest join first."""
        waiting = [*self._joins, *self._heard("join")]
        return [each.message.topic for each in waiting if each.wire.open]

    @property
    def pushes(self) -> list[ClientMessage]:
        """What the client has pushed, and no assertion has taken yet."""
        return [ClientMessage.of(each) for each in self._heard("push")]

    # -- connecting

    async def assert_connect(self, uri: Any = ANY, *, within: float = 60.0) -> ConnectRequest:
        """Assert that the client wants to connect, and give what it asks for; decide later."""
        attempt = await self._attempt(uri, within)
        return attempt.request

    @property
    def requests(self) -> list[ConnectRequest]:
        """What the client has connected with so far, in order, whatever came of it."""
        return list(self._script.requests)

    async def refute_connect(self, *, within: float = 1.0) -> None:
        """Assert that the client does not want to connect now, nor *within* seconds."""
        await self.refute("a connect", lambda: self._script.attempts, lambda _: [], within)

    async def accept_connect(self, uri: Any = ANY, *, within: float = 60.0) -> ConnectRequest:
        """Let the client connect, and give what it connected with."""
        attempt = await self._attempt(uri, within)
        count = len(self._script.wires)
        attempt.decided.set()
        self._script.attempts.remove(attempt)
        self.timeline.note("server", "accepts the connection")
        await self.wait_for("the connection", lambda: self._script.wires[count:], lambda _: [], 1.0)
        await settle()
        return attempt.request

    async def refuse_connect(
        self,
        status: int = 403,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        *,
        within: float = 60.0,
    ) -> ConnectRequest:
        """Refuse the client's connect as a server does, with an HTTP response."""
        error = ConnectError(
            f"the server answered HTTP {status}",
            step="upgrade",
            status=status,
            headers=tuple((name.lower(), value) for name, value in (headers or {}).items()),
            body=body,
        )
        return await self._fail(error, f"refuses with HTTP {status}", within)

    async def fail_connect(
        self, error: BaseException | None = None, *, within: float = 60.0
    ) -> ConnectRequest:
        """Let the client's connect fail by *error*, by default a refused TCP connection."""
        cause = error or ConnectionRefusedError("connection refused")
        if isinstance(cause, ConnectError):
            failure = cause
        else:
            failure = ConnectError(f"no connection: {cause!r}", step="tcp")
            failure.__cause__ = cause
        return await self._fail(failure, f"is not to be reached: {cause!r}", within)

    async def _fail(self, error: ConnectError, what: str, within: float) -> ConnectRequest:
        attempt = await self._attempt(ANY, within)
        attempt.error = error
        attempt.decided.set()
        self._script.attempts.remove(attempt)
        self.timeline.note("server", what)
        await self.settle()
        return attempt.request

    async def _attempt(self, uri: Any, within: float) -> Attempt:
        return await self.wait_for(
            "a connect" if uri is ANY else f"a connect to {describe(uri)}",
            lambda: self._script.attempts,
            lambda attempt: differences(uri, attempt.request.uri, "uri"),
            within,
            hint=self._why_no_connect,
        )

    def _why_no_connect(self) -> str | None:
        config = self.socket.config
        if config is None:
            return "the client has not called socket.connect"
        if config.transport is not None:
            return "the client has a Config.transport, which goes before the test's network"
        return None

    # -- joining and leaving

    async def assert_join(
        self, topic: Any = ANY, params: Any = ANY, *, within: float = 1.0
    ) -> ClientMessage:
        """Assert that the client asks to join *topic*, and give the join; answer it later."""
        heard = await self._take("join", topic, ANY, params, within)
        self._joins.append(heard)
        return ClientMessage.of(heard)

    async def refute_join(
        self, topic: Any = ANY, params: Any = ANY, *, within: float = 1.0
    ) -> None:
        """Assert that the client asks for no such join now, nor *within* seconds."""
        await self._refute_heard("join", topic, ANY, params, within)

    async def accept_join(
        self, topic: Any = ANY, response: Any = None, *, within: float = 1.0
    ) -> ClientMessage:
        """Let the client join: answer its join, asserted or not, with ``ok``."""
        return await self._answer_join(topic, "ok", response, within)

    async def refuse_join(
        self, topic: Any = ANY, response: Any = None, *, within: float = 1.0
    ) -> ClientMessage:
        """Refuse the client's join, asserted or not: answer it with ``error``."""
        return await self._answer_join(topic, "error", response, within)

    async def connect_and_join(self, topic: str, response: Any = None) -> ClientMessage:
        """Let the client connect and join *topic*: how most tests begin."""
        await self.accept_connect()
        return await self.accept_join(topic, response)

    async def _answer_join(
        self, topic: Any, status: str, response: Any, within: float
    ) -> ClientMessage:
        patterns = (topic, ANY, ANY)
        # A connection that has ended took its joins with it.
        self._joins = [each for each in self._joins if each.wire.open]
        heard = await self.wait_for(
            expected("join", *patterns),
            lambda: [*self._joins, *(each for each in self._heard("join") if each.wire.open)],
            lambda each: differ(each, *patterns),
            within,
        )
        for waiting in (self._joins, self._script.heard):
            if heard in waiting:
                waiting.remove(heard)
        heard.wire.answer_join(heard.message, status, {} if response is None else response)
        await self.settle()
        return ClientMessage.of(heard)

    async def assert_leave(self, topic: Any = ANY, *, within: float = 1.0) -> ClientMessage:
        """Assert that the client leaves *topic*; the server has answered as Phoenix does."""
        return ClientMessage.of(await self._take("leave", topic, ANY, ANY, within))

    async def refute_leave(self, topic: Any = ANY, *, within: float = 1.0) -> None:
        """Assert that the client does not leave *topic* now, nor *within* seconds."""
        await self._refute_heard("leave", topic, ANY, ANY, within)

    # -- messages

    async def assert_push(
        self, topic: Any = ANY, event: Any = ANY, payload: Any = ANY, *, within: float = 1.0
    ) -> ClientMessage:
        """Assert that the client pushes *event* to *topic*, and give the push, to reply to."""
        return ClientMessage.of(await self._take("push", topic, event, payload, within))

    async def refute_push(
        self, topic: Any = ANY, event: Any = ANY, payload: Any = ANY, *, within: float = 1.0
    ) -> None:
        """Assert that the client pushes no such thing now, nor *within* seconds."""
        await self._refute_heard("push", topic, event, payload, within)

    async def assert_heartbeat(self, *, within: float = 60.0) -> ClientMessage:
        """Assert that the client sends a heartbeat."""
        return ClientMessage.of(await self._take("heartbeat", ANY, ANY, ANY, within))

    @property
    def sent(self) -> list[ClientMessage]:
        """All that the client has sent and the server has read, in order: heartbeats, too."""
        return [ClientMessage.of(heard) for heard in self._script.sent]

    async def refute_sent(self, *, within: float = 1.0) -> None:
        """Assert that the client sends nothing, beside what was asserted, now or *within* seconds.

        No join, no leave, no push; heartbeats do not count.
        """
        await self.refute(
            "a message of the client's",
            lambda: self._script.heard,
            lambda _: [],
            within,
        )

    # -- the end of a connection

    async def assert_disconnect(self, code: Any = ANY, *, within: float = 5.0) -> ClientClose:
        """Assert that the client ends its connection, and give how: the code of its Close."""
        wire, closed = await self.wait_for(
            "a disconnect" if code is ANY else f"a disconnect with code {describe(code)}",
            self._wires_ended,
            lambda end: differences(code, end[1].code, "code"),
            within,
        )
        self._ends_seen.add(id(wire))
        return closed

    async def refute_disconnect(self, *, within: float = 1.0) -> None:
        """Assert that the client keeps its connection, now and for *within* seconds."""
        await self.refute("a disconnect", self._wires_ended, lambda _: [], within)

    def _wires_ended(self) -> list[tuple[Wire, ClientClose]]:
        return [
            (wire, wire.peer.closed)
            for wire in self._script.wires
            if wire.peer.closed is not None and id(wire) not in self._ends_seen
        ]

    # -- inside

    def _heard(self, kind: str) -> list[Heard]:
        return [each for each in self._script.unasserted(kind) if each.kind == kind]

    async def _take(self, kind: str, topic: Any, event: Any, payload: Any, within: float) -> Heard:
        def judge(each: Heard) -> list[str]:
            return differ(each, topic, event, payload)

        def hint() -> str | None:
            before = [each for each in self._taken if each.kind == kind and not judge(each)]
            return "one was asserted before, and counts once" if before else None

        heard = await self.wait_for(
            expected(kind, topic, event, payload),
            lambda: self._heard(kind),
            judge,
            within,
            hint=hint,
        )
        self._script.unasserted(kind).remove(heard)
        self._taken.append(heard)
        return heard

    async def _refute_heard(
        self, kind: str, topic: Any, event: Any, payload: Any, within: float
    ) -> None:
        await self.refute(
            expected(kind, topic, event, payload),
            lambda: self._heard(kind),
            lambda each: differ(each, topic, event, payload),
            within,
        )
