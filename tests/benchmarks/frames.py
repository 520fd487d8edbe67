"""The head of an unmasked frame, for what speaks WebSocket by hand."""

__all__ = ["frame_head"]


def frame_head(size: int, *, binary: bool) -> bytes:
    """Give what goes before a payload of *size* bytes on its way from the server."""
    opcode = 0x82 if binary else 0x81
    if size < 126:
        return bytes([opcode, size])
    if size < 1 << 16:
        return bytes([opcode, 126]) + size.to_bytes(2, "big")
    return bytes([opcode, 127]) + size.to_bytes(8, "big")
