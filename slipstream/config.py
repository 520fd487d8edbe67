"""How a client connects: one frozen, validated value, and the two policies that come with it."""

import functools
import math
import random
import ssl
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal, NoReturn, TypeAlias, cast
from urllib.parse import parse_qs, urlsplit

import attrs

from .errors import ConfigError, RemoteProtocolError
from .interfaces import (
    Fatal,
    Hold,
    JsonCodec,
    OpenTransport,
    Provider,
    ReconnectDecider,
    RejoinDecider,
    Retry,
    Serializer,
    Verdict,
)
from .reasons import (
    ChannelClosed,
    ClosedByServer,
    ConnectFailed,
    DisconnectReason,
    JoinRefused,
    TopicCloseReason,
    TransportFailed,
)

__all__ = ["Config", "Headers", "Params", "ReconnectPolicy", "RejoinPolicy"]

Params: TypeAlias = Mapping[str, str]
"""Query parameters of the URI."""

Headers: TypeAlias = Mapping[str, str] | Sequence[tuple[str, str]]
"""Extra headers of the upgrade request."""

FATAL_CLOSE_CODES = frozenset({1003, 1007, 1008, 1009, 1010})
"""Close codes that the next attempt would meet again: we are what the server objects to."""

_Field: TypeAlias = "attrs.Attribute[Any]"


def _seconds(
    *, zero: bool = False, forever: bool = False, none: bool = False
) -> Callable[[Any, _Field, Any], None]:
    accepted = "a number of seconds " + ("from 0" if zero else "above 0")
    accepted += ", math.inf included" if forever else ""
    accepted += ", or None" if none else ""

    def check(instance: Any, field: _Field, value: Any) -> None:
        if value is None and none:
            return
        if not isinstance(value, int | float) or isinstance(value, bool):
            _refuse(instance, field, value, accepted)
        if math.isnan(value) or value < 0 or (value == 0 and not zero):
            _refuse(instance, field, value, accepted)
        if math.isinf(value) and not forever:
            _refuse(instance, field, value, accepted)

    return check


def _one_of(*choices: str) -> Callable[[Any, _Field, Any], None]:
    def check(instance: Any, field: _Field, value: Any) -> None:
        if value not in choices:
            _refuse(instance, field, value, "one of " + ", ".join(map(repr, choices)))

    return check


def _whole(*, least: int, none: bool = False) -> Callable[[Any, _Field, Any], None]:
    def check(instance: Any, field: _Field, value: Any) -> None:
        if value is None and none:
            return
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            accepted = f"a whole number from {least}" + (", or None" if none else "")
            _refuse(instance, field, value, accepted)

    return check


def _refuse(instance: Any, field: _Field, value: Any, accepted: str) -> NoReturn:
    name = f"{type(instance).__name__}.{field.name}"
    raise ConfigError(f"{name} is {value!r}; accepted is {accepted}")


def _checks_names(cls: type[Any]) -> None:
    """Let the constructor of *cls* refuse an unknown name with an error that lists the known ones."""
    make = cls.__init__
    names = [field.name for field in attrs.fields(cls)]

    @functools.wraps(make)
    def checked(self: Any, *args: Any, **options: Any) -> None:
        for name in options:
            if name not in names:
                raise ConfigError(
                    f"{cls.__name__} has no option {name!r}; accepted are {', '.join(names)}"
                )
        make(self, *args, **options)

    cls.__init__ = checked


def _delays(instance: Any, field: _Field, value: Any) -> None:
    if value is None:
        return
    accepted = "a sequence of one or more numbers of seconds from 0, or None"
    if not value:
        _refuse(instance, field, value, accepted)
    for delay in value:
        number = isinstance(delay, int | float) and not isinstance(delay, bool)
        if not number or not 0 <= delay < math.inf:
            _refuse(instance, field, value, accepted)


