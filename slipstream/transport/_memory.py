"""A network in memory, for tests: the client's end is a true transport, the other end is a script's.

No socket, no thread and no real time: it works with trio's ``MockClock``, and what happens depends
on nothing but the script.
"""

from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias, assert_never

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from slipstream.errors import ConnectError, DisconnectedError
from slipstream.interfaces import ConnectRequest, Frame, Transport

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

__all__ = ["ClientClose", "MemoryNetwork", "MemoryPeer"]

_OnWritten: TypeAlias = Callable[[Sequence[Any]], None]


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

    Attributes:
        requests: every attempt so far, the refused ones included.
    """

    def __init__(
        self,
        *,
        response_headers: Sequence[tuple[str, str]] = (),
        subprotocol: str | None = None,
    ) -> None:
        self.requests: list[ConnectRequest] = []
        self._response_headers = tuple(response_headers)
        self._subprotocol = subprotocol
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
        await self._connect(request)
        transport = _MemoryTransport(request, on_written)
        transport.respond(self._response_headers, self._subprotocol)
        async with beside(transport):
            self._backlog.append(transport.peer)
            self._arrived.unpark()
            yield transport

    async def _connect(self, request: ConnectRequest) -> None:
        self.requests.append(request)
        seconds = request.connect_timeout
        with trio.move_on_after(seconds):
            await trio.lowlevel.checkpoint()
            while self._stalled is not None:
                await self._stalled.wait()
            if self._refusals:
                raise self._refusals.popleft()
            return
        raise ConnectError(
            f"no connection within connect_timeout, {seconds:g} s: the time ran out in step 'tcp'",
            step="tcp",
            seconds=seconds,
        )


class MemoryPeer:
    """The server's end of one connection, driven by a test's script.

    Attributes:
        request: what the client connected with.
        closed: how the client ended the connection, once it has.
    """

    def __init__(self, request: ConnectRequest, client: "_MemoryTransport") -> None:
        self.request = request
        self.closed: ClientClose | None = None
        self.answers_close = True
        self.writes_stalled = False
        self.changed = trio.lowlevel.ParkingLot()
        self.client = client
        self._received: list[Frame] = []

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
        return received

    def send(self, *messages: str | bytes) -> None:
        """Send *messages* (``str`` is text, ``bytes`` binary) as one delivery.

        Raises:
            DisconnectedError: if the connection has ended.
        """
        if self.client.closed is not None:
            raise DisconnectedError(self.client.closed)
        sizes = (len(m.encode()) if isinstance(m, str) else len(m) for m in messages)
        self.client.touch()
        self.client.deliver(list(messages), sum(sizes))

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

    def take(self, frames: Sequence[Frame]) -> None:
        """Take *frames* that the client has written."""
        self._received += frames
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

    def respond(self, headers: tuple[tuple[str, str], ...], subprotocol: str | None) -> None:
        """Note what the server answered to the connect."""
        self._response_headers = headers
        self._subprotocol = subprotocol

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
        while self.peer.writes_stalled:
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
                if not self.peer.answers_close:
                    await trio.sleep_forever()
            case AnswerClose(code, reason) | Fail(code, reason):
                self.outbox.drop_frames()
                await self._say_close(code, reason)
            case Abort(code):
                if not self.outbox.writing and not self.peer.writes_stalled:
                    self.peer.saw_end(code)
            case HangUp():
                pass
            case _:
                assert_never(goodbye)

    async def _say_close(self, code: int, reason: str) -> None:
        await self.outbox.wait_idle()
        while self.peer.writes_stalled:
            await self.peer.changed.park()
        self.peer.saw_end(code, reason)

    def release(self) -> None:
        """Tell the peer, if nothing else did."""
        self.outbox.drop_frames()
        self.peer.saw_end(None)
