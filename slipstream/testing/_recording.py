"""The client under test, and what its callbacks were called with."""

import inspect
import types
from collections.abc import Coroutine, Mapping
from typing import Any

import attrs
import trio

from slipstream.client import ClientServer, SlipstreamClient
from slipstream.errors import ChildSpecError
from slipstream.otp import ChildSpec, ServerRef, Start

from ._errand import Errand
from ._script import Script
from ._timeline import Call, End, Timeline

__all__ = ["RecordedServer", "recorded"]


@attrs.frozen(eq=False)
class _Notes:
    """Where the callbacks of all incarnations are written down, and how each has ended."""

    script: Script
    calls: list[Call]
    ends: list[End]

    @property
    def timeline(self) -> Timeline:
        """Where all that happens is written down."""
        return self.script.timeline

    def incarnation(self, ref: ServerRef) -> None:
        """See to it that the end of the incarnation that *ref* leads to is written down."""
        self.script.start_soon(self._wait, ref.pin())

    async def _wait(self, ref: ServerRef) -> None:
        end = End(await ref.wait())
        self.ends.append(end)
        self.timeline.watcher.life_ended(end)
        self.timeline.note("client", f"ended: {_show(end.reason)}")

    def begin(self, name: str, args: tuple[Any, ...], captures: Mapping[str, Any]) -> Call:
        """Write down that a callback is called."""
        call = Call(name, args, captures=captures, at=trio.current_time())
        self.calls.append(call)
        self.timeline.watcher.began(call)
        shown = [*map(_show, args), *(f"{key}={_show(value)}" for key, value in captures.items())]
        self.timeline.note("client", f"{name}({', '.join(shown)})")
        return call

    def end(self, call: Call) -> None:
        """Write down how it has ended."""
        call.done = True
        self.timeline.watcher.ended(call)
        if isinstance(call.error, Exception):
            self.timeline.note("client", f"{call.name} raised {call.error!r}")
        elif call.result is not None:
            self.timeline.note("client", f"{call.name} returned {_show(call.result)}")
        else:
            self.timeline.tell()


class RecordedServer(ClientServer):
    """The process that drives a client, as it is; and it writes down each callback.

    The client itself is untouched: an object of its own class.
    """

    is_watched = True
    _given: tuple[Any, ...] | None = None
    _current: Call | None = None

    async def init(self, client_class: type[SlipstreamClient], argument: Any = None, /) -> Any:
        """Start as any client does; its *argument* comes with the notes."""
        self._notes, given = argument
        self._notes.incarnation(self.ref)
        return await super().init(client_class, given)

    async def handle_info(self, item: Any, /) -> Any:
        """Run what the test wants to have run; everything else is as with any client."""
        if not isinstance(item, Errand):
            return await super().handle_info(item)
        await item.run(self.client, self.socket)
        self._look_again()
        return None

    def call_back(self, name: str, *args: Any, raises: bool = False) -> Coroutine[Any, Any, Any]:
        self._given = args[:-1]
        return super().call_back(name, *args, raises=raises)

    async def told(self, name: str, callback: Coroutine[Any, Any, Any], topic: str | None) -> Any:
        args, self._given = self._given, None
        captures: Mapping[str, Any] = {}
        if args is None:  # the way of messages, which has no time for a call more
            args, captures = _arguments(callback, self.client, self.socket)
        call = self._current = self._notes.begin(name, args, captures)
        callback = self._driven(call, callback)
        try:
            call.result = await super().told(name, callback, topic)
        except BaseException as error:
            call.error = error
            raise
        finally:
            self._notes.end(call)
        return call.result

    def _driven(self, call: Call, callback: Coroutine[Any, Any, Any]) -> Coroutine[Any, Any, Any]:
        """Give what runs *callback*, as *call*."""
        del call
        return callback


def _arguments(callback: Any, *known: object) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """Give the arguments of a coroutine that has not begun, but for those *known*; the named apart."""
    frame: types.FrameType | None = getattr(callback, "cr_frame", None)
    if frame is None:
        return (), {}
    code, values = frame.f_code, frame.f_locals
    names, rest = code.co_varnames, code.co_argcount + code.co_kwonlyargcount
    args = [values[name] for name in names[: code.co_argcount]]
    named = {name: values[name] for name in names[code.co_argcount : rest]}
    if code.co_flags & inspect.CO_VARARGS:  # as where something is wrapped round it
        args += values[names[rest]]
        rest += 1
    if code.co_flags & inspect.CO_VARKEYWORDS:
        named |= values[names[rest]]
    return tuple(arg for arg in args if not any(arg is each for each in known)), named


def recorded(
    spec: ChildSpec,
    script: Script,
    calls: list[Call],
    ends: list[End],
    server: type[RecordedServer] = RecordedServer,
) -> ChildSpec:
    """Give *spec*, of a client, so that its callbacks and its ends are written down by *server*.

    Raises:
        ChildSpecError: if it is none of a client.
    """
    start = spec.start
    if not isinstance(start, Start) or start.cls is not ClientServer:
        raise ChildSpecError(f"the child {spec.id!r} is no client: its start is {start!r}")
    (client_class,), (argument,) = start.bound, start.args or (None,)
    notes = _Notes(script, calls, ends)
    return attrs.evolve(spec, start=Start(server, ((notes, argument),), bound=(client_class,)))


def _show(value: Any) -> str:
    try:
        return repr(value)
    except Exception as error:  # noqa: BLE001 - boundary: what is shown must not break what is tested
        return f"<its repr raised {type(error).__name__}>"
