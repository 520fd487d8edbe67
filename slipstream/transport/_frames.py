"""WebSocket frames (RFC 6455, section 5), as a client builds them. No I/O."""

import struct
from typing import Final

from ._masking import apply_mask, draw_key

__all__ = [
    "BINARY",
    "CLOSE",
    "CONTINUATION",
    "FIN",
    "MASKED",
    "PING",
    "PONG",
    "RESERVED",
    "RSV1",
    "TEXT",
    "build_close",
    "build_frame",
    "is_close",
]

# The opcodes (5.2)
CONTINUATION: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

# The other bits of the first two bytes
FIN: Final = 0x80
RSV1: Final = 0x40
"""The message is compressed (RFC 7692, 6)."""
RESERVED: Final = 0x70
MASKED: Final = 0x80

_pack_short = struct.Struct("!BB4s").pack
_pack_medium = struct.Struct("!BBH4s").pack
_pack_long = struct.Struct("!BBQ4s").pack


def build_frame(opcode: int, payload: bytes, reserved: int = 0) -> bytes:
    """Build one whole masked frame, as a client sends it; *reserved* is ``RSV1`` or nothing."""
    size = len(payload)
    key = draw_key()
    if size < 126:
        head = _pack_short(FIN | reserved | opcode, MASKED | size, key)
    elif size < 1 << 16:
        head = _pack_medium(FIN | reserved | opcode, MASKED | 126, size, key)
    else:
        head = _pack_long(FIN | reserved | opcode, MASKED | 127, size, key)
    return head + apply_mask(payload, key)


def build_close(code: int, reason: str = "") -> bytes:
    """Build a Close; 1005 stands for one without a code. A *reason* that is too long is cut."""
    if code == 1005:
        return build_frame(CLOSE, b"")
    text = reason.encode()[:123].decode(errors="ignore").encode()
    return build_frame(CLOSE, struct.pack("!H", code) + text)


def is_close(frame: bytes) -> bool:
    """Tell whether *frame* is a Close."""
    return frame[:1] == bytes([FIN | CLOSE])
