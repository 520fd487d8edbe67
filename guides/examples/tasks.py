"""Fetch two pages side by side; one of them fails, alone."""

import trio

from slipstream.errors import ServerGoneError
from slipstream.otp import TaskSupervisor, open_supervisor, run


async def fetch(path, seconds):
    await trio.sleep(seconds)
    if path == "/broken":
        raise ConnectionResetError("reset by peer")
    return f"the page {path}"


async def main():
    async with open_supervisor([TaskSupervisor.child_spec(name="fetches")]) as supervisor:
        fetches = supervisor.whereis("fetches")
        good = await fetches.async_nolink(fetch, "/good", 2.0)
        broken = await fetches.async_nolink(fetch, "/broken", 1.0)
        print(await good.wait())
        try:
            await broken.wait()
        except ServerGoneError as error:
            print("failed:", error.__cause__)


if __name__ == "__main__":
    run(main)
