"""The frame parser against wsproto and against a model: the same messages, the same verdict.

The model has the limits, which wsproto has not; wherever both can judge, they agree.
"""

import struct
import tracemalloc
from typing import Any

import pytest
from hypothesis import example, given, settings, strategies as st

from slipstream.testing.strategies import chunkings
from slipstream.transport._parser import FrameParser
from tests.transport.oracles import by_model, by_parser, by_wsproto
from tests.transport.streams import (
    LIMIT,
    MAX_FRAGMENTS,
    MISTAKES,
    legal_streams,
    lengths,
    raw,
    streams,
)
from tests.transport.support import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame

LIMITS: dict[str, Any] = {"max_message_size": LIMIT, "max_fragments": MAX_FRAGMENTS}
NO_LIMITS: dict[str, Any] = {"max_message_size": 1 << 63, "max_fragments": 1 << 63}


def differing(data: bytes, **limits: Any) -> bool:
    """Tell whether parser and model differ about *data*, alone or behind another frame of the same read.

    What is not the first of its read may go a faster way.
    """
    return any(
        by_parser([sent], FrameParser(**limits)) != by_model(sent, **limits)
        for sent in (data, frame(PONG) + data)
    )


@pytest.mark.parametrize("kind", MISTAKES)
def test_the_parser_agrees_with_the_model_wherever_the_bytes_are_cut(kind: str) -> None:
    """d06a, d06b, d07e, d08: limits included, and nothing behind the end counts."""

    @settings(max_examples=150)
    @given(chunkings(streams(MISTAKES[kind])))
    def agrees(pieces: list[bytes]) -> None:
        data = b"".join(pieces)
        expected = by_model(data, **LIMITS)
        assert by_parser(pieces, FrameParser(**LIMITS)) == expected
        assert by_parser([data], FrameParser(**LIMITS)) == expected

    agrees()


@pytest.mark.parametrize("kind", MISTAKES)
def test_the_model_agrees_with_wsproto(kind: str) -> None:
    """d08: so it is not only our own mistakes that the model shares with us."""

    @settings(max_examples=60)
    @given(streams(MISTAKES[kind], whole=True))
    def agrees(data: bytes) -> None:
        assert by_model(data) == by_wsproto(data)

    agrees()


@settings(max_examples=100)
@given(chunkings(legal_streams))
def test_the_parser_agrees_with_wsproto_on_what_is_legal(pieces: list[bytes]) -> None:
    judged = by_parser(pieces, FrameParser(**NO_LIMITS))
    assert judged == by_wsproto(b"".join(pieces))
    assert judged.verdict is None


@pytest.mark.parametrize("before", [b"", frame(TEXT, "ü".encode()[:1], fin=False)])
def test_every_first_byte_is_judged_as_the_model_judges_it(before: bytes) -> None:
    """d08: with every second byte that makes a difference."""
    seconds = [0, 1, 2, 5, 124, 125, 126, 127, 128, 129, 133, 253, 254, 255]
    for first in range(256):
        for second in seconds:
            head = before + bytes([first, second])
            rest = b"\0" * 7 + b"\x80" + b"a" * 200
            for data in (head, head + b"\x03\xe8", head + rest):
                assert not differing(data, max_message_size=130, max_fragments=2), data
                assert not differing(data, **LIMITS), data
            # Only what is whole: wsproto looks at some frames when their payload begins, not before.
            assert by_model(head + rest) == by_wsproto(head + rest), head


def test_every_length_is_judged_as_the_model_judges_it() -> None:
    """d07d, d08: as short as it can be, and below 2^63; and at once, without waiting for the rest."""
    for data in lengths():
        assert not differing(data, **LIMITS), data[:20]
        assert not differing(data[:10], **LIMITS), data[:10]
        assert not differing(data, **NO_LIMITS), data[:20]
        assert by_model(data) == by_wsproto(data), data[:20]


@pytest.mark.parametrize("limit", [0, 1, 125, 126, 300, 65534, 65535, 65536])
def test_every_limit_is_judged_as_the_model_judges_it(limit: int) -> None:
    """d07a, d07e: for a message of one frame and of two, just under it, at it and over it; and not all there."""
    for size in (limit - 1, limit, limit + 1):
        for opcode in (TEXT, BINARY):
            data = frame(opcode, b"x" * max(0, size))
            halves = frame(opcode, b"x" * (size // 2), fin=False)
            halves += frame(CONTINUATION, b"x" * (size - size // 2)) if size > 0 else b""
            for sent in (data, data * 2, data[:-1], halves):
                assert not differing(sent, max_message_size=limit, max_fragments=2), (limit, size)


def test_every_close_code_is_judged_as_the_model_judges_it() -> None:
    """d08, d09."""
    for code in range(1 << 16):
        data = frame(CLOSE, struct.pack("!H", code)) + frame(PING)
        assert not differing(data, **LIMITS), code
        if 990 <= code <= 5010 and code != 1014:  # wsproto does not know that it is registered
            assert by_model(data) == by_wsproto(data), code


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_message_that_trickles_takes_no_more_memory_than_its_bytes(opcode: int) -> None:
    """d07d: it is gathered in one buffer; as a list of its pieces it would take forty times as much."""
    size = 30_000
    parser = FrameParser(max_message_size=size, max_fragments=1)
    data = raw(0x80 | opcode, size, "ü".encode() * (size // 2 - 1), encoded=2)
    tracemalloc.start()
    try:
        for at in range(len(data)):
            parser.feed(data[at : at + 1])
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert parser.error is None
    assert held < 6 * size


@settings(max_examples=200)
@given(st.lists(st.binary(max_size=40), max_size=10))
@example([b"\x81\x7f" + b"\0" * 8])
def test_no_bytes_raise_anything(chunks: list[bytes]) -> None:
    """d08: and whatever they are, the model thinks the same of them."""
    tight: dict[str, Any] = {"max_message_size": 64, "max_fragments": 3}
    for limits in (tight, LIMITS):
        expected = by_model(b"".join(chunks), **limits)
        assert by_parser(chunks, FrameParser(**limits)) == expected
