"""``@on_message``: which method handles which messages."""

import inspect
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Concatenate, Final, Generic, ParamSpec, TypeVar, cast, overload

import attrs
import msgspec

from slipstream.errors import CallbackSignatureError
from slipstream.otp import NoReply, Stop

from ._patterns import Pattern, Shape
from ._socket import Socket

__all__ = ["Handles", "Route", "Routes", "collect_routes", "on_message"]

T = TypeVar("T")
C = TypeVar("C")
P = ParamSpec("P")
R = TypeVar("R", bound=NoReply | Stop | None)

_MARK: Final = "__slipstream_routes__"
_CACHE_LIMIT = 4096
_ANY_PAYLOAD: Final[Any] = object()


@overload
def on_message(topic: str, event: str = "*", *, payload: type[T]) -> "Handles[T]": ...
@overload
def on_message(topic: str, event: str = "*", *, payload: Any = ...) -> "Handles[Any]": ...
def on_message(topic: str, event: str = "*", *, payload: Any = _ANY_PAYLOAD) -> "Handles[Any]":
    """Let the decorated method handle messages of *topic* and *event*, like ``handle_message``.

    In both patterns a part between colons may be a capture, ``{room}``, which stands for one part
    that is not empty, and a trailing ``*`` stands for the rest, colons and all. The method gets
    ``(topic, payload, socket)``, with the event's name after the topic where *event* has a ``*``, and
    its captures as keyword arguments::

        @on_message("rooms:{room}", "new:msg", payload=NewMessage)
        async def greet(self, topic, message, socket, *, room): ...

    Of several patterns that fit, the most specific one wins: topics are compared first, then events,
    each part by part from the left; an exact part goes before a capture, a capture before a ``*``,
    and a ``*`` after a longer beginning before one after a shorter. Two methods for the same pattern
    are refused when the class is made, unless one belongs to a subclass of the other's class. A
    method that is overridden keeps its patterns, unless it is decorated anew.

    With *payload* the payload is made into that type by msgspec: an attrs class, a dataclass, a
    Struct, a TypedDict, or ``list[...]`` and the like; ``bytes`` for binary payloads alone. One that
    does not fit goes to ``handle_bad_payload``.

    Raises:
        CallbackSignatureError: if a pattern is malformed, the method is not ``async`` or takes
            other parameters, or *payload* is no type that msgspec can make.
    """
    patterns = Pattern.parse("topic", topic), Pattern.parse("event", event)
    _check_kind(payload)
    return Handles(*patterns, payload)


@attrs.frozen
class Handles(Generic[T]):
    """What :func:`on_message` gives: a decorator for methods that take a payload of type *T*."""

    topic: Pattern
    event: Pattern
    payload: Any

    # The longer one first: with a payload of any type, the shorter one would take its methods, too.
    @overload
    def __call__(  # type: ignore[overload-overlap]  # a method that fits both is given as it came
        self, method: Callable[Concatenate[C, str, str, T, Socket, P], Coroutine[Any, Any, R]], /
    ) -> Callable[Concatenate[C, str, str, T, Socket, P], Coroutine[Any, Any, R]]: ...
    @overload
    def __call__(
        self, method: Callable[Concatenate[C, str, T, Socket, P], Coroutine[Any, Any, R]], /
    ) -> Callable[Concatenate[C, str, T, Socket, P], Coroutine[Any, Any, R]]: ...
    def __call__(self, method: Any, /) -> Any:
        """Mark *method*; a class collects what is marked in it when it is made."""
        route = Route(self.topic, self.event, self.payload, method.__name__)
        route.check(method)
        setattr(method, _MARK, (*_marks(method), route))
        return method


def _is_typed(route: "Route") -> bool:
    return route.payload is not _ANY_PAYLOAD


def _wants_event(route: "Route") -> bool:
    return route.event.is_open


