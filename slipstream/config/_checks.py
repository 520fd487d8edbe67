"""What may stand in a request: checks of whatever comes from outside. No message shows a secret."""

import os
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import Any, cast
from urllib.parse import urlencode, urlsplit

from slipstream.errors import ConfigError

from ._validators import Field, refuse

__all__ = [
    "check_headers",
    "check_params",
    "check_subprotocols",
    "check_token",
    "check_unix_socket",
    "headers_field",
    "params_field",
    "safe_uri",
    "safe_uris",
    "subprotocols_field",
    "token_field",
    "unix_socket_field",
    "uri_field",
]

_LONGEST_UNIX_SOCKET = 108 if sys.platform == "linux" else 104
"""Bytes of a ``sun_path``, the zero that ends a path among them (unix(7))."""


def check_token(token: Any) -> bytes:
    """Give *token* as bytes.

    Raises:
        ConfigError: if it is no text.
    """
    if isinstance(token, str) and token:
        try:
            return token.encode()
        except UnicodeEncodeError:
            raise ConfigError(
                "Config.auth_token holds a lone surrogate, which has no encoding; accepted is text"
            ) from None
    raise ConfigError(f"Config.auth_token gave a {type(token).__name__}; accepted is a string")


def token_field(instance: Any, field: Field, value: Any) -> None:
    if value is None or callable(value):
        return
    if isinstance(value, str) and value:
        check_token(value)
        return
    # It may be a secret: only the type is shown.
    refuse(instance, field, type(value).__name__, "a string, a function that gives one, or None")


_URI = "a URI such as 'ws://host:4000/socket/websocket'"


def uri_field(instance: Any, field: Field, value: Any) -> None:
    if isinstance(value, str):
        _check_uri(value)
    elif not isinstance(value, tuple) or not value:
        refuse(instance, field, value, f"{_URI}, or a list of one or more")
    else:
        for uri in value:  # pyright: ignore[reportUnknownVariableType]  # any tuple
            if not isinstance(uri, str):
                refuse(instance, field, uri, f"{_URI}, or a list of one or more")
            _check_uri(uri)


def _check_uri(value: str) -> None:
    accepted = _URI
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


def safe_uris(uri: str | Sequence[str]) -> str | list[str]:
    """Give one URI or several as :func:`safe_uri` does."""
    return safe_uri(uri) if isinstance(uri, str) else [safe_uri(one) for one in uri]


_OWN_HEADERS = frozenset(
    [
        "host",
        "connection",
        "upgrade",
        "content-length",
        "transfer-encoding",
        "sec-websocket-key",
        "sec-websocket-version",
        "sec-websocket-extensions",
        "sec-websocket-accept",
    ]
)
"""What the upgrade sets itself (RFC 6455, 4.1), or what would give its request a body."""


def headers_field(instance: Any, field: Field, value: Any) -> None:
    if not callable(value):
        check_headers(value)


def check_headers(headers: Any, *, of: str = "Config") -> tuple[tuple[str, str], ...]:
    """Give *headers* as pairs; *of* is what they belong to, for the message.

    Raises:
        ConfigError: if a name or value could inject something into the request.
    """
    given: Any = cast("Any", headers).items() if isinstance(headers, Mapping) else headers
    try:
        checked: tuple[tuple[Any, Any], ...] = tuple((name, value) for name, value in given)
    except (TypeError, ValueError):
        raise ConfigError(
            f"{of}.headers is neither a mapping nor a sequence of (name, value) pairs"
        ) from None
    for name, value in checked:
        if not isinstance(name, str) or not isinstance(value, str):
            raise ConfigError(f"{of}.headers: {name!r} and its value are not both strings")
        if name.lower() in _OWN_HEADERS:
            raise ConfigError(
                f"{of}.headers: {name!r} is set by the upgrade itself; accepted are others"
            )
        token = name.isascii() and name and all(c.isalnum() or c in "!#$%&'*+-.^_`|~" for c in name)
        if not token:
            raise ConfigError(f"{of}.headers: {name!r} is no header name (RFC 9110, 5.1)")
        # The value may be a secret: it is not shown.
        if any(ord(c) < 32 or ord(c) > 126 for c in value) or value != value.strip():
            raise ConfigError(
                f"{of}.headers: the value of {name!r} holds a control or non-ASCII character, "
                "or outer spaces"
            )
    return checked


