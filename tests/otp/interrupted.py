"""A program that sends itself SIGINT at every Nth opcode of a supervisor's life.

A program of its own, since a tracer and the measuring of coverage exclude each other. Its argument
is N: 1 takes every opcode, which takes a minute or two. It prints how often it struck.
"""

import logging
import os
import signal
import sys
import warnings
from types import FrameType
from typing import Any

import trio
import trio.testing

from slipstream.otp import Caller, GenServer, Reply, open_supervisor

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


class Strike:
    """One life, with a signal at the opcode number *target*."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.count = 0
        self.struck_in = ""

    def trace(self, frame: FrameType, event: str, arg: Any) -> Any:
        if f"{os.sep}slipstream{os.sep}otp{os.sep}" not in frame.f_code.co_filename:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self.trace_opcode

    def trace_opcode(self, frame: FrameType, event: str, arg: Any) -> Any:
        if event == "opcode":
            self.count += 1
            if self.count == self.target:
                self.struck_in = frame.f_code.co_name
                os.kill(os.getpid(), signal.SIGINT)
        return self.trace_opcode

    def check(self) -> bool:
        """Live, and judge the end; tell whether it came as far as the target."""
        alive.clear()
        signal.alarm(30)  # a life that hangs ends the program
        error: BaseException | None = None
        sys._getframe().f_trace_opcodes = True  # Python 3.12 wants to know it before settrace
        sys.settrace(self.trace)
        try:
            trio.run(live, clock=trio.testing.MockClock(autojump_threshold=0))
        except BaseException as caught:  # noqa: BLE001 - whatever it is, it is compared
            error = caught
        finally:
            sys.settrace(None)
            signal.alarm(0)
        told = f"strike {self.target} in {self.struck_in}: {error!r}"
        if not self.struck_in:
            assert error is None, told
            return False
        # Bare, and not Trio's internal error, which is what a nursery left open comes to.
        assert type(error) is KeyboardInterrupt, told
        # In call_user it may strike where terminate is about to begin.
        assert not alive or self.struck_in == "call_user", f"{told}; without terminate: {alive}"
        return True


def main(stride: int) -> int:
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore", RuntimeWarning)  # a coroutine that was made and never begun
    whole = Strike(0)
    whole.check()
    return sum(Strike(target).check() for target in range(1, whole.count, stride))


if __name__ == "__main__":
    print(main(int(sys.argv[1])))
