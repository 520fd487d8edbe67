"""Mistakes that are refused at once, where others would wait for ever."""

from slipstream.errors import ServerGoneError, StartError, WrongTaskError
from slipstream.otp import GenServer, Reply, open_supervisor, run


class Ping(GenServer):
    async def init(self, other):
        self.other = other

    async def handle_call(self, request, caller):
        return Reply(await self.whereis(self.other).call(request))


class Sibling(GenServer):
    async def init(self, supervisor):
        await supervisor.start_child(Ping.child_spec("nobody"))


async def main():
    children = [
        Ping.child_spec("pong", id="ping", name="ping", restart="temporary"),
        Ping.child_spec("ping", id="pong", name="pong", restart="temporary"),
    ]
    async with open_supervisor(children) as supervisor:
        try:
            await supervisor.start_child((Sibling, supervisor))
        except StartError as error:
            print("in init:", error.__cause__)
        try:
            await supervisor.whereis("ping").call("are you there?")
        except ServerGoneError as error:  # ping crashed, since pong did, since it would have waited
            print("in a circle:", error.__cause__.__cause__)
    try:
        Ping().whereis("ping")
    except WrongTaskError as error:
        print("by hand:", error)


if __name__ == "__main__":
    run(main)
