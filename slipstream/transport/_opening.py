"""From a URI to a byte stream: the way to the server, TLS. Every failure says in which step, and after how long."""

import socket
import ssl

import trio

from slipstream.interfaces import ConnectRequest

from ._attempt import Attempt, Target
from ._reaching import reach

__all__ = ["open_stream"]

KEEPALIVE_IDLE = 30
KEEPALIVE_INTERVAL = 10
KEEPALIVE_COUNT = 3


async def open_stream(
    target: Target, request: ConnectRequest, attempt: Attempt
) -> trio.SocketStream | trio.SSLStream[trio.SocketStream]:
    """Reach the server, and do TLS with it for ``wss:``. Cancelled or failed, it leaves nothing open.

    Raises:
        ConnectError: with the step and the cause.
    """
    reached = await reach(target, request, attempt)
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(reached))
    try:
        try:
            if request.unix_socket is None:
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
