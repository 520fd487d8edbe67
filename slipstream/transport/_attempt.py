"""One attempt at a connection: where it leads, and how far it has got. No I/O."""

from urllib.parse import unquote, urlsplit

import attrs
import trio

from slipstream.config import check_headers, check_subprotocols
from slipstream.errors import ConnectError
from slipstream.interfaces import ConnectRequest

__all__ = ["Attempt", "Target", "check_request", "parse_target"]


@attrs.frozen
class Target:
    """Where a URI leads to; *credentials* are ``user:password``, where it has them."""

    host: str
    port: int
    secure: bool
    resource: str = attrs.field(repr=False)
    credentials: str | None = attrs.field(default=None, repr=False)

    @property
    def authority(self) -> str:
        """What goes into the Host header: without the port, where it is the usual one."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = 443 if self.secure else 80
        return host if self.port == usual else f"{host}:{self.port}"


@attrs.define(eq=False)
class Attempt:
    """How far an attempt has got; it makes the errors, so that each names the step."""

    timeout: float
    where: str = "the server"
    step: str = "uri"
    started: float = attrs.field(factory=trio.current_time)

    @property
    def deadline(self) -> float:
        """When it must have ended, on trio's clock."""
        return self.started + self.timeout

    def error(
        self,
        what: str,
        *,
        status: int | None = None,
        headers: tuple[tuple[str, str], ...] = (),
        body: bytes = b"",
    ) -> ConnectError:
        """Make the error of this step: *what* went wrong."""
        seconds = trio.current_time() - self.started
        return ConnectError(
            f"no connection to {self.where}: {what} (step {self.step!r}, after {seconds:.3g} s)",
            step=self.step,
            seconds=seconds,
            status=status,
            headers=headers,
            body=body,
        )

    def timed_out(self) -> ConnectError:
        """Make the error of an attempt that took too long."""
        return self.error(f"the time ran out, connect_timeout is {self.timeout:g} s")


def parse_target(uri: str) -> Target:
    """Take *uri* apart.

    Raises:
        ValueError: if it is no ``ws:`` or ``wss:`` URI with a host. It does not tell the query.
    """
    # Before anything is taken apart: urlsplit drops line ends without a word.
    if any(not "!" <= char <= "~" for char in uri):
        raise ValueError("the URI holds a space, a control or a non-ASCII character")
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError:
        # The messages of these would tell parts of a password that holds a slash or a bracket.
        raise ValueError("its host or its port is none") from None
    if parts.scheme not in {"ws", "wss"}:
        raise ValueError(f"the scheme is {parts.scheme!r}; accepted are 'ws' and 'wss'")
    if not parts.hostname or port == 0:
        raise ValueError("the URI has no host to connect to")
    secure = parts.scheme == "wss"
    resource = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    credentials = None
    if parts.username is not None:
        credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return Target(parts.hostname, port or (443 if secure else 80), secure, resource, credentials)


def check_request(request: ConnectRequest) -> None:
    """Check what would go into the head of the upgrade request, beside the URI.

    A request that a configuration made has been checked already; one made by hand has not.

    Raises:
        ConfigError: if something could be injected by it. It tells no value.
    """
    check_headers(request.headers, of="ConnectRequest")
    check_subprotocols(request.subprotocols, of="ConnectRequest")
