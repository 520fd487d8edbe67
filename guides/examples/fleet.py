"""Many devices in one program, each with a connection and a fate of its own."""

import trio

import slipstream
from slipstream import (
    Backoff,
    Config,
    SlipstreamClient,
    Supervisor,
    on_message,
    open_supervisor,
)


class Device(SlipstreamClient):
    async def init(self, argument, socket):
        uri, serial = argument
        self.topic, self.settings = f"devices:{serial}", {"interval": 60.0}
        socket.connect(Config(uri, params={"serial": serial}))
        socket.join(self.topic)
        self.send_after(self.settings["interval"], "report")

    @on_message("devices:{serial}", "set")
    async def change_settings(self, topic, payload, socket, *, serial):
        self.settings |= payload
        await socket.push(topic, "settings", self.settings)

    async def handle_info(self, message, socket):
        self.send_after(self.settings["interval"], "report")
        if socket.joined(self.topic):
            await socket.push(self.topic, "report", {"temperature": 21.5})


class Fleet(Supervisor):
    async def init(self, argument):
        uri, serials = argument
        patience = Backoff(first=1.0, maximum=300.0)
        return [Device.child_spec((uri, serial), id=serial, backoff=patience) for serial in serials]


def look(fleet):
    """Tell how each device is doing; one that waits for its restart has no reference."""
    children = fleet.which_children()
    return {each.id: each.ref.health().phase if each.ref else each.status for each in children}


async def main(uri="ws://localhost:4000/socket/websocket", count=100):
    serials = [f"A{number:04}" for number in range(count)]
    async with open_supervisor([(Fleet, (uri, serials))]) as supervisor:
        while supervisor.alive:
            print(look(supervisor.child(Fleet)))
            await trio.sleep(60.0)


if __name__ == "__main__":
    slipstream.run(main)
