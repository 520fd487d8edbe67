import slipstream
from slipstream import SlipstreamClient, open_supervisor


class Lobby(SlipstreamClient):
    async def handle_connect(self, socket):
        socket.join("rooms:lobby")

    async def handle_join(self, topic, response, socket):
        print("joined", topic, response)
        reply = await socket.request(topic, "new:msg", {"body": "hello"})
        print("the server says", reply.response)

    async def handle_message(self, topic, event, payload, socket):
        print("heard", event, payload)


async def main(uri="ws://localhost:4000/socket/websocket"):
    async with open_supervisor([(Lobby, uri)]) as supervisor:
        await supervisor.wait()


if __name__ == "__main__":
    slipstream.run(main)
