"""Chat rooms that are started when somebody comes, and found by their names."""

import trio

from slipstream.errors import AlreadyStartedError
from slipstream.otp import DynamicSupervisor, GenServer, Registry, Reply, Via, open_supervisor, run


class Room(GenServer, restart="transient"):
    async def init(self, name):
        self.name = name

    async def handle_cast(self, line):
        members = self.whereis("members")
        members.dispatch(self.name, lambda found: [ref.cast(line) for ref, _ in found])


class Member(GenServer, restart="temporary"):
    async def init(self, nick, room):
        self.lines = []
        self.whereis("members").register(room, nick)

    async def handle_cast(self, line):
        self.lines.append(line)

    async def handle_call(self, request, caller):
        return Reply(self.lines)


async def open_room(supervisor, name):
    """Give the room of that name, which is started unless it is there."""
    rooms = supervisor.whereis("rooms")
    try:
        return await rooms.start_child(Room.child_spec(name, name=Via("names", name)))
    except AlreadyStartedError as error:
        return error.ref


async def main():
    children = [
        Registry.child_spec(name="names"),
        Registry.child_spec(name="members", keys="duplicate"),
        DynamicSupervisor.child_spec(name="rooms"),
        DynamicSupervisor.child_spec(name="people"),
    ]
    async with open_supervisor(children, strategy="rest_for_one") as supervisor:
        lobby = await open_room(supervisor, "lobby")
        print("the same room:", await open_room(supervisor, "lobby") == lobby)
        people = supervisor.whereis("people")
        ada = await people.start_child(Member.child_spec("ada", "lobby"))
        bob = await people.start_child(Member.child_spec("bob", "lobby"))
        lobby.cast("hello")
        await trio.sleep(0.1)
        print("ada heard", await ada.call("lines"))
        await people.terminate_child(bob)
        members = supervisor.whereis("members")
        print("still there:", [entry.value for entry in members.lookup("lobby")])
        print("found by name:", supervisor.whereis(Via("names", "lobby")) == lobby)


if __name__ == "__main__":
    run(main)
