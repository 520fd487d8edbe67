"""More topics than one connection may join: several clients, each with its part of them."""

from zlib import crc32

import slipstream
from slipstream import Backoff, PartitionSupervisor, SlipstreamClient, open_supervisor

PER_SHARD = 80  # Phoenix lets a connection join 100, and the parts are not quite equal


class Shard(SlipstreamClient):
    async def init(self, argument, socket):
        config, topics = argument
        socket.connect(config)
        for topic in topics:
            socket.join(topic)

    async def handle_cast(self, message, socket):
        topic, event, payload = message
        await socket.push(topic, event, payload, when_unjoined="queue")


def number_of(topic, shards):
    """Tell which of the shards *topic* belongs to: the same one in every run."""
    return crc32(topic.encode()) % shards


def supervise(config, topics, shards):
    """Give the specification of a supervisor of so many shards."""

    def own_part(arguments, number):
        part = [topic for topic in topics if number_of(topic, shards) == number]
        return [(config, part)]  # all arguments of init: of a client's, one

    shard = Shard.child_spec(backoff=Backoff())
    return PartitionSupervisor.child_spec(shard, shards, with_arguments=own_part, name="shards")


def shard_of(tree, topic):
    """Give the client that has *topic*."""
    shards = tree.whereis("shards")
    return shards.partition(number_of(topic, shards.partitions))


async def main(uri="ws://localhost:4000/socket/websocket", count=250):
    topics = [f"rooms:{number}" for number in range(count)]
    async with open_supervisor([supervise(uri, topics, -(-count // PER_SHARD))]) as supervisor:
        shard_of(supervisor, "rooms:7").cast(("rooms:7", "new:msg", {"body": "hello"}))
        await supervisor.wait()


if __name__ == "__main__":
    slipstream.run(main)
