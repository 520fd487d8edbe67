"""Events by dotted name, to whoever asked for them."""

import inspect
import itertools
import logging
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TypeAlias, cast

from slipstream.errors import ConfigError

__all__ = [
    "Handler",
    "attach",
    "attached",
    "capture_events",
    "detach",
    "execute",
    "new_span",
    "span",
]

logger: Final = logging.getLogger("slipstream.telemetry")

Handler: TypeAlias = Callable[[str, Mapping[str, Any]], object]
"""Gets the event's name and its data. Called synchronously, so it may not block."""

_handlers: Final[dict[str, tuple[str, Handler]]] = {}
# What is known of each event that was ever executed or asked for: who gets it, and whether any of
# it is wanted. Both are emptied when that may have changed.
_receivers: Final[dict[str, tuple[tuple[str, Handler], ...]]] = {}
_attached: Final[dict[str, bool]] = {}
_spans: Final = itertools.count(1)


def attach(handler_id: str, event_or_prefix: str, function: Handler) -> None:
    """Call *function* for each event of that name, or below that dotted prefix (``""`` for all).

    A *function* that raises is detached, and that is logged once.

    Raises:
        ConfigError: if *handler_id* is attached already, *event_or_prefix* is no dotted name, or
            *function* cannot be called, or only awaited.
    """
    for name, given in (("id", handler_id), ("event", event_or_prefix)):
        if not isinstance(cast("object", given), str):
            raise ConfigError(f"telemetry {name} is {given!r}; accepted is a string")
    if handler_id in _handlers:
        raise ConfigError(f"telemetry handler {handler_id!r} is attached already: detach it first")
    if "*" in event_or_prefix or (event_or_prefix and "" in event_or_prefix.split(".")):
        raise ConfigError(
            f"telemetry event {event_or_prefix!r} is no dotted name: give a whole event, or whole "
            "parts from its start, as in 'slipstream.client'"
        )
    given_function: Any = function
    is_async = any(map(inspect.iscoroutinefunction, (function, type(function).__call__)))
    if not callable(given_function) or is_async:
        raise ConfigError(
            f"telemetry handler {handler_id!r} is {function!r}: give a plain function "
            "(event, data), not async, since events are told while something else goes on"
        )
    _handlers[handler_id] = (event_or_prefix, function)
    _forget()


def detach(handler_id: str) -> bool:
    """Stop calling the handler of that id; tell whether there was one."""
    found = _handlers.pop(handler_id, None) is not None
    _forget()
    return found


def attached(event: str) -> bool:
    """Tell whether anyone wants *event*, or one of a span's ends if *event* is a span.

    Ask before gathering what an event would carry.
    """
    try:
        return _attached[event]
    except KeyError:
        return _look_up(event)


def execute(event: str, /, **data: Any) -> None:
    """Tell everyone who wants *event*, with *data*."""
    receivers = _receivers.get(event)
    for handler_id, function in _find(event) if receivers is None else receivers:
        try:
            function(event, data)
        except Exception:  # boundary: an observer must not break what it observes
            detach(handler_id)
            logger.exception(
                "telemetry handler %r raised at %s and was detached", handler_id, event
            )


def new_span() -> int:
    """Give a number for one more span: what its start and its end have in common."""
    return next(_spans)


@contextmanager
def span(event: str, /, *, clock: Callable[[], float], **data: Any) -> Generator[dict[str, Any]]:
    """Tell of the start and the end of a block: ``….start``, then ``….stop`` or ``….exception``.

    Both carry ``span``, a number of their own. The end carries ``duration`` in seconds of *clock*;
    an exception also ``error``, and it always goes on, whatever it is. What the block puts into the
    dict it gets is told at the end too.
    """
    data = {"span": new_span(), **data}
    execute(f"{event}.start", **data)
    extra: dict[str, Any] = {}
    started = clock()
    try:
        yield extra
    except BaseException as error:
        # One dict, so that a key of the block's own cannot get in the way of its exception.
        told = {**data, **extra, "duration": clock() - started, "error": error}
        execute(f"{event}.exception", **told)
        raise
    execute(f"{event}.stop", **{**data, **extra, "duration": clock() - started})


@contextmanager
def capture_events(prefix: str = "slipstream") -> Generator[list[tuple[str, Mapping[str, Any]]]]:
    """Collect the events below *prefix*, as (name, data), while the block lasts: for tests."""
    captured: list[tuple[str, Mapping[str, Any]]] = []
    handler_id = f"capture-{id(captured)}"
    attach(handler_id, prefix, lambda event, data: captured.append((event, data)))
    try:
        yield captured
    finally:
        detach(handler_id)


def _forget() -> None:
    _receivers.clear()
    _attached.clear()


def _find(event: str) -> tuple[tuple[str, Handler], ...]:
    found = _receivers[event] = tuple(
        (handler_id, function)
        for handler_id, (prefix, function) in _handlers.items()
        if not prefix or event == prefix or event.startswith(f"{prefix}.")
    )
    return found


def _look_up(event: str) -> bool:
    # A span is wanted by whoever wants one of its ends.
    below = f"{event}."
    found = _attached[event] = bool(_find(event)) or any(
        prefix.startswith(below) for prefix, _ in _handlers.values()
    )
    return found
