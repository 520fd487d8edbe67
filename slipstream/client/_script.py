"""Scripts: a connected socket as a block, without a client class."""

from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import attrs
import trio

from slipstream.config import Config
from slipstream.connection import ConnectionEnded, ConnectionOpened
from slipstream.errors import AwaitTimeoutError, ConnectError, DisconnectedError, WrongTaskError
from slipstream.interfaces import Message
from slipstream.otp import open_server, wait_event
from slipstream.protocol import TopicClosed, TopicJoined, TopicJoinFailed, TopicLeft

from ._client import SlipstreamClient
from ._server import ClientServer
from ._socket import Socket

__all__ = ["open_socket"]

_OUTCOMES_KEPT: Final = 1024


@asynccontextmanager
async def open_socket(
    config: Config | str | Sequence[str] | Mapping[str, Any], *, reconnect: bool = False
) -> AsyncGenerator[Socket]:
    """Open a connected socket for a script.

    ``request`` and the actions work from any task; ``await_…`` and ``messages`` from the one that
    opened it. Messages that nobody awaits are kept up to ``inbound_limit``, then the oldest are
    dropped and counted. Without *reconnect* each URI is tried once, and a lost connection makes every
    wait raise ``DisconnectedError``. Leaving the block closes the connection with 1000, or with 1001 after an
    exception.

    Raises:
        ConfigError: if the configuration is wrong.
        ConnectError, DisconnectedError: if the connection does not come about.
    """
    settings = attrs.evolve(Config.of(config), on_overflow="drop_oldest")
    if not reconnect:
        settings = attrs.evolve(settings, connection_restart="temporary")
    box: list[ScriptServer] = []
    async with open_server(ScriptServer, box, trio.lowlevel.current_task(), settings):
        server = box[0]
        untried = 0 if reconnect else len(settings.uris) - 1
        while True:
            try:
                await server.socket.await_connect()
                break
            except (ConnectError, DisconnectedError):
                if untried:
                    untried -= 1
                    server.uplink.reconnect(None)
                elif not server.uplink.wanted or server.uplink.fatal is not None:
                    raise
        yield server.socket


class _Script(SlipstreamClient):
    """A client without callbacks: everything is awaited."""


class _Mail:
    """What came and nobody has awaited yet, oldest first."""

    def __init__(self) -> None:
        self._items: deque[Any] = deque()
        self.arrived = trio.Event()

    def extend(self, items: Iterable[Any], /) -> None:
        """Put *items* in, in order."""
        self._items.extend(items)
        self.arrived.set()

    def remove(self, matching: Callable[[Any], bool], limit: int | None = None) -> list[Any]:
        """Take out the oldest items that are *matching*, at most *limit* of them."""
        taken: list[Any] = []
        kept: deque[Any] = deque()
        for item in self._items:
            wanted = limit is None or len(taken) < limit
            (taken if wanted and matching(item) else kept).append(item)
        self._items = kept
        return taken

    def __len__(self) -> int:
        return len(self._items)


class ScriptServer(ClientServer):
    """The process behind a script's socket: it follows events as they come, and calls nobody."""

    async def init(self, *args: Any) -> Any:
        """Start as any client does; the box, the task that may await, and the configuration."""
        box, self._owner, settings = args
        self._mailed = _Mail()
        self._kept_limit = settings.inbound_limit + _OUTCOMES_KEPT
        box.append(self)
        return await super().init(_Script, settings)

    def _prepare(self) -> None:
        self.uplink.inbox.on_events = self._follow

    def check_owner(self, what: str) -> None:
        """Refuse an await from any other task than the one that opened the socket."""
        if trio.lowlevel.current_task() is not self._owner:
            raise WrongTaskError(
                f"{what} belongs to the task that opened the socket; elsewhere use request"
            )

    def _mail(self) -> Any:
        return self._mailed

    async def _receive(self, matching: Callable[[Any], bool], timeout: float | None) -> Any:
        deadline = float("inf") if timeout is None else trio.current_time() + timeout
        while True:
            self._mailed.arrived = trio.Event()
            found = self._mailed.remove(matching, limit=1)
            if found:
                return found[0]
            if not await wait_event(self._mailed.arrived, deadline=deadline):
                raise AwaitTimeoutError("anything", timeout or 0.0)

    def _follow(self, events: list[Any]) -> list[Any]:
        kept: list[Any] = []
        for event in events:
            match event:
                case Message():
                    if self.is_current(event):
                        kept.append(event)
                    else:
                        self.uplink.counters["stale"] += 1
                case TopicJoined() | TopicJoinFailed() | TopicClosed() | TopicLeft():
                    self.follow_topic(event)
                case ConnectionOpened():
                    self.follow_opened(event)
                case ConnectionEnded():
                    self.follow_ended(event)
                    self.uplink.decide()
                case _:
                    # Outcomes of pushes; one that nobody ever awaits must not stay for ever.
                    kept.append(event)
                    if len(self._mailed) > self._kept_limit:
                        for oldest in self._mailed.remove(_is_outcome, limit=1):
                            self.uplink.inbox.taken(oldest)
        return kept


def _is_outcome(item: Any) -> bool:
    return type(item) is not Message
