import slipstream
from slipstream import Config, SlipstreamClient, open_supervisor


class Lobby(SlipstreamClient):
    async def handle_connect(self, socket):
        print("connected")
        socket.join("rooms:lobby")

    async def handle_join(self, topic, response, socket):
        print("joined", topic)

    async def handle_disconnect(self, reason, socket):
        print("disconnected:", type(reason).__name__)

    async def handle_topic_close(self, topic, reason, socket):
        print("lost", topic, type(reason).__name__)

    async def handle_info(self, message, socket):
        raise ValueError(message)

    async def terminate(self, reason, socket):
        print("terminating:", type(reason).__name__)


async def main(uri="ws://localhost:4000/socket/websocket"):
    config = Config(uri, reconnect=[0.1, 0.5, 1.0], rejoin=[0.1, 0.5, 1.0])
    async with open_supervisor([(Lobby, config)]) as supervisor:
        supervisor.child(Lobby).send_after(1.0, "a bug")
        await supervisor.wait()


if __name__ == "__main__":
    slipstream.run(main)
