"""The words of the wire: the names of Phoenix's own events, and what a reply says."""

from typing import Any, Final

import attrs

from slipstream.interfaces import Message

__all__ = [
    "HEARTBEAT",
    "PHOENIX",
    "PHX_CLOSE",
    "PHX_ERROR",
    "PHX_JOIN",
    "PHX_LEAVE",
    "PHX_REPLY",
    "ChannelReply",
    "Message",
]

PHX_JOIN: Final = "phx_join"
PHX_LEAVE: Final = "phx_leave"
PHX_REPLY: Final = "phx_reply"
PHX_ERROR: Final = "phx_error"
PHX_CLOSE: Final = "phx_close"
HEARTBEAT: Final = "heartbeat"
PHOENIX: Final = "phoenix"
"""The topic of the socket itself."""


@attrs.frozen
class ChannelReply:
    """A server's reply to a push: its *status*, any string, and its *response*.

    *response* is a JSON value (``{}`` where the server gave none), or ``bytes``.
    """

    status: str
    response: Any

    @property
    def ok(self) -> bool:
        """Whether the status is ``"ok"``."""
        return self.status == "ok"
