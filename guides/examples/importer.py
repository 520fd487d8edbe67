"""Rows come in, one of them is broken, and nothing that was read is lost."""

import trio

from slipstream.otp import GenServer, Reply, format_tree, open_supervisor, run

ROWS = iter(["1", "2", "oops", "3"])  # stands for a queue somewhere outside


class Store(GenServer, name="store"):
    async def init(self):
        self.total = 0

    async def handle_cast(self, number):
        self.total += number

    async def handle_call(self, request, caller):
        return Reply(self.total)


class Importer(GenServer, name="importer"):
    async def init(self):
        self.send_every(1.0, "read")

    async def handle_info(self, message):
        row = next(ROWS)
        self.cast("store", int(row))


async def main():
    async with open_supervisor([Store, Importer], name="app") as supervisor:
        await trio.sleep(4.5)
        print("total:", await supervisor.whereis("store").call("total"))
        print(format_tree(supervisor))


if __name__ == "__main__":
    run(main)
