import trio
from first_client import Lobby
from trio.testing import MockClock

from slipstream.testing import open_socket_test


def test_the_lobby_says_hello_and_nothing_else():
    async def scenario():
        async with open_socket_test(Lobby, strict=True) as test:
            await test.connect_and_join("rooms:lobby")
            hello = await test.assert_push("rooms:lobby", "new:msg", {"body": str})
            await test.advance(3600.0)
            await test.reply(hello)

    trio.run(scenario, clock=MockClock())
