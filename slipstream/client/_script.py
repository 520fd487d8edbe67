"""Scripts: a connected socket as a block, without a client class."""

from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Final, Self

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
from .awaiting import Messages, end_of_messages, matches_message

__all__ = ["open_socket"]

_OUTCOMES_KEPT: Final = 1024


@asynccontextmanager
async def open_socket(
    config: Config | str | Sequence[str] | Mapping[str, Any], *, reconnect: bool = False
) -> AsyncGenerator[Socket]:
    """Open a connected socket for a script.

    ``request``, ``messages`` and the actions work from any task; ``await_…`` from the one that opened
    it. Messages that nobody awaits are kept up to ``inbound_limit``, then the oldest are
    dropped and counted. Without *reconnect* each URI is tried once, and a lost connection makes every
    wait raise ``DisconnectedError``. Leaving the block closes the connection with 1000, or with 1001 after an
    exception.

    Raises:
        ConfigError: if the configuration is wrong.
        ConnectError, DisconnectedError: if the connection does not come about.
    """
    settings = Config.of(config)
    box: list[ScriptServer] = []
    task = trio.lowlevel.current_task()
    async with open_server(ScriptServer, box, task, settings, reconnect):
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


class _Buffer(Messages):
    """The messages that fit, from the moment that they come."""

    def __init__(
        self, server: "ScriptServer", topic: Any, event: Any, payload: Any, limit: int
    ) -> None:
        super().__init__(server, topic, event, payload)
        self._script = server
        self._limit = limit
        self._items: deque[Message] = deque()
        self._error: Exception | None = None
        self._changed = trio.Event()

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self._script.open_buffer(self)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._script.close_buffer(self, list(self._items))

    async def __anext__(self) -> Message:
        await trio.lowlevel.checkpoint()
        while not self._items:
            if self._error is not None:
                raise self._error
            ended = end_of_messages(self._script, self._patterns[0])
            if ended is not None:
                raise ended
            if self._changed.is_set():
                self._changed = trio.Event()
            await wait_event(self._changed)
        message = self._items.popleft()
        if self._script.topics.watches:
            self._script.topics.see(message)
        return message

    def fits(self, item: Any) -> bool:
        """Tell whether *item* is a message for this block. What a predicate raises, ``__anext__`` raises."""
        if type(item) is not Message or self._error is not None:
            return False
        try:
            return matches_message(item, *self._patterns)
        except Exception as error:  # noqa: BLE001 - the user's bug, not that of the connection, which asks here
            self._error = error
            return False

    def put(self, message: Message) -> None:
        """Keep *message*, and drop the oldest where there is one too many."""
        self._items.append(message)
        if len(self._items) > self._limit:
            self._items.popleft()
            self.dropped += 1
            self._script.uplink.counters["dropped"] += 1
        self.look()

    def look(self) -> None:
        """Let those who iterate look at everything anew."""
        self._changed.set()


class ScriptServer(ClientServer):
    """The process behind a script's socket: it follows events as they come, and calls nobody."""

    async def init(self, *args: Any) -> Any:
        """Start as any client does; the box, the task that may await, the configuration, reconnect."""
        box, self._owner, settings, self._reconnect = args
        self._mailed = _Mail()
        self._buffers: list[_Buffer] = []
        self._kept_limit = settings.inbound_limit + _OUTCOMES_KEPT
        box.append(self)
        return await super().init(_Script, settings)

    def connect(self, config: Config) -> None:
        """Want a connection with *config*, kept as the script's is: dropping the oldest, tried once."""
        config = attrs.evolve(config, on_overflow="drop_oldest")
        if not self._reconnect:
            config = attrs.evolve(config, connection_restart="temporary")
        super().connect(config)

    def messages(self, topic: Any, event: Any, payload: Any, limit: int) -> Messages:
        """Give the block of ``socket.messages``, which keeps *limit* messages."""
        return _Buffer(self, topic, event, payload, limit)

    def open_buffer(self, buffer: _Buffer) -> None:
        """Give *buffer* what fits, beginning with what has come already."""
        for message in self._mailed.remove(buffer.fits):
            self.uplink.inbox.taken(message)
            if self.is_current(message):
                buffer.put(message)
            else:
                self.uplink.counters["stale"] += 1
        self._buffers.append(buffer)

    def close_buffer(self, buffer: _Buffer, left: list[Message]) -> None:
        """Give *buffer* no more; what is *left* can be awaited like any other message."""
        self._buffers.remove(buffer)
        self.uplink.inbox.deliver(left, 0)

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
                    if not self.is_current(event):
                        self.uplink.counters["stale"] += 1
                    elif (buffer := self._buffer_for(event)) is not None:
                        buffer.put(event)
                    else:
                        kept.append(event)
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
        for buffer in self._buffers:
            buffer.look()
        return kept

    def _buffer_for(self, message: Message) -> _Buffer | None:
        return next((buffer for buffer in self._buffers if buffer.fits(message)), None)


def _is_outcome(item: Any) -> bool:
    return type(item) is not Message
