"""Events by dotted name, to whoever asked for them."""

import logging
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

from slipstream.errors import ConfigError

__all__ = ["Handler", "attach", "attached", "capture_events", "detach", "execute", "span"]

logger: Final = logging.getLogger("slipstream.telemetry")

Handler: TypeAlias = Callable[[str, Mapping[str, Any]], object]
"""Gets the event's name and its data. Called synchronously, so it may not block."""

_handlers: Final[dict[str, tuple[str, Handler]]] = {}
# For each event that was ever executed, who wants it; emptied when that may have changed.
_wanted: Final[dict[str, tuple[tuple[str, Handler], ...]]] = {}


def attach(handler_id: str, event_or_prefix: str, function: Handler) -> None:
    """Call *function* for each event of that name, or below that dotted prefix (``""`` for all).

    A *function* that raises is detached, and that is logged once.

    Raises:
        ConfigError: if *handler_id* is attached already.
    """
    if handler_id in _handlers:
        raise ConfigError(f"telemetry handler {handler_id!r} is attached already: detach it first")
    _handlers[handler_id] = (event_or_prefix, function)
    _wanted.clear()


def detach(handler_id: str) -> bool:
    """Stop calling the handler of that id; tell whether there was one."""
    found = _handlers.pop(handler_id, None) is not None
    _wanted.clear()
    return found


def attached(event: str) -> bool:
    """Tell whether anyone wants *event*: ask before gathering what it would carry."""
    try:
        return bool(_wanted[event])
    except KeyError:
        return bool(_find(event))


def execute(event: str, /, **data: Any) -> None:
    """Tell everyone who wants *event*, with *data*."""
    for handler_id, function in _wanted[event] if event in _wanted else _find(event):
        try:
            function(event, data)
        except Exception:  # boundary: an observer must not break what it observes
            _handlers.pop(handler_id, None)
            _wanted.clear()
            logger.exception(
                "telemetry handler %r raised at %s and was detached", handler_id, event
            )


@contextmanager
def span(event: str, /, *, clock: Callable[[], float], **data: Any) -> Generator[dict[str, Any]]:
    """Tell of the start and the end of a block: ``….start``, then ``….stop`` or ``….exception``.

    The end carries ``duration`` in seconds of *clock*; an exception also ``error``, and it always
    goes on, whatever it is. What the block puts into the dict it gets is told at the end too.
    """
    execute(f"{event}.start", **data)
    extra: dict[str, Any] = {}
    started = clock()
    try:
        yield extra
    except BaseException as error:
        execute(f"{event}.exception", **{**data, **extra}, duration=clock() - started, error=error)
        raise
    execute(f"{event}.stop", **{**data, **extra}, duration=clock() - started)


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


def _find(event: str) -> tuple[tuple[str, Handler], ...]:
    found = tuple(
        (handler_id, function)
        for handler_id, (prefix, function) in _handlers.items()
        # A span is wanted by whoever wants one of its ends.
        if not prefix or event == prefix or event.startswith(f"{prefix}.")
        or prefix.startswith(f"{event}.")
    )  # fmt: skip
    _wanted[event] = found
    return found
