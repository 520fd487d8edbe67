"""Typed messages: what comes and what is asked for arrives as objects."""

from typing import Any

import attrs

import slipstream
from slipstream import Caller, PushFailure, Reply, SlipstreamClient, Socket, on_message


@attrs.frozen
class Trade:
    symbol: str
    price: float
    size: int


@attrs.frozen
class Order:
    id: int
    status: str


class Desk(SlipstreamClient, name="desk"):
    async def init(self, config: Any, socket: Socket) -> None:
        self.volume = 0
        socket.connect(config)
        socket.join("orders")
        self.send_every(60.0, "heartbeat")

    @on_message("orders", "trade", payload=Trade)
    async def count(self, topic: str, trade: Trade, socket: Socket) -> None:
        self.volume += trade.size

    async def handle_call(self, request: Any, caller: Caller, socket: Socket) -> Reply:
        order = await socket.request("orders", "buy", request, response=Order, timeout=3.0)
        return Reply(order)  # an Order; what goes wrong is raised where the call was made

    async def handle_info(self, message: Any, socket: Socket) -> None:
        self.beat = await socket.push("orders", "alive", {"volume": self.volume}, timeout=10.0)

    async def handle_push_failed(self, ref: str, reason: PushFailure, socket: Socket) -> None:
        print("not told that we are alive:", type(reason).__name__)


if __name__ == "__main__":
    slipstream.run([(Desk, "ws://localhost:4000/socket/websocket")])
