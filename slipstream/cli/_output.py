"""How commands write what may be much: without blocking."""

import os
from typing import TextIO

import trio

__all__ = ["write_line"]


async def write_line(file: TextIO, line: str) -> None:
    """Write *line*, in a thread: a reader may pause, and Ctrl-C and heartbeats go on.

    Cancelled, it leaves the thread behind, and maybe half a line.
    """
    data = f"{line}\n".encode(file.encoding, "backslashreplace")

    def write() -> None:
        # Not through the file's buffer: a thread left behind would keep its lock, which the end of
        # the interpreter needs.
        rest = data
        while rest:
            rest = rest[os.write(file.fileno(), rest) :]

    await trio.to_thread.run_sync(write, abandon_on_cancel=True)
