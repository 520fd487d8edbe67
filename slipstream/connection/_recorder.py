"""The flight recorder: the last frames of a link, kept as they were and rendered when asked for."""

import re
from collections import deque
from collections.abc import Sequence
from typing import Any, Final, Literal, TypeAlias

import attrs

from slipstream.errors import DecodeError
from slipstream.interfaces import Frame, Message, Serializer
from slipstream.protocol import V2Serializer

__all__ = ["FlightRecorder", "RecordedFrame"]

_WHOLE: Final = 1024
"""Frames up to so many bytes are kept whole; a longer one would keep its memory from being freed."""
_SHOWN: Final = 200
_HEAD: Final = 256

_FIELDS: Final = re.compile(r'\[(?:(?:null|"(?:[^"\\]|\\.)*"),){4}')

_Entry: TypeAlias = tuple[float, str | bytes | Frame, int]


@attrs.frozen
class RecordedFrame:
    """One frame that went over a link, as the flight recorder shows it.

    Attributes:
        at: when it was read, or queued for writing, on trio's clock.
        direction: ``"sent"`` or ``"received"``.
        size: of its data: characters of a text that was received, else bytes.
        topic: its topic; ``None`` where it could not be decoded.
        event: its event, likewise.
        ref: its ref, likewise, or where it has none.
        payload: the beginning of its payload's repr; ``None`` without ``Config.log_payloads``.
    """

    at: float
    direction: Literal["sent", "received"]
    size: int
    topic: str | None = None
    event: str | None = None
    ref: str | None = None
    payload: str | None = None

    def __str__(self) -> str:
        return f"{self.at:.3f} {self._what()}"

    def ago(self, now: float) -> str:
        """Give it as a line that tells how long before *now* it was."""
        return f"{self.at - now:.3f} s {self._what()}"

    def _what(self) -> str:
        sign = ">" if self.direction == "sent" else "<"
        if self.topic is None:
            return f"{sign} {self.size} B"
        ref = "" if self.ref is None else f" ref={self.ref[:_SHOWN]!r}"
        payload = "" if self.payload is None else f" {self.payload}"
        what = f"{self.topic[:_SHOWN]!r} {(self.event or '')[:_SHOWN]!r}"
        return f"{sign} {what}{ref} {self.size} B{payload}"


class FlightRecorder:
    """Keeps the last *limit* frames, of both directions and over all connections; 0 keeps none.

    What it does for a frame is to keep a reference; only :meth:`frames` decodes.
    """

    __slots__ = ("_entries", "limit")

    def __init__(self, limit: int = 0) -> None:
        self.limit = limit
        self._entries: deque[_Entry] = deque(maxlen=limit)

    def resize(self, limit: int) -> None:
        """Keep the last *limit* frames from now on."""
        if limit != self.limit:
            self.limit = limit
            self._entries = deque(self._entries, maxlen=limit)

    def received(self, frames: Sequence[str | bytes], size: int, now: float) -> None:
        """Note *frames*, of *size* altogether, that were read in one go. They are never changed."""
        # A deque of no length takes nothing, so that the usual case need not ask.
        if len(frames) == 1 and size <= _WHOLE:
            self._entries.append((now, frames[0], size))
        elif self.limit:
            for frame in frames[-self.limit :]:
                kept = frame if len(frame) <= _WHOLE else frame[:_HEAD]
                self._entries.append((now, kept, len(frame)))

    def sent(self, frame: Frame, now: float) -> None:
        """Note *frame*, which was queued for writing."""
        if not self.limit:
            return
        size = len(frame.data)
        if size > _WHOLE:
            frame = Frame(frame.data[:_HEAD], frame.binary)
        self._entries.append((now, frame, size))

    def frames(
        self, serializer: Serializer | None, *, payloads: bool = False
    ) -> tuple[RecordedFrame, ...]:
        """Show what is kept, the oldest first; with their *payloads* only where that is wanted."""
        decoder = serializer or V2Serializer()
        return tuple(_show(entry, decoder, payloads=payloads) for entry in self._entries)


def _show(entry: _Entry, serializer: Serializer, *, payloads: bool) -> RecordedFrame:
    at, frame, size = entry
    if isinstance(frame, Frame):
        direction: Literal["sent", "received"] = "sent"
        data = frame.data if frame.binary else frame.data.decode(errors="replace")
        if frame.binary and isinstance(serializer, V2Serializer):
            serializer = V2Serializer(role="server")  # whose part it is to read what clients send
    else:
        direction, data = "received", frame
    shown: dict[str, Any] = {}
    try:
        message, rest = _decode(serializer, data)
        shown = {"topic": message.topic, "event": message.event, "ref": message.ref}
        if payloads:
            shown["payload"] = rest or f"{message.payload!r:.{_SHOWN}}"
    except Exception:  # noqa: BLE001, S110 - boundary: a look back must not fail by what it shows
        pass
    return RecordedFrame(at, direction, size, **shown)


def _decode(serializer: Serializer, data: str | bytes) -> tuple[Message, str]:
    try:
        return serializer.decode(data), ""
    except DecodeError:
        # Of a text that was cut, the four fields may stand in what was kept.
        if isinstance(data, bytes) or (head := _FIELDS.match(data)) is None:
            raise
        return serializer.decode(f"{head.group()}null]"), data[head.end() :][:_SHOWN]
