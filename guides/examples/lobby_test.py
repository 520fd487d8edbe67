import trio
from first_client import Lobby

from slipstream import open_supervisor
from slipstream.testing import Channel, Ok, PhoenixServer


class Room(Channel):
    async def handle_in(self, event, payload, socket):
        return Ok({"echo": payload})


async def test_the_lobby_says_hello_and_comes_back():
    with trio.fail_after(10):
        async with PhoenixServer({"rooms:*": Room}) as server:
            async with open_supervisor([(Lobby, server.url)]):
                await server.wait_joined("rooms:lobby")
                await server.wait_until(lambda: server.frames[-1].payload == {"body": "hello"})
                server.drop()
                await server.wait_connections(0)
                await server.wait_joined("rooms:lobby")
