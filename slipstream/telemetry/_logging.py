"""The bridge to the standard library's logging: one line an event, without payloads."""

import logging
import re
from collections.abc import Mapping
from fnmatch import translate
from typing import Any, Final

import attrs

from slipstream.reasons import ConnectFailed

from ._dispatch import attach, detach

__all__ = ["attach_logging", "detach_logging", "plain"]

_ID: Final = "slipstream-logging"
# What users sent or received may be secret, and may be large; alone or inside a reason.
_HIDDEN: Final = frozenset({
    "body", "config", "frames", "headers", "message", "params", "payload", "request", "response",
    "span",
})  # fmt: skip
_LONGEST: Final = 200
_DEEPEST: Final = 6
# What happens all the time while nothing happens.
_TRAFFIC: Final = re.compile(
    r"slipstream\.client\.(?!connect\.|join\.)\w+\.(?:start|stop)$"
    r"|slipstream\.connection\.(?:handle|heartbeat|connect\.\w+)$"
)
_STARTS: Final = ("slipstream.client.*.start", "slipstream.connection.*.start")


def attach_logging(
    prefix: str = "slipstream",
    *,
    logger: logging.Logger | None = None,
    level: int = logging.INFO,
    skip: tuple[str, ...] = _STARTS,
) -> None:
    """Log the events below *prefix*, one line each, to *logger* (by default ``slipstream.events``).

    What a person would follow goes to *level*: connects, joins, losses, what was decided about them,
    failures, children that start and stop. What comes with every message (batches, callbacks that
    went well, requests, heartbeats) goes to ``DEBUG``, and so does what says the same once more: the
    connection's own connects, the end of an attempt that failed, the child that a connection is.

    A line is ``event key=value …``, with a value in quotes where it has blanks. Events that match
    one of the patterns in *skip* (as file names are matched: ``*``, ``?``) are left out; by default
    the starts of spans, whose ends say more. A record also has the attributes ``event`` and
    ``data``, for structured logging: plain numbers and strings.

    Payloads, params, headers and bodies are left out, also where a reason or an error holds them.

    Raises:
        ConfigError: if it is attached already.
    """
    target = logger if logger is not None else logging.getLogger("slipstream.events")
    skipped = re.compile("|".join(map(translate, skip)) or "(?!)")

    def write(event: str, data: Mapping[str, Any]) -> None:
        loud = min(level, logging.DEBUG) if _is_for_debugging(event, data) else level
        if not target.isEnabledFor(loud) or skipped.match(event):
            return
        shown = {key: plain(value) for key, value in data.items() if key not in _HIDDEN}
        uri = getattr(data.get("config"), "safe_uri", None)
        if uri is not None:
            shown["uri"] = uri
        line = " ".join([event, *(f"{key}={_quoted(value)}" for key, value in shown.items())])
        target.log(loud, "%s", line, extra={"event": event, "data": shown})

    attach(_ID, prefix, write)


def detach_logging() -> bool:
    """Stop logging events; tell whether it was on."""
    return detach(_ID)


def _is_for_debugging(event: str, data: Mapping[str, Any]) -> bool:
    if event == "slipstream.connection.disconnect":
        return isinstance(data.get("reason"), ConnectFailed)  # client.connect.exception has told it
    inner = (data.get("supervisor"), data.get("id")) == ("connections", "connection")
    return inner or _TRAFFIC.match(event) is not None


def plain(value: Any) -> float | str | None:
    """Give *value* as a number or as text, of some length, without payloads."""
    if value is None or isinstance(value, int | float):
        return value
    return _text(value, _DEEPEST)


def _text(value: object, depth: int) -> str:
    if depth == 0:
        return "..."
    kind = type(value)
    if isinstance(value, BaseException):
        # The message of an error of ours spells its reason out, with the payload in it.
        reason: object = getattr(value, "reason", None)
        told = _text(reason, depth - 1) if attrs.has(type(reason)) else str(value)
        text = f"{kind.__name__}: {told}" if told else kind.__name__
    elif attrs.has(kind):
        fields = [field.name for field in attrs.fields(kind) if field.name not in _HIDDEN]
        inside = ", ".join(f"{name}={_text(getattr(value, name), depth - 1)}" for name in fields)
        text = f"{kind.__name__}({inside})"
    elif isinstance(value, type):
        text = value.__qualname__
    else:
        text = str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _quoted(value: float | str | None) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    text = str(value)
    # What the server chose may not look like more than one line, or one value.
    return text if text.isprintable() and not set(text) & set(" \"'=") and text else repr(text)
