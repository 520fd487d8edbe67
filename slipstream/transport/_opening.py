"""From a URI to a byte stream: the way to the server, TLS. Every failure says in which step, and after how long."""

import socket
import ssl

import trio

from slipstream.interfaces import ConnectRequest

from ._attempt import Attempt, Target
from ._reaching import reach
from ._stream import SocketStream, TLSStream

__all__ = ["open_stream"]

KEEPALIVE_IDLE = 30
KEEPALIVE_INTERVAL = 10
KEEPALIVE_COUNT = 3


async def open_stream(target: Target, request: ConnectRequest, attempt: Attempt) -> SocketStream:
    """Reach the server, and do TLS with it for ``wss:``. Cancelled or failed, it leaves nothing open.

    Raises:
        ConnectError: with the step and the cause.
    """
    sock = await reach(target, request, attempt)
    try:
        try:
            if request.unix_socket is None:
                _set_options(sock, request)
        except OSError as error:
            raise attempt.error(f"a socket option was refused: {error}") from error
        if not target.secure:
            return SocketStream(sock)
        attempt.step = "tls"
        return await _start_tls(sock, target, request, attempt)
    except BaseException:
        sock.close()
        raise


def _set_options(sock: socket.socket, request: ConnectRequest) -> None:
    """Set what makes small writes fast and a dead path known.

    Not every platform has every option; the heartbeat notices what these would have.
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if request.tcp_keepalive:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (
            ("TCP_KEEPIDLE", KEEPALIVE_IDLE),
            ("TCP_KEEPINTVL", KEEPALIVE_INTERVAL),
            ("TCP_KEEPCNT", KEEPALIVE_COUNT),
        ):
            if hasattr(socket, name):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    if request.tcp_user_timeout is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
        milliseconds = max(1, round(request.tcp_user_timeout * 1000))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)


def _default_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


async def _start_tls(
    sock: socket.socket, target: Target, request: ConnectRequest, attempt: Attempt
) -> TLSStream:
    context = request.ssl_context
    if context is None:
        # Reads the certificates of the system from files, which takes a while: in a thread.
        context = await trio.to_thread.run_sync(_default_context, abandon_on_cancel=True)
    try:
        stream = TLSStream(sock, context, server_hostname=target.host)
        await stream.do_handshake()
    except (OSError, ValueError) as error:
        raise attempt.error(f"the TLS handshake failed: {error}") from error
    return stream
