"""A whole program: a client, what watches it, and an exit code for whoever started it."""

import logging
import os

from slipstream import GenServer, SlipstreamClient
from slipstream.otp import run

logger = logging.getLogger("service")


class Lobby(SlipstreamClient, name="lobby"):
    async def init(self, config, socket):
        socket.connect(config)
        socket.join("rooms:lobby")


class Watch(GenServer):
    async def init(self, seconds):
        self.send_every(seconds, "look")

    async def handle_info(self, message):
        lobby = self.whereis("lobby")
        if lobby is None:  # it waits for its restart, say
            logger.warning("the client does not run just now")
            return
        health = lobby.health()
        topics = ", ".join(f"{name} {status}" for name, status in health.topics.items())
        logger.info(
            "%s for %.0f s; %s; %s", health.phase, health.since, topics, dict(health.counters)
        )


def children(uri, seconds=60.0):
    return [(Lobby, uri), (Watch, seconds)]


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    run(children(os.environ["LOBBY_URI"]))
