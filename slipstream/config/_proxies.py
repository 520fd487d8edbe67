"""Proxies: what the URL of one says, and which one the environment names for a URI."""

import importlib.util
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import attrs

from slipstream.errors import ConfigError

from ._validators import Field, harmless, refuse

__all__ = [
    "ENVIRONMENT",
    "Proxy",
    "parse_proxy",
    "proxy_field",
    "proxy_from_environment",
    "safe_proxy",
]

ENVIRONMENT = "environment"

_SCHEMES = ("http", "socks5h", "socks5", "socks4a", "socks4")
_ACCEPTED = f"a URL such as 'http://user:password@host:3128', with one of {', '.join(_SCHEMES)}"

# As the websockets library has it: RFC 6455, 4.1, prefers a SOCKS proxy to one for HTTPS, and that
# to one for HTTP. "all" is curl's, and comes last as there.
_LOOKED_UP = {
    "wss": ("wss", "socks", "https", "all"),
    "ws": ("ws", "socks", "https", "http", "all"),
}


@attrs.frozen
class Proxy:
    """Where a proxy is, and who we are to it. Its ``str`` has no credentials."""

    scheme: str
    host: str
    port: int
    username: str | None = attrs.field(default=None, repr=False)
    password: str = attrs.field(default="", repr=False)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def parse_proxy(url: str) -> Proxy:
    """Take the *url* of a proxy apart.

    Raises:
        ValueError: if it is none that can be used. It does not show the URL, where a password may
            stand anywhere as long as it is a wrong one.
    """
    if any(not "!" <= char <= "~" for char in url):
        raise ValueError("it holds a space, a control or a non-ASCII character")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("its host or its port is none") from None
    scheme = parts.scheme
    if scheme == "https":
        raise ValueError("TLS to the proxy itself is not supported; reach it by http:")
    if scheme not in _SCHEMES:
        raise ValueError("its scheme is unknown")
    if not parts.hostname or port == 0:
        raise ValueError("it names no host to connect to")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("it has more than a host and a port")
    username = None if parts.username is None else unquote(parts.username)
    password = unquote(parts.password or "")
    if username is not None:
        _check_credentials(scheme, username, password)
    usual = 80 if scheme == "http" else 1080
    return Proxy(scheme, parts.hostname, port or usual, username, password)


def _check_credentials(scheme: str, username: str, password: str) -> None:
    """Refuse what *scheme* has no place for.

    Raises:
        ValueError: if it has none.
    """
    if scheme == "http":
        # RFC 7617, 2: the first colon ends the name.
        if ":" in username:
            raise ValueError("its user name has a colon in it")
    elif not username.isascii() or not password.isascii() or "\0" in username:
        raise ValueError("its user name or its password is not ASCII, or has a NUL")
    elif scheme in {"socks5", "socks5h"}:
        # RFC 1929, 2: a byte for the length of each.
        if not 0 < len(username) < 256 or not 0 < len(password) < 256:
            raise ValueError("its user name or its password is empty or over 255 bytes")
    elif password:
        raise ValueError("SOCKS 4 knows a user name, but no password")


def safe_proxy(value: Any) -> Any:
    """Give *value*, an option of the configuration, without credentials."""
    return value if value is None or value == ENVIRONMENT else str(parse_proxy(value))


def proxy_field(instance: Any, field: Field, value: Any) -> None:
    if value is None or value == ENVIRONMENT:
        return
    if not isinstance(value, str):
        refuse(instance, field, harmless(value), f"{_ACCEPTED}; {ENVIRONMENT!r}; or None")
    try:
        proxy = parse_proxy(value)
    except ValueError as error:
        raise ConfigError(
            f"Config.proxy: {error}; accepted is {_ACCEPTED}; {ENVIRONMENT!r}; or None"
        ) from None
    if proxy.scheme != "http" and importlib.util.find_spec("python_socks") is None:
        raise ConfigError(
            "Config.proxy: a SOCKS proxy needs python-socks: pip install 'slipstream[proxy]'"
        )


def proxy_from_environment(uri: str) -> str | None:
    """Give the URL of the proxy that the environment, or the system, wants for *uri*.

    ``no_proxy`` is respected, as the standard library does. On macOS and Windows that may look the
    host's name up, where the system's exceptions are addresses.
    """
    parts = urlsplit(uri)
    known = getproxies()
    name = next(filter(known.get, _LOOKED_UP[parts.scheme]), None)
    # Exceptions are looked at only where there is something to be excepted from: it takes a while.
    secure = parts.scheme == "wss"
    host = f"{parts.hostname}:{parts.port or (443 if secure else 80)}"
    if name is None or proxy_bypass(host):
        return None
    found = known[name]
    # curl, too, takes "host:port"; macOS gives its SOCKS proxy as http://host:port.
    rest = found.removeprefix("http://") if name == "socks" else found
    scheme = "socks5h" if name == "socks" else "http"
    return rest if "://" in rest else f"{scheme}://{rest}"
