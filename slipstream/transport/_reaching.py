"""How the server is reached: directly over TCP, through a proxy, or by a Unix-domain socket."""

import os
import socket
from collections.abc import Sequence
from typing import Any, TypeAlias

import trio
from trio.lowlevel import enable_ki_protection

from slipstream.config import check_unix_socket, parse_proxy
from slipstream.errors import ConfigError
from slipstream.interfaces import ConnectRequest

from ._attempt import Attempt, Target
from ._lifecycle import bare
from ._proxies import ask_proxy

__all__ = ["reach"]

NEXT_ADDRESS_AFTER = 0.25
"""Seconds until the next address is tried beside the last (RFC 8305, "Happy Eyeballs")."""

UNIX_RETRY = 0.05
"""Seconds until a Unix-domain socket whose queue is full is asked again."""

_Address: TypeAlias = tuple[int, int, int, tuple[Any, ...]]


async def reach(target: Target, request: ConnectRequest, attempt: Attempt) -> socket.socket:
    """Give a connected, non-blocking socket. Cancelled or failed, it leaves nothing open.

    Raises:
        ConnectError: with the step and the cause.
    """
    if request.proxy is not None:
        attempt.step = "proxy"
        if request.unix_socket is not None:
            raise attempt.error("the request has a proxy and a Unix-domain socket")
        return await _go_through(request.proxy, target, attempt)
    if request.unix_socket is not None:
        attempt.step = "unix"
        return await _dial_unix(request.unix_socket, attempt)
    attempt.step = "dns"
    addresses = await _look_up(target.host, target.port, attempt)
    attempt.step = "tcp"
    return await _dial(addresses, attempt)


async def _go_through(url: str, target: Target, attempt: Attempt) -> socket.socket:
    """Reach *target* through the proxy at *url*."""
    try:
        proxy = parse_proxy(url)
    except ValueError as error:
        raise attempt.error(f"the proxy's URL cannot be used: {error}") from error
    attempt.where += f" through the proxy {proxy}"
    host = target.host
    if proxy.scheme in {"socks4", "socks5"}:
        # As in curl, whose words these are: with "socks4a" and "socks5h" the proxy looks it up.
        attempt.step = "dns"
        found = await _look_up(host, target.port, attempt)
        # SOCKS 4 has no other addresses, and a proxy for SOCKS 5 may have none.
        host = min(found, key=lambda each: each[0] != socket.AF_INET)[3][0]
        attempt.step = "proxy"
    sock = await _dial(await _look_up(proxy.host, proxy.port, attempt), attempt)
    try:
        await ask_proxy(sock, proxy, host, target.port, attempt)
    except BaseException:
        sock.close()
        raise
    return sock


async def _look_up(host: str, port: int, attempt: Attempt) -> list[_Address]:
    try:
        found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise attempt.error(f"no address for {host!r}: {error}") from error
    if not found:  # a resolver of one's own may say so
        raise attempt.error(f"no address for {host!r}")
    return [(family, kind, number, where) for family, kind, number, _, where in found]


async def _dial(addresses: Sequence[_Address], attempt: Attempt) -> socket.socket:
    """Connect to the first of *addresses* that answers."""
    if len(addresses) == 1:
        try:
            return await _dial_one(addresses[0])
        except OSError as error:
            raise attempt.error(str(error)) from error
    errors: list[OSError] = []
    winners: list[socket.socket] = []

    @enable_ki_protection  # between a socket and the list of those that get closed
    async def try_one(address: _Address, over: trio.Event) -> None:
        try:
            winners.append(await _dial_one(address))
        except OSError as error:
            errors.append(error)
            over.set()
        else:
            nursery.cancel_scope.cancel()

    try:
        async with trio.open_nursery() as nursery:
            for address in addresses:
                over = trio.Event()
                nursery.start_soon(try_one, address, over)
                with trio.move_on_after(NEXT_ADDRESS_AFTER):
                    await over.wait()
    except BaseException as error:  # noqa: BLE001 - raised again, when everything is closed
        for winner in winners:
            winner.close()
        raise bare(error) from None
    if not winners:
        cause = ExceptionGroup("no address answered", errors)
        raise attempt.error("; ".join(dict.fromkeys(map(str, errors)))) from cause
    for loser in winners[1:]:
        loser.close()
    return winners[0]


async def _dial_one(address: _Address) -> socket.socket:
    *kind, where = address
    sock = socket.socket(*kind)
    try:
        # It makes the socket non-blocking, too.
        await trio.socket.from_stdlib_socket(sock).connect(where)
    except BaseException:
        sock.close()
        raise
    return sock


async def _dial_unix(given: str | os.PathLike[str], attempt: Attempt) -> socket.socket:
    try:
        path = check_unix_socket(given, of="ConnectRequest")
    except ConfigError as error:
        raise attempt.error(str(error)) from error
    attempt.where += f" through the socket {path!r}"
    await trio.lowlevel.checkpoint()
    try:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(0)
            while not _has_room(sock, path):  # noqa: ASYNC110 - nothing tells when there is room
                await trio.sleep(UNIX_RETRY)
        except BaseException:
            sock.close()
            raise
    except OSError as error:
        raise attempt.error(str(error)) from error
    return sock


def _has_room(sock: socket.socket, path: str) -> bool:
    """Connect, unless the queue of those who wait to be accepted is full.

    Linux does not tell when there is room in it, and calls the socket writable meanwhile (so that
    trio would take it for connected).
    """
    try:
        sock.connect(path)
    except BlockingIOError:
        return False
    return True
