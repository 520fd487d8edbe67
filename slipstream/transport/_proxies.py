"""What is said to a proxy on a connection to it, until it leads to the server.

``CONNECT`` is ours and not python-socks's, which takes the first segment that arrives for the whole
answer: one in two segments is either no answer or spoils the bytes that follow.
"""

import base64
import socket

from slipstream.config import Proxy
from slipstream.errors import RemoteProtocolError

from ._attempt import Attempt
from ._response import MAX_SHOWN, ResponseReader, ResponseState
from ._stream import SocketStream

__all__ = ["ask_proxy"]


async def ask_proxy(
    sock: socket.socket, proxy: Proxy, host: str, port: int, attempt: Attempt
) -> None:
    """Let *proxy*, to which *sock* is connected, connect it to *host*.

    Raises:
        ConnectError: if it does not. Its ``status`` stays ``None``, since a policy for reconnects
            takes that for the server's: a 403 of a proxy is no refusal of our credentials.
    """
    try:
        if proxy.scheme == "http":
            await _ask_for_tunnel(sock, proxy, host, port, attempt)
        else:
            await _ask_socks(sock, proxy, host, port, attempt)
    except OSError as error:
        raise attempt.error(f"the proxy broke the connection: {error}") from error


async def _ask_for_tunnel(
    sock: socket.socket, proxy: Proxy, host: str, port: int, attempt: Attempt
) -> None:
    stream = SocketStream(sock)
    reader = ResponseReader()
    stream.begin_send(_connect_request(proxy, host, port))
    await stream.finish_send()
    while reader.state is ResponseState.HEAD:
        data = await stream.receive_some()
        if not data:
            eof = EOFError("it closed the connection before it had answered")
            raise attempt.error(f"the proxy did not answer: {eof}") from eof
        try:
            reader.feed(data)
        except RemoteProtocolError as error:
            raise attempt.error(f"the proxy cannot be understood: {error}") from error
    if not 200 <= reader.status < 300:
        reason = f" {reader.reason[:MAX_SHOWN]!r}" if reader.reason else ""
        raise attempt.error(f"the proxy answered HTTP {reader.status}{reason}")
    if reader.rest:
        # The server speaks second: after a ClientHello, or a request.
        raise attempt.error("the proxy said more than its answer")


def _connect_request(proxy: Proxy, host: str, port: int) -> bytes:
    """Build the request (RFC 9110, 9.3.6)."""
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
    if proxy.username is not None:
        credentials = f"{proxy.username}:{proxy.password}".encode()
        lines.append(f"Proxy-Authorization: Basic {base64.b64encode(credentials).decode()}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def _ask_socks(
    sock: socket.socket, proxy: Proxy, host: str, port: int, attempt: Attempt
) -> None:
    try:
        from ._socks import SocksError, ask_socks  # noqa: PLC0415 - only an extra installs it
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "python_socks":
            raise
        raise attempt.error(
            "a SOCKS proxy needs python-socks: pip install 'slipstream[proxy]'"
        ) from error
    try:
        await ask_socks(sock, proxy, host, port)
    except SocksError as error:
        raise attempt.error(f"the proxy refused: {error}") from error
