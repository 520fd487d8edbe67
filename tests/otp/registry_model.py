"""A registry, its listener and its locks, as one list and two dictionaries."""

from typing import Any

import attrs

__all__ = ["Model", "Refusal", "Row"]


class Refusal(Exception):
    """What the registry is to refuse: the error's name, and who holds the key."""

    def __init__(self, what: str, holder: str | None = None) -> None:
        super().__init__(what, holder)
        self.what = what
        self.holder = holder


@attrs.frozen
class Row:
    """That *owner* stands under *key*, which is written out: 1, 1.0 and True look different."""

    key: str
    owner: str
    value: Any


class Model:
    """What a registry has to be."""

    def __init__(self, *, unique: bool, meta: dict[str, Any]) -> None:
        self.unique = unique
        self.first_meta = meta
        self.meta = dict(meta)
        self.rows: list[Row] = []
        self.told: list[tuple[Any, ...]] = []
        self.queues: dict[str, list[tuple[str, int]]] = {}
        self.granted: dict[str, list[int]] = {}

    def under(self, key: str) -> list[Row]:
        return [row for row in self.rows if row.key == key]

    def own(self, owner: str, key: str) -> list[Row]:
        return [row for row in self.under(key) if row.owner == owner]

    def register(self, owner: str, key: str, value: Any) -> None:
        if self.unique and self.under(key):
            raise Refusal("AlreadyRegistered", self.under(key)[0].owner)
        self.rows.append(Row(key, owner, value))
        self.told.append(("registered", key, owner, value))

    def unregister(self, owner: str, key: str, *values: Any) -> None:
        """Take out the entries with one of the *values*."""
        own = self.own(owner, key)
        leaving = [row for row in own if row.value in values]
        self.rows = [row for row in self.rows if row not in leaving]
        if own and len(leaving) == len(own):
            self.told.append(("unregistered", key, owner))

    def update(self, owner: str, key: str, new: Any) -> tuple[Any, Any]:
        if not self.unique:
            raise Refusal("Config")
        for place, row in enumerate(self.rows):
            if (row.key, row.owner) == (key, owner):
                self.rows[place] = attrs.evolve(row, value=new)
                return new, row.value
        raise Refusal("NotRegistered")

    def lock(self, owner: str, key: str, number: int) -> None:
        self.queues.setdefault(key, []).append((owner, number))
        self._grant()

    def unlock(self, number: int) -> None:
        for queue in self.queues.values():
            queue[:] = [place for place in queue if place[1] != number]
        self._grant()

    def places(self) -> list[tuple[str, int, bool]]:
        """Give who waits for a lock or has one, as what, and whether it has it."""
        return [
            (owner, number, number in self.granted.get(key, []))
            for key, queue in self.queues.items()
            for owner, number in queue
        ]

    def end(self, owner: str) -> None:
        self.rows = [row for row in self.rows if row.owner != owner]
        for queue in self.queues.values():
            queue[:] = [place for place in queue if place[0] != owner]
        self._grant()

    def restart(self) -> None:
        self.rows, self.meta, self.queues = [], dict(self.first_meta), {}

    def _grant(self) -> None:
        for key, queue in self.queues.items():
            granted = self.granted.setdefault(key, [])
            if queue and queue[0][1] not in granted:
                granted.append(queue[0][1])
