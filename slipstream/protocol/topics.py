"""The state of a topic on the wire, as one table."""

import enum
from typing import Final

from slipstream.errors import LocalProtocolError

__all__ = ["TRANSITIONS", "Input", "TopicRecord", "TopicState"]


class TopicState(enum.Enum):
    """How a topic stands on this connection."""

    CLOSED = "closed"
    JOINING = "joining"
    JOINED = "joined"
    LEAVING = "leaving"


class Input(enum.Enum):
    """What may happen to a topic. The first two are ours, the others the server's or the clock's."""

    JOIN = "join"
    LEAVE = "leave"
    JOIN_OK = "join ok"
    JOIN_ERROR = "join error"
    JOIN_TIMEOUT = "join time-out"
    LEFT = "left"
    CLOSE = "close"
    ERROR = "error"


# A join while joined is an explicit rejoin, one while leaving a change of mind: each makes a new
# join_ref, and whatever still comes for the old one is fenced off by it.
TRANSITIONS: Final[dict[TopicState, dict[Input, TopicState]]] = {
    TopicState.CLOSED: {
        Input.JOIN: TopicState.JOINING,
    },
    TopicState.JOINING: {
        Input.JOIN: TopicState.JOINING,
        Input.LEAVE: TopicState.LEAVING,
        Input.JOIN_OK: TopicState.JOINED,
        Input.JOIN_ERROR: TopicState.CLOSED,
        Input.JOIN_TIMEOUT: TopicState.CLOSED,
        Input.CLOSE: TopicState.CLOSED,
        Input.ERROR: TopicState.CLOSED,
    },
    TopicState.JOINED: {
        Input.JOIN: TopicState.JOINING,
        Input.LEAVE: TopicState.LEAVING,
        Input.CLOSE: TopicState.CLOSED,
        Input.ERROR: TopicState.CLOSED,
    },
    TopicState.LEAVING: {
        Input.JOIN: TopicState.JOINING,
        Input.LEFT: TopicState.CLOSED,
        Input.CLOSE: TopicState.CLOSED,
        Input.ERROR: TopicState.CLOSED,
    },
}


class TopicRecord:
    """A topic of one connection: its state, and the join that it belongs to."""

    __slots__ = ("join_ref", "name", "state")

    def __init__(self, name: str) -> None:
        self.name = name
        self.state = TopicState.CLOSED
        self.join_ref = ""

    def check(self, happening: Input) -> None:
        """Refuse what the table does not have.

        Raises:
            LocalProtocolError: if *happening* is not possible in this state.
        """
        if happening not in TRANSITIONS[self.state]:
            raise LocalProtocolError(
                f"cannot {happening.value} topic {self.name!r} while it is {self.state.value}"
            )

    def allows(self, happening: Input) -> bool:
        """Tell whether the table has *happening* in this state."""
        return happening in TRANSITIONS[self.state]

    def step(self, happening: Input) -> None:
        """Go on to the next state."""
        self.check(happening)
        self.state = TRANSITIONS[self.state][happening]
