"""A client in a tree: it joins a topic, greets whoever is there, and counts what it hears."""

import slipstream
from slipstream import Reply, SlipstreamClient


class Greeter(SlipstreamClient, name="greeter"):
    async def init(self, config, socket):
        self.heard = 0
        socket.connect(config)
        socket.join("rooms:lobby")

    async def handle_join(self, topic, response, socket):
        reply = await socket.request(topic, "new:msg", {"body": "hello"})
        print(topic, "answers", reply.status)

    async def handle_message(self, topic, event, payload, socket):
        self.heard += 1
        print(topic, event, payload)

    async def handle_disconnect(self, reason, socket):
        print("disconnected:", reason)

    async def handle_call(self, request, caller, socket):
        return Reply(self.heard)


if __name__ == "__main__":
    slipstream.run([(Greeter, "ws://localhost:4000/socket/websocket")])
