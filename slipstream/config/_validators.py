"""What the fields of a configuration are checked with: each refusal names field, value and cure."""

import functools
import math
from collections.abc import Callable
from typing import Any, NoReturn, TypeAlias

import attrs

from slipstream.errors import ConfigError

__all__ = [
    "Field",
    "checks_names",
    "function",
    "has",
    "instance_of",
    "one_of",
    "optional_function",
    "refuse",
    "seconds",
    "whole",
]

Field: TypeAlias = "attrs.Attribute[Any]"


def seconds(
    *, zero: bool = False, forever: bool = False, none: bool = False, most: float = math.inf
) -> Callable[[Any, Field, Any], None]:
    accepted = "a number of seconds " + ("from 0" if zero else "above 0")
    accepted += ", math.inf included" if forever else ""
    accepted += f" and at most {most:,}" if most < math.inf else ""
    accepted += ", or None" if none else ""

    def check(instance: Any, field: Field, value: Any) -> None:
        if value is None and none:
            return
        if not isinstance(value, int | float) or isinstance(value, bool):
            refuse(instance, field, value, accepted)
        if math.isnan(value) or value < 0 or (value == 0 and not zero):
            refuse(instance, field, value, accepted)
        if (math.isinf(value) and not forever) or value > most:
            refuse(instance, field, value, accepted)

    return check


def one_of(*choices: str) -> Callable[[Any, Field, Any], None]:
    def check(instance: Any, field: Field, value: Any) -> None:
        if value not in choices:
            refuse(instance, field, value, "one of " + ", ".join(map(repr, choices)))

    return check


def whole(*, least: int, none: bool = False) -> Callable[[Any, Field, Any], None]:
    def check(instance: Any, field: Field, value: Any) -> None:
        if value is None and none:
            return
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            accepted = f"a whole number from {least}" + (", or None" if none else "")
            refuse(instance, field, value, accepted)

    return check


def refuse(instance: Any, field: Field, value: Any, accepted: str) -> NoReturn:
    name = f"{type(instance).__name__}.{field.name}"
    raise ConfigError(f"{name} is {value!r}; accepted is {accepted}")


def checks_names(cls: type[Any]) -> None:
    """Let the constructor of *cls* refuse an unknown name with an error that lists the known ones."""
    make = cls.__init__
    names = [field.name for field in attrs.fields(cls)]

    @functools.wraps(make)
    def checked(self: Any, *args: Any, **options: Any) -> None:
        for name in options:
            if name not in names:
                raise ConfigError(
                    f"{cls.__name__} has no option {name!r}; accepted are {', '.join(names)}"
                )
        make(self, *args, **options)

    cls.__init__ = checked


def has(*methods: str, none: bool = False) -> Callable[[Any, Field, Any], None]:
    def check(instance: Any, field: Field, value: Any) -> None:
        if value is None and none:
            return
        if any(not hasattr(value, name) for name in methods):
            accepted = f"an object with {', '.join(methods)}" + (", or None" if none else "")
            refuse(instance, field, value, accepted)

    return check


def instance_of(
    kind: type[Any], *, none: bool = False, or_else: str = ""
) -> Callable[[Any, Field, Any], None]:
    def check(instance: Any, field: Field, value: Any) -> None:
        if not isinstance(value, kind) and not (value is None and none):
            accepted = f"a value of type {kind.__name__}" + (f", {or_else}" if or_else else "")
            accepted += ", or None" if none else ""
            refuse(instance, field, value, accepted)

    return check


def function(shape: str) -> Callable[[Any, Field, Any], None]:
    def check(instance: Any, field: Field, value: Any) -> None:
        if not callable(value):
            refuse(instance, field, value, f"a function {shape}")

    return check


def optional_function(shape: str) -> Callable[[Any, Field, Any], None]:
    def check(instance: Any, field: Field, value: Any) -> None:
        if value is not None and not callable(value):
            refuse(instance, field, value, f"a function {shape}, or None")

    return check
