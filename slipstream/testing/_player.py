"""A server in memory that plays conversations."""

import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import trio
from trio.testing import wait_all_tasks_blocked

from slipstream.errors import ConnectError, DecodeError, DisconnectedError
from slipstream.interfaces import Message
from slipstream.protocol import V1Serializer, V2Serializer
from slipstream.transport import MemoryNetwork, MemoryPeer

from ._speaker import Speaker
from ._steps import CloseConnection, Conversation, DropConnection, RefuseConnect, Step, Wait

__all__ = ["Player", "open_player", "play"]


async def play(conversation: Conversation, network: MemoryNetwork) -> None:
    """Be the server of *conversation* to the client that connects to *network*.

    Before each step, and after the last one, the client does whatever it can do just then. When the
    play is over connections stay open, but nobody answers any more.

    Meant for a virtual clock: a :class:`Wait` takes as long as it says. Safe to cancel.
    """
    async with open_player(network) as player:
        for step in conversation:
            await player.do(step)
        await wait_all_tasks_blocked()


@asynccontextmanager
async def open_player(network: MemoryNetwork) -> AsyncGenerator["Player"]:
    """Be the server of whoever connects to *network*, step by step.

    ``async with open_player(network) as player:`` accepts connections within the block, and
    ``await player.do(step)`` does the next step.
    """
    async with trio.open_nursery() as nursery:
        player = Player(network)
        nursery.start_soon(player.accept, nursery)
        try:
            yield player
        finally:
            nursery.cancel_scope.cancel()


class Player:
    """A server in memory that does as steps say, on the newest connection that is open."""

    def __init__(self, network: MemoryNetwork) -> None:
        self._network = network
        self._wires: list[_Wire] = []

    @property
    def speaker(self) -> Speaker | None:
        """What speaks on the newest connection, if one is open."""
        wire = self._open_one()
        return wire.speaker if wire is not None else None

    @property
    def heard(self) -> list[Message]:
        """What the client has said on all connections, as far as it was read."""
        return [message for wire in self._wires for message in wire.speaker.heard]

    async def do(self, step: Step) -> None:
        """Let the client do what it can do just then; then do *step*. Safe to cancel."""
        await wait_all_tasks_blocked()
        wire = self._open_one()
        match step:
            case Wait(seconds):
                await trio.sleep(seconds)
            case RefuseConnect(status):
                said = f"the server answered HTTP {status}"
                self._network.refuse(ConnectError(said, step="upgrade", status=status))
            case _ if wire is not None:
                wire.do(step)
            case _:
                pass

    async def accept(self, nursery: trio.Nursery) -> None:
        """Accept connections, each heard by a task in *nursery*."""
        while True:
            wire = _Wire(await self._network.accept(within=math.inf))
            self._wires.append(wire)
            nursery.start_soon(wire.listen)

    def _open_one(self) -> "_Wire | None":
        return next((wire for wire in reversed(self._wires) if wire.open), None)


class _Wire:
    """One connection of a play."""

    def __init__(self, peer: MemoryPeer) -> None:
        self._peer = peer
        # No vsn is V1's, for Phoenix.
        second = "vsn=2." in peer.request.uri
        serializer = V2Serializer(role="server") if second else V1Serializer(role="server")
        self.speaker = Speaker(serializer)
        self.open = True

    async def listen(self) -> None:
        """Hear the client out, until the connection ends."""
        with suppress(DisconnectedError):
            while True:
                for frame in await self._peer.receive():
                    self._hear(frame.data if frame.binary else frame.data.decode())
        self.open = False

    def _hear(self, data: str | bytes) -> None:
        try:
            said = self.speaker.hear(data)
        except DecodeError:
            self.do(CloseConnection(1011))  # as where Phoenix's transport process raises
        else:
            self._send(said)

    def do(self, step: Step) -> None:
        """Do *step* on this connection."""
        match step:
            case CloseConnection(code, reason) if self.open:
                self.open = False
                self._peer.close(code, reason)
            case DropConnection() if self.open:
                self.open = False
                self._peer.drop()
            case _:
                self._send(self.speaker.say(step))

    def _send(self, said: list[str | bytes]) -> None:
        if said and self.open:
            with suppress(DisconnectedError):  # the client has gone just now
                self._peer.send(*said)