def _literal_delays(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else value  # pyright: ignore[reportUnknownArgumentType,reportUnknownVariableType]  # any list


@attrs.frozen(kw_only=True)
class _BackOff:
    """Delays that grow: uniform(0, min(maximum, first · factorⁿ)), or *delays* taken literally."""

    first: float = attrs.field(default=1.0, validator=_seconds(zero=True))
    factor: float = attrs.field(default=2.0, validator=_seconds())
    maximum: float = attrs.field(default=30.0, validator=_seconds(zero=True))
    delays: Sequence[float] | None = attrs.field(
        default=None, converter=_literal_delays, validator=_delays
    )
    stable_after: float = attrs.field(default=30.0, validator=_seconds(zero=True))
    max_attempts: int | None = attrs.field(default=None, validator=_whole(least=0, none=True))
    uniform: Callable[[float, float], float] = attrs.field(default=random.uniform, repr=False)

    def delay(self, attempt: int, *, maximum: float | None = None) -> float:
        """Draw the delay in seconds that follows *attempt* (0 for the first) failures in a row."""
        if self.delays is not None:
            return self.delays[min(attempt, len(self.delays) - 1)]
        ceiling = self.maximum if maximum is None else maximum
        try:
            grown = self.first * float(self.factor) ** attempt
        except OverflowError:
            grown = ceiling if self.first else 0.0
        return self.uniform(0.0, min(ceiling, grown))


@attrs.frozen(kw_only=True)
class ReconnectPolicy(_BackOff):
    """Decides what follows the end of a connection, or a failed attempt at one.

    All durations are in seconds. A delay is drawn from uniform(0, min(*maximum*, *first* ·
    *factor* ⁿ)) after n failures in a row (RFC 6455, 7.2.3, asks for such a spread); *delays* are
    taken literally instead, the last one repeated. n goes back to 0 only after *stable_after*
    seconds of uptime. After *max_attempts* failures in a row the verdict is fatal.

    Subclass it and override :meth:`verdict` for a table of one's own.
    """

    def verdict(
        self, reason: DisconnectReason, attempt: int, /, *, refreshable: bool = False
    ) -> Verdict:
        """Judge *reason* after *attempt* (0 for the first) failures in a row."""
        if self.max_attempts is not None and attempt >= self.max_attempts:
            return Fatal(f"{self.max_attempts} attempts failed")
        match reason:
            case ClosedByServer(code=code, reason=text) if code in FATAL_CLOSE_CODES:
                return Fatal(f"the server closed with {code} {text}".rstrip())
            case ClosedByServer(code=1012) if self.delays is None:
                return Retry(self.uniform(1.0, 5.0))
            case ClosedByServer(code=1013) if self.delays is None:
                return Retry(self.uniform(30.0, 60.0))
            case TransportFailed(error=RemoteProtocolError(code=1009)):
                return Fatal("a message was larger than max_message_size")
            case ConnectFailed():
                return self._after_failed_attempt(reason, attempt, refreshable=refreshable)
            case _:
                return Retry(self.delay(attempt))

    def _after_failed_attempt(
        self, failed: ConnectFailed, attempt: int, *, refreshable: bool
    ) -> Verdict:
        if isinstance(failed.error, ConfigError):
            return Fatal(str(failed.error))
        match failed.status:
            case 401 | 403 if refreshable:
                # One retry at once, with a fresh credential; after that it is no accident.
                return Retry(0.0 if attempt == 0 else self.delay(attempt, maximum=300.0))
            case 429 | 503:
                return Retry(max(self.delay(attempt), _retry_after(failed.headers)))
            case int(status) if 300 <= status < 500:
                return Fatal(f"the server answered the upgrade with HTTP {status}")
            case _:
                return Retry(self.delay(attempt))


_checks_names(ReconnectPolicy)


def _retry_after(headers: tuple[tuple[str, str], ...]) -> float:
    """Read ``Retry-After`` (RFC 9110, 10.2.3) as seconds from now; 0.0 where there is none."""
    value = dict(headers).get("retry-after", "").strip()
    if value.isdecimal():
        return min(float(value), 3600.0)
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError):
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max(0.0, (moment - datetime.now(UTC)).total_seconds()), 3600.0)


def _is_final(response: Any) -> bool:
    """Tell whether a refused join would be refused again: no such topic, or not allowed."""
    reason = cast("dict[str, Any]", response).get("reason") if isinstance(response, dict) else None
    return reason in ("unmatched topic", "unauthorized")  # no set: it may not be hashable


