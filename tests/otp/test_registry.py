"""Registry: who stands in it, who leaves it, and who is told."""

from collections import Counter
from typing import Any

import pytest
import trio

from slipstream.errors import (
    AlreadyRegisteredError,
    ConfigError,
    NotRegisteredError,
    WrongTaskError,
)
from slipstream.otp import (
    Entry,
    Registered,
    Registration,
    Unregistered,
)
from slipstream.reasons import NORMAL
from tests.otp.rooms import both, open_rooms, table_sizes, tables_of
from tests.otp.support import (
    Boom,
    Diary,
    crash,
    end,
    kill,
    puppet,
    settle,
    virtual,
    within,
)

# -- entering and leaving


@both
@virtual
async def test_nothing_is_left_of_those_that_were_killed(keys: str) -> None:
    """REG-001: both indices are empty once those who registered have been killed."""
    async with open_rooms(keys=keys) as (rooms, a, b, _):
        for process, key in ((a, 1), (a, 2), (b, 3)):
            await within(process, rooms.register, key)
        for process in (a, b):
            kill(process)
            await process.wait()
        assert table_sizes(rooms) == (0, 0)
        assert (rooms.count(), rooms.select()) == (0, [])


@both
@virtual
async def test_entries_are_counted(keys: str) -> None:
    """REG-002: none, and some."""
    async with open_rooms(keys=keys) as (rooms, a, b, _):
        assert rooms.count() == 0
        await within(a, rooms.register, "x")
        await within(b, rooms.register, "y")
        assert rooms.count() == 2


@virtual
async def test_a_process_has_a_unique_key_once() -> None:
    """REG-003: its own key is taken for it, too, and its entry stays what it is."""
    async with open_rooms() as (rooms, a, _, __):
        await within(a, rooms.register, "x", 1)
        with pytest.raises(AlreadyRegisteredError) as caught:
            await within(a, rooms.register, "x", 2)
        assert (caught.value.key, caught.value.ref) == ("x", a)
        assert (rooms.keys(a), rooms.values("x", a)) == (["x"], [1])


@virtual
async def test_a_unique_key_has_one_process() -> None:
    """REG-004: the holder is told of, and who lost has no entry."""
    async with open_rooms() as (rooms, a, b, _):
        await within(a, rooms.register, "x", 1)
        with pytest.raises(AlreadyRegisteredError, match="'x' is taken by <ServerRef a>") as caught:
            await within(b, rooms.register, "x", 2)
        assert caught.value.ref == a
        assert rooms.keys(b) == []
        assert rooms.lookup("x") == [Entry(a, 1)]


@virtual
async def test_the_key_of_the_dead_is_free_at_once() -> None:
    """REG-005: as soon as anyone can know that the holder has been killed."""
    async with open_rooms() as (rooms, a, b, _):
        await within(a, rooms.register, "x")
        kill(a)
        await a.wait()
        assert rooms.whereis("x") is None
        await within(b, rooms.register, "x")
        assert rooms.whereis("x") == b


@virtual
async def test_a_duplicate_key_has_many_entries() -> None:
    """REG-006: a multiset for each key and process."""
    async with open_rooms(keys="duplicate") as (rooms, a, b, _):
        for process, value in ((a, 1), (a, 1), (b, 1), (a, 2)):
            await within(process, rooms.register, "x", value)
        await within(a, rooms.register, "y", 3)
        assert rooms.lookup("x") == [Entry(a, 1), Entry(a, 1), Entry(b, 1), Entry(a, 2)]
        assert rooms.values("x", a) == [1, 1, 2]
        assert Counter(rooms.keys(a)) == Counter({"x": 3, "y": 1})
        assert rooms.count() == 5


