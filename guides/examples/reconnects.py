"""Counts the reconnects that clients plan, for whoever collects metrics."""

from collections import Counter
from typing import Any

from slipstream import SlipstreamClient, Socket, run, telemetry

reconnects: Counter[str] = Counter()


def count(event: str, data: dict[str, Any]) -> None:
    reconnects[data["client"]] += 1
    print(f"{data['client']}: {data['reason']}, again in {data['delay']:.1f} s")


class Lobby(SlipstreamClient, name="lobby"):
    async def init(self, config: Any, socket: Socket) -> None:
        socket.connect(config)


if __name__ == "__main__":
    telemetry.attach("reconnects", "slipstream.connection.reconnect", count)
    run([(Lobby, "ws://localhost:4000/socket/websocket")])
