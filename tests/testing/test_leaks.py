"""What is left behind is named; what is another's is not."""

import socket
from contextlib import AsyncExitStack
from typing import Any

import pytest
import trio

from slipstream.otp import open_server, open_supervisor
from slipstream.testing.otp import check_leaks, live_tasks
from tests.otp.support import Puppet, puppet


async def test_what_ends_with_its_block_is_no_leak(autojump_clock: Any) -> None:
    async with check_leaks():
        async with open_server(Puppet), open_supervisor([puppet("a")]):
            assert any("Puppet" in name for name in live_tasks())
        with socket.socket():
            pass


async def test_a_nursery_and_a_process_that_are_not_closed_are_named(autojump_clock: Any) -> None:
    async with AsyncExitStack() as stack:
        with pytest.raises(AssertionError, match=r"left behind:\n  task Puppet$"):
            async with check_leaks():
                await stack.enter_async_context(open_server(Puppet))
    async with AsyncExitStack() as stack:
        with pytest.raises(AssertionError, match=r"left behind:\n  task trio.sleep_forever$"):
            async with check_leaks():
                nursery = await stack.enter_async_context(trio.open_nursery())
                nursery.start_soon(trio.sleep_forever, name="trio.sleep_forever")
        nursery.cancel_scope.cancel()


async def test_a_system_task_is_named(autojump_clock: Any) -> None:
    scope = trio.CancelScope()

    async def stay() -> None:
        with scope:
            await trio.sleep_forever()

    with pytest.raises(AssertionError, match=r"left behind:\n  task .*stay"):
        async with check_leaks():
            trio.lowlevel.spawn_system_task(stay)
    scope.cancel()


async def test_a_task_of_a_nursery_outside_is_that_nursery_s(
    autojump_clock: Any, nursery: trio.Nursery
) -> None:
    async with trio.open_nursery() as own, check_leaks():
        own.start_soon(trio.sleep_forever)
        nursery.start_soon(trio.sleep_forever)
        await trio.sleep(1.0)
        own.cancel_scope.cancel()


async def test_an_open_socket_is_named_with_its_address(autojump_clock: Any) -> None:
    left: list[socket.socket] = []
    with pytest.raises(AssertionError, match=r"left behind:\n  socket \d+, at \('127\.0\.0\.1'"):
        async with check_leaks():
            left.append(socket.create_server(("127.0.0.1", 0)))
    left[0].close()


async def test_a_block_that_raises_is_not_checked(autojump_clock: Any) -> None:
    with pytest.raises(ZeroDivisionError):
        async with check_leaks():
            raise ZeroDivisionError
