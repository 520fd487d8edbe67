"""A basket that is loaded before the first question, and saved when nobody comes any more."""

import trio

from slipstream.otp import GenServer, NoReply, Reply, Stop, Timeout, open_server, run


class Basket(GenServer):
    async def init(self, user):
        self.user = user
        return NoReply(continue_with="load")

    async def handle_continue(self, argument):
        await trio.sleep(0.5)  # ask a database
        self.items = ["tea"]
        return NoReply(timeout=10.0)

    async def handle_call(self, request, caller):
        match request:
            case ("add", item):
                self.items.append(item)
                return Reply(len(self.items), timeout=10.0)
            case "items":
                return Reply(list(self.items), timeout=10.0)
            case _:
                raise ValueError(request)

    async def handle_info(self, message):
        if isinstance(message, Timeout):
            return Stop()

    async def terminate(self, reason):
        print("saving", self.items, "of", self.user)


async def main():
    async with open_server(Basket, "ada") as basket:
        print("items:", await basket.call(("add", "bread")))
        print("the basket ended:", await basket.wait())


if __name__ == "__main__":
    run(main)
