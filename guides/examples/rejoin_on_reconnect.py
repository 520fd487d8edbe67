"""A client of several topics, which says what it has and what it waits for."""

import slipstream
from slipstream import Config, RejoinPolicy, SlipstreamClient, open_supervisor


class Follower(SlipstreamClient):
    async def init(self, argument, socket):
        config, topics = argument
        socket.connect(config)
        for topic in topics:
            socket.join(topic)

    async def handle_join(self, topic, response, socket):
        print("joined", topic)

    async def handle_topic_close(self, topic, reason, socket):
        print("lost", topic, type(reason).__name__, "and now it is", socket.join_status(topic))

    async def handle_disconnect(self, reason, socket):
        print("disconnected:", ", ".join(f"{name} {is_}" for name, is_ in socket.topics.items()))


async def main(uri="ws://localhost:4000/socket/websocket"):
    config = Config(uri, rejoin=RejoinPolicy(max_joins_per_second=20.0))
    topics = ["rooms:lobby", "rooms:attic", "rooms:cellar"]
    async with open_supervisor([(Follower, (config, topics))]) as supervisor:
        await supervisor.wait()


if __name__ == "__main__":
    slipstream.run(main)
