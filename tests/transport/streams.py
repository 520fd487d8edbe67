"""Strategies for what a server may send: legal frames and one mistake among them."""

import struct

from hypothesis import strategies as st

from tests.transport.support import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame

__all__ = [
    "LIMIT",
    "MAX_FRAGMENTS",
    "MISTAKES",
    "legal_streams",
    "lengths",
    "raw",
    "streams",
]

LIMIT = 70_000
"""Just over what a length of two bytes can say, so that both sides of it are met."""

MAX_FRAGMENTS = 6

NOT_UTF_8 = [
    b"\xff",
    b"\x80",
    b"\xc3",
    b"\xe2\x82",
    b"\xc0\x80",
    b"\xc3\x28",
    b"\xed\xa0\x80",
    b"\xf0\x80\x80\x80",
    b"\xf4\x90\x80\x80",
]

texts = st.text("aü€😀\0\r\n", max_size=12).map(str.encode)
sizes = st.sampled_from([0, 1, 2, 124, 125, 126, 127, 128, 300, 65535, 65536])
small = st.one_of(texts, st.binary(max_size=12))
payloads = st.one_of(small, small, small, sizes.map(lambda size: b"x" * size))


def raw(first: int, length: int, payload: bytes, *, encoded: int) -> bytes:
    """Build a frame whose *length* is *encoded* in 2 or 8 bytes, whatever it should be."""
    if encoded == 2:
        return struct.pack("!BBH", first, 126, length) + payload
    return struct.pack("!BBQ", first, 127, length) + payload


@st.composite
def controls(draw: st.DrawFn) -> bytes:
    payload = draw(st.one_of(small, st.just(b"x" * 125)))[:125]
    return frame(draw(st.sampled_from([PING, PONG])), payload)


@st.composite
def fragmented(draw: st.DrawFn, opcode: int, payload: bytes, *, most: int = 4) -> list[bytes]:
    """Draw how *payload* is fragmented, with control frames between the fragments."""
    inside = st.one_of(st.integers(0, len(payload)), st.integers(0, min(8, len(payload))))
    ends = sorted(draw(st.lists(inside, max_size=most - 1)))
    frames: list[bytes] = []
    for begin, end in zip([0, *ends], [*ends, len(payload)], strict=True):
        if frames:
            frames += draw(st.lists(controls(), max_size=1))
        kind = CONTINUATION if frames else opcode
        frames.append(frame(kind, payload[begin:end], fin=False))
    frames[-1] = bytes([frames[-1][0] | 0x80]) + frames[-1][1:]
    return frames


@st.composite
def messages(draw: st.DrawFn) -> list[bytes]:
    """Draw the frames of a legal message."""
    opcode = draw(st.sampled_from([TEXT, BINARY]))
    payload = draw(payloads)
    if opcode == TEXT:
        payload = payload.decode(errors="ignore").encode()
    return draw(fragmented(opcode, payload))


legal = st.one_of(messages(), messages(), controls().map(lambda each: [each]))


# What ends it: a Close, or one of the mistakes there are. (Of single bytes, codes and lengths there
# are so few that each can be tried; so they are few here.)

codes = st.sampled_from([1000, 1001, 1011, 3000, 4999, 999, 1005, 5000])
reasons = st.one_of(texts, st.just(b"x" * 123), st.sampled_from(NOT_UTF_8))
closes = st.one_of(
    st.sampled_from([b"", b"\x03"]),
    st.builds(lambda code, reason: struct.pack("!H", code) + reason, codes, reasons),
).map(lambda payload: [frame(CLOSE, payload[:125])])
opening = st.sampled_from([TEXT, BINARY])


@st.composite
def bad_bits(draw: st.DrawFn) -> list[bytes]:
    """A frame of a legal message, or a control frame, with a bit that must not be set, or must."""
    frames = draw(st.one_of(legal, closes))
    at = draw(st.integers(0, len(frames) - 1))
    first = frames[at][0]
    bits = [0x40, 0x20, 0x10, 0x70]
    if first & 0x0F >= CLOSE:
        bits += [0x80, 0x80]
    wrong = first ^ draw(st.sampled_from(bits))
    frames[at] = bytes([wrong]) + frames[at][1:]
    return frames


@st.composite
def bad_order(draw: st.DrawFn) -> list[bytes]:
    """A continuation of nothing, or a message inside another."""
    if draw(st.booleans()):
        return [frame(CONTINUATION, draw(small), fin=draw(st.booleans()))]
    first = frame(draw(opening), b"a" * draw(st.integers(0, 3)), fin=False)
    between = draw(
        st.lists(st.one_of(controls(), st.just(frame(CONTINUATION, fin=False))), max_size=2)
    )
    return [first, *between, frame(draw(opening), draw(small), fin=draw(st.booleans()))]


@st.composite
def bad_text(draw: st.DrawFn) -> list[bytes]:
    """Bytes that are no UTF-8 anywhere in a text, which is cut anywhere into fragments."""
    before, after = draw(texts), draw(st.one_of(st.just(b""), texts))
    return draw(fragmented(TEXT, before + draw(st.sampled_from(NOT_UTF_8)) + after))


@st.composite
def too_much(draw: st.DrawFn) -> list[bytes]:
    """A message at the limits or over them: at once, little by little, or in empty fragments."""
    opcode = draw(opening)
    if draw(st.booleans()):
        count = draw(st.integers(MAX_FRAGMENTS - 1, MAX_FRAGMENTS + 1))
        rest = [frame(CONTINUATION, fin=False)] * (count - 2)
        return [frame(opcode, fin=False), *rest, frame(CONTINUATION)]
    over = draw(st.sampled_from([-1, 0, 1, 1000]))
    unit = draw(st.sampled_from([b"x", "€".encode()]))
    payload = (unit * (LIMIT // len(unit) + 1001))[: LIMIT + over]
    payload = payload.decode(errors="ignore").encode().ljust(LIMIT + over, b"x")
    return draw(fragmented(opcode, payload, most=3))


MISTAKES = {
    "bits": bad_bits(),
    "order": bad_order(),
    "text": bad_text(),
    "size": too_much(),
    "close": closes,
    "none": st.just([]),
}


def _join(parts: list[list[bytes]]) -> bytes:
    return b"".join(b"".join(part) for part in parts)


legal_streams = st.lists(legal, max_size=4).map(_join)


@st.composite
def streams(
    draw: st.DrawFn, mistake: st.SearchStrategy[list[bytes]], *, whole: bool = False
) -> bytes:
    """Draw legal frames, a *mistake*, more frames behind that; perhaps not to the end of the last."""
    parts = draw(st.lists(legal, max_size=2))
    parts.append(draw(mistake))
    parts += draw(st.lists(legal, max_size=1))
    data = _join(parts)
    missing = 0 if whole else draw(st.sampled_from([0] * 8 + [1, 2, 3, 5, 9, 14, 20]))
    return data[: max(0, len(data) - missing)]


def lengths() -> list[bytes]:
    """Give frames with every length that is on one side or the other of a border, in each form."""
    borders = [0, 126, 1 << 16, LIMIT, 1 << 31, 1 << 32, 1 << 62, 1 << 63, (1 << 64) - 1]
    numbers = {border + step for border in borders for step in (-2, -1, 0, 1, 2)}
    return [
        raw(0x80 | opcode, number, b"x" * min(number, LIMIT), encoded=encoded)
        for opcode in (TEXT, BINARY, PING, PONG, CLOSE)
        for encoded in (2, 8)
        for number in sorted(numbers)
        if 0 <= number < 1 << (8 * encoded)
    ]
