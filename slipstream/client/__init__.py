"""What applications subclass: clients, their sockets, and scripts."""

from slipstream.connection import RecordedFrame

from ._client import SlipstreamClient
from ._health import Health
from ._on_message import on_message
from ._pushes import WhenUnjoined
from ._ref import ClientRef
from ._script import open_socket
from ._server import ClientServer
from ._socket import Socket
from .awaiting import ANY, Messages

__all__ = [
    "ANY",
    "ClientRef",
    "ClientServer",
    "Health",
    "Messages",
    "RecordedFrame",
    "SlipstreamClient",
    "Socket",
    "WhenUnjoined",
    "on_message",
    "open_socket",
]
