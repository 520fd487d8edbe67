"""The public test kit: a client under test with a server that is the test, and an embedded Phoenix server."""

from slipstream.client import ANY

from ._channel import Answer, Channel, Error, Ok, Refuse, ReplyRef, ReplyWith
from ._errand import Errand
from ._faults_injected import Injected
from ._handshake import ConnectInfo, Reject
from ._open_test import open_socket_test
from ._patterns import exactly
from ._presence import Meta, Presence, Presences
from ._profiles import Like
from ._server import PhoenixServer
from ._serving import ClientMessage
from ._socket import ServerSocket
from ._socket_test import SocketTest
from ._timeline import Call, Timeline
from ._traffic import Traffic

__all__ = [
    "ANY",
    "Answer",
    "Call",
    "Channel",
    "ClientMessage",
    "ConnectInfo",
    "Errand",
    "Error",
    "Injected",
    "Like",
    "Meta",
    "Ok",
    "PhoenixServer",
    "Presence",
    "Presences",
    "Refuse",
    "Reject",
    "ReplyRef",
    "ReplyWith",
    "ServerSocket",
    "SocketTest",
    "Timeline",
    "Traffic",
    "exactly",
    "open_socket_test",
]
