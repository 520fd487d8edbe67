"""A program that cuts a path in both directions, without a word to anyone, and tells who notices.

Server and client have a network namespace each, with a cable between them that is pulled out; a
loopback cannot be cut like that. So it needs Linux, root and ``ip``; where it has to do without,
it says why and ends with 77. It prints a JSON object: what ended each connection, and after how
many seconds.
"""

import ctypes
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any

import trio

from slipstream import Config, SlipstreamClient, Socket, open_supervisor
from slipstream.errors import ConnectError, DisconnectedError
from slipstream.interfaces import ConnectRequest, Frame
from slipstream.transport import _opening
from tests.transport.support import (
    TEXT,
    Connection,
    RawServer,
    connect,
    open_sockets_to,
    serving,
)

CLONE_NEWNET = 0x40000000
SERVER, CLIENT = "10.99.0.1", "10.99.0.2"
UNABLE = 77

Told = dict[str, Any]


class Lab:
    """Two namespaces of this process alone, which end with it, and the cable between them."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._server = self._make_namespace()
        self._client = self._make_namespace()
        theirs = f"/proc/{os.getpid()}/fd/{self._server}"
        _ip("link", "add", "cable", "type", "veth", "peer", "name", "far", "netns", theirs)
        with self.at_server():
            _ip("address", "add", f"{SERVER}/30", "dev", "far")
            _ip("link", "set", "far", "up")
        _ip("address", "add", f"{CLIENT}/30", "dev", "cable")
        _ip("link", "set", "cable", "up")

    @contextmanager
    def at_server(self) -> Iterator[None]:
        """Make the sockets in the block those of the server."""
        self._enter(self._server)
        try:
            yield
        finally:
            self._enter(self._client)

    def pull_out(self) -> None:
        """Let nothing through any more. The client's end stays up, and sends into the void."""
        with self.at_server():
            _ip("link", "set", "far", "down")

    def plug_in(self) -> None:
        with self.at_server():
            _ip("link", "set", "far", "up")

    def _make_namespace(self) -> int:
        if self._libc.unshare(CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "no network namespace can be made")
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY)

    def _enter(self, namespace: int) -> None:
        if self._libc.setns(namespace, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "a network namespace cannot be entered")


