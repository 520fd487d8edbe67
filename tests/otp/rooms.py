"""A registry called "rooms", and two processes, for the tests of registries."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from slipstream.otp import (
    ChildSpec,
    Registry,
    RegistryRef,
    ServerRef,
    SupervisorRef,
    open_supervisor,
    process_of,
)
from tests.otp.support import puppet

__all__ = ["both", "open_rooms", "rooms_of", "table_sizes", "tables_of"]

both = pytest.mark.parametrize("keys", ["unique", "duplicate"])


def rooms_of(supervisor: SupervisorRef) -> RegistryRef:
    rooms = supervisor.whereis("rooms")
    assert isinstance(rooms, RegistryRef)
    return rooms


@asynccontextmanager
async def open_rooms(
    *children: ChildSpec, **options: Any
) -> AsyncGenerator[tuple[RegistryRef, ServerRef, ServerRef, SupervisorRef]]:
    """Open a registry and two processes, "a" and "b", that are not restarted."""
    specs = [
        Registry.child_spec(name="rooms", **options),
        *children,
        puppet("a", restart="temporary"),
        puppet("b", restart="temporary"),
    ]
    async with open_supervisor(specs) as supervisor:
        yield rooms_of(supervisor), supervisor.child("a"), supervisor.child("b"), supervisor


def table_sizes(rooms: RegistryRef) -> tuple[int, int]:
    """Tell how many keys and how many processes the registry holds anything of."""
    process = process_of(rooms)
    assert process is not None
    table = process.tree.tables[process]
    return len(table._by_key), len(table._by_owner)


def tables_of(ref: ServerRef) -> int:
    """Tell how many registries a process knows that it stands in."""
    process = process_of(ref)
    assert process is not None
    return len(process.tables or ())
