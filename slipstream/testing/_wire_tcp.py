"""A connection over TCP: trio-websocket over a stream that can be held up."""

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest

from slipstream.interfaces import Frame

from ._handshake import ConnectInfo, WatchedStream, connect_info, read_request
from ._wire import Flow, HeaderPairs, WireClosed

__all__ = ["TcpWire"]

_CLOSED = (ConnectionClosed, trio.BrokenResourceError, trio.ClosedResourceError)


class _HeldStream(trio.abc.Stream):
    """A stream whose bytes a :class:`Flow` holds up."""

    def __init__(self, stream: trio.SocketStream, flow: Flow) -> None:
        self._stream = stream
        self._flow = flow
        self.last_received = trio.current_time()

    def cut(self) -> None:
        """Close the socket at once, whoever uses it."""
        self._stream.socket.close()
        self._flow.release()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Read, unless that is held up."""
        await self._flow.wait_readable()
        data = await self._stream.receive_some(max_bytes)
        self.last_received = trio.current_time()
        await self._flow.spend(len(data))
        await self._flow.wait_readable()  # it may have been stalled while it waited for the client
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Write, unless that is held up."""
        whole = memoryview(data)
        for piece in self._flow.pieces(len(data)):
            await self._flow.wait_writable()
            await self._stream.send_all(whole[piece])
            await self._flow.spend(len(whole[piece]))

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until a write may go on."""
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """Close."""
        self._flow.release()
        await self._stream.aclose()


class TcpWire:
    """A connection that a listener accepted."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.flow = Flow()
        self._held = _HeldStream(stream, self.flow)
        self._watched = WatchedStream(self._held)
        self._request: WebSocketRequest | None = None
        self._websocket: WebSocketConnection | None = None

    @property
    def closed_code(self) -> int | None:
        """The code that it was closed with."""
        reason = self._websocket.closed if self._websocket is not None else None
        return reason.code if reason is not None else None

    @property
    def last_received(self) -> float:
        """When something last came from the client, on trio's clock."""
        return self._held.last_received

    async def read_request(self, nursery: trio.Nursery, *, max_size: int) -> ConnectInfo | None:
        """Read the upgrade request. trio-websocket's reader runs in *nursery* from then on."""
        request = await read_request(nursery, self._watched, max_frame_size=max_size)
        if request is None:
            return None
        self._request = request
        headers = {name.decode(): value.decode("latin-1") for name, value in request.headers}
        return connect_info(request.path, headers, tuple(request.proposed_subprotocols))

    async def accept(self, subprotocol: str | None, headers: HeaderPairs = ()) -> None:
        """Let the client in."""
        assert self._request is not None  # noqa: S101 - it was read
        try:
            self._websocket = await self._request.accept(
                subprotocol=subprotocol, extra_headers=list(headers)
            )
        except _CLOSED as error:
            raise WireClosed from error
        self._watched.carries(self._websocket)

    async def reject(self, status: int, headers: HeaderPairs, body: bytes) -> None:
        """Refuse the client."""
        assert self._request is not None  # noqa: S101 - it was read
        try:
            await self._request.reject(status, extra_headers=list(headers), body=body)
        except _CLOSED as error:
            raise WireClosed from error

    async def receive(self) -> str | bytes:
        """Wait for a message of the client's."""
        assert self._websocket is not None  # noqa: S101 - it was let in
        try:
            message = await self._websocket.get_message()
        except ConnectionClosed as error:
            raise WireClosed from error
        await self.flow.wait_readable()  # it may have been read before that was stalled
        return message

    async def send(self, frame: Frame) -> None:
        """Send a message."""
        assert self._websocket is not None  # noqa: S101 - it was let in
        try:
            await self._websocket.send_message(frame.data if frame.binary else frame.data.decode())
        except _CLOSED as error:
            raise WireClosed from error

    async def close(self, code: int, reason: str) -> None:
        """Send a Close and wait for the client's."""
        assert self._websocket is not None  # noqa: S101 - it was let in
        try:
            await self._websocket.aclose(code, reason)
        except _CLOSED as error:
            raise WireClosed from error

    async def wait_ended(self) -> None:
        """Wait until nothing more can be read."""
        await self._watched.ended.wait()

    def cut(self) -> None:
        """Close the socket at once."""
        self._held.cut()
        self._watched.ended.set()

    async def aclose(self) -> None:
        """Close the socket."""
        await trio.aclose_forcefully(self._watched)
