"""Masking (RFC 6455, 5.3): every byte that a client sends is XORed with a key that no one can foresee.

The extra ``fast`` brings a masker in C, some tens of times as fast as what Python can do.
"""

import os
from collections.abc import Callable

__all__ = ["MaskKeys", "apply_mask", "apply_mask_in_python"]

_BLOCK_BYTES = 4096

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


class MaskKeys:
    """Masking keys from the system's generator, drawn in blocks: a call to it costs more than a frame."""

    __slots__ = ("_at", "_block")

    def __init__(self) -> None:
        self._block = b""
        self._at = 0

    def draw(self) -> bytes:
        """Give four bytes that were never given before."""
        at = self._at
        if at == len(self._block):
            self._block, at = os.urandom(_BLOCK_BYTES), 0
        self._at = at + 4
        return self._block[at : at + 4]
