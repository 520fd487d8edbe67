"""The words of the wire: the names of Phoenix's own events, and what a reply says."""

from typing import Any, Final, TypeVar, overload

import attrs

from slipstream.interfaces import Message

from ._typed import convert

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

T = TypeVar("T")

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

    @overload
    def decode(self, kind: type[T], /) -> T: ...
    @overload
    def decode(self, kind: Any, /) -> Any: ...
    def decode(self, kind: Any, /) -> Any:
        """Make a *kind* of the response, whatever the status.

        *kind* is an attrs class, a dataclass, a msgspec Struct, a TypedDict, or any other type that
        msgspec can make, such as ``list[Item]``; ``bytes`` stands for a binary response.

        Raises:
            DecodeError: if the response does not fit; it names the path, as in
                ``response.items[2].price: expected float, got str``.
            TypeError: if *kind* is nothing that msgspec can make.
        """
        return convert(self.response, kind, "response")
