"""Names of hosts, without a name server."""

import socket
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio

__all__ = ["names"]


class Names(trio.abc.HostnameResolver):
    """Knows a few names, each with its addresses; others fail, and "slow" is never answered."""

    def __init__(self, **names: Sequence[str]) -> None:
        self.names = names

    async def getaddrinfo(
        self,
        host: bytes | None,
        port: bytes | str | int | None,
        family: int = 0,
        type: int = 0,  # noqa: A002 - the interface's name
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        assert host is not None
        if host == b"slow":
            await trio.sleep_forever()
        if host.decode() not in self.names:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port))
            for address in self.names[host.decode()]
        ]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        raise NotImplementedError


@asynccontextmanager
async def names(**known: Sequence[str]) -> AsyncGenerator[None]:
    before = trio.socket.set_custom_hostname_resolver(Names(**known))
    try:
        yield
    finally:
        trio.socket.set_custom_hostname_resolver(before)
