"""What the tests of processes share: a virtual clock, a diary, and a process that does as it is told."""

import functools
import inspect
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, ParamSpec, TypeAlias, cast

import attrs
import outcome
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from slipstream.otp import (
    Caller,
    ChildSpec,
    Down,
    DynamicSupervisor,
    DynamicSupervisorRef,
    GenServer,
    NoReply,
    Reply,
    ServerRef,
    Stop,
    SupervisorRef,
    open_supervisor,
    process_of,
)
from slipstream.reasons import ExitReason

__all__ = [
    "LIMIT",
    "Boom",
    "Diary",
    "Flaky",
    "Puppet",
    "Role",
    "Watcher",
    "counting_steps",
    "crash",
    "end",
    "kill",
    "live_tasks",
    "no_answer",
    "odd",
    "open_dynamic",
    "ping",
    "pinned",
    "puppet",
    "records",
    "run_virtually",
    "settle",
    "sleep_then",
    "start",
    "started",
    "stopped",
    "virtual",
    "which",
    "within",
]

P = ParamSpec("P")

LIMIT = 10_000.0
"""Virtual seconds after which a test hangs."""


class Boom(Exception):
    """The bug that a test puts into a process."""


def live_tasks() -> list[str]:
    """Name every task of this trio run."""
    root = trio.lowlevel.current_root_task()
    assert root is not None
    found: list[str] = []
    todo = [root]
    while todo:
        task = todo.pop()
        found.append(task.name)
        for nursery in task.child_nurseries:
            todo.extend(nursery.child_tasks)
    return sorted(found)


class Steps(trio.abc.Instrument):
    """Counts how often trio lets *task* run, or any."""

    def __init__(self, task: trio.lowlevel.Task | None) -> None:
        self.count = 0
        self._task = task

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += self._task in {None, task}


@contextmanager
def counting_steps(task: trio.lowlevel.Task | None = None) -> Iterator[Steps]:
    """Count the steps of *task*, or of all tasks, within the block."""
    steps = Steps(task)
    trio.lowlevel.add_instrument(steps)
    try:
        yield steps
    finally:
        trio.lowlevel.remove_instrument(steps)


def run_virtually(
    function: Callable[..., Awaitable[None]], *args: Any, limit: float = LIMIT
) -> None:
    """Run *function* on a clock that jumps; fail if it lasts too long or leaves a task behind."""

    async def main() -> None:
        before = live_tasks()
        with trio.fail_after(limit):
            await function(*args)
        assert live_tasks() == before

    trio.run(main, clock=MockClock(autojump_threshold=0))


