"""Look into a program that runs."""

import logging
import sys

import trio

from slipstream import otp
from slipstream.otp import CrashReport, GenServer, Reply, Supervisor, open_supervisor, run


class Mill(GenServer, name="mill"):
    async def init(self, grain):
        self.grain = grain

    async def handle_cast(self, how):
        await trio.sleep({"fine": 0.2, "coarse": 2.0}[how])
        self.grain -= 1

    async def handle_call(self, request, caller):
        return Reply(self.grain)


class OneLine(logging.Formatter):
    def format(self, record):
        report = getattr(record, "report", None)
        if report is None:
            return super().format(record)
        text = report.render(single_line=True)
        return text if isinstance(report, CrashReport) else text.partition("; ")[0]


async def main():
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(OneLine())
    logging.getLogger("slipstream").addHandler(handler)

    children = [Supervisor.child_spec([(Mill, 10)], id="works")]
    async with open_supervisor(children, slow_after=1.0) as supervisor:
        mill = supervisor.whereis("mill")
        for how in ("fine", "coarse", "fine"):
            mill.cast(how)
        await trio.sleep(0.5)
        print(otp.format_tree(supervisor))
        print("handled:", mill.statistics().handled)
        print(await otp.sys.get_state(mill))
        await otp.sys.replace_state(mill, lambda state: {**state, "grain": 100})
        print("grain:", await mill.call("grain"))
        mill.cast("stone")
        await trio.sleep(0.5)
        print("restarts:", mill.statistics().restarts)
    logging.getLogger("slipstream").removeHandler(handler)


if __name__ == "__main__":
    run(main)
