"""A chat: greets, prints what is said, and knows who is there."""

import slipstream
from slipstream import (
    Config,
    LinkError,
    SlipstreamClient,
    on_message,
    open_supervisor,
)

ROOM = "rooms:lobby"


class Chat(SlipstreamClient):
    async def handle_connect(self, socket):
        socket.join(ROOM, {"user": "ann"})

    async def handle_join(self, topic, response, socket):
        try:
            reply = await socket.request(topic, "new:msg", {"body": "hello"}, timeout=5.0)
            print("said" if reply.ok else "refused", reply.response)
        except LinkError as error:
            print("not said:", error)

    @on_message(ROOM, "new:msg")
    async def print_it(self, topic, payload, socket):
        print(payload["user"], "says", payload["body"])

    async def handle_presence(self, topic, diff, socket):
        print("here:", ", ".join(sorted(socket.presences(topic))))

    async def handle_topic_close(self, topic, reason, socket):
        print("out:", reason)

    async def handle_disconnect(self, reason, socket):
        print("lost:", type(reason).__name__)


async def fetch_token():
    return "a fresh one"


async def main(uri="ws://localhost:4000/socket/websocket"):
    config = Config(uri, auth_token=fetch_token)
    async with open_supervisor([(Chat, config)]) as supervisor:
        await supervisor.wait()


if __name__ == "__main__":
    slipstream.run(main)
