"""What type checkers know of clients. Nothing here is run: mypy and pyright, both strict, read it.

A line that must not type-check ends in an ignore; both checkers report one that is not needed.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true, reportUnusedCoroutine=false

from collections.abc import Mapping
from typing import Any, assert_type

from slipstream import (
    NoReply,
    Presence,
    PresenceDiff,
    PresenceJoin,
    PresenceLeave,
    PresenceState,
    PresenceUpdate,
    SlipstreamClient,
    Socket,
    Stop,
)


class Watcher(SlipstreamClient):
    """Presence is typed down to the metas, which are what the server makes of them."""

    presence_events = ("who:state", "who:diff")

    async def handle_presence(
        self, topic: str, diff: PresenceDiff, socket: Socket, /
    ) -> NoReply | Stop | None:
        """Look at all there is."""
        assert_type(diff.joins, tuple[PresenceJoin, ...])
        assert_type(diff.leaves, tuple[PresenceLeave, ...])
        assert_type(diff.updates, tuple[PresenceUpdate, ...])
        join, leave, update = diff.joins[0], diff.leaves[0], diff.updates[0]
        assert_type(join.current, Presence | None)
        assert_type(join.is_first, bool)
        assert_type(leave.current, Presence)
        assert_type(leave.is_last, bool)
        assert_type(update.key, str)
        assert_type(update.after, Mapping[str, Any])
        both: list[Presence] = [join, leave]
        both[0].key = "other"  # type: ignore[misc]  # frozen
        update.after["x"] = 1  # type: ignore[index]  # read only
        there = socket.presences(topic)
        assert_type(there, Mapping[str, Presence])
        del there["x"]  # type: ignore[attr-defined]  # a snapshot
        assert_type(there["x"].metas, tuple[Mapping[str, Any], ...])
        return None


class Mistaken(SlipstreamClient):
    """A wrong diff or a wrong name of an event is found out."""

    presence_events = "presence_state"  # type: ignore[assignment]  # two names

    async def handle_presence(self, topic: str, diff: str, socket: Socket, /) -> None:  # type: ignore[override]  # a PresenceDiff
        """Take what never comes."""


def states(state: PresenceState) -> None:
    """A state gives a diff; a diff may have to wait."""
    assert_type(state.sync_state({}), PresenceDiff)
    assert_type(state.sync_diff({}, join_ref="1"), PresenceDiff | None)
    assert_type(state.presences, Mapping[str, Presence])
