"""A client whose token runs out: each attempt to connect, and each join, asks for one."""

import slipstream
from slipstream import Config, ConnectFailed, SlipstreamClient, open_supervisor


class Member(SlipstreamClient):
    async def init(self, argument, socket):
        uri, self.fetch_token = argument
        socket.connect(Config(uri, params=self.credentials))
        socket.join("rooms:lobby", self.credentials)

    async def credentials(self):
        return {"token": await self.fetch_token()}

    async def handle_disconnect(self, reason, socket):
        match reason:
            case ConnectFailed(status=403):
                print("refused; trying again with a new token")


async def fetch_token():
    """Ask whoever signs tokens; over HTTP, say."""
    return "a token"


async def main(uri="ws://localhost:4000/socket/websocket"):
    async with open_supervisor([(Member, (uri, fetch_token))]) as supervisor:
        await supervisor.wait()


if __name__ == "__main__":
    slipstream.run(main)
