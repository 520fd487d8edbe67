"""What the commands write: lines for people, that no terminal obeys."""

import json
import sys
from typing import Any

from slipstream.reasons import (
    ChannelClosed,
    ChannelCrashed,
    JoinFailed,
    JoinRefused,
    JoinTimedOut,
    TopicCloseReason,
)

__all__ = ["complain", "in_json", "printable", "why_closed"]


def complain(text: str, advice: str | None = None) -> None:
    """Write one line to stderr: what went wrong, and what may be done about it."""
    line = f"slipstream: {printable(text)}"
    print(line if advice is None else f"{line} ({advice})", file=sys.stderr)


def why_closed(topic: str, reason: TopicCloseReason) -> str:
    """Tell in words why *topic* is not joined."""
    match reason:
        case JoinRefused(response=response):
            return f"the server refused {topic}: {in_json(response)}"
        case JoinTimedOut():
            return f"the server did not answer the join of {topic}"
        case JoinFailed(error=error):
            return f"{topic} could not be joined: {error}"
        case ChannelCrashed():
            return f"{topic} crashed on the server"
        case ChannelClosed():
            return f"the server closed {topic}"
        case _:
            return f"{topic} was closed: {reason}"


def in_json(value: Any) -> str:
    """Give *value* as JSON, or its repr where JSON has nothing like it."""
    text = json.dumps(value, default=repr, ensure_ascii=False)
    return text if text.isprintable() else json.dumps(value, default=repr)


def printable(text: str) -> str:
    """Give *text* without anything that a terminal would obey."""
    return text if text.isprintable() else ascii(text)[1:-1]
