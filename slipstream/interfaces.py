"""The interfaces that layers meet at, and the few values that cross them.

Nothing here does anything. A transport, a serializer or a policy of one's own is any object with
these methods; no base class needs to be inherited.
"""

import os
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

import attrs
import msgspec

from .errors import ConfigError
from .reasons import DisconnectReason, TopicCloseReason

__all__ = [
    "ConnectRequest",
    "Fatal",
    "Frame",
    "Hold",
    "JoinContext",
    "JsonCodec",
    "Message",
    "OpenTransport",
    "Payload",
    "PerMessageDeflate",
    "Provider",
    "ReconnectDecider",
    "RejoinDecider",
    "Retry",
    "Serializer",
    "Transport",
    "TransportStatistics",
    "Verdict",
]

T = TypeVar("T")

Payload: TypeAlias = Any
"""A JSON value (usually a dict), or ``bytes`` for a binary payload."""

Provider: TypeAlias = T | Callable[[], T] | Callable[[], Awaitable[T]]
"""A value, or a sync or async function without arguments that is called for every attempt."""


@attrs.frozen
class JoinContext:
    """What a provider of join params may want to know; it gets one if it takes an argument.

    Attributes:
        topic: the topic that is to be joined.
        attempt: failures in a row of this topic, as its policy counts them; 0 for the first join.
        last_seen: what ``last_seen`` gave for the newest message of this topic that was handed to
            the client, over all its joins; ``None`` where there was none.
    """

    topic: str
    attempt: int = 0
    last_seen: Any = None


