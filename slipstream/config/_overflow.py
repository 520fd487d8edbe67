"""What happens to messages that come faster than they are handled."""

import inspect
from collections.abc import Callable, Hashable
from typing import Any, Literal, TypeAlias

import attrs

from slipstream.errors import ConfigError
from slipstream.interfaces import Message

from ._validators import Field, refuse

__all__ = ["Coalesce", "OnOverflow", "coalesce", "overflow_field"]


@attrs.frozen
class Coalesce:
    """A choice for ``Config.on_overflow``, made by :func:`coalesce`."""

    key: Callable[[Message], Hashable]


OnOverflow: TypeAlias = Literal["pause", "drop_oldest", "disconnect"] | Coalesce


def coalesce(key: Callable[[Message], Hashable]) -> Coalesce:
    """Let the newest message of a key take the place of the older one that waits.

    For values of which only the last counts, such as prices::

        Config(uri, on_overflow=coalesce(lambda message: message.payload["symbol"]))

    It happens once the limit is reached, among messages of one topic, and never across a change of
    the connection or a topic. The newest message stands where the oldest stood, so that no key starves,
    however often it changes. Where too little room comes of it, reading pauses.

    Args:
        key: gives what messages have to have in common, anything hashable; ``None`` for one that is
            never replaced. It runs while the connection reads: it must be fast, and an exception
            that it raises is the connection's crash.

    Raises:
        ConfigError: if *key* is no plain function.
    """
    given: Any = key
    if not callable(given) or inspect.iscoroutinefunction(given):
        raise ConfigError(
            f"coalesce: key is {key!r}; accepted is a function of a message, not async"
        )
    return Coalesce(key)


def overflow_field(instance: Any, field: Field, value: Any) -> None:
    if not isinstance(value, Coalesce) and value not in ("pause", "drop_oldest", "disconnect"):
        refuse(instance, field, value, "'pause', 'drop_oldest', 'disconnect' or coalesce(key)")