@virtual
async def test_keys_are_compared_with_their_types() -> None:
    """REG-007: 1, 1.0 and True are different keys, wherever they stand in one."""
    plain: list[Any] = [1, 1.0, True]
    nested = [(key, "x") for key in plain] + [frozenset([key]) for key in plain]
    keys = [*plain, *nested, *[((key,),) for key in plain]]
    async with open_rooms() as (rooms, a, _, __):
        for number, key in enumerate(keys):
            await within(a, rooms.register, key, number)
        assert [rooms.values(key, a) for key in keys] == [[n] for n in range(len(keys))]
        rooms.put_meta(1, "int")
        assert (rooms.get_meta(True), rooms.get_meta(1)) == (None, "int")


@both
@virtual
async def test_a_key_has_to_be_hashable(keys: str) -> None:
    async with open_rooms(keys=keys) as (rooms, a, _, __):
        for method in (rooms.register, rooms.unregister, rooms.lookup, rooms.lock, rooms.get_meta):
            with pytest.raises(TypeError, match="unhashable type: 'list'"):
                await within(a, method, (1, []))


@virtual
async def test_a_process_updates_its_own_value_only() -> None:
    """REG-008: a missing or a foreign entry is an error, and the function is not called."""
    calls: list[Any] = []

    def add_one(old: int) -> int:
        calls.append(old)
        return old + 1

    async with open_rooms() as (rooms, a, b, _):
        with pytest.raises(NotRegisteredError, match="does not stand under key 'x'") as caught:
            await within(a, rooms.update_value, "x", add_one)
        assert caught.value.key == "x"
        await within(a, rooms.register, "x", 1)
        with pytest.raises(NotRegisteredError):
            await within(b, rooms.update_value, "x", add_one)
        assert calls == []
        assert await within(a, rooms.update_value, "x", add_one) == (2, 1)
        assert rooms.lookup("x") == [Entry(a, 2)]
        with pytest.raises(Boom):
            await within(a, rooms.update_value, "x", crash())
        assert rooms.lookup("x") == [Entry(a, 2)]


@virtual
async def test_what_needs_unique_keys_says_so() -> None:
    """REG-008: update_value is not for duplicate keys, and neither is whereis."""
    async with open_rooms(keys="duplicate") as (rooms, a, _, __):
        await within(a, rooms.register, "x")
        with pytest.raises(ConfigError, match="update_value needs a registry with keys='unique'"):
            await within(a, rooms.update_value, "x", str)
        with pytest.raises(ConfigError, match="whereis needs a registry with keys='unique'"):
            rooms.whereis("x")


@both
@virtual
async def test_a_dispatch_goes_to_all_of_a_key(keys: str) -> None:
    """REG-009: never called with nothing; called here, with the entries of that key only."""
    calls: list[Any] = []

    def note(entries: list[Entry]) -> None:
        calls.append((trio.lowlevel.current_task(), entries))

    async with open_rooms(keys=keys) as (rooms, a, b, _):
        rooms.dispatch("x", note)
        assert calls == []
        await within(a, rooms.register, "x", 1)
        await within(b, rooms.register, "y", 2)
        if keys == "duplicate":
            await within(b, rooms.register, "x", 3)
        rooms.dispatch("x", note)
        entries = [Entry(a, 1), Entry(b, 3)] if keys == "duplicate" else [Entry(a, 1)]
        assert calls == [(trio.lowlevel.current_task(), entries)]
        with pytest.raises(Boom):
            rooms.dispatch("x", crash())


@both
@virtual
async def test_a_process_takes_out_its_own_entries(keys: str) -> None:
    """REG-010: all of its own under the key, if it has any."""
    async with open_rooms(keys=keys) as (rooms, a, b, _):
        await within(a, rooms.unregister, "x")
        for process, key in ((a, "x"), (a, "y"), (b, "z")):
            await within(process, rooms.register, key)
        if keys == "duplicate":
            await within(a, rooms.register, "x")
            await within(b, rooms.register, "x")
        await within(a, rooms.unregister, "x")
        await within(a, rooms.unregister, "z")
        assert (rooms.keys(a), set(rooms.keys(b))) == (
            ["y"],
            {"x", "z"} if keys == "duplicate" else {"z"},
        )


