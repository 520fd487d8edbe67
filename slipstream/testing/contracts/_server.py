"""The process of a client that is held to its contract, and its socket."""

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from slipstream.client import Socket
from slipstream.interfaces import Message
from slipstream.otp import SHUTDOWN, Exit
from slipstream.testing._recording import RecordedServer
from slipstream.testing._timeline import Call

from ._driven import Driven

if TYPE_CHECKING:
    from ._watch import Watch

__all__ = ["ContractServer", "Do", "Helper", "Ticking"]

T = TypeVar("T")


@attrs.define(eq=False)
class Ticking:
    """A timer of the client's, and the callback that started it."""

    by: str
    seconds: float
    message: Any
    timer: Any


@attrs.frozen
class Do:
    """A message that has *callback* called, with *args* and the socket."""

    callback: str
    args: tuple[Any, ...]


@attrs.define(eq=False)
class Helper:
    """A helper task of the client's, and the callback that started it."""

    by: str
    name: str
    runs: bool = True


class ContractServer(RecordedServer):
    """The process that drives a client, as it is; and its watch is told of what it does."""

    def _prepare(self) -> None:
        super()._prepare()
        watch: Any = self._notes.timeline.watcher
        self.watch: Watch = watch
        self.socket = _WatchedSocket(self)
        self.exits = 0
        self.asked_to_join: set[str] = set()
        self.running: Any = None
        self.watch.server = self

    async def handle_info(self, item: Any, /) -> Any:
        """Follow an event; or call what a check wants called."""
        if isinstance(item, Do):
            return await self.call_back(item.callback, *item.args, self.socket)
        return await super().handle_info(item)

    def stop_now(self) -> None:
        """Stop the client, as its supervisor does."""
        self._process.shut_down(SHUTDOWN, "asked")

    def callback(self) -> Call | None:
        """The callback that runs just now, if that is who asks."""
        call = self._current
        return call if call is not None and not call.done and self.runs_here() else None

    def _driven(self, call: Call, callback: Coroutine[Any, Any, Any]) -> Coroutine[Any, Any, Any]:
        self.exits = 0
        self.asked_to_join = set()
        return self._drive(call, callback)

    async def _drive(self, call: Call, callback: Coroutine[Any, Any, Any]) -> Any:
        self.running = callback
        ends = call.name != "terminate"

        def swallowed() -> BaseException | None:
            if ends:
                self.watch.swallowed(call)
            return Exit(self._process.stop_reason)

        result = await Driven(
            callback,
            blocked=lambda seconds, what: self.watch.blocked(call.name, seconds, what),
            is_cancelled=lambda: ends and self._process.scope.cancel_called,
            swallowed=swallowed,
            stepped=self.watch.stepped if call.name == self.watch.target else None,
            names_calls=self.watch.names_calls,
        )
        if self.exits and ends:
            self.watch.swallowed(call)
        return result

    # What is delivered

    def _message(self, message: Message) -> tuple[str, str | None, Coroutine[Any, Any, Any]] | None:
        called = super()._message(message)
        if called is not None:
            self.watch.delivered(message)
        return called

    def _following(self) -> list[Message]:
        following = super()._following()
        for message in following:
            self.watch.delivered(message)
        return following

    def taken(self, item: Any) -> None:
        """Note that *item* was taken out of the mailbox for one who waited for it."""
        if type(item) is Message:
            self.watch.delivered(item, awaited=True)
        super().taken(item)

    # What the client starts

    def start_soon(self, function: Callable[..., Any], *args: Any) -> None:
        """Run a helper task."""
        inner = getattr(function, "func", function)
        if str(getattr(inner, "__module__", "")).startswith("slipstream."):
            super().start_soon(function, *args)
            return
        call = self.callback()
        name = getattr(inner, "__qualname__", repr(inner))
        helper = Helper(call.name if call is not None else "", f"{name}{args!r}")
        self.watch.helpers.append(helper)

        async def run() -> None:
            try:
                await Driven(
                    function(*args),
                    blocked=lambda seconds, what: self.watch.blocked(
                        f"the task {name}", seconds, what
                    ),
                    names_calls=self.watch.names_calls,
                )
            finally:
                helper.runs = False

        run.__qualname__ = name
        super().start_soon(run)

    def send_every(self, seconds: float, message: Any) -> Any:
        """Send *message* every so many *seconds*."""
        timer = super().send_every(seconds, message)
        call = self.callback()
        by = call.name if call is not None else ""
        self.watch.timers.append(Ticking(by, seconds, message, timer))
        return timer


class _WatchedSocket(Socket):
    """The socket, as it is; and the watch is told of what is done with it."""

    def __init__(self, server: ContractServer) -> None:
        super().__init__(server)
        self._watched = server

    def join(self, topic: str, *args: Any, **options: Any) -> None:
        self._watched.watch.asked(topic)
        super().join(topic, *args, **options)
        if self._watched.callback() is not None:
            self._watched.asked_to_join.add(topic)

    def leave(self, topic: str, **options: Any) -> None:
        self._watched.watch.gives_up(f"leave({topic!r})")
        super().leave(topic, **options)

    def disconnect(self) -> None:
        self._watched.watch.gives_up("disconnect()")
        self._watched.watch.steered = True
        super().disconnect()

    def connect(self, config: Any) -> None:
        self._watched.watch.steered = True
        super().connect(config)

    def reconnect(self, *args: Any, **options: Any) -> None:
        self._watched.watch.steered = True
        super().reconnect(*args, **options)

    async def push(self, topic: str, event: str, *args: Any, **options: Any) -> str:
        self._tries(topic, event, options.get("when_unjoined", "fail"))
        return await self._unless_stopped(super().push(topic, event, *args, **options))

    async def request(self, topic: str, event: str, *args: Any, **options: Any) -> Any:
        self._tries(topic, event, options.get("when_unjoined", "fail"))
        return await self._unless_stopped(super().request(topic, event, *args, **options))

    async def await_connect(self, *args: Any, **options: Any) -> None:
        self._watched.watch.awaits_link = True
        await self._unless_stopped(super().await_connect(*args, **options))

    async def await_disconnect(self, *args: Any, **options: Any) -> Any:
        self._watched.watch.awaits_link = True
        return await self._unless_stopped(super().await_disconnect(*args, **options))

    async def await_join(self, *args: Any, **options: Any) -> Any:
        self._watched.watch.awaits_link = True
        return await self._unless_stopped(super().await_join(*args, **options))

    async def await_leave(self, *args: Any, **options: Any) -> None:
        self._watched.watch.awaits_link = True
        await self._unless_stopped(super().await_leave(*args, **options))

    async def await_reply(self, *args: Any, **options: Any) -> Any:
        return await self._unless_stopped(super().await_reply(*args, **options))

    async def await_message(self, *args: Any, **options: Any) -> Message:
        return await self._unless_stopped(super().await_message(*args, **options))

    def _tries(self, topic: str, event: str, when_unjoined: str) -> None:
        server, status = self._watched, self.join_status(topic)
        asked = topic in server.asked_to_join and server.callback() is not None
        server.watch.tried(topic, event, status, when_unjoined, asked=asked)

    async def _unless_stopped(self, waiting: Coroutine[Any, Any, T]) -> T:
        try:
            return await waiting
        except Exit:
            if self._watched.callback() is not None:
                self._watched.exits += 1
            raise
