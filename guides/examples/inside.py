"""Look into a program that runs."""

import logging
import sys

import trio

from slipstream import otp
from slipstream.otp import GenServer, Reply, Supervisor, open_supervisor, run


class Mill(GenServer, name="mill"):
    async def init(self, grain):
        self.grain = grain

    async def handle_cast(self, seconds):
        await trio.sleep(seconds)
        self.grain -= 1

    async def handle_call(self, request, caller):
        return Reply(self.grain)


class OneLine(logging.Formatter):
    def format(self, record):
        report = getattr(record, "report", None)
        text = super().format(record) if report is None else report.render(single_line=True)
        return text.partition("; ")[0]  # the first line says what happened


async def main():
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(OneLine())
    logging.getLogger("slipstream").addHandler(handler)

    children = [Supervisor.child_spec([(Mill, 10)], id="works")]
    async with open_supervisor(children, slow_after=1.0) as supervisor:
        mill = supervisor.whereis("mill")
        mill.cast(0.2)
        mill.cast(2.0)
        mill.cast(0.0)
        await trio.sleep(0.5)
        print(otp.format_tree(supervisor))
        print(mill.statistics())
        print(await otp.sys.get_state(mill))
        await otp.sys.replace_state(mill, lambda state: {**state, "grain": 100})
        print("grain:", await mill.call("grain"))
    logging.getLogger("slipstream").removeHandler(handler)


if __name__ == "__main__":
    run(main)
