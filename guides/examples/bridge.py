"""A topic as a trio memory channel, for code that knows nothing of processes."""

from contextlib import asynccontextmanager

import trio

import slipstream
from slipstream import NORMAL, SlipstreamClient, Stop, open_supervisor


class Bridge(SlipstreamClient, restart="transient"):
    async def init(self, argument, socket):
        config, topic, self.send_channel = argument
        socket.connect(config)
        socket.join(topic)

    async def handle_message(self, topic, event, payload, socket):
        try:
            await self.send_channel.send((event, payload))
        except trio.BrokenResourceError:  # nobody reads any more
            return Stop(NORMAL)
        return None


@asynccontextmanager
async def open_bridge(config, topic, buffer=16):
    """Give the messages of *topic*; if there will be none any more, the block is cancelled."""
    send_channel, receive_channel = trio.open_memory_channel(buffer)
    async with open_supervisor([(Bridge, (config, topic, send_channel))]):
        with receive_channel:  # closed before the tree stops, so that no send is in its way
            yield receive_channel


async def main(uri="ws://localhost:4000/socket/websocket"):
    async with open_bridge(uri, "rooms:lobby") as messages:
        async for event, payload in messages:
            print(event, payload)


if __name__ == "__main__":
    slipstream.run(main)
