"""Frames over a network: an open WebSocket that receives batches, and a network in memory for tests.

:func:`open_websocket_transport` is the real one, :class:`MemoryNetwork` the one in memory. Both are
what :mod:`slipstream.interfaces` calls an ``OpenTransport`` (``MemoryNetwork.open_transport``).
"""

from ._ambient import current_transport, use_transport
from ._memory import ClientClose, MemoryNetwork, MemoryPeer, MemoryResponse
from ._websocket import open_websocket_transport

__all__ = [
    "ClientClose",
    "MemoryNetwork",
    "MemoryPeer",
    "MemoryResponse",
    "current_transport",
    "open_websocket_transport",
    "use_transport",
]
