"""A network in memory, for tests: the client's end is a true transport, the other end is a script's.

No socket, no thread and no real time: it works with trio's ``MockClock``, and what happens depends
on nothing but the script.
"""

import itertools
import math
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias, assert_never

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from slipstream.errors import ConnectError, DisconnectedError, RemoteProtocolError
from slipstream.interfaces import ConnectRequest, Frame, Transport
from slipstream.reasons import TransportFailed

from ._endpoint import check_close
from ._lifecycle import (
    Abort,
    AnswerClose,
    Close,
    Fail,
    Goodbye,
    HangUp,
    LivingEndpoint,
    beside,
)
from ._outbox import Batch

__all__ = ["ClientClose", "MemoryNetwork", "MemoryPeer", "MemoryResponse"]

_OnWritten: TypeAlias = Callable[[Sequence[Any]], None]


@attrs.frozen
class MemoryResponse:
    """What a server answers to a connect: *headers*, names in lower case, and its *subprotocol*."""

    headers: tuple[tuple[str, str], ...] = ()
    subprotocol: str | None = None


@attrs.frozen
class ClientClose:
    """How the client ended a connection: the *code* of its Close, or ``None`` where it sent none.

    *at* is when, on trio's clock.
    """

    code: int | None
    reason: str = ""
    at: float = attrs.field(default=0.0, eq=False)


class MemoryNetwork:
    """A server's address in memory. Pass :meth:`open_transport` as ``Config.transport``.

    Connects succeed at once, as with a listening socket, and wait for :meth:`accept`, unless one
    is to be refused or connects are stalled.

    With *answer*, a server decides: it is asked for the response to each connect, has what is left
    of ``connect_timeout`` for it, and may raise a
    :class:`~slipstream.errors.ConnectError`. It keeps the :class:`MemoryPeer` that it is asked about,
    and nothing waits for :meth:`accept`.

    Attributes:
        requests: every attempt so far, the refused ones included.
    """

    def __init__(
        self,
        *,
        response_headers: Sequence[tuple[str, str]] = (),
        subprotocol: str | None = None,
        answer: "Callable[[MemoryPeer], Awaitable[MemoryResponse]] | None" = None,
    ) -> None:
        self.requests: list[ConnectRequest] = []
        self._response = MemoryResponse(tuple(response_headers), subprotocol)
        self._answer = answer
        self._refusals: deque[ConnectError] = deque()
        self._backlog: deque[MemoryPeer] = deque()
        self._arrived = trio.lowlevel.ParkingLot()
        self._stalled: trio.Event | None = None

    def refuse(self, error: ConnectError, *, times: int = 1) -> None:
        """Let the next *times* connects fail with *error*; further calls speak of those after."""
        self._refusals.extend([error] * times)

    def stall_connects(self) -> None:
        """Answer no connect until :meth:`resume_connects`; each ends by its ``connect_timeout``."""
        if self._stalled is None:
            self._stalled = trio.Event()

    def resume_connects(self) -> None:
        """Answer the connects that wait, and those that come."""
        stalled, self._stalled = self._stalled, None
        if stalled is not None:
            stalled.set()

    async def accept(self, *, within: float = 60.0) -> "MemoryPeer":
        """Wait for the next connection and give the server's end of it. Safe to cancel.

        Raises:
            trio.TooSlowError: if none came *within* so many seconds.
        """
        with trio.fail_after(within):
            await trio.lowlevel.checkpoint()
            while not self._backlog:
                await self._arrived.park()
            return self._backlog.popleft()

    @asynccontextmanager
    @enable_ki_protection  # as the real one; not the body
    async def open_transport(
        self, request: ConnectRequest, /, *, on_written: _OnWritten
    ) -> AsyncGenerator[Transport]:
        """Connect: an :class:`~slipstream.interfaces.OpenTransport`.

        Raises:
            ConnectError: if the connect was refused, or stalled for ``connect_timeout``.
        """
        deadline = trio.current_time() + request.connect_timeout
        await self._connect(request, deadline)
        transport = _MemoryTransport(request, on_written)
        try:
            transport.respond(await self._upgrade(transport.peer, deadline))
            async with beside(transport):
                if self._answer is None:
                    self._backlog.append(transport.peer)
                    self._arrived.unpark()
                transport.peer.saw_opening()
                yield transport
        finally:
            transport.peer.saw_end(None)  # unless there was an end that says more

    async def _connect(self, request: ConnectRequest, deadline: float) -> None:
        self.requests.append(request)
        with trio.move_on_at(deadline):
            await trio.lowlevel.checkpoint()
            while self._stalled is not None:
                await self._stalled.wait()
            if self._refusals:
                raise self._refusals.popleft()
            return
        raise _too_slow(request, "tcp")

    async def _upgrade(self, peer: "MemoryPeer", deadline: float) -> MemoryResponse:
        if self._answer is None:
            return self._response
        with trio.move_on_at(deadline):
            return await self._answer(peer)
        raise _too_slow(peer.request, "upgrade")


