"""What a server may send (RFC 6455, section 5): bytes in, messages and a verdict out. No I/O.

Nearly all that comes is whole messages of one frame, so these have a loop of their own, which makes
nothing but the messages (:meth:`FrameParser._read_whole`). Whatever else comes, or is against the
rules, is left to the careful way (:meth:`FrameParser._read_frame`).
"""

import struct
from codecs import utf_8_decode
from typing import Final, TypeAlias

import attrs

from slipstream.errors import RemoteProtocolError

from ._deflate import Inflater
from ._frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    FIN,
    MASKED,
    PING,
    PONG,
    RESERVED,
    RSV1,
    TEXT,
)

__all__ = ["CloseReceived", "FrameParser", "may_be_received"]

Messages: TypeAlias = list[str | bytes]

_OPCODES: Final = frozenset({CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG})

_SMALL: Final = 512
"""Bytes; pieces below are kept together, since an object for each would take more than they do."""

MAX_PINGS = 256
"""No more unanswered pings are kept: answering the last is enough (5.5.3)."""

# The first two bytes of a frame, and the length that follows them if the second is 126
_head = struct.Struct("!HH")

# Those two bytes, of whole messages that are neither masked nor compressed: with a length up to 125,
# and with the mark that two bytes of length follow
_SHORT_TEXT: Final = (FIN | TEXT) << 8
_MEDIUM_TEXT: Final = _SHORT_TEXT | 126
_SHORT_BINARY: Final = (FIN | BINARY) << 8
_MEDIUM_BINARY: Final = _SHORT_BINARY | 126
_LONGEST_MEDIUM: Final = 0xFFFF


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

    After a Close or an error nothing more is parsed (7.1.7).

    Attributes:
        pings: the payloads of those that were not answered yet, or of the last ones if they are many;
            whoever answers them clears it.
        close: the server's Close, once it came.
        error: what the server did wrong, once it has; its ``code`` is the close code.
    """

    def __init__(
        self, *, max_message_size: int, max_fragments: int, inflater: Inflater | None = None
    ) -> None:
        self.pings: list[bytes] = []
        self.close: CloseReceived | None = None
        self.error: RemoteProtocolError | None = None
        self._max_size = max_message_size
        self._max_fragments = max_fragments
        self._inflater = inflater
        self._tail = b""  # the beginning of a header, or of a control frame
        self._missing = 0  # bytes of the data frame whose header was read
        self._final = False  # whether that frame is the last of its message
        self._message: _Message | None = None  # the message that is being read
        self._bytes = 0  # of the messages that the present call gives

    def feed(self, data: bytes) -> tuple[Messages, int]:
        """Parse *data*; give the messages that it completes, and their size in bytes."""
        messages: Messages = []
        self._bytes = 0
        if self.close is None and self.error is None:
            try:
                self._parse(data, messages)
            except RemoteProtocolError as error:
                self.error = error
                self._message = None
        return messages, self._bytes

    def _parse(self, data: bytes, messages: Messages) -> None:
        if self._missing:
            at = self._read_payload(data, 0, messages)
        else:
            at, data, self._tail = 0, self._tail + data, b""
        text = ""
        whole_ones = False  # a large message is not worth a second copy of all that is there
        while at < len(data) and self.close is None:
            if whole_ones and self._message is None:
                # A slice of this is text already, if it is ASCII: half the work of decoding.
                text = text or data.decode("latin-1")
                at = self._read_whole(data, text, at, messages)
            following = self._read_frame(data, at, messages)
            if following is None:
                self._tail = data[at:]
                break
            at, whole_ones = following, True

    def _read_whole(self, data: bytes, text: str, at: int, messages: Messages) -> int:
        """Read messages of one frame each, as many as there are; give where the next frame begins.

        *text* is *data*, a character for a byte. Stops at the first frame that is anything else, or
        incomplete, or wrong.
        """
        if self._max_size < _LONGEST_MEDIUM:
            return at  # the careful way knows the limit
        end, last_head = len(data), len(data) - _head.size
        unpack, append, medium = _head.unpack_from, messages.append, _MEDIUM_TEXT
        size = 0
        while at <= last_head:
            head, length = unpack(data, at)
            if head == medium:
                start = at + 4
                if length < 126:
                    break
            elif _SHORT_TEXT <= head < medium or _SHORT_BINARY <= head < _MEDIUM_BINARY:
                start, length = at + 2, head & 0x7F
            elif head == _MEDIUM_BINARY and length >= 126:
                start = at + 4
            else:
                break
            following = start + length
            if following > end:
                break
            if head <= medium:
                message = text[start:following]
                if not message.isascii():
                    try:
                        message = data[start:following].decode()
                    except UnicodeDecodeError:
                        break
                append(message)
            else:
                append(data[start:following])
            size += length
            at = following
        self._bytes += size
        return at

    def _read_frame(self, data: bytes, at: int, messages: Messages) -> int | None:
        """Read any frame; give where the next begins, or ``None`` to wait for more of it.

        A control frame is read whole. Of a data frame everything is read that is there, so that it
        is kept in one place only and what is wrong with it is found as early as it can be.
        """
        available = len(data) - at
        if available < 2:
            return None
        first, second = data[at], data[at + 1]
        opcode, length = first & 0x0F, second & 0x7F
        self._check_head(first, second)
        start = at + {126: 4, 127: 10}.get(length, 2)
        if len(data) < start:
            return None
        if length > 125:
            length = _long_length(data[at + 2 : start])
        if opcode < CLOSE:
            self._begin_frame(first, length)
            return self._read_payload(data, start, messages)
        if len(data) < start + length:
            return None
        payload = data[start : start + length]
        if opcode == PING:
            self.pings.append(payload)
            del self.pings[:-MAX_PINGS]
        elif opcode == CLOSE:
            self.close = _read_close(payload, data[at : start + length])
        return start + length

    def _check_head(self, first: int, second: int) -> None:
        """Check the two bytes that every frame begins with."""
        opcode = first & 0x0F
        begins = opcode in {TEXT, BINARY}
        # "the bit RSV1 is set on the first frame of a compressed message" only (RFC 7692, 6)
        allowed = RSV1 if self._inflater is not None and begins else 0
        if first & RESERVED & ~allowed:
            raise RemoteProtocolError("a reserved bit is set")
        if opcode not in _OPCODES:
            raise RemoteProtocolError(f"opcode {opcode} is unknown")
        if second & MASKED:
            raise RemoteProtocolError("a server's frame is masked")
        if opcode >= CLOSE and not first & FIN:
            raise RemoteProtocolError("a control frame is fragmented")
        if opcode >= CLOSE and second & 0x7F > 125:
            raise RemoteProtocolError("a control frame has over 125 bytes")
        if begins and self._message is not None:
            raise RemoteProtocolError("a message begins inside another")
        if opcode == CONTINUATION and self._message is None:
            raise RemoteProtocolError("a continuation continues nothing")

    def _begin_frame(self, first: int, length: int) -> None:
        """Begin a data frame whose head has been checked."""
        message = self._message
        if message is None:
            inflater = self._inflater if first & RSV1 else None
            message = self._message = _Message(
                text=first & 0x0F == TEXT, limit=self._max_size, inflater=inflater
            )
        message.fragments += 1
        if message.fragments > self._max_fragments:
            raise RemoteProtocolError(
                f"a message has over max_fragments, {self._max_fragments}", code=1009
            )
        message.announce(length)
        self._missing, self._final = length, bool(first & FIN)

    def _read_payload(self, data: bytes, at: int, messages: Messages) -> int:
        """Read what is there of a data frame's payload; give where it ends."""
        message = self._message
        assert message is not None  # noqa: S101 - a frame was begun
        chunk = data[at : at + self._missing]
        self._missing -= len(chunk)
        message.add(chunk)
        if self._final and not self._missing:
            messages.append(message.finish())
            self._bytes += message.size
            self._message = None
        return at + len(chunk)


