"""How a client connects: one frozen, validated value."""

import inspect
import os
import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias
from urllib.parse import parse_qs, urlsplit

import attrs

from slipstream.errors import ConfigError
from slipstream.interfaces import (
    JsonCodec,
    Message,
    OpenTransport,
    PerMessageDeflate,
    Provider,
    ReconnectDecider,
    RejoinDecider,
    Serializer,
)

from ._checks import (
    check_params,
    headers_field,
    params_field,
    safe_uris,
    subprotocols_field,
    token_field,
    unix_socket_field,
    uri_field,
)
from ._overflow import OnOverflow, overflow_field
from ._policies import ReconnectPolicy, RejoinPolicy
from ._proxies import ENVIRONMENT, proxy_field, safe_proxy
from ._validators import (
    Field,
    checks_names,
    has,
    instance_of,
    one_of,
    optional_function,
    refuse,
    seconds,
    whole,
)

__all__ = ["Config", "Headers", "Params"]

Params: TypeAlias = Mapping[str, str]
"""Query parameters of the URI."""

Headers: TypeAlias = Mapping[str, str] | Sequence[tuple[str, str]]
"""Extra headers of the upgrade request."""


def _reconnect_policy(value: Any) -> Any:
    return ReconnectPolicy(delays=value) if isinstance(value, list | tuple) else value  # pyright: ignore[reportUnknownArgumentType]  # checked by the policy


def _rejoin_policy(value: Any) -> Any:
    return RejoinPolicy(delays=value) if isinstance(value, list | tuple) else value  # pyright: ignore[reportUnknownArgumentType]  # checked by the policy


def _check_verdict(instance: Any, field: Field, value: Any) -> None:
    # It is asked for the first time when a connection is lost: too late to learn of a missing name.
    try:
        signature = inspect.signature(value.verdict)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(None, 0, refreshable=False, refreshes=0, elapsed=0.0)
    except TypeError:
        accepted = (
            "an object whose verdict takes (reason, attempt, *, refreshable, refreshes, elapsed)"
        )
        refuse(instance, field, value, accepted)


def _compression(value: Any) -> Any:
    return PerMessageDeflate() if value == "deflate" else value


def _check_transport(instance: Any, field: Field, value: Any) -> None:
    if value is not None and not callable(value):
        refuse(instance, field, value, "a function that opens a transport, or None")


