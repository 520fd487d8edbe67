"""Thousands of connections, however they end, cost nothing once they have ended."""

import contextlib
import gc
import random
import re
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from slipstream.errors import ConnectError, DisconnectedError
from slipstream.interfaces import Frame
from tests.transport.support import (
    CLOSE,
    PATIENCE,
    TEXT,
    Connection,
    RawServer,
    connect,
    echo_until_close,
    serving,
)

CANCELLED = ["/echo", "/silent", "/trickle", "/flood"]
REFUSED = ["/forbidden", "/endless-refusal", "nobody"]
BROKEN = ["/early-reset", "/early-fin", "/garbage", "/reset", "/fin", "/broken-frame", "/close"]


class Held(NamedTuple):
    """What a process has that could leak."""

    descriptors: int
    tasks: int
    objects: int
    resident: int

    @classmethod
    def now(cls) -> "Held":
        gc.collect()
        gc.collect()  # what the finalizers of the first let go of
        status = Path("/proc/self/status").read_text("ascii")
        [resident] = re.findall(r"VmRSS:\s+(\d+) kB", status)
        return cls(
            descriptors=len(list(Path("/proc/self/fd").iterdir())),
            tasks=trio.lowlevel.current_statistics().tasks_living,
            objects=len(gc.get_objects()),
            resident=int(resident) * 1024,
        )


async def misbehave(connection: Connection) -> str:
    """Do what the path asks for, until the client's end."""
    try:
        what = (await connection.read_request()).split()[1].decode()
    except (AssertionError, trio.BrokenResourceError):
        return "left"
    with contextlib.suppress(trio.BrokenResourceError):
        await _misbehave(connection, what)
    return what


async def _misbehave(connection: Connection, what: str) -> None:
    early = {
        "/forbidden": b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n",
        "/endless-refusal": b"HTTP/1.1 500 Oops\r\n\r\n" + b"x" * 70_000,
        "/garbage": b"garbage",
        "/early-fin": b"HTTP/1.1 101 Swi",
    }
    late = {
        "/broken-frame": b"\xff\xff",
        "/close": b"\x88\x02\x03\xf4",
        "/fin": b"\x81\x05to",
        "/flood": b"\x82\x7e\x10\x00" + b"x" * 4096,
    }
    if what == "/early-reset":
        connection.reset()
        return
    if what in early:
        await connection.send(early[what])
    elif what == "/trickle":
        for byte in connection.switching():
            await connection.send(bytes([byte]))
            await trio.sleep(0.0005)
    elif what != "/silent":
        await connection.send(connection.switching())
        seen = await connection.read_frame()
        if what == "/reset":
            connection.reset()
            return
        if what == "/echo":
            while seen is not None:
                await connection.send_frame(TEXT if seen.opcode == TEXT else CLOSE, seen.payload)
                seen = await connection.read_frame()
        if what == "/flood":
            await connection.send_until_refused(late[what] * 16)
        await connection.send(late.get(what, b""))
    if what in {"/early-fin", "/fin"}:
        await connection.send_eof()
    await connection.read_end()


async def use(server: RawServer, nobody: int, path: str, patience: float) -> str:
    """Use a connection until it ends or *patience* does; tell which."""
    uri = f"ws://127.0.0.1:{nobody}/" if path == "nobody" else f"ws://127.0.0.1:{server.port}{path}"
    request = server.request(uri=uri, connect_timeout=PATIENCE, close_timeout=0.05)
    with trio.move_on_after(patience):
        try:
            async with connect(request) as transport:
                transport.send_nowait(Frame(b"hello"))
                while True:
                    await transport.receive()
                    transport.send_nowait(Frame(b"more"))
                    await transport.wait_room()
        except ConnectError:
            return "refused"
        except DisconnectedError:
            return "broken"
    return "cancelled"


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts in /proc")
async def test_two_thousand_connects_leave_nothing_behind() -> None:
    """No descriptor, no task, no object, no memory: a third is cancelled, refused, broken each."""
    random_ = random.Random(2000)  # noqa: S311 - the same every time is what is wanted
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nobody = listener.socket.getsockname()[1]
    await listener.aclose()
    ends: Counter[str] = Counter()

    async def one(number: int) -> None:
        kind = (CANCELLED, REFUSED, BROKEN)[number % 3]
        patience = random_.uniform(0.0, 0.05) if kind is CANCELLED else PATIENCE
        ends[await use(server, nobody, random_.choice(kind), patience)] += 1

    async def many(count: int) -> None:
        for _ in range(count // 50):
            with trio.fail_after(2 * PATIENCE):
                async with trio.open_nursery() as nursery:
                    for number in range(50):
                        nursery.start_soon(one, number)
            await server.results()

    async with serving(misbehave) as server:
        await many(400)  # what is made once is made, and the allocator has what it needs
        before = Held.now()
        ends.clear()
        await many(2000)
        after = Held.now()
    assert after.descriptors == before.descriptors
    assert after.tasks == before.tasks
    # A connection is made of hundreds of objects: one that stays in ten thousand would show.
    assert after.objects - before.objects < 200
    # Its buffers are at least 64 KiB, 2,000 of them 125 MiB; an allocator may keep a few.
    assert after.resident - before.resident < 16 << 20
    assert sum(ends.values()) == 2000
    assert min(ends[end] for end in ("cancelled", "refused", "broken")) > 300


async def test_an_idle_connection_keeps_nothing_of_what_went_through_it() -> None:
    """Neither the last message written nor the last one read, nor a piece of either."""
    ours = tracemalloc.Filter(inclusive=True, filename_pattern="*/slipstream/*")
    async with serving(echo_until_close) as server, connect(server.request()) as transport:
        tracemalloc.start()
        try:
            transport.send_nowait(Frame(b"x" * (4 << 20), binary=True))
            with trio.fail_after(PATIENCE):
                assert await transport.receive() == [b"x" * (4 << 20)]
            await wait_all_tasks_blocked()
            held = tracemalloc.take_snapshot().filter_traces([ours]).traces
        finally:
            tracemalloc.stop()
        assert sum(trace.size for trace in held) < 64 << 10
