"""Payloads into types of the user's: what does not fit is told of by its path, never by its value."""

import re
from typing import Any, Final

import msgspec

from slipstream.errors import DecodeError

__all__ = ["convert"]

_TOLD: Final = re.compile(r"(?P<what>.*?)(?: - at `(?P<path>.*)`)?", re.DOTALL)
_VALUE: Final = re.compile(r"(Invalid (?:enum )?value) .*", re.DOTALL)
"""Where msgspec's message shows what the server sent."""


def convert(value: Any, kind: Any, root: str) -> Any:
    """Make a *kind* of *value*, a JSON value or ``bytes``; *root* is what errors call it.

    Raises:
        DecodeError: if *value* does not fit, such as ``response.items[2].price: expected float,
            got str``. A check of the user's own that refused it is the cause.
        TypeError: if *kind* is nothing that msgspec knows how to make.
    """
    if kind is bytes:  # within JSON, msgspec takes text for base64; a payload is binary or is not
        if isinstance(value, bytes):
            return value
        raise DecodeError(f"{root}: expected bytes, got {type(value).__name__}", path=root)
    try:
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError:
            # JSON's keys are text, whatever the type says; to allow for it takes three times as long.
            return msgspec.convert(value, kind, str_keys=True)
    except msgspec.ValidationError as error:
        raise _misfit(error, root) from error.__cause__
    except RecursionError:
        raise DecodeError(f"{root}: is nested too deeply", path=root) from None


def _misfit(error: msgspec.ValidationError, root: str) -> DecodeError:
    told = _TOLD.fullmatch(str(error))
    assert told is not None  # noqa: S101 - everything matches
    path = (told["path"] or "$").replace("` in `", " of ").replace("$", root, 1)
    what = _VALUE.sub(r"\1", told["what"]).replace("`", "")
    if error.__cause__ is not None:
        what = f"refused by a check of its type ({type(error.__cause__).__name__})"
    return DecodeError(f"{path}: {what[:1].lower()}{what[1:]}", path=path)
