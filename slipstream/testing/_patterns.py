"""Patterns of assertions: whether something fits, and if not, where it differs."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from slipstream.client import ANY

__all__ = ["describe", "differences"]


def differences(pattern: Any, value: Any, path: str = "") -> list[str]:
    """Tell where *value* differs from *pattern*; nothing, if it fits.

    A pattern is ``ANY``, a type, a predicate, a mapping whose entries *value* must have (and fit,
    in turn), a list or tuple whose items must fit one by one, or a value to equal.
    """
    if pattern is ANY:
        return []
    if isinstance(pattern, type):
        return [] if isinstance(value, pattern) else _unlike(path, pattern.__name__, value)
    if isinstance(pattern, Mapping):
        return _of_mapping(cast("Mapping[object, Any]", pattern), value, path)
    if isinstance(pattern, list | tuple):
        return _of_sequence(cast("Sequence[Any]", pattern), value, path)
    if callable(pattern):
        return [] if pattern(value) else _unlike(path, describe(pattern), value)
    return [] if pattern == value else _unlike(path, repr(pattern), value)


def _of_mapping(pattern: Mapping[object, Any], value: Any, path: str) -> list[str]:
    if not isinstance(value, Mapping):
        return _unlike(path, repr(dict(pattern)), value)
    whole = cast("Mapping[object, Any]", value)
    found: list[str] = []
    for key, part in pattern.items():
        if key in whole:
            found += differences(part, whole[key], f"{path}[{key!r}]")
        else:
            found.append(f"{path}[{key!r}]: expected {describe(part)}, but it is not there")
    return found


def _of_sequence(pattern: Sequence[Any], value: Any, path: str) -> list[str]:
    if not isinstance(value, list | tuple):
        return _unlike(path, repr(pattern), value)
    whole = cast("Sequence[Any]", value)
    if len(whole) != len(pattern):
        return [f"{path}: expected {len(pattern)} items, got {len(whole)}: {whole!r}"]
    found: list[str] = []
    for place, (part, item) in enumerate(zip(pattern, whole, strict=True)):
        found += differences(part, item, f"{path}[{place}]")
    return found


def _unlike(path: str, expected: str, value: Any) -> list[str]:
    return [f"{path}: expected {expected}, got {value!r}".removeprefix(": ")]


def describe(pattern: Any) -> str:
    """Write *pattern* as a person would."""
    if isinstance(pattern, type):
        return pattern.__name__
    if callable(pattern) and pattern is not ANY:
        return f"what fits {getattr(pattern, '__qualname__', repr(pattern))}"
    return repr(pattern)