def _too_slow(request: ConnectRequest, step: str) -> ConnectError:
    seconds = request.connect_timeout
    return ConnectError(
        f"no connection within connect_timeout, {seconds:g} s: the time ran out in step {step!r}",
        step=step,
        seconds=seconds,
    )


class MemoryPeer:
    """The server's end of one connection, driven by a test's script.

    Attributes:
        request: what the client connected with.
        closed: how the client ended the connection, once it has; without a code where it gave up
            before it was connected.
    """

    def __init__(self, request: ConnectRequest, client: "_MemoryTransport") -> None:
        self.request = request
        self.closed: ClientClose | None = None
        self.answers_close = True
        self.writes_stalled = False
        self.changed = trio.lowlevel.ParkingLot()
        self.client = client
        self._received: list[Frame] = []
        self._unread_bytes = 0
        self._unread_limit = math.inf
        self._opened = False

    # The script

    async def receive(self) -> list[Frame]:
        """Wait for frames of the client and take all that arrived. Never empty. Safe to cancel.

        Raises:
            DisconnectedError: when the connection has ended and everything was taken.
        """
        await trio.lowlevel.checkpoint()
        while not self._received:
            if self.closed is not None:
                raise DisconnectedError(self.client.closed)
            await self.changed.park()
        received, self._received = self._received, []
        self._unread_bytes = 0
        self.changed.unpark_all()  # there is room again
        return received

    def limit_unread(self, size: int) -> None:
        """Take no more of what the client writes while *size* bytes or more lie unread.

        As with the buffers of a socket; by default there is no limit.
        """
        self._unread_limit = size

    @property
    def opened(self) -> bool:
        """Whether the client has taken the response to its connect."""
        return self._opened

    async def wait_opened(self) -> None:
        """Wait until the client has taken the response to its connect. Safe to cancel.

        Raises:
            DisconnectedError: if it gave up.
        """
        await trio.lowlevel.checkpoint()
        while not self._opened:
            if self.closed is not None:
                raise DisconnectedError(self.client.closed)
            await self.changed.park()

    async def wait_room(self) -> None:
        """Wait until the client has read enough to take more, or has ended. Safe to cancel."""
        await trio.lowlevel.checkpoint()
        await self.client.wait_inbox_room()

    def trickle(self) -> None:
        """Let some bytes of a message arrive, but nothing whole yet."""
        self.client.touch()

    def send(self, *messages: str | bytes) -> None:
        """Send *messages* (``str`` is text, ``bytes`` binary) as one delivery.

        One of over ``max_message_size`` ends the connection, as it does over TCP; what comes before
        it is delivered.

        Raises:
            DisconnectedError: if the connection has ended.
        """
        if self.client.closed is not None:
            raise DisconnectedError(self.client.closed)
        limit = self.request.max_message_size
        sizes = [len(m.encode()) if isinstance(m, str) else len(m) for m in messages]
        fitting = list(itertools.takewhile(lambda size: size <= limit, sizes))
        self.client.touch()
        if fitting:
            self.client.deliver(list(messages[: len(fitting)]), sum(fitting))
        if len(fitting) < len(sizes):
            error = RemoteProtocolError(
                f"a message is over max_message_size, {limit} bytes", code=1009
            )
            self.client.begin(Fail(1009, str(error)), TransportFailed(error))

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Send a Close, as a server that ends the connection in order.

        Raises:
            ValueError: if *code* may not go on the wire or *reason* is over 123 bytes.
        """
        if code != 1005:  # an empty Close
            check_close(code, reason)
        self.client.touch()
        self.client.closed_by_peer(code, reason)

    def drop(self, error: BaseException | None = None) -> None:
        """End the connection without a Close: *error* is what the network says, by default a reset."""
        self.client.broke(error or ConnectionResetError("the connection was reset"))

    def stall_writes(self) -> None:
        """Let nothing that the client writes get through, until :meth:`resume_writes`."""
        self.writes_stalled = True

    def resume_writes(self) -> None:
        """Take what the client writes again."""
        self.writes_stalled = False
        self.changed.unpark_all()

    def ignore_close(self) -> None:
        """Do not answer the client's Close, so that it must end by force."""
        self.answers_close = False

    async def wait_closed(self) -> ClientClose:
        """Wait until the client has ended the connection. Safe to cancel."""
        await trio.lowlevel.checkpoint()
        while self.closed is None:
            await self.changed.park()
        return self.closed

    # What the client's end calls

    @property
    def blocked(self) -> bool:
        """Whether nothing that the client writes gets through now."""
        return self.writes_stalled or self._unread_bytes >= self._unread_limit

    def saw_opening(self) -> None:
        """Note that the client is connected."""
        self._opened = True
        self.changed.unpark_all()

    def take(self, frames: Sequence[Frame]) -> None:
        """Take *frames* that the client has written."""
        self._received += frames
        self._unread_bytes += sum(len(frame.data) for frame in frames)
        self.changed.unpark_all()

    def saw_end(self, code: int | None, reason: str = "") -> None:
        """Note the client's Close, or its end without one. The first one stays."""
        if self.closed is None:
            self.closed = ClientClose(code, reason, at=trio.current_time())
            self.changed.unpark_all()