def _names(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else value  # pyright: ignore[reportUnknownArgumentType,reportUnknownVariableType]  # any list


@attrs.frozen
class Config:
    """Say how a client connects. Frozen and validated; all durations are in seconds.

    *params*, *headers* and *auth_token* are values, or sync or async functions without arguments
    that are called for every attempt, within *provider_timeout*. Secrets never appear in the repr.

    Args:
        uri: ``ws:`` or ``wss:``, the whole path (Phoenix sockets end in ``/websocket``). A list of
            several: a failed attempt, or a connection that did not last, is followed by one to the
            next, and a stable connection by one to the first.
        params: query parameters that are added to the URI.
        headers: extra headers of the upgrade request.
        auth_token: sent as a subprotocol, as phoenix.js does (Phoenix 1.8 and newer).
        heartbeat_interval: between heartbeats; ``None`` or 0 sends none.
        heartbeat_timeout: how long nothing at all may be received after one.
        connect_timeout: over all steps from DNS to the upgrade together.
        write_timeout: for each slice of at most 64 KiB.
        join_timeout: from the moment the join is written.
        push_timeout: of ``request`` and ``await_reply``, where none is given.
        leave_timeout: from the moment the leave is written.
        provider_timeout: for each call of a provider.
        close_timeout: over the close handshake and the end of TCP.
        reconnect: a policy, or a list of delays to be taken literally.
        rejoin: likewise, for topics.
        connection_restart: the restart type of the connection process.
        max_restarts: crashes (not losses) of the connection process within *max_seconds*.
        max_seconds: see *max_restarts*.
        outbound_bytes: queued for writing before ``push`` waits for room.
        unjoined_limit: pushes kept with ``when_unjoined="queue"``, over all topics.
        unjoined_ttl: how long such a push is kept.
        unjoined_overflow: what happens to the push that finds that queue full: it raises
            (``"error"``), takes the place of the oldest, or waits for room (``"block"``; a callback,
            for which no room can come while it waits, raises).
        on_undecodable: what a frame that is no Phoenix message brings about.
        subprotocols: offered beside the ones of *auth_token*.
        serializer: by default the V2 serializer.
        json: by default ``msgspec.json``.
        ssl_context: by default ``ssl.create_default_context()``.
        compression: ``"deflate"``, or a :class:`~slipstream.interfaces.PerMessageDeflate`, offers
            to compress messages; the server decides.
        max_message_size: bytes, inflated; a larger message ends the connection with 1009.
        max_fragments: frames of one message; more end the connection with 1009.
        inbound_limit: unread messages before *on_overflow* decides.
        inbound_bytes: their bytes, likewise.
        on_overflow: stop reading (``"pause"``), ``"drop_oldest"``, ``"disconnect"``, or
            :func:`coalesce(key) <coalesce>`: merge what has a newer message of the same key.
        max_pause: how long reading may stop before the connection is given up.
        proxy: the URL of an HTTP proxy (``http:``) or a SOCKS proxy (``socks5h:``, ``socks5:``,
            ``socks4a:``, ``socks4:``; needs the extra ``proxy``), ``"environment"`` for the one that
            the environment names, or ``None`` for none.
        unix_socket: the path of a Unix-domain socket to connect to, in place of the URI's host and
            port; on Linux also an abstract name, which begins with a NUL. The URI still gives the
            Host header, the resource and, for ``wss:``, the name in the certificate.
        tcp_keepalive: whether the kernel probes an idle connection.
        tcp_user_timeout: unacknowledged bytes end the connection after this; where supported.
        last_seen: gives what a message of a topic is known by on the server, such as a number or a
            cursor, or ``None`` for one that has nothing of the kind. Providers of join params are
            offered the newest (:class:`~slipstream.interfaces.JoinContext`), so that a server can go on there.
        log_payloads: whether payloads may stand in log lines and reports.
        transport: by default a WebSocket over TCP or TLS; one of your own sees to *proxy* and
            *unix_socket*, too.

    Raises:
        ConfigError: with the field, the value and what is accepted.
    """

    uri: str | Sequence[str] = attrs.field(
        converter=_names, validator=uri_field, repr=lambda uri: repr(safe_uris(uri))
    )
    params: Provider[Params] = attrs.field(
        factory=dict[str, str], validator=params_field, repr=False, kw_only=True
    )
    headers: Provider[Headers] = attrs.field(
        default=(), validator=headers_field, repr=False, kw_only=True
    )
    auth_token: Provider[str | None] = attrs.field(
        default=None, validator=token_field, repr=False, kw_only=True
    )
    heartbeat_interval: float | None = attrs.field(
        default=30.0, validator=seconds(zero=True, none=True), kw_only=True
    )
    heartbeat_timeout: float = attrs.field(default=10.0, validator=seconds(), kw_only=True)
    connect_timeout: float = attrs.field(default=10.0, validator=seconds(), kw_only=True)
    write_timeout: float = attrs.field(default=10.0, validator=seconds(), kw_only=True)
    join_timeout: float = attrs.field(default=10.0, validator=seconds(), kw_only=True)
    push_timeout: float = attrs.field(default=10.0, validator=seconds(), kw_only=True)
    leave_timeout: float = attrs.field(default=10.0, validator=seconds(), kw_only=True)
    provider_timeout: float = attrs.field(default=10.0, validator=seconds(), kw_only=True)
    close_timeout: float = attrs.field(default=3.0, validator=seconds(), kw_only=True)
    reconnect: ReconnectDecider = attrs.field(
        factory=ReconnectPolicy,
        converter=_reconnect_policy,
        validator=[has("verdict", "stable_after"), _check_verdict],
        kw_only=True,
    )
    rejoin: RejoinDecider = attrs.field(
        factory=RejoinPolicy,
        converter=_rejoin_policy,
        validator=has("verdict", "stable_after", "max_joins_per_second"),
        kw_only=True,
    )
    connection_restart: Literal["permanent", "transient", "temporary"] = attrs.field(
        default="permanent", validator=one_of("permanent", "transient", "temporary"), kw_only=True
    )
    max_restarts: int = attrs.field(default=3, validator=whole(least=0), kw_only=True)
    max_seconds: float = attrs.field(default=5.0, validator=seconds(), kw_only=True)
    outbound_bytes: int = attrs.field(default=1 << 20, validator=whole(least=1), kw_only=True)
    unjoined_limit: int = attrs.field(default=256, validator=whole(least=0), kw_only=True)
    unjoined_ttl: float = attrs.field(default=10.0, validator=seconds(forever=True), kw_only=True)
    unjoined_overflow: Literal["error", "drop_oldest", "block"] = attrs.field(
        default="error", validator=one_of("error", "drop_oldest", "block"), kw_only=True
    )
    on_undecodable: Literal["ignore", "close"] = attrs.field(
        default="ignore", validator=one_of("ignore", "close"), kw_only=True
    )
    subprotocols: Sequence[str] = attrs.field(
        default=(), converter=_names, validator=subprotocols_field, kw_only=True
    )
    serializer: Serializer | None = attrs.field(
        default=None, validator=has("vsn", "encode", "decode", none=True), kw_only=True
    )
    json: JsonCodec | None = attrs.field(
        default=None, validator=has("encode", "decode", none=True), repr=False, kw_only=True
    )
    ssl_context: ssl.SSLContext | None = attrs.field(
        default=None, validator=instance_of(ssl.SSLContext, none=True), repr=False, kw_only=True
    )
    compression: PerMessageDeflate | None = attrs.field(
        default=None,
        converter=_compression,
        validator=instance_of(PerMessageDeflate, none=True, or_else="'deflate'"),
        kw_only=True,
    )
    max_message_size: int = attrs.field(default=16 << 20, validator=whole(least=1), kw_only=True)
    max_fragments: int = attrs.field(default=1 << 17, validator=whole(least=1), kw_only=True)
    inbound_limit: int = attrs.field(default=4096, validator=whole(least=1), kw_only=True)
    inbound_bytes: int = attrs.field(default=16 << 20, validator=whole(least=1), kw_only=True)
    on_overflow: OnOverflow = attrs.field(default="pause", validator=overflow_field, kw_only=True)
    max_pause: float = attrs.field(default=20.0, validator=seconds(forever=True), kw_only=True)
    proxy: str | None = attrs.field(
        default=ENVIRONMENT,
        validator=proxy_field,
        repr=lambda proxy: repr(safe_proxy(proxy)),
        kw_only=True,
    )
    unix_socket: str | os.PathLike[str] | None = attrs.field(
        default=None, validator=unix_socket_field, kw_only=True
    )
    tcp_keepalive: bool = attrs.field(default=True, validator=instance_of(bool), kw_only=True)
    tcp_user_timeout: float | None = attrs.field(
        # The kernel takes its milliseconds as a C int.
        default=None,
        validator=seconds(none=True, most=2_000_000),
        kw_only=True,
    )
    last_seen: Callable[[Message], Any] | None = attrs.field(
        default=None, validator=optional_function("(message) -> value"), repr=False, kw_only=True
    )
    log_payloads: bool = attrs.field(default=False, validator=instance_of(bool), kw_only=True)
    transport: OpenTransport | None = attrs.field(
        default=None, validator=_check_transport, repr=False, kw_only=True
    )

    def __attrs_post_init__(self) -> None:
        interval = self.heartbeat_interval
        if interval and self.heartbeat_timeout > interval:
            raise ConfigError(
                f"Config.heartbeat_timeout is {self.heartbeat_timeout!r}; accepted is at most "
                f"Config.heartbeat_interval, {interval!r}"
            )
        if self.unix_socket is not None and self.proxy not in {None, ENVIRONMENT}:
            raise ConfigError(
                "Config.unix_socket and Config.proxy are both given; accepted is one of them"
            )
        for uri in self.uris:
            for vsn in parse_qs(urlsplit(uri).query, keep_blank_values=True).get("vsn", []):
                self.check_vsn("uri", vsn)
        if not callable(self.params):
            check_params(self, self.params)

    def check_vsn(self, field: str, vsn: Any) -> None:
        """Refuse the *vsn* that *field* asks for, if the serializer speaks another.

        Raises:
            ConfigError: if it does.
        """
        if vsn != self.vsn:
            raise ConfigError(
                f"Config.{field} asks for vsn={vsn}, but the serializer speaks {self.vsn}; "
                "leave vsn out of it"
            )

    @property
    def uris(self) -> tuple[str, ...]:
        """The URI, or all of them, in order of preference."""
        return (self.uri,) if isinstance(self.uri, str) else tuple(self.uri)

    @property
    def vsn(self) -> str:
        """The protocol version that the serializer speaks."""
        return self.serializer.vsn if self.serializer is not None else "2.0.0"

    @property
    def refreshable(self) -> bool:
        """Whether a credential comes from a provider, so that the next attempt may differ."""
        return callable(self.params) or callable(self.headers) or callable(self.auth_token)

    @classmethod
    def of(cls, argument: "str | Sequence[str] | Mapping[str, Any] | Config") -> "Config":
        """Make a configuration of a URI or several, a mapping of options, or a configuration.

        Raises:
            ConfigError: if *argument* is none of these, or an option is wrong.
        """
        match argument:
            case Config():
                return argument
            case str() | list() | tuple():
                return cls(argument)
            case Mapping():
                if "uri" not in argument:
                    raise ConfigError("Config.uri is missing; accepted is a ws: or wss: URI")
                options: dict[Any, Any] = dict(argument)
                for name in options:
                    if not isinstance(name, str):
                        raise ConfigError(f"Config has no option {name!r}; accepted are names")
                return cls(**options)
            case _:
                raise ConfigError(  # pyright: ignore[reportUnreachable]  # whatever a caller gives
                    f"a configuration was expected, not {argument!r}; accepted is a URI, a mapping "
                    "of options, or a Config"
                )


checks_names(Config)
