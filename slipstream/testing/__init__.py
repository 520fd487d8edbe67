"""The public test kit: an embedded Phoenix server."""

from ._channel import Answer, Channel, Error, Ok, Refuse, ReplyRef, ReplyWith
from ._handshake import ConnectInfo, Reject
from ._presence import Meta, Presence, Presences
from ._profiles import Like
from ._server import PhoenixServer
from ._socket import ServerSocket
from ._traffic import Traffic

__all__ = [
    "Answer",
    "Channel",
    "ConnectInfo",
    "Error",
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
    "Traffic",
]