class Message(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """A Phoenix message: the five fields of the wire, in the order of the V2 serializer.

    *payload* is a JSON value, or ``bytes`` for a binary payload. *join_ref* is ``None`` in
    broadcasts, *ref* in everything that asks for no reply.
    """

    join_ref: str | None
    ref: str | None
    topic: str
    event: str
    payload: Any


class Frame(NamedTuple):
    """One WebSocket data message to be sent, not yet framed; text is given as UTF-8."""

    data: bytes
    binary: bool = False


class JsonCodec(Protocol):
    """What turns values into JSON and back; ``msgspec.json`` fits, and so does ``orjson`` wrapped."""

    def encode(self, value: Any, /) -> bytes:
        """Encode *value*; raise anything for what JSON cannot hold."""
        ...

    def decode(self, data: bytes | str, /) -> Any:
        """Decode *data*; raise anything for what is not JSON."""
        ...


class Serializer(Protocol):
    """Phoenix messages to frames and back."""

    @property
    def vsn(self) -> str:
        """The version that is put into the URI, such as ``"2.0.0"``."""
        ...

    def encode(self, message: Message, /) -> Frame:
        """Encode *message*.

        Raises:
            EncodeError: if a field is too long or the payload cannot be put on the wire.
        """
        ...

    def decode(self, data: str | bytes, /) -> Message:
        """Decode a text message (``str``) or a binary one (``bytes``).

        Raises:
            DecodeError: for anything that is no Phoenix message; nothing else is ever raised.
        """
        ...


def _check_whole(least: int, most: int) -> Callable[[Any, "attrs.Attribute[int]", Any], None]:
    def check(instance: Any, field: "attrs.Attribute[int]", value: Any) -> None:
        if type(value) is not int or not least <= value <= most:
            raise ConfigError(
                f"{type(instance).__name__}.{field.name} is {value!r}; accepted is a whole number "
                f"from {least} to {most}"
            )

    return check


def _check_flag(instance: Any, field: "attrs.Attribute[bool]", value: Any) -> None:
    if not isinstance(value, bool):
        raise ConfigError(
            f"{type(instance).__name__}.{field.name} is {value!r}; accepted are True and False"
        )


@attrs.frozen(kw_only=True)
class PerMessageDeflate:
    """An offer to compress messages (RFC 7692), which the server may accept or ignore.

    It saves traffic where the network is slow or metered; elsewhere it costs more than it gives: up to
    300 KiB of memory a connection, and time for every message.

    Attributes:
        server_no_context_takeover: ask the server to compress each message by itself, which saves
            memory on its side and compresses less (7.1.1.1).
        client_no_context_takeover: compress each message that we send by itself (7.1.1.2).
        server_max_window_bits: the largest window that the server may use, as a power of two, 8 to 15
            (7.1.2.1).
        client_max_window_bits: the largest window that we use, 9 to 15; the server may ask for less
            (7.1.2.2).
        level: how hard to compress: zlib's level, 1 (fast) to 9 (small).
        threshold: messages of fewer bytes are sent as they are.

    Raises:
        ConfigError: with the field, the value and what is accepted.
    """

    server_no_context_takeover: bool = attrs.field(default=False, validator=_check_flag)
    client_no_context_takeover: bool = attrs.field(default=False, validator=_check_flag)
    server_max_window_bits: int = attrs.field(default=15, validator=_check_whole(8, 15))
    client_max_window_bits: int = attrs.field(default=15, validator=_check_whole(9, 15))
    level: int = attrs.field(default=6, validator=_check_whole(1, 9))
    threshold: int = attrs.field(default=32, validator=_check_whole(0, 1 << 62))


@attrs.frozen
class ConnectRequest:
    """Everything a transport needs to open one connection; all durations in seconds.

    *uri* is complete: ``ws:`` or ``wss:``, with its query. With *unix_socket* it says who is meant
    (the Host header, the name in the certificate), but not where to connect to. *proxy* is a URL, or
    ``None`` to go directly: the environment has been looked at. A transport refuses what could
    inject something into the head of the upgrade.
    *max_message_size* is in bytes, inflated ones where the server compresses. *compression* is
    offered; the server decides.
    """

    uri: str = attrs.field(repr=lambda uri: repr(uri.split("?")[0].rpartition("@")[2]))
    headers: tuple[tuple[str, str], ...] = attrs.field(default=(), repr=False)
    subprotocols: tuple[str, ...] = attrs.field(default=(), repr=False)
    ssl_context: ssl.SSLContext | None = None
    connect_timeout: float = 10.0
    write_timeout: float = 10.0
    close_timeout: float = 3.0
    max_message_size: int = 16 * 1024 * 1024
    max_fragments: int = 128 * 1024
    compression: PerMessageDeflate | None = None
    outbound_bytes: int = 1024 * 1024
    tcp_keepalive: bool = True
    tcp_user_timeout: float | None = None
    proxy: str | None = attrs.field(default=None, repr=False)
    unix_socket: str | os.PathLike[str] | None = None


@attrs.frozen
class TransportStatistics:
    """What a transport has done so far; bytes are those of WebSocket messages, framing left out."""

    messages_sent: int = 0
    messages_received: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    queued_bytes: int = 0


class Transport(Protocol):
    """An open WebSocket connection. Made, and always closed, by an :class:`OpenTransport` block.

    A frame is written by one at a time, and under no cancel scope of a caller's, so that no
    cancellation can tear it.
    """

    @property
    def closed(self) -> DisconnectReason | None:
        """Why the connection ended, once it has; ``None`` while it is open."""
        ...

    @property
    def response_headers(self) -> tuple[tuple[str, str], ...]:
        """The headers of the server's 101 response, names in lower case."""
        ...

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol that the server chose."""
        ...

    @property
    def last_received(self) -> float:
        """When bytes last arrived from the peer, on trio's clock."""
        ...

    async def receive(self) -> list[str | bytes]:
        """Wait for messages and take everything that has arrived: text as ``str``, binary as ``bytes``.

        Never empty. Safe to cancel: nothing is lost. Only one task may receive. Messages that
        came before the end of the connection are delivered before the end is told.

        Raises:
            DisconnectedError: when the connection has ended; its ``reason`` says how.
        """
        ...

    def send_nowait(self, frame: Frame, /, *, token: Any = None, urgent: bool = False) -> None:
        """Queue *frame*, whole. Never blocks.

        An *urgent* frame (a heartbeat) goes ahead of those that wait. A *token* that is not
        ``None`` is handed to the block's ``on_written`` once the frame is handed to the network.

        Raises:
            DisconnectedError: if the connection has ended or is closing; nothing was queued.
        """
        ...

    async def wait_room(self) -> None:
        """Wait until less than ``outbound_bytes`` is queued. Safe to cancel.

        Raises:
            DisconnectedError: if the connection ends first.
        """
        ...

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close in order: queued frames (code 1000 only), Close, the peer's Close, the end of TCP.

        All of it within ``close_timeout``, then by force; shielded from cancellation, since it is
        bounded. Closing twice waits for the first. Afterwards ``closed`` is set, and ``receive``
        raises.

        Raises:
            ValueError: if *code* may not go on the wire or *reason* is over 123 bytes.
        """
        ...

    def abort(self, code: int = 1001) -> None:
        """End at once, as a killed process must: one non-blocking Close with *code*, then by force."""
        ...

    def statistics(self) -> TransportStatistics:
        """Tell what has been sent and received so far."""
        ...


class OpenTransport(Protocol):
    """Opens one connection as a block; ``Config.transport`` is one."""

    def __call__(
        self, request: ConnectRequest, /, *, on_written: Callable[[Sequence[Any]], None]
    ) -> AbstractAsyncContextManager[Transport]:
        """Connect within ``request.connect_timeout`` and yield the open transport.

        *on_written* is called, synchronously, with the tokens of the frames that one write handed
        to the network; that may be inside ``send_nowait``, which then raises what it raises. Leaving
        the block with the transport open closes it: with 1000 after a normal end, 1001 after an
        exception, and by ``abort`` where the block was cancelled.

        Raises:
            ConnectError: if no connection came about, with the cause chained.
        """
        ...


@attrs.frozen
class Retry:
    """Try again after *delay* seconds, and count the attempt.

    With *refresh* the attempt is made for the sake of fresh credentials; such verdicts are counted.
    """

    delay: float
    refresh: bool = False


@attrs.frozen
class Hold:
    """Try again after *delay* seconds, without counting the attempt."""

    delay: float


@attrs.frozen
class Fatal:
    """Do not try again; *why* is for people.

    Where a configuration has several URIs this is about the one that was tried, unless *everywhere*.
    """

    why: str = ""
    everywhere: bool = False


Verdict: TypeAlias = Retry | Hold | Fatal


class ReconnectDecider(Protocol):
    """Decides what follows the end of a connection or a failed attempt."""

    @property
    def stable_after(self) -> float:
        """Seconds of uptime after which attempts are counted from 0 again."""
        ...

    def verdict(
        self,
        reason: DisconnectReason,
        attempt: int,
        /,
        *,
        refreshable: bool = False,
        refreshes: int = 0,
        elapsed: float = 0.0,
    ) -> Verdict:
        """Judge *reason* after *attempt* (0 for the first) failures in a row.

        *refreshable* tells whether a credential comes from a provider, so that a refusal may be
        answered with a fresh one, and *refreshes* how often in a row it was. *elapsed* is in
        seconds since the connection was lost, or was first tried for.
        """
        ...


class RejoinDecider(Protocol):
    """Decides what follows a refused or timed-out join, a channel's crash, or its close."""

    @property
    def stable_after(self) -> float:
        """Seconds joined after which attempts are counted from 0 again."""
        ...

    @property
    def max_joins_per_second(self) -> float | None:
        """How many joins may be sent in a second; ``None`` for no limit."""
        ...

    def verdict(self, topic: str, reason: TopicCloseReason, attempt: int, /) -> Verdict:
        """Judge *reason* after *attempt* (0 for the first) failures of *topic* in a row."""
        ...