def virtual(test: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    """Make an ordinary test of an async one: it has a virtual clock, and may leave no task behind."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        run_virtually(lambda: test(*args, **kwargs))

    return run


async def settle() -> None:
    """Let everything happen that can happen without the passing of time."""
    await wait_all_tasks_blocked()


class Diary(list[tuple[Any, ...]]):
    """What happened, in order."""

    def write(self, *entry: Any) -> None:
        self.append(entry)

    def of(self, what: str) -> list[Any]:
        """Give what was written of *what*; a pair gives its second part."""
        return [e[1] if len(e) == 2 else e[1:] for e in self if e[0] == what]

    def names(self, what: str) -> list[str]:
        """Give who wrote *what*."""
        return [entry[1] for entry in self if entry[0] == what]

    def take(self) -> "Diary":
        """Give everything, and begin anew."""
        written = Diary(self)
        self.clear()
        return written


Act: TypeAlias = Callable[..., Any]


@attrs.define(eq=False)
class Role:
    """What a puppet is to be; shared by all of its incarnations."""

    diary: Diary = attrs.field(factory=Diary)
    name: str = "puppet"
    init: Act | None = None
    terminate: Act | None = None
    starts: int = 0


async def _act(function: Act | None, *args: Any) -> Any:
    if function is None:
        return None
    result = function(*args)
    return await result if inspect.isawaitable(result) else result


class Puppet(GenServer):
    """Does as it is told: what it is sent is a function of itself (and of the caller of a call)."""

    role: Role
    number: int

    async def init(self, role: Role | None = None) -> Any:
        self.role = Role() if role is None else role
        self.role.starts += 1
        self.number = self.role.starts
        self.write("init")
        return await _act(self.role.init, self)

    def write(self, what: str, *more: Any) -> None:
        self.role.diary.write(what, self.role.name, *more)

    async def handle_call(self, request: Any, caller: Caller) -> Any:
        return await _act(request, self, caller)

    async def handle_cast(self, message: Any) -> Any:
        if not callable(message):
            self.write("cast", message)
            return None
        return await _act(message, self)

    async def handle_info(self, message: Any) -> Any:
        if not callable(message):
            self.write("info", message)
            return None
        return await _act(message, self)

    async def handle_continue(self, argument: Any) -> Any:
        if not callable(argument):
            self.write("continue", argument)
            return None
        return await _act(argument, self)

    async def terminate(self, reason: ExitReason) -> None:
        self.write("terminate", reason)
        await _act(self.role.terminate, self, reason)


def puppet(
    id: str,  # noqa: A002 - OTP's word
    diary: Diary | None = None,
    /,
    *,
    init: Act | None = None,
    terminate: Act | None = None,
    **keywords: Any,
) -> ChildSpec:
    """Specify a puppet as a child; *id* is what it writes into the *diary* as well."""
    role = Role(Diary() if diary is None else diary, id, init, terminate)
    return Puppet.child_spec(role, id=id, **keywords)


def ping(me: Puppet, _: Caller) -> Reply:
    """Ask for the number of the incarnation."""
    return Reply(me.number)


def no_answer(_: Puppet, __: Caller) -> NoReply:
    """Ask, and never get an answer."""
    return NoReply()


def crash(error: BaseException | None = None) -> Act:
    """Have the process raise *error*."""

    def act(*_: Any) -> None:
        raise Boom("crash") if error is None else error

    return act


def end(reason: ExitReason) -> Act:
    """Have the process end with *reason*."""
    return lambda *_: Stop(reason)


def sleep_then(seconds: float, result: Any = None) -> Act:
    """Have the process sleep in its callback, and return *result*."""

    async def act(*_: Any) -> Any:
        await trio.sleep(seconds)
        return result

    return act


class Watcher(GenServer):
    """Monitors whatever it is cast, and writes down how that ended."""

    async def init(self, diary: Diary) -> None:
        self.diary = diary

    async def handle_cast(self, ref: ServerRef) -> None:
        self.monitor(ref)

    async def handle_info(self, message: Any) -> None:
        assert isinstance(message, Down)
        self.diary.write("down", message.reason)


class Flaky:
    """Starts as its list says; an exhausted list is a success."""

    def __init__(self, *outcomes: Any) -> None:
        self.outcomes = list(outcomes)

    def __call__(self, _: Puppet) -> Any:
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


def odd(*_: Any) -> Any:
    """Return what no callback may return."""
    return "odd"


def started(diary: Diary) -> list[str]:
    """Give the names of those that were started, in order."""
    return diary.names("init")


def stopped(diary: Diary) -> list[str]:
    """Give the names of those that were terminated, in order."""
    return diary.names("terminate")


def pinned(supervisor: SupervisorRef, child: Any) -> ServerRef:
    """Give the reference of the incarnation of *child* that lives now."""
    return supervisor.child(child).pin()


def records(caplog: pytest.LogCaptureFixture, level: int = logging.WARNING) -> list[Any]:
    """Give what was logged at *level* or above."""
    return [record for record in caplog.records if record.levelno >= level]


def open_dynamic(**keywords: Any) -> AbstractAsyncContextManager[DynamicSupervisorRef]:
    """Open a dynamic supervisor with options of its own."""
    opened: Any = open_supervisor(DynamicSupervisor.child_spec(**keywords))
    return cast("AbstractAsyncContextManager[DynamicSupervisorRef]", opened)


async def start(
    supervisor: SupervisorRef | DynamicSupervisorRef, child: Any = Puppet, **keywords: Any
) -> ServerRef:
    """Start *child*, which does not ignore."""
    ref = await supervisor.start_child(ChildSpec.of(child, **keywords))
    assert ref
    return ref


def which(supervisor: SupervisorRef | DynamicSupervisorRef) -> list[tuple[Any, str]]:
    """Tell the children of *supervisor*, in order, and how they are."""
    return [(info.id, info.status.value) for info in supervisor.which_children()]


def kill(ref: ServerRef) -> None:
    """Kill the process that *ref* leads to now: there is one."""
    assert process_of(ref) is not None
    ref.kill()


async def within(process: ServerRef, function: Callable[..., Any], *args: Any) -> Any:
    """Have *process* call *function*; what that gives or raises comes of it here."""

    def attempt(*_: Any) -> Reply:
        return Reply(outcome.capture(function, *args))

    result = await process.call(attempt)
    return result.unwrap()
