"""Two halves of a call, which are of no use without each other, and one who looks on."""

import trio

from slipstream.otp import Crashed, Exited, GenServer, open_supervisor, run


class Half(GenServer, restart="temporary"):
    async def init(self, name):
        self.name = name

    async def handle_cast(self, message):
        match message:
            case ("link", ref):
                self.link(ref)
            case "hang up":
                raise ConnectionResetError("the line is dead")

    async def terminate(self, reason):
        print(self.name, "hangs up:", type(reason).__name__)


class Operator(GenServer, restart="temporary"):
    trap_exits = True

    async def init(self, ref):
        self.link(ref)

    async def handle_info(self, message):
        match message:
            case Exited(_, Crashed(error)):
                print("the operator hears of it:", error)


async def main():
    halves = [Half.child_spec(name, id=name) for name in ("alice", "bob")]
    async with open_supervisor(halves) as supervisor:
        alice, bob = supervisor.child("alice"), supervisor.child("bob")
        operator = await supervisor.start_child((Operator, bob))
        alice.cast(("link", bob))
        alice.cast("hang up")
        await trio.sleep(0.1)
        print("alive:", alice.alive, bob.alive, operator.alive)


if __name__ == "__main__":
    run(main)
