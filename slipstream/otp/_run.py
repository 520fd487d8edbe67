"""Run a program: the one place that touches signals."""

import signal
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, cast

import trio

from ._blocks import open_supervisor
from ._child_spec import ChildLike
from ._exits import leaves, normalise
from ._tree import open_trees

__all__ = ["run"]

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def run(program: Callable[[], Awaitable[Any]] | Iterable[ChildLike], **options: Any) -> Any:
    """Run *program* under trio: an async function, or a list of children to be supervised.

    The first SIGINT (Ctrl-C) or SIGTERM cancels it, so that every tree stops in order, and ends in
    ``SystemExit(128 + signal)``; a second one kills every open tree.

    Args:
        program: an async function without arguments, or what ``open_supervisor`` takes; the
            latter runs until its supervisor ends.
        options: for ``trio.run``.

    Returns:
        What the function returned, or the supervisor's exit reason.

    Raises:
        SystemExit: after a signal.
    """
    if callable(program) and not isinstance(program, type):
        return trio.run(_run, program, **options)

    async def main() -> Any:
        async with open_supervisor(cast("Iterable[ChildLike]", program)) as supervisor:
            return await supervisor.wait()

    return trio.run(_run, main, **options)


class _Signals:
    """What signals have come."""

    def __init__(self, scope: trio.CancelScope) -> None:
        self.scope = scope
        self.first: int | None = None

    async def watch(self, *, task_status: trio.TaskStatus[None]) -> None:
        with trio.open_signal_receiver(*SIGNALS) as received:
            task_status.started()
            async for number in received:
                if self.first is None:
                    self.first = number
                    self.scope.cancel()
                    continue
                for tree in list(open_trees()):
                    tree.force()


async def _run(main: Callable[[], Awaitable[Any]]) -> Any:
    result: Any = None
    error: BaseException | None = None
    signals = _Signals(trio.CancelScope())
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(signals.watch)
            try:
                with signals.scope:
                    result = await main()
            except BaseException as exc:  # noqa: BLE001 - raised below, outside of the nursery
                error = exc
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        error = error or normalise(group)
    if error is not None and not (
        signals.first is not None
        and all(isinstance(leaf, trio.Cancelled) for leaf in leaves(error))
    ):
        raise error
    if signals.first is not None:
        raise SystemExit(128 + signals.first)
    return result
