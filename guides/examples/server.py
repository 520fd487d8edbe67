"""A Phoenix server to play with: python server.py"""

import trio

import slipstream
from slipstream.testing import Channel, Ok, PhoenixServer


class Room(Channel):
    async def join(self, topic, payload, socket):
        return Ok({"welcome": topic})

    async def handle_in(self, event, payload, socket):
        if event == "new:msg":
            self.broadcast("new:msg", payload)
            return Ok({"seen": True})
        if event == "crash":
            raise RuntimeError("as you wished")


async def main(port=4000):
    async with PhoenixServer({"rooms:*": Room}, port=port) as server:
        print("listening on", server.url)
        await trio.sleep_forever()


if __name__ == "__main__":
    slipstream.run(main)
