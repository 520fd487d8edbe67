"""Patterns of assertions: whether something fits, and if not, where it differs."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import attrs

from slipstream.client import ANY

__all__ = ["describe", "differences", "exactly"]


@attrs.frozen
class _Exactly:
    """Fits what equals *value*."""

    value: Any

    def __call__(self, given: Any) -> bool:
        return bool(given == self.value)

    def __repr__(self) -> str:
        return f"exactly({self.value!r})"


def exactly(value: Any) -> Any:
    """Make a pattern that fits only what equals *value*: of a mapping, one without other entries."""
    return _Exactly(value)


def differences(pattern: Any, value: Any, path: str = "") -> list[str]:
    """Tell where *value* differs from *pattern*; nothing, if it fits.

    A pattern is ``ANY``, a type, a predicate, a mapping whose entries *value* must have (and fit,
    in turn), a list or tuple whose items must fit one by one, or a value to equal. What a predicate
    raises for does not fit it.
    """
    if pattern is ANY:
        return []
    if isinstance(pattern, type):
        return [] if isinstance(value, pattern) else _unlike(path, pattern.__name__, value)
    if isinstance(pattern, Mapping):
        return _of_mapping(cast("Mapping[object, Any]", pattern), value, path)
    if isinstance(pattern, list | tuple):
        return _of_sequence(cast("Sequence[Any]", pattern), value, path)
    if isinstance(pattern, _Exactly):
        return _exact(pattern, value, path)
    if callable(pattern):
        return _of_predicate(pattern, value, path)
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


def _of_predicate(pattern: Callable[[Any], object], value: Any, path: str) -> list[str]:
    try:
        return [] if pattern(value) else _unlike(path, describe(pattern), value)
    except Exception as error:  # noqa: BLE001 - boundary: a predicate may not be meant for this value
        return [f"{path}: {describe(pattern)} raised {error!r} for {value!r}".removeprefix(": ")]


def _exact(pattern: _Exactly, value: Any, path: str) -> list[str]:
    if pattern(value):
        return []
    wanted, whole = pattern.value, value
    if not isinstance(wanted, Mapping) or not isinstance(whole, Mapping):
        return _unlike(path, repr(pattern), value)
    expected, given = cast("dict[object, Any]", wanted), cast("dict[object, Any]", whole)
    found: list[str] = []
    for key in {**expected, **given}:
        place = f"{path}[{key!r}]"
        if key not in given:
            found.append(f"{place}: expected {expected[key]!r}, but it is not there")
        elif key not in expected:
            found.append(f"{place}: expected not to be there, got {given[key]!r}")
        elif given[key] != expected[key]:
            found += _unlike(place, repr(expected[key]), given[key])
    return found


def _unlike(path: str, expected: str, value: Any) -> list[str]:
    return [f"{path}: expected {expected}, got {value!r}".removeprefix(": ")]


def describe(pattern: Any) -> str:
    """Write *pattern* as a person would."""
    if isinstance(pattern, type):
        return pattern.__name__
    if callable(pattern) and pattern is not ANY:
        return repr(pattern) if isinstance(pattern, _Exactly) else f"what fits {_name(pattern)}"
    return repr(pattern)


def _name(pattern: Any) -> str:
    name: str = getattr(pattern, "__qualname__", "") or repr(pattern)
    code = getattr(pattern, "__code__", None)
    if "<lambda>" not in name or code is None:
        return name.rpartition("<locals>.")[2]
    # All lambdas have the same name: the line tells which it is.
    return f"the lambda of line {code.co_firstlineno}"
