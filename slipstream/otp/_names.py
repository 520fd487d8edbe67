"""Names: what a process is found by, in its tree or through a registry."""

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import attrs

from slipstream.errors import (
    AlreadyRegisteredError,
    AlreadyStartedError,
    ConfigError,
    SlipstreamError,
    StartError,
)
from slipstream.reasons import NOPROC, NORMAL, Crashed

from ._calls import gone_error
from ._keys import tagged
from ._ref import ServerRef
from ._registry_ref import RegistryRef, table_of
from ._table import Table

if TYPE_CHECKING:
    from ._shell import Shell
    from ._tree import Tree

__all__ = ["Name", "Via", "find_via", "register_via"]


@attrs.frozen
class Via:
    """A name that a registry gives: it may stand wherever a name may.

    As the ``name`` of a child it enters the process in the registry, with *value*, before it
    starts. Names are equal if their registries and their keys are.

    Attributes:
        registry: the name of a registry in the tree, or the reference to one; its keys are unique.
        key: the key in it.
        value: the value that the process stands there with.

    Raises:
        ConfigError: if *registry* or *key* is wrong.
    """

    registry: str | RegistryRef
    key: Hashable = attrs.field(eq=tagged)
    value: Any = attrs.field(default=None, eq=False)

    def __attrs_post_init__(self) -> None:
        registry = cast("object", self.registry)
        if not isinstance(registry, RegistryRef) and not (isinstance(registry, str) and registry):
            raise ConfigError(
                f"registry={registry!r} is wrong: it takes the name of a registry, "
                "or the reference to one"
            )
        try:
            hash(self.key)
        except TypeError:
            raise ConfigError(
                f"key={self.key!r} is wrong: it takes anything that is hashable"
            ) from None

    def __str__(self) -> str:
        where = self.registry if isinstance(self.registry, str) else self.registry.name
        return f"{where or self.registry}/{self.key!r}"


Name: TypeAlias = str | Via
"""A name in the tree, or one that a registry gives."""


def register_via(name: Via, tree: "Tree", process: "Shell") -> None:
    """Give *process* its *name*, in a registry that *tree* knows.

    Raises:
        AlreadyStartedError: if another process has it.
        StartError: if there is no such registry, or none with unique keys.
    """
    try:
        _table(name, tree).add(process, name.key, name.value)
    except AlreadyRegisteredError as error:
        message = f"the name {name} is taken by {error.ref}"
        raise AlreadyStartedError(message, reason=NORMAL, ref=error.ref) from None
    except SlipstreamError as error:
        message = f"the name {name} cannot be given: {error}"
        raise StartError(message, reason=Crashed(error)) from error


def find_via(name: Via, tree: "Tree") -> "Shell | None":
    """Give the process that has *name* in a registry that *tree* knows.

    Raises:
        ServerGoneError: if the registry is gone.
        ConfigError: if its keys are not unique.
    """
    for item in _table(name, tree).under(name.key):
        return item.owner
    return None


def _table(name: Via, tree: "Tree") -> Table:
    ref = name.registry
    if isinstance(ref, str):
        holder = tree.names.get(ref)
        found = None if holder is None else cast("ServerRef", holder.make_ref())
        if not isinstance(found, RegistryRef):
            raise gone_error(f"registry {ref!r}", NOPROC)
        ref = found
    return table_of(ref)
