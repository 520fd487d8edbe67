"""How many hits there were in the last seconds."""

from collections import deque

import trio

from slipstream.otp import GenServer, Reply, open_server, run


class Meter(GenServer):
    async def init(self, window):
        self.window = window
        self.hits = deque()
        self.send_every(1.0, "tick")

    async def handle_cast(self, message):
        self.hits.append(trio.current_time())

    async def handle_call(self, request, caller):
        return Reply(len(self.hits))

    async def handle_info(self, message):
        while self.hits and self.hits[0] + self.window <= trio.current_time():
            self.hits.popleft()


async def main():
    async with open_server(Meter, 5.0) as meter:
        for _ in range(3):
            meter.cast("hit")
        print("hits:", await meter.call("count"))
        await trio.sleep(6.5)
        print("hits:", await meter.call("count"))


if __name__ == "__main__":
    run(main)