@both
@virtual
async def test_nothing_is_remembered_of_a_process_without_keys(keys: str) -> None:
    """REG-012: its last key was all that tied it to the registry."""
    async with open_rooms(keys=keys) as (rooms, a, _, __):
        await within(a, rooms.register, "x")
        await within(a, rooms.register, "y")
        assert (tables_of(a), table_sizes(rooms)) == (1, (2, 1))
        await within(a, rooms.unregister, "x")
        assert (tables_of(a), table_sizes(rooms)) == (1, (1, 1))
        await within(a, rooms.unregister, "y")
        assert (tables_of(a), table_sizes(rooms)) == (0, (0, 0))


@virtual
async def test_a_refused_registration_leaves_nothing() -> None:
    """REG-020: neither one's own key nor another's, asked for again."""
    async with open_rooms() as (rooms, a, b, _):
        await within(a, rooms.register, "x")
        for process in (a, b):
            for _ in range(10):
                with pytest.raises(AlreadyRegisteredError):
                    await within(process, rooms.register, "x")
        assert (table_sizes(rooms), tables_of(b)) == ((1, 1), 0)


@virtual
async def test_only_a_process_registers() -> None:
    async with open_rooms() as (rooms, a, _, __):
        for function in (rooms.register, rooms.unregister, rooms.values):
            with pytest.raises(WrongTaskError, match="none round the current task"):
                function("x")
        with pytest.raises(WrongTaskError, match="only a process has keys of its own"):
            rooms.keys()
        await within(a, rooms.register, "x", 1)
        assert await within(a, rooms.keys) == ["x"]
        assert await within(a, rooms.values, "x") == [1]


@virtual
async def test_a_helper_registers_its_process() -> None:
    async with open_rooms() as (rooms, a, _, __):

        async def helper() -> None:
            rooms.register("x")

        await within(a, lambda: None)
        a.send(lambda me: me.start_soon(helper))
        await settle()
        assert rooms.whereis("x") == a


@virtual
async def test_nothing_stands_there_of_the_dead() -> None:
    async with open_rooms() as (rooms, a, _, __):
        await within(a, rooms.register, "x")
        await a.stop()
        assert (rooms.keys(a), rooms.values("x", a)) == ([], [])


@virtual
async def test_a_predicate_may_change_the_registry() -> None:
    """What it takes out is not taken out a second time."""
    async with open_rooms(keys="duplicate") as (rooms, a, _, __):
        for value in (1, 2):
            await within(a, rooms.register, "x", value)

        def meddle(value: int) -> bool:
            if value == 2:
                rooms.unregister_match("x", lambda other: other == 1)
            return True

        await within(a, rooms.unregister_match, "x", meddle)
        assert (rooms.count(), table_sizes(rooms)) == (0, (0, 0))


# -- asking by predicate


@both
@virtual
async def test_entries_are_matched_by_value(keys: str) -> None:
    """REG-016, REG-017: those of the key whose value suits, and how many they are."""
    async with open_rooms(keys=keys) as (rooms, a, b, _):
        await within(a, rooms.register, "x", 2)
        if keys == "duplicate":
            await within(b, rooms.register, "x", 3)
            await within(a, rooms.register, "x", 4)
        await within(a, rooms.register, "y", 2)
        table: list[tuple[Any, list[Entry]]] = [
            (lambda value: value == 2, [Entry(a, 2)]),
            (lambda value: value > 2, [Entry(b, 3), Entry(a, 4)]),
            (lambda value: value > 4, []),
        ]
        for predicate, entries in table:
            expected = [entry for entry in entries if keys == "duplicate" or entry.value == 2]
            assert rooms.match("x", predicate) == expected
            assert rooms.count_match("x", predicate) == len(expected)


