import attrs
import trio

import slipstream
from slipstream import GenServer, Reply, SlipstreamClient, on_message, open_supervisor


@attrs.frozen
class NewMessage:
    body: str


class Counter(GenServer, name="counter"):
    async def init(self, start):
        self.count = start

    async def handle_cast(self, message):
        self.count += message

    async def handle_call(self, request, caller):
        return Reply(self.count)


class Lobby(SlipstreamClient):
    async def handle_connect(self, socket):
        socket.join("rooms:lobby")

    @on_message("rooms:*", "new:msg", payload=NewMessage)
    async def count_it(self, topic, message, socket):
        print(topic, "says", message.body)
        self.cast("counter", 1)


async def main(uri="ws://localhost:4000/socket/websocket"):
    async with open_supervisor([(Counter, 0), (Lobby, uri)]) as supervisor:
        while supervisor.alive:
            counter = supervisor.whereis("counter")
            print("messages so far:", await counter.call("count"))
            await trio.sleep(1.0)


if __name__ == "__main__":
    slipstream.run(main)
