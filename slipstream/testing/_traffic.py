"""What goes over a server's connections, for whoever watches."""

from typing import Literal

import attrs

__all__ = ["Traffic"]


@attrs.frozen
class Traffic:
    """Something that happened on a connection of a :class:`PhoenixServer`.

    Attributes:
        connection: which connection it is, counted from 1.
        what: what happened.
        detail: of ``"received"`` and ``"sent"`` the message as it was on the wire; of ``"closed"`` the
            close code; else the path that was asked for (its query may hold secrets), and the
            status where that was refused.
    """

    connection: int
    what: Literal["connected", "refused", "received", "sent", "closed"]
    detail: str | bytes = ""
