"""Run a program: the one place that touches signals."""

import logging
import signal
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, cast

import trio

from slipstream.reasons import ExitReason

from ._blocks import open_supervisor
from ._child_spec import ChildLike
from ._exits import leaves, normalise
from ._reports import show
from ._tree import open_trees

__all__ = ["run"]

logger: Final = logging.getLogger("slipstream")

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def run(program: Callable[[], Awaitable[Any]] | Iterable[ChildLike], **options: Any) -> Any:
    """Run *program* under trio: an async function, or a list of children to be supervised.

    The first SIGINT (Ctrl-C) or SIGTERM cancels it, so that every tree stops in order, and ends in
    ``SystemExit(128 + signal)``; a second one kills every open tree.

    What the program then exits with, where nobody catches what this raises:

    ========== =====================================================================
    0          it ended: the function returned, or the supervisor ended in order
    1          an exception, ``SupervisorGaveUpError`` and ``StartError`` among them
    130, 143   SIGINT, SIGTERM: 128 and the number of the first
    any other  that of a ``SystemExit`` of the function, or of a child
    ========== =====================================================================

    Each of these ends, and each signal, is one line in the log ``slipstream``.

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
                name = signal.Signals(number).name
                if self.first is None:
                    self.first = number
                    logger.info("%s: stopping in order; another signal kills", name)
                    self.scope.cancel()
                    continue
                logger.warning("%s after the first signal: killing what still runs", name)
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
        _tell_of(error)
        raise error
    if signals.first is not None:
        code = 128 + signals.first
        logger.info("stopped by %s, exit code %d", signal.Signals(signals.first).name, code)
        raise SystemExit(code)
    logger.info("ended%s", f": {show(result)}" if isinstance(result, ExitReason) else "")
    return result


def _tell_of(error: BaseException) -> None:
    """Log one line; whoever gets *error* has the rest."""
    if isinstance(error, SystemExit):
        logger.info("ended by SystemExit, exit code %s", show(error.code))
    else:
        logger.error("ended by %s", type(error).__qualname__)