class _MemoryTransport(LivingEndpoint):
    """The client's end of a connection in memory."""

    def __init__(self, request: ConnectRequest, on_written: _OnWritten) -> None:
        super().__init__(request)
        self.peer = MemoryPeer(request, self)
        self._on_written = on_written

    def respond(self, response: MemoryResponse) -> None:
        """Note what the server answered to the connect."""
        self._response_headers = response.headers
        self._subprotocol = response.subprotocol

    async def read(self) -> None:
        """Do nothing: the peer delivers by itself."""

    async def write(self) -> None:
        """Pass on what is queued."""
        seconds = self.request.write_timeout
        while not self.outbox.idle:
            with trio.move_on_after(seconds) as scope:
                await self._pass(self.outbox.take())
            if scope.cancelled_caught:
                self.broke(TimeoutError(f"nothing could be written for {seconds:g} s"))
                return
            await trio.lowlevel.checkpoint()

    async def _pass(self, batch: Batch) -> None:
        while self.peer.blocked:
            await self.peer.changed.park()
        self.peer.take(batch.frames)
        tokens = self.outbox.written(batch)
        if tokens:
            self._on_written(tokens)

    async def say(self, goodbye: Goodbye) -> None:
        """Say *goodbye*, as far as the peer listens."""
        match goodbye:
            case Close(code, reason):
                if code != 1000:
                    self.outbox.drop_frames()
                await self._say_close(code, reason)
                while not self.peer.answers_close:
                    await self.peer.changed.park()
            case AnswerClose(code, reason) | Fail(code, reason):
                self.outbox.drop_frames()
                await self._say_close(code, reason)
            case Abort(code):
                if not self.outbox.writing and not self.peer.blocked:
                    self.peer.saw_end(code)
            case HangUp():
                pass
            case _:
                assert_never(goodbye)

    async def _say_close(self, code: int, reason: str) -> None:
        await self.outbox.wait_idle()
        while self.peer.blocked:
            await self.peer.changed.park()
        self.peer.saw_end(code, reason)

    def release(self) -> None:
        """Tell the peer, if nothing else did."""
        self.outbox.drop_frames()
        self.peer.saw_end(None)
