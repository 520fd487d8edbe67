"""The real transport: a WebSocket over TCP or TLS.

The network connection, its tasks and every deadline are ours, and so is every error that a caller
sees: whatever trio-websocket, wsproto, h11 or ssl raise becomes a :class:`ConnectError`, or the one
reason why the connection ended.
"""

import math
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from typing import Any, TypeAlias, assert_never

import trio
from trio.lowlevel import enable_ki_protection

from slipstream.errors import ConfigError
from slipstream.interfaces import ConnectRequest, Frame, Transport
from slipstream.reasons import TransportFailed

from ._attempt import Attempt, Target, check_request, parse_target
from ._deflate import Deflater
from ._frames import BINARY, PONG, RSV1, TEXT, build_close, build_frame
from ._lifecycle import (
    Abort,
    AnswerClose,
    Close,
    Fail,
    Goodbye,
    HangUp,
    beside,
)
from ._opening import open_stream
from ._outbox import SLICE_BYTES, Batch
from ._parser import FrameParser
from ._reading import ReadingEndpoint
from ._stream import SocketStream
from ._upgrade import Upgraded, upgrade

__all__ = ["open_websocket_transport"]

END_OF_TCP_GRACE = 1.0
"""Seconds that the server has to close TCP first, once both sides said Close (RFC 6455, 7.1.1)."""

CORK_SECONDS = 0.0005
"""Whoever sends so soon after another has probably more to come: a writer sends it in one piece.

Nothing waits for this time to pass, only for the tasks that can run already.
"""

_OnWritten: TypeAlias = Callable[[Sequence[Any]], None]


@asynccontextmanager
@enable_ki_protection  # between the socket and the block that closes it; not the body
async def open_websocket_transport(
    request: ConnectRequest, /, *, on_written: _OnWritten
) -> AsyncGenerator[Transport]:
    """Connect within ``request.connect_timeout`` and yield the open transport.

    An :class:`~slipstream.interfaces.OpenTransport`. Without ``ssl_context``, TLS trusts what the
    system trusts. Leaving the block closes the connection: with 1000 after a normal end, 1001 after
    an exception, by ``abort`` where the block was cancelled.

    Raises:
        ConnectError: if no connection came about, with the step, the seconds and the cause.
    """
    attempt = Attempt(request.connect_timeout)
    try:
        with trio.fail_at(attempt.deadline):
            target = _check(request, attempt)
            stream = await open_stream(target, request, attempt)
    except trio.TooSlowError as error:
        raise attempt.timed_out() from error
    with closing(stream):
        attempt.step = "upgrade"
        upgraded = await upgrade(stream, target, request, attempt)
        transport = _WebSocketTransport(request, stream, upgraded, on_written)
        async with beside(transport):
            yield transport


def _check(request: ConnectRequest, attempt: Attempt) -> Target:
    try:
        target = parse_target(request.uri)
    except ValueError as error:
        raise attempt.error(str(error)) from error
    attempt.where = f"{target.host}:{target.port}"
    try:
        check_request(request)
    except ConfigError as error:
        attempt.step = "upgrade"
        raise attempt.error(str(error)) from error
    return target


