"""A connected socket as a stream: a write may be begun without waiting, and TLS costs little more.

trio's own streams offer only ``send_all``, which must not be cancelled, and one TLS record (16 KiB) a
call. Here :meth:`SocketStream.begin_send` hands over what the kernel takes at once, and keeps the
rest, so that any caller may try it; and reading takes everything that has arrived.
"""

import socket
import ssl
from contextlib import suppress

import trio

__all__ = ["SocketStream", "TLSStream"]

_READ_BYTES = 64 * 1024

_RECORD_BYTES = 16 * 1024
"""No TLS record holds more (RFC 8446, 5.1), and reading gives one at most."""


class SocketStream:
    """Bytes over a connected socket that does not block. One task may read, and one write.

    Errors of the socket leave as they come, as :class:`OSError`.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self._rest: bytes | memoryview = b""
        self._error: OSError | None = None
        self._emptied = True  # whoever connects speaks first

    def begin_send(self, data: bytes | memoryview) -> bool:
        """Hand *data* to the kernel without waiting; tell whether it took everything.

        If not, :meth:`finish_send` must come next. Never raises: what went wrong it says there.
        """
        self._rest = data
        return self._push()

    async def finish_send(self) -> None:
        """Wait until the kernel has taken everything. Safe to cancel: the rest is kept.

        Raises:
            OSError: if it cannot be sent.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self._push():
            if self._error is not None:
                raise self._error
            try:
                await trio.lowlevel.wait_writable(self.socket)
            except trio.ClosedResourceError:
                if self.socket.fileno() < 0:
                    raise  # else it was a read that was interrupted
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def receive_some(self) -> bytes:
        """Wait for bytes, at most 64 KiB; ``b""`` is the end. Safe to cancel: nothing is lost.

        Raises:
            OSError: if the connection is broken.
        """
        if self._emptied:  # asking first would be in vain
            await trio.lowlevel.wait_readable(self.socket)
        else:
            await trio.lowlevel.checkpoint()
        while (data := self._receive_now()) is None:
            await trio.lowlevel.wait_readable(self.socket)
        self._emptied = len(data) < _READ_BYTES
        return data

    def receive_more(self) -> bytes | None:
        """Give what else has arrived, without waiting; ``None`` if that is nothing, most likely."""
        if self._emptied:
            return None
        data = self._receive_now()
        self._emptied = data is None or len(data) < _READ_BYTES
        return data

    def interrupt_read(self) -> None:
        """Let who waits in :meth:`receive_some` raise :exc:`trio.ClosedResourceError`.

        The socket stays open, and it may be read again.
        """
        trio.lowlevel.notify_closing(self.socket)

    def close(self) -> None:
        """Close the socket. Never blocks; closing twice is nothing."""
        if self.socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self.socket)
            self.socket.close()

    def _receive_now(self) -> bytes | None:
        """Take what has arrived, or ``None`` if nothing has."""
        try:
            return self.socket.recv(_READ_BYTES)
        except BlockingIOError:
            return None

    def _push(self) -> bool:
        """Let the kernel take what it will; tell whether everything is gone."""
        try:
            while self._rest and self._error is None:
                sent = self.socket.send(self._rest)
                self._rest = memoryview(self._rest)[sent:] if sent < len(self._rest) else b""
        except BlockingIOError:
            return False
        except OSError as error:
            self._error = error
        return self._error is None


class TLSStream(SocketStream):
    """Bytes over TLS over a socket, after :meth:`do_handshake`.

    The end of TCP without a ``close_notify`` is an end like any other: whether it may be one is for
    the protocol above to say, which has a close of its own.
    """

    def __init__(
        self, sock: socket.socket, context: ssl.SSLContext, *, server_hostname: str
    ) -> None:
        super().__init__(sock)
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_hostname=server_hostname
        )
        self._broken: ssl.SSLError | None = None

    async def do_handshake(self) -> None:
        """Shake hands. Failed or cancelled, it leaves a stream that can only be closed.

        Raises:
            OSError: if it fails; an :class:`ssl.SSLError` says what is wrong with the other side.
        """
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self.finish_send()
                await self._fill()
            except ssl.SSLError:
                self._push()  # the alert that tells the server
                raise
            else:
                await self.finish_send()
                return

    def begin_send(self, data: bytes | memoryview) -> bool:
        """Encrypt *data* and hand it to the kernel, as :meth:`SocketStream.begin_send`."""
        try:
            self._tls.write(data)
        except ssl.SSLError as error:
            self._error = error
        return self._push()

    async def receive_some(self) -> bytes:
        """Wait for what all the records hold that one read brings; ``b""`` is the end.

        Raises:
            OSError: if the connection is broken; an :class:`ssl.SSLError` if a record is.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        while True:
            data = self._decrypt()
            if data is not None:
                await trio.lowlevel.cancel_shielded_checkpoint()
                return data
            await self._fill()

    def close(self) -> None:
        """Send ``close_notify``, if the kernel takes it at once, and close the socket."""
        if self.socket.fileno() >= 0 and not self._rest:
            with suppress(ssl.SSLError):  # the server's own is not waited for
                self._tls.unwrap()
            self._push()
        super().close()

    def _push(self) -> bool:
        if self._outgoing.pending:
            self._rest = b"".join((self._rest, self._outgoing.read()))
        return super()._push()

    def receive_more(self) -> bytes | None:
        """Give what else has arrived, as :meth:`SocketStream.receive_more`."""
        data = super().receive_more()
        if data is None:
            return None
        self._feed(data)
        return self._decrypt()

    async def _fill(self) -> None:
        self._feed(await super().receive_some())

    def _feed(self, data: bytes) -> None:
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def _decrypt(self) -> bytes | None:
        """Give what is in the records that are there; ``None`` if none is complete."""
        if self._broken is not None:
            raise self._broken
        parts: list[bytes] = []
        try:
            while part := self._tls.read(_RECORD_BYTES):
                parts.append(part)
        except ssl.SSLWantReadError:
            if self._outgoing.pending:  # TLS itself has an answer to give
                self._push()
            if not parts:
                return None
        except ssl.SSLEOFError:
            pass  # the end, without a close_notify
        except ssl.SSLError as error:
            self._broken = error
            self._push()  # the alert that tells the server
            if not parts:
                raise
        return b"".join(parts)
