"""Registry: where processes enter themselves under keys, and are found."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Final, Literal, TypeAlias, Unpack, cast

from slipstream.errors import ChildSpecError

from ._child_spec import CHILD_CHECKS, ChildKeywords, ChildSpec, Start, check_keys, one_of
from ._gen_server import GenServer
from ._ref import ServerRef
from ._registry_ref import RegistryRef
from ._table import Table

__all__ = ["Keys", "Registry"]

Keys: TypeAlias = Literal["unique", "duplicate"]


class RegistryKeywords(ChildKeywords, total=False):
    """What a registry may be given."""

    keys: Keys
    listeners: Iterable[str]
    meta: Mapping[Any, Any]


class Registry(GenServer):
    """Processes by key, with a value each: a child like any other, whose reference does it all.

    ::

        Registry.child_spec(keys="unique", name="rooms")        # among the children, the first

        rooms = self.whereis("rooms")                           # a RegistryRef, in a process
        rooms.register("lobby", {"seats": 12})
        rooms.lookup("lobby")                                   # [Entry(ref, {"seats": 12})]

    With ``keys="unique"`` a key has one process, and can be a name of it (:class:`Via`); with
    ``"duplicate"`` many processes stand under a key, each as often as it likes, and
    :meth:`RegistryRef.dispatch` reaches all of them.

    A process leaves the registry in the moment it ends, before anyone is told of that: nobody finds
    the dead, and a child that is restarted finds its key free.

    A registry that is restarted begins empty, and nobody enters the others again. So make it the
    first child of a supervisor with ``strategy="rest_for_one"``, and those that use it come after:
    they are restarted with it.
    """

    ref_class: ClassVar[type[ServerRef]] = RegistryRef

    @classmethod
    def child_spec(  # pyright: ignore[reportIncompatibleMethodOverride]  # it takes more
        cls, *args: Any, **overrides: Unpack[RegistryKeywords]
    ) -> ChildSpec:
        """Give the specification of a registry. Its id is its name, if it has one.

        Args:
            args: none.
            overrides: what any child has, such as its ``name``, and:
                ``keys``, ``"unique"`` (the default) or ``"duplicate"``;
                ``listeners``, the names of processes whose ``handle_info`` gets
                :class:`Registered` and :class:`Unregistered`, which do not tell of those that
                leave by ending (monitor them);
                ``meta``, a mapping of notes that the registry begins with.

        Raises:
            ChildSpecError: for an unknown key or a wrong value.
        """
        if args:
            raise ChildSpecError(f"{cls.__qualname__}.child_spec takes no arguments, not {args!r}")
        where = f"of {cls.__qualname__}.child_spec"
        checked = check_keys(overrides, {**CHECKS, **CHILD_CHECKS}, where=where)
        own = tuple(checked.pop(key, default) for key, default in DEFAULTS.items())
        keywords: dict[str, Any] = {**cls._keywords_of(), **checked}
        keywords.setdefault("id", keywords.get("name") or cls)
        return ChildSpec(start=Start(cls, own), **keywords)

    async def init(self, keys: Keys, listeners: tuple[str, ...], meta: Mapping[Any, Any]) -> None:
        """Begin empty."""
        process = self._process
        process.tree.tables[process] = Table(
            process, unique=keys == "unique", listeners=listeners, meta=meta
        )


def _listeners(key: str, value: object) -> tuple[str, ...]:
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        names = tuple(cast("Iterable[object]", value))
        if all(isinstance(name, str) and name for name in names):
            return cast("tuple[str, ...]", names)
    raise ChildSpecError(f"{key}={value!r} is wrong: it takes a list of names of processes")


def _meta(key: str, value: object) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise ChildSpecError(f"{key}={value!r} is wrong: it takes a mapping")
    return {**value}


CHECKS: Final[Mapping[str, Callable[[str, object], object]]] = {
    "keys": one_of("unique", "duplicate"),
    "listeners": _listeners,
    "meta": _meta,
}
DEFAULTS: Final[Mapping[str, object]] = {"keys": "unique", "listeners": (), "meta": {}}
