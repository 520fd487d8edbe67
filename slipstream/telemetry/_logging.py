"""The bridge to the standard library's logging: one line an event, without payloads."""

import logging
from collections.abc import Mapping
from typing import Any, Final

from ._dispatch import attach, detach

__all__ = ["attach_logging", "detach_logging"]

_ID: Final = "slipstream-logging"
# What users sent or received may be secret, and may be large.
_HIDDEN: Final = frozenset({"config", "payload", "response", "params", "headers", "message"})


def attach_logging(
    prefix: str = "slipstream",
    *,
    logger: logging.Logger | None = None,
    level: int = logging.INFO,
    skip: tuple[str, ...] = (".start",),
) -> None:
    """Log the events below *prefix*, one line each, to *logger* (by default ``slipstream.events``).

    Events whose name ends in one of *skip* are left out. The data are also the record's ``event``
    and ``data`` attributes, for structured logging; payloads, params and headers are left out.

    Raises:
        ConfigError: if it is attached already.
    """
    target = logger if logger is not None else logging.getLogger("slipstream.events")

    def write(event: str, data: Mapping[str, Any]) -> None:
        if event.endswith(skip) or not target.isEnabledFor(level):
            return
        shown = {key: value for key, value in data.items() if key not in _HIDDEN}
        text = " ".join(f"{key}={_brief(value)}" for key, value in shown.items())
        target.log(level, "%s %s", event, text, extra={"event": event, "data": shown})

    attach(_ID, prefix, write)


def detach_logging() -> bool:
    """Stop logging events; tell whether it was on."""
    return detach(_ID)


def _brief(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
