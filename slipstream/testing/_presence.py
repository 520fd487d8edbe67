"""Who is there: presence as Phoenix's servers keep and show it."""

import base64
import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs
import trio

from slipstream.interfaces import Payload

if TYPE_CHECKING:  # a cycle by nature: a channel has a presence, a presence belongs to a channel
    from ._channel import Channel

__all__ = ["Meta", "Presence", "PresenceTable", "Presences"]

Meta: TypeAlias = Mapping[str, Any]
"""What is known of a presence."""

Presences: TypeAlias = dict[str, dict[str, list[dict[str, Any]]]]
"""``{key: {"metas": [meta, …]}}``: one meta for each channel that tracks the key."""

_REFS: Final = frozenset({"phx_ref", "phx_ref_prev"})


@attrs.frozen(eq=False)
class _Tracked:
    """A key that a channel tracks."""

    channel: "Channel"
    key: str
    meta: dict[str, Any]

    @property
    def topic(self) -> str:
        return self.channel.topic


class PresenceTable:
    """The presences of all topics of a server.

    Phoenix hands each diff to a task of its own: it comes after the reply of the callback that
    caused it, and yet before a list that the same callback reads. So it does here.
    """

    def __init__(self, broadcast: Callable[[str, str, Payload], Any]) -> None:
        self._broadcast = broadcast
        self._tracked: dict[tuple[Channel, str], _Tracked] = {}
        self._diffs: list[tuple[str, Payload]] = []
        self._numbers = itertools.count(1)

    def find(self, topic: str) -> Presences:
        """Give the presences of *topic*, after the diffs that lead to them."""
        self.flush()
        return _group(each for each in self._tracked.values() if each.topic == topic)

    def track(self, channel: "Channel", key: str, meta: Meta) -> None:
        """Add *key*."""
        if (channel, key) in self._tracked:
            raise ValueError(f"{key!r} is tracked already by this channel of {channel.topic!r}")
        entry = self._enter(channel, key, {"phx_ref": self._next_ref()}, meta)
        self._note(channel.topic, joins=[entry])
        channel.socket.start_soon(self._flush_soon)

    def update(self, channel: "Channel", key: str, meta: Meta | Callable[[Meta], Meta]) -> None:
        """Replace the meta of *key*."""
        old = self._tracked.get((channel, key))
        if old is None:
            raise LookupError(f"{key!r} is not tracked by this channel of {channel.topic!r}")
        refs = {"phx_ref": self._next_ref(), "phx_ref_prev": old.meta["phx_ref"]}
        entry = self._enter(channel, key, refs, meta(dict(old.meta)) if callable(meta) else meta)
        self._note(channel.topic, joins=[entry], leaves=[old])
        channel.socket.start_soon(self._flush_soon)

    def untrack(self, channel: "Channel", key: str) -> None:
        """Remove *key*, if it is there."""
        entry = self._tracked.pop((channel, key), None)
        if entry is not None:
            self._note(channel.topic, leaves=[entry])
            channel.socket.start_soon(self._flush_soon)

    def forget(self, channel: "Channel") -> None:
        """Remove what *channel* tracked, and tell it now: the channel has ended."""
        channel.presence.ended = True
        gone = [each for each in self._tracked.values() if each.channel is channel]
        for entry in gone:
            del self._tracked[channel, entry.key]
        if gone:
            self._note(channel.topic, leaves=gone)
        self.flush()

    def flush(self) -> None:
        """Send the diffs that wait."""
        diffs, self._diffs = self._diffs, []
        for topic, diff in diffs:
            self._broadcast(topic, "presence_diff", diff)

    def _enter(self, channel: "Channel", key: str, refs: Mapping[str, str], meta: Meta) -> _Tracked:
        own = {name: value for name, value in meta.items() if name not in _REFS}
        entry = self._tracked[channel, key] = _Tracked(channel, key, {**refs, **own})
        return entry

    def _note(
        self, topic: str, *, joins: Iterable[_Tracked] = (), leaves: Iterable[_Tracked] = ()
    ) -> None:
        self._diffs.append((topic, {"joins": _group(joins), "leaves": _group(leaves)}))

    async def _flush_soon(self) -> None:
        self.flush()
        await trio.lowlevel.checkpoint()

    def _next_ref(self) -> str:
        # As long as Phoenix's, and the same in every run of a test.
        return base64.urlsafe_b64encode(next(self._numbers).to_bytes(12, "big")).decode()


class Presence:
    """The presence of one channel: ``self.presence`` in its callbacks.

    What it tracks is gone when the channel ends. Each change is a ``presence_diff`` to everyone in
    the topic, this channel's client included.

    Attributes:
        ended: whether the channel has ended.
    """

    def __init__(self, channel: "Channel") -> None:
        self._channel = channel
        self.ended = False

    @property
    def _table(self) -> PresenceTable:
        return self._channel.socket.server.presence_table

    def track(self, key: str, meta: Meta) -> None:
        """Say that *key* (a user's id, say) is there, with what is known of it.

        Raises:
            ValueError: if this channel tracks *key* already.
            RuntimeError: if this channel has ended.
        """
        if self.ended:
            raise RuntimeError(
                f"cannot track {key!r}: the channel of {self._channel.topic!r} has ended"
            )
        self._table.track(self._channel, key, meta)

    def update(self, key: str, meta: Meta | Callable[[Meta], Meta]) -> None:
        """Replace the meta of *key*; a function is given the old one.

        Raises:
            LookupError: if this channel does not track *key*.
        """
        self._table.update(self._channel, key, meta)

    def untrack(self, key: str) -> None:
        """Say that *key* is no longer there; one that never was is no error."""
        self._table.untrack(self._channel, key)

    def list(self) -> Presences:
        """Give who is in the topic, for a ``presence_state``."""
        return self._table.find(self._channel.topic)


def _group(entries: Iterable[_Tracked]) -> Presences:
    groups: Presences = {}
    for entry in entries:
        groups.setdefault(entry.key, {"metas": []})["metas"].append(entry.meta)
    # Elixir's (small) maps are sorted by their keys.
    return dict(sorted(groups.items()))
