"""A client that tells the rest of the program what it hears; it knows none of those who listen."""

import slipstream
from slipstream import GenServer, Registry, SlipstreamClient, open_supervisor


class Repeater(SlipstreamClient):
    async def init(self, argument, socket):
        config, topics = argument
        socket.connect(config)
        for topic in topics:
            socket.join(topic)

    async def handle_message(self, topic, event, payload, socket):
        def tell(listeners):
            for ref, _ in listeners:
                ref.cast((topic, event, payload))

        self.whereis("listeners").dispatch(topic, tell)


class Listener(GenServer):
    async def init(self, topic):
        self.whereis("listeners").register(topic)

    async def handle_cast(self, message):
        print("heard", *message)


async def main(uri="ws://localhost:4000/socket/websocket"):
    children = [
        Registry.child_spec(name="listeners", keys="duplicate"),
        (Listener, "rooms:lobby"),
        (Repeater, (uri, ["rooms:lobby", "rooms:attic"])),
    ]
    async with open_supervisor(children, strategy="rest_for_one") as supervisor:
        await supervisor.wait()


if __name__ == "__main__":
    slipstream.run(main)
