"""What JSON can hold: walks a payload to name the part that it cannot."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeAlias, cast

__all__ = ["Judge", "find_fault", "judge_encoded", "judge_refused", "judge_trusted"]

_DEEPEST: Final = 512
_PLAIN: Final = frozenset({str, int, bool, type(None)})

Judge: TypeAlias = Callable[[Any], str | None]
"""Tells what is wrong with a value that is no dict, list or tuple."""

_Parts: TypeAlias = Iterable[tuple[str | int, Any]]


def find_fault(value: Any, root: str, judge: Judge) -> tuple[str, str] | None:
    """Find the first part of *value* that *judge* refuses: its path from *root*, and the reason.

    A loop and no recursion: what it walks may contain itself.
    """
    trail: list[str | int] = []
    levels: list[Iterator[tuple[str | int, Any]]] = [iter([("", value)])]
    while levels:
        for step, item in levels[-1]:
            fault, parts = _look_at(item, judge)
            path = [*trail, step][1:] if fault is not None else []
            if parts is not None and len(levels) > _DEEPEST:
                fault = f"is nested deeper than {_DEEPEST} levels, or contains itself"
                path = trail[1:4]  # the beginning names the culprit
            if fault is not None:
                return _spell(root, path), fault
            if parts is not None:
                trail.append(step)
                levels.append(iter(parts))
                break
        else:
            levels.pop()
            del trail[-1:]
    return None


def _spell(root: str, steps: list[str | int]) -> str:
    return root + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)


def _look_at(item: Any, judge: Judge) -> tuple[str | None, _Parts | None]:
    match item:
        case dict():
            fields: dict[Any, Any] = item  # pyright: ignore[reportUnknownVariableType]  # any dict
            for key in fields:
                if not isinstance(key, str):
                    return f"has the key {key!r}, which is no string", None
                fault = judge(key)
                if fault is not None:
                    return f"has the key {key!r}, which {fault}", None
            return None, fields.items()
        case list() | tuple():
            return None, enumerate(cast("list[Any]", item))
        case _:
            return judge(item), None


def judge_trusted(item: Any) -> str | None:
    """Judge what a codec of the user's took: it may know more types, but never bytes or NaN."""
    if isinstance(item, float) and not math.isfinite(item):
        return f"is {item!r}, which JSON cannot hold"
    if isinstance(item, bytes | bytearray | memoryview):
        return "is binary; a binary payload must be bytes as a whole"
    return None


def judge_encoded(item: Any) -> str | None:
    """Judge what msgspec took: it writes bytes as base64, NaN as null, sets as lists, silently."""
    if type(item) in _PLAIN:
        return None
    fault = judge_trusted(item)
    if fault is None and not isinstance(item, str | int | float):
        fault = f"is of type {type(item).__name__}, which JSON cannot hold"
    return fault


def judge_refused(encode: Callable[[Any], object]) -> Judge:
    """Give a judge of what *encode* refused: it asks again, about each part."""

    def judge(item: Any) -> str | None:
        fault = judge_trusted(item)
        if fault is not None:
            return fault
        try:
            encode(item)
        except Exception as error:  # noqa: BLE001 - boundary: a codec of the user's may raise anything
            if isinstance(error, UnicodeEncodeError):
                return "is no valid Unicode: it has a lone surrogate"
            return judge_encoded(item) or f"could not be encoded: {error!r}"
        return None

    return judge