def _ip(*arguments: str) -> None:
    command = [shutil.which("ip") or "/sbin/ip", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - nothing comes from outside
    if done.returncode != 0:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


class Cases:
    """The connections that live when the cable is pulled out, and what became of each."""

    def __init__(self, lab: Lab, server: RawServer) -> None:
        self.lab = lab
        self.server = server
        self.cut = trio.Event()
        self.restored = trio.Event()
        self.cut_at = 0.0
        self.ready = 0
        self.told: dict[str, Told] = {}
        self._changed = trio.lowlevel.ParkingLot()

    def request(self, **options: Any) -> ConnectRequest:
        uri = f"ws://{SERVER}:{self.server.port}/socket/websocket"
        return self.server.request(uri=uri, **{"tcp_keepalive": False, **options})

    def tell(self, name: str, what: object, **more: Any) -> None:
        seconds = trio.current_time() - self.cut_at
        self.told[name] = {"what": what, "seconds": seconds, **more}
        self._changed.unpark_all()

    def note_ready(self) -> None:
        self.ready += 1
        self._changed.unpark_all()

    async def wait(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._changed.park()

    async def wait_cut(self) -> None:
        self.note_ready()
        await self.cut.wait()

    async def receives_without_options(self, name: str) -> None:
        async with connect(self.request(close_timeout=0.2)) as transport:
            await self.wait_cut()
            with trio.move_on_after(3.0) as scope:
                await transport.receive()
            silent = trio.current_time() - transport.last_received
            self.tell(name, "nothing" if scope.cancelled_caught else "something", silent=silent)

    async def receives_with_keepalive(self, name: str) -> None:
        async with connect(self.request(tcp_keepalive=True)) as transport:
            await self.wait_cut()
            await self._until_told(name, transport)

    async def sends_with_a_user_timeout(self, name: str) -> None:
        async with connect(self.request(tcp_user_timeout=1.0)) as transport:
            await self.wait_cut()
            transport.send_nowait(Frame(b"[]"))
            await self._until_told(name, transport)

    async def writes_much(self, name: str) -> None:
        async with connect(self.request(write_timeout=0.5)) as transport:
            await self.wait_cut()
            transport.send_nowait(Frame(b"x" * (8 << 20), binary=True))
            await self._until_told(name, transport)

    async def closes(self, name: str) -> None:
        async with connect(self.request(close_timeout=0.5)) as transport:
            await self.wait_cut()
            await transport.close(4001)
        self.tell(name, repr(transport.closed))

    async def is_cancelled(self, name: str) -> None:
        with trio.CancelScope() as scope:
            async with connect(self.request(close_timeout=60.0)):
                await self.wait_cut()
                scope.cancel()
                await trio.sleep_forever()
        self.tell(name, "cancelled")

    async def connects(self, name: str) -> None:
        await self.wait_cut()
        try:
            async with connect(self.request(connect_timeout=0.5)):
                self.tell(name, "connected")
        except ConnectError as error:
            self.tell(name, type(error.__cause__).__name__, step=error.step)

    async def heartbeats(self, name: str) -> None:
        uri = f"ws://{SERVER}:{self.server.port}/socket"
        config = Config(
            uri,
            heartbeat_interval=0.3,
            heartbeat_timeout=0.3,
            reconnect=[0.1],
            connect_timeout=0.3,
            close_timeout=0.3,
            tcp_keepalive=False,
        )
        async with open_supervisor([(Pulse, (self, name, config))]):
            await self.restored.wait()
            restored_at = trio.current_time()
            back = self.told[name]["back"]
            await back.wait()
            self.told[name]["back"] = trio.current_time() - restored_at

    async def _until_told(self, name: str, transport: Any) -> None:
        try:
            while True:
                await transport.receive()
        except DisconnectedError as error:
            self.tell(name, type(getattr(error.reason, "error", error.reason)).__name__)


class Pulse(SlipstreamClient):
    """Lives by its heartbeat."""

    async def init(self, argument: Any, socket: Socket, /) -> None:
        self.cases, self.name, config = argument
        self.connected = 0
        socket.connect(config)

    async def handle_connect(self, socket: Socket, /) -> None:
        self.connected += 1
        if self.connected == 1:
            self.cases.note_ready()
        else:
            self.cases.told[self.name]["back"].set()

    async def handle_disconnect(self, reason: Any, socket: Socket, /) -> None:
        if self.name not in self.cases.told:
            self.cases.tell(self.name, type(reason).__name__, back=trio.Event())


async def answer_heartbeats(connection: Connection) -> None:
    """Be as much of a Phoenix as a client without topics needs."""
    try:
        await connection.accept()
        while seen := await connection.read_frame():
            if seen.opcode != TEXT or len(seen.payload) < 10:
                continue
            _, ref, topic, _, _ = json.loads(seen.payload)
            reply = [None, ref, topic, "phx_reply", {"status": "ok", "response": {}}]
            await connection.send_frame(TEXT, json.dumps(reply).encode())
    except (AssertionError, trio.BrokenResourceError):
        return


async def main(lab: Lab) -> dict[str, Told]:
    with trio.fail_after(30.0):
        async with AsyncExitStack() as stack:
            with lab.at_server():
                server = await stack.enter_async_context(serving(answer_heartbeats, host=SERVER))
            cases = Cases(lab, server)
            all_of_them: list[Callable[[str], Awaitable[None]]] = [
                cases.receives_without_options,
                cases.receives_with_keepalive,
                cases.sends_with_a_user_timeout,
                cases.writes_much,
                cases.closes,
                cases.is_cancelled,
                cases.connects,
                cases.heartbeats,
            ]
            async with trio.open_nursery() as nursery:
                for case in all_of_them:
                    nursery.start_soon(case, case.__name__)
                await cases.wait(lambda: cases.ready == len(all_of_them))
                lab.pull_out()
                cases.cut_at = trio.current_time()
                cases.cut.set()
                await cases.wait(lambda: len(cases.told) == len(all_of_them))
                lab.plug_in()
                cases.restored.set()
            cases.told["afterwards"] = {"what": open_sockets_to(server.port)}
            return cases.told


if __name__ == "__main__":
    try:
        laboratory = Lab()
    except (OSError, AttributeError) as error:  # AttributeError where a libc has no namespaces
        print(error)
        sys.exit(UNABLE)
    # As the transport does, but within the patience of a test.
    _opening.KEEPALIVE_IDLE = _opening.KEEPALIVE_INTERVAL = 1
    assert hasattr(socket, "TCP_USER_TIMEOUT")
    print(json.dumps(trio.run(main, laboratory)))
