"""Says in words what went wrong in a client."""

import os
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import trio

import slipstream
from slipstream.errors import BadReturnError, NotJoinedError, WrongTaskError
from slipstream.testing._timeline import Call

__all__ = ["crash_story", "place_of"]

_LIBRARIES: Final = tuple(
    str(Path(module.__file__ or "").parent) + os.sep for module in (slipstream, trio)
)


def crash_story(error: BaseException, calls: Sequence[Call]) -> str:
    """Tell of a crash: which callback, with what, by what."""
    call = next((each for each in reversed(calls) if _same(each.error, error)), None)
    if call is None:
        return f"it crashed outside of its callbacks, by {error!r}{_line(error)}{_hint(error, '')}"
    args = ", ".join(map(repr, call.args))
    return f"{call.name}({args}) raised {error!r}{_line(error)}{_hint(error, call.name)}"


def _same(left: BaseException | None, right: BaseException) -> bool:
    inner: Sequence[BaseException] = getattr(left, "exceptions", ())
    return left is right or any(_same(each, right) for each in inner)


def _line(error: BaseException) -> str:
    """Name the last line outside of the library."""
    if isinstance(error, BadReturnError):
        return ""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(_LIBRARIES)
    ]
    return f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""


def _hint(error: BaseException, callback: str) -> str:
    if callback == "terminate":
        return ". What terminate raises takes the place of the reason for which it ends"
    match error:
        case NotJoinedError():
            return (
                ". Join a topic before you push to it: in handle_connect, and push in handle_join"
            )
        case WrongTaskError():
            return ". In a task of your own use socket.request, or cast to the client"
        case NotImplementedError():
            return ". It was sent what it has no callback for"
        case KeyError() | IndexError() | AttributeError() | TypeError() | ValueError():
            return ". A payload may be other than you expect: look before you take"
        case AssertionError():
            return ". What it takes for granted need not be: messages come twice, late, and anew"
        case _:
            return ""


def place_of(running: Any) -> str:
    """Say where the coroutine *running* waits, as far as it is the user's code."""
    places: list[str] = []
    while running is not None:
        frame = getattr(running, "cr_frame", None) or getattr(running, "gi_frame", None)
        if frame is not None and not frame.f_code.co_filename.startswith(_LIBRARIES):
            code = frame.f_code
            places.append(f"{code.co_qualname}, {code.co_filename}:{frame.f_lineno}")
        running = getattr(running, "cr_await", None) or getattr(running, "gi_yieldfrom", None)
    return f" (it waits in {places[-1]})" if places else ""
