"""permessage-deflate (RFC 7692): what is offered, what was agreed on, and both directions. No I/O."""

import re
import zlib
from typing import Any, Final

import attrs

from slipstream.errors import RemoteProtocolError
from slipstream.interfaces import PerMessageDeflate

__all__ = ["Agreement", "Deflater", "Inflater", "agree", "build_offer", "take_answer"]

_TAIL: Final = b"\x00\x00\xff\xff"
"""How a flush ends; it is left out on the wire (7.2.1)."""

_HEADER = re.compile(rb"\r?\nsec-websocket-extensions[ \t]*:([^\r\n]*)", re.IGNORECASE)
_BITS = re.compile("[89]|1[0-5]")


@attrs.frozen
class Agreement:
    """What the server has accepted."""

    server_no_context_takeover: bool = False
    client_no_context_takeover: bool = False
    server_max_window_bits: int = 15
    client_max_window_bits: int = 15


def build_offer(offer: PerMessageDeflate) -> str:
    """Build the value of ``Sec-WebSocket-Extensions``."""
    parts = ["permessage-deflate"]
    if offer.server_no_context_takeover:
        parts.append("server_no_context_takeover")
    if offer.client_no_context_takeover:
        parts.append("client_no_context_takeover")
    if offer.server_max_window_bits < 15:
        parts.append(f"server_max_window_bits={offer.server_max_window_bits}")
    # Named always: only then may the server ask for a smaller one (7.1.2.2).
    bits = offer.client_max_window_bits
    parts.append("client_max_window_bits" + (f"={bits}" if bits < 15 else ""))
    return "; ".join(parts)


def take_answer(head: bytes) -> tuple[bytes, str | None]:
    """Take ``Sec-WebSocket-Extensions`` out of the *head* of a 101; give the rest, and its value."""
    values = [each.decode("latin-1") for each in _HEADER.findall(head)]
    if not values:
        return head, None
    return _HEADER.sub(b"", head), ", ".join(values)


def agree(offer: PerMessageDeflate, answer: str) -> Agreement:
    """Read the server's *answer* to *offer*.

    Raises:
        RemoteProtocolError: if it accepts what was not offered (7.1).
    """
    name, *parameters = [part.strip() for part in answer.split(";")]
    if name.lower() != "permessage-deflate" or "," in answer:
        raise RemoteProtocolError(f"the server accepted {answer!r}; permessage-deflate was offered")
    agreed: dict[str, Any] = {}
    for parameter in parameters:
        key, equals, value = (part.strip() for part in parameter.partition("="))
        if key in agreed:
            raise RemoteProtocolError(f"the server's permessage-deflate has {key!r} twice")
        match key:
            case "server_no_context_takeover" | "client_no_context_takeover" if not equals:
                agreed[key] = True
            case "server_max_window_bits" | "client_max_window_bits":
                agreed[key] = _read_bits(offer, key, value)
            case _:
                raise RemoteProtocolError(
                    f"the server's permessage-deflate has an unknown parameter, {parameter!r}"
                )
    return attrs.evolve(
        Agreement(
            client_no_context_takeover=offer.client_no_context_takeover,
            client_max_window_bits=offer.client_max_window_bits,
        ),
        **agreed,
    )


def _read_bits(offer: PerMessageDeflate, key: str, value: str) -> int:
    text = value[1:-1] if value[:1] == value[-1:] == '"' else value
    offered: int = getattr(offer, key)
    if not _BITS.fullmatch(text) or int(text) > offered:
        raise RemoteProtocolError(
            f"the server's permessage-deflate has {key}={value}; accepted are 8 to {offered}"
        )
    return int(text)


class Inflater:
    """Inflates what the server sends."""

    def __init__(self, agreed: Agreement) -> None:
        # A window that is larger than the server's inflates as well; zlib knows none of 8 bits.
        self._bits = max(agreed.server_max_window_bits, 9)
        self._forget = agreed.server_no_context_takeover
        self._zlib = zlib.decompressobj(-self._bits)

    def inflate(self, data: bytes, limit: int) -> bytes:
        """Inflate the next bytes of a message.

        Raises:
            RemoteProtocolError: with 1009 if that gives more than *limit* bytes, of which no more
                than one beyond were ever made; with 1007 if it is no deflate stream.
        """
        parts: list[bytes] = []
        while data:
            try:
                part = self._zlib.decompress(data, limit + 1)
            except zlib.error as error:
                raise RemoteProtocolError(
                    f"a message is not deflated: {error}", code=1007
                ) from None
            parts.append(part)
            limit -= len(part)
            if limit < 0:
                raise RemoteProtocolError("a message inflates beyond max_message_size", code=1009)
            # A final block ends a stream; another may follow (7.2.3.4).
            data = self._zlib.unused_data
            if self._zlib.eof:
                self._zlib = zlib.decompressobj(-self._bits)
        return b"".join(parts)

    def finish(self, limit: int) -> bytes:
        """Inflate what is left of a message.

        Raises:
            RemoteProtocolError: as :meth:`inflate`.
        """
        rest = self.inflate(_TAIL, limit)
        if self._forget:
            self._zlib = zlib.decompressobj(-self._bits)
        return rest


class Deflater:
    """Deflates what we send."""

    def __init__(self, offer: PerMessageDeflate, agreed: Agreement) -> None:
        self._level = offer.level
        self._threshold = offer.threshold
        self._bits = agreed.client_max_window_bits
        self._forget = agreed.client_no_context_takeover
        self._zlib: Any = None  # a compressor, made when it is needed: it takes 256 KiB

    def deflate(self, data: bytes) -> bytes | None:
        """Deflate a whole message; ``None`` if it is better sent as it is."""
        if len(data) < self._threshold or self._bits < 9:  # zlib cannot keep to 8 bits
            return None
        if self._zlib is None or self._forget:
            self._zlib = zlib.compressobj(self._level, zlib.DEFLATED, -self._bits)
        deflated: bytes = self._zlib.compress(data) + self._zlib.flush(zlib.Z_SYNC_FLUSH)
        return deflated.removesuffix(_TAIL)
