"""One client for each topic that somebody follows: started, found and stopped by its topic."""

import slipstream
from slipstream import (
    NORMAL,
    AlreadyStartedError,
    DynamicSupervisor,
    Registry,
    SlipstreamClient,
    Stop,
    Via,
    open_supervisor,
)


class Follower(SlipstreamClient, restart="transient"):
    async def init(self, argument, socket):
        config, topic = argument
        socket.connect(config)
        socket.join(topic)

    async def handle_message(self, topic, event, payload, socket):
        print(topic, event, payload)

    async def handle_topic_close(self, topic, reason, socket):
        if socket.join_status(topic) == "closed":  # for good: it will not be joined again
            return Stop(NORMAL)
        return None


async def follow(tree, config, topic):
    """Give the client of *topic*, which is started unless it is there."""
    spec = Follower.child_spec((config, topic), name=Via("topics", topic))
    try:
        return await tree.whereis("followers").start_child(spec)
    except AlreadyStartedError as error:
        return error.ref


async def unfollow(tree, topic):
    """Have the client of *topic* leave and end, if there is one."""
    follower = tree.whereis(Via("topics", topic))
    if follower is not None:
        await tree.whereis("followers").terminate_child(follower)


CHILDREN = [Registry.child_spec(name="topics"), DynamicSupervisor.child_spec(name="followers")]


async def main(config="ws://localhost:4000/socket/websocket"):
    async with open_supervisor(CHILDREN, strategy="rest_for_one") as supervisor:
        await follow(supervisor, config, "rooms:lobby")
        await follow(supervisor, config, "rooms:attic")
        await supervisor.wait()


if __name__ == "__main__":
    slipstream.run(main)
