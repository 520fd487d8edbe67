"""WebSocket frames (RFC 6455, section 5): built for the server, parsed and judged from it. No I/O."""

import codecs
import io
import os
import struct
from typing import Final

import attrs

from slipstream.errors import RemoteProtocolError

__all__ = [
    "BINARY",
    "CLOSE",
    "PONG",
    "TEXT",
    "CloseReceived",
    "FrameParser",
    "build_close",
    "build_frame",
    "is_close",
    "may_be_received",
]

CONTINUATION: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

MAX_FRAGMENTS = 16384
"""No message may come in more fragments: empty ones cost memory and are in no size."""

_FIN = 0x80
_RESERVED = 0x70
_MASKED = 0x80


def build_frame(opcode: int, payload: bytes) -> bytes:
    """Build one whole masked frame, as a client sends it."""
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", _FIN | opcode, _MASKED | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", _FIN | opcode, _MASKED | 126, size)
    else:
        head = struct.pack("!BBQ", _FIN | opcode, _MASKED | 127, size)
    key = os.urandom(4)
    keys = (key * (size // 4 + 1))[:size]
    # One XOR of two big integers: a loop over the bytes would take a hundred times as long.
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(keys, "big")
    return head + key + masked.to_bytes(size, "big")


def build_close(code: int, reason: str = "") -> bytes:
    """Build a Close; 1005 stands for one without a code. A *reason* that is too long is cut."""
    if code == 1005:
        return build_frame(CLOSE, b"")
    text = reason.encode()[:123].decode(errors="ignore").encode()
    return build_frame(CLOSE, struct.pack("!H", code) + text)


def is_close(frame: bytes) -> bool:
    """Tell whether *frame* is a Close."""
    return frame[:1] == bytes([_FIN | CLOSE])


def may_be_received(code: int) -> bool:
    """Tell whether *code* may stand in a Close on the wire (7.4, and the registry of 1012 to 1014)."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


@attrs.frozen
class CloseReceived:
    """The peer's Close: *code* (1005 for none), *reason*, and the *frame* as it came."""

    code: int
    reason: str
    frame: bytes


class FrameParser:
    """Turns bytes of the server into messages, and finds what is against the rules.

    After a Close or an error nothing more is parsed.

    Attributes:
        pong: the payload of the last ping that was not answered yet; whoever answers resets it.
        close: the server's Close, once it came.
        error: what the server did wrong, once it has; its ``code`` is the close code.
    """

    def __init__(self, *, max_message_size: int, max_fragments: int = MAX_FRAGMENTS) -> None:
        self.pong: bytes | None = None
        self.close: CloseReceived | None = None
        self.error: RemoteProtocolError | None = None
        self._max_size = max_message_size
        self._max_fragments = max_fragments
        self._buffer = bytearray()
        self._bytes = 0  # of the messages that the present call gives
        # The frame that is being read, if its header is complete
        self._missing: int | None = None
        self._final = False
        # The message that is being read
        self._opcode = CONTINUATION
        self._size = 0
        self._fragments = 0
        self._text = codecs.getincrementaldecoder("utf-8")()
        # Buffers, not lists of parts: a peer may send every byte by itself, and each would be an object.
        self._chars = io.StringIO()
        self._payload = bytearray()

    def feed(self, data: bytes | bytearray) -> tuple[list[str | bytes], int]:
        """Parse *data*; give the messages that it completes, and their size in bytes."""
        messages: list[str | bytes] = []
        self._bytes = 0
        if self.close is None and self.error is None:
            self._buffer += data
            try:
                self._parse(messages)
            except RemoteProtocolError as error:
                self.error = error
                self._buffer.clear()
        return messages, self._bytes

    def _parse(self, messages: list[str | bytes]) -> None:
        at = 0
        while self.close is None:
            if self._missing is None:
                size = self._header(at)
                if size is None:
                    break
                at += size
            elif self._missing and at == len(self._buffer):
                break
            if self._missing is not None:
                chunk = bytes(self._buffer[at : at + self._missing])
                at += len(chunk)
                self._missing -= len(chunk)
                self._take(chunk, messages)
        del self._buffer[:at]

    def _header(self, at: int) -> int | None:
        """Read the header at *at*, and a whole control frame; give its size, or ``None`` to wait."""
        buffer = self._buffer
        available = len(buffer) - at
        if available < 2:
            return None
        first, second = buffer[at], buffer[at + 1]
        _check_head(first, second)
        opcode, length = first & 0x0F, second & 0x7F
        size = {126: 4, 127: 10}.get(length, 2)
        if available < size:
            return None
        if size > 2:
            length = _long_length(buffer[at + 2 : at + size])
        if opcode < CLOSE:
            self._begin(opcode, length, final=bool(first & _FIN))
            return size
        if available < size + length:
            return None
        frame = bytes(buffer[at : at + size + length])
        self._control(opcode, frame[size:], frame)
        return size + length

    def _begin(self, opcode: int, length: int, *, final: bool) -> None:
        inside = self._fragments > 0
        if opcode == CONTINUATION and not inside:
            raise RemoteProtocolError("a continuation continues nothing")
        if opcode != CONTINUATION and inside:
            raise RemoteProtocolError("a message begins inside another")
        if not inside:
            self._opcode = opcode
        self._fragments += 1
        self._size += length
        if self._size > self._max_size:
            raise RemoteProtocolError(
                f"a message is over max_message_size, {self._max_size} bytes", code=1009
            )
        if self._fragments > self._max_fragments:
            raise RemoteProtocolError(
                f"a message has over {self._max_fragments} fragments", code=1009
            )
        self._missing, self._final = length, final

    def _take(self, chunk: bytes, messages: list[str | bytes]) -> None:
        """Take *chunk* of the frame's payload; finish the message, if it is the last of it."""
        frame_done = not self._missing
        done = frame_done and self._final
        if self._opcode == TEXT:
            try:
                self._chars.write(self._text.decode(chunk, done))
            except UnicodeDecodeError as error:
                raise RemoteProtocolError(f"a text is not UTF-8: {error}", code=1007) from None
        else:
            self._payload += chunk
        if frame_done:
            self._missing = None
        if done:
            if self._opcode == TEXT:
                messages.append(self._chars.getvalue())
                self._chars = io.StringIO()
            else:
                messages.append(bytes(self._payload))
                self._payload.clear()
            self._bytes += self._size
            self._size = self._fragments = 0

    def _control(self, opcode: int, payload: bytes, frame: bytes) -> None:
        if opcode == PING:
            self.pong = payload
        elif opcode == CLOSE:
            self.close = _read_close(payload, frame)


def _check_head(first: int, second: int) -> None:
    """Check the two bytes that every frame begins with."""
    opcode = first & 0x0F
    if first & _RESERVED:
        raise RemoteProtocolError("a reserved bit is set")
    if opcode not in {CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG}:
        raise RemoteProtocolError(f"opcode {opcode} is unknown")
    if second & _MASKED:
        raise RemoteProtocolError("a server's frame is masked")
    if opcode >= CLOSE and not first & _FIN:
        raise RemoteProtocolError("a control frame is fragmented")
    if opcode >= CLOSE and second & 0x7F > 125:
        raise RemoteProtocolError("a control frame has over 125 bytes")


def _long_length(encoded: bytes | bytearray) -> int:
    """Give a length that has 2 or 8 bytes."""
    length = int.from_bytes(encoded, "big")
    if length < (126 if len(encoded) == 2 else 1 << 16):
        raise RemoteProtocolError("a length is not encoded minimally")
    if length >= 1 << 63:
        raise RemoteProtocolError("a length is 2^63 or more")
    return length


def _read_close(payload: bytes, frame: bytes) -> CloseReceived:
    if not payload:
        return CloseReceived(1005, "", frame)
    if len(payload) == 1:
        raise RemoteProtocolError("a Close has one byte")
    code = int.from_bytes(payload[:2], "big")
    if not may_be_received(code):
        raise RemoteProtocolError(f"close code {code} may not be sent")
    try:
        return CloseReceived(code, payload[2:].decode(), frame)
    except UnicodeDecodeError:
        raise RemoteProtocolError("a close reason is not UTF-8", code=1007) from None
