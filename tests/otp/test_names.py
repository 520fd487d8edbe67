"""Names that a registry gives: they stand wherever a name may."""

from typing import Any

import pytest
import trio

from slipstream.errors import (
    AlreadyStartedError,
    CallTimeoutError,
    ChildSpecError,
    ConfigError,
    ServerGoneError,
    StartError,
    SupervisorGaveUpError,
)
from slipstream.otp import (
    Entry,
    Ignore,
    Registry,
    ServerRef,
    Stop,
    Supervisor,
    SupervisorRef,
    Via,
    open_server,
    open_supervisor,
)
from slipstream.reasons import NOPROC, NORMAL, SHUTDOWN
from tests.otp.rooms import rooms_of
from tests.otp.support import (
    Boom,
    Diary,
    Puppet,
    crash,
    no_answer,
    ping,
    puppet,
    settle,
    virtual,
    within,
)

ROOMS = Registry.child_spec(name="rooms")
LOBBY = Via("rooms", "lobby")


@virtual
async def test_a_process_is_started_and_called_by_a_name_of_a_registry() -> None:
    """GS-009, GS-022: start, call and cast through it; nothing strays into the caller's mailbox."""
    diary = Diary()
    async with open_supervisor(
        [ROOMS, puppet("a", diary, name=LOBBY), puppet("b", diary)]
    ) as supervisor:
        a, b = supervisor.whereis(LOBBY), supervisor.child("b")
        assert a == supervisor.child("a")
        assert a.name == LOBBY

        async def call(me: Puppet) -> None:
            ref = me.whereis(LOBBY)
            assert ref is not None
            me.write("got", await ref.call(ping))
            with pytest.raises(CallTimeoutError):
                await ref.call(no_answer, timeout=1)
            me.cast(LOBBY, "hello")

        b.cast(call)
        await trio.sleep(2)
        assert diary.of("got") == [("b", 1)]
        assert diary.of("cast") == [("a", "hello")]
        assert diary.of("info") == []


@virtual
async def test_a_process_is_stopped_by_a_name_of_a_registry() -> None:
    """GS-016: and the name goes with it."""
    spec = puppet("a", restart="temporary", name=LOBBY)
    async with open_supervisor([ROOMS, spec]) as supervisor:
        ref = supervisor.whereis(LOBBY)
        assert ref is not None
        await ref.stop(NORMAL)
        assert supervisor.whereis(LOBBY) is None
        assert rooms_of(supervisor).count() == 0
        with pytest.raises(ServerGoneError):
            await ref.stop()


@virtual
async def test_a_name_enters_its_process_with_a_value() -> None:
    """REG-014: register, send and whereis through it; who has it is told of."""
    diary = Diary()
    rooms_ref: list[ServerRef | None] = []

    def init(me: Puppet) -> None:
        rooms_ref.append(me.whereis(LOBBY))

    spec = puppet("a", diary, init=init, name=Via("rooms", "lobby", {"seats": 12}))
    async with open_supervisor([ROOMS, spec, puppet("b")]) as supervisor:
        rooms, a = rooms_of(supervisor), supervisor.child("a")
        assert rooms.lookup("lobby") == [Entry(a, {"seats": 12})]
        assert rooms_ref == [a]  # from before its init, as any name
        supervisor.child("b").cast(lambda me: me.cast(LOBBY, "hello"))
        await settle()
        assert diary.of("cast") == [("a", "hello")]
        with pytest.raises(AlreadyStartedError, match="rooms/'lobby' is taken") as caught:
            await supervisor.start_child(puppet("c", name=LOBBY))
        assert caught.value.ref == a
        assert [info.id for info in supervisor.which_children()] == ["rooms", "a", "b"]
        await within(a, rooms.update_value, "lobby", lambda _: None)
        assert rooms.lookup("lobby") == [Entry(a, None)]


@pytest.mark.parametrize(
    "init", [crash(), lambda _: Ignore(), lambda _: Stop(SHUTDOWN)], ids=["crash", "ignore", "stop"]
)
@virtual
async def test_a_start_that_fails_leaves_no_entry(init: Any) -> None:
    """REG-014: not even for a moment after the start."""
    async with open_supervisor([ROOMS]) as supervisor:
        for _ in range(100):
            try:
                ref = await supervisor.start_child(
                    puppet("a", init=init, restart="temporary", name=LOBBY)
                )
            except StartError:
                ref = None
            assert ref is None
            assert supervisor.whereis(LOBBY) is None
            assert rooms_of(supervisor).count() == 0


