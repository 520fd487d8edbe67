"""One connection of a client: the Phoenix protocol over a transport, as a process.

The :class:`Link` is what a client keeps from its first connection to its last; a
:class:`Connection` is the process that owns one of them. The client's connection supervisor
starts the next when one ends.
"""

from ._connection import Connection
from ._inbox import Inbox, Nudge, Waiter, WaitsOverflowed
from ._link import ConnectionEnded, ConnectionOpened, Link, LinkEvent, Phase, Wire
from ._recorder import FlightRecorder, RecordedFrame
from ._request import build_request, provide

__all__ = [
    "Connection",
    "ConnectionEnded",
    "ConnectionOpened",
    "FlightRecorder",
    "Inbox",
    "Link",
    "LinkEvent",
    "Nudge",
    "Phase",
    "RecordedFrame",
    "Waiter",
    "WaitsOverflowed",
    "Wire",
    "build_request",
    "provide",
]
