"""Pages are fetched side by side; one of them cannot be had."""

import trio

from slipstream.errors import ServerGoneError
from slipstream.otp import TaskSupervisor, open_supervisor, run


async def fetch(path):
    await trio.sleep(1.0)
    if path == "/gone":
        raise LookupError(path)
    return f"the page {path}"


async def main():
    async with open_supervisor([TaskSupervisor.child_spec(name="fetches")]) as supervisor:
        fetches = supervisor.whereis("fetches")
        home = await fetches.async_nolink(fetch, "/home")
        gone = await fetches.async_nolink(fetch, "/gone")
        print(await home.wait())
        try:
            await gone.wait()
        except ServerGoneError as error:
            print("no page:", repr(error.__cause__))

        paths = ["/a", "/b", "/gone", "/c"]
        async with fetches.stream(fetch, paths, max_concurrency=2) as results:
            async for result in results:
                print(result.item, result.value if result.ok else result.reason)


if __name__ == "__main__":
    run(main)
