"""Faults planted into the registry: were the model or its scripts weak, they would not find them."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trio
from hypothesis import Phase

from slipstream.errors import NotRegisteredError
from slipstream.otp import RegistryRef, Unregistered, _keys, _locks, _table, _tree
from slipstream.otp._locks import Lock, Locks, Turn
from slipstream.otp._shell import Shell
from slipstream.otp._table import Table
from tests.otp.registry_script import KEYS, run_scripts
from tests.otp.support import Boom


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> Iterator[None]:
    """Thousands of reports would only be in the way."""
    logger = logging.getLogger("slipstream")
    logger.disabled = True
    yield
    logger.disabled = False


def _last_write_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    add = Table.add

    def wrong(self: Table, owner: Shell, key: Any, value: Any) -> None:
        for item in self.under(key) if self.unique else []:
            self.remove(item.owner, key, [item])
        add(self, owner, key, value)

    monkeypatch.setattr(Table, "add", wrong)


def _own_key_may_be_taken_again(monkeypatch: pytest.MonkeyPatch) -> None:
    add = Table.add

    def wrong(self: Table, owner: Shell, key: Any, value: Any) -> None:
        if self.unique and self.of_under(owner, key):
            return
        add(self, owner, key, value)

    monkeypatch.setattr(Table, "add", wrong)


def _entries_survive_death(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = Table.process_ended

    def wrong(self: Table, process: Shell) -> None:
        if process is self.home:
            ended(self, process)

    monkeypatch.setattr(Table, "process_ended", wrong)


def _death_is_told_to_listeners(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = Table.process_ended

    def wrong(self: Table, process: Shell) -> None:
        for item in self.of(process) if process is not self.home else []:
            self.remove(process, item.key, [item])
        ended(self, process)

    monkeypatch.setattr(Table, "process_ended", wrong)


def _the_table_outlives_its_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    init = Table.__init__
    kept: dict[Any, Any] = {}

    def wrong(self: Table, home: Shell, **options: Any) -> None:
        init(self, home, **options)
        self.meta = kept.setdefault(home.tree, self.meta)

    monkeypatch.setattr(Table, "__init__", wrong)


def _unregister_takes_what_is_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(self: RegistryRef, key: Any, predicate: Callable[[Any], bool]) -> None:
        table = self._table()
        for item in table.under(key):
            if predicate(item.value):
                table.remove(item.owner, key, [item])

    monkeypatch.setattr(RegistryRef, "unregister_match", wrong)


def _unregister_takes_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    remove = Table.remove

    def wrong(self: Table, owner: Shell, key: Any, items: list[Any]) -> None:
        remove(self, owner, key, items[:1])

    monkeypatch.setattr(Table, "remove", wrong)


def _unregister_match_takes_all(monkeypatch: pytest.MonkeyPatch) -> None:
    unregister = RegistryRef.unregister_match

    def wrong(self: RegistryRef, key: Any, _: Any) -> None:
        unregister(self, key, lambda _: True)

    monkeypatch.setattr(RegistryRef, "unregister_match", wrong)


def _what_is_left_is_told_as_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    remove = Table.remove

    def wrong(self: Table, owner: Shell, key: Any, items: list[Any]) -> None:
        before = len(self.of_under(owner, key))
        remove(self, owner, key, items)
        if 0 < len(self.of_under(owner, key)) < before:
            self._tell(Unregistered(self.home.make_ref(), key, owner.make_ref()))

    monkeypatch.setattr(Table, "remove", wrong)


def _a_foreign_value_is_updated(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(self: RegistryRef, key: Any, function: Callable[[Any], Any]) -> Any:
        items = self._unique_table("update_value").under(key)
        if not items:
            raise NotRegisteredError(key)
        old, items[0].value = items[0].value, function(items[0].value)
        return items[0].value, old

    monkeypatch.setattr(RegistryRef, "update_value", wrong)


def _an_empty_key_is_dispatched_to(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(self: RegistryRef, key: Any, function: Callable[[Any], object]) -> None:
        function(self.lookup(key))

    monkeypatch.setattr(RegistryRef, "dispatch", wrong)


def _the_newest_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    under = Table.under
    monkeypatch.setattr(Table, "under", lambda self, key: under(self, key)[::-1])


def _numbers_are_mixed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_table, "tagged", lambda key: key)


def _numbers_in_tuples_are_mixed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_table, "tagged", lambda key: (type(key), key))


def _notes_are_mixed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(self: RegistryRef, key: Any, value: Any) -> None:
        for other in KEYS:
            if other == key:
                self._table().meta[_keys.tagged(other)] = value

    monkeypatch.setattr(RegistryRef, "put_meta", wrong)


def _locks_are_mixed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_locks, "tagged", lambda key: key)


def _a_lock_is_kept_when_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    leave = Lock.__aexit__

    async def wrong(self: Lock, kind: Any, error: Any, traceback: Any) -> None:
        if not isinstance(error, trio.Cancelled):
            await leave(self, kind, error, traceback)

    monkeypatch.setattr(Lock, "__aexit__", wrong)


def _a_lock_is_kept_when_its_block_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    leave = Lock.__aexit__

    async def wrong(self: Lock, kind: Any, error: Any, traceback: Any) -> None:
        if not isinstance(error, Boom):
            await leave(self, kind, error, traceback)

    monkeypatch.setattr(Lock, "__aexit__", wrong)


def _the_last_has_a_lock_next(monkeypatch: pytest.MonkeyPatch) -> None:
    leave = Locks.leave

    def wrong(self: Locks, key: Any, turn: Turn) -> None:
        queue = self._queues.get(_keys.tagged(key))
        if queue is not None and queue[0] is turn:
            queue.rotate(-1)
            queue.reverse()
        leave(self, key, turn)

    monkeypatch.setattr(Locks, "leave", wrong)


def _who_gave_up_waiting_still_has_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    leave = Locks.leave

    def wrong(self: Locks, key: Any, turn: Turn) -> None:
        if turn.comes.fired:
            leave(self, key, turn)

    monkeypatch.setattr(Locks, "leave", wrong)


def _a_lock_has_room_for_two(monkeypatch: pytest.MonkeyPatch) -> None:
    join = Locks.join

    def wrong(self: Locks, key: Any, task: Any) -> Turn:
        turn = join(self, key, task)
        if len(self._queues[_keys.tagged(key)]) == 2:
            turn.comes.fire()
        return turn

    monkeypatch.setattr(Locks, "join", wrong)


def _who_waits_is_not_told_that_the_registry_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(self: Locks) -> None:
        for queue in self._queues.values():
            for turn in queue:
                turn.comes.fire()

    monkeypatch.setattr(Locks, "close", wrong)


def _a_name_is_not_entered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tree, "register_via", lambda *_: None)


FAULTS: list[Callable[[pytest.MonkeyPatch], None]] = [
    _last_write_wins,
    _own_key_may_be_taken_again,
    _entries_survive_death,
    _death_is_told_to_listeners,
    _the_table_outlives_its_registry,
    _unregister_takes_what_is_of_others,
    _unregister_takes_one_entry,
    _unregister_match_takes_all,
    _what_is_left_is_told_as_gone,
    _a_foreign_value_is_updated,
    _an_empty_key_is_dispatched_to,
    _the_newest_comes_first,
    _numbers_are_mixed_up,
    _numbers_in_tuples_are_mixed_up,
    _notes_are_mixed_up,
    _locks_are_mixed_up,
    _a_lock_is_kept_when_cancelled,
    _a_lock_is_kept_when_its_block_raises,
    _the_last_has_a_lock_next,
    _who_gave_up_waiting_still_has_a_turn,
    _a_lock_has_room_for_two,
    _who_waits_is_not_told_that_the_registry_is_gone,
    _a_name_is_not_entered,
]


@pytest.mark.parametrize("plant", FAULTS)
def test_the_model_finds_a_planted_fault(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each fault, put into the registry, has the machine above fail."""
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        run_scripts(
            1000,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            report_multiple_bugs=False,
        )
