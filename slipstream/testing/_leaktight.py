"""What the fixtures of the plugin give: blocks that leave nothing behind."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Unpack

from slipstream.client import SlipstreamClient
from slipstream.otp import ChildKeywords

from ._open_test import URI, open_socket_test
from ._socket_test import SocketTest
from .otp import check_leaks

__all__ = ["open_leaktight"]


@asynccontextmanager
async def open_leaktight(
    client: type[SlipstreamClient],
    argument: Any = URI,
    *,
    strict: bool = False,
    max_restarts: int = 100,
    **overrides: Unpack[ChildKeywords],
) -> AsyncGenerator[SocketTest]:
    """Open a socket test as :func:`open_socket_test` does, and check that it leaves nothing behind."""
    async with (
        check_leaks(),
        open_socket_test(
            client, argument, strict=strict, max_restarts=max_restarts, **overrides
        ) as test,
    ):
        yield test
