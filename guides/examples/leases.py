"""Seats that are given back when whoever took them ends, in whatever way."""

import trio

from slipstream.otp import Down, GenServer, Ignore, Reply, open_supervisor, run


class Seats(GenServer, name="seats"):
    async def init(self, count):
        self.free = count
        self.taken = {}

    async def handle_call(self, request, caller):
        match request:
            case ("take", ref):
                granted = self.free > 0
                if granted:
                    self.free -= 1
                    self.taken[self.monitor(ref)] = ref
                return Reply(granted)
            case _:
                return Reply(self.free)

    async def handle_info(self, message):
        match message:
            case Down(monitor, _, reason) if monitor in self.taken:
                del self.taken[monitor]
                self.free += 1
                if reason.abnormal:
                    print("a seat is free again:", reason)


class Guest(GenServer, restart="temporary"):
    async def init(self):
        if not await self.whereis("seats").call(("take", self.ref)):
            print("no seat")
            return Ignore()

    async def handle_cast(self, message):
        raise RuntimeError(message)


async def main():
    guests = [Guest.child_spec(id=number) for number in range(3)]
    async with open_supervisor([(Seats, 2), *guests]) as supervisor:
        await trio.sleep(0.1)
        supervisor.child(0).cast("spilled the soup")
        await trio.sleep(0.1)
        print("free:", await supervisor.whereis("seats").call("free"))


if __name__ == "__main__":
    run(main)
