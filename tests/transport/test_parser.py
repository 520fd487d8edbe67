import struct
import zlib
from typing import Any, TypeAlias

import pytest
from hypothesis import assume, given, settings, strategies as st
from wsproto.extensions import PerMessageDeflate
from wsproto.frame_protocol import CloseReason, FrameProtocol, Opcode, ParseFailed

from slipstream.testing.strategies import chunkings
from slipstream.transport._deflate import Agreement, Inflater
from slipstream.transport._frames import BINARY, CLOSE, TEXT
from slipstream.transport._parser import FrameParser
from tests.transport.support import CONTINUATION, PING, PONG, close_payload, frame

LIMIT = 1 << 20


def parser(
    max_message_size: int = LIMIT, max_fragments: int = 1000, *, deflate: bool = False
) -> FrameParser:
    return FrameParser(
        max_message_size=max_message_size,
        max_fragments=max_fragments,
        inflater=Inflater(Agreement()) if deflate else None,
    )


def test_messages_of_one_read_come_as_one_batch_with_their_size() -> None:
    data = frame(TEXT, "grüße".encode()) + frame(BINARY, b"\xff") + frame(TEXT)
    assert parser().feed(data) == (["grüße", b"\xff", ""], 8)


def test_a_fragmented_text_may_be_cut_inside_a_character() -> None:
    reader = parser()
    first, second = "ü".encode()[:1], "ü".encode()[1:]
    assert reader.feed(frame(TEXT, first, fin=False)) == ([], 0)
    assert reader.feed(frame(PING, b"between")) == ([], 0)
    assert reader.feed(frame(CONTINUATION, second)) == (["ü"], 2)
    assert reader.pings == [b"between"]


def test_every_ping_is_to_be_answered_but_of_a_flood_the_last_ones_only() -> None:
    reader = parser()
    reader.feed(frame(PING, b"1") + frame(PING, b"2") + frame(PONG, b"3"))
    assert reader.pings == [b"1", b"2"]
    reader.feed(b"".join(frame(PING, str(number).encode()) for number in range(1000)))
    assert reader.pings == [str(number).encode() for number in range(744, 1000)]


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
    """d07e."""
    reader = parser(max_message_size=1000)
    reader.feed(frame(TEXT, "€".encode() * 300, fin=False))
    assert verdict(reader) is None
    reader.feed(frame(CONTINUATION, "€".encode() * 40))
    assert verdict(reader) == 1009


def test_a_message_of_exactly_the_limit_is_allowed() -> None:
    reader = parser(max_message_size=3)
    assert reader.feed(frame(BINARY, b"abc")) == ([b"abc"], 3)


def test_empty_fragments_are_limited_by_their_number() -> None:
    """d06b."""
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


class ReferenceDeflate(PerMessageDeflate):
    """wsproto's, which by itself inflates what has no place there before it says so."""

    _inside = False

    def frame_inbound_header(self, proto: Any, opcode: Any, *rest: Any) -> Any:
        """Refuse a message inside a message, and a continuation of nothing, by their heads."""
        if not opcode.iscontrol() and (opcode is Opcode.CONTINUATION) != self._inside:
            return CloseReason.PROTOCOL_ERROR
        return super().frame_inbound_header(proto, opcode, *rest)

    def frame_inbound_complete(self, proto: Any, fin: bool) -> Any:
        """Note whether a message is under way."""
        if not proto.header.opcode.iscontrol():
            self._inside = not fin
        return super().frame_inbound_complete(proto, fin)


Verdict: TypeAlias = int | tuple[int, str] | None


def oracle(data: bytes, *, deflate: bool) -> tuple[list[str | bytes], Verdict]:
    """Let wsproto tell the messages, and the verdict: an error's code, a Close, or nothing."""
    extension = ReferenceDeflate()
    extension._enabled = True
    protocol = FrameProtocol(client=True, extensions=[extension] if deflate else [])
    protocol.receive_bytes(data)
    messages: list[str | bytes] = []
    try:
        verdict = _listen(protocol, messages)
    except ParseFailed as error:
        verdict = int(error.code)
    # Where a stream has ended another may follow, of which wsproto knows nothing (RFC 7692, 7.2.3.4).
    assume(extension._decompressor is None or not extension._decompressor.eof)
    return messages, verdict


