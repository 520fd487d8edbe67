import slipstream
from slipstream import SlipstreamClient, open_supervisor


class Lobby(SlipstreamClient):
    async def handle_connect(self, socket):
        socket.join("rooms:lobby", {"user": 1})

    async def handle_join(self, topic, response, socket):
        await socket.push(topic, "new:msg", {"body": "hello"})

    async def handle_message(self, topic, event, payload, socket):
        print(topic, event, payload)


async def main():
    async with open_supervisor([(Lobby, "ws://localhost:4000/socket/websocket")]) as supervisor:
        await supervisor.wait()


if __name__ == "__main__":
    slipstream.run(main)
