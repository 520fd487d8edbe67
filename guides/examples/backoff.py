"""A database that is away for five seconds."""

import trio

from slipstream.otp import GenServer, NoReply, open_supervisor, run


def longer_each_time(reason, restarts):
    return min(30.0, 2.0**restarts)


class Database(GenServer, backoff=longer_each_time):
    async def init(self, began):
        self.began = began
        return NoReply(continue_with="connect")

    async def handle_continue(self, argument):
        seconds = trio.current_time() - self.began
        if seconds < 5.0:
            print(f"{seconds:.0f} s: refused")
            raise ConnectionRefusedError
        print(f"{seconds:.0f} s: connected")


async def main():
    async with open_supervisor([(Database, trio.current_time())]):
        await trio.sleep(10.0)


if __name__ == "__main__":
    run(main)
