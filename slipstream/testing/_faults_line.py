"""Between a server's socket and its wire: where faults happen."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import trio

from slipstream.interfaces import Frame, Message, Serializer
from slipstream.protocol import V1Serializer, V2Serializer

from ._faults_stages import Item, Stage
from ._handshake import Reject
from ._wire import Wire, WireClosed

if TYPE_CHECKING:  # a cycle by nature: faults act on lines, a line lets faults begin
    from ._socket import ServerSocket
    from .faults import After, Fault

__all__ = ["Line", "Undo"]

Undo: TypeAlias = Callable[[], None]


class Line:
    """A connection on which something may go wrong.

    Attributes:
        number: which connection of the server's it is, counted from 1.
        over: whether it was cut.
    """

    def __init__(self, socket: "ServerSocket", wire: Wire, number: int) -> None:
        self.socket = socket
        self.wire = wire
        self.number = number
        self.over = False
        self._open = False
        self._refusals: dict[object, Reject] = {}
        self._silences: set[object] = set()
        self._answerable = trio.lowlevel.ParkingLot()
        self._serializer: Serializer = V2Serializer(role="client")
        self._stages: list[Stage] = []
        self._armed: list[_Armed] = []
        self._waiting: list[Callable[[], None]] = []
        self._loose: list[Item] = []
        self._lock = trio.Lock()
        self._changed = trio.Event()

    # What faults do

    @property
    def open(self) -> bool:
        """Whether the client has been let in."""
        return self._open

    def when_open(self, start: Callable[[], Undo]) -> Undo:
        """Call *start* as soon as the client has been let in; give what takes that back."""
        if self._open:
            return start()
        undos: list[Undo] = []

        def waiting() -> None:
            undos.append(start())

        def undo() -> None:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
            for each in undos:
                each()

        self._waiting.append(waiting)
        return undo

    def refuse(self, reject: Reject) -> Undo:
        """Have the connect refused, whatever it asks for; of several refusals the first counts."""
        key = object()
        self._refusals[key] = reject

        def undo() -> None:
            del self._refusals[key]

        return undo

    def silence(self) -> Undo:
        """Let the connect have no answer."""
        key = object()
        self._silences.add(key)

        def undo() -> None:
            self._silences.remove(key)
            self._answerable.unpark_all()

        return undo

    def add(self, stage: Stage) -> Undo:
        """Let all messages to the client pass through *stage*, after those that are there."""
        self._stages.append(stage)
        return lambda: self._remove(stage)

    def arm(self, after: "After", note: Callable[[], None]) -> Undo:
        """Wait for what *after* says, and let its faults begin."""
        armed = _Armed(self, after, note)
        self._armed.append(armed)
        self._poke()
        return armed.undo

    def cut(self) -> None:
        """End the connection without a word."""
        self.over = True
        self.socket.drop()

    def decode(self, frame: Frame) -> Message:
        """Read a message to the client, as the client does.

        Raises:
            DecodeError: if it cannot be read.
        """
        return self._serializer.decode(frame.data if frame.binary else frame.data.decode())

    # What the socket does

    @property
    def refusal(self) -> Reject | None:
        """How the connect is to be refused; ``None`` if it is not."""
        return next(iter(self._refusals.values()), None)

    async def wait_answerable(self) -> None:
        """Wait while the connect is to get no answer."""
        await trio.lowlevel.checkpoint()
        while self._silences:
            await self._answerable.park()

    def opened(self) -> None:
        """Note that the client has been let in."""
        if self.socket.params.get("vsn", "1.0.0").startswith("1."):
            self._serializer = V1Serializer(role="client")
        self._open = True
        waiting, self._waiting = self._waiting, []
        for start in waiting:
            start()

    def heard(self, message: Message) -> None:
        """Note what the client said, before the server acts on it."""
        for stage in self._stages:
            stage.heard(message)
        self._happened(message)

    async def send(self, frame: Frame) -> None:
        """Send *frame*, as far as faults let it.

        Raises:
            WireClosed: if the connection has ended.
        """
        if not (self._stages or self._armed or self._loose):
            async with self._lock:  # what was held before may be on its way still
                await self.wire.send(frame)
            return
        item = Item(frame, self.decode(frame))
        async with self._lock:
            before, self._loose = self._loose, []
            await self._pass(before + self._through(list(self._stages), [item]))
        self._poke()  # something may become due now
        self._happened(item.message)

    async def close(self, code: int, reason: str) -> None:
        """Send what is held, then a Close, and wait for the client's.

        Raises:
            WireClosed: if the connection has ended.
        """
        async with self._lock:
            items, self._loose = self._loose, []
            for stage in self._stages:
                items = self._through([stage], items) + ([] if stage.lossy else stage.drain())
            await self._pass(items)
        await self.wire.close(code, reason)

    async def run(self) -> None:
        """Do what is due, for as long as the connection lasts."""
        while True:
            now = trio.current_time()
            for armed in [armed for armed in self._armed if armed.due <= now]:
                self._fire(armed)
            try:
                async with self._lock:
                    await self._pass(self._take_due(now))
            except WireClosed:
                return  # its socket notices, too
            dues = [stage.due for stage in self._stages] + [armed.due for armed in self._armed]
            with trio.move_on_at(min(dues, default=math.inf)):
                await self._changed.wait()
            self._changed = trio.Event()

    # Inside

    def _poke(self) -> None:
        self._changed.set()

    async def _pass(self, items: Sequence[Item]) -> None:
        for item in items:
            await self.wire.send(item.frame)

    @staticmethod
    def _through(stages: Sequence[Stage], items: list[Item]) -> list[Item]:
        now = trio.current_time()
        for stage in stages:
            items = [each for item in items for each in stage.feed(item, now)]
        return items

    def _take_due(self, now: float) -> list[Item]:
        items, self._loose = self._loose, []
        for at, stage in enumerate(self._stages):
            items += self._through(self._stages[at + 1 :], stage.release(now))
        return items

    def _remove(self, stage: Stage) -> None:
        if stage in self._stages:
            at = self._stages.index(stage)
            self._loose += self._through(self._stages[at + 1 :], stage.drain())
            del self._stages[at]
            self._poke()

    def _happened(self, message: Message) -> None:
        for armed in list(self._armed):
            if armed.waits_for(message):
                self._fire(armed)

    def _fire(self, armed: "_Armed") -> None:
        self.disarm(armed)
        armed.begin()

    def disarm(self, armed: "_Armed") -> None:
        """Wait for it no longer."""
        if armed in self._armed:
            self._armed.remove(armed)


class _Armed:
    """Faults that wait for something."""

    def __init__(self, line: Line, after: "After", note: Callable[[], None]) -> None:
        what = after.what
        self.due = (
            math.inf if isinstance(what, str) or callable(what) else trio.current_time() + what
        )
        self._line = line
        self._what = what
        self._left = after.count
        self._faults: tuple[Fault, ...] = after.faults
        self._note = note
        self._undos: list[Undo] = []

    def waits_for(self, message: Message) -> bool:
        """Tell whether *message* is what it has been waiting for."""
        match self._what:
            case str():
                fits = message.event == self._what
            case float() | int():
                fits = False
            case _:
                fits = self._what(message)
        self._left -= fits
        return fits and self._left == 0

    def begin(self) -> None:
        """Let the faults begin."""
        self._undos = [fault.begin(self._line, self._note) for fault in self._faults]

    def undo(self) -> None:
        """Wait no longer, and undo what has begun."""
        self._line.disarm(self)
        for undo in reversed(self._undos):
            undo()
