"""Follows prices; after an outage it asks for what it has missed. It takes whatever comes."""

from slipstream import Reply, SlipstreamClient, on_message


class SteadyTicker(SlipstreamClient):
    async def init(self, config, socket):
        self.seen, self.price = 0, None
        self.send_every(60.0, "report")
        socket.join("prices", lambda: {"since": self.seen})  # asked anew for each join
        socket.connect(config)

    @on_message("prices", "price")
    async def handle_price(self, topic, payload, socket):
        if payload["n"] > self.seen:  # the server may say one twice
            self.seen, self.price = payload["n"], payload["price"]

    async def handle_info(self, message, socket):
        if socket.joined("prices"):
            await socket.push("prices", "report", {"seen": self.seen})

    async def handle_call(self, request, caller, socket):
        return Reply(self.seen)