def _listen(protocol: FrameProtocol, messages: list[str | bytes]) -> Verdict:
    parts: list[Any] = []
    for each in protocol.received_frames():
        if each.opcode is Opcode.CLOSE:
            payload: Any = each.payload
            code, reason = payload
            return int(code), str(reason)
        if each.opcode in {Opcode.TEXT, Opcode.BINARY}:
            parts.append(each.payload)
            if each.message_finished:
                messages.append((type(parts[0])()).join(parts))
                parts.clear()
    return None


def verdict(reader: FrameParser) -> Verdict:
    if reader.error is not None:
        return reader.error.code
    return (reader.close.code, reader.close.reason) if reader.close is not None else None


payloads = st.one_of(
    st.text("aü€😀", max_size=20).map(str.encode),
    st.binary(max_size=20),
    st.binary(min_size=120, max_size=130),
)
close_payloads = st.one_of(
    st.just(b""),
    st.binary(max_size=3),
    # 1014 is registered since; wsproto does not know it.
    st.integers(990, 5010).filter(lambda code: code != 1014).map(close_payload),
)


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """Draw a whole frame, mostly a legal one."""
    opcode = draw(st.sampled_from([TEXT, TEXT, BINARY, CONTINUATION, PING, PONG, CLOSE]))
    payload = draw(close_payloads if opcode == CLOSE else payloads)
    if opcode >= CLOSE:
        payload = payload[:125]
    built = bytearray(frame(opcode, payload, fin=opcode >= CLOSE or draw(st.booleans())))
    if draw(st.integers(0, 19)) == 0:
        built[0] ^= draw(st.sampled_from([0x80, 0x40, 0x20, 0x10, 0x04]))
    return bytes(built)


@st.composite
def compressed(draw: st.DrawFn) -> bytes:
    """Draw a compressed message, in one frame or two, now and then with a broken byte."""
    compressor = zlib.compressobj(6, zlib.DEFLATED, -15)
    data = compressor.compress(draw(payloads)) + compressor.flush(zlib.Z_SYNC_FLUSH)
    deflated = bytearray(data.removesuffix(b"\x00\x00\xff\xff"))
    if draw(st.integers(0, 9)) == 0:
        deflated[draw(st.integers(0, len(deflated) - 1))] ^= draw(st.integers(1, 255))
    cut = draw(st.integers(0, len(deflated)))
    built = bytearray(
        frame(draw(st.sampled_from([TEXT, BINARY])), bytes(deflated[:cut]), fin=False)
    )
    built[0] |= 0x40
    return bytes(built) + frame(CONTINUATION, bytes(deflated[cut:]))


@pytest.mark.parametrize("deflate", [False, True])
@settings(max_examples=300)
@given(st.data())
def test_the_parser_agrees_with_wsproto_wherever_the_bytes_are_cut(
    deflate: bool, drawn: st.DataObject
) -> None:
    parts = frames() | compressed() if deflate else frames()
    data = b"".join(drawn.draw(st.lists(parts, max_size=8)))
    expected = oracle(data, deflate=deflate)
    reader = parser(deflate=deflate)
    messages: list[str | bytes] = []
    sizes = 0
    for piece in drawn.draw(chunkings(data)):
        found, size = reader.feed(piece)
        messages += found
        sizes += size
    assert (messages, verdict(reader)) == expected
    assert sizes == sum(len(m.encode() if isinstance(m, str) else m) for m in messages)


@given(st.lists(st.binary(max_size=40), max_size=10))
def test_no_bytes_raise_anything(chunks: list[bytes]) -> None:
    reader = parser(max_message_size=64)
    for chunk in chunks:
        messages, _ = reader.feed(chunk)
        assert all(isinstance(message, str | bytes) for message in messages)