@attrs.frozen(kw_only=True)
class RejoinPolicy(_BackOff):
    """Decides what follows a refused or timed-out join, a channel's crash, or its close.

    Delays are those of :class:`ReconnectPolicy`, for each topic by itself; the count goes back to
    0 only after *stable_after* seconds joined. *is_final* tells from the response of a refused
    join that it is of no use to ask again (by default for the reasons ``unmatched topic`` and
    ``unauthorized``). *after_close* rejoins also after the server closed the channel in an
    orderly way. *max_joins_per_second* spreads joins out.
    """

    is_final: Callable[[Any], bool] = attrs.field(default=_is_final, repr=False)
    after_close: bool = False
    max_joins_per_second: float | None = attrs.field(default=None, validator=_seconds(none=True))

    def verdict(self, topic: str, reason: TopicCloseReason, attempt: int, /) -> Verdict:
        """Judge *reason* after *attempt* (0 for the first) failures of *topic* in a row."""
        if self.max_attempts is not None and attempt >= self.max_attempts:
            return Fatal(f"{self.max_attempts} joins of {topic!r} failed")
        match reason:
            case JoinRefused(response={"reason": "too many channels joined"}):
                return Hold(self.maximum)
            case JoinRefused(response=response) if self.is_final(response):
                return Fatal(f"the server refused {topic!r} for good")
            case ChannelClosed() if not self.after_close:
                return Fatal(f"the server closed {topic!r}")
            case _:
                return Retry(self.delay(attempt))


_checks_names(RejoinPolicy)


def _reconnect_policy(value: Any) -> Any:
    return ReconnectPolicy(delays=value) if isinstance(value, list | tuple) else value  # pyright: ignore[reportUnknownArgumentType]  # checked by the policy


def _rejoin_policy(value: Any) -> Any:
    return RejoinPolicy(delays=value) if isinstance(value, list | tuple) else value  # pyright: ignore[reportUnknownArgumentType]  # checked by the policy


def _has(*methods: str, none: bool = False) -> Callable[[Any, _Field, Any], None]:
    def check(instance: Any, field: _Field, value: Any) -> None:
        if value is None and none:
            return
        if any(not hasattr(value, name) for name in methods):
            accepted = f"an object with {', '.join(methods)}" + (", or None" if none else "")
            _refuse(instance, field, value, accepted)

    return check


def _instance_of(kind: type[Any], *, none: bool = False) -> Callable[[Any, _Field, Any], None]:
    def check(instance: Any, field: _Field, value: Any) -> None:
        if not isinstance(value, kind) and not (value is None and none):
            accepted = f"a value of type {kind.__name__}" + (", or None" if none else "")
            _refuse(instance, field, value, accepted)

    return check


def _check_transport(instance: Any, field: _Field, value: Any) -> None:
    if value is not None and not callable(value):
        _refuse(instance, field, value, "a function that opens a transport, or None")


def _check_token(instance: Any, field: _Field, value: Any) -> None:
    if value is None or callable(value) or (isinstance(value, str) and value):
        return
    # It may be a secret of another type: only the type is shown.
    _refuse(instance, field, type(value).__name__, "a string, a function that gives one, or None")


def _check_uri(instance: "Config", field: _Field, value: Any) -> None:
    accepted = "a URI such as 'ws://host:4000/socket/websocket'"
    if not isinstance(value, str):
        _refuse(instance, field, value, accepted)
    shown = safe_uri(value)
    if not value.isascii() or any(not char.isprintable() or char == " " for char in value):
        raise ConfigError(
            f"Config.uri {shown!r} holds a space, a control or a non-ASCII character; "
            f"accepted is {accepted}, percent-encoded"
        )
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"Config.uri {shown!r}: {error}; accepted is {accepted}") from error
    if parts.scheme not in {"ws", "wss"}:
        raise ConfigError(
            f"Config.uri {shown!r} has unknown scheme {parts.scheme!r}; accepted are 'ws' and 'wss'"
        )
    if not parts.hostname or port == 0:
        raise ConfigError(
            f"Config.uri {shown!r} names no host to connect to; accepted is {accepted}"
        )
    if parts.fragment:
        raise ConfigError(f"Config.uri {shown!r} has a fragment, which a ws: URI may not have")


def safe_uri(uri: str) -> str:
    """Give *uri* without its query and userinfo, where secrets may stand."""
    head, _, _ = uri.partition("?")
    scheme, mark, rest = head.partition("://")
    if not mark:  # no URI with a host, but userinfo may stand in it all the same
        return head.rpartition("@")[2]
    authority, slash, path = rest.partition("/")
    return f"{scheme}{mark}{authority.rpartition('@')[2]}{slash}{path}"


def _check_static_headers(instance: "Config", field: _Field, value: Any) -> None:
    if not callable(value):
        check_headers(value)


