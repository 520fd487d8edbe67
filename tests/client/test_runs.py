"""Many messages in a row: each is handled as if it had come alone."""

from itertools import pairwise
from typing import Any

import pytest
import trio

from slipstream import ConnectError, Message, Socket, Stop
from slipstream.otp import sys
from tests.client.support import Harness, harness, settle, virtual


def run_of(count: int) -> list[Message]:
    return [Message(None, None, "t", "m", number) for number in range(count)]


def numbers(h: Harness) -> list[int]:
    return [payload for _, _, payload in h.of("handle_message")]


def at(number: int, do: Any) -> Any:
    """Give a ``handle_message`` that does something at message *number*."""

    async def handle(client: Any, topic: str, event: str, payload: int, socket: Socket) -> Any:
        return await do(client) if payload == number else None

    return handle


async def _stop(client: Any) -> Stop:
    return Stop()


async def _stop_from_elsewhere(client: Any) -> None:
    client.scripts["stop"]()


@pytest.mark.parametrize("how", [_stop, _stop_from_elsewhere])
def test_a_run_ends_where_the_client_does(how: Any) -> None:
    async def scenario() -> None:
        async with harness({"handle_message": at(3, how)}, restart="temporary") as h:
            end, _ = await h.joined()
            async with trio.open_nursery() as nursery:
                client: Any = h.server.client
                client.scripts["stop"] = lambda: nursery.start_soon(h.ref.stop)
                client.scripts["handle_message"] = at(3, _pausing(how))
                end.send(*run_of(10))
                await trio.sleep(2.0)
            assert numbers(h) == [0, 1, 2, 3]
            assert h.names()[-1] == "terminate"

    virtual(scenario)


def _pausing(how: Any) -> Any:
    async def pausing(client: Any) -> Any:
        result = await how(client)
        await trio.sleep(1.0)
        return result

    return pausing


def test_a_link_error_ends_its_message_only_and_a_bug_the_client() -> None:
    async def fail(client: Any) -> None:
        raise ConnectError("an outage", step="tcp")

    async def crash(client: Any) -> None:
        raise ValueError("a bug")

    async def handle(client: Any, topic: str, event: str, payload: int, socket: Socket) -> None:
        if payload in {2, 6}:
            await (fail if payload == 2 else crash)(client)

    async def scenario() -> None:
        async with harness({"handle_message": handle}) as h:
            end, _ = await h.joined()
            end.send(*run_of(10))
            await settle()
            assert numbers(h) == [*range(7)]
            assert h.names()[-4:] == ["handle_message", "terminate", "init", "handle_connect"]

    virtual(scenario)


def test_each_message_of_a_run_is_counted_and_seen() -> None:
    seen: list[Any] = []

    async def scenario() -> None:
        async with harness() as h:
            end, _ = await h.joined()
            before = h.ref.statistics().handled
            end.send(*run_of(100))
            await settle()
            assert h.ref.statistics().handled == before + 100
            await sys.trace(h.ref, seen.append)
            end.send(*run_of(3))
            await settle()
            assert len(seen) == 6  # each comes, and is done

    virtual(scenario)


def test_what_comes_in_between_keeps_its_place() -> None:
    async def scenario() -> None:
        async with harness() as h:
            end, _ = await h.joined()

            async def note(client: Any, socket: Socket) -> None:
                client.calls.append(("cast",))

            async def hold(client: Any, socket: Socket) -> None:
                await trio.sleep(1.0)

            h.ref.cast(hold)
            await settle()
            end.send(*run_of(2))
            await settle()
            h.ref.cast(note)
            end.send(*run_of(2))
            await trio.sleep(2.0)
            assert h.names()[-5:] == [*["handle_message"] * 2, "cast", *["handle_message"] * 2]

    virtual(scenario)


def test_a_run_lets_others_have_their_turn() -> None:
    turns: list[int] = []

    async def scenario() -> None:
        async with harness() as h:
            end, _ = await h.joined()

            async def watch() -> None:
                while len(numbers(h)) < 1000:
                    turns.append(len(numbers(h)))
                    await trio.lowlevel.checkpoint()

            end.send(*run_of(1000))
            await watch()

    virtual(scenario)
    gaps = [after - before for before, after in pairwise(turns)]
    assert max(gaps) <= 128  # the end of one turn and the beginning of the next


def test_slow_callbacks_do_not_keep_others_waiting() -> None:
    """Each blocks for longer than a turn may take: after each, others have theirs."""
    blocked: list[int] = []

    async def block(client: Any, *_: Any) -> None:
        blocked.append(len(client.calls))
        # The clock stands still in a callback; that of a busy one would not.
        client.scripts["clock"].jump(0.1)

    async def scenario() -> None:
        async with harness({"handle_message": block}) as h:
            end, _ = await h.joined()
            client: Any = h.server.client
            client.scripts["clock"] = trio.lowlevel.current_clock()
            turns: list[int] = []
            end.send(*run_of(40))
            while len(blocked) < 40:
                turns.append(len(blocked))
                await trio.lowlevel.checkpoint()
            assert max(after - before for before, after in pairwise(turns)) <= 2

    virtual(scenario)
