"""Follows the cursors of a Supabase channel, and moves its own."""

import slipstream
from slipstream import Config, SlipstreamClient, on_message, open_supervisor

ROOM = "realtime:room-1"


class Cursors(SlipstreamClient):
    async def init(self, argument, socket):
        config, self.key = argument
        socket.connect(config)

    async def handle_connect(self, socket):
        settings = {
            "broadcast": {"self": False},
            "presence": {"key": "ann", "enabled": True},
        }
        socket.join(ROOM, {"config": settings, "access_token": self.key})

    async def handle_join(self, topic, response, socket):
        print("subscribed", topic)
        await self.broadcast(socket, "cursor", {"x": 1, "y": 2})
        await socket.push(topic, "presence", {"type": "presence", "event": "track", "payload": {}})

    async def broadcast(self, socket, event, payload):
        message = {"type": "broadcast", "event": event, "payload": payload}
        await socket.push(ROOM, "broadcast", message)

    @on_message(ROOM, "broadcast")
    async def moved(self, topic, payload, socket):
        if payload["event"] == "cursor":
            print("moved", payload["payload"])

    async def handle_presence(self, topic, diff, socket):
        print("here:", ", ".join(sorted(socket.presences(topic))))

    async def handle_topic_close(self, topic, reason, socket):
        print("lost", topic, type(reason).__name__)


async def main(uri="ws://localhost:4000/realtime/v1/websocket", key="anon-key"):
    config = Config(uri, params={"apikey": key}, heartbeat_interval=25.0)
    async with open_supervisor([(Cursors, (config, key))]) as supervisor:
        await supervisor.wait()


if __name__ == "__main__":
    slipstream.run(main)
