"""A supervisor below another one gives up, and is restarted as a whole."""

import trio

from slipstream.otp import GenServer, Supervisor, open_supervisor, run


class Connection(GenServer, name="connection"):
    async def init(self, host):
        print("connection to", host)

    async def handle_cast(self, message):
        raise ConnectionResetError(message)


class Sender(GenServer, name="sender"):
    async def init(self):
        print("sender")


class Uplink(Supervisor, strategy="one_for_all", max_restarts=1):
    async def init(self, host):
        print("uplink")
        return [(Connection, host), Sender]


async def main():
    async with open_supervisor([(Uplink, "example.org")]) as supervisor:
        for _ in range(2):
            await trio.sleep(0.1)
            print("-- the connection crashes")
            supervisor.whereis("connection").cast("reset by peer")
        await trio.sleep(0.1)


if __name__ == "__main__":
    run(main)
