import struct
from typing import Any

import pytest
from wsproto.frame_protocol import FrameProtocol

from slipstream.transport._frames import (
    BINARY,
    CLOSE,
    TEXT,
    FrameParser,
    build_close,
    build_frame,
    is_close,
)
from tests.transport.support import CONTINUATION, PING, PONG, close_payload, frame

LIMIT = 1 << 20


def parser(**options: int) -> FrameParser:
    return FrameParser(**{"max_message_size": LIMIT, **options})


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


def test_messages_of_one_read_come_as_one_batch_with_their_size() -> None:
    data = frame(TEXT, "grüße".encode()) + frame(BINARY, b"\xff") + frame(TEXT)
    assert parser().feed(data) == (["grüße", b"\xff", ""], 8)


def test_a_fragmented_text_may_be_cut_inside_a_character() -> None:
    reader = parser()
    first, second = "ü".encode()[:1], "ü".encode()[1:]
    assert reader.feed(frame(TEXT, first, fin=False)) == ([], 0)
    assert reader.feed(frame(PING, b"between")) == ([], 0)
    assert reader.feed(frame(CONTINUATION, second)) == (["ü"], 2)
    assert reader.pong == b"between"


def test_only_the_last_of_several_pings_is_to_be_answered() -> None:
    reader = parser()
    reader.feed(frame(PING, b"1") + frame(PING, b"2") + frame(PONG, b"3"))
    assert reader.pong == b"2"


BAD: list[tuple[str, bytes, int]] = [
    ("a reserved bit", b"\xc1\x00", 1002),
    ("another reserved bit", b"\xa1\x00", 1002),
    ("opcode 3", b"\x83\x00", 1002),
    ("opcode 11", b"\x8b\x00", 1002),
    ("a masked frame", b"\x81\x81\0\0\0\0a", 1002),
    ("a control frame over 125 bytes", b"\x89\x7e\x00\x7e" + b"x" * 126, 1002),
    ("a fragmented ping", frame(PING, fin=False), 1002),
    ("a length that is too long for 2 bytes", b"\x82\x7e\x00\x7d" + b"x" * 125, 1002),
    ("a length that is too long for 8 bytes", b"\x82\x7f" + struct.pack("!Q", 65535), 1002),
    ("a length of 2^63", b"\x82\x7f" + struct.pack("!Q", 1 << 63), 1002),
    ("a continuation of nothing", frame(CONTINUATION, b"x"), 1002),
    ("a text inside a text", frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"), 1002),
    ("a text that is not UTF-8", frame(TEXT, b"\xff"), 1007),
    ("a text that ends inside a character", frame(TEXT, b"\xc3"), 1007),
    ("a bad fragment, before the last", frame(TEXT, b"\xc3\x28", fin=False), 1007),
    ("a bad beginning of a long text", b"\x81\x7e\x01\x00\xff", 1007),
    ("a surrogate", frame(TEXT, b"\xed\xa0\x80"), 1007),
    ("a Close of one byte", frame(CLOSE, b"x"), 1002),
    ("close code 999", frame(CLOSE, close_payload(999)), 1002),
    ("close code 1005", frame(CLOSE, close_payload(1005)), 1002),
    ("close code 1015", frame(CLOSE, close_payload(1015)), 1002),
    ("close code 2000", frame(CLOSE, close_payload(2000)), 1002),
    ("close code 5000", frame(CLOSE, close_payload(5000)), 1002),
    ("a close reason that is not UTF-8", frame(CLOSE, close_payload(1000) + b"\xff"), 1007),
    ("a message over the limit", b"\x82\x7f" + struct.pack("!Q", LIMIT + 1), 1009),
    ("a message of 2^62 bytes", b"\x82\x7f" + struct.pack("!Q", 1 << 62), 1009),
]


@pytest.mark.parametrize(("data", "code"), [pytest.param(d, c, id=name) for name, d, c in BAD])
def test_what_is_against_the_rules_is_found_and_what_came_before_is_kept(
    data: bytes, code: int
) -> None:
    """d08: every variant, at once, and whether it comes whole or byte by byte."""
    for pieces in ([data], [data[i : i + 1] for i in range(len(data))]):
        reader = parser()
        assert reader.feed(frame(TEXT, b"before")) == (["before"], 6)
        for piece in pieces:
            reader.feed(piece)
        assert reader.error is not None
        assert reader.error.code == code
        assert reader.feed(frame(TEXT, b"after")) == ([], 0)


def test_a_message_is_limited_over_all_its_fragments_and_in_bytes_not_in_characters() -> None:
    """d07e: "€" has three."""
    reader = parser(max_message_size=1000)
    reader.feed(frame(TEXT, "€".encode() * 300, fin=False))
    assert verdict(reader) is None
    reader.feed(frame(CONTINUATION, "€".encode() * 40))
    assert verdict(reader) == 1009


def test_a_message_of_exactly_the_limit_is_allowed() -> None:
    reader = parser(max_message_size=3)
    assert reader.feed(frame(BINARY, b"abc")) == ([b"abc"], 3)


def test_empty_fragments_are_limited_by_their_number() -> None:
    """d06b: they are in no size."""
    reader = parser(max_fragments=10)
    reader.feed(frame(BINARY, fin=False) + frame(CONTINUATION, fin=False) * 9)
    assert verdict(reader) is None
    reader.feed(frame(CONTINUATION))
    assert verdict(reader) == 1009


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1007, 1011, 1012, 1013, 1014, 3000, 4999])
def test_a_legal_close_is_told_and_nothing_after_it_is_read(code: int) -> None:
    close = frame(CLOSE, close_payload(code, "why"))
    reader = parser()
    assert reader.feed(frame(TEXT, b"a") + close + frame(TEXT, b"b")) == (["a"], 1)
    assert reader.close is not None
    assert (reader.close.code, reader.close.reason) == (code, "why")
    assert reader.close.frame == close


def test_an_empty_close_is_1005() -> None:
    reader = parser()
    reader.feed(frame(CLOSE))
    assert reader.close is not None
    assert reader.close.code == 1005


def verdict(reader: FrameParser) -> int | tuple[int, str] | None:
    if reader.error is not None:
        return reader.error.code
    return (reader.close.code, reader.close.reason) if reader.close is not None else None
