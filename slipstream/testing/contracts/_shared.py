"""State of a class, which all its clients share."""

import copy
from collections import deque
from typing import Any, Final

from slipstream.client import SlipstreamClient

__all__ = ["SharedState"]

_CONTAINERS: Final = (list, dict, set, deque, bytearray)
_VALUES: Final = (int, float, str, bytes, tuple, frozenset, type(None), *_CONTAINERS)


class SharedState:
    """What the classes of *client* hold, from its own up to the library's."""

    def __init__(self, client: type[SlipstreamClient]) -> None:
        own = client.__mro__[: client.__mro__.index(SlipstreamClient)]
        attributes: list[tuple[type[Any], str, Any]] = [
            (cls, name, value) for cls in own for name, value in vars(cls).items()
        ]
        self._held: list[tuple[type[Any], str, Any, Any]] = [
            (cls, name, value, copy.deepcopy(value))
            for cls, name, value in attributes
            if _is_state(value) and not name.startswith("__")
        ]

    def changed(self) -> str | None:
        """Name what has changed, if anything has."""
        for cls, name, _, before in self._held:
            if vars(cls).get(name) != before:
                return name
        return None

    def restore(self) -> None:
        """Make it what it was."""
        for cls, name, value, before in self._held:
            if vars(cls).get(name) == before:
                continue
            if _is_container(value):
                value.clear()
                add = value.update if hasattr(value, "update") else value.extend
                add(copy.deepcopy(before))
            setattr(cls, name, value)


def _is_state(value: Any) -> bool:
    return isinstance(value, _VALUES)


def _is_container(value: Any) -> bool:
    return isinstance(value, _CONTAINERS)
