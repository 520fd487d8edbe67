"""What the tests of a client share, beside the kit itself."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias

from slipstream import Config, ConnectError, Message, SlipstreamClient, Socket
from slipstream.client import ClientServer
from slipstream.otp import process_of
from slipstream.testing import ClientMessage, PhoenixServer, SocketTest

OpenTest: TypeAlias = Callable[..., AbstractAsyncContextManager[SocketTest]]
"""The fixture ``socket_test``."""

URI = "ws://server.test/socket/websocket"
TOPIC = "rooms:1"
HOUR = 3600.0
GONE = ConnectError("no route", step="tcp")


def config(**options: Any) -> Config:
    """A configuration that sends nothing by itself, and comes back after a second."""
    quiet = {"heartbeat_interval": None, "reconnect": [1.0], "rejoin": [1.0]}
    return Config(options.pop("uri", URI), **{**quiet, **options})


def config_to(server: PhoenixServer, **options: Any) -> Config:
    """The same, to a server in memory."""
    return config(uri=server.url, transport=server.open_transport, **options)


class Member(SlipstreamClient):
    """Joins the topic ``t``."""

    async def handle_connect(self, socket: Socket, /) -> None:
        socket.join("t")


class Visitor(SlipstreamClient):
    """Joins a room."""

    async def handle_connect(self, socket: Socket, /) -> None:
        socket.join(TOPIC)


def answer(to: ClientMessage, status: str = "ok", response: Any = None) -> Message:
    """The reply to what the client has sent, for when no server would send it."""
    payload = {"status": status, "response": {} if response is None else response}
    return Message(to.join_ref, to.ref, to.topic, "phx_reply", payload)


def server_of(test: SocketTest) -> ClientServer:
    """The process behind the client."""
    process = process_of(test.ref)
    assert process is not None
    server: ClientServer = process.server
    return server
