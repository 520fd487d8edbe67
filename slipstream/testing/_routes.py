"""Which channel serves a topic."""

from collections.abc import Mapping
from typing import Any

from slipstream.errors import ConfigError

from ._channel import Channel

__all__ = ["Routes"]


class Routes:
    """Channel classes by topic pattern.

    Raises:
        ConfigError: for a pattern that is none, and for what is no channel class.
    """

    def __init__(self, channels: Mapping[str, type[Channel]]) -> None:
        for pattern, channel in channels.items():
            _check(pattern, channel)
        self._channels = dict(channels)

    def find(self, topic: str) -> type[Channel] | None:
        """Give the class for *topic*, if there is one; the most specific pattern wins."""
        if topic in self._channels and not topic.endswith("*"):
            return self._channels[topic]
        fitting = [
            pattern
            for pattern in self._channels
            if pattern.endswith("*") and topic.startswith(pattern[:-1])
        ]
        return self._channels[max(fitting, key=len)] if fitting else None


def _check(pattern: Any, channel: Any) -> None:
    if not isinstance(pattern, str) or not pattern or "*" in pattern[:-1]:
        raise ConfigError(
            f"channels has the pattern {pattern!r}; accepted is a topic, or the beginning of one "
            "with a '*' at its end"
        )
    if not (isinstance(channel, type) and issubclass(channel, Channel)):
        raise ConfigError(f"channels[{pattern!r}] is {channel!r}; accepted is a Channel class")
