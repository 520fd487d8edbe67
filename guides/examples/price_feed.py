"""Prices that come faster than they can be stored: of each symbol the newest is enough."""

import trio

import slipstream
from slipstream import Config, Reply, SlipstreamClient, coalesce, open_supervisor


def symbol(message):
    """Tell which messages may take each other's place; None: this one is never replaced."""
    return message.payload["symbol"] if message.event == "price" else None


class Feed(SlipstreamClient):
    async def init(self, argument, socket):
        config, self.store = argument
        self.stored = 0
        socket.connect(config)
        socket.join("prices")

    async def handle_messages(self, messages, socket):
        prices = {each.payload["symbol"]: each.payload["price"] for each in messages}
        await self.store(prices)
        self.stored += len(prices)

    async def handle_call(self, request, caller, socket):
        return Reply(self.stored)


def newest(uri, **options):
    """Give a configuration that keeps of each symbol the newest price, once 1000 wait."""
    return Config(uri, inbound_limit=1000, on_overflow=coalesce(symbol), **options)


async def store(prices):
    """Write *prices* to a database that takes a tenth of a second."""
    await trio.sleep(0.1)
    print(len(prices), "prices")


async def main(uri="ws://localhost:4000/socket/websocket"):
    async with open_supervisor([(Feed, (newest(uri), store))]) as supervisor:
        await supervisor.wait()


if __name__ == "__main__":
    slipstream.run(main)
