"""The reference to a client: a server reference that also knows about the link."""

import math
from typing import TYPE_CHECKING, Any

import attrs
import trio

from slipstream.connection import RecordedFrame
from slipstream.errors import AwaitTimeoutError, CallingSelfError, LinkError, ServerGoneError
from slipstream.otp import ServerRef, SupervisorRef, process_of, wait_event
from slipstream.reasons import NOPROC

from ._health import Health
from .awaiting import check_seconds

if TYPE_CHECKING:  # a cycle by nature: the server names its ref's class
    from ._server import ClientServer

__all__ = ["ClientRef", "Raised"]


@attrs.frozen
class Raised:
    """A ``LinkError`` that left ``handle_call``, on its way to the caller."""

    error: LinkError


class ClientRef(ServerRef):
    """The address of a client, over all its incarnations."""

    __slots__ = ()

    async def call(self, request: Any, *, timeout: float | None = 5.0) -> Any:
        """Call the client, as :meth:`.ServerRef.call` does.

        Raises:
            LinkError: the one that ``handle_call`` left with.
        """
        value = await super().call(request, timeout=timeout)
        if isinstance(value, Raised):
            raise value.error
        return value

    async def wait_connected(self, timeout: float | None = None) -> None:
        """Wait until the client's connection is open. Safe to cancel; works from any task.

        It waits through failed attempts, for the policy makes new ones.

        Raises:
            AwaitTimeoutError: after *timeout* seconds; without one there is no limit.
            CallingSelfError: from a callback of the client itself, where ``socket.await_connect``
                serves.
            ConfigError: if *timeout* is no duration.
            ServerGoneError: if there is no such client any more.
            WrongTaskError: from another thread than trio's.
        """
        check_seconds("timeout", timeout)
        server = self._server()
        if server is not None:
            server.check_thread()
            if server.runs_here():
                raise CallingSelfError(f"{self} cannot wait for itself: use socket.await_connect")
        deadline = math.inf if timeout is None else trio.current_time() + timeout
        await trio.lowlevel.checkpoint()
        while True:
            living = self.pin()
            server = living._server()
            if server is None:
                raise ServerGoneError(self, NOPROC)
            if server.uplink.up:
                return
            changed = server.uplink.changed
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_set_when_ended, living, changed)
                in_time = await wait_event(changed, deadline=deadline)
                nursery.cancel_scope.cancel()
            if not in_time:
                raise AwaitTimeoutError(f"a connection of {self}", timeout or 0.0)

    def reconnect_now(self) -> None:
        """Let the client make its next attempt at once; see :meth:`.Socket.reconnect_now`.

        Raises:
            ServerGoneError: if the client does not run just now.
            WrongTaskError: from another thread than trio's.
        """
        server = self._server()
        if server is None:
            raise ServerGoneError(self, NOPROC)
        server.socket.reconnect_now()

    def health(self) -> Health:
        """Take a snapshot of how the client's link is doing.

        Raises:
            ServerGoneError: if the client does not run just now.
            WrongTaskError: from another thread than trio's.
        """
        return self._running().health()

    def recorded_frames(self) -> tuple[RecordedFrame, ...]:
        """Give the last frames of the client's link, the oldest first: its flight recorder.

        ``Config.flight_recorder`` says how many are kept; their payloads are shown only with
        ``Config.log_payloads``.

        Raises:
            ServerGoneError: if the client does not run just now.
            WrongTaskError: from another thread than trio's.
        """
        return self._running().uplink.recorded_frames()

    @property
    def connections(self) -> SupervisorRef | None:
        """The supervisor of the client's connection, once there is one: to look into the tree."""
        server = self._server()
        return server.connections if server is not None else None

    def _running(self) -> "ClientServer":
        server = self._server()
        if server is None:
            raise ServerGoneError(self, NOPROC)
        server.check_thread()
        return server

    def _server(self) -> "ClientServer | None":
        process = process_of(self)
        return process.server if process is not None else None


async def _set_when_ended(living: ClientRef, changed: trio.Event) -> None:
    # A link whose client has ended changes no more.
    await living.wait()
    changed.set()
