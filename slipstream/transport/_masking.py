"""Masking (RFC 6455, 5.3): every byte that a client sends is XORed with a key that no one can foresee.

The extra ``fast`` brings a masker in C, some tens of times as fast as what Python can do.
"""

import os
import struct
from collections.abc import Callable

__all__ = ["apply_mask", "apply_mask_in_python", "draw_key"]

_block = struct.Struct("4s" * 1024)

_INTEGER_BYTES = 8 * 1024
"""Up to here one XOR of two big integers is the fastest way; beyond, tables are."""

_TABLES: list[bytes] = []


def apply_mask_in_python(data: bytes, key: bytes) -> bytes:
    """Give *data* XORed with the four bytes of *key*, over and over."""
    size = len(data)
    if size <= _INTEGER_BYTES:
        keys = (key * (size // 4 + 1))[:size]
        masked = int.from_bytes(data, "little") ^ int.from_bytes(keys, "little")
        return masked.to_bytes(size, "little")
    if not _TABLES:  # 64 KiB: made when a frame is large enough to want them
        _TABLES.extend(bytes(byte ^ each for byte in range(256)) for each in range(256))
    out = bytearray(data)
    for index, each in enumerate(key):
        out[index::4] = data[index::4].translate(_TABLES[each])
    return bytes(out)


apply_mask: Callable[[bytes, bytes], bytes] = apply_mask_in_python
try:
    from websockets import speedups
except ImportError:
    pass  # it is an extra
else:
    apply_mask = speedups.apply_mask


def draw_key() -> bytes:
    """Give four bytes that were never given before."""
    while True:
        try:
            return _keys.pop()  # in one step: two threads never get the same
        except IndexError:
            _keys.extend(_block.unpack(os.urandom(_block.size)))


# From the system's generator, drawn in blocks: a call to it costs more than a frame.
_keys: list[bytes] = []
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keys.clear)
