"""Callbacks are checked when their class is made: name, parameters, ``async``; later, what they return."""

import difflib
import functools
import inspect
from collections.abc import Iterable, Mapping
from types import BuiltinMethodType
from typing import Any

from slipstream.errors import BadReturnError, CallbackSignatureError

__all__ = ["bad_return", "check_callbacks", "fit_arguments"]


def check_callbacks(
    cls: type[Any],
    *,
    async_callbacks: Mapping[str, str],
    sync_callbacks: Mapping[str, str] | None = None,
    own_names: Iterable[str] = (),
) -> None:
    """Check the callbacks that the bodies of *cls* and of its plain mixins define.

    Args:
        cls: the class, just made.
        async_callbacks: the parameters of each callback after ``self``, such as
            ``{"handle_call": "request, caller"}``; ``"*"`` for any number of them.
        sync_callbacks: the same for those that are plain functions.
        own_names: names that begin with ``handle_`` and yet are no callbacks.

    Raises:
        CallbackSignatureError: for a misspelled name, wrong parameters, or a missing ``async``.
    """
    sync_callbacks = sync_callbacks or {}
    known = {**async_callbacks, **sync_callbacks}
    allowed = {*known, *own_names}
    for body in (cls, *_mixins(cls)):
        for name, value in vars(body).items():
            if name in async_callbacks:
                _check_one(body, name, value, async_callbacks[name], is_async=True)
            elif name in sync_callbacks:
                _check_one(body, name, value, sync_callbacks[name], is_async=False)
            elif name not in allowed and inspect.isfunction(value):
                _check_name(body, name, value, known, mixin=body is not cls)


def _mixins(cls: type[Any]) -> list[type[Any]]:
    """Give the bases of *cls* that were not checked when they were made."""
    return [
        base
        for base in cls.__mro__[1:]
        if base is not object and isinstance(base.__init_subclass__, BuiltinMethodType)
    ]


def _shape(name: str, parameters: str, *, is_async: bool) -> str:
    inside = "self, *args" if parameters == "*" else f"self, {parameters}" if parameters else "self"
    return f"{'async ' if is_async else ''}def {name}({inside})"


def _check_name(
    cls: type[Any], name: str, value: Any, known: Mapping[str, str], *, mixin: bool
) -> None:
    close = [
        guess
        for guess in difflib.get_close_matches(name, known, n=1, cutoff=0.84)
        # "terminated" is a word of its own, and no slip of the pen.
        if not name.startswith(guess)
    ]
    # A mixin may be made for other uses too, and have names for them.
    if name.startswith("handle_") and (close or not mixin):
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(sorted(known))}"
        raise CallbackSignatureError(f"{cls.__qualname__}.{name} is no callback: {hint}")
    if close and not name.startswith("_") and inspect.iscoroutinefunction(value):
        raise CallbackSignatureError(
            f"{cls.__qualname__}.{name} is no callback: did you mean {close[0]!r}?"
        )


def _check_one(cls: type[Any], name: str, value: Any, parameters: str, *, is_async: bool) -> None:
    shape = _shape(name, parameters, is_async=is_async)
    where = f"{cls.__qualname__}.{name}"
    function: Any = value
    if isinstance(value, classmethod | staticmethod) or not callable(value):
        raise CallbackSignatureError(f"{where} is {value!r}, but it has to be a method: {shape}")
    given = f"def {name}{_signature(function)}"
    is_coroutine = inspect.iscoroutinefunction(inspect.unwrap(function))
    if is_async and not is_coroutine:
        raise CallbackSignatureError(f"{where} is not async: it is `{given}`, not `{shape}`")
    if not is_async and is_coroutine:
        raise CallbackSignatureError(f"{where} must not be async: it is `{shape}`")
    if parameters == "*":
        return
    count = 1 + len([part for part in parameters.split(",") if part.strip()])
    try:
        inspect.signature(function).bind(*[None] * count)
    except TypeError as error:
        prefix = "async " if is_async else ""
        raise CallbackSignatureError(
            f"{where} takes the wrong parameters: it is `{prefix}{given}`, not `{shape}`"
        ) from error
    except ValueError:
        return  # a callable without a signature that could be checked


def _signature(function: Any) -> str:
    try:
        return str(inspect.signature(function))
    except (TypeError, ValueError):
        return "(...)"


def fit_arguments(function: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Give the arguments for *function*, an ``init``: ``None`` where one is needed and none given."""
    if args:
        return args
    plain = getattr(function, "__func__", None)
    return _nothing_for(function) if plain is None else _nothing_for(plain, None)


@functools.lru_cache(maxsize=256)  # reading a signature takes longer than starting a process
def _nothing_for(function: Any, *bound: None) -> tuple[Any, ...]:
    try:
        inspect.signature(function).bind(*bound)
    except TypeError:
        return (None,)
    return ()


def bad_return(server: object, callback: str, value: Any, accepted: str) -> BadReturnError:
    """Make the error for a *callback* of *server* that gave *value* instead of what is *accepted*."""
    what = f"{value!r}"
    if inspect.iscoroutine(value):
        what = f"the coroutine {value.__qualname__}: did you forget await?"
        value.close()
    return BadReturnError(
        f"{type(server).__qualname__}.{callback} returned {what} (it takes {accepted})", value=value
    )
