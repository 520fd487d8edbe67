"""An embedded Phoenix server on a loopback port or in memory, for tests of clients."""

import errno
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

import trio

from slipstream.errors import ConfigError, ConnectError, ServerGoneError, StartError
from slipstream.interfaces import ConnectRequest, Message, Payload, Transport
from slipstream.otp import SupervisorRef, open_supervisor, wait_event
from slipstream.transport import MemoryNetwork, MemoryPeer, MemoryResponse

from ._channel import Channel
from ._faults_injected import Injected, Injections, To
from ._handshake import Connect, ConnectInfo, Reject, encode_headers, head_of, judge
from ._listener import Listener, Restarter
from ._presence import Presences, PresenceTable
from ._profiles import Like, check_limit, find_profile
from ._routes import Routes
from ._socket import ServerSocket
from ._traffic import Traffic
from ._wire import Wire, WireClosed
from ._wire_memory import MemoryWire
from .faults import Fault

__all__ = ["PhoenixServer"]

_FRAMES_KEPT: Final = 10_000
_SETTLE: Final = 5.0


class PhoenixServer:
    """An embedded Phoenix server: the V2 (and V1) protocol, channels of one's own, and faults.

    ``async with PhoenixServer({"rooms:*": Room}) as server:`` listens on *host* and *port* (0 for
    any free one); ``server.url`` is what a client connects to. Leaving the block ends everything,
    open connections included.

    It serves in memory as well: a client that is configured with
    ``Config(server.url, transport=server.open_transport)`` reaches it without a socket, and so also
    in the virtual time of trio's ``MockClock``.

    Args:
        channels: channel classes by topic pattern; a trailing ``*`` stands for the rest.
        path: where the socket is mounted; the URI ends in ``/websocket``.
        connect: a sync or async function that lets a connect through or not.
        like: the server whose behaviour is shown, where versions and web servers differ.
        id: gives the id of a connection, for :meth:`disconnect`; ``None`` is no id.
        max_channels: how many topics one connection may join; ``math.inf`` is no limit. By default as
            the server that it is *like*: 100 with 1.8.12, no limit with 1.8.3.
        max_frame_size: bytes; a larger message is answered with a close 1009.
        idle_timeout: seconds without a byte from the client, after which a connection is closed.
            ``math.inf`` is never.
        memory: serve in memory alone, and listen on no port.

    Raises:
        ConfigError: with the argument, its value and what is accepted.

    Attributes:
        sockets: the connections that are open now.
        requests: every connect so far, refused ones included.
        frames: the newest messages that clients sent, at most 10,000.
        crashes: what channels, the *connect* function and faults at a connect raised.
        dropped: messages that found no connection to go to.
        on_traffic: a function that is told of everything that happens on its connections; it must
            not raise, nor take long.
    """

    def __init__(
        self,
        channels: Mapping[str, type[Channel]],
        *,
        path: str = "/socket",
        connect: Connect | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        like: Like = "1.8.12/cowboy",
        id: Callable[[ConnectInfo], str | None] | None = None,  # noqa: A002 - Phoenix's word
        max_channels: float | None = None,
        max_frame_size: int = 16 << 20,
        idle_timeout: float = 60.0,
        memory: bool = False,
    ) -> None:
        if not path.startswith("/"):
            raise ConfigError(f"path is {path!r}; accepted is one that begins with '/'")
        self._routes = Routes(channels)
        self._path = f"{path.rstrip('/')}/websocket"
        self._connect = connect
        self._host, self._port = ("memory", 0) if memory else (host, port)
        self._memory = memory
        self._network = MemoryNetwork(answer=self._answer)
        self._door: trio.MemorySendChannel[Wire] | None = None
        check_limit("max_frame_size", max_frame_size, least=1)
        check_limit("idle_timeout", idle_timeout, least=0)
        if max_channels is not None:
            check_limit("max_channels", max_channels, least=0)
        self._max_frame_size = max_frame_size
        self._id = id
        self.profile = find_profile(like)
        self.max_channels = self.profile.max_channels if max_channels is None else max_channels
        self.idle_timeout = idle_timeout
        self.presence_table = PresenceTable(self.broadcast)
        self._stack = AsyncExitStack()
        self._supervisor: SupervisorRef | None = None
        self._changed = trio.Event()
        self._numbers = 0
        self.on_traffic: Callable[[Traffic], None] | None = None
        self._rejection: Reject | None = None
        self._listeners: list[trio.SocketListener] = []
        self._accepted: set[Wire] = set()
        self.injections = Injections(self.tell)
        self.sockets: list[ServerSocket] = []
        self.requests: list[ConnectInfo] = []
        self.frames: deque[Message] = deque(maxlen=_FRAMES_KEPT)
        self.crashes: list[BaseException] = []
        self.dropped = 0

    async def __aenter__(self) -> Self:
        if self._supervisor is not None:
            raise ConfigError("the server runs already: one object is one server")
        async with AsyncExitStack() as stack:
            stack.callback(self._ended)
            self._supervisor = await stack.enter_async_context(
                open_supervisor([Restarter.child_spec(self)], name=None, shutdown=3.0)
            )
            await self._listen()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return await self._stack.__aexit__(kind, error, traceback)

    def bind(self, *, host: str | None = None, port: int | None = None) -> None:
        """Have it listen elsewhere than it was made to; before it runs.

        Raises:
            ConfigError: if it runs already.
        """
        if self._supervisor is not None:
            raise ConfigError("the server runs already, and listens where it was made to")
        self._host = self._host if host is None else host
        self._port = self._port if port is None else port

    @property
    def url(self) -> str:
        """What a client connects to."""
        if self._memory:
            return f"ws://memory{self._path}"
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"ws://{host}:{self._port}{self._path}"

    @property
    def port(self) -> int:
        """The port that it listens on; 0 if on none."""
        return self._port

    def open_transport(
        self, request: ConnectRequest, /, *, on_written: Callable[[Sequence[Any]], None]
    ) -> AbstractAsyncContextManager[Transport]:
        """Connect in memory: an :class:`~slipstream.interfaces.OpenTransport`, for ``Config.transport``.

        Raises:
            ConnectError: if the server refuses, or does not run.
        """
        return self._network.open_transport(request, on_written=on_written)

    # What tests do to it

    def broadcast(
        self, topic: str, event: str, payload: Payload, *, but: Channel | None = None
    ) -> int:
        """Send to every client that has joined *topic*; tell to how many.

        The event ``disconnect`` to the id of a connection closes it, as in Phoenix.
        """
        sockets = list(self.sockets)
        taken = [socket.deliver(topic, event, payload, but=but) for socket in sockets]
        if event == "disconnect":
            self.disconnect(id=topic)
        return sum(taken)

    def drop(self) -> None:
        """Cut every connection without a close frame, as a killed transport process does."""
        for socket in list(self.sockets):
            socket.drop()

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close every connection with a close frame."""
        for socket in list(self.sockets):
            socket.close(code, reason)

    def disconnect(self, *, id: str | None = None) -> None:  # noqa: A002 - Phoenix's word
        """Close the connections with this *id*, or all, as a ``disconnect`` broadcast does."""
        for socket in list(self.sockets):
            if id is None or socket.id == id:
                socket.disconnect()

    def drain(self) -> None:
        """Close every connection with 1012, as a server that is about to stop does."""
        self.close(1012)

    def crash(self, topic: str, error: Exception | None = None) -> None:
        """Let every channel of *topic* crash."""
        for socket in list(self.sockets):
            socket.crash_channel(topic, error or RuntimeError("crashed by the test"))

    async def stop_channel(self, topic: str) -> None:
        """Let every channel of *topic* stop in an orderly way."""
        for socket in list(self.sockets):
            await socket.stop_channel(topic)

    def refuse_connects(
        self, status: int = 403, *, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> None:
        """Refuse all connects from now on."""
        self._rejection = Reject(status, body, headers or {})

    def accept_connects(self) -> None:
        """Let connects through again."""
        self._rejection = None

    def inject(self, *faults: Fault, to: To = "all") -> Injected:
        """Let *faults* of :mod:`slipstream.testing.faults` happen, in this order.

        They happen *to* ``"all"`` connections, those to come included; to those that are ``"open"``
        now; to the ``"next"`` one alone (where that is said again, the one after it); or to a socket
        of :attr:`sockets`. What is given can take them back.

        Raises:
            ConfigError: for what is no fault, and for one of a connect *to* a connection that is there.
        """
        return self.injections.inject(faults, to)

    async def restart(self, *, code: int = 1012, down_for: float = 0.0) -> None:
        """Stop listening, close every connection with *code*, and listen again on the same port.

        *down_for* is in seconds. Cancelled half-way it does not listen.
        """
        supervisor = self._running()
        await supervisor.terminate_child("listener")
        opened = {socket.wire for socket in self.sockets}
        self._cut(self._accepted - opened)  # their upgrade is under way, or not even that
        self.close(code)
        await self.wait_until(lambda: not self._accepted)
        await trio.sleep(down_for)
        await self._listen()

    def restart_soon(self, *, code: int = 1012, down_for: float = 0.0) -> None:
        """Have it restarted, without waiting for that; not while it is being restarted."""
        self._running().child(Restarter).cast({"code": code, "down_for": down_for})

    # What tests wait for; each raises trio.TooSlowError after *within* seconds

    async def wait_connections(self, count: int, *, within: float = _SETTLE) -> None:
        """Wait until exactly *count* connections are open."""
        await self.wait_until(lambda: len(self.sockets) == count, within=within)

    async def wait_joined(self, topic: str, *, within: float = _SETTLE) -> Channel:
        """Wait until some client has joined *topic*; give its channel."""
        await self.wait_until(lambda: bool(self.channels(topic)), within=within)
        return self.channels(topic)[0]

    async def wait_until(self, condition: Callable[[], bool], *, within: float = _SETTLE) -> None:
        """Wait until *condition* holds; it is looked at whenever a client comes, goes, joins, leaves or sends."""
        deadline = trio.current_time() + within
        await trio.lowlevel.checkpoint()
        while not condition():
            if not await wait_event(self._changed, deadline=deadline):
                raise trio.TooSlowError(f"not within {within:g} s")

    def channels(self, topic: str) -> Sequence[Channel]:
        """Give the channels of *topic*, one a client."""
        found = [socket.channel(topic) for socket in self.sockets]
        return [channel for channel in found if channel is not None]

    def presences(self, topic: str) -> Presences:
        """Give who is in *topic*: ``{key: {"metas": [meta, …]}}``."""
        return self.presence_table.find(topic)

    # What its sockets do

    def make_channel(self, topic: str) -> Channel | None:
        """Make the channel for a join of *topic*, if there is a class for it."""
        found = self._routes.find(topic)
        return found() if found is not None else None

    async def shake_hands(self, nursery: trio.Nursery, socket: ServerSocket) -> bool:
        """Answer the upgrade request; tell whether the client is in."""
        wire = socket.wire
        info = await wire.read_request(nursery, max_size=self._max_frame_size)
        if info is None:
            return False
        self.requests.append(info)
        self.tell()
        socket.params, socket.headers = info.params, info.headers
        await socket.line.wait_answerable()  # or until the client gives up
        rejection, crash = socket.line.refusal or self._rejection, None
        if rejection is None:
            rejection, crash = await judge(
                info, path=self._path, connect=self._connect, admit=partial(self._admit, socket)
            )
        if crash is not None:
            self.crashes.append(crash)
        # As Phoenix: the token's subprotocol is never answered, "phoenix" is.
        chosen = "phoenix" if "phoenix" in info.subprotocols else None
        try:
            if rejection is None:
                socket.open()
                self.show(Traffic(socket.number, "connected", info.path))
                await wire.accept(chosen, encode_headers(self.profile.accepting))
                return True
            self.show(Traffic(socket.number, "refused", f"{info.path} with {rejection.status}"))
            pairs = head_of(rejection, usual=self.profile.refusing, subprotocol=chosen)
            await wire.reject(rejection.status, pairs, rejection.body)
        except WireClosed:
            return False  # the client went away meanwhile
        return False

    def _admit(self, socket: ServerSocket, info: ConnectInfo) -> None:
        socket.assigns = info.assigns
        socket.id = self._id(info) if self._id is not None else None

    def socket_opened(self, socket: ServerSocket) -> None:
        """Note that a connection is open."""
        self.sockets.append(socket)
        self.tell()

    def socket_closed(self, socket: ServerSocket) -> None:
        """Note that a connection is over."""
        if socket in self.sockets:
            self.sockets.remove(socket)
            self.show(Traffic(socket.number, "closed", socket.closed_with))
        self._accepted.discard(socket.wire)
        self.injections.line_ended(socket.line)
        self.tell()

    def heard(self, message: Message) -> None:
        """Note what a client sent."""
        self.frames.append(message)
        self.tell()

    def next_number(self) -> int:
        """Give the number of another connection."""
        self._numbers += 1
        return self._numbers

    def show(self, traffic: Traffic) -> None:
        """Tell whoever watches."""
        if self.on_traffic is not None:
            self.on_traffic(traffic)

    def tell(self) -> None:
        """Have those that wait for something look again."""
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    # Inside

    def _running(self) -> SupervisorRef:
        if self._supervisor is None:
            raise ConfigError("the server does not run: use it as `async with PhoenixServer(…)`")
        return self._supervisor

    async def _listen(self) -> None:
        self._listeners = []
        if not self._memory:
            self._listeners = await trio.open_tcp_listeners(self._port, host=self._host)
            self._port = self._listeners[0].socket.getsockname()[1]
        self._door, doorway = trio.open_memory_channel[Wire](math.inf)
        await self._running().start_child(
            Listener.child_spec(self, self._listeners, doorway, id="listener", shutdown=1.0)
        )

    async def _answer(self, peer: MemoryPeer) -> MemoryResponse:
        """Take a connect in memory, and give the answer to it; runs within the client."""
        wire = MemoryWire(peer)
        if not self._let_in(wire):
            refused = ConnectionRefusedError(errno.ECONNREFUSED, "the server does not listen")
            raise ConnectError(f"no connection to {self.url}: {refused}", step="tcp") from refused
        return await wire.answer()

    def _let_in(self, wire: Wire) -> bool:
        if self._door is not None:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                self._door.send_nowait(wire)
                self._accepted.add(wire)
                return True
        return False

    async def take(self, wire: Wire) -> None:
        """Start the process of an accepted connection."""
        self._accepted.add(wire)
        supervisor = self._running()
        try:
            await supervisor.start_child(ServerSocket.child_spec(self, wire, id=id(wire)))
        except ServerGoneError:
            return  # it stops just now, and cuts what was accepted at its end
        except StartError as error:  # the others are not to suffer from it
            self.crashes.append(error.__cause__ or error)
            self._cut({wire})

    def _ended(self) -> None:
        self._supervisor = None
        # What was bound or accepted while the supervisor ended has no process to close it.
        for listener in self._listeners:
            listener.socket.close()
        if self._door is not None:
            self._door.close()
        self._cut(set(self._accepted))

    def _cut(self, wires: set[Wire]) -> None:
        for wire in wires:
            wire.cut()
        self._accepted -= wires
