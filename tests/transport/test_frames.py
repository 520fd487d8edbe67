from typing import Any

import pytest
from wsproto.frame_protocol import FrameProtocol

from slipstream.transport._frames import BINARY, TEXT, build_close, build_frame, is_close


def unmasked(masked: bytes) -> tuple[int, bytes]:
    """Read a client's frame with another parser than ours."""
    server = FrameProtocol(client=False, extensions=[])
    server.receive_bytes(masked)
    parts = list(server.received_frames())
    payload: Any = [part.payload for part in parts]
    whole = "".join(payload).encode() if isinstance(payload[0], str) else b"".join(payload)
    return int(parts[0].opcode), whole


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 200_000])
def test_a_built_frame_is_read_by_another_parser(size: int) -> None:
    payload = bytes(i % 251 for i in range(size))
    assert unmasked(build_frame(BINARY, payload)) == (BINARY, payload)
    assert unmasked(build_frame(TEXT, b"x" * size)) == (TEXT, b"x" * size)


def test_every_frame_has_a_mask_of_its_own() -> None:
    assert len({build_frame(BINARY, b"\0" * 16) for _ in range(8)}) == 8


def test_a_built_close_says_its_code_and_as_much_of_the_reason_as_fits() -> None:
    server = FrameProtocol(client=False, extensions=[])
    server.receive_bytes(build_close(1002, "ü" * 100))
    ((_, payload, _, _),) = server.received_frames()
    assert payload == (1002, "ü" * 61)
    assert is_close(build_close(1000))
    assert len(build_close(1005)) == 6
    assert not is_close(build_frame(BINARY, b""))
