"""The blocks that open a tree of processes: ``open_server`` and ``open_supervisor``."""

import math
from collections.abc import AsyncGenerator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Any, Literal, TypeVar, Unpack, cast, overload

import trio
from trio.lowlevel import enable_ki_protection

from slipstream.errors import ChildSpecError
from slipstream.reasons import SHUTDOWN, Crashed

from ._calls import gone_error
from ._child_spec import ChildKeywords, ChildLike, ChildSpec, HasChildSpec, Start
from ._children import AutoShutdown, Strategy, check_supervisor_keys
from ._dynamic_process import DynamicKeywords
from ._dynamic_supervisor import DynamicSupervisor, DynamicSupervisorRef
from ._exits import leaves, normalise
from ._launch import launch, make_process
from ._overseer import Overseer
from ._process import Process
from ._ref import ServerRef
from ._results import Exit, StopCause
from ._shell import Phase, Shell
from ._supervisor import Supervisor, SupervisorRef, check_list
from ._supervisor_base import SupervisorBase
from ._task_supervisor import TaskSupervisor, TaskSupervisorRef
from ._timers import Timers
from ._tree import Tree, open_trees
from ._waits import Host, blocked_on, check_task, enclosing, wait_for

__all__ = ["open_server", "open_supervisor"]

R = TypeVar("R", bound=ServerRef)


class _Block:
    """The parent of a tree's root: it cancels the body of the block when the root fails."""

    slow_after = math.inf
    path: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.body = trio.CancelScope()
        self.leaving = False
        self.interrupted = False
        self.failure: BaseException | None = None

    def __str__(self) -> str:
        return "of a block"

    def child_started(self, process: Shell) -> None:
        """Take note of nothing: the block waits for the start."""

    def child_ended(self, process: Shell) -> None:
        """Cancel the body, if the root has failed by itself."""
        if not self.leaving and process.was_started:
            self.failure = _failure(process)
            if self.failure is not None:
                self.body.cancel()


def _failure(process: Shell) -> BaseException | None:
    """Give what the block raises for a root that has ended by itself."""
    reason = process.last_reason()
    if isinstance(process, Overseer):
        if process.gave_up is not None:
            return process.gave_up
        if isinstance(reason, Crashed):
            return reason.exception
    return gone_error(process.make_ref(), reason) if reason.abnormal else None


def _cause_of(error: BaseException | None, host: Host | None) -> StopCause:
    """Tell why the tree stops, from what left the block."""
    match error:
        case None:
            return "asked"
        case Exit():
            return host.stop_cause or "asked" if isinstance(host, Process) else "asked"
        case _ if _is_cancelled(error):
            return "cancelled"
        case Exception() | BaseExceptionGroup():
            return "failed"
        case _:  # KeyboardInterrupt, SystemExit
            return "cancelled"


def _is_cancelled(error: BaseException) -> bool:
    return all(isinstance(leaf, trio.Cancelled) for leaf in leaves(error))


@enable_ki_protection
async def _end(
    block: _Block, process: Process, cause: StopCause, blocked: Host | None
) -> BaseException | None:
    """Stop the root and wait. Gives back a Ctrl-C that comes meanwhile; the second one kills."""
    interrupt: BaseException | None = None
    try:
        process.shut_down(SHUTDOWN, cause)
        while process.phase is not Phase.DEAD:
            try:
                with blocked_on(blocked, process):
                    await wait_for(process.done, timers=process.timers, host=None)
            except KeyboardInterrupt as error:
                interrupt = error
                if block.interrupted:
                    process.kill()
                block.interrupted = True
    finally:
        process.kill()  # it is dead by now, unless a bug of ours is on its way out
    return interrupt


