"""What the server answers to the upgrade request, read far enough to tell a 101 from the rest. No I/O.

A 101 is trio-websocket's to judge. Anything else is a refusal, of which we want status, headers
and the beginning of the body, however it ends and whether it ends at all; so it is read here,
leniently.
"""

import enum
import re

from slipstream.config import safe_uri
from slipstream.errors import RemoteProtocolError

__all__ = ["MAX_BODY_BYTES", "ResponseReader", "ResponseState"]

MAX_HEAD_BYTES = 64 * 1024
MAX_BODY_BYTES = 64 * 1024
MAX_SHOWN = 200
"""Characters of what a server wrote that an error message shows."""

REDIRECTS = frozenset({301, 302, 303, 307, 308})

_HEAD_END = re.compile(rb"\r?\n\r?\n")
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] +([1-9][0-9][0-9])(?: (.*))?$")
_CHUNK_HEAD = re.compile(rb"([0-9A-Fa-f]{1,8})[^\n]*\n")
_BEGINNING = b"HTTP/1."


class ResponseState(enum.Enum):
    """How far the answer has been read."""

    HEAD = "head"
    UPGRADED = "upgraded"
    BODY = "body"
    COMPLETE = "complete"


class ResponseReader:
    """Reads the answer from bytes as they come.

    Attributes:
        state: how far it has got.
        status: the status, once the head is complete.
        reason: what stands behind it.
        headers: the headers, names in lower case.
        head: the head of a 101, as it came.
        rest: what came behind the head, with it.
    """

    def __init__(self) -> None:
        self.state = ResponseState.HEAD
        self.status = 0
        self.reason = ""
        self.headers: tuple[tuple[str, str], ...] = ()
        self.head = b""
        self.rest = b""
        self._buffer = bytearray()
        self._skipped = 0
        self._raw_body = bytearray()

    def feed(self, data: bytes | bytearray) -> None:
        """Read *data*.

        Raises:
            RemoteProtocolError: if it is no HTTP response, or its head is over 64 KiB.
        """
        match self.state:
            case ResponseState.HEAD:
                self._buffer += data
                while self._read_head():
                    pass
            case ResponseState.BODY:
                self._take_body(data)
            case ResponseState.UPGRADED | ResponseState.COMPLETE:
                pass

    def feed_eof(self) -> None:
        """Note that nothing more comes."""
        if self.state is ResponseState.BODY:
            self.state = ResponseState.COMPLETE

    @property
    def body(self) -> bytes:
        """The beginning of the refusal's body, so far as it came: at most 64 KiB."""
        body = bytes(self._raw_body)
        if self._chunked:
            body = _join_chunks(body)[0]
        elif self._length is not None:
            body = body[: self._length]
        return body[:MAX_BODY_BYTES]

    def header(self, name: str) -> str | None:
        """Give the first value of the header *name* (in lower case)."""
        return next((value for key, value in self.headers if key == name), None)

    @property
    def refusal(self) -> str:
        """Say what the answer was, without what a Location may hold of secrets."""
        said = f"the server answered HTTP {self.status}"
        if self.status in REDIRECTS:
            said += ": redirects are not followed"
            location = self.header("location")
            if location:
                # RFC 9110, 10.2.2: a Location may have a fragment, in which OAuth puts its tokens.
                said += f", it points to {safe_uri(location.partition('#')[0])[:MAX_SHOWN]!r}"
        return said

    def _read_head(self) -> bool:
        """Read one head, if it is complete; tell whether to go on with what is behind it."""
        buffer = self._buffer
        if not buffer.startswith(_BEGINNING[: len(buffer)]):
            raise RemoteProtocolError(f"the answer is not HTTP: {_safe(buffer[:32])!r}")
        end = _HEAD_END.search(buffer)
        if self._skipped + (end.end() if end else len(buffer)) > MAX_HEAD_BYTES:
            raise RemoteProtocolError("the head of the answer is over 64 KiB")
        if end is None:
            return False
        head, rest = bytes(buffer[: end.end()]), bytes(buffer[end.end() :])
        self._parse(bytes(buffer[: end.start()]))
        self.rest = rest
        if self.status == 101:
            self.head = head
            self.state = ResponseState.UPGRADED
            return False
        if self.status < 200:  # an interim answer, such as 103: another follows
            self._skipped += len(head)
            self._buffer = bytearray(rest)
            return bool(rest)
        self.state = ResponseState.BODY
        self._take_body(rest)
        return False

    def _parse(self, head: bytes) -> None:
        line, *lines = re.split(rb"\r?\n", head)
        found = _STATUS_LINE.match(line)
        if found is None:
            raise RemoteProtocolError(f"the answer is not HTTP: {_safe(line[:64])!r}")
        self.status = int(found[1])
        self.reason = (found[2] or b"").decode("latin-1").strip()
        pairs = (each.decode("latin-1").partition(":") for each in lines)
        self.headers = tuple((key.strip().lower(), value.strip()) for key, _, value in pairs)

    def _take_body(self, data: bytes | bytearray) -> None:
        if self.status in {204, 304}:  # these have none, whatever is sent behind them
            self.state = ResponseState.COMPLETE
            return
        # The framing of chunks takes room, too; twice as much is enough for any that make sense.
        limit = MAX_BODY_BYTES * (2 if self._chunked else 1)
        self._raw_body += data[: limit - len(self._raw_body)]
        if len(self._raw_body) >= limit:
            self.state = ResponseState.COMPLETE
        elif self._chunked:
            if _join_chunks(bytes(self._raw_body))[1]:
                self.state = ResponseState.COMPLETE
        elif self._length is not None and len(self._raw_body) >= self._length:
            self.state = ResponseState.COMPLETE

    @property
    def _chunked(self) -> bool:
        return "chunked" in (self.header("transfer-encoding") or "").lower()

    @property
    def _length(self) -> int | None:
        value = self.header("content-length") or ""
        return int(value) if re.fullmatch("[0-9]{1,18}", value) else None


def _join_chunks(raw: bytes) -> tuple[bytes, bool]:
    """Give the bytes that the chunks in *raw* hold, and whether the last chunk is there."""
    body = bytearray()
    at = 0
    while found := _CHUNK_HEAD.match(raw, at):
        size = int(found[1], 16)
        if size == 0:
            return bytes(body), True
        body += raw[found.end() : found.end() + size]
        at = found.end() + size
        at += 2 if raw[at : at + 1] == b"\r" else 1
    return bytes(body), False


def _safe(line: bytes | bytearray) -> bytes:
    # A server that sends back whatever it gets sends back the query, where a token may stand.
    return bytes(line).partition(b"?")[0]