def check_headers(headers: Any) -> tuple[tuple[str, str], ...]:
    """Give *headers* as pairs.

    Raises:
        ConfigError: if a name or value could inject something into the request.
    """
    given: Any = cast("Any", headers).items() if isinstance(headers, Mapping) else headers
    try:
        checked: tuple[tuple[Any, Any], ...] = tuple((name, value) for name, value in given)
    except (TypeError, ValueError):
        raise ConfigError(
            "Config.headers is neither a mapping nor a sequence of (name, value) pairs"
        ) from None
    for name, value in checked:
        if not isinstance(name, str) or not isinstance(value, str):
            raise ConfigError(f"Config.headers: {name!r} and its value are not both strings")
        token = name.isascii() and name and all(c.isalnum() or c in "!#$%&'*+-.^_`|~" for c in name)
        if not token:
            raise ConfigError(f"Config.headers: {name!r} is no header name (RFC 9110, 5.1)")
        # The value may be a secret: it is not shown.
        if any(ord(c) < 32 or ord(c) > 126 for c in value) or value != value.strip():
            raise ConfigError(
                f"Config.headers: the value of {name!r} holds a control or non-ASCII character, "
                "or outer spaces"
            )
    return checked


def _check_params(instance: "Config", field: _Field, value: Any) -> None:
    if not callable(value) and not isinstance(value, Mapping):
        _refuse(instance, field, type(value).__name__, "a mapping, or a function that gives one")