class _Message:
    """A message that is being read, in one place and checked as far as it has come.

    Attributes:
        size: its bytes so far, inflated.
        fragments: its frames so far.
    """

    def __init__(self, *, text: bool, limit: int, inflater: Inflater | None) -> None:
        self.size = 0
        self.fragments = 0
        self._limit = limit
        self._inflater = inflater
        self._announced = 0
        self._is_text = text
        self._parts: list[bytes | bytearray] = []
        self._unfinished = b""  # the beginning of a character, which is in the parts, too

    def announce(self, length: int) -> None:
        """Note that a frame of *length* bytes comes: too much is refused before it is read."""
        self._announced += length
        # What does not compress grows a little, and empty blocks inflate to nothing.
        slack = 64 + self._limit // 256 if self._inflater is not None else 0
        if self._announced > self._limit + slack:
            raise RemoteProtocolError(
                f"a message is over max_message_size, {self._limit} bytes", code=1009
            )

    def add(self, chunk: bytes) -> None:
        """Take the next bytes."""
        if self._inflater is not None:
            chunk = self._inflater.inflate(chunk, self._limit - self.size)
        self._keep(chunk)

    def finish(self) -> str | bytes:
        """Give the whole message."""
        if self._inflater is not None:
            self._keep(self._inflater.finish(self._limit - self.size))
        data = b"".join(self._parts)
        if not self._is_text:
            return data
        if self._unfinished:
            raise RemoteProtocolError("a text ends inside a character", code=1007)
        return data.decode()

    def _keep(self, chunk: bytes) -> None:
        if not chunk:
            return
        if self._is_text:
            self._check_text(chunk)
        self.size += len(chunk)
        # A peer may send every byte by itself.
        if len(chunk) >= _SMALL:
            self._parts.append(chunk)
        elif self._parts and isinstance(self._parts[-1], bytearray):
            self._parts[-1] += chunk
        else:
            self._parts.append(bytearray(chunk))

    def _check_text(self, chunk: bytes) -> None:
        """Check that *chunk* goes on as UTF-8 does, as far as can be told."""
        if not self._unfinished and chunk.isascii():
            return
        data = self._unfinished + chunk
        try:
            _, used = utf_8_decode(data, "strict", False)  # noqa: FBT003 - it takes no names
        except UnicodeDecodeError as error:
            raise RemoteProtocolError(f"a text is not UTF-8: {error}", code=1007) from None
        self._unfinished = data[used:]


def _long_length(encoded: bytes) -> int:
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
