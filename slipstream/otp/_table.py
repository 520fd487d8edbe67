"""What a registry knows: who stands in it under which key, with what value."""

from collections.abc import Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import attrs
from trio.lowlevel import enable_ki_protection

from slipstream.errors import AlreadyRegisteredError

from ._keys import tagged
from ._locks import Locks
from ._ref import ServerRef

if TYPE_CHECKING:
    from ._registry_ref import RegistryRef
    from ._shell import Shell

__all__ = ["Item", "Registered", "Table", "Unregistered"]


@attrs.frozen
class Registered:
    """What a listener of *registry* is told of the process *ref*: it stands there under *key*."""

    registry: "RegistryRef"
    key: Any
    ref: ServerRef
    value: Any


@attrs.frozen
class Unregistered:
    """What a listener of *registry* is told of the process *ref*: it has left *key* altogether."""

    registry: "RegistryRef"
    key: Any
    ref: ServerRef


class Item:
    """That *owner* stands under *key*."""

    __slots__ = ("key", "owner", "tag", "value")

    def __init__(self, owner: "Shell", key: Any, tag: Hashable, value: Any) -> None:
        self.owner = owner
        self.key = key
        self.tag = tag
        self.value = value


class Table:
    """The entries of one incarnation of a registry, by key and by owner, in the order they came.

    A process is told of the tables that it stands in (``Shell.tables``), and tells them when it
    ends. So does the registry's own process, *home*: its table goes with it.
    """

    __slots__ = ("_by_key", "_by_owner", "_listeners", "home", "locks", "meta", "unique")

    def __init__(
        self, home: "Shell", *, unique: bool, listeners: Iterable[str], meta: Mapping[Any, Any]
    ) -> None:
        self.home = home
        self.unique = unique
        self._listeners = tuple(listeners)
        self.meta = {tagged(key): value for key, value in meta.items()}
        self.locks = Locks(home.timers)
        self._by_key: dict[Hashable, dict[Item, None]] = {}
        self._by_owner: dict[Shell, dict[Hashable, dict[Item, None]]] = {}
        self._attach(home)

    # -- looking

    def __len__(self) -> int:
        return sum(map(len, self._by_key.values()))

    def all(self) -> list[Item]:
        """Give all items."""
        return [item for items in self._by_key.values() for item in items]

    def under(self, key: Any) -> list[Item]:
        """Give the items under *key*."""
        return list(self._by_key.get(tagged(key), ()))

    def of(self, owner: "Shell | None") -> list[Item]:
        """Give the items of *owner*."""
        if owner is None:
            return []
        return [item for items in self._by_owner.get(owner, {}).values() for item in items]

    def of_under(self, owner: "Shell | None", key: Any) -> list[Item]:
        """Give the items of *owner* under *key*."""
        tag = tagged(key)
        hash(tag)  # one that is not hashable is refused, even where there is nothing to look for
        if owner is None or owner not in self._by_owner:
            return []
        return list(self._by_owner[owner].get(tag, ()))

    # -- changing

    @enable_ki_protection
    def add(self, owner: "Shell", key: Any, value: Any) -> None:
        """Enter *owner* under *key*.

        Raises:
            AlreadyRegisteredError: if keys are unique and this one is taken.
        """
        tag = tagged(key)
        holders = self._by_key.get(tag)
        if self.unique and holders:
            raise AlreadyRegisteredError(key, next(iter(holders)).owner.make_ref())
        item = Item(owner, key, tag, value)
        self._by_key.setdefault(tag, {})[item] = None
        self._by_owner.setdefault(owner, {}).setdefault(tag, {})[item] = None
        self._attach(owner)
        if self._listeners:
            self._tell(Registered(self.home.make_ref(), key, owner.make_ref(), value))

    @enable_ki_protection
    def remove(self, owner: "Shell", key: Any, items: Iterable[Item]) -> None:
        """Take out *items*, those of *owner* under *key* or some of them."""
        tag, keys = tagged(key), self._by_owner.get(owner, {})
        own = keys.get(tag)
        if own is None:
            return
        for item in items:
            if item in own:
                del own[item]
                self._forget(item)
        if own:
            return
        del keys[tag]
        if not keys:
            del self._by_owner[owner]
            self._detach(owner)
        if self._listeners:
            self._tell(Unregistered(self.home.make_ref(), key, owner.make_ref()))

    def process_ended(self, process: "Shell") -> None:
        """Take out what is of *process*. Listeners are not told, as in Elixir: monitors are."""
        if process is self.home:
            self._close()
            return
        for items in self._by_owner.pop(process, {}).values():
            for item in items:
                self._forget(item)

    def _forget(self, item: Item) -> None:
        items = self._by_key[item.tag]
        del items[item]
        if not items:
            del self._by_key[item.tag]

    def _close(self) -> None:
        self.home.tree.tables.pop(self.home, None)
        for owner in self._by_owner:
            self._detach(owner)
        self._by_key.clear()
        self._by_owner.clear()
        self.locks.close()

    def _attach(self, process: "Shell") -> None:
        if process.tables is None:
            process.tables = {}
        process.tables[self] = None

    def _detach(self, process: "Shell") -> None:
        if process.tables is not None and process is not self.home:
            process.tables.pop(self, None)

    def _tell(self, message: Registered | Unregistered) -> None:
        for name in self._listeners:
            listener = self.home.tree.names.get(name)
            if listener is not None:
                listener.mailbox.append(message)
