"""Who reads: the one that waits for messages, itself; while nobody waits, a stand-in.

A message costs one turn of the scheduler where its receiver reads it, and two where another task
reads it for the receiver. But somebody must read always: pings want an answer, and the end to be
noticed, whatever the receiver does.
"""

from abc import abstractmethod

import trio

from slipstream.errors import DisconnectedError
from slipstream.interfaces import ConnectRequest
from slipstream.reasons import DisconnectReason, TransportFailed

from ._lifecycle import Goodbye, HangUp, LivingEndpoint
from ._stream import SocketStream

__all__ = ["ReadingEndpoint"]

STAND_IN_AFTER = 0.005
"""Seconds that the receiver may be away before somebody else reads."""

READS_A_TURN = 16
"""A turn of the scheduler costs as much as parsing a hundred messages: so while there is more to read
than one read takes, so many are made in one."""


class ReadingEndpoint(LivingEndpoint):
    """An endpoint that reads a stream.

    Attributes:
        stream: the network connection.
        peer_done: set when nothing more of what the peer sends will be looked at.
        peer_gone: set at the end of TCP.
    """

    def __init__(self, request: ConnectRequest, stream: SocketStream, early: bytes) -> None:
        """Take the *stream*, and the bytes that came *early*, with the answer to the upgrade."""
        super().__init__(request)
        self.stream = stream
        self.peer_done = trio.Event()
        self.peer_gone = trio.Event()
        self._early = early
        self._receiver_is_here = False
        self._somebody_reads = False
        self._stand_by: trio.CancelScope | None = None  # while the stand-in has nothing to do
        self._called = False  # whether it will look in STAND_IN_AFTER seconds

    @abstractmethod
    def parse(self, data: bytes) -> None:
        """Parse *data*, deliver what is in it, and act on what it says."""

    # The interface

    @trio.lowlevel.enable_ki_protection  # Ctrl-C between two steps would lose what was read
    async def receive(self) -> list[str | bytes]:
        """Wait for messages and take everything that has arrived.

        Never empty. Safe to cancel: nothing is lost.

        Raises:
            DisconnectedError: when the connection has ended and everything was delivered.
        """
        self._receiver_is_here = True
        try:
            if self.unread or self.closed is not None:
                await trio.lowlevel.checkpoint()
            while not self.unread:
                if self.closed is not None:
                    raise DisconnectedError(self.closed)
                if self._somebody_reads:
                    await self.wait_arrival()
                else:
                    await self._read_turn()
            return self.take()
        finally:
            self._receiver_is_here = False
            if self._stand_by is not None and not self._called:
                self._called = True
                self._stand_by.deadline = trio.current_time() + STAND_IN_AFTER

    # For the life of the connection

    def start(self, nursery: trio.Nursery) -> None:
        """Start to live in *nursery*, with what came early."""
        super().start(nursery)
        early, self._early = self._early, b""
        self.parse(early)

    def begin(self, goodbye: Goodbye, reason: DisconnectReason) -> None:
        """Start to end; from now on the stand-in reads, and the receiver learns *reason*."""
        first = self.closed is None
        super().begin(goodbye, reason)
        if first and self._stand_by is not None:
            self._stand_by.cancel()
        if first and self._somebody_reads:
            self.stream.interrupt_read()

    async def read(self) -> None:
        """Stand in, until the end of TCP."""
        while not self.peer_gone.is_set():
            if self._receiver_is_here and self.closed is None:
                self.wake_receiver()  # it may have waited for us to read
                with trio.CancelScope() as self._stand_by:
                    self._called = False
                    await trio.sleep_forever()
                self._stand_by = None
            elif self._somebody_reads:  # the receiver, which was interrupted and goes
                await trio.lowlevel.checkpoint()
            elif self.inbox_full and self.closed is None:
                await self.wait_inbox_room()
            else:
                await self._read_turn()

    async def _read_turn(self) -> None:
        """Wait for bytes, and read what is there. Safe to cancel: nothing is lost.

        Only while nobody else does: what another reads would not wake who waits in here.
        """
        error: BaseException = EOFError("the server closed TCP without a close frame")
        self._somebody_reads = True
        try:
            data: bytes | None = await self.stream.receive_some()
            self.touch()
            reads = 1
            while data:
                self.parse(data)
                if self.inbox_full or reads == READS_A_TURN:
                    return
                data = self.stream.receive_more()
                reads += 1
            if data is None:
                return
        except trio.ClosedResourceError:
            return  # interrupted
        except OSError as broken:
            error = broken
        finally:
            self._somebody_reads = False
        self.begin(HangUp(), TransportFailed(error))
        self.peer_done.set()
        self.peer_gone.set()
