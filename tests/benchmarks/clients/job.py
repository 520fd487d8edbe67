"""What a client is asked to do, and the stopwatch that it does it by."""

import gc
import os
import ssl
import time
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlsplit

import attrs

__all__ = ["BURST", "CALLERS", "SMALL", "STATM", "WARM_CONNECTIONS", "Job", "Stopwatch"]

SMALL = 150
"""Bytes of a small message."""

CALLERS = 64
"""So many call at the same time."""

BURST = 64
"""So many messages are sent before the sender looks whether there is room."""

WARM_CONNECTIONS = 10
"""So many are opened before the memory of the others is measured."""

STATM = Path("/proc/self/statm")


class Stopwatch:
    """Measures the block that it is entered for: time, this process's CPU time, its memory's growth."""

    def __init__(self) -> None:
        self.seconds = self.cpu_seconds = 0.0
        self.resident_bytes = 0

    def __enter__(self) -> Self:
        gc.collect()
        self.resident_bytes = -_resident_bytes()
        self.cpu_seconds = -time.process_time()
        self.seconds = -time.perf_counter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.seconds += time.perf_counter()
        self.cpu_seconds += time.process_time()
        gc.collect()
        self.resident_bytes += _resident_bytes()


def _resident_bytes() -> int:
    if not STATM.exists():
        return 0
    return int(STATM.read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


@attrs.frozen
class Job:
    """One pass: *count* messages, calls or connections, with the server at *uri*.

    *tuned* asks for the library's own arguments that make it faster, where it has such.
    """

    uri: str
    count: int
    watch: Stopwatch
    ssl_context: ssl.SSLContext | None = None
    tuned: bool = False

    @property
    def size(self) -> int:
        """The bytes of a message that the server was asked for."""
        return int(parse_qs(urlsplit(self.uri).query)["size"][0])

    def messages(self) -> list[str]:
        """Give the messages of a sender or a caller: small, and numbered."""
        return [f"{number:<{SMALL}}" for number in range(self.count)]
