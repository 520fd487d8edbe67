"""Asks a server for its metrics, again and again."""

import slipstream
from slipstream import SlipstreamClient, open_supervisor


class Metrics(SlipstreamClient):
    async def init(self, argument, socket):
        config, every = argument
        self.asked = None
        self.send_every(every, "ask")
        socket.connect(config)
        socket.join("metrics")  # is remembered, and done when there is a connection

    async def handle_info(self, message, socket):
        self.asked = await socket.push("metrics", "get", {"format": "json"})

    async def handle_reply(self, ref, reply, socket):
        if ref == self.asked and reply.ok:
            print("metrics", reply.response)

    async def handle_push_failed(self, ref, reason, socket):
        print("not asked:", reason)

    async def handle_disconnect(self, reason, socket):
        print("lost:", type(reason).__name__)  # and that is all: a reconnect follows


async def main(uri="ws://localhost:4000/socket/websocket", every=60.0):
    async with open_supervisor([(Metrics, (uri, every))]) as supervisor:
        await supervisor.wait()


if __name__ == "__main__":
    slipstream.run(main)