def params_field(instance: Any, field: Field, value: Any) -> None:
    if not callable(value) and not isinstance(value, Mapping):
        refuse(instance, field, type(value).__name__, "a mapping, or a function that gives one")


def check_params(config: Any, params: Any) -> dict[Any, Any]:
    """Give *params* as a dict, if they can stand in the query of *config*.

    Raises:
        ConfigError: if they are no mapping, hold what no URI can, or another vsn.
    """
    if not isinstance(params, Mapping):
        raise ConfigError(f"Config.params gave a {type(params).__name__}; accepted is a mapping")
    pairs: dict[Any, Any] = {**params}
    config.check_vsn("params", pairs.get("vsn", config.vsn))
    for name, value in pairs.items():
        try:
            urlencode({name: value})
        except UnicodeEncodeError:
            # The value may be a secret: it is not shown.
            raise ConfigError(
                f"Config.params: {name!r} or its value holds a lone surrogate, which has no "
                "encoding; accepted is text"
            ) from None
    return pairs


def subprotocols_field(instance: Any, field: Field, value: Any) -> None:
    accepted = "a list or tuple of subprotocol names (RFC 6455, 4.1)"
    if not isinstance(value, tuple):
        refuse(instance, field, value, accepted)
    for name in value:  # pyright: ignore[reportUnknownVariableType]  # any tuple
        if not isinstance(name, str) or not name or not name.isascii() or not name.isprintable():
            refuse(instance, field, value, accepted)
        if any(char in name for char in ' ,;"()<>@:/[]?={}\\'):
            refuse(instance, field, value, accepted)


def check_subprotocols(names: Any, *, of: str) -> None:
    """Check that *names* cannot inject anything; *of* is what they belong to, for the message.

    More may stand in one than in an option of the configuration: a token's base64 has slashes.

    Raises:
        ConfigError: if they are no strings, empty, or could end the name or its header.
    """
    for name in names:
        if (
            not isinstance(name, str)
            or not name
            or any(not "!" <= c <= "~" or c == "," for c in name)
        ):
            # It may hold a token: it is not shown.
            raise ConfigError(
                f"{of}.subprotocols: one is empty, or holds a control or non-ASCII character, "
                "a space or a comma"
            )


def check_unix_socket(value: Any, *, of: str = "Config") -> str:
    """Give the path, or the name that begins with a NUL, of a Unix-domain socket as a string.

    Raises:
        ConfigError: if it is neither, or there are none on this platform.
    """
    what = f"{of}.unix_socket"
    path = os.fspath(value) if isinstance(value, os.PathLike) else value  # pyright: ignore[reportUnknownVariableType,reportUnknownArgumentType]  # checked below
    if not isinstance(path, str) or not path:
        raise ConfigError(f"{what} is {value!r}; accepted is a path, or None")
    if not hasattr(socket, "AF_UNIX"):
        raise ConfigError(f"{what} is {path!r}, but this platform has no Unix-domain sockets")
    abstract = path.startswith("\0")
    if "\0" in path[1:] or (abstract and (len(path) == 1 or sys.platform != "linux")):
        raise ConfigError(
            f"{what} is {path!r}; accepted is a path, or on Linux a name that begins with a NUL"
        )
    try:
        size = len(os.fsencode(path))
    except UnicodeEncodeError:
        raise ConfigError(f"{what} is {path!r}, which has no encoding as a file's name") from None
    most = _LONGEST_UNIX_SOCKET - (not abstract)
    if size > most:
        raise ConfigError(f"{what} is {path!r}; accepted are at most {most} bytes, not {size}")
    return path


def unix_socket_field(instance: Any, field: Field, value: Any) -> None:
    if value is not None:
        check_unix_socket(value)
