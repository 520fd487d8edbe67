"""TaskSupervisor: a dynamic supervisor of tasks."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, ClassVar, Literal, TypeVar, TypeVarTuple, Unpack, cast

from ._child_spec import Restart
from ._dynamic_process import DYNAMIC_CHECKS, DynamicProcess
from ._dynamic_supervisor import DynamicBase, KeyedByRef
from ._ref import ServerRef
from ._shell import Shell
from ._task import Task, TaskServer, Work, check_function, label_of_function
from ._task_stream import OnTimeout, TaskStream
from ._waits import enclosing

__all__ = ["TaskSupervisor", "TaskSupervisorRef"]

Item = TypeVar("Item")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class TaskSupervisorRef(KeyedByRef):
    """The address of a task supervisor."""

    __slots__ = ()

    async def start_child(
        self,
        function: Callable[[Unpack[Ts]], Awaitable[object]],
        *args: *Ts,
        restart: Restart = "temporary",
        shutdown: float | Literal["brutal_kill"] = 5.0,
    ) -> ServerRef:
        """Start a task whose result nobody asks for: ``function(*args)``.

        If the caller is cancelled, the task is started all the same.

        Args:
            function: an async function.
            args: its arguments.
            restart: when it is run again, as for any child.
            shutdown: the seconds that it has to end once it has been cancelled.

        Raises:
            TypeError: if *function* is none.
            ChildSpecError: if *restart* or *shutdown* is wrong.
            MaxChildrenError: if there are as many tasks as there may be.
            ServerGoneError: if the supervisor is gone, or ends first.
            DeadlockError: if the supervisor waits for the caller to start.
            Exit: if the process round the current task is being stopped.
        """
        check_function(function)
        return await self._start(Work(function, args), restart=restart, shutdown=shutdown)

    async def async_(self, function: Callable[[Unpack[Ts]], Awaitable[T]], *args: *Ts) -> Task[T]:
        """Start a task for its result, and link it to the process round the current task.

        An end of the task other than a normal one stops that process, and the other way round; so
        a failure cannot be overlooked. Outside of a process there is nobody to link to:
        :meth:`Task.wait` raises, and that is all.

        If the caller is cancelled while it starts the task, so is the task.

        Raises:
            TypeError: if *function* is none.
            MaxChildrenError: if there are as many tasks as there may be.
            ServerGoneError: if the supervisor is gone, or ends first.
            DeadlockError: if the supervisor waits for the caller to start.
            Exit: if the process round the current task is being stopped.
        """
        check_function(function)
        host = enclosing()[0]
        return await self._spawn(Work(function, args, cast("Shell | None", host)))

    async def async_nolink(
        self, function: Callable[[Unpack[Ts]], Awaitable[T]], *args: *Ts
    ) -> Task[T]:
        """Start a task for its result, whose failure is told by :meth:`Task.wait` only.

        If the caller is cancelled while it starts the task, so is the task.

        Raises:
            TypeError: if *function* is none.
            MaxChildrenError: if there are as many tasks as there may be.
            ServerGoneError: if the supervisor is gone, or ends first.
            DeadlockError: if the supervisor waits for the caller to start.
            Exit: if the process round the current task is being stopped.
        """
        check_function(function)
        return await self._spawn(Work(function, args))

    def stream(
        self,
        function: Callable[[Item], Awaitable[T]],
        items: Iterable[Item],
        *,
        max_concurrency: int,
        ordered: bool = True,
        timeout: float | None = 5.0,
        on_timeout: OnTimeout = "exit",
    ) -> TaskStream[T]:
        """Run *function* for each of *items*, a task each, and iterate over what comes of them.

        ::

            async with tasks.stream(fetch, urls, max_concurrency=10) as results:
                async for result in results:
                    print(result.item, result.value)

        Items are taken, and tasks started, as the iteration goes on. A task that fails is a result
        like another: its :attr:`TaskResult.value` raises. No task outlives the block.

        Args:
            function: an async function of one item.
            items: the items; may be endless.
            max_concurrency: how many tasks run at a time.
            ordered: whether the results come in the order of the items, or as they are done.
            timeout: the seconds that each task has; ``None`` is no limit.
            on_timeout: what one that is late does: ``"exit"`` has the iteration raise
                ``AwaitTimeoutError``, ``"kill_task"`` makes a failed result of it.

        Raises:
            TypeError: if *function* is none.
            ConfigError: if an option is wrong.
        """
        check_function(function)
        return TaskStream(
            self._begin,
            function,
            items,
            max_concurrency=max_concurrency,
            ordered=ordered,
            timeout=timeout,
            on_timeout=on_timeout,
        )

    async def _spawn(self, work: Work) -> Task[Any]:
        return Task(await self._begin(work), work)

    async def _begin(self, work: Work) -> ServerRef:
        """Start *work* for its result."""
        try:
            return await self._start(work)
        except BaseException:  # the supervisor may start it all the same
            work.withdraw()
            raise

    async def _start(self, work: Work, **keywords: Any) -> ServerRef:
        spec = TaskServer.child_spec(work, id=label_of_function(work.function), **keywords)
        return cast("ServerRef", await self._request(DynamicProcess.start_child, spec))


class TaskSupervisor(DynamicBase):
    """A supervisor of tasks: processes that run one function each, and end.

    Its options are those of a :class:`DynamicSupervisor`, without *extra_arguments*.
    """

    __slots__ = ()

    _checks: ClassVar[Mapping[str, Callable[[str, object], object]]] = {
        key: check for key, check in DYNAMIC_CHECKS.items() if key != "extra_arguments"
    }

    ref_class: ClassVar[type[ServerRef]] = TaskSupervisorRef
