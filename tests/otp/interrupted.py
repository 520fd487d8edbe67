"""A program that sends itself SIGINT at every Nth opcode of a supervisor's life.

A program of its own, since a tracer and the measuring of coverage exclude each other. Its argument
is N: 1 takes every opcode, which takes a minute or two. It prints how often it struck.
"""

import logging
import sys
import warnings
from typing import Any

import trio
import trio.testing

from slipstream.otp import Caller, GenServer, Reply, open_supervisor
from tests.striking import Strike

alive: set[str] = set()


class Worker(GenServer):
    async def init(self, name: str) -> None:
        self.name = name
        alive.add(name)

    async def handle_call(self, request: Any, caller: Caller) -> Any:
        return Reply(request)

    async def handle_cast(self, message: Any) -> None:
        raise ValueError(message)

    async def terminate(self, reason: Any) -> None:
        alive.discard(self.name)


async def live() -> None:
    children = [Worker.child_spec(name, id=name) for name in "ab"]
    async with open_supervisor(children, strategy="rest_for_one") as supervisor:
        assert await supervisor.child("a").call(1) == 1
        supervisor.child("a").cast("crash")
        await trio.testing.wait_all_tasks_blocked()
        await supervisor.start_child(Worker.child_spec("c", id="c"))
        await supervisor.terminate_child("c")


def check(strike: Strike) -> bool:
    """Live, and judge the end; tell whether it came as far as the target."""
    alive.clear()
    clock = trio.testing.MockClock(autojump_threshold=0)
    error = strike.live(lambda: trio.run(live, clock=clock), patience=30)
    told = f"strike {strike.count} in {strike.struck_in}: {error!r}"
    if not strike.struck_in:
        assert error is None, told
        return False
    # Bare, and not Trio's internal error, which is what a nursery left open comes to.
    assert type(error) is KeyboardInterrupt, told
    # In call_user it may strike where terminate is about to begin.
    assert not alive or strike.function == "call_user", f"{told}; without terminate: {alive}"
    return True


def main(stride: int) -> int:
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore", RuntimeWarning)  # a coroutine that was made and never begun
    whole = Strike("otp", 0)
    check(whole)
    return sum(check(Strike("otp", target)) for target in range(1, whole.count, stride))


if __name__ == "__main__":
    print(main(int(sys.argv[1])))
