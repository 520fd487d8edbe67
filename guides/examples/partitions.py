"""Four caches, and a key that says which of them is meant."""

from slipstream.otp import GenServer, PartitionSupervisor, Reply, open_supervisor, run


class Cache(GenServer):
    async def init(self):
        self.values = {}

    async def handle_call(self, request, caller):
        match request:
            case ("put", key, value):
                self.values[key] = value
                return Reply(None)
            case ("get", key):
                return Reply(self.values.get(key))
            case "size":
                return Reply(len(self.values))
            case _:
                raise ValueError(request)


async def main():
    caches = PartitionSupervisor.child_spec(Cache, partitions=4, name="caches")
    async with open_supervisor([caches]) as supervisor:
        caches = supervisor.whereis("caches")
        for user in range(10):
            await caches.partition(user).call(("put", user, "tea"))
        print(await caches.partition(7).call(("get", 7)))
        print([await caches.partition(number).call("size") for number in range(4)])


if __name__ == "__main__":
    run(main)
