"""SOCKS, by python-socks, on a connection that is ours. Needs the extra ``proxy``."""

import math
import socket
from typing import Any

import trio
from python_socks import ProxyError, ProxyType
from python_socks.async_.trio import Proxy as SocksProxy

from slipstream.config import Proxy

__all__ = ["SocksError", "ask_socks"]


class SocksError(Exception):
    """The proxy refused, or what it said is not SOCKS."""


class _Connected(SocksProxy):
    """A chain of proxies begins here: with a connection that is there already.

    python-socks would try one address only. And this way the socket stays ours to close.
    """

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(ProxyType.SOCKS5, "", 0)
        self._ours = trio.socket.from_stdlib_socket(sock)

    async def connect(
        self,
        dest_host: str,
        dest_port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the signature is python-socks's
        **kwargs: Any,
    ) -> trio.socket.SocketType:
        await trio.lowlevel.checkpoint()
        return self._ours


async def ask_socks(sock: socket.socket, proxy: Proxy, host: str, port: int) -> None:
    """Let *proxy*, to which *sock* is connected, connect it to *host*: a name, or an address.

    *sock* may be closed where this raises.

    Raises:
        SocksError: if it does not.
        OSError: if the connection broke.
    """
    client = SocksProxy(
        ProxyType.SOCKS4 if proxy.scheme.startswith("socks4") else ProxyType.SOCKS5,
        proxy.host,
        proxy.port,
        proxy.username,
        proxy.password,
        rdns=True,  # where the name is to be looked up here, it has been
        forward=_Connected(sock),
    )
    try:
        # A deadline is the caller's; without one here it would be a minute.
        await client.connect(host, port, timeout=math.inf)
    except ProxyError as error:
        raise SocksError(str(error)) from error
    except ValueError as error:
        # A name that it cannot send, and bytes that it trips over, such as a bound name in no UTF-8.
        raise SocksError(str(error)) from error
