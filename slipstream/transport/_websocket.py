"""The real transport: a WebSocket over TCP or TLS.

trio-websocket does the upgrade and the close handshake, over a stream of ours (``_tap``). The
network connection, its two tasks and every deadline are ours, and so is every error that a caller
sees: whatever trio-websocket, wsproto, h11 or ssl raise becomes a :class:`ConnectError`, or the one
reason why the connection ended.
"""

import base64
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, NoReturn, TypeAlias, assert_never, cast

import trio
import trio_websocket
from trio.lowlevel import enable_ki_protection

from slipstream.errors import RemoteProtocolError
from slipstream.interfaces import ConnectRequest, Transport
from slipstream.reasons import TransportFailed

from ._frames import BINARY, PONG, TEXT, FrameParser, build_close, build_frame
from ._lifecycle import (
    Abort,
    AnswerClose,
    Close,
    Fail,
    Goodbye,
    HangUp,
    LivingEndpoint,
    bare,
    beside,
)
from ._opening import Attempt, Target, open_stream, parse_target
from ._outbox import SLICE_BYTES, Batch
from ._response import ResponseReader, ResponseState
from ._tap import Tap

__all__ = ["open_websocket_transport"]

END_OF_TCP_GRACE = 1.0
"""Seconds that the server has to close TCP first, once both sides said Close (RFC 6455, 7.1.1)."""

ABORT_GRACE = 0.1
"""Seconds that the last Close of an abort has, where the kernel does not take it at once."""

REFUSAL_GRACE = 1.0
"""Seconds that the body of a refusal has to arrive, after its head."""

READ_BYTES = 64 * 1024

_OnWritten: TypeAlias = Callable[[Sequence[Any]], None]
_NetworkStream: TypeAlias = trio.SocketStream | trio.SSLStream[trio.SocketStream]


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
            target = _parse_target(request.uri, attempt)
            stream = await open_stream(target, request, attempt)
            # No checkpoint from here to the block that closes the stream
    except trio.TooSlowError as error:
        raise attempt.timed_out() from error
    attempt.step = "upgrade"
    transport = _WebSocketTransport(request, target, stream, on_written)
    async with beside(transport):
        await transport.wait_open(attempt)
        yield transport


def _parse_target(uri: str, attempt: Attempt) -> Target:
    try:
        target = parse_target(uri)
    except ValueError as error:
        raise attempt.error(str(error)) from error
    attempt.where = f"{target.host}:{target.port}"
    return target


