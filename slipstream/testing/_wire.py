"""What a server's socket needs of a connection, whatever it is made of."""

from collections.abc import Sequence
from typing import Protocol, TypeAlias

import trio

from slipstream.interfaces import Frame

from ._handshake import ConnectInfo

__all__ = ["Flow", "HeaderPairs", "Wire", "WireClosed"]

HeaderPairs: TypeAlias = Sequence[tuple[bytes, bytes]]

PACE = 0.1
"""Seconds between two pieces of what is sent slowly."""


class WireClosed(Exception):  # noqa: N818 - no error, but how every connection ends
    """Nothing more comes from the client, or goes to it."""


class Wire(Protocol):
    """A client's connection: whole messages, the handshake before them, the end after them.

    Each that waits raises :class:`WireClosed` when the connection has ended.
    """

    @property
    def flow(self) -> "Flow":
        """What holds up its bytes."""
        ...

    @property
    def closed_code(self) -> int | None:
        """The code that it was closed with; ``None`` as long as it is open, 1006 where none was said."""
        ...

    @property
    def last_received(self) -> float:
        """When something last came from the client, on trio's clock."""
        ...

    async def read_request(self, nursery: trio.Nursery, *, max_size: int) -> ConnectInfo | None:
        """Read the upgrade request; ``None`` where none came. What it needs runs in *nursery*.

        A message of over *max_size* bytes is answered with a close 1009 later on.
        """
        ...

    async def accept(self, subprotocol: str | None, headers: HeaderPairs = ()) -> None:
        """Let the client in."""
        ...

    async def reject(self, status: int, headers: HeaderPairs, body: bytes) -> None:
        """Refuse the client."""
        ...

    async def receive(self) -> str | bytes:
        """Wait for a message of the client's; only one task may."""
        ...

    async def send(self, frame: Frame) -> None:
        """Send a message."""
        ...

    async def close(self, code: int, reason: str) -> None:
        """Send a Close and wait for the client's, without limit."""
        ...

    async def wait_ended(self) -> None:
        """Wait until the client has hung up, or :meth:`cut` was called. Reads nothing."""
        ...

    def cut(self) -> None:
        """End the connection at once and without a word, whoever uses it."""
        ...

    async def aclose(self) -> None:
        """Let go of it; where it is open still, end it."""
        ...


class Flow:
    """What holds up the bytes of a connection.

    What is stalled twice goes on when it has been resumed twice; of several rates the least counts.
    """

    def __init__(self) -> None:
        self._rates: list[float] = []
        self._stalled = {"reads": 0, "writes": 0}
        self._over = False
        self._changed = trio.lowlevel.ParkingLot()

    @property
    def stalled(self) -> bool:
        """Whether it is stalled one way or both."""
        return not self._over and any(self._stalled.values())

    def stall(self, *, reads: bool = False, writes: bool = False) -> None:
        """Read nothing more, or write nothing more."""
        self._stalled["reads"] += reads
        self._stalled["writes"] += writes

    def resume(self, *, reads: bool = False, writes: bool = False) -> None:
        """Take back a :meth:`stall`."""
        self._stalled["reads"] -= reads
        self._stalled["writes"] -= writes
        self._changed.unpark_all()

    @property
    def bytes_per_second(self) -> float | None:
        """How fast it is, both ways; ``None`` for as fast as it can."""
        return min(self._rates, default=None)

    def slow_down(self, rate: float) -> None:
        """Let through at most *rate* bytes in a second."""
        self._rates.append(rate)

    def speed_up(self, rate: float) -> None:
        """Take back a :meth:`slow_down` to *rate*."""
        self._rates.remove(rate)

    def release(self) -> None:
        """Hold up nothing any more, since the connection is over."""
        self._over = True
        self._changed.unpark_all()

    async def wait_readable(self) -> None:
        """Wait while reads are stalled."""
        await self._wait("reads")

    async def wait_writable(self) -> None:
        """Wait while writes are stalled."""
        await self._wait("writes")

    async def _wait(self, way: str) -> None:
        await trio.lowlevel.checkpoint()
        while self._stalled[way] and not self._over:
            await self._changed.park()

    async def spend(self, size: int) -> None:
        """Wait for as long as *size* bytes take."""
        rate = self.bytes_per_second
        await trio.sleep(0 if rate is None or self._over else size / rate)

    def pieces(self, size: int) -> list[slice]:
        """Tell in which pieces *size* bytes go out."""
        rate = self.bytes_per_second
        step = size if rate is None else max(1, int(rate * PACE))
        return [slice(at, at + step) for at in range(0, size, max(1, step))]
