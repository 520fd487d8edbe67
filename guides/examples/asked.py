"""A client that is spoken to like any other process: by casts, calls and plain messages."""

import trio

import slipstream
from slipstream import NORMAL, Reply, SlipstreamClient, Stop, open_supervisor


class Subscription(SlipstreamClient, restart="transient"):
    async def handle_cast(self, message, socket):
        match message:
            case ("join", topic):
                socket.join(topic)

    async def handle_call(self, request, caller, socket):
        match request:
            case "ping":
                return Reply("pong")
            case ("join", topic):
                socket.join(topic)
                return Reply(await socket.await_join(topic))
            case _:
                raise ValueError(request)

    async def handle_info(self, message, socket):
        if message == "conclude_subscription":
            return Stop(NORMAL)
        return None


async def main(uri="ws://localhost:4000/socket/websocket"):
    async with open_supervisor([(Subscription, uri)]) as supervisor:
        subscription = supervisor.child(Subscription)
        print(await subscription.call("ping"))
        print(await subscription.call(("join", "rooms:lobby"), timeout=30.0))
        await trio.sleep(60.0)
        subscription.send("conclude_subscription")
        await subscription.wait()


if __name__ == "__main__":
    slipstream.run(main)
