"""The servers of these jobs, each in a process of its own: ``python -m tests.benchmarks.fleets.server``."""

import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import trio

from slipstream.testing import Channel, Ok, PhoenixServer, ServerSocket
from tests.benchmarks.servers import ROOT, Cores, open_servers

__all__ = ["open_fast_server", "open_phoenix"]


class Room(Channel):
    """Lets everyone in."""

    async def join(self, topic: str, payload: Any, socket: ServerSocket, /) -> Ok:
        return Ok()


async def _serve() -> None:
    """Serve until the standard input ends; restart the server for each line that comes."""
    lines = trio.wrap_file(sys.stdin)
    async with PhoenixServer({"*": Room}) as server:
        print(server.url, flush=True)
        async for _ in lines:
            await server.restart(down_for=0.5)
            print("restarted", flush=True)


class Phoenix:
    """A Phoenix server in another process."""

    def __init__(self, url: str, process: "subprocess.Popen[str]") -> None:
        self.url = url
        self._process = process

    def restart(self) -> None:
        """Have it close all connections with 1012, and be away for half a second."""
        assert self._process.stdin is not None
        self._process.stdin.write("restart\n")
        self._process.stdin.flush()


@asynccontextmanager
async def open_phoenix() -> AsyncGenerator[Phoenix]:
    """Run one for as long as the block lasts."""
    command = [sys.executable, "-m", "tests.benchmarks.fleets.server"]
    with subprocess.Popen(  # noqa: S603, ASYNC220 - our own; there is nothing else to do meanwhile
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        try:
            assert process.stdout is not None
            yield Phoenix(process.stdout.readline().strip(), process)
        finally:
            process.kill()


@contextmanager
def open_fast_server() -> Generator[str]:
    """Run the server in C for as long as the block lasts; give its URI."""
    with (
        tempfile.TemporaryDirectory() as folder,
        open_servers(Path(folder), Cores.choose()) as all_,
    ):
        yield all_.plain


if __name__ == "__main__":
    trio.run(_serve)
