"""How a connection begins on the server: its request is read, judged, and accepted or refused."""

import base64
import inspect
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qsl, urlsplit

import attrs
import trio
from trio_websocket import (
    ConnectionClosed,
    HandshakeError,
    WebSocketConnection,
    WebSocketRequest,
    wrap_server_stream,
)

__all__ = [
    "Connect",
    "ConnectInfo",
    "Reject",
    "Verdict",
    "WatchedStream",
    "connect_info",
    "encode_headers",
    "head_of",
    "judge",
    "read_request",
]

_TIMEOUT: Final = 10.0
_FAULTS: Final = frozenset({1002, 1007})
_TOO_BIG: Final = (1009).to_bytes(2, "big")
_NOTHING_AGREED: Final = frozenset({404, 500})
_BEARER: Final = "base64url.bearer.phx."
# Phoenix mounts its serializers for "~> 1.0.0" and "~> 2.0.0"; anything else is a 403.
_VSN: Final = re.compile(r"[12]\.0\.\d+")


@attrs.frozen
class ConnectInfo:
    """What a ``connect`` function may look at."""

    path: str
    params: Mapping[str, str]
    headers: Mapping[str, str]
    subprotocols: tuple[str, ...]
    assigns: dict[str, Any] = attrs.field(factory=dict[str, Any])
    """What ``connect`` puts here, the connection's ``assigns`` begin with."""

    @property
    def auth_token(self) -> str | None:
        """The token that came as a subprotocol; ``None`` if none did.

        Raises:
            ValueError: if it is no base64. Where ``connect`` lets this out, the client gets a 500.
        """
        for offered in self.subprotocols:
            if offered.startswith(_BEARER):
                data = offered.removeprefix(_BEARER)
                padded = (data + "=" * (-len(data) % 4)).encode()
                return base64.b64decode(padded, altchars=b"-_", validate=True).decode()
        return None


@attrs.frozen
class Reject:
    """Refuse a connect with an HTTP response."""

    status: int = 403
    body: bytes = b""
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str])


_CRASHED: Final = Reject(
    500,
    b'{"errors":{"detail":"Internal Server Error"}}',
    {"content-type": "application/json; charset=utf-8"},
)

Verdict: TypeAlias = Reject | bool | None
"""``False`` is a 403, as ``:error`` from Phoenix's ``connect/3``; what it raises, a 500."""

Connect: TypeAlias = Callable[[ConnectInfo], Verdict | Awaitable[Verdict]]


class WatchedStream(trio.abc.Stream):
    """A stream that tells when nothing more can be read from it, and does not end without a word.

    trio-websocket hangs up on a client that breaks RFC 6455; real servers say Close first.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._websocket: WebSocketConnection | None = None
        self._close_sent = False
        self.last_received = trio.current_time()
        self.ended = trio.Event()

    def carries(self, websocket: WebSocketConnection) -> None:
        """Tell which connection it carries."""
        self._websocket = websocket

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Read; note the end, and every failure."""
        data: bytes | bytearray = b""
        try:
            data = await self._stream.receive_some(max_bytes)
        finally:
            if not data:
                self.ended.set()
        self.last_received = trio.current_time()
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Write."""
        # trio-websocket writes each frame by itself.
        if bytes(data[:1]) == b"\x88":
            self._close_sent = True
            if bytes(data[2:4]) == _TOO_BIG:
                data = b"\x88\x02" + _TOO_BIG  # Phoenix gives no reason
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until a write may go on."""
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """Close; to a client that broke the WebSocket protocol, say so."""
        self.ended.set()
        reason = self._websocket.closed if self._websocket is not None else None
        try:
            if reason is not None and reason.code in _FAULTS and not self._close_sent:
                with (
                    trio.move_on_after(1.0, shield=True),
                    suppress(trio.BrokenResourceError, trio.ClosedResourceError),
                ):
                    await self.send_all(b"\x88\x02" + reason.code.to_bytes(2, "big"))
        finally:
            await self._stream.aclose()


async def read_request(
    nursery: trio.Nursery, stream: WatchedStream, *, max_frame_size: int
) -> WebSocketRequest | None:
    """Read the upgrade request; ``None`` where none came.

    trio-websocket's reader runs in *nursery* from then on.
    """
    with trio.move_on_after(_TIMEOUT):
        try:
            return await wrap_server_stream(
                nursery, stream, message_queue_size=64, max_message_size=max_frame_size
            )
        except (HandshakeError, ConnectionClosed, trio.BrokenResourceError):
            return None
    return None


def connect_info(
    target: str, headers: Mapping[str, str], subprotocols: tuple[str, ...]
) -> ConnectInfo:
    """Take apart what a request asked for."""
    parts = urlsplit(target)
    params = dict(parse_qsl(parts.query, keep_blank_values=True))
    names = {name.lower(): value for name, value in headers.items()}
    return ConnectInfo(parts.path, params, names, subprotocols)


async def judge(
    info: ConnectInfo, *, path: str, connect: Connect | None, admit: Callable[[ConnectInfo], None]
) -> tuple[Reject | None, Exception | None]:
    """Decide on a request as an endpoint with a socket at *path* does; *admit* it if it is let in.

    Returns:
        how it is refused, if it is; and what *connect* or *admit* raised, if one did.
    """
    if info.path != path:
        return Reject(404, b"not found"), None
    if not _VSN.fullmatch(info.params.get("vsn", "1.0.0")):
        return Reject(403), None
    try:
        verdict = connect(info) if connect is not None else None
        if inspect.isawaitable(verdict):
            verdict = await verdict
        if isinstance(verdict, Reject):
            return verdict, None
        if verdict is False:
            return Reject(403), None
        admit(info)
    except Exception as error:  # noqa: BLE001 - boundary: a raising connect/3 is a 500, as in Phoenix
        return _CRASHED, error
    return None, None


def head_of(
    rejection: Reject, *, usual: Mapping[str, str], subprotocol: str | None
) -> list[tuple[bytes, bytes]]:
    """Give the headers of a refusal, beside the *usual* ones of the server."""
    # Phoenix agrees on a subprotocol before it asks connect, and forgets it where something raises.
    agreed = subprotocol is not None and rejection.status not in _NOTHING_AGREED
    fields = {
        **usual,
        **({"sec-websocket-protocol": str(subprotocol)} if agreed else {}),
        **rejection.headers,
        "content-length": str(len(rejection.body)),
    }
    return encode_headers(fields)


def encode_headers(fields: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Give headers as trio-websocket takes them."""
    return [(name.encode(), value.encode()) for name, value in fields.items()]
