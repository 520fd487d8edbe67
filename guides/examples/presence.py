import slipstream
from slipstream import SlipstreamClient, open_supervisor


class Lobby(SlipstreamClient):
    async def handle_connect(self, socket):
        socket.join("rooms:lobby", {"user": "ann"})

    async def handle_presence(self, topic, diff, socket):
        for join in diff.joins:
            print(join.key, "came" if join.is_first else "opened another window")
        for leave in diff.leaves:
            print(leave.key, "went" if leave.is_last else "closed a window")
        for update in diff.updates:
            print(update.key, "is", update.after["status"])
        print("here:", ", ".join(sorted(socket.presences(topic))))


async def main(uri="ws://localhost:4000/socket/websocket"):
    async with open_supervisor([(Lobby, uri)]) as supervisor:
        await supervisor.wait()


if __name__ == "__main__":
    slipstream.run(main)