@both
@virtual
async def test_matching_entries_are_taken_out(keys: str) -> None:
    """REG-018: exactly those of the process's own that suit; a predicate that raises changes nothing."""
    async with open_rooms(keys=keys) as (rooms, a, b, _):
        await within(a, rooms.register, "x", 1)
        if keys == "duplicate":
            await within(a, rooms.register, "x", 2)
            await within(b, rooms.register, "x", 1)
        before = rooms.select()
        await within(a, rooms.unregister_match, "x", lambda value: value > 2)
        await within(a, rooms.unregister_match, "y", lambda _: True)
        with pytest.raises(Boom):
            await within(a, rooms.unregister_match, "x", crash())
        assert rooms.select() == before
        await within(a, rooms.unregister_match, "x", lambda value: value == 1)
        assert rooms.lookup("x") == ([Entry(a, 2), Entry(b, 1)] if keys == "duplicate" else [])


@both
@virtual
async def test_everything_is_selected(keys: str) -> None:
    """REG-019: nothing, everything, what suits by key, process or value; and how many that are."""
    async with open_rooms(keys=keys) as (rooms, a, b, _):
        assert (rooms.select(), rooms.count_select()) == ([], 0)
        rows = [("x", a, 1), ("y", a, 2), ("z", b, 3)]
        for key, process, value in rows:
            await within(process, rooms.register, key, value)
        everything = [Registration(*row) for row in rows]
        assert (rooms.select(), rooms.count_select()) == (everything, 3)
        table: list[tuple[Any, list[Registration]]] = [
            (lambda found: found.key == "x", everything[:1]),
            (lambda found: found.ref == a, everything[:2]),
            (lambda found: found.value > 1, everything[1:]),
            (lambda found: found.key == "x" or found.value == 3, everything[::2]),
        ]
        for predicate, expected in table:
            assert rooms.select(predicate) == expected
            assert rooms.count_select(predicate) == len(expected)


# -- listeners and notes


@both
@virtual
async def test_listeners_are_told(keys: str) -> None:
    """REG-011: of who enters, and of who leaves a key altogether by itself."""
    heard = Diary()
    ear = puppet("ear", heard, name="ear")
    async with open_rooms(ear, keys=keys, listeners=["nobody", "ear"]) as (rooms, a, _, __):
        await within(a, rooms.register, "x", 1)
        expected: list[Any] = [Registered(rooms, "x", a, 1)]
        await within(a, rooms.unregister, "z")
        if keys == "duplicate":
            await within(a, rooms.register, "x", 2)
            await within(a, rooms.unregister_match, "x", lambda value: value == 2)
            expected.append(Registered(rooms, "x", a, 2))
        await within(a, rooms.unregister, "x")
        await settle()
        assert [message for _, message in heard.of("info")] == [
            *expected,
            Unregistered(rooms, "x", a),
        ]


@pytest.mark.parametrize("how", ["crash", "normal", "kill"])
@virtual
async def test_listeners_are_not_told_of_ends(how: str) -> None:
    """REG-024: as in Elixir, who leaves by ending is told of by monitors only."""
    heard = Diary()
    ear = puppet("ear", heard, name="ear")
    async with open_rooms(ear, listeners=["ear"]) as (rooms, a, _, __):
        await within(a, rooms.register, "x", 1)
        match how:
            case "crash":
                a.cast(crash())
            case "normal":
                a.cast(end(NORMAL))
            case _:
                kill(a)
        await a.wait()
        await settle()
        assert rooms.lookup("x") == []
        assert heard.of("info") == [("ear", Registered(rooms, "x", a, 1))]


@virtual
async def test_a_registry_has_notes_of_its_own() -> None:
    async with open_rooms(meta={"limit": 3}) as (rooms, _, __, ___):
        assert (rooms.get_meta("limit"), rooms.get_meta("other", 7)) == (3, 7)
        rooms.put_meta("limit", 4)
        assert rooms.get_meta("limit") == 4
        rooms.delete_meta("limit")
        rooms.delete_meta("limit")
        assert rooms.get_meta("limit") is None
