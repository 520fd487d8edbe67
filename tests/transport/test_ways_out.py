"""Every way out of the block, on the raw socket: the code on the wire, the end of TCP, and nothing left.

The server answers a Close or does not, and keeps TCP open: the client has to see to its own end.
"""

import gc
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from slipstream.errors import DisconnectedError
from slipstream.interfaces import Frame, Transport
from tests.transport.support import (
    BINARY,
    CLOSE,
    FIN,
    PATIENCE,
    RST,
    TEXT,
    Connection,
    close_payload,
    connect,
    frame,
    open_sockets_to,
    serving,
)

CLOSE_TIMEOUT = 0.3

Block: TypeAlias = Callable[[], AbstractAsyncContextManager[Transport]]
Way: TypeAlias = Callable[[Block], Awaitable[None]]


async def returned(block: Block) -> None:
    async with block():
        return


async def closed(block: Block) -> None:
    async with block() as transport:
        await transport.close(4001, "mine")


async def failed(block: Block) -> None:
    with pytest.raises(ZeroDivisionError):
        async with block():
            raise ZeroDivisionError


async def cancelled(block: Block) -> None:
    with trio.CancelScope() as scope:
        async with block():
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught


async def cancelled_while_it_receives(block: Block) -> None:
    with trio.CancelScope() as scope:
        async with block() as transport:
            scope.deadline = trio.current_time() + 0.01
            await transport.receive()
    assert scope.cancelled_caught


async def cancelled_because_a_sibling_failed(block: Block) -> None:
    async def fail() -> None:
        await go.wait()
        raise ZeroDivisionError

    go = trio.Event()
    with pytest.RaisesGroup(ZeroDivisionError):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            async with block() as transport:
                go.set()
                await transport.receive()


async def failed_when_cancelled(block: Block) -> None:
    with pytest.raises(ZeroDivisionError), trio.CancelScope() as scope:
        async with block():
            scope.cancel()
            try:
                await trio.sleep_forever()
            finally:
                raise ZeroDivisionError


async def interrupted(block: Block) -> None:
    with pytest.raises(KeyboardInterrupt):
        async with block():
            signal.raise_signal(signal.SIGINT)
            await trio.sleep_forever()


async def aborted(block: Block) -> None:
    async with block() as transport:
        transport.abort()


async def left_by_hand(block: Block) -> None:
    """As by a process whose block is not in one function."""
    by_hand = block()
    await by_hand.__aenter__()
    await by_hand.__aexit__(None, None, None)


WAYS: dict[Way, tuple[int, str]] = {
    returned: (1000, ""),
    closed: (4001, "mine"),
    failed: (1001, ""),
    cancelled: (1001, ""),
    cancelled_while_it_receives: (1001, ""),
    cancelled_because_a_sibling_failed: (1001, ""),
    failed_when_cancelled: (1001, ""),
    interrupted: (1001, ""),
    aborted: (1001, ""),
    left_by_hand: (1000, ""),
}

HURRIED = [cancelled, cancelled_while_it_receives, cancelled_because_a_sibling_failed, aborted]


def name_of(way: Way) -> str:
    return way.__name__


async def taken(way: Way, block: Block) -> float:
    """Take the *way* out of *block*; give the seconds between its opening and its end."""
    started = 0.0

    @asynccontextmanager
    async def timed() -> AsyncGenerator[Transport]:
        nonlocal started
        async with block() as transport:
            started = trio.current_time()
            yield transport

    with trio.fail_after(PATIENCE):
        await way(timed)
    return trio.current_time() - started


@pytest.mark.parametrize("answers", [True, False], ids=["answered", "ignored"])
@pytest.mark.parametrize("way", WAYS, ids=name_of)
async def test_every_way_out_says_its_code_and_ends_tcp(way: Way, answers: bool) -> None:
    """d05, d11, d11b: within close_timeout, and nothing is left for the collector to complain of."""

    async def script(connection: Connection) -> Any:
        await connection.accept()
        close = await connection.read_close()
        if answers:
            await connection.send_frame(CLOSE, close_payload(1000))
        return close, await connection.see_end()

    async with serving(script) as server:
        request = server.request(close_timeout=CLOSE_TIMEOUT)
        assert await taken(way, lambda: connect(request)) < CLOSE_TIMEOUT + 1.0
        assert open_sockets_to(server.port) == []
        close, end = await server.result()
        assert close == WAYS[way]
        # Who is in a hurry may leave an answer unread, and then the kernel says so with an RST.
        assert end == FIN or (end == RST and answers and way in HURRIED)
        assert end.seconds < CLOSE_TIMEOUT + 1.0
    gc.collect()


