"""What a frame parser should make of bytes: by wsproto, and by a model that a page of text can hold."""

import codecs
from typing import Any, Final, NamedTuple, TypeAlias

from wsproto.extensions import Extension
from wsproto.frame_protocol import FrameProtocol, Opcode, ParseFailed

from slipstream.transport._parser import MAX_PINGS, FrameParser
from tests.transport.support import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT

__all__ = ["Judged", "Verdict", "by_model", "by_parser", "by_wsproto"]

Verdict: TypeAlias = int | tuple[int, str] | None
"""The code of an error, or the code and reason of a Close, or nothing."""

UNLIMITED: Final = 1 << 64


class Judged(NamedTuple):
    """What came of some bytes."""

    messages: list[str | bytes]
    verdict: Verdict
    pings: list[bytes]
    """The payloads of the last ones before the end, as many as are kept."""


def by_parser(pieces: list[bytes], parser: FrameParser) -> Judged:
    """Let our parser judge, fed piece by piece; and hold its count of bytes against its messages."""
    messages: list[str | bytes] = []
    for piece in pieces:
        found, size = parser.feed(piece)
        assert size == sum(len(m.encode() if isinstance(m, str) else m) for m in found)
        messages += found
    verdict: Verdict = None
    if parser.error is not None:
        assert parser.close is None
        verdict = parser.error.code
    elif parser.close is not None:
        verdict = parser.close.code, parser.close.reason
    return Judged(messages, verdict, list(parser.pings))


def by_wsproto(data: bytes, extensions: tuple[Extension, ...] = ()) -> Judged:
    """Let wsproto judge, which knows no limits. *extensions* are those that were negotiated."""
    protocol = FrameProtocol(client=True, extensions=list(extensions))
    protocol.receive_bytes(data)
    messages: list[str | bytes] = []
    parts: list[Any] = []
    pings: list[bytes] = []
    try:
        for each in protocol.received_frames():
            payload: Any = each.payload
            if each.opcode is Opcode.CLOSE:
                code, reason = payload
                return Judged(messages, (int(code), str(reason)), pings[-MAX_PINGS:])
            if each.opcode is Opcode.PING:
                pings.append(bytes(payload))
            elif each.opcode in {Opcode.TEXT, Opcode.BINARY}:
                parts.append(payload)
                if each.message_finished:
                    messages.append((type(parts[0])()).join(parts))
                    parts.clear()
    except ParseFailed as error:
        return Judged(messages, int(error.code), pings[-MAX_PINGS:])
    return Judged(messages, None, pings[-MAX_PINGS:])


def by_model(
    data: bytes, *, max_message_size: int = UNLIMITED, max_fragments: int = UNLIMITED
) -> Judged:
    """Judge all of *data* at once, as RFC 6455 has it, and with limits."""
    messages: list[str | bytes] = []
    pings: list[bytes] = []
    opcode, message, announced, fragments = CONTINUATION, b"", 0, 0
    at = 0
    while len(data) - at >= 2:
        fin, kind, length = data[at] & 0x80, data[at] & 0x0F, data[at + 1] & 0x7F
        if data[at] & 0x70 or data[at + 1] & 0x80:
            return Judged(messages, 1002, pings[-MAX_PINGS:])
        if kind not in {CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG}:
            return Judged(messages, 1002, pings[-MAX_PINGS:])
        if kind >= CLOSE and (not fin or length > 125):
            return Judged(messages, 1002, pings[-MAX_PINGS:])
        extra = {126: 2, 127: 8}.get(length, 0)
        if kind < CLOSE and (kind == CONTINUATION) != (fragments > 0):
            return Judged(messages, 1002, pings[-MAX_PINGS:])
        at += 2 + extra
        if len(data) < at:
            break
        if extra:
            length = int.from_bytes(data[at - extra : at], "big")
            if not (126 if extra == 2 else 1 << 16) <= length < 1 << 63:
                return Judged(messages, 1002, pings[-MAX_PINGS:])
        payload = data[at : at + length]
        whole = len(payload) == length
        at += length
        if kind < CLOSE:
            opcode = kind or opcode
            announced += length
            fragments += 1
            if announced > max_message_size or fragments > max_fragments:
                return Judged(messages, 1009, pings[-MAX_PINGS:])
            message += payload
            if opcode == TEXT and not _may_be_text(message, final=bool(fin and whole)):
                return Judged(messages, 1007, pings[-MAX_PINGS:])
            if fin and whole:
                messages.append(message.decode() if opcode == TEXT else message)
                message, announced, fragments = b"", 0, 0
        elif kind == CLOSE and whole:
            return Judged(messages, _close(payload), pings[-MAX_PINGS:])
        elif kind == PING and whole:
            pings.append(payload)
    return Judged(messages, None, pings[-MAX_PINGS:])


def _may_be_text(data: bytes, *, final: bool) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data, final)
    except UnicodeDecodeError:
        return False
    return True


def _close(payload: bytes) -> Verdict:
    if not payload:
        return 1005, ""
    code = int.from_bytes(payload[:2], "big")
    if len(payload) < 2 or not (1000 <= code <= 1014 or 3000 <= code <= 4999):
        return 1002
    if code in {1004, 1005, 1006}:
        return 1002
    try:
        return code, payload[2:].decode()
    except UnicodeDecodeError:
        return 1007
