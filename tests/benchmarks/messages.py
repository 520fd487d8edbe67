"""Messages a second, of about 150 bytes, into ``handle_message``.

Against bare trio-websocket with the standard library's json and a memory channel, in one run and in
turns: ``python -m tests.benchmarks.messages [--messages N] [--rounds N] [--json]``. The ratio is the
median of the rounds' ratios; absolute figures only orient.
"""

import argparse
import json
import statistics
import subprocess
import sys
from typing import Any

import attrs
import trio
from trio_websocket import open_websocket_url

from slipstream import Config, SlipstreamClient, Socket, open_supervisor


@attrs.frozen
class Round:
    """Messages a second of both, in one round."""

    naive: float
    slipstream: float


class Counting(SlipstreamClient, restart="temporary"):
    """Counts what it hears."""

    async def init(self, argument: tuple[Config, trio.Event, list[int]], socket: Socket, /) -> None:
        config, self.done, self.counted = argument
        self.count = 0
        socket.connect(config)
        socket.join("bench:1")

    async def handle_message(self, topic: str, event: str, payload: Any, socket: Socket, /) -> None:
        self.count += 1
        if event == "done":
            self.counted.append(self.count - 1)
            self.done.set()


def _rate(heard: int, count: int, seconds: float) -> float:
    if heard != count:
        raise RuntimeError(f"{count} messages were sent, and {heard} arrived")
    return count / seconds


async def run_slipstream(port: int, count: int) -> float:
    """Give messages a second of a supervised client."""
    done, counted = trio.Event(), list[int]()
    config = Config(f"ws://127.0.0.1:{port}/", heartbeat_interval=None, close_timeout=0.2)
    started = trio.current_time()
    async with open_supervisor([(Counting, (config, done, counted))]):
        await done.wait()
        seconds = trio.current_time() - started
    return _rate(counted[0], count, seconds)


async def run_naive(port: int, count: int) -> float:
    """Give messages a second of what one writes by hand."""
    started = trio.current_time()
    heard, seconds = -1, 0.0  # the reply to the join is no message
    async with trio.open_nursery() as nursery:
        send, receive = trio.open_memory_channel[Any](4096)

        async def read() -> None:
            async with open_websocket_url(
                f"ws://127.0.0.1:{port}/", disconnect_timeout=0.2
            ) as websocket:
                await websocket.send_message('["1","1","bench:1","phx_join",{}]')
                while True:
                    await send.send(json.loads(await websocket.get_message()))

        nursery.start_soon(read)
        async for _, _, _, event, _ in receive:
            if event == "done":
                seconds = trio.current_time() - started
                nursery.cancel_scope.cancel()
            else:
                heard += 1
    return _rate(heard, count, seconds)


def measure(messages: int, rounds: int) -> list[Round]:
    """Run both in turns; the first round warms up and is not counted."""
    results: list[Round] = []
    command = [sys.executable, "-m", "tests.benchmarks.blaster", str(messages)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603 - our own
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            for number in range(rounds + 1):
                naive = trio.run(run_naive, port, messages)
                ours = trio.run(run_slipstream, port, messages)
                if number:
                    results.append(Round(naive, ours))
        finally:
            server.kill()
    return results


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    results = measure(options.messages, options.rounds)
    ratio = statistics.median(result.slipstream / result.naive for result in results)
    if options.json:
        print(json.dumps({"ratio": ratio, "rounds": [attrs.asdict(result) for result in results]}))
        return
    print(
        f"{'round':>5}  {'trio-websocket':>14}  {'slipstream':>10}  {'ratio':>5}   (messages a second)"
    )
    for number, result in enumerate(results, 1):
        each = result.slipstream / result.naive
        print(f"{number:>5}  {result.naive:>14,.0f}  {result.slipstream:>10,.0f}  {each:>5.1f}")
    print(f"ratio: {ratio:.1f}")


if __name__ == "__main__":
    main()
