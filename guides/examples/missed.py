"""A client that misses nothing: it says how far it has read, and asks for the rest."""

import slipstream
from slipstream import Config, SlipstreamClient, on_message, open_supervisor


def number(message):
    """Tell what a message is known by on the server; None: nothing of the kind."""
    return message.payload["n"] if message.event == "entry" else None


class Journal(SlipstreamClient):
    async def init(self, uri, socket):
        self.entries = {}
        socket.connect(Config(uri, last_seen=number))
        socket.join("journal", self.since)

    def since(self, context):
        """Give the params of each join; a server that replays by itself needs no more."""
        return {"since": context.last_seen or 0}

    async def handle_gap(self, topic, last_seen, socket):
        missed = await socket.request(topic, "entries", {"since": last_seen or 0})
        for entry in missed.response["entries"]:
            self.entries[entry["n"]] = entry["text"]

    @on_message("journal", "entry")
    async def keep(self, topic, payload, socket):
        self.entries[payload["n"]] = payload["text"]  # by number, so that twice is once


async def main(uri="ws://localhost:4000/socket/websocket"):
    async with open_supervisor([(Journal, uri)]) as supervisor:
        await supervisor.wait()


if __name__ == "__main__":
    slipstream.run(main)
