"""A job runner: so many jobs at a time, each by its name, tried again when they fail."""

from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import trio

from slipstream.otp import (
    Crashed,
    Down,
    DynamicSupervisor,
    GenServer,
    NoReply,
    Registry,
    Reply,
    Stop,
    Supervisor,
    Via,
    format_tree,
    open_supervisor,
    run,
)


@attrs.define
class Job:
    """What the ledger knows of a job; its state is waiting, running, done or failed."""

    name: str
    work: Callable[[], Awaitable[Any]]
    state: str = "waiting"
    attempts: int = 0
    result: Any = None


class Ledger(GenServer, name="ledger"):
    """Keeps what was asked for and what became of it. It does too little to crash."""

    async def init(self):
        self.jobs = {}
        self.callers = []

    async def handle_call(self, request, caller):
        match request:
            case ("add", name, work):
                self.jobs.setdefault(name, Job(name, work))
                self.cast("dispatcher", "look")
                return Reply(None)
            case "next":
                return Reply(self.take_next())
            case ("running", names):  # what a new dispatcher has found
                for job in self.jobs.values():
                    if job.state == "running" and job.name not in names:
                        job.state = "waiting"
                return Reply(None)
            case "results":
                self.callers.append(caller)
                self.answer()
                return NoReply()
            case _:
                raise ValueError(request)

    async def handle_cast(self, message):
        name, state, result = message
        self.jobs[name].state, self.jobs[name].result = state, result
        self.answer()

    def take_next(self):
        for job in self.jobs.values():
            if job.state == "waiting":
                job.state = "running"
                job.attempts += 1
                return job
        return None

    def answer(self):
        if all(job.state in {"done", "failed"} for job in self.jobs.values()):
            for caller in self.callers:
                caller.reply({job.name: (job.state, job.result) for job in self.jobs.values()})
            self.callers.clear()


class Attempt(GenServer, restart="temporary", shutdown=2.0):
    """One attempt at one job. Whether there is another one is the dispatcher's business."""

    async def init(self, job):
        self.job = job

    async def handle_cast(self, message):  # "go": by now somebody watches
        result = await self.job.work()
        self.cast("ledger", (self.job.name, "done", result))
        return Stop()


class Dispatcher(GenServer, name="dispatcher"):
    """Starts attempts, and decides what follows when one fails."""

    async def init(self, limit, attempts, delay):
        self.limit, self.attempts, self.delay = limit, attempts, delay
        self.running = {}
        # The attempts that a dispatcher before this one has started go on: look after them.
        for _, attempt, job in self.whereis("running").select():
            self.watch(job, attempt)
        await self.whereis("ledger").call(("running", {job.name for job in self.running.values()}))
        return NoReply(continue_with="look")

    async def handle_continue(self, argument):
        ledger, attempts = self.whereis("ledger"), self.whereis("attempts")
        while len(self.running) < self.limit:
            job = await ledger.call("next")
            if job is None:
                return
            name = Via("running", job.name, job)
            self.watch(job, await attempts.start_child(Attempt.child_spec(job, name=name)))

    def watch(self, job, attempt):
        self.running[self.monitor(attempt)] = job
        attempt.cast("go")  # only now: the end of what nobody monitors is lost

    async def handle_cast(self, message):
        return NoReply(continue_with="look")

    async def handle_info(self, message):
        match message:
            case Down(monitor, _, reason):
                job = self.running.pop(monitor)
                if reason.abnormal:
                    self.failed(job, reason)
            case ("again", name):
                self.cast("ledger", (name, "waiting", None))
            case _:
                raise ValueError(message)
        return NoReply(continue_with="look")

    def failed(self, job, reason):
        if job.attempts < self.attempts:
            self.send_after(self.delay * 2 ** (job.attempts - 1), ("again", job.name))
        else:
            error = reason.exception if isinstance(reason, Crashed) else reason
            self.cast("ledger", (job.name, "failed", error))


class JobRunner(Supervisor, strategy="rest_for_one"):
    """Whatever crashes takes with it what was started after it, and so may rely on it."""

    async def init(self, limit=2, attempts=3, delay=1.0):
        return [
            Ledger,
            Registry.child_spec(name="running"),
            DynamicSupervisor.child_spec(name="attempts"),
            Dispatcher.child_spec(limit, attempts, delay),
        ]


async def report():
    await trio.sleep(3.0)
    return "42 pages"


TROUBLES = [ConnectionResetError("the disk is away")]


async def backup():
    await trio.sleep(1.0)
    if TROUBLES:
        raise TROUBLES.pop()
    return "saved"


async def broken():
    return 1 // 0


async def main():
    began = trio.current_time()
    async with open_supervisor(JobRunner, name="jobs") as runner:
        ledger = runner.whereis("ledger")
        for work in (report, backup, broken):
            await ledger.call(("add", work.__name__, work))
        await trio.sleep(0.5)
        print(format_tree(runner))
        runner.whereis("dispatcher").send("a bug")
        results = await ledger.call("results", timeout=None)
        for name, (state, result) in results.items():
            print(f"{name}: {state}: {result}")
        print(f"{trio.current_time() - began:.1f} s")
        print("restarts:", runner.child(Dispatcher).statistics().restarts)


if __name__ == "__main__":
    run(main)
