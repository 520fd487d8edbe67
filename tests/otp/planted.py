"""That the models are worth something: how a fault is planted, and has to be found.

A fault replaces one function by name, and breaks loudly once that name is gone: plant it anew where
its behaviour has moved to.
"""

import logging
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeAlias

import hypothesis
import pytest
import trio
from hypothesis import Phase

__all__ = ["Fault", "Patch", "around", "find", "finds"]

Patch: TypeAlias = pytest.MonkeyPatch
Fault: TypeAlias = Callable[[Patch], None]
Made: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]


def around(patch: Patch, cls: type[Any] | ModuleType, name: str, make: Made) -> None:
    """Replace a method, or a function of a module, by what *make* makes of it."""
    patch.setattr(cls, name, make(getattr(cls, name)), raising=True)


def find(check: Callable[..., None], drawn: Any, examples: int) -> None:
    """Assert that *check* finds something within so many *examples*, the same ones each time."""
    logger = logging.getLogger("slipstream")
    logger.disabled = True
    try:
        # What is found, but not twice, is found: a fault may make a process depend on chance.
        with pytest.raises((AssertionError, trio.TooSlowError, hypothesis.errors.Flaky)):
            check(
                drawn,
                examples,
                derandomize=True,
                database=None,
                phases=[Phase.generate],
                report_multiple_bugs=False,
                verbosity=hypothesis.Verbosity.quiet,
            )
    finally:
        logger.disabled = False


def finds(faults: dict[str, list[Fault]]) -> pytest.MarkDecorator:
    """Parametrise a test by ``drawn, fault``: for each strategy's name what it has to find."""
    pairs = [(drawn, fault) for drawn, several in faults.items() for fault in several]
    return pytest.mark.parametrize(
        ("drawn", "fault"), pairs, ids=[fault.__name__ for _, fault in pairs]
    )
