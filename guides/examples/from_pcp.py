"""Prints who joins a room and what is said there."""

import slipstream
from slipstream import Config, SlipstreamClient, on_message, open_supervisor

ROOM = "room:lobby"


class Listener(SlipstreamClient):
    async def handle_connect(self, socket):
        socket.join(ROOM)

    @on_message(ROOM, "user_join")
    async def joined(self, topic, payload, socket):
        print("joined:", payload["name"])

    async def handle_message(self, topic, event, payload, socket):
        print("other:", event, payload)

    async def handle_topic_close(self, topic, reason, socket):
        print("dropped:", topic, reason)


async def main(uri="ws://localhost:4000/socket/websocket", key="secret"):
    config = Config(uri, params={"api_key": key})
    async with open_supervisor([(Listener, config)]) as supervisor:
        await supervisor.wait()


if __name__ == "__main__":
    slipstream.run(main)
