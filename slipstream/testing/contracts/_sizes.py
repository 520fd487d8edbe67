"""How much a client keeps."""

from collections import deque
from collections.abc import Mapping, Set as AbstractSet
from typing import Any, Final, cast

__all__ = ["biggest", "size_of"]

_DEPTH: Final = 6


def size_of(value: Any, depth: int = _DEPTH) -> int:
    """Count the values that *value* is made of; what has a limit of its own counts as full."""
    if depth == 0:
        return 1
    kind: type[Any] = value.__class__
    if issubclass(kind, deque) and value.maxlen is not None:
        return int(value.maxlen)
    if issubclass(kind, Mapping):
        return 1 + sum(size_of(item, depth - 1) for item in value.values())
    if issubclass(kind, list | tuple | deque | AbstractSet):
        return 1 + sum(size_of(item, depth - 1) for item in value)
    if issubclass(kind, str | bytes | bytearray):
        return 1 + len(value) // 100
    module = kind.__module__
    inner = getattr(value, "__dict__", None)
    if isinstance(inner, dict) and not module.startswith(("slipstream", "trio", "builtins")):
        return 1 + sum(size_of(item, depth - 1) for item in cast("dict[str, Any]", inner).values())
    return 1


def biggest(state: Mapping[str, Any]) -> str:
    """Name what is biggest in *state*."""
    name, value = max(state.items(), key=lambda entry: size_of(entry[1]))
    return f"{name} alone holds {size_of(value)}"
