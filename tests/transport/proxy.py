"""A TCP proxy that falls silent: what a dead path looks like to both ends, without a network of one's own."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio

__all__ = ["Proxy", "proxying"]


class Proxy:
    """Forwards both ways, until it is silenced. Connections stay open all the while."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.accepted = 0
        self._flowing = trio.Event()
        self._flowing.set()

    def silence(self) -> None:
        """Read and forward nothing more, on any connection, and accept them all the same."""
        self._flowing = trio.Event()

    def resume(self) -> None:
        self._flowing.set()

    async def forward(self, source: trio.SocketStream, sink: trio.SocketStream) -> None:
        """Forward what *source* says to *sink*, its end of TCP included."""
        try:
            while True:
                data = await source.receive_some()
                await self._flowing.wait()
                if not data:
                    await sink.send_eof()
                    return
                await sink.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            await trio.aclose_forcefully(source)
            await trio.aclose_forcefully(sink)


@asynccontextmanager
async def proxying(target: int) -> AsyncGenerator[Proxy]:
    """Forward a loopback port to the port *target* for as long as the block lasts."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    proxy = Proxy(listener.socket.getsockname()[1])

    async def handle(stream: trio.SocketStream) -> None:
        proxy.accepted += 1
        await proxy._flowing.wait()
        async with await trio.open_tcp_stream("127.0.0.1", target) as onward:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(proxy.forward, stream, onward)
                nursery.start_soon(proxy.forward, onward, stream)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, handle, [listener])
        try:
            yield proxy
        finally:
            nursery.cancel_scope.cancel()
