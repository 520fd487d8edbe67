"""From a URI to a byte stream: name, TCP, TLS. Every failure says in which step, and after how long."""

import socket
import ssl
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from slipstream.errors import ConnectError
from slipstream.interfaces import ConnectRequest

from ._lifecycle import bare

__all__ = ["Attempt", "Target", "open_stream", "parse_target"]

NEXT_ADDRESS_AFTER = 0.25
"""Seconds until the next address is tried beside the last (RFC 8305, "Happy Eyeballs")."""

KEEPALIVE_IDLE = 30
KEEPALIVE_INTERVAL = 10
KEEPALIVE_COUNT = 3


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
    parts = urlsplit(uri)
    if parts.scheme not in {"ws", "wss"}:
        raise ValueError(f"the scheme is {parts.scheme!r}; accepted are 'ws' and 'wss'")
    if not parts.hostname:
        raise ValueError("the URI has no host")
    secure = parts.scheme == "wss"
    resource = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    credentials = None
    if parts.username is not None:
        credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    port = parts.port or (443 if secure else 80)
    return Target(parts.hostname, port, secure, resource, credentials)


async def open_stream(
    target: Target, request: ConnectRequest, attempt: Attempt
) -> trio.SocketStream | trio.SSLStream[trio.SocketStream]:
    """Open TCP, and TLS over it for ``wss:``. Cancelled or failed, it leaves nothing open.

    Raises:
        ConnectError: with the step and the cause.
    """
    attempt.step = "dns"
    try:
        found = await trio.socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise attempt.error(f"no address for {target.host!r}: {error}") from error
    attempt.step = "tcp"
    addresses = [(family, kind, number, where) for family, kind, number, _, where in found]
    stream = trio.SocketStream(await _connect(addresses, attempt))
    try:
        try:
            _set_options(stream, request)
        except OSError as error:
            raise attempt.error(f"a socket option was refused: {error}") from error
        if not target.secure:
            return stream
        attempt.step = "tls"
        return await _start_tls(stream, target, request, attempt)
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise


async def _connect(
    addresses: Sequence[tuple[int, int, int, tuple[Any, ...]]],
    attempt: Attempt,
) -> trio.socket.SocketType:
    """Connect to the first of *addresses* that answers."""
    errors: list[OSError] = []
    winners: list[trio.socket.SocketType] = []

    @enable_ki_protection
    async def try_one(index: int, over: trio.Event) -> None:
        family, kind, number, where = addresses[index]
        try:
            candidate = trio.socket.socket(family, kind, number)
            try:
                await candidate.connect(where)
            except BaseException:
                candidate.close()
                raise
        except OSError as error:
            errors.append(error)
            over.set()
        else:
            winners.append(candidate)
            nursery.cancel_scope.cancel()

    try:
        async with trio.open_nursery() as nursery:
            for index in range(len(addresses)):
                over = trio.Event()
                nursery.start_soon(try_one, index, over)
                with trio.move_on_after(NEXT_ADDRESS_AFTER):
                    await over.wait()
    except BaseException as error:  # noqa: BLE001 - raised again, when everything is closed
        for winner in winners:
            winner.close()
        raise bare(error) from None
    if not winners:
        cause = errors[0] if len(errors) == 1 else ExceptionGroup("no address answered", errors)
        raise attempt.error("; ".join(dict.fromkeys(map(str, errors)))) from cause
    for loser in winners[1:]:
        loser.close()
    return winners[0]


def _set_options(stream: trio.SocketStream, request: ConnectRequest) -> None:
    """Set what makes a dead path known. ``TCP_NODELAY`` is set by trio.

    Not every platform has every option; the heartbeat notices what these would have.
    """
    if request.tcp_keepalive:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (
            ("TCP_KEEPIDLE", KEEPALIVE_IDLE),
            ("TCP_KEEPINTVL", KEEPALIVE_INTERVAL),
            ("TCP_KEEPCNT", KEEPALIVE_COUNT),
        ):
            if hasattr(socket, name):
                stream.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    if request.tcp_user_timeout is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
        milliseconds = max(1, round(request.tcp_user_timeout * 1000))
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)


def _default_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


async def _start_tls(
    stream: trio.SocketStream, target: Target, request: ConnectRequest, attempt: Attempt
) -> trio.SSLStream[trio.SocketStream]:
    context = request.ssl_context
    if context is None:
        # Reads the certificates of the system from files, which takes a while: in a thread.
        context = await trio.to_thread.run_sync(_default_context, abandon_on_cancel=True)
    secure = trio.SSLStream(stream, context, server_hostname=target.host, https_compatible=True)
    try:
        # Now, and not with the first write: so its errors are its own.
        await secure.do_handshake()
    except trio.BrokenResourceError as error:
        cause = error.__cause__ or error
        raise attempt.error(f"the TLS handshake failed: {cause}") from cause
    return secure
