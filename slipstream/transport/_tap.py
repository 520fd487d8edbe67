"""The stream that trio-websocket reads and writes, which lies on no network.

The network is ours: our reader hands trio-websocket the head of the 101 answer and the server's
Close, nothing else, and what trio-websocket writes (the upgrade request, its Close) goes into the
outbox like everything else. So nothing that it does, or fails to do, reaches the connection.
"""

import trio
from trio.lowlevel import enable_ki_protection

from ._frames import is_close
from ._outbox import Outbox

__all__ = ["Tap"]


class Tap(trio.abc.HalfCloseableStream):
    """Stands between trio-websocket and the two tasks that read and write the network.

    Attributes:
        close_sent: whether trio-websocket has sent a Close.
    """

    def __init__(self, outbox: Outbox) -> None:
        self.close_sent = False
        self._outbox = outbox
        self._buffer = bytearray()
        self._eof = False
        self._closed = False
        self._hungry = False
        self._changed = trio.lowlevel.ParkingLot()

    # For our own tasks

    def pass_up(self, data: bytes) -> None:
        """Let trio-websocket read *data*."""
        self._buffer += data
        self._hungry = False
        self._changed.unpark_all()

    def pass_eof(self) -> None:
        """Let trio-websocket read the end."""
        self._eof = True
        self._changed.unpark_all()

    def detach(self) -> None:
        """Note that trio-websocket is gone, and will neither read nor write."""
        self._closed = True
        self._changed.unpark_all()

    async def wait_close_sent(self) -> None:
        """Wait until trio-websocket has sent a Close, or is gone. Safe to cancel."""
        await trio.lowlevel.checkpoint()
        while not self.close_sent and not self._closed:
            await self._changed.park()

    async def wait_digested(self) -> None:
        """Wait until trio-websocket has dealt with everything it was given, or is gone."""
        await trio.lowlevel.checkpoint()
        while not self._hungry and not self._closed:
            await self._changed.park()

    # For trio-websocket

    @enable_ki_protection  # trio-websocket's tasks are not ours to protect; what they call is
    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Put *data* into the outbox."""
        await trio.lowlevel.checkpoint()
        if self._closed:
            raise trio.ClosedResourceError
        data = bytes(data)
        self._outbox.put_control(data)
        if is_close(data):
            self.close_sent = True
            self._changed.unpark_all()

    async def wait_send_all_might_not_block(self) -> None:
        """Return at once: the outbox takes whatever it gets."""
        await trio.lowlevel.checkpoint()

    async def send_eof(self) -> None:
        """Do nothing: the end of TCP is ours to decide."""
        await trio.lowlevel.checkpoint()

    @enable_ki_protection
    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Wait for bytes that were passed up."""
        await trio.lowlevel.checkpoint()
        while not self._buffer:
            if self._closed:
                raise trio.ClosedResourceError
            if self._eof:
                # It asks for nothing after that, so it has dealt with everything.
                self._hungry = True
                self._changed.unpark_all()
                return b""
            self._hungry = True
            self._changed.unpark_all()
            await self._changed.park()
        size = len(self._buffer) if max_bytes is None else max_bytes
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    async def aclose(self) -> None:
        """Note that trio-websocket has done; the network connection stays."""
        self.detach()
        await trio.lowlevel.checkpoint()
