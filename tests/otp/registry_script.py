"""Scripts that a registry and its model both follow."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings, strategies as st

from slipstream.errors import (
    AlreadyRegisteredError,
    AlreadyStartedError,
    ServerGoneError,
    SlipstreamError,
)
from slipstream.otp import (
    Registered,
    Registry,
    RegistryRef,
    Reply,
    ServerRef,
    SupervisorRef,
    Unregistered,
    Via,
    open_supervisor,
)
from slipstream.reasons import NORMAL
from tests.otp.registry_model import Model, Refusal
from tests.otp.support import (
    Boom,
    Diary,
    Puppet,
    crash,
    end as end_with,
    kill,
    puppet,
    run_virtually,
    settle,
)

KEYS: list[Any] = [1, True, 1.0, "a", (1,), (True,)]  # to Python, three of them are one
PROCESSES = ["a", "b", "c"]
META = {"1": "first"}


@st.composite
def scripts(draw: st.DrawFn) -> list[Any]:
    """Draw a script of a theme, with few keys and processes: they must collide."""
    keys = st.sampled_from(draw(st.sampled_from([KEYS[3:4], KEYS[:3], KEYS[:4], KEYS[3:]])))
    who = st.sampled_from(draw(st.lists(st.sampled_from(PROCESSES), min_size=2, max_size=3)))
    values = st.integers(0, 2)
    register = st.tuples(st.just("register"), who, keys, values)
    change = [
        st.tuples(st.just("unregister"), who, keys),
        st.tuples(st.just("unregister_match"), who, keys, values),
        st.tuples(st.just("update"), who, keys, values),
    ]
    use = [
        st.tuples(st.just("dispatch"), keys),
        st.tuples(st.just("via"), keys, values),
        st.tuples(st.just("meta"), keys, values | st.none()),
    ]
    lock = st.tuples(st.just("lock"), who, keys)
    let_go = st.tuples(st.just("let_go"), st.sampled_from(["leave", "leave", "cancel", "raise"]))
    end = st.tuples(
        st.just("end"), who | st.just("v"), st.sampled_from(["crash", "kill", "normal"])
    )
    restart = st.tuples(st.just("restart"))
    themes: list[list[st.SearchStrategy[Any]]] = [
        [register, register, register, *change],
        [register, register, *use, end, restart],
        [register, *change, *use, lock, let_go, end, restart],
        [lock, lock, let_go, draw(st.sampled_from([lock, end, restart]))],
    ]
    theme = draw(st.sampled_from(themes))
    return draw(st.lists(st.one_of(theme), min_size=10, max_size=30))


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
            puppet("ear", self.heard, name="ear"),
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
        for _, message in self.heard.of("info"):
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
            case ("restart",):
                kill(rooms)
                await settle()
                for _, number, _ in model.places():
                    self.gates[number][1].set()  # leaving a lock that is no more does no harm
                model.restart()
            case ("end", name, how):
                await self.end(name, how)
            case ("lock", name, key):
                await self.lock(name, key)
            case ("let_go", how):
                self.let_go(how)
            case ("meta", key, None):
                rooms.delete_meta(key)
                model.meta.pop(repr(key), None)
            case ("meta", key, value):
                rooms.put_meta(key, value)
                model.meta[repr(key)] = value
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
                ref.cast(end_with(NORMAL))
            case _:
                kill(ref)
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

    def let_go(self, how: str) -> None:
        """Have the first who has a lock leave it or raise, or the last who asked for one give up."""
        places = self.model.places()
        if not places:
            return
        owner, number, has_it = places[-1 if how == "cancel" else 0]
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


def run_scripts(examples: int, **options: Any) -> None:
    """Have a registry and its model follow as many scripts, and agree after each step."""

    @settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
        **options,
    )
    @given(unique=st.booleans(), script=scripts())
    def follow(unique: bool, script: list[Any]) -> None:
        run_virtually(Script(unique=unique).run, script)

    follow()