@asynccontextmanager
@enable_ki_protection  # an interrupted stop would leave the nursery waiting for ever; not the body
async def _open_root(spec: ChildSpec) -> AsyncGenerator[Process]:
    """Open a tree with the root *spec*. Whatever leaves the block leaves it bare."""
    check_task()
    host, in_callback = enclosing()
    blocked = host if in_callback else None
    await trio.lowlevel.checkpoint_if_cancelled()
    timers = Timers.acquire()
    tree = Tree(timers)
    block = _Block()
    error: BaseException | None = None
    try:
        process = make_process(spec, tree=tree, parent=block)
        tree.root = process
        open_trees().add(tree)

        def on_abort() -> None:
            if block.interrupted:
                process.kill()
                return
            block.leaving = block.interrupted = True
            block.body.cancel()
            process.shut_down(SHUTDOWN, "cancelled")

        tree.on_abort = on_abort
        try:
            async with trio.open_nursery() as nursery:
                try:
                    await launch(process, nursery, host=host, blocked=blocked)
                    with block.body:
                        yield process
                except BaseException as exc:  # noqa: BLE001 - raised below, outside of the nursery
                    error = exc
                block.leaving = True
                # From here on nothing may cut the stop short: it has a limit of its own.
                nursery.cancel_scope.shield = True
                block.interrupted = block.interrupted or isinstance(error, KeyboardInterrupt)
                interrupt = await _end(block, process, _cause_of(error, host), blocked)
                error = error or interrupt
        except BaseExceptionGroup as group:  # Ctrl-C in the nursery's very last step
            error = error or normalise(group)
    finally:
        open_trees().discard(tree)
        await timers.release()
    if tree.fatal is not None:
        raise tree.fatal from tree.fatal.__cause__
    failure = None if tree.forced else block.failure
    if error is not None and (failure is None or not _is_cancelled(error)):
        if failure is not None:
            error.add_note(f"Besides, {failure!r} ended the processes of the block.")
        raise error
    if failure is not None:
        raise failure from failure.__cause__


class _Opening(AbstractAsyncContextManager[R]):
    """The block of a tree, as its user sees it: it gives the reference to the root.

    A class, since Ctrl-C between the end of ``__aenter__`` and the block would leave the nursery
    open for ever, and nothing protects the frames of a generator's context manager.
    """

    def __init__(self, spec: ChildSpec) -> None:
        self._root = _open_root(spec)

    @enable_ki_protection
    async def __aenter__(self) -> R:
        process = await self._root.__aenter__()
        # An ignored start gives None, which is no mistake that a type should make everyone check.
        return cast("R", None if process.ignored else process.make_ref())

    @enable_ki_protection
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return await self._root.__aexit__(kind, error, traceback)


def open_server(
    server: type[HasChildSpec] | ChildSpec, *args: Any, **overrides: Unpack[ChildKeywords]
) -> AbstractAsyncContextManager[ServerRef]:
    """Open a process that lives as long as the block.

    ``init`` gets *args*; *overrides* replace what the class says of itself as a child. Leaving the
    block stops the process, within its ``shutdown``; whatever the block raises leaves bare after
    that. If the process ends abnormally, the block is cancelled. A start that is ignored gives
    ``None``.

    Raises:
        ChildSpecError: if an override is wrong.
        StartError: if the process does not start.
        ServerGoneError: if it ends abnormally, and the block raises nothing itself.
    """
    if isinstance(server, ChildSpec):
        if args:
            raise ChildSpecError(
                "open_server takes no arguments beside a ChildSpec: they are in it"
            )
        spec = ChildSpec.of(server, **overrides)
    elif isinstance(cast("object", server), type) and hasattr(server, "child_spec"):
        spec = ChildSpec.of(server.child_spec(*args), **overrides)
    else:
        raise ChildSpecError(
            f"open_server takes a class of processes or a ChildSpec, not {server!r}"
        )
    return _Opening[ServerRef](spec)


