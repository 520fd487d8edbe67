"""Scripts that a registry and its model both follow."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import trio
from hypothesis import given, strategies as st

from slipstream.errors import (
    AlreadyRegisteredError,
    AlreadyStartedError,
    ServerGoneError,
    SlipstreamError,
)
from slipstream.otp import (
    GenServer,
    Registered,
    Registry,
    RegistryRef,
    Reply,
    ServerRef,
    SupervisorRef,
    Unregistered,
    Via,
    open_supervisor,
    process_of,
)
from slipstream.reasons import NORMAL
from tests.otp.registry_model import Model, Refusal
from tests.otp.support import Boom, Diary, Puppet, crash, end, puppet, run_virtually, settle

# What is drawn has to collide: to Python, the first three are one key.
KEYS: list[Any] = [1, True, 1.0, "a", (1,), (True,)]
PROCESSES = ["a", "b", "c"]
META = {"1": "first"}

keys = st.sampled_from(KEYS)
who = st.sampled_from(PROCESSES)
values = st.integers(0, 2)
steps = st.one_of(
    st.tuples(st.just("register"), who, keys, values),
    st.tuples(st.just("register"), who, keys, values),
    st.tuples(st.just("unregister"), who, keys),
    st.tuples(st.just("unregister_match"), who, keys, values),
    st.tuples(st.just("update"), who, keys, values),
    st.tuples(st.just("dispatch"), keys),
    st.tuples(st.just("via"), keys, values),
    st.tuples(st.just("end"), who | st.just("v"), st.sampled_from(["crash", "kill", "normal"])),
    st.tuples(st.just("lock"), who, keys),
    st.tuples(st.just("lock"), who, keys),
    st.tuples(st.just("let_go"), st.integers(0, 7), st.sampled_from(["leave", "cancel", "raise"])),
    st.tuples(st.just("meta"), keys, values | st.none()),
    st.tuples(st.just("restart")),
)
scripts = st.lists(steps, min_size=6, max_size=40)


class Ear(GenServer):
    """Writes down what a listener is told."""

    async def init(self, diary: Diary) -> None:
        self.diary = diary

    async def handle_info(self, message: Any) -> None:
        self.diary.append(message)


class Script:
    """A registry and its model, and the steps that both take."""

    def __init__(self, *, unique: bool) -> None:
        self.model = Model(unique=unique, meta=META)
        self.heard = Diary()
        self.granted: dict[str, list[int]] = {}
        self.gates: dict[int, tuple[trio.CancelScope, trio.Event]] = {}
        self.raising: set[int] = set()
        self.names: dict[ServerRef, str] = {}

    async def run(self, script: list[Any]) -> None:
        children = [
            Registry.child_spec(
                keys="unique" if self.model.unique else "duplicate",
                name="rooms",
                listeners=["ear"],
                meta={1: "first"},
            ),
            Ear.child_spec(self.heard, name="ear"),
            *(puppet(name, name=name) for name in PROCESSES),
        ]
        async with open_supervisor(children, max_restarts=1000) as supervisor:
            self.supervisor: SupervisorRef = supervisor
            rooms = supervisor.whereis("rooms")
            assert isinstance(rooms, RegistryRef)
            self.rooms = rooms
            self.names = {supervisor.child(name): name for name in PROCESSES}
            for step in script:
                await self.step(step)
                await settle()
                self.compare()

    # -- what can be seen

    def compare(self) -> None:
        rooms, model = self.rooms, self.model
        for key in KEYS:
            rows = [(row.owner, row.value) for row in model.under(repr(key))]
            assert self.shown(rooms.lookup(key)) == rows
            odd = [(owner, value) for owner, value in rows if value % 2]
            assert self.shown(rooms.match(key, lambda value: value % 2 == 1)) == odd
            assert rooms.count_match(key, lambda value: value % 2 == 1) == len(odd)
            assert rooms.get_meta(key) == model.meta.get(repr(key))
            if model.unique:
                ref = rooms.whereis(key)
                holder = None if ref is None else self.name_of(ref)
                assert holder == (rows[0][0] if rows else None)
                via = self.supervisor.whereis(Via("rooms", key))
                assert via == ref
            for name in PROCESSES:
                own = [row.value for row in model.own(name, repr(key))]
                assert rooms.values(key, self.supervisor.child(name)) == own
        for name in PROCESSES:
            shown = Counter(repr(key) for key in rooms.keys(self.supervisor.child(name)))
            assert shown == Counter(row.key for row in model.rows if row.owner == name)
        everything = Counter((row.key, row.owner, row.value) for row in model.rows)
        selected = rooms.select()
        assert Counter((repr(key), self.name_of(ref), value) for key, ref, value in selected) == (
            everything
        )
        assert rooms.count() == len(model.rows)
        assert rooms.count_select(lambda found: found.value % 2 == 1) == sum(
            row.value % 2 for row in model.rows
        )
        assert self.told() == model.told
        granted = {key: numbers for key, numbers in model.granted.items() if numbers}
        assert self.granted == granted

    def name_of(self, ref: ServerRef) -> str:
        assert ref.alive
        return self.names[ref]

    def shown(self, entries: list[Any]) -> list[Any]:
        return [(self.name_of(ref), value) for ref, value in entries]

    def told(self) -> list[Any]:
        told: list[Any] = []
        for message in self.heard:
            assert isinstance(message, Registered | Unregistered)
            assert message.registry == self.rooms
            entry = (repr(message.key), self.names[message.ref])
            if isinstance(message, Registered):
                told.append(("registered", *entry, message.value))
            else:
                told.append(("unregistered", *entry))
        return told

    # -- what is done

    async def step(self, step: Any) -> None:
        rooms, model = self.rooms, self.model
        match step:
            case ("register", name, key, value):
                await self.both(
                    name,
                    lambda: rooms.register(key, value),
                    lambda: model.register(name, repr(key), value),
                )
            case ("unregister", name, key):
                await self.both(
                    name,
                    lambda: rooms.unregister(key),
                    lambda: model.unregister(name, repr(key), 0, 1, 2),
                )
            case ("unregister_match", name, key, value):
                await self.both(
                    name,
                    lambda: rooms.unregister_match(key, lambda found: found == value),
                    lambda: model.unregister(name, repr(key), value),
                )
            case ("update", name, key, value):
                await self.both(
                    name,
                    lambda: rooms.update_value(key, lambda _: value),
                    lambda: model.update(name, repr(key), value),
                )
            case ("dispatch", key):
                calls: list[Any] = []
                rooms.dispatch(key, lambda entries: calls.append(self.shown(entries)))
                rows = [(row.owner, row.value) for row in model.under(repr(key))]
                assert calls == ([rows] if rows else [])
            case ("via", key, value):
                await self.start_via(key, value)
            case ("end", name, how):
                await self.end(name, how)
            case ("lock", name, key):
                await self.lock(name, key)
            case ("let_go", place, how):
                self.let_go(place, how)
            case ("meta", key, None):
                rooms.delete_meta(key)
                model.meta.pop(repr(key), None)
            case ("meta", key, value):
                rooms.put_meta(key, value)
                model.meta[repr(key)] = value
            case ("restart",):
                _kill(rooms)
                await settle()
                for _, number, _ in model.places():
                    self.gates[number][1].set()  # leaving a lock that is no more does no harm
                model.restart()
            case _:
                pytest.fail(f"no such step: {step}")

    async def both(self, name: str, act: Callable[[], Any], act_model: Callable[[], Any]) -> None:
        """Have the process and the model do it, and compare what comes of it."""

        def attempt(_: Puppet, __: Any) -> Reply:
            try:
                return Reply((act(), None))
            except SlipstreamError as error:
                return Reply((None, error))

        expected: Any
        try:
            expected = act_model()
        except Refusal as refusal:
            expected = refusal.what, refusal.holder
        result, error = await self.supervisor.child(name).call(attempt)
        if error is not None:
            result = self.refusal(error)
        assert result == expected

    def refusal(self, error: SlipstreamError) -> tuple[str, str | None]:
        holder = None
        if isinstance(error, AlreadyRegisteredError | AlreadyStartedError):
            holder = self.name_of(error.ref)
        return type(error).__name__.removesuffix("Error"), holder

    async def start_via(self, key: Any, value: Any) -> None:
        """Start a process whose name the registry gives, unless it runs already."""
        if not self.model.unique or "v" in self.running():
            return
        expected: Any = None
        try:
            self.model.register("v", repr(key), value)
        except Refusal as refusal:
            expected = "AlreadyStarted", refusal.holder
        shown: Any = None
        # The listener hears of it before it has started: its address must lead to it by then.
        spec = puppet("v", restart="temporary", name=Via("rooms", key, value))
        try:
            ref = await self.supervisor.start_child(spec)
        except SlipstreamError as error:
            shown = self.refusal(error)
        else:
            assert ref is not None
            self.names[ref] = "v"
        assert shown == expected

    def running(self) -> list[Any]:
        return [info.id for info in self.supervisor.which_children()]

    async def end(self, name: str, how: str) -> None:
        if name not in self.running():
            return
        ref = self.supervisor.child(name)
        match how:
            case "crash":
                ref.cast(crash())
            case "normal":
                ref.cast(end(NORMAL))
            case _:
                _kill(ref)
        self.model.end(name)

    async def lock(self, name: str, key: Any) -> None:
        number = len(self.gates)
        self.gates[number] = trio.CancelScope(), trio.Event()
        self.model.lock(name, repr(key), number)
        self.supervisor.child(name).cast(lambda me: me.start_soon(self.hold, key, number))

    async def hold(self, key: Any, number: int) -> None:
        scope, gate = self.gates[number]
        try:
            with scope:
                async with self.rooms.lock(key):
                    self.granted.setdefault(repr(key), []).append(number)
                    await gate.wait()
                    if number in self.raising:
                        raise Boom
        except ServerGoneError:  # the registry was restarted
            assert number not in self.granted.get(repr(key), [])

    def let_go(self, place: int, how: str) -> None:
        """Have one who has a lock, or waits for one, have done with it."""
        places = self.model.places()
        if not places:
            return
        owner, number, has_it = places[place % len(places)]
        scope, gate = self.gates[number]
        if not has_it or how == "cancel":
            scope.cancel()
            self.model.unlock(number)
            return
        gate.set()
        self.model.unlock(number)
        if how == "raise":
            self.raising.add(number)
            self.model.end(owner)


def _kill(ref: ServerRef) -> None:
    process = process_of(ref)
    assert process is not None
    process.kill()


@given(unique=st.booleans(), script=scripts)
def machine(unique: bool, script: list[Any]) -> None:
    """The registry and its model, step by step."""
    run_virtually(Script(unique=unique).run, script)