@pytest.mark.parametrize("way", HURRIED, ids=name_of)
async def test_who_is_cancelled_does_not_wait_for_the_server(way: Way) -> None:
    """d11: a killed process has no time, however long close_timeout is."""

    async def script(connection: Connection) -> Any:
        await connection.accept()
        return await connection.see_close_and_end()

    async with serving(script) as server:
        request = server.request(close_timeout=60.0)
        assert await taken(way, lambda: connect(request)) < 1.0
        close, end = await server.result()
        assert (close, end) == ((1001, ""), FIN)
        assert end.seconds < 1.0


@pytest.mark.parametrize("way", WAYS, ids=name_of)
async def test_behind_half_a_frame_nothing_is_said(way: Way) -> None:
    """d10d, d13: TCP ends by force, within close_timeout; who is cancelled does not even wait for that."""
    left = trio.Event()

    async def script(connection: Connection) -> Any:
        await connection.accept()
        await left.wait()
        return await connection.see_close_and_end()

    async with serving(script) as server:
        close_timeout = 60.0 if way in HURRIED else CLOSE_TIMEOUT
        request = server.request(close_timeout=close_timeout, write_timeout=60.0)

        @asynccontextmanager
        async def torn() -> AsyncGenerator[Transport]:
            async with connect(request) as transport:
                transport.send_nowait(Frame(b"x" * (8 << 20), binary=True))
                await wait_all_tasks_blocked()
                yield transport

        assert await taken(way, torn) < CLOSE_TIMEOUT + 1.0
        assert open_sockets_to(server.port) == []
        left.set()
        close, end = await server.result()
        assert (close, end.how) == (None, "fin")
        assert 0 < len(end.rest) < 8 << 20  # some of the frame, nothing behind it
    gc.collect()


MISTAKES = {
    "protocol": (b"\xff\xff", 1002),
    "encoding": (frame(TEXT, b"\xff"), 1007),
    "size": (frame(BINARY, b"x" * 2000), 1009),
}


@pytest.mark.parametrize("floods", [False, True], ids=["silent", "flooding"])
@pytest.mark.parametrize("mistake", MISTAKES)
async def test_a_server_that_broke_the_rules_is_left_though_it_keeps_tcp(
    mistake: str, floods: bool
) -> None:
    """d08: its code, then the end of TCP; a server that goes on sending sees an RST."""
    sent, code = MISTAKES[mistake]

    async def script(connection: Connection) -> Any:
        await connection.accept(then=sent)
        close = await connection.read_close()
        if floods:
            return close, await connection.send_until_refused(frame(TEXT, b"more") * 1000)
        return close, await connection.see_end()

    async with serving(script) as server:
        request = server.request(max_message_size=1000, close_timeout=CLOSE_TIMEOUT)
        started = trio.current_time()
        async with connect(request) as transport:
            with trio.fail_after(PATIENCE), pytest.raises(DisconnectedError):
                await transport.receive()
        assert trio.current_time() - started < CLOSE_TIMEOUT + 1.0
        assert open_sockets_to(server.port) == []
        close, end = await server.result()
        assert close[0] == code
        assert end == (RST if floods else FIN)
        assert end.seconds < CLOSE_TIMEOUT + 1.0
    gc.collect()


def test_a_signal_at_any_opcode_leaves_the_block_bare_and_no_socket_open() -> None:
    """d11: at every 37th here; the program takes every one with the argument 1."""
    # Two tracers would be in each other's way.
    env = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")}
    ended = subprocess.run(
        [sys.executable, "-m", "tests.transport.interrupted", "37"],
        cwd=Path(__file__).parents[2],
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) > 50


async def test_a_socket_that_is_left_open_is_found() -> None:
    """What the tests here rely on, shown on a client that forgets its socket."""
    async with serving(Connection.see_end) as server:
        async with await trio.open_tcp_stream("127.0.0.1", server.port):
            await wait_all_tasks_blocked()
            found = open_sockets_to(server.port)
        assert found in ([], ["ESTABLISHED"])  # nothing is found but on Linux
        assert open_sockets_to(server.port) == []
