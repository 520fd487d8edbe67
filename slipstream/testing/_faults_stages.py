"""What may happen to messages on their way to a client. No I/O: each stage is told the time."""

import heapq
import itertools
import math
import random
from collections.abc import Callable
from typing import NamedTuple

from slipstream.errors import DecodeError
from slipstream.interfaces import Frame, Message
from slipstream.protocol.messages import PHX_REPLY

__all__ = ["Delaying", "Garbling", "Item", "Reordering", "Repeating", "Stage"]

_TRIES = 100


class Item(NamedTuple):
    """A message to the client: what goes onto the wire, and what it means."""

    frame: Frame
    message: Message


class Stage:
    """Takes every message, and gives on what is to go on.

    Attributes:
        due: when :meth:`release` has something to give, on the clock that it is told.
        lossy: whether what it holds is lost when the connection is closed.
    """

    due: float = math.inf
    lossy = False

    def heard(self, message: Message) -> None:
        """Note what the client said."""

    def feed(self, item: Item, now: float) -> list[Item]:
        """Take *item*, and give what goes on at once."""
        return [item]

    def release(self, now: float) -> list[Item]:
        """Give what has become due."""
        return []

    def drain(self) -> list[Item]:
        """Give everything that is held."""
        return []


class Repeating(Stage):
    """Sends everything twice."""

    def __init__(self, event: str | None) -> None:
        self._event = event

    def feed(self, item: Item, now: float) -> list[Item]:
        return [item, item] if _concerns(self._event, item) else [item]


class Garbling(Stage):
    """Spoils messages so that *decode* cannot take them."""

    def __init__(
        self,
        event: str | None,
        times: int | None,
        chance: random.Random,
        decode: Callable[[Frame], Message],
    ) -> None:
        self._event = event
        self._left = math.inf if times is None else times
        self._random = chance
        self._decode = decode

    def feed(self, item: Item, now: float) -> list[Item]:
        if not self._left or not _concerns(self._event, item):
            return [item]
        self._left -= 1
        return [Item(self._spoil(item.frame), item.message)]

    def _spoil(self, frame: Frame) -> Frame:
        for _ in range(_TRIES):
            spoilt = frame._replace(data=self._change(frame))
            try:
                self._decode(spoilt)
            except DecodeError:
                return spoilt
        return frame._replace(data=b"\xff" if frame.binary else b"\0")

    def _change(self, frame: Frame) -> bytes:
        # A text stays UTF-8: what is none breaks the WebSocket, and not the message.
        data = frame.data.decode("latin-1" if frame.binary else "utf-8")
        at = self._random.randrange(len(data) + 1)
        other = chr(self._random.randrange(128))
        changed = self._random.choice([data[:at], data[:at] + other + data[at + 1 :]])
        return changed.encode("latin-1" if frame.binary else "utf-8")


class Delaying(Stage):
    """Holds replies back for a while: all, or those *to* pushes of an event."""

    lossy = True

    def __init__(self, seconds: float, to: str | None) -> None:
        self._seconds = seconds
        self._to = to
        self._refs: set[str | None] = set()
        self._held: list[tuple[float, int, Item]] = []
        self._counter = itertools.count()

    def heard(self, message: Message) -> None:
        if message.event == self._to:
            self._refs.add(message.ref)

    def feed(self, item: Item, now: float) -> list[Item]:
        message = item.message
        if message.event != PHX_REPLY or (self._to is not None and message.ref not in self._refs):
            return [item]
        heapq.heappush(self._held, (now + self._seconds, next(self._counter), item))
        self.due = self._held[0][0]
        return []

    def release(self, now: float) -> list[Item]:
        released: list[Item] = []
        while self._held and self._held[0][0] <= now:
            released.append(heapq.heappop(self._held)[2])
            self._refs.discard(released[-1].message.ref)  # not before: there may be copies
        self.due = self._held[0][0] if self._held else math.inf
        return released

    def drain(self) -> list[Item]:
        return self.release(math.inf)


class Reordering(Stage):
    """Collects messages, *window* of them or those of *within* seconds, and changes their order."""

    def __init__(
        self, event: str | None, window: int, within: float, chance: random.Random
    ) -> None:
        self._event = event
        self._window = window
        self._within = within
        self._random = chance
        self._held: list[Item] = []

    def feed(self, item: Item, now: float) -> list[Item]:
        if not _concerns(self._event, item):
            return [item]
        if not self._held:
            self.due = now + self._within
        self._held.append(item)
        return self.drain() if len(self._held) == self._window else []

    def release(self, now: float) -> list[Item]:
        return self.drain() if self.due <= now else []

    def drain(self) -> list[Item]:
        held, self._held = self._held, []
        self.due = math.inf
        # Never the old order, where there is another.
        order = list(range(len(held)))
        while len(order) > 1 and order == sorted(order):
            self._random.shuffle(order)
        return [held[at] for at in order]


def _concerns(event: str | None, item: Item) -> bool:
    return event is None or item.message.event == event
