"""The client under test, and what its callbacks were called with."""

import types
from collections.abc import Callable
from typing import Any, TypeVar

import trio

from slipstream.client import SlipstreamClient

from ._timeline import Call, Timeline

__all__ = ["recording"]

C = TypeVar("C", bound=SlipstreamClient)

_CALLBACKS = (
    "init",
    "handle_connect",
    "handle_disconnect",
    "handle_join",
    "handle_topic_close",
    "handle_leave",
    "handle_message",
    "handle_reply",
    "handle_push_failed",
    "handle_call",
    "handle_cast",
    "handle_info",
    "handle_continue",
    "terminate",
)
# Whether these are overridden changes what the client does.
_ONLY_IF_OVERRIDDEN = ("handle_presence", "handle_messages")


def recording(cls: type[C], calls: list[Call], timeline: Timeline) -> type[C]:
    """Make a subclass of *cls* that behaves as it does, and writes down its callbacks."""
    names = [name for name in _CALLBACKS if hasattr(cls, name)]
    names += [
        name
        for name in _ONLY_IF_OVERRIDDEN
        if getattr(cls, name, None) is not getattr(SlipstreamClient, name, None)
    ]
    names += sorted(cls.routes.methods)
    body: dict[str, Any] = {
        name: _recorded(name, getattr(cls, name), calls, timeline) for name in dict.fromkeys(names)
    }
    body |= {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    made: type[C] = types.new_class(
        cls.__name__, (cls,), exec_body=lambda space: space.update(body)
    )
    return made


def _recorded(
    name: str, method: Callable[..., Any], calls: list[Call], timeline: Timeline
) -> Callable[..., Any]:
    async def callback(self: Any, *args: Any) -> Any:
        shown = args[:-1]
        at, place = trio.current_time(), len(calls)
        calls.append(Call(name, shown, at=at))
        timeline.note("client", f"{name}({', '.join(map(_show, shown))})")
        try:
            result = await method(self, *args)
        except BaseException as error:
            calls[place] = Call(name, shown, error=error, at=at)
            if isinstance(error, Exception):
                timeline.note("client", f"{name} raised {error!r}")
            raise
        calls[place] = Call(name, shown, result=result, at=at)
        timeline.tell()
        return result

    callback.__name__ = name
    callback.__qualname__ = method.__qualname__
    return callback


def _show(value: Any) -> str:
    try:
        return repr(value)
    except Exception as error:  # noqa: BLE001 - boundary: what is shown must not break what is tested
        return f"<its repr raised {type(error).__name__}>"
