"""A client that lives as long as a web server does; for Starlette, and its like, on trio."""

from contextlib import asynccontextmanager

from slipstream import ServerGoneError, SlipstreamClient, open_supervisor

URI = "ws://localhost:4000/socket/websocket"


class Announcer(SlipstreamClient, shutdown=5.0):
    async def init(self, config, socket):
        socket.connect(config)
        socket.join("rooms:lobby")

    async def handle_cast(self, text, socket):
        await socket.push("rooms:lobby", "new:msg", {"body": text}, when_unjoined="queue")

    async def terminate(self, reason, socket):
        if socket.joined("rooms:lobby"):
            await socket.request("rooms:lobby", "new:msg", {"body": "bye"}, timeout=2.0)


@asynccontextmanager
async def lifespan(app, config=URI):
    """Run the tree round the server: ``Starlette(routes=…, lifespan=lifespan)``."""
    children = [Announcer.child_spec(config, drain=True)]
    async with open_supervisor(children, shutdown=10.0) as supervisor:
        yield {"announcer": supervisor.child(Announcer)}  # what handlers find in request.state


def healthz(state):
    """Give the status and the body of an answer to whoever watches the server."""
    try:
        health = state["announcer"].health()
    except ServerGoneError:  # it waits for its restart, say
        return 503, {"phase": "down"}
    return (200 if health.connected else 503), health.as_dict()
