"""What type checkers know of processes. Nothing here is run: mypy and pyright, both strict, read it.

A line that must not type-check ends in an ignore; both checkers report one that is not needed.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true, reportUnusedCoroutine=false

from typing import Any, assert_type

import attrs

from slipstream.otp import (
    Caller,
    ChildCounts,
    ChildInfo,
    ChildLike,
    ChildSpec,
    DynamicSupervisor,
    DynamicSupervisorRef,
    Exited,
    ExitReason,
    GenServer,
    Ignore,
    Mailbox,
    Monitor,
    NoReply,
    Pending,
    Reply,
    Request,
    ServerRef,
    ServerStatistics,
    Start,
    Stop,
    StopCause,
    Supervisor,
    SupervisorRef,
    Task,
    TaskResult,
    TaskSupervisor,
    TaskSupervisorRef,
    Timer,
    Via,
    open_server,
    open_supervisor,
    start_of,
)
from slipstream.reasons import NORMAL


@attrs.frozen
class Get(Request[int]):
    """How much is there?"""


@attrs.frozen
class Names(Request[list[str]]):
    """Whose is it?"""

    prefix: str = ""


class Counter(GenServer, restart="transient", shutdown="brutal_kill", start_timeout=1.5):
    """Has every callback, typed as one would write it."""

    count: int

    async def init(self, start: int) -> None:
        self.count = start

    async def handle_call(self, request: Get | Names, caller: Caller) -> Reply | Stop:
        match request:
            case Get():
                return Reply(self.count)
            case Names(prefix):
                assert_type(prefix, str)
                assert_type(caller.reply([prefix]), bool)
                return Stop(NORMAL, reply=[])

    async def handle_cast(self, message: int) -> NoReply:
        self.count += message
        return NoReply(timeout=1.0)

    async def handle_info(self, message: object) -> None:
        if isinstance(message, Exited):
            assert_type(message.reason, ExitReason)

    async def terminate(self, reason: ExitReason) -> None:
        assert_type(self.stop_cause, StopCause | None)


class App(Supervisor, strategy="rest_for_one", max_restarts=5, auto_shutdown="any_significant"):
    """Decides on its children when it starts."""

    async def init(self, number: int) -> list[ChildSpec] | Ignore:
        return [Counter.child_spec(number)] if number else Ignore()


async def inside(me: Counter, ref: ServerRef) -> None:
    """Expect of a process what it may do."""
    assert_type(me.ref, ServerRef)
    assert_type(me.whereis("name"), ServerRef | None)
    assert_type(me.mailbox, Mailbox)
    assert_type(me.monitor(ref), Monitor)
    assert_type(me.send_after(1.0, "message"), Timer)
    assert_type(me.send_every(1.0, "message").cancel(), bool)
    assert_type(await me.start_owned(Counter.child_spec(1)), ServerRef | None)
    assert_type(me.trap_exits, bool)
    me.link(ref)
    me.unlink(ref)
    me.cast("name", 1)
    me.cast(ref, 1)
    me.start_soon(ref.stop)


async def outside(ref: ServerRef, anything: Any) -> None:
    """Expect of a reference that typed requests have typed answers."""
    assert_type(await ref.call(Get()), int)
    assert_type(await ref.call(Names("a"), timeout=None), list[str])
    assert_type(await ref.call(anything), Any)
    assert_type(await ref.call("anything"), Any)
    assert_type(ref.send_request(Get()), Pending[int])
    assert_type(await ref.send_request(Names()).wait(timeout=1.0), list[str])
    assert_type(ref.send_request("anything"), Pending[Any])
    assert_type(ref.send_request(Get()).done, bool)
    assert_type(ref.pin(), ServerRef)
    assert_type(await ref.wait(), ExitReason)
    assert_type(ref.send_after(1.0, "message"), Timer)
    assert_type(ref.statistics(), ServerStatistics)
    assert_type(ref.alive, bool)
    assert_type(ref.name, str | Via | None)


async def blocks() -> None:
    """Expect of the blocks that they give references that are there."""
    async with open_server(Counter, 1, name="counter", restart="permanent") as ref:
        assert_type(ref, ServerRef)
    async with open_server(Counter.child_spec(1)) as ref:
        assert_type(ref, ServerRef)
    specs: list[ChildLike] = [
        Counter.child_spec(1),
        (Counter, 1),
        Counter,
        {"id": 1, "start": start_of(Counter, 1)},
    ]
    async with open_supervisor(specs, strategy="one_for_all", shutdown=5.0) as supervisor:
        assert_type(supervisor, SupervisorRef)
    async with open_supervisor(App) as supervisor:
        assert_type(supervisor, SupervisorRef)
        assert_type(supervisor.pin(), SupervisorRef)
        assert_type(supervisor.whereis("name"), ServerRef | None)
        assert_type(supervisor.child(Counter), ServerRef)
        assert_type(await supervisor.start_child((Counter, 1)), ServerRef | None)
        assert_type(await supervisor.restart_child(Counter), ServerRef | None)
        assert_type(supervisor.which_children(), list[ChildInfo])
        assert_type(supervisor.count_children(), ChildCounts)
        assert_type(supervisor.count_children().active, int)
        assert_type(supervisor.child_spec_of(Counter), ChildSpec)
    assert_type(start_of(Counter, 1), Start)


async def tasks() -> None:
    """Expect of tasks that their results, and their functions' arguments, are typed."""

    async def fetch(url: str, retries: int) -> bytes:
        return f"{url}{retries}".encode()

    async def size(url: str) -> int:
        return len(await fetch(url, 1))

    async with open_supervisor(DynamicSupervisor) as dynamic:
        assert_type(dynamic, DynamicSupervisorRef)
    async with open_supervisor(TaskSupervisor) as running:
        assert_type(running, TaskSupervisorRef)
        assert_type(await running.start_child(fetch, "url", 1, restart="transient"), ServerRef)
        task = await running.async_(fetch, "url", 1)
        assert_type(task, Task[bytes])
        assert_type(await task.wait(timeout=1.0), bytes)
        assert_type(await task.shutdown(timeout="brutal_kill"), bool)
        assert_type(await (await running.async_nolink(size, "url")).wait(), int)
        async with running.stream(size, ["url"], max_concurrency=2, ordered=False) as results:
            async for result in results:
                assert_type(result, TaskResult[int])
                assert_type(result.value, int)
        await running.async_(fetch, "url")  # type: ignore[arg-type]  # an argument is missing
        await running.async_(fetch, 1, 1)  # type: ignore[arg-type]  # the wrong one
        running.stream(size, [1], max_concurrency=2)  # type: ignore[arg-type]  # the wrong items
        running.stream(size, ["url"])  # type: ignore[call-arg]  # how many at a time?


