"""Who reads: the receiver itself, and a stand-in while it is away. Nothing is lost between them."""

import random

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from slipstream.errors import DisconnectedError
from slipstream.interfaces import Frame
from slipstream.reasons import ClosedByClient
from tests.transport.support import (
    PATIENCE,
    PING,
    PONG,
    TEXT,
    Connection,
    Seen,
    connect,
    frame,
    serving,
)


@pytest.mark.parametrize("seed", range(5))
async def test_a_receiver_that_comes_and_goes_gets_everything_in_order(seed: int) -> None:
    """It is cancelled, or away for longer than the stand-in waits, at random."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    count = 300

    async def script(connection: Connection) -> None:
        await connection.accept(then=frame(TEXT, b"early"))
        for number in range(count):
            await connection.send_frame(TEXT, str(number).encode())
            if chance.random() < 0.2:
                await connection.send_frame(PING, b"p")
            await trio.sleep(chance.choice([0, 0, 0.0005, 0.002]))
        await connection.read_close()

    got: list[str | bytes] = []
    async with serving(script) as server, connect(server.request()) as transport:
        with trio.fail_after(3 * PATIENCE):
            while len(got) <= count:
                with trio.move_on_after(chance.choice([0.0001, 0.001, 0.01, 1.0])):
                    got += await transport.receive()
                if chance.random() < 0.1:
                    await trio.sleep(chance.choice([0.001, 0.008]))
    assert got == ["early", *map(str, range(count))]


async def test_who_waits_learns_of_our_own_close_and_the_servers_answer_is_read() -> None:
    async def script(connection: Connection) -> tuple[int | None, str] | None:
        await connection.accept()
        return await connection.read_close()

    async def wait() -> None:
        with pytest.raises(DisconnectedError) as caught:
            await transport.receive()
        reasons.append(caught.value.reason)

    reasons: list[object] = []
    async with serving(script) as server, connect(server.request()) as transport:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await wait_all_tasks_blocked()
            with trio.fail_after(PATIENCE):
                await transport.close(4001)
        assert reasons == [ClosedByClient()]
        assert await server.result() == (4001, "")


async def test_a_ping_that_comes_while_the_receiver_waits_is_answered_and_it_waits_on() -> None:
    async def script(connection: Connection) -> Seen | None:
        await connection.accept()
        await connection.read_frame()
        await connection.send_frame(PING, b"p")
        pong = await connection.read_frame()
        await connection.send_frame(TEXT, b"after")
        await connection.read_close()
        return pong

    async with serving(script) as server:
        async with connect(server.request()) as transport:
            transport.send_nowait(Frame(b"go"))
            with trio.fail_after(PATIENCE):
                assert await transport.receive() == ["after"]
        assert await server.result() == Seen(PONG, b"p")


async def test_a_receiver_that_comes_just_as_the_stand_in_goes_on_does_not_read_beside_it() -> None:
    """The inbox was full, the receiver has emptied it, and both would read what is left."""
    count = 400

    async def script(connection: Connection) -> None:
        await connection.accept()
        await connection.send(frame(TEXT, b"x" * 1000) * count)
        await connection.read_frame()
        await connection.send_frame(TEXT, b"last")
        await connection.read_close()

    async with serving(script) as server, connect(server.request()) as transport:
        await trio.sleep(0.1)  # until the kernel has it all, and the stand-in waits for room
        got: list[str | bytes] = []
        with trio.fail_after(PATIENCE):
            while len(got) < count:
                got += await transport.receive()
            transport.send_nowait(Frame(b"go on"))
            assert await transport.receive() == ["last"]
