"""The stream that trio-websocket asks for an upgrade over, and what the server answers to it.

It passes on the request, and hands up the head of a 101 answer; nothing that comes after it, and no
answer of another kind, goes up. So trio-websocket judges the upgrade, and all the rest is ours.
"""

import trio
from trio.lowlevel import enable_ki_protection

from ._deflate import take_answer
from ._response import ResponseReader, ResponseState
from ._stream import SocketStream

__all__ = ["Refused", "Tap"]


class Refused(Exception):  # noqa: N818 - it never leaves the upgrade
    """The server answered something else than 101."""


class Tap(trio.abc.HalfCloseableStream):
    """Stands between trio-websocket and the network, for as long as the upgrade takes.

    Attributes:
        answer: what the server answered, as far as it was read.
        extensions: the extensions that it accepted, if we take them out of the answer.
    """

    def __init__(self, stream: SocketStream, *, takes_extensions: bool) -> None:
        self.answer = ResponseReader()
        self.extensions: str | None = None
        self._stream = stream
        self._takes_extensions = takes_extensions
        self._head: bytes | None = None  # what trio-websocket has still to read

    @enable_ki_protection  # trio-websocket's tasks are not ours to protect; what they call is
    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send *data*."""
        await trio.lowlevel.checkpoint()
        if not self._stream.begin_send(bytes(data)):
            await self._stream.finish_send()

    async def wait_send_all_might_not_block(self) -> None:
        """Return at once: there is one request, and then nothing more."""
        await trio.lowlevel.checkpoint()

    async def send_eof(self) -> None:
        """Do nothing: the end of TCP is ours to decide."""
        await trio.lowlevel.checkpoint()

    @enable_ki_protection
    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Wait for the head of a 101, and give it in pieces; then wait for ever.

        Raises:
            Refused: if the server answered something else.
            RemoteProtocolError: if that is no answer at all.
            EOFError: if it closed TCP.
            OSError: if the connection broke.
        """
        if self._head is None:
            self._head = await self._read_head()
        if not self._head:
            await trio.sleep_forever()
        size = len(self._head) if max_bytes is None else max_bytes
        data, self._head = self._head[:size], self._head[size:]
        return data

    async def _read_head(self) -> bytes:
        answer = self.answer
        while answer.state is ResponseState.HEAD:
            data = await self._stream.receive_some()
            if not data:
                raise EOFError("the connection ended")
            answer.feed(data)
        if answer.state is not ResponseState.UPGRADED:
            raise Refused
        if not self._takes_extensions:
            return answer.head
        # trio-websocket must not see the answer to an offer that was not its own.
        head, self.extensions = take_answer(answer.head)
        return head

    async def aclose(self) -> None:
        """Do nothing: the connection stays."""
        await trio.lowlevel.checkpoint()
