"""From what left a callback to an exit reason."""

from collections.abc import Iterator
from typing import cast

import trio

from ._results import Exit

__all__ = ["fatal_of", "leaves", "normalise", "without"]


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Go over the exceptions of a group, however nested, or the one exception."""
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        for inner in group.exceptions:
            yield from leaves(inner)
    else:
        yield error


def without(error: BaseException, *unwanted: type[BaseException]) -> BaseException | None:
    """Give *error* without the *unwanted*; ``None`` if nothing is left."""
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return group.split(unwanted)[1]
    return None if isinstance(error, unwanted) else error


def normalise(error: BaseException) -> BaseException:
    """Reduce *error* to what it says about the end of a process.

    Nurseries wrap even one exception in a group. An error wins over an ``Exit`` beside it; several
    ``Exit`` are one, the abnormal one first; one exception in groups is that exception; a group of
    several stays a group.
    """
    found = list(leaves(error))
    exits = [leaf for leaf in found if isinstance(leaf, Exit)]
    others = [leaf for leaf in found if not isinstance(leaf, Exit)]
    if not others:
        return next((leaf for leaf in exits if leaf.reason.abnormal), exits[0])
    if len(others) == 1:
        return others[0]
    return without(error, Exit) or error


def _is_fatal(error: BaseException) -> bool:
    return not isinstance(error, Exception | Exit | trio.Cancelled)


def fatal_of(error: BaseException) -> BaseException | None:
    """Give what in *error* must end the whole tree: ``KeyboardInterrupt``, ``SystemExit`` and such."""
    return next((leaf for leaf in leaves(error) if _is_fatal(leaf)), None)