class _WebSocketTransport(ReadingEndpoint):
    """A WebSocket that is open."""

    def __init__(
        self,
        request: ConnectRequest,
        stream: SocketStream,
        upgraded: Upgraded,
        on_written: _OnWritten,
    ) -> None:
        super().__init__(request, stream, upgraded.rest)
        self._on_written = on_written
        self._response_headers = upgraded.headers
        self._subprotocol = upgraded.subprotocol
        self._deflater = upgraded.deflater
        self._parser = FrameParser(
            max_message_size=request.max_message_size,
            max_fragments=request.max_fragments,
            inflater=upgraded.inflater,
        )
        self._begun: Batch | None = None  # what a caller began to write, and a writer must finish
        self._written_at = -math.inf  # when a caller last wrote

    # Reading

    def parse(self, data: bytes) -> None:
        """Parse frames, and act on what they say."""
        parser = self._parser
        if self.peer_done.is_set():
            return
        messages, size = parser.feed(data)
        self.deliver(messages, size)
        if len(messages) == 1:
            self._written_at = -math.inf  # whoever answers it need not wait for others who do
        if parser.pings:
            self.outbox.put_pongs(parser.pings)
            parser.pings.clear()
            if not self.writer_is_there:
                self._write_now()
        if parser.close is not None:
            self.peer_done.set()
            self.closed_by_peer(parser.close.code, parser.close.reason)
        elif parser.error is not None:
            self.peer_done.set()
            self.begin(Fail(parser.error.code, str(parser.error)), TransportFailed(parser.error))

    # Writing

    def hasten(self) -> None:
        """Write what was queued, if it is small; else leave it to a writer."""
        now = time.perf_counter()
        if self.outbox.queued_bytes <= SLICE_BYTES and now - self._written_at > CORK_SECONDS:
            self._written_at = now
            self._write_now()
        else:
            super().hasten()

    def _write_now(self) -> None:
        """Write one turn without waiting; what the kernel does not take is left to a writer."""
        batch = self.outbox.take()
        if self.stream.begin_send(self._serialize(batch)):
            self._note_written(batch)
        else:
            self._begun = batch
            self.outbox.give_back(batch)
            super().hasten()

    async def write(self) -> None:
        """Write what is queued, turn by turn."""
        try:
            while not self.outbox.idle:
                await self._write_turn(self.outbox.take())
                # One pass for everybody who is about to queue something: it goes out in one piece.
                await trio.lowlevel.checkpoint()
        except trio.TooSlowError:
            seconds = self.request.write_timeout
            self.broke(TimeoutError(f"nothing could be written for {seconds:g} s"))
        except OSError as broken:
            # The server may have said why before it cut the line: reading that comes first.
            with trio.move_on_after(END_OF_TCP_GRACE):
                await self.peer_gone.wait()
            self.broke(broken)

    async def _write_turn(self, batch: Batch) -> None:
        if batch is self._begun:
            self._begun = None
            await self._finish_send()
        else:
            data = memoryview(self._serialize(batch))
            for at in range(0, len(data), SLICE_BYTES):
                if not self.stream.begin_send(data[at : at + SLICE_BYTES]):
                    await self._finish_send()
        self._note_written(batch)

    async def _finish_send(self) -> None:
        with trio.fail_after(self.request.write_timeout):
            await self.stream.finish_send()

    def _note_written(self, batch: Batch) -> None:
        tokens = self.outbox.written(batch)
        if tokens:
            self._on_written(tokens)

    def _serialize(self, batch: Batch) -> bytes:
        parts = [*batch.control, *[build_frame(PONG, payload) for payload in batch.pongs]]
        if self._deflater is None:
            parts += [
                build_frame(BINARY if binary else TEXT, data) for data, binary in batch.frames
            ]
        else:
            parts += [self._compress(self._deflater, frame) for frame in batch.frames]
        return b"".join(parts)

    @staticmethod
    def _compress(deflater: Deflater, frame: Frame) -> bytes:
        opcode = BINARY if frame.binary else TEXT
        deflated = deflater.deflate(frame.data)
        if deflated is None:
            return build_frame(opcode, frame.data)
        return build_frame(opcode, deflated, RSV1)

    # The end

    async def say(self, goodbye: Goodbye) -> None:
        """Say *goodbye*: each way ends at the latest when its scope is cancelled."""
        match goodbye:
            case Close(code, reason):
                if code == 1000:
                    await self.outbox.wait_idle()
                await self._send_close(code, reason)
                await self.peer_done.wait()
                await self._wait_end_of_tcp()
            case AnswerClose(code, reason) | Fail(code, reason):
                await self._send_close(code, reason)
                await self._wait_end_of_tcp()
            case Abort(code):
                self.outbox.drop_frames()
                # A Close would have to wait for the frame that is being written.
                if not self.outbox.writing:
                    self.outbox.put_control(build_close(code))
                    self._write_now()
            case HangUp():
                pass
            case _:
                assert_never(goodbye)

    async def _send_close(self, code: int, reason: str) -> None:
        """Send our Close, and nothing that is still queued; wait until it is on its way."""
        self.outbox.drop_frames()
        self.outbox.put_control(build_close(code, reason))
        if not self.writer_is_there:
            self._write_now()
        await self.outbox.wait_idle()

    async def _wait_end_of_tcp(self) -> None:
        if self.peer_gone.is_set():  # as where Close and the end come together
            return
        with trio.move_on_after(END_OF_TCP_GRACE):
            await self.peer_gone.wait()

    def release(self) -> None:
        """Close the socket, without a word."""
        self.outbox.drop_frames()
        self.stream.close()
