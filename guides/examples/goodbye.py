"""Four ways to be busy when the end comes."""

import trio

from slipstream.otp import GenServer, open_supervisor, run


class Worker(GenServer):
    async def init(self, name, clock, goodbye=0.0):
        self.name, self.clock, self.goodbye = name, clock, goodbye

    def say(self, what):
        print(f"{trio.current_time() - self.clock:.1f} s: {self.name} {what}")

    async def handle_cast(self, seconds):
        await trio.sleep(seconds)
        self.say("has worked")

    async def terminate(self, reason):
        self.say("says goodbye")
        await trio.sleep(self.goodbye)
        self.say("is done")


async def main():
    clock = trio.current_time()
    children = [
        Worker.child_spec("doomed", clock, id="doomed", shutdown="brutal_kill"),
        Worker.child_spec("endless", clock, 60.0, id="endless", shutdown=3.0),
        Worker.child_spec("stuck", clock, id="stuck", shutdown=4.0),
        Worker.child_spec("drained", clock, id="drained", drain=True),
        Worker.child_spec("plain", clock, id="plain"),
    ]
    async with open_supervisor(children) as supervisor:
        for name, seconds in {"plain": 1.0, "drained": 1.5, "stuck": 3600.0}.items():
            supervisor.child(name).cast(seconds)
            supervisor.child(name).cast(seconds)
        await trio.sleep(0.0)
    print(f"{trio.current_time() - clock:.1f} s: all have ended")


if __name__ == "__main__":
    run(main)
