"""Books each sale, though the connection comes and goes: python till.py"""

import uuid

import slipstream
from slipstream import SlipstreamClient, open_supervisor


class Till(SlipstreamClient):
    async def init(self, config, socket):
        self.unbooked = {}  # by the number of the sale
        self.under_way = {}  # by the ref of the push
        socket.connect(config)
        socket.join("till")

    async def handle_join(self, topic, response, socket):
        waiting = [each for each in self.unbooked if each not in self.under_way.values()]
        for number in waiting:
            await self.book(number, socket)

    async def handle_cast(self, sale, socket):
        number = str(uuid.uuid4())  # by which the server knows a sale that comes twice
        self.unbooked[number] = sale
        await self.book(number, socket)

    async def book(self, number, socket):
        sale = {"number": number, **self.unbooked[number]}
        ref = await socket.push("till", "book", sale, timeout=5.0)
        self.under_way[ref] = number

    async def handle_reply(self, ref, reply, socket):
        sale = self.unbooked.pop(self.under_way.pop(ref))
        print("booked", sale)

    async def handle_push_failed(self, ref, reason, socket):
        number = self.under_way.pop(ref)
        print("not booked yet:", type(reason).__name__)
        if socket.joined("till"):  # else the next join books it
            await self.book(number, socket)


async def main(uri="ws://localhost:4000/socket/websocket"):
    async with open_supervisor([(Till, uri)]) as supervisor:
        supervisor.child(Till).cast({"item": "tea", "price": 2.5})
        await supervisor.wait()


if __name__ == "__main__":
    slipstream.run(main)
