"""The reference to a registry: how processes enter themselves, and are found."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from slipstream.errors import ConfigError, NotRegisteredError, ServerGoneError, WrongTaskError
from slipstream.reasons import NOPROC

from ._calls import gone_error
from ._keys import tagged
from ._locks import Lock
from ._ref import ServerRef, process_of
from ._table import Item, Table
from ._waits import current_process

if TYPE_CHECKING:
    from ._shell import Shell

__all__ = ["Entry", "Registration", "RegistryRef", "table_of"]

T = TypeVar("T")


class Entry(NamedTuple):
    """A process that stands under a key, and the value it stands there with."""

    ref: ServerRef
    value: Any


class Registration(NamedTuple):
    """A process, the key it stands under, and the value it stands there with."""

    key: Any
    ref: ServerRef
    value: Any


class RegistryRef(ServerRef):
    """The address of a registry.

    Nothing but :meth:`lock` waits for the registry: what is asked here is looked up, and what is
    changed is changed when the method returns. Every method raises ``ServerGoneError`` if the
    registry is gone, ``TypeError`` for a key that is not hashable, and ``WrongTaskError`` from
    another thread than trio's.

    Keys are compared strictly: 1, 1.0 and True are three. References in entries are addresses, as
    :attr:`GenServer.ref` is; the dead are never among them.
    """

    __slots__ = ()

    # -- the process round the current task

    def register(self, key: Any, value: Any = None) -> None:
        """Enter the process round the current task under *key*. It leaves when it ends.

        Raises:
            AlreadyRegisteredError: if keys are unique and another process, or this one, has it.
            WrongTaskError: outside of processes.
        """
        self._table().add(_owner("registers"), key, value)

    def unregister(self, key: Any) -> None:
        """Take all entries of the process round the current task under *key* out, if it has any.

        Raises:
            WrongTaskError: outside of processes.
        """
        self.unregister_match(key, _anything)

    def unregister_match(self, key: Any, predicate: Callable[[Any], bool]) -> None:
        """Take the entries of this process under *key* out whose value suits the *predicate*.

        Raises:
            WrongTaskError: outside of processes.
        """
        table, owner = self._table(), _owner("unregisters")
        items = [item for item in table.of_under(owner, key) if predicate(item.value)]
        table.remove(owner, key, items)

    def update_value(self, key: Any, function: Callable[[Any], T]) -> tuple[T, Any]:
        """Have *function* give the new value of this process under *key*, from the old one.

        Returns:
            The new value and the old one.

        Raises:
            NotRegisteredError: if this process does not stand under *key*; *function* is not called.
            ConfigError: if keys are not unique.
            WrongTaskError: outside of processes.
        """
        table, owner = self._unique_table("update_value"), _owner("updates a value")
        items = table.of_under(owner, key)
        if not items:
            raise NotRegisteredError(key)
        old = items[0].value
        new = items[0].value = function(old)
        return new, old

    # -- looking

    def lookup(self, key: Any) -> list[Entry]:
        """Give all entries under *key*, in the order they came."""
        return [_entry(item) for item in self._table().under(key)]

    def whereis(self, key: Any) -> ServerRef | None:
        """Give the process that stands under *key*.

        Raises:
            ConfigError: if keys are not unique.
        """
        for item in self._unique_table("whereis").under(key):
            return _entry(item).ref
        return None

    def keys(self, ref: ServerRef | None = None) -> list[Any]:
        """Give the keys that *ref* stands under, each as often as it does.

        Args:
            ref: a process; the one round the current task if it is ``None``.

        Raises:
            WrongTaskError: outside of processes, without a *ref*.
        """
        return [item.key for item in self._table().of(_process(ref))]

    def values(self, key: Any, ref: ServerRef | None = None) -> list[Any]:
        """Give the values that *ref* stands under *key* with.

        Args:
            key: a key.
            ref: a process; the one round the current task if it is ``None``.

        Raises:
            WrongTaskError: outside of processes, without a *ref*.
        """
        return [item.value for item in self._table().of_under(_process(ref), key)]

    def count(self) -> int:
        """Count the entries."""
        return len(self._table())

    def match(self, key: Any, predicate: Callable[[Any], bool]) -> list[Entry]:
        """Give the entries under *key* whose value suits the *predicate*."""
        return [entry for entry in self.lookup(key) if predicate(entry.value)]

    def count_match(self, key: Any, predicate: Callable[[Any], bool]) -> int:
        """Count the entries under *key* whose value suits the *predicate*."""
        return sum(bool(predicate(item.value)) for item in self._table().under(key))

    def select(self, predicate: Callable[[Registration], bool] | None = None) -> list[Registration]:
        """Give everything that suits the *predicate*, or everything."""
        everything = [Registration(item.key, *_entry(item)) for item in self._table().all()]
        return everything if predicate is None else list(filter(predicate, everything))

    def count_select(self, predicate: Callable[[Registration], bool] | None = None) -> int:
        """Count everything that suits the *predicate*, or everything."""
        return len(self.select(predicate))

    def dispatch(self, key: Any, function: Callable[[list[Entry]], object]) -> None:
        """Call *function*, here and now, with the entries under *key*, if there are any.

        What it raises is raised.
        """
        entries = self.lookup(key)
        if entries:
            function(entries)

    # -- what belongs to the registry itself

    def get_meta(self, key: Any, default: Any = None) -> Any:
        """Give what was put under *key* of the registry's own notes, or the *default*."""
        return self._table().meta.get(tagged(key), default)

    def put_meta(self, key: Any, value: Any) -> None:
        """Note *value* under *key*, for as long as this incarnation of the registry lives."""
        self._table().meta[tagged(key)] = value

    def delete_meta(self, key: Any) -> None:
        """Strike out the note under *key*, if there is one."""
        self._table().meta.pop(tagged(key), None)

    def lock(self, key: Any) -> AbstractAsyncContextManager[None]:
        """Give the lock of *key*: ``async with registry.lock(key):``.

        Whoever asked first has it first. It is given back when the block is left, in whatever way:
        an exception, a cancellation, the kill of the process. Waiting for it is safe to cancel.
        It belongs to a task, not to a process: any may take it, one outside of processes too.

        Entering the block raises ``ServerGoneError`` if the registry is gone, or ends first;
        ``DeadlockError`` if the task has that lock already; and ``Exit``, instead of waiting, if
        the process round the current task is being stopped.
        """
        hash(key)
        return Lock(key, lambda: self._table().locks, self._gone)

    # --

    def _gone(self) -> ServerGoneError:
        live = self._target.live() is not None
        return gone_error(self, NOPROC if live else self._target.absence())

    def _table(self) -> Table:
        process = self._live_here()
        table = None if process is None else process.tree.tables.get(process)
        if table is None:
            raise self._gone()
        return table

    def _unique_table(self, what: str) -> Table:
        table = self._table()
        if not table.unique:
            raise ConfigError(f"{what} needs a registry with keys='unique': {self} has 'duplicate'")
        return table


def table_of(ref: RegistryRef) -> Table:
    """Give the table of a registry that can give names.

    Raises:
        ServerGoneError: if the registry is gone.
        ConfigError: if its keys are not unique.
    """
    return ref._unique_table("a name")  # pyright: ignore[reportPrivateUsage]  # of this module


def _entry(item: Item) -> Entry:
    return Entry(item.owner.make_ref(), item.value)


def _anything(_: object) -> bool:
    return True


def _owner(does: str) -> "Shell":
    process = current_process()
    if process is None:
        raise WrongTaskError(f"only a process {does}, and there is none round the current task")
    return cast("Shell", process)


def _process(ref: ServerRef | None) -> "Shell | None":
    return _owner("has keys of its own") if ref is None else process_of(ref)
