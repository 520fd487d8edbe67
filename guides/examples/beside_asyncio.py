"""A client in a program for asyncio: in a thread of its own, with messages both ways."""

import asyncio
from functools import partial

import trio

from slipstream import SlipstreamClient, open_supervisor


class Lobby(SlipstreamClient):
    async def init(self, argument, socket):
        uri, self.heard = argument
        socket.connect(uri)
        socket.join("rooms:lobby")

    async def handle_message(self, topic, event, payload, socket):
        self.heard((event, payload))

    async def handle_cast(self, message, socket):
        await socket.push("rooms:lobby", "new:msg", message, when_unjoined="queue")


async def serve(uri, heard, started):
    with trio.CancelScope() as scope:
        async with open_supervisor([(Lobby, (uri, heard))]) as supervisor:
            started((trio.lowlevel.current_trio_token(), scope, supervisor.child(Lobby)))
            await supervisor.wait()


async def main(uri="ws://localhost:4000/socket/websocket"):
    loop = asyncio.get_running_loop()
    inbox, started = asyncio.Queue(), loop.create_future()
    heard = partial(loop.call_soon_threadsafe, inbox.put_nowait)
    thread = asyncio.to_thread(
        trio.run, serve, uri, heard, partial(loop.call_soon_threadsafe, started.set_result)
    )
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(thread)
        token, scope, lobby = await started
        token.run_sync_soon(lobby.cast, {"body": "from asyncio"})
        print("heard", *await inbox.get())
        token.run_sync_soon(scope.cancel)


if __name__ == "__main__":
    asyncio.run(main())
