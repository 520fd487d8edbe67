"""What the fixtures of the plugin give: blocks that leave nothing behind."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from ._leaks import note_tasks
from ._open_test import open_socket_test
from ._socket_test import SocketTest

__all__ = ["open_leaktight"]

__tracebackhide__ = True  # pytest shows the line of the test


@asynccontextmanager
async def open_leaktight(*args: Any, **options: Any) -> AsyncGenerator[SocketTest]:
    """Open a socket test as :func:`open_socket_test` does, and check that it leaves no task behind."""
    check = note_tasks()
    async with open_socket_test(*args, **options) as test:
        yield test
    await check()
