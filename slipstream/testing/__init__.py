"""The public test kit: an embedded Phoenix server."""

from slipstream.client import ANY

from ._channel import Answer, Channel, Error, Ok, Refuse, ReplyRef, ReplyWith
from ._handshake import ConnectInfo, Reject
from ._open_test import open_socket_test
from ._server import PhoenixServer
from ._serving import ClientMessage
from ._socket import ServerSocket
from ._socket_test import SocketTest
from ._timeline import Call, Timeline

__all__ = [
    "ANY",
    "Answer",
    "Call",
    "Channel",
    "ClientMessage",
    "ConnectInfo",
    "Error",
    "Ok",
    "PhoenixServer",
    "Refuse",
    "Reject",
    "ReplyRef",
    "ReplyWith",
    "ServerSocket",
    "SocketTest",
    "Timeline",
    "open_socket_test",
]