@attrs.frozen
class Route:
    """One ``on_message`` of one method."""

    topic: Pattern
    event: Pattern
    payload: Any
    method: str
    # Whether the payload is converted, and whether the method also gets the event's name.
    typed: bool = attrs.field(
        init=False, eq=False, default=attrs.Factory(_is_typed, takes_self=True)
    )
    wants_event: bool = attrs.field(
        init=False, eq=False, default=attrs.Factory(_wants_event, takes_self=True)
    )

    def __str__(self) -> str:
        return f"{self.topic.text!r}, {self.event.text!r}"

    @property
    def shape(self) -> tuple[Shape, Shape]:
        """What it fits; the greater, the more specific."""
        return self.topic.shape, self.event.shape

    def match(self, topic: str, event: str) -> dict[str, str] | None:
        """Give the captures of a message of *topic* and *event*, or ``None`` if it does not fit."""
        of_topic = self.topic.match(topic)
        of_event = self.event.match(event) if of_topic is not None else None
        return None if of_topic is None or of_event is None else {**of_topic, **of_event}

    def check(self, method: Any, where: str = "") -> None:
        """Check that *method* can be called as this route calls it.

        Raises:
            CallbackSignatureError: if it cannot, or a capture stands in both patterns.
        """
        captures = (*self.topic.captures, *self.event.captures)
        name = where + self.method
        if len(captures) != len({*captures}):
            raise CallbackSignatureError(
                f"on_message({self}): {name}: a capture stands in both patterns"
            )
        wanted = ["self", "topic", *(["event"] if self.wants_event else []), "payload", "socket"]
        keywords = ["*", *captures] if captures else []
        shape = f"async def {self.method}({', '.join(wanted + keywords)})"
        if not inspect.iscoroutinefunction(inspect.unwrap(method)):
            raise CallbackSignatureError(
                f"on_message({self}): {name} is not async; it must be: {shape}"
            )
        signature = inspect.signature(method)
        try:
            signature.bind(*wanted, **dict.fromkeys(captures, ""))
        except TypeError as error:
            raise CallbackSignatureError(
                f"on_message({self}): {name}{signature} takes the wrong parameters ({error}); "
                f"it must be: {shape}"
            ) from None


def _marks(method: Any) -> tuple[Route, ...]:
    return cast("tuple[Route, ...]", getattr(method, _MARK, ()))


def _check_kind(kind: Any) -> None:
    """Refuse a *kind* of payload that could not be made of any.

    Raises:
        CallbackSignatureError: if msgspec does not know how to make it.
    """
    if kind is _ANY_PAYLOAD:
        return
    try:
        unknown = isinstance(msgspec.inspect.type_info(kind), msgspec.inspect.CustomType)
    except NameError:
        return  # it names a class that is only made later
    except TypeError:
        unknown = True
    if unknown:
        raise CallbackSignatureError(
            f"on_message: payload is {kind!r}; accepted are attrs classes, dataclasses, msgspec "
            "Structs, TypedDicts, and what else msgspec can make of JSON"
        )


def collect_routes(cls: type[Any]) -> "Routes":
    """Collect the routes of *cls* and its bases.

    Raises:
        CallbackSignatureError: if two methods handle the same, neither class of which derives from
            the other's; or if an overriding method cannot be called as its route does.
    """
    found: dict[tuple[Shape, Shape], tuple[type[Any], Route]] = {}
    seen: set[str] = set()
    for base in cls.__mro__:  # the most derived one first
        names = [name for name, value in vars(base).items() if _marks(value) and name not in seen]
        for name in names:
            for route in _marks(vars(base)[name]):
                owner, other = found.setdefault(route.shape, (base, route))
                if other is not route and (owner is base or not issubclass(owner, base)):
                    raise CallbackSignatureError(
                        f"{cls.__qualname__}: two methods handle {route}: "
                        f"{owner.__qualname__}.{other.method} and {base.__qualname__}.{name}"
                    )
        seen.update(names)
    routes = [route for _, route in found.values()]
    for route in routes:
        method = getattr(cls, route.method)
        if route not in _marks(method):  # overridden, and so not checked yet
            route.check(method, f"{cls.__qualname__}.")
    return Routes(routes)


class Routes:
    """Finds the most specific route of a message; what was found is remembered.

    Attributes:
        empty: whether there is none to find.
    """

    def __init__(self, routes: list[Route]) -> None:
        self._routes = sorted(routes, key=lambda route: route.shape, reverse=True)
        self.empty = not routes
        self._cache: dict[tuple[str, str], tuple[Route, Mapping[str, str]] | None] = {}

    @property
    def methods(self) -> set[str]:
        """The names of the methods that are routed to."""
        return {route.method for route in self._routes}

    def find(self, topic: str, event: str) -> tuple[Route, Mapping[str, str]] | None:
        """Give the route of a message of *topic* and *event*, with its captures; or ``None``."""
        key = (topic, event)
        try:
            return self._cache[key]
        except KeyError:
            pass
        matches = ((route, route.match(topic, event)) for route in self._routes)
        found = next(((route, names) for route, names in matches if names is not None), None)
        if len(self._cache) >= _CACHE_LIMIT:
            self._cache.clear()  # names may be without number; the common ones come back at once
        self._cache[key] = found
        return found
