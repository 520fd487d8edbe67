"""Three children, the second crashes: who ends, and who starts?"""

import trio

from slipstream.otp import GenServer, open_supervisor, run


class Part(GenServer):
    async def init(self, name, diary):
        self.name, self.diary = name, diary
        diary.append(f"start {name}")

    async def handle_cast(self, message):
        raise RuntimeError(message)

    async def terminate(self, reason):
        self.diary.append(f"end {self.name}")


async def show(strategy):
    diary = []
    children = [Part.child_spec(name, diary, id=name) for name in "abc"]
    async with open_supervisor(children, strategy=strategy) as supervisor:
        diary.clear()
        supervisor.child("b").cast("a bug")
        await trio.sleep(0.1)
        print(f"{strategy}:", ", ".join(diary))


async def main():
    await show("one_for_one")
    await show("rest_for_one")
    await show("one_for_all")


if __name__ == "__main__":
    run(main)