def _names(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else value  # pyright: ignore[reportUnknownArgumentType,reportUnknownVariableType]  # any list


def _check_subprotocols(instance: "Config", field: _Field, value: Any) -> None:
    accepted = "a list or tuple of subprotocol names (RFC 6455, 4.1)"
    if not isinstance(value, tuple):
        _refuse(instance, field, value, accepted)
    for name in value:  # pyright: ignore[reportUnknownVariableType]  # any tuple
        if not isinstance(name, str) or not name or not name.isascii() or not name.isprintable():
            _refuse(instance, field, value, accepted)
        if any(char in name for char in ' ,;"()<>@:/[]?={}\\'):
            _refuse(instance, field, value, accepted)


@attrs.frozen
class Config:
    """Say how a client connects. Frozen and validated; all durations are in seconds.

    *params*, *headers* and *auth_token* are values, or sync or async functions without arguments
    that are called for every attempt, within *provider_timeout*. Secrets never appear in the repr.

    Args:
        uri: ``ws:`` or ``wss:``, the whole path (Phoenix sockets end in ``/websocket``).
        params: query parameters that are added to the URI.
        headers: extra headers of the upgrade request.
        auth_token: sent as a subprotocol, as phoenix.js does (Phoenix 1.8 and newer).
        heartbeat_interval: between heartbeats; ``None`` or 0 sends none.
        heartbeat_timeout: how long nothing at all may be received after one.
        connect_timeout: over DNS, TCP, TLS and upgrade together.
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
        unjoined_overflow: what happens to the push that finds that queue full.
        on_undecodable: what a frame that is no Phoenix message brings about.
        subprotocols: offered beside the ones of *auth_token*.
        serializer: by default the V2 serializer.
        json: by default ``msgspec.json``.
        ssl_context: by default ``ssl.create_default_context()``.
        max_message_size: bytes; a larger message ends the connection with 1009.
        inbound_limit: unread messages before *on_overflow* decides.
        inbound_bytes: their bytes, likewise.
        on_overflow: stop reading, drop the oldest, or disconnect.
        max_pause: how long reading may stop before the connection is given up.
        tcp_keepalive: whether the kernel probes an idle connection.
        tcp_user_timeout: unacknowledged bytes end the connection after this; where supported.
        log_payloads: whether payloads may stand in log lines and reports.
        transport: by default a WebSocket over TCP or TLS.

    Raises:
        ConfigError: with the field, the value and what is accepted.
    """

    uri: str = attrs.field(validator=_check_uri, repr=lambda uri: repr(safe_uri(uri)))
    params: Provider[Params] = attrs.field(
        factory=dict[str, str], validator=_check_params, repr=False, kw_only=True
    )
    headers: Provider[Headers] = attrs.field(
        default=(), validator=_check_static_headers, repr=False, kw_only=True
    )
    auth_token: Provider[str | None] = attrs.field(
        default=None, validator=_check_token, repr=False, kw_only=True
    )
    heartbeat_interval: float | None = attrs.field(
        default=30.0, validator=_seconds(zero=True, none=True), kw_only=True
    )
    heartbeat_timeout: float = attrs.field(default=10.0, validator=_seconds(), kw_only=True)
    connect_timeout: float = attrs.field(default=10.0, validator=_seconds(), kw_only=True)
    write_timeout: float = attrs.field(default=10.0, validator=_seconds(), kw_only=True)
    join_timeout: float = attrs.field(default=10.0, validator=_seconds(), kw_only=True)
    push_timeout: float = attrs.field(default=10.0, validator=_seconds(), kw_only=True)
    leave_timeout: float = attrs.field(default=10.0, validator=_seconds(), kw_only=True)
    provider_timeout: float = attrs.field(default=10.0, validator=_seconds(), kw_only=True)
    close_timeout: float = attrs.field(default=3.0, validator=_seconds(), kw_only=True)
    reconnect: ReconnectDecider = attrs.field(
        factory=ReconnectPolicy,
        converter=_reconnect_policy,
        validator=_has("verdict", "stable_after"),
        kw_only=True,
    )
    rejoin: RejoinDecider = attrs.field(
        factory=RejoinPolicy,
        converter=_rejoin_policy,
        validator=_has("verdict", "stable_after", "max_joins_per_second"),
        kw_only=True,
    )
    connection_restart: Literal["permanent", "transient", "temporary"] = attrs.field(
        default="permanent", validator=_one_of("permanent", "transient", "temporary"), kw_only=True
    )
    max_restarts: int = attrs.field(default=3, validator=_whole(least=0), kw_only=True)
    max_seconds: float = attrs.field(default=5.0, validator=_seconds(), kw_only=True)
    outbound_bytes: int = attrs.field(default=1 << 20, validator=_whole(least=1), kw_only=True)
    unjoined_limit: int = attrs.field(default=256, validator=_whole(least=0), kw_only=True)
    unjoined_ttl: float = attrs.field(default=10.0, validator=_seconds(forever=True), kw_only=True)
    unjoined_overflow: Literal["error", "drop_oldest", "block"] = attrs.field(
        default="error", validator=_one_of("error", "drop_oldest", "block"), kw_only=True
    )
    on_undecodable: Literal["ignore", "close"] = attrs.field(
        default="ignore", validator=_one_of("ignore", "close"), kw_only=True
    )
    subprotocols: Sequence[str] = attrs.field(
        default=(), converter=_names, validator=_check_subprotocols, kw_only=True
    )
    serializer: Serializer | None = attrs.field(
        default=None, validator=_has("vsn", "encode", "decode", none=True), kw_only=True
    )
    json: JsonCodec | None = attrs.field(
        default=None, validator=_has("encode", "decode", none=True), repr=False, kw_only=True
    )
    ssl_context: ssl.SSLContext | None = attrs.field(
        default=None, validator=_instance_of(ssl.SSLContext, none=True), repr=False, kw_only=True
    )
    max_message_size: int = attrs.field(default=16 << 20, validator=_whole(least=1), kw_only=True)
    inbound_limit: int = attrs.field(default=4096, validator=_whole(least=1), kw_only=True)
    inbound_bytes: int = attrs.field(default=16 << 20, validator=_whole(least=1), kw_only=True)
    on_overflow: Literal["pause", "drop_oldest", "disconnect"] = attrs.field(
        default="pause", validator=_one_of("pause", "drop_oldest", "disconnect"), kw_only=True
    )
    max_pause: float = attrs.field(default=20.0, validator=_seconds(forever=True), kw_only=True)
    tcp_keepalive: bool = attrs.field(default=True, validator=_instance_of(bool), kw_only=True)
    tcp_user_timeout: float | None = attrs.field(
        default=None, validator=_seconds(none=True), kw_only=True
    )
    log_payloads: bool = attrs.field(default=False, validator=_instance_of(bool), kw_only=True)
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
        stated = parse_qs(urlsplit(self.uri).query).get("vsn", [self.vsn])
        if any(vsn != self.vsn for vsn in stated):
            raise ConfigError(
                f"Config.uri asks for vsn={stated[0]}, but the serializer speaks {self.vsn}; "
                "leave vsn out of the URI"
            )

    @property
    def vsn(self) -> str:
        """The protocol version that the serializer speaks."""
        return self.serializer.vsn if self.serializer is not None else "2.0.0"

    @property
    def refreshable(self) -> bool:
        """Whether a credential comes from a provider, so that the next attempt may differ."""
        return callable(self.params) or callable(self.headers) or callable(self.auth_token)

    @classmethod
    def of(cls, argument: "str | Mapping[str, Any] | Config") -> "Config":
        """Make a configuration of a URI, of a mapping of options, or of a configuration.

        Raises:
            ConfigError: if *argument* is none of these, or an option is wrong.
        """
        match argument:
            case Config():
                return argument
            case str():
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


_checks_names(Config)