# -- what must not type-check


async def wrong_calls(ref: ServerRef, supervisor: SupervisorRef) -> None:
    """Refuse what would raise."""
    # Where a str is wanted, mypy takes the overload for requests without a type.
    text: str = await ref.call(Get())  # pyright: ignore[reportAssignmentType]  # it is an int
    text = await ref.send_request(Get()).wait()  # type: ignore[assignment]  # the same
    number = await ref.call(Get())
    number.upper()  # type: ignore[attr-defined]  # the same
    text.upper()
    await ref.call()  # type: ignore[call-overload]  # no request
    await ref.call(Get(), timeout="5")  # type: ignore[call-overload]  # seconds are a number
    await ref.call(Get(), 5.0)  # type: ignore[call-overload]  # options are keywords
    ref.cast()  # type: ignore[call-arg]  # no message
    await ref.stop("normal")  # type: ignore[arg-type]  # reasons are values
    supervisor.whereis("name").cast(1)  # type: ignore[union-attr]  # there may be none
    await supervisor.start_child(Counter())  # type: ignore[arg-type]  # an instance is no child
    await supervisor.start_child(int)  # type: ignore[arg-type]  # nor is just any class
    (await supervisor.start_child(Counter)).cast(1)  # type: ignore[union-attr]  # it may be ignored
    Stop("normal")  # type: ignore[arg-type]  # reasons are values
    Reply()  # type: ignore[call-arg]  # no value
    Reply(1, 2.0)  # type: ignore[call-arg]  # options are keywords


async def wrong_options(me: Counter) -> None:
    """Refuse what a specification would refuse."""
    Counter.child_spec(1, restart="always")  # type: ignore[arg-type]  # no such type
    Counter.child_spec(1, restarts="permanent")  # type: ignore[call-arg]  # misspelled
    ChildSpec("id", start_of(Counter), shutdown="later")  # type: ignore[arg-type]  # no such value
    open_server(int)  # type: ignore[arg-type]  # no process
    open_server(Counter, restrat="permanent")  # type: ignore[call-arg]  # misspelled
    open_supervisor([], strategy="one_for_two")  # type: ignore[call-overload]  # no such strategy
    open_supervisor([], max_restart=3)  # type: ignore[call-overload]  # misspelled
    me.link("name")  # type: ignore[arg-type]  # whereis gives the reference
    me.monitor(None)  # type: ignore[arg-type]  # the same


class Wrong(GenServer):
    """Has callbacks that return what they may not."""

    async def handle_call(self, request: Any, caller: Caller) -> None:  # type: ignore[override]  # a call is answered
        """Answer nothing."""

    async def handle_cast(self, message: Any) -> Reply:  # type: ignore[override]  # nobody asked
        return Reply(1)

    def handle_info(self, message: Any) -> None:  # type: ignore[override]  # not async
        """Block."""

    async def terminate(self) -> None:  # type: ignore[override]  # it gets the reason
        """Say goodbye."""


class Misspelled(GenServer, restrat="transient"):  # type: ignore[call-arg]  # no such keyword
    """Has a keyword that is none."""


class OutOfRange(Supervisor, strategy="all"):  # type: ignore[arg-type]  # no such strategy
    """Has a keyword with a wrong value."""
