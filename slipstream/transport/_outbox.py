"""What is to be written, and in which order; one task alone takes from here and writes.

Control bytes (the upgrade request, a Close) come first, then the answer to the last ping, then
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


@attrs.frozen(eq=False)
class Batch:
    """What one turn of the writer takes: *control* is framed already, and goes first.

    *size* is the bytes of its messages, framing left out.
    """

    control: tuple[bytes, ...]
    pong: bytes | None
    frames: list[Frame]
    tokens: list[Any]
    size: int


class Outbox:
    """The queue between everybody who sends and the one task that writes.

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
        self._pong: bytes | None = None
        self._urgent: deque[tuple[Frame, Any]] = deque()
        self._frames: deque[tuple[Frame, Any]] = deque()
        self._begun: Batch | None = None
        self._filled = trio.lowlevel.ParkingLot()
        self._drained = trio.lowlevel.ParkingLot()

    def put(self, frame: Frame, *, token: Any = None, urgent: bool = False) -> None:
        """Queue *frame*, whole. The writer learns of it by :meth:`wake_writer`."""
        (self._urgent if urgent else self._frames).append((frame, token))
        self.queued_bytes += len(frame.data)

    def put_control(self, data: bytes) -> None:
        """Queue *data*, framed already, ahead of every message; wake the writer."""
        self._control.append(data)
        self.wake_writer()

    def put_pong(self, payload: bytes) -> None:
        """Queue the answer to a ping.

        It takes the place of one that still waits: "a Pong frame for only the most recently
        processed Ping frame" will do (RFC 6455, 5.5.3), and no flood of pings can fill the memory.
        """
        self._pong = payload

    def drop_frames(self) -> None:
        """Forget the frames that nobody has begun to write."""
        for queue in (self._urgent, self._frames):
            self.queued_bytes -= sum(len(frame.data) for frame, _ in queue)
            queue.clear()
        self._drained.unpark_all()

    @property
    def idle(self) -> bool:
        """Whether everything that was queued has been handed to the network."""
        return not (
            self.writing or self._frames or self._urgent or self._control or self._pong is not None
        )

    @property
    def full(self) -> bool:
        """Whether as much is queued as should be, or more."""
        return self.queued_bytes >= self._limit

    def wake_writer(self) -> None:
        """Let the writer look."""
        self._filled.unpark()

    async def take(self) -> Batch:
        """Wait until something is queued, and take one turn's worth: about 64 KiB, or one frame.

        Only the writer may call it, while nothing is being written but what was given back. Safe to
        cancel. The caller must call :meth:`written` next.
        """
        # One pass for everybody who is about to queue something, so that it goes out in one piece.
        await trio.lowlevel.checkpoint()
        while self._begun is None and (self.idle or self.writing):
            await self._filled.park()
        begun, self._begun = self._begun, None
        return begun or self.take_nowait()

    def take_nowait(self) -> Batch:
        """Take one turn's worth of what is queued, which may be nothing."""
        control, self._control = tuple(self._control), []
        pong, self._pong = self._pong, None
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
        return Batch(control, pong, frames, tokens, size)

    def give_back(self, batch: Batch) -> None:
        """Leave it to the writer to finish *batch*, of which something was written."""
        self._begun = batch
        self.wake_writer()

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
        await trio.lowlevel.checkpoint()
        while not self.idle:
            await self._drained.park()

    def wake(self) -> None:
        """Let those who wait for a change look again."""
        self._drained.unpark_all()
