"""Going on where one was: what a join may know of the one before."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from slipstream.errors import ConfigError
from slipstream.interfaces import JoinContext

__all__ = ["check_provider", "with_context"]


def check_provider(function: Callable[..., Any]) -> None:
    """Refuse a *function* that can be called neither with a :class:`JoinContext` nor without.

    Raises:
        ConfigError: if it takes more.
    """
    signature = _signature(function)
    if signature is not None and not (_takes(signature) or _takes(signature, None)):
        raise ConfigError(
            f"params is {function!r}, which takes {signature}; accepted is a function without "
            "arguments, or with one, the JoinContext"
        )


def with_context(function: Callable[..., Any], context: JoinContext) -> Callable[[], Any]:
    """Give *function* with its *context*, if it asks for one: if it cannot be called without."""
    signature = _signature(function)
    if signature is None or _takes(signature):
        return function
    return partial(function, context)


def _signature(function: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):  # some of those written in C have none
        return None


def _takes(signature: inspect.Signature, *args: Any) -> bool:
    try:
        signature.bind(*args)
    except TypeError:
        return False
    return True