@overload
def open_supervisor(
    children: type[TaskSupervisor],
    *,
    name: str | None = None,
    shutdown: float | Literal["brutal_kill"] | None = 30.0,
    slow_after: float | None = None,
    **options: Unpack[DynamicKeywords],
) -> AbstractAsyncContextManager[TaskSupervisorRef]: ...
@overload
def open_supervisor(
    children: type[DynamicSupervisor],
    *,
    name: str | None = None,
    shutdown: float | Literal["brutal_kill"] | None = 30.0,
    slow_after: float | None = None,
    **options: Unpack[DynamicKeywords],
) -> AbstractAsyncContextManager[DynamicSupervisorRef]: ...
@overload
def open_supervisor(
    children: Iterable[ChildLike] | type[Supervisor] | ChildSpec = (),
    *,
    name: str | None = None,
    shutdown: float | Literal["brutal_kill"] | None = 30.0,
    slow_after: float | None = None,
    strategy: Strategy = "one_for_one",
    max_restarts: int = 3,
    max_seconds: float = 5.0,
    auto_shutdown: AutoShutdown = "never",
) -> AbstractAsyncContextManager[SupervisorRef]: ...
def open_supervisor(
    children: Iterable[ChildLike]
    | type[Supervisor | DynamicSupervisor | TaskSupervisor]
    | ChildSpec = (),
    *,
    name: str | None = None,
    shutdown: float | Literal["brutal_kill"] | None = 30.0,
    slow_after: float | None = None,
    **options: Any,
) -> AbstractAsyncContextManager[Any]:
    """Open a supervisor, and with it a tree of processes, that lives as long as the block.

    The children are started in order before the block begins. Leaving the block stops them, last
    first, within *shutdown* seconds for the whole tree; it does not wait for them to finish
    (:meth:`ServerRef.wait` does). Whatever the block raises leaves bare after that. If the
    supervisor gives up, the block is cancelled.

    Args:
        children: specifications, pairs of a class and its argument, or classes; or a class of
            supervisors, dynamic or not, whose options these override, or the specification of one,
            which has them itself. The reference is of the kind that belongs to it.
        name: the name of the supervisor in its tree.
        shutdown: the seconds that the whole tree has to stop.
        slow_after: after how many seconds a callback that still runs is reported, in all of the
            tree where nothing else is said; ``None`` is never, or what the class of the root says.
        **options: what kind of supervisor it is: *strategy*, ``"one_for_one"`` unless it is
            ``"one_for_all"`` or ``"rest_for_one"``; *max_restarts* (3), how many restarts are
            allowed within *max_seconds* (5); *auto_shutdown*, whether the end of
            ``"any_significant"`` child, or of ``"all_significant"`` ones, ends the supervisor, or
            ``"never"``.

    Raises:
        ChildSpecError: if a child or an option is wrong; nothing was started.
        StartError: if a child does not start; those before it have been stopped.
        SupervisorGaveUpError: if it gave up, and the block raises nothing itself.
    """
    root: Any = children
    if isinstance(root, type) and issubclass(root, SupervisorBase):
        root = cast("type[HasChildSpec]", root).child_spec(**options)
    elif isinstance(root, ChildSpec) and options:
        given = ", ".join(f"{key}={value!r}" for key, value in options.items())
        raise ChildSpecError(
            f"open_supervisor was given {given} beside a ChildSpec: what it starts has its options "
            "from child_spec"
        )
    if isinstance(root, ChildSpec):
        spec = ChildSpec.of(root, shutdown=shutdown)
        if name is not None:
            spec = ChildSpec.of(spec, name=name)
        if slow_after is not None:
            spec = ChildSpec.of(spec, slow_after=slow_after)
    else:
        options = check_supervisor_keys(options, where="of open_supervisor")
        spec = ChildSpec(
            id="root",
            start=Start(Supervisor, (check_list(children, options),), options),
            type="supervisor",
            name=name,
            shutdown=shutdown,
            slow_after=slow_after,
        )
    return _Opening[Any](spec)
