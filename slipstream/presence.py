"""Who is there: presence, kept after phoenix.js' rules. No I/O, no clock, no trio.

A Phoenix channel pushes ``presence_state``, everyone who is there, after a join, and broadcasts a
``presence_diff`` for whoever comes or goes. A client that overrides ``handle_presence`` has all this
done; a script feeds what it hears to a :class:`PresenceState` of its own.

One *key* (a user, say) may be there several times, once for each tab or device. Each time is a
*meta*, a mapping of whatever the server tracks, known by its ``phx_ref``.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import attrs

from .errors import RemoteProtocolError

__all__ = [
    "Meta",
    "Presence",
    "PresenceDiff",
    "PresenceJoin",
    "PresenceLeave",
    "PresenceState",
    "PresenceUpdate",
]

Meta: TypeAlias = Mapping[str, Any]
"""What the server tracks of one time that a key is there; ``phx_ref`` tells it from the others."""

_PENDING_LIMIT: Final = 256


@attrs.frozen
class Presence:
    """A key and its metas, oldest first.

    Attributes:
        key: what the server tracks, such as the id of a user.
        metas: one for each time that it is there.
        fields: what the server's ``fetch`` has put beside the metas.
    """

    key: str
    metas: tuple[Meta, ...]
    fields: Mapping[str, Any] = attrs.field(factory=dict[str, Any])


@attrs.frozen
class PresenceJoin(Presence):
    """A key with those metas alone that came.

    Attributes:
        current: the key as it was before, or ``None`` where it was not there.
    """

    current: Presence | None = attrs.field(kw_only=True)

    @property
    def is_first(self) -> bool:
        """Whether the key was not there before."""
        return self.current is None or not self.current.metas


@attrs.frozen
class PresenceLeave(Presence):
    """A key with those metas alone that went.

    Attributes:
        current: the key as it is now; it has no metas where it is gone.
    """

    current: Presence = attrs.field(kw_only=True)

    @property
    def is_last(self) -> bool:
        """Whether the key is gone."""
        return not self.current.metas


@attrs.frozen
class PresenceUpdate:
    """A meta of a key that was replaced, as by ``Presence.update`` on the server.

    Attributes:
        key: whose meta it is.
        before: the meta as it was.
        after: the meta as it is; its ``phx_ref_prev`` is the ``phx_ref`` of the one before.
    """

    key: str
    before: Meta
    after: Meta


@attrs.frozen
class PresenceDiff:
    """What has changed: each meta that came, went or was replaced is told once. Empty is false.

    Attributes:
        joins: keys with the metas that came.
        leaves: keys with the metas that went.
        updates: metas that were replaced; they are in neither of the others.
    """

    joins: tuple[PresenceJoin, ...] = ()
    leaves: tuple[PresenceLeave, ...] = ()
    updates: tuple[PresenceUpdate, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.joins or self.leaves or self.updates)


_Presences: TypeAlias = dict[str, Presence]


class PresenceState:
    """Who is there on one topic, over all its joins.

    Diffs that come before the state of their join wait for it; so do those after a rejoin, while what
    was known before stays, so that the next state is told as what changed meanwhile. Diffs without
    number that no state ever follows are not kept: the oldest go, and are counted.

    Attributes:
        dropped: how many waiting diffs were dropped since more than 256 waited.
    """

    def __init__(self) -> None:
        self.dropped = 0
        self._presences: _Presences = {}
        self._snapshot: Mapping[str, Presence] | None = None
        self._synced = False
        self._join_ref: str | None = None
        self._pending: deque[tuple[_Presences, _Presences]] = deque()
        self._pending_of: str | None = None

    @property
    def presences(self) -> Mapping[str, Presence]:
        """Who is there, by key: a snapshot that does not change."""
        if self._snapshot is None:
            self._snapshot = MappingProxyType(dict(self._presences))
        return self._snapshot

    @property
    def pending(self) -> int:
        """How many diffs wait for their state."""
        return len(self._pending)

    def sync_state(self, payload: Any, *, join_ref: str | None = None) -> PresenceDiff:
        """Follow a ``presence_state``, and the diffs that waited for it; tell what has changed.

        *join_ref* is that of the topic's join, where it may be joined anew.

        Raises:
            RemoteProtocolError: if *payload* is none; nothing has changed then.
        """
        new = _read(payload, "presence_state")
        before = dict(self._presences)
        self._apply(*_compare(before, new))
        # What waited since an earlier join is older than this state. (phoenix.js applies it, and
        # shows people who are long gone.)
        if join_ref == self._pending_of:
            for joins, leaves in self._pending:
                self._apply(joins, leaves)
        self._pending.clear()
        self._synced, self._join_ref = True, join_ref
        return self._changes({key: before.get(key) for key in {**before, **self._presences}})

    def sync_diff(self, payload: Any, *, join_ref: str | None = None) -> PresenceDiff | None:
        """Follow a ``presence_diff``; tell what has changed, or ``None`` where it has to wait.

        Raises:
            RemoteProtocolError: if *payload* is none; nothing has changed then.
        """
        joins, leaves = _read_diff(payload)
        if not self._synced or join_ref != self._join_ref:
            self._wait(joins, leaves, join_ref)
            return None
        before = {key: self._presences.get(key) for key in (*joins, *leaves)}
        self._apply(joins, leaves)
        return self._changes(before)

    def _wait(self, joins: _Presences, leaves: _Presences, join_ref: str | None) -> None:
        if join_ref != self._pending_of:
            self._pending.clear()
            self._pending_of = join_ref
        self._pending.append((joins, leaves))
        if len(self._pending) > _PENDING_LIMIT:
            self._pending.popleft()
            self.dropped += 1

    def _apply(self, joins: _Presences, leaves: _Presences) -> None:
        # Joins first, as phoenix.js does: an update must not look as if the key were gone.
        self._snapshot = None
        for key, new in joins.items():
            current = self._presences.get(key)
            old = () if current is None else _without(current.metas, new.metas)
            self._presences[key] = attrs.evolve(new, metas=(*old, *new.metas))
        for key, left in leaves.items():
            current = self._presences.get(key)
            if current is not None:
                metas = _without(current.metas, left.metas)
                if metas:
                    self._presences[key] = attrs.evolve(current, metas=metas)
                else:
                    del self._presences[key]

    def _changes(self, before: Mapping[str, Presence | None]) -> PresenceDiff:
        joins: list[PresenceJoin] = []
        leaves: list[PresenceLeave] = []
        updates: list[PresenceUpdate] = []
        for key, old in before.items():
            new = self._presences.get(key)
            if new is old:
                continue
            old_metas = () if old is None else old.metas
            new_metas = () if new is None else new.metas
            went = {meta["phx_ref"]: meta for meta in _without(old_metas, new_metas)}
            came: list[Meta] = []
            for meta in _without(new_metas, old_metas):
                previous = meta.get("phx_ref_prev")
                if isinstance(previous, str) and previous in went:
                    updates.append(PresenceUpdate(key, went.pop(previous), meta))
                else:
                    came.append(meta)
            if new is not None and (came or old is None):
                joins.append(PresenceJoin(key, tuple(came), new.fields, current=old))
            if old is not None and (went or new is None):
                current = Presence(key, (), old.fields) if new is None else new
                leaves.append(PresenceLeave(key, tuple(went.values()), old.fields, current=current))
        return PresenceDiff(tuple(joins), tuple(leaves), tuple(updates))


def _without(metas: Iterable[Meta], others: Iterable[Meta]) -> tuple[Meta, ...]:
    refs = {meta["phx_ref"] for meta in others}
    return tuple(meta for meta in metas if meta["phx_ref"] not in refs)


def _compare(old: _Presences, new: _Presences) -> tuple[_Presences, _Presences]:
    """Give the joins and leaves that make *new* of *old*; of a key that stays, what differs."""
    joins: _Presences = {}
    leaves: _Presences = {key: gone for key, gone in old.items() if key not in new}
    for key, presence in new.items():
        current = old.get(key)
        if current is None:
            joins[key] = presence
            continue
        came = _without(presence.metas, current.metas)
        went = _without(current.metas, presence.metas)
        if came:
            joins[key] = attrs.evolve(presence, metas=came)
        if went:
            leaves[key] = attrs.evolve(current, metas=went)
    return joins, leaves


# What a server sends is checked whole before anything changes. Errors name no key and no value: they
# go into logs, and keys are often names of people.


def _read_diff(payload: Any) -> tuple[_Presences, _Presences]:
    parts = _object(payload, "presence_diff")
    for part in ("joins", "leaves"):
        if part not in parts:
            raise RemoteProtocolError(f"presence_diff has no {part!r}")
    joins, leaves = (
        _read(parts[part], f"{part!r} of presence_diff") for part in ("joins", "leaves")
    )
    return joins, leaves


def _read(payload: Any, where: str) -> _Presences:
    return {
        _string(key, f"a key of {where}"): _read_one(key, entry, f"an entry of {where}")
        for key, entry in _object(payload, where).items()
    }


def _read_one(key: str, entry: Any, where: str) -> Presence:
    fields = dict(_object(entry, where))
    metas = fields.pop("metas", None)
    if not isinstance(metas, list):
        raise RemoteProtocolError(f"metas in {where} is {_kind(metas)}; accepted is a list")
    checked = tuple(
        _object(meta, f"a meta in {where}")
        for meta in metas  # pyright: ignore[reportUnknownVariableType]  # a list of anything
    )
    for meta in checked:
        _string(meta.get("phx_ref"), f"phx_ref of a meta in {where}")
    return Presence(key, checked, fields)


def _object(value: Any, where: str) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise RemoteProtocolError(f"{where} is {_kind(value)}; accepted is an object")
    return value  # pyright: ignore[reportUnknownVariableType]  # a mapping of anything


def _string(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise RemoteProtocolError(f"{where} is {_kind(value)}; accepted is a string")
    return value


def _kind(value: Any) -> str:
    return "missing" if value is None else f"of type {type(value).__name__}"
