"""What is to be written, and in which order; one alone takes from here and writes.

Control bytes (the upgrade request, a Close) come first, then the answers to pings, then
urgent frames, then the others in the order in which they were queued. Frames stay apart until the
writer is free, so that what comes later but matters more can still go ahead of them.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any

import attrs
import trio

from slipstream.interfaces import Frame

__all__ = ["SLICE_BYTES", "Batch", "Outbox"]

SLICE_BYTES = 64 * 1024
"""No more than this is handed to the network at a time."""

MAX_PONGS = 256
"""No more answers to pings are kept."""


@attrs.frozen(eq=False)
class Batch:
    """What one turn of the writer takes: *control* is framed already, and goes first.

    *size* is the bytes of its messages, framing left out.
    """

    control: tuple[bytes, ...]
    pongs: list[bytes]
    frames: list[Frame]
    tokens: list[Any]
    size: int


class Outbox:
    """The queue between everybody who sends and the one who writes.

    Attributes:
        queued_bytes: the bytes of messages that were queued and not yet handed to the network.
        sent_messages: the messages handed to the network so far.
        sent_bytes: their bytes, framing left out.
        writing: whether a batch has been taken and not yet been written whole.
    """

    def __init__(self, limit: int) -> None:
        self.queued_bytes = 0
        self.sent_messages = 0
        self.sent_bytes = 0
        self.writing = False
        self._limit = limit
        self._control: list[bytes] = []
        self._pongs: list[bytes] = []
        self._urgent: deque[tuple[Frame, Any]] = deque()
        self._frames: deque[tuple[Frame, Any]] = deque()
        self._begun: Batch | None = None
        self._drained = trio.lowlevel.ParkingLot()

    def put(self, frame: Frame, token: Any = None, urgent: bool = False) -> None:  # noqa: FBT001, FBT002 - it must be fast
        """Queue *frame*, whole."""
        (self._urgent if urgent else self._frames).append((frame, token))
        self.queued_bytes += len(frame.data)

    def put_control(self, data: bytes) -> None:
        """Queue *data*, framed already, ahead of every message."""
        self._control.append(data)

    def put_pongs(self, payloads: list[bytes]) -> None:
        """Queue the answers to pings.

        Of many that wait the last ones are kept: "a Pong frame for only the most recently processed
        Ping frame" will do (RFC 6455, 5.5.3), and no flood of pings can fill the memory.
        """
        self._pongs = [*self._pongs, *payloads][-MAX_PONGS:]

    def drop_frames(self) -> None:
        """Forget the frames that nobody has begun to write."""
        for queue in (self._urgent, self._frames):
            self.queued_bytes -= sum(len(frame.data) for frame, _ in queue)
            queue.clear()
        self._drained.unpark_all()

    @property
    def idle(self) -> bool:
        """Whether everything that was queued has been handed to the network."""
        return not (self.writing or self._frames or self._urgent or self._control or self._pongs)

    @property
    def full(self) -> bool:
        """Whether as much is queued as should be, or more."""
        return self.queued_bytes >= self._limit

    def take(self) -> Batch:
        """Take one turn's worth of what is queued: about 64 KiB, or one frame; what was given back first.

        Only while nothing is being written. The caller must call :meth:`written` next.
        """
        begun, self._begun = self._begun, None
        if begun is not None:
            return begun
        control, self._control = tuple(self._control), []
        pongs, self._pongs = self._pongs, []
        frames: list[Frame] = []
        tokens: list[Any] = []
        size = 0
        room = SLICE_BYTES - sum(map(len, control))
        for queue in (self._urgent, self._frames):
            while queue and size < room:
                frame, token = queue.popleft()
                size += len(frame.data)
                frames.append(frame)
                if token is not None:
                    tokens.append(token)
        self.writing = True
        return Batch(control, pongs, frames, tokens, size)

    def give_back(self, batch: Batch) -> None:
        """Let the next :meth:`take` give *batch*, of which something may have been written."""
        self._begun = batch

    def written(self, batch: Batch) -> Sequence[Any]:
        """Note that *batch* has been handed to the network; give its tokens."""
        self.writing = False
        self.queued_bytes -= batch.size
        self.sent_messages += len(batch.frames)
        self.sent_bytes += batch.size
        self._drained.unpark_all()
        return batch.tokens

    async def wait_change(self) -> None:
        """Wait until something was written or dropped, or :meth:`wake` was called. Safe to cancel."""
        await self._drained.park()

    async def wait_idle(self) -> None:
        """Wait until everything has been handed to the network. Safe to cancel."""
        while not self.idle:
            await self._drained.park()

    def wake(self) -> None:
        """Let those who wait for a change look again."""
        self._drained.unpark_all()