@virtual
async def test_duplicate_keys_give_no_names() -> None:
    """REG-015: neither to start with nor to look for."""
    many = Registry.child_spec(keys="duplicate", name="rooms")
    async with open_supervisor([many, puppet("b")]) as supervisor:
        says = "a name needs a registry with keys='unique'"
        with pytest.raises(StartError, match=says):
            await supervisor.start_child(puppet("a", name=LOBBY))
        with pytest.raises(ConfigError, match=says):
            supervisor.whereis(LOBBY)
        with pytest.raises(ServerGoneError, match=says):
            await supervisor.child("b").call(lambda me, _: me.whereis(LOBBY))


@pytest.mark.parametrize("registry", ["nobody", "b"])
@virtual
async def test_a_name_of_no_registry_leads_nowhere(registry: str) -> None:
    """REG-013, GS-026: looking for it raises, a cast to it does nothing."""
    name = Via(registry, "lobby")
    async with open_supervisor([ROOMS, puppet("b", name="b")]) as supervisor:
        b = supervisor.child("b")
        with pytest.raises(ServerGoneError, match=f"registry '{registry}' is gone") as caught:
            supervisor.whereis(name)
        assert caught.value.reason == NOPROC
        await within(b, lambda: None)
        b.cast(lambda me: me.cast(name, "hello"))
        await settle()
        assert b.alive
        with pytest.raises(StartError, match="cannot be given") as refused:
            await supervisor.start_child(puppet("a", name=name))
        assert isinstance(refused.value.__cause__, ServerGoneError)
        assert supervisor.whereis(LOBBY) is None


@virtual
async def test_a_named_child_can_be_started_again_for_ever() -> None:
    """REG-023: it has left the registry before its supervisor hears of its end."""
    diary = Diary()
    async with open_supervisor(
        [ROOMS, puppet("a", diary, name=LOBBY)], max_restarts=1000
    ) as supervisor:
        ref = supervisor.whereis(LOBBY)
        assert ref is not None
        for _ in range(1000):
            ref.cast(crash())
            await settle()
            assert supervisor.whereis(LOBBY) == ref
        assert await ref.call(ping) == 1001


@virtual
async def test_a_name_of_a_registry_that_does_not_come_back_is_given_up_for() -> None:
    spec = puppet("a", name=LOBBY)
    with pytest.raises(SupervisorGaveUpError):
        async with open_supervisor([ROOMS, spec]) as supervisor:
            await supervisor.terminate_child("rooms")
            supervisor.child("a").cast(crash())
            await trio.sleep_forever()


@virtual
async def test_a_supervisor_has_a_name_of_a_registry() -> None:
    """SUP-020: it is started under it, and found by it, with what a supervisor can do."""
    async with open_supervisor([ROOMS, Supervisor.child_spec([Puppet], name=LOBBY)]) as supervisor:
        found = supervisor.whereis(LOBBY)
        assert isinstance(found, SupervisorRef)
        assert found.count_children() == (1, 1, 0, 1)


@virtual
async def test_a_reference_to_a_registry_does_for_its_name() -> None:
    """It may be of another tree, too."""
    async with open_supervisor([ROOMS]) as supervisor:
        name = Via(rooms_of(supervisor), "lobby", 1)
        async with open_server(Puppet, name=name) as stranger:
            assert supervisor.whereis(name) == supervisor.whereis(LOBBY) == stranger
            with pytest.raises(AlreadyStartedError):
                async with open_server(Puppet, name=name):
                    pytest.fail("the name is taken")
        assert supervisor.whereis(name) is None
        with pytest.raises(StartError):
            async with open_server(Puppet, name=LOBBY):
                pytest.fail("there is no such registry in this tree")


@virtual
async def test_a_name_is_what_reports_call_its_process() -> None:
    async with open_supervisor([ROOMS, puppet("a", name=LOBBY)]) as supervisor:
        ref = supervisor.child("a")
        assert repr(ref) == "<ServerRef rooms/'lobby'>"
        with pytest.raises(Boom):
            await within(ref, crash())


def test_names_are_equal_by_registry_and_key() -> None:
    assert Via("rooms", 1, "x") == Via("rooms", 1, ["y"])
    assert len({Via("rooms", 1), Via("rooms", True), Via("rooms", 1.0), Via("others", 1)}) == 4


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("", "x"), "registry='' is wrong: it takes the name of a registry"),
        ((None, "x"), "registry=None is wrong"),
        (("rooms", []), r"key=\[\] is wrong: it takes anything that is hashable"),
    ],
)
def test_a_wrong_name_is_refused(args: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Via(*args)


def test_a_child_takes_a_name_of_either_kind() -> None:
    assert puppet("a", name=LOBBY).name == LOBBY
    with pytest.raises(ChildSpecError, match=r"name=1 is wrong: it takes a name .* a Via, or None"):
        puppet("a", name=1)
