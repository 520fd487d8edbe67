"""A connection in memory: the server's end of what the transport in memory calls a peer."""

from collections import deque
from typing import Final

import trio

from slipstream.errors import ConnectError, DisconnectedError
from slipstream.interfaces import Frame
from slipstream.transport import MemoryPeer, MemoryResponse

from ._handshake import ConnectInfo, connect_info
from ._wire import Flow, HeaderPairs, WireClosed

__all__ = ["MemoryWire"]

_BUFFER: Final = 1024 * 1024
"""Bytes that a client may write and that nobody reads: about what sockets hold."""


class MemoryWire:
    """A connection that a client opened in memory."""

    def __init__(self, peer: MemoryPeer) -> None:
        self.flow = _MemoryFlow(peer)
        self.last_received = trio.current_time()
        self._peer = peer
        self._peer.limit_unread(_BUFFER)
        self._started = trio.current_time()
        self._decided = trio.Event()
        self._refusal: ConnectError | None = None
        self._response = MemoryResponse()
        self._frames: deque[Frame] = deque()
        self._max_size = 0
        self._code: int | None = None

    # The client's side of the handshake

    async def answer(self) -> MemoryResponse:
        """Wait for the server's answer to the connect.

        Raises:
            ConnectError: if it refused, or hung up.
        """
        await self._decided.wait()
        if self._refusal is not None:
            raise self._refusal
        return self._response

    # The server's

    @property
    def closed_code(self) -> int | None:
        """The code that it was closed with."""
        if self._code is not None or self._peer.closed is None:
            return self._code
        code = self._peer.closed.code
        return 1006 if code is None else code

    async def read_request(self, nursery: trio.Nursery, *, max_size: int) -> ConnectInfo | None:
        """Read the upgrade request."""
        await trio.lowlevel.checkpoint()
        self._max_size = max_size
        request = self._peer.request
        return connect_info(request.uri, dict(request.headers), request.subprotocols)

    async def accept(self, subprotocol: str | None, headers: HeaderPairs = ()) -> None:
        """Let the client in; wait until it is."""
        self._response = MemoryResponse(_lower(headers), subprotocol)
        await self.flow.wait_writable()
        self._decided.set()
        try:
            await self._peer.wait_opened()
        except DisconnectedError as error:
            raise WireClosed from error

    async def reject(self, status: int, headers: HeaderPairs, body: bytes) -> None:
        """Refuse the client."""
        await self.flow.wait_writable()
        self._refuse(f"the server answered {status}", status=status, headers=headers, body=body)

    async def receive(self) -> str | bytes:
        """Wait for a message of the client's."""
        while not self._frames:
            ended: DisconnectedError | None = None
            await self.flow.wait_readable()
            try:
                self._frames += await self._peer.receive()
            except DisconnectedError as error:
                ended = error
            await self.flow.wait_readable()  # who reads nothing sees no end
            if ended is not None:
                raise WireClosed from ended
        await self.flow.spend(len(self._frames[0].data))
        frame = self._frames.popleft()
        self.last_received = trio.current_time()
        if self._code is not None:
            raise WireClosed  # what comes after our own Close is of no interest
        if len(frame.data) > self._max_size:
            self._say_close(1009, "")
            raise WireClosed
        return frame.data if frame.binary else frame.data.decode()

    async def send(self, frame: Frame) -> None:
        """Send a message, when the client has room for it."""
        for piece in self.flow.pieces(len(frame.data)):
            await self.flow.wait_writable()
            if self.flow.bytes_per_second is not None:
                self._peer.trickle()
            await self.flow.spend(len(frame.data[piece]))
        await self.flow.wait_writable()
        await self._peer.wait_room()
        if self._code is not None:
            raise WireClosed
        try:
            self._peer.send(frame.data if frame.binary else frame.data.decode())
        except DisconnectedError as error:
            raise WireClosed from error

    async def close(self, code: int, reason: str) -> None:
        """Send a Close and wait for the client's."""
        await self.flow.wait_writable()
        self._say_close(code, reason)
        await self._peer.wait_closed()

    async def wait_ended(self) -> None:
        """Wait until the client has hung up."""
        await self._peer.wait_closed()

    def cut(self) -> None:
        """End the connection without a word."""
        self.flow.release()
        if not self._peer.opened:
            self._refuse("the connection was cut before the upgrade was answered")
        else:
            if self._code is None and self._peer.closed is None:
                self._code = 1006
            self._peer.drop()  # to a client that waits to say its Close, too

    async def aclose(self) -> None:
        """End the connection, where it has not ended."""
        await trio.lowlevel.checkpoint()
        self.cut()

    def _say_close(self, code: int, reason: str) -> None:
        if self._code is None and self._peer.closed is None:
            self._code = code
            self._peer.close(code, reason)

    def _refuse(
        self, why: str, *, status: int | None = None, headers: HeaderPairs = (), body: bytes = b""
    ) -> None:
        if self._refusal is None:
            self._refusal = ConnectError(
                f"no connection in memory: {why}",
                step="upgrade",
                seconds=trio.current_time() - self._started,
                status=status,
                headers=_lower(headers),
                body=body,
            )
            self._decided.set()


class _MemoryFlow(Flow):
    """Who reads nothing, or writes nothing, answers no Close either."""

    def __init__(self, peer: MemoryPeer) -> None:
        super().__init__()
        self._peer = peer

    def stall(self, *, reads: bool = False, writes: bool = False) -> None:
        super().stall(reads=reads, writes=writes)
        self._peer.answers_close = not self.stalled

    def resume(self, *, reads: bool = False, writes: bool = False) -> None:
        super().resume(reads=reads, writes=writes)
        self._peer.answers_close = not self.stalled
        self._peer.changed.unpark_all()  # a Close may wait for its answer


def _lower(headers: HeaderPairs) -> tuple[tuple[str, str], ...]:
    return tuple((name.decode().lower(), value.decode("latin-1")) for name, value in headers)
