"""What JSON can hold: found out only when encoding has failed, to say where."""

import math
from collections.abc import Mapping
from typing import Any, Final, cast

__all__ = ["find_fault"]

_DEEPEST: Final = 512


def find_fault(value: Any, path: str = "payload", depth: int = 0) -> tuple[str, str] | None:
    """Find the first part of *value* that JSON cannot hold: its path, and what is wrong with it."""
    if depth > _DEEPEST:
        return path, f"is nested deeper than {_DEEPEST} levels, or contains itself"
    match value:
        case None | bool() | int():
            return None
        case float():
            return None if math.isfinite(value) else (path, f"is {value!r}, which JSON cannot hold")
        case str():
            try:
                value.encode()
            except UnicodeEncodeError:
                return path, "is no valid Unicode: it has a lone surrogate"
            return None
        case bytes() | bytearray() | memoryview():
            return path, "is binary; a binary payload must be bytes as a whole"
        case Mapping():
            return _find_in_mapping(cast("dict[Any, Any]", value), path, depth)
        case list() | tuple():
            items = cast("list[Any]", value)
            for index, item in enumerate(items):
                found = find_fault(item, f"{path}[{index}]", depth + 1)
                if found is not None:
                    return found
            return None
        case _:
            return path, f"is of type {type(value).__name__}, which JSON cannot hold"


def _find_in_mapping(value: Mapping[Any, Any], path: str, depth: int) -> tuple[str, str] | None:
    for key, item in value.items():
        if not isinstance(key, str):
            return path, f"has the key {key!r}, which is no string"
        found = find_fault(key, f"{path}.{key!r}", depth + 1)
        found = found or find_fault(item, f"{path}.{key}", depth + 1)
        if found is not None:
            return found
    return None
