"""``@on_message``: which method handles which messages."""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import attrs

from slipstream.errors import CallbackSignatureError

__all__ = ["Route", "Routes", "collect_routes", "on_message"]

F = TypeVar("F", bound=Callable[..., Awaitable[Any]])

_MARK: Final = "__slipstream_routes__"
_CACHE_LIMIT = 4096
_ANY_PAYLOAD: Final = object()


def on_message(topic: str, event: str = "*", *, payload: Any = _ANY_PAYLOAD) -> Callable[[F], F]:
    """Let the decorated method handle messages of *topic* and *event*.

    In both a trailing ``*`` stands for the rest of the name; the most specific pattern wins. The
    method gets ``(topic, payload, socket)``, and ``(topic, event, payload, socket)`` where *event*
    has a ``*``. It returns what ``handle_message`` may return. With *payload*, a type, the payload
    is converted into it by msgspec (attrs classes, dataclasses, Structs, TypedDicts); one that
    does not fit goes to ``handle_message`` as it came, with a warning.

    Raises:
        CallbackSignatureError: if a pattern is malformed, or the method is not ``async`` or takes
            other parameters.
    """
    for what, pattern in (("topic", topic), ("event", event)):
        given: Any = pattern
        if not isinstance(given, str) or not given or "*" in given[:-1]:
            raise CallbackSignatureError(
                f"on_message: {what} pattern {pattern!r} is not a name with at most one '*', at its end"
            )

    def decorate(method: F) -> F:
        route = Route(topic=topic, event=event, payload=payload, method=method.__name__)
        _check(method, route)
        setattr(method, _MARK, (*getattr(method, _MARK, ()), route))
        return method

    return decorate


@attrs.frozen
class Route:
    """One ``on_message`` of one method."""

    topic: str
    event: str
    payload: Any
    method: str

    @property
    def typed(self) -> bool:
        """Whether the payload is converted."""
        return self.payload is not _ANY_PAYLOAD

    @property
    def wants_event(self) -> bool:
        """Whether the method also gets the event's name."""
        return self.event.endswith("*")

    @property
    def specificity(self) -> tuple[bool, int, bool, int]:
        """Sort key: exact before pattern, long before short, the topic before the event."""
        return (
            not self.topic.endswith("*"),
            len(self.topic),
            not self.event.endswith("*"),
            len(self.event),
        )

    def fits(self, topic: str, event: str) -> bool:
        """Tell whether a message of *topic* and *event* is this route's."""
        return _fits(self.topic, topic) and _fits(self.event, event)


def _fits(pattern: str, name: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def _check(method: Callable[..., Any], route: Route) -> None:
    wanted = ["self", "topic", *(["event"] if route.wants_event else []), "payload", "socket"]
    shape = f"async def {route.method}({', '.join(wanted)})"
    if not inspect.iscoroutinefunction(method):
        raise CallbackSignatureError(
            f"on_message: {route.method} is not async; it must be: {shape}"
        )
    try:
        inspect.signature(method).bind(*wanted)
    except TypeError as error:
        raise CallbackSignatureError(
            f"on_message({route.topic!r}, {route.event!r}): {route.method}"
            f"{inspect.signature(method)} takes the wrong parameters ({error}); it must be: {shape}"
        ) from None


def collect_routes(cls: type[Any]) -> "Routes":
    """Collect the routes of *cls* and its bases; a class's own pattern wins over a base's."""
    found: dict[tuple[str, str], Route] = {}
    for base in reversed(cls.__mro__):
        own: set[tuple[str, str]] = set()
        for name, method in vars(base).items():
            for route in getattr(method, _MARK, ()):
                key = (route.topic, route.event)
                if key in own:
                    raise CallbackSignatureError(
                        f"{cls.__name__}: two methods handle {key[0]!r}, {key[1]!r}: "
                        f"{found[key].method} and {name}"
                    )
                own.add(key)
                found[key] = route
    return Routes(list(found.values()))


class Routes:
    """Finds the most specific route of a message; what was found is remembered."""

    def __init__(self, routes: list[Route]) -> None:
        self._routes = sorted(routes, key=lambda route: route.specificity, reverse=True)
        self._cache: dict[tuple[str, str], Route | None] = {}

    def __bool__(self) -> bool:
        return bool(self._routes)

    @property
    def methods(self) -> set[str]:
        """The names of the methods that are routed to."""
        return {route.method for route in self._routes}

    def find(self, topic: str, event: str) -> Route | None:
        """Give the route of a message of *topic* and *event*, or ``None``."""
        key = (topic, event)
        try:
            return self._cache[key]
        except KeyError:
            pass
        found = next((route for route in self._routes if route.fits(topic, event)), None)
        if len(self._cache) >= _CACHE_LIMIT:
            self._cache.clear()  # names may be without number; the common ones come back at once
        self._cache[key] = found
        return found
