"""A script that reads along: no class, no tree."""

import sys

import trio

from slipstream import DisconnectedError, open_socket


async def main(uri="ws://localhost:4000/socket/websocket", count=10):
    async with open_socket(uri) as socket:
        socket.join("rooms:lobby")
        async with socket.messages("rooms:lobby", "new:msg", limit=100) as messages:
            await socket.await_join("rooms:lobby")
            try:
                async for message in messages:
                    print(message.payload["body"])
                    count -= 1
                    if not count:
                        break
            except DisconnectedError as error:
                print("cut off:", type(error.reason).__name__, file=sys.stderr)
        if messages.dropped:
            print(messages.dropped, "came too fast", file=sys.stderr)


if __name__ == "__main__":
    trio.run(main)
