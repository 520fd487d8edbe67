"""A client that the rest of the program can do without: where its settings are wrong it is not started."""

import logging
import os

import slipstream
from slipstream import ConfigError, GenServer, Ignore, SlipstreamClient

logger = logging.getLogger(__name__)


class Uplink(SlipstreamClient):
    async def init(self, settings, socket):
        if not settings:
            logger.warning("no uplink: UPLINK is not set")
            return Ignore()
        try:
            socket.connect(settings)
        except ConfigError as error:
            logger.error("no uplink: %s", error)  # noqa: TRY400 - it says all there is
            return Ignore()
        socket.join("rooms:lobby")
        return None


class Work(GenServer):
    """What this program is for; it goes on in any case."""


if __name__ == "__main__":
    slipstream.run([Work, (Uplink, os.environ.get("UPLINK"))])
