"""The life of a registry, what outlives it, and how it is specified."""

from typing import Any

import pytest
import trio

from slipstream.errors import (
    AlreadyRegisteredError,
    ChildSpecError,
    ServerGoneError,
)
from slipstream.otp import (
    Registration,
    Registry,
    RegistryRef,
    Reply,
    open_server,
    open_supervisor,
)
from slipstream.reasons import NOPROC, RESTARTING
from tests.otp.rooms import both, open_rooms, rooms_of, table_sizes, tables_of
from tests.otp.support import (
    Puppet,
    crash,
    kill,
    puppet,
    settle,
    sleep_then,
    virtual,
    within,
)


@both
@virtual
async def test_a_registry_that_is_gone_says_so(keys: str) -> None:
    """REG-013: every method raises; in between restarts it says that it comes back."""
    spec = Registry.child_spec(keys=keys, name="rooms", backoff=lambda *_: 1.0)  # type: ignore[arg-type]  # drawn
    async with open_supervisor([spec, puppet("a")]) as supervisor:
        rooms, a = rooms_of(supervisor), supervisor.child("a")
        await within(a, rooms.register, "x", 1)
        rooms.put_meta("note", 1)
        calls: list[Any] = [
            lambda: rooms.register("y"),
            lambda: rooms.unregister("x"),
            lambda: rooms.unregister_match("x", bool),
            lambda: rooms.update_value("x", str),
            lambda: rooms.lookup("x"),
            lambda: rooms.whereis("x"),
            rooms.keys,
            lambda: rooms.values("x"),
            rooms.count,
            lambda: rooms.match("x", bool),
            lambda: rooms.count_match("x", bool),
            rooms.select,
            rooms.count_select,
            lambda: rooms.dispatch("x", bool),
            lambda: rooms.get_meta("note"),
            lambda: rooms.put_meta("note", 2),
            lambda: rooms.delete_meta("note"),
        ]
        kill(rooms)
        await rooms.wait()
        await settle()
        for call in calls:
            with pytest.raises(ServerGoneError) as caught:
                await within(a, call)
            assert caught.value.reason == RESTARTING
        with pytest.raises(ServerGoneError):
            async with rooms.lock("x"):
                pytest.fail("there is no lock")
        await trio.sleep(1)
        await settle()
        assert (rooms.count(), rooms.get_meta("note")) == (0, None)
        assert tables_of(a) == 0
        await within(a, rooms.register, "x", 2)
        await supervisor.terminate_child("rooms")
        for call in calls:
            with pytest.raises(ServerGoneError) as caught:
                await within(a, call)
            assert caught.value.reason == NOPROC


@virtual
async def test_the_others_are_restarted_with_the_registry() -> None:
    """What the docstring of Registry advises: rest_for_one, with the registry first."""

    def enter(me: Puppet) -> None:
        rooms = me.whereis("rooms")
        assert isinstance(rooms, RegistryRef)
        rooms.register(me.role.name, me.number)

    specs = [Registry.child_spec(name="rooms"), puppet("a", init=enter), puppet("b", init=enter)]
    async with open_supervisor(specs, strategy="rest_for_one") as supervisor:
        rooms = rooms_of(supervisor)
        kill(rooms)
        await settle()
        assert rooms.select() == [
            Registration("a", supervisor.child("a"), 2),
            Registration("b", supervisor.child("b"), 2),
        ]


@virtual
async def test_entries_lead_to_addresses() -> None:
    """What stands in the registry follows its child over restarts, if that enters itself again."""

    def enter(me: Puppet) -> None:
        rooms = me.whereis("rooms")
        assert isinstance(rooms, RegistryRef)
        rooms.register("x")

    specs = [Registry.child_spec(name="rooms"), puppet("a", init=enter)]
    async with open_supervisor(specs) as supervisor:
        rooms = rooms_of(supervisor)
        before = rooms.whereis("x")
        assert before is not None
        before.cast(crash())
        await settle()
        assert rooms.whereis("x") == before
        assert await before.call(lambda me, _: Reply(me.number)) == 2


@virtual
async def test_a_process_of_another_tree_stands_in_it_too() -> None:
    async with open_rooms() as (rooms, _, __, ___):
        async with open_server(Puppet) as stranger:
            await within(stranger, rooms.register, "x")
            assert rooms.whereis("x") == stranger
        assert rooms.whereis("x") is None


class Narcissus(Registry):
    """A registry that does as it is told."""

    async def handle_info(self, message: Any) -> None:
        message(self.ref)


@virtual
async def test_a_registry_may_stand_in_itself() -> None:
    async with open_supervisor([Narcissus.child_spec(name="rooms")]) as supervisor:
        rooms = rooms_of(supervisor)
        rooms.send(lambda me: me.register("x"))
        await settle()
        assert rooms.whereis("x") == rooms
        rooms.send(lambda me: me.unregister("x"))
        await settle()
        assert (table_sizes(rooms), tables_of(rooms)) == ((0, 0), 1)
        rooms.send(lambda me: me.register("x"))
        rooms.send(crash())
        await settle()
        assert (table_sizes(rooms), tables_of(rooms)) == ((0, 0), 1)


@virtual
async def test_who_is_ending_still_stands_there() -> None:
    """Until it has ended: its terminate may use its entry."""
    async with open_rooms() as (rooms, a, _, supervisor):
        spec = puppet("c", terminate=sleep_then(1), restart="temporary")
        c = await supervisor.start_child(spec)
        assert c is not None
        await within(c, rooms.register, "x")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervisor.terminate_child, "c")
            await trio.sleep(0.5)
            assert rooms.whereis("x") == c
            with pytest.raises(AlreadyRegisteredError):
                await within(a, rooms.register, "x")
        assert rooms.whereis("x") is None


# -- its specification


def test_its_id_is_its_name() -> None:
    assert Registry.child_spec(name="rooms").id == "rooms"
    assert Registry.child_spec(name="rooms", id=1).id == 1
    assert Registry.child_spec().id is Registry

    class Rooms(Registry, name="rooms"):
        pass

    assert Rooms.child_spec().id == "rooms"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"keys": "many"}, "keys='many' is wrong: it takes 'unique', 'duplicate'"),
        ({"listeners": "audit"}, "listeners='audit' is wrong: it takes a list of names"),
        ({"listeners": [1]}, r"listeners=\[1\] is wrong: it takes a list of names"),
        ({"meta": 1}, "meta=1 is wrong: it takes a mapping"),
        ({"key": 1}, "unknown key 'key'.*did you mean 'keys'"),
    ],
)
def test_a_wrong_specification_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ChildSpecError, match=says):
        Registry.child_spec(**options)


def test_a_registry_takes_no_arguments() -> None:
    with pytest.raises(ChildSpecError, match="takes no arguments"):
        Registry.child_spec("rooms")