class _WebSocketTransport(LivingEndpoint):
    """A WebSocket: open from :meth:`wait_open` on."""

    def __init__(
        self,
        request: ConnectRequest,
        target: Target,
        stream: _NetworkStream,
        on_written: _OnWritten,
    ) -> None:
        super().__init__(request)
        self._target = target
        self._stream = stream
        self._on_written = on_written
        self._tap = Tap(self.outbox)
        self._response = ResponseReader()
        self._parser = FrameParser(max_message_size=request.max_message_size)
        self._opened = False
        self._answered = trio.Event()  # the upgrade has succeeded or failed
        self._response_complete = trio.Event()
        self._upgrade_error: BaseException | None = None
        self._own_close = Close(1000, "")
        self._close_asked = trio.Event()
        self._peer_done = trio.Event()  # nothing more of what it sends will be looked at
        self._peer_gone = trio.Event()  # the end of TCP

    @property
    def tasks(self) -> tuple[Callable[[], Awaitable[None]], ...]:
        """One task reads, one writes, and one lets trio-websocket speak."""
        return (self._read, self._write, self._converse)

    # The upgrade

    async def wait_open(self, attempt: Attempt) -> None:
        """Wait until the server has accepted the upgrade.

        Raises:
            ConnectError: if it has not, or not in time.
        """
        try:
            try:
                with trio.fail_at(attempt.deadline):
                    await self._answered.wait()
            except trio.TooSlowError as error:
                raise attempt.timed_out() from error
            if not self._opened:
                await self._raise_refusal(attempt)
        except BaseException:
            self.give_up()
            raise

    async def _raise_refusal(self, attempt: Attempt) -> NoReturn:
        response = self._response
        if response.state in {ResponseState.BODY, ResponseState.COMPLETE}:
            grace = trio.current_time() + REFUSAL_GRACE
            with trio.move_on_at(min(attempt.deadline, grace)):
                await self._response_complete.wait()
            raise attempt.error(
                f"the server answered HTTP {response.status}",
                status=response.status,
                headers=response.headers,
                body=response.body,
            )
        cause = self._upgrade_error or EOFError("the connection ended")
        raise attempt.error(f"the upgrade failed: {cause}") from cause

    async def _converse(self) -> None:
        """Let trio-websocket do the upgrade, and the close handshake when it is asked to."""
        try:
            async with trio.open_nursery() as nursery:
                websocket = await trio_websocket.wrap_client_stream(
                    nursery,
                    # Its annotation names trio's own streams; it needs no more than their interface.
                    cast("trio.SocketStream", self._tap),
                    self._target.authority,
                    self._target.resource,
                    subprotocols=self.request.subprotocols,
                    extra_headers=self._extra_headers(),
                    max_message_size=self.request.max_message_size,
                )
                self._subprotocol = websocket.subprotocol
                self._response_headers = self._response.headers
                self._opened = True
                self._answered.set()
                await self._close_asked.wait()
                await websocket.aclose(self._own_close.code, self._own_close.reason)
                self._tap.detach()
        except* Exception as group:  # noqa: BLE001 - trio-websocket, wsproto and h11 raise all sorts of things
            self._upgrade_error = self._upgrade_error or _root(bare(group))
        finally:
            self._tap.detach()
            self._answered.set()

    def _extra_headers(self) -> list[tuple[bytes, bytes]]:
        headers = [(name.encode(), value.encode()) for name, value in self.request.headers]
        credentials = self._target.credentials
        if credentials is not None and not any(k.lower() == b"authorization" for k, _ in headers):
            headers.append((b"Authorization", b"Basic " + base64.b64encode(credentials.encode())))
        return headers

    # Reading

    async def _read(self) -> None:
        error: BaseException = EOFError("the server closed TCP without a close frame")
        try:
            while True:
                await self.wait_inbox_room()
                data = await self._stream.receive_some(READ_BYTES)
                if not data:
                    break
                self.touch()
                self._feed(bytes(data))
        except trio.BrokenResourceError as broken:
            error = broken.__cause__ or broken
        except RemoteProtocolError as garbage:
            error = garbage
        self._tap.pass_eof()
        self._response.feed_eof()
        self._response_complete.set()
        if self._response.state is ResponseState.UPGRADED:
            # Whether the 101 was a good one is trio-websocket's to say, first.
            await self._answered.wait()
        else:
            self._upgrade_error = error
            self._answered.set()
        self.begin(HangUp(), TransportFailed(error))
        self._peer_done.set()
        self._peer_gone.set()

    def _feed(self, data: bytes) -> None:
        """Give *data* to whom it concerns.

        Raises:
            RemoteProtocolError: if it should have been an HTTP response, and is not.
        """
        response = self._response
        if response.state is ResponseState.UPGRADED:
            self._parse(data)
            return
        response.feed(data)
        self._act_on(response.state)

    def _act_on(self, state: ResponseState) -> None:
        match state:
            case ResponseState.HEAD:
                pass
            case ResponseState.UPGRADED:
                self._tap.pass_up(self._response.head)
                self._parse(self._response.rest)
            case ResponseState.BODY:
                self._answered.set()
            case ResponseState.COMPLETE:
                self._answered.set()
                self._response_complete.set()
            case _:
                assert_never(state)

    def _parse(self, data: bytes) -> None:
        """Parse frames, and act on what they say."""
        parser = self._parser
        if self._peer_done.is_set():
            return
        messages, size = parser.feed(data)
        self.deliver(messages, size)
        if parser.pong is not None:
            self.outbox.put_pong(parser.pong)
            parser.pong = None
        if parser.close is not None:
            self._peer_done.set()
            self._tap.pass_up(parser.close.frame)
            self.closed_by_peer(parser.close.code, parser.close.reason)
        elif parser.error is not None:
            self._peer_done.set()
            self.begin(Fail(parser.error.code, str(parser.error)), TransportFailed(parser.error))

    # Writing

    async def _write(self) -> None:
        """Write what is queued: the only task that does."""
        seconds = self.request.write_timeout
        try:
            while True:
                batch = await self.outbox.take()
                data = memoryview(_serialize(batch))
                for at in range(0, len(data), SLICE_BYTES):
                    with trio.move_on_after(seconds) as scope:
                        await self._stream.send_all(data[at : at + SLICE_BYTES])
                    if scope.cancelled_caught:
                        self.broke(TimeoutError(f"nothing could be written for {seconds:g} s"))
                        return
                tokens = self.outbox.written(batch)
                if tokens:
                    self._on_written(tokens)
        except trio.BrokenResourceError as broken:
            # The server may have said why before it cut the line: reading that comes first.
            with trio.move_on_after(END_OF_TCP_GRACE):
                await self._peer_gone.wait()
            self.broke(broken.__cause__ or broken)

    # The end

    async def say(self, goodbye: Goodbye) -> None:
        """Say *goodbye*: each way ends at the latest when its scope is cancelled."""
        match goodbye:
            case Close(code, reason):
                if code == 1000:
                    await self.outbox.wait_idle()
                else:
                    self.outbox.drop_frames()
                self._own_close = goodbye
                self._close_asked.set()
                await self._tap.wait_close_sent()
                await self._wait_close_written(code, reason)
                await self._peer_done.wait()
                await self._wait_end_of_tcp()
            case AnswerClose(code, reason):
                self.outbox.drop_frames()
                await self._answered.wait()
                await self._tap.wait_digested()
                await self._wait_close_written(code, reason)
                await self._wait_end_of_tcp()
            case Fail(code, reason):
                self.outbox.drop_frames()
                await self._answered.wait()
                await self._wait_close_written(code, reason)
                await self._wait_end_of_tcp()
            case Abort(code):
                self.outbox.drop_frames()
                # A Close would have to wait for the frame that is being written.
                if not self.outbox.writing:
                    with trio.move_on_after(ABORT_GRACE):
                        await self._wait_close_written(code, "")
            case HangUp():
                pass
            case _:
                assert_never(goodbye)

    async def _wait_close_written(self, code: int, reason: str) -> None:
        """Wait until our Close is on its way; if trio-websocket has not sent it, send it ourselves."""
        if not self._tap.close_sent:
            self.outbox.put_control(build_close(code, reason))
        await self.outbox.wait_idle()

    async def _wait_end_of_tcp(self) -> None:
        with trio.move_on_after(END_OF_TCP_GRACE):
            await self._peer_gone.wait()

    async def release(self) -> None:
        """Close the socket, without a word."""
        self._answered.set()
        self._response_complete.set()
        self.outbox.drop_frames()
        await trio.aclose_forcefully(self._stream)


def _serialize(batch: Batch) -> bytes:
    parts = list(batch.control)
    if batch.pong is not None:
        parts.append(build_frame(PONG, batch.pong))
    parts += (build_frame(BINARY if frame.binary else TEXT, frame.data) for frame in batch.frames)
    return b"".join(parts)


def _root(error: BaseException) -> BaseException:
    """Find what *error* is really about: the first one, which the others came of.

    trio-websocket answers a bad 101 with a rejection, which no client may send, and the refusal to
    do so hides what was wrong with the 101.
    """
    while error.__context__ is not None:
        error = error.__context__
    return error
