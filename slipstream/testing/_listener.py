"""The processes of a server beside its connections: the one that accepts them, and one that restarts it."""

import errno
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import trio

from slipstream.errors import ServerGoneError
from slipstream.otp import GenServer

from ._wire import Wire
from ._wire_tcp import TcpWire

if TYPE_CHECKING:  # a cycle by nature: the server starts them, they act on it
    from ._server import PhoenixServer

__all__ = ["Listener", "Restarter"]

_ACCEPT_AGAIN: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Listener(GenServer, restart="temporary"):
    """Accepts connections."""

    async def init(
        self,
        server: "PhoenixServer",
        listeners: list[trio.SocketListener],
        doorway: trio.MemoryReceiveChannel[Wire],
        /,
    ) -> None:
        """Take the bound *listeners*, and the *doorway* of those that connect in memory."""
        self._server = server
        self._listeners = listeners
        self._doorway = doorway
        self.start_soon(self._accept)

    async def _accept(self) -> None:
        # Not trio.serve_listeners: it would close each stream when its handler is done or
        # cancelled, and connections must outlive the listener to be closed in order.
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._accept_in_memory)
            for listener in self._listeners:
                nursery.start_soon(self._accept_from, listener)

    async def _accept_in_memory(self) -> None:
        async with self._doorway:
            async for wire in self._doorway:
                await self._server.take(wire)

    async def _accept_from(self, listener: trio.SocketListener) -> None:
        async with listener:
            while True:
                try:
                    stream = await listener.accept()
                except OSError as error:
                    if error.errno not in _ACCEPT_AGAIN:
                        raise
                    await trio.sleep(0.1)  # files or memory are short for a while
                else:
                    await self._server.take(TcpWire(stream))


class Restarter(GenServer):
    """Restarts the server for those that cannot wait for it."""

    async def init(self, server: "PhoenixServer", /) -> None:
        """Take the server."""
        self._server = server
        self._restarting = False

    async def handle_cast(self, options: Any, /) -> None:
        """Restart it; while that is under way, others who ask are content with it."""
        if not self._restarting:
            self._restarting = True
            self.start_soon(self._restart, options)

    async def _restart(self, options: Any) -> None:
        try:
            with suppress(ServerGoneError):  # the server ends meanwhile
                await self._server.restart(**options)
        finally:
            self._restarting = False
