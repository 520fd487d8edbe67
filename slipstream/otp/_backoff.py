"""Back-off: by how much to delay the restarts of a child that fails again and again."""

import math
import random
from collections.abc import Callable
from typing import Any

import attrs

from slipstream.errors import ConfigError
from slipstream.reasons import ExitReason

from ._results import check_duration

__all__ = ["Backoff"]


def _check(instance: object, field: "attrs.Attribute[Any]", value: object) -> None:
    least = "1" if field.name == "factor" else "0"
    name = f"{type(instance).__name__}.{field.name}"
    accepted = f"a finite number of {least} or more"
    number = check_duration(name, value, accepted=accepted)
    if number < float(least) or number == math.inf:
        raise ConfigError(f"{name}={value!r} is wrong: it takes {accepted}")


@attrs.frozen
class Backoff:
    """Delay each restart of a child that fails in a row by longer: for ``backoff=`` of a child.

    The n-th such delay (from 0) is drawn from uniform(0, min(*maximum*, *first* · *factor* ⁿ)), so
    that children that fell together do not rise together. A restart that is delayed does not count
    against ``max_restarts``: a supervisor never gives up for such a child.

    Attributes:
        first: the longest first delay, in seconds.
        factor: by what it grows from each failure to the next.
        maximum: the longest delay of all, in seconds.
        uniform: draws a number between two.

    Raises:
        ConfigError: if a value is wrong.
    """

    first: float = attrs.field(default=1.0, validator=_check)
    factor: float = attrs.field(default=2.0, validator=_check)
    maximum: float = attrs.field(default=30.0, validator=_check)
    uniform: Callable[[float, float], float] = attrs.field(
        default=random.uniform, kw_only=True, repr=False
    )

    def __call__(self, reason: ExitReason, restarts: int) -> float:
        """Draw the delay in seconds after *restarts* restarts in a row; the *reason* is the same."""
        del reason
        try:
            longest = self.first * float(self.factor) ** restarts
        except OverflowError:
            longest = self.maximum if self.first else 0.0
        return self.uniform(0.0, min(self.maximum, longest))
