"""What every transport has: an inbox that gives batches, an outbox, and one reason for its end."""

from abc import ABC, abstractmethod
from typing import Any

import trio

from slipstream.errors import DisconnectedError
from slipstream.interfaces import ConnectRequest, Frame, TransportStatistics
from slipstream.reasons import DisconnectReason

from ._outbox import Outbox

__all__ = ["Endpoint", "check_close"]

INBOX_MESSAGES = 1024
INBOX_BYTES = 256 * 1024

_RESERVED_CODES = frozenset({1004, 1005, 1006, 1015})


def check_close(code: int, reason: str) -> None:
    """Check what is to go into a Close.

    Raises:
        ValueError: if *code* may not go on the wire or *reason* is over 123 bytes.
    """
    if not (1000 <= code <= 1014 or 3000 <= code <= 4999) or code in _RESERVED_CODES:
        raise ValueError(
            f"close code {code!r} may not go on the wire; accepted are 1000-1003, 1007-1014, 3000-4999"
        )
    size = len(reason.encode())
    if size > 123:
        raise ValueError(f"a close reason holds at most 123 bytes, this one has {size}")


class Endpoint(ABC):
    """The receiving and the sending half of a transport, without a network.

    Attributes:
        outbox: what is to be written.
        writer_is_there: whether a task writes what is queued; only then is anything left there.

    A subclass fills the inbox with :meth:`deliver`, empties the outbox, and tells the end with
    :meth:`settle`.
    """

    def __init__(self, request: ConnectRequest) -> None:
        self.request = request
        self.outbox = Outbox(request.outbound_bytes)
        self.writer_is_there = False
        self._reason: DisconnectReason | None = None
        self._response_headers: tuple[tuple[str, str], ...] = ()
        self._subprotocol: str | None = None
        self._last_received = trio.current_time()
        self._messages: list[str | bytes] = []
        self._unread_bytes = 0
        self._received_messages = 0
        self._received_bytes = 0
        self._arrived = trio.lowlevel.ParkingLot()
        self._taken = trio.lowlevel.ParkingLot()

    # The interface

    @property
    def closed(self) -> DisconnectReason | None:
        """Why the connection ended, once it has; ``None`` while it is open."""
        return self._reason

    @property
    def response_headers(self) -> tuple[tuple[str, str], ...]:
        """The headers of the server's 101 response, names in lower case."""
        return self._response_headers

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol that the server chose."""
        return self._subprotocol

    @property
    def last_received(self) -> float:
        """When bytes last arrived from the peer, on trio's clock."""
        return self._last_received

    async def receive(self) -> list[str | bytes]:
        """Wait for messages and take everything that has arrived.

        Never empty. Safe to cancel: nothing is lost.

        Raises:
            DisconnectedError: when the connection has ended and everything was delivered.
        """
        if self._messages or self._reason is not None:
            await trio.lowlevel.checkpoint()
        while not self._messages:
            if self._reason is not None:
                raise DisconnectedError(self._reason)
            await self._arrived.park()
        messages, self._messages = self._messages, []
        self._unread_bytes = 0
        self._taken.unpark_all()
        return messages

    @trio.lowlevel.enable_ki_protection  # Ctrl-C between two steps would tear the frame
    def send_nowait(self, frame: Frame, /, *, token: Any = None, urgent: bool = False) -> None:
        """Queue *frame*, whole. Never blocks.

        Raises:
            DisconnectedError: if the connection has ended or is closing; nothing was queued.
        """
        if self._reason is not None:
            raise DisconnectedError(self._reason)
        self.outbox.put(frame, token, urgent)
        if not self.writer_is_there:
            self.hasten()

    async def wait_room(self) -> None:
        """Wait until less than ``outbound_bytes`` is queued. Safe to cancel.

        Raises:
            DisconnectedError: if the connection ends first.
        """
        await trio.lowlevel.checkpoint()
        while self._reason is None:
            if not self.outbox.full:
                return
            await self.outbox.wait_change()
        raise DisconnectedError(self._reason)

    def statistics(self) -> TransportStatistics:
        """Tell what has been sent and received so far."""
        return TransportStatistics(
            messages_sent=self.outbox.sent_messages,
            messages_received=self._received_messages,
            bytes_sent=self.outbox.sent_bytes,
            bytes_received=self._received_bytes,
            queued_bytes=self.outbox.queued_bytes,
        )

    # For the subclass

    @abstractmethod
    def hasten(self) -> None:
        """Let what was just queued be written, since no writer is there."""

    def touch(self) -> None:
        """Note that bytes arrived just now."""
        self._last_received = trio.current_time()

    def deliver(self, messages: list[str | bytes], size: int) -> None:
        """Put *messages* of *size* bytes into the inbox; after the end they are dropped."""
        if self._reason is not None or not messages:
            return
        self._messages += messages
        self._unread_bytes += size
        self._received_messages += len(messages)
        self._received_bytes += size
        self._arrived.unpark_all()

    def settle(self, reason: DisconnectReason) -> None:
        """Note why the connection ended. The first reason stays."""
        if self._reason is None:
            self._reason = reason
            self._arrived.unpark_all()
            self._taken.unpark_all()
            self.outbox.wake()

    @property
    def inbox_full(self) -> bool:
        """Whether as much lies in the inbox as should, or more."""
        return len(self._messages) >= INBOX_MESSAGES or self._unread_bytes >= INBOX_BYTES

    async def wait_inbox_room(self) -> None:
        """Wait until the inbox may take more, or the connection has ended. Safe to cancel."""
        while self._reason is None and self.inbox_full:
            await self._taken.park()
