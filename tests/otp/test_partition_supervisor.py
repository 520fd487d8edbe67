"""One child several times, and the key that says which of them is meant."""

import os
from collections.abc import Iterable
from typing import Any

import pytest
import trio

from slipstream.errors import (
    ChildNotFoundError,
    ChildSpecError,
    ConfigError,
    ServerGoneError,
    StartError,
)
from slipstream.otp import (
    ChildSpec,
    DynamicSupervisor,
    DynamicSupervisorRef,
    PartitionSupervisor,
    PartitionSupervisorRef,
    Reply,
    Supervisor,
    SupervisorRef,
    open_supervisor,
    start_of,
)
from slipstream.reasons import NOPROC, NORMAL, SHUTDOWN
from tests.otp.support import (
    Boom,
    Puppet,
    Role,
    crash,
    ping,
    puppet,
    settle,
    sleep_then,
    start,
    virtual,
)


class Part(Puppet):
    """Keeps what its init got."""

    async def init(self, *args: Any) -> None:
        await super().init()
        self.args = args


def arguments(me: Any, _: Any) -> Any:
    return Reply(me.args)


def pool(child: Any = Part, partitions: int | None = 3, **keywords: Any) -> ChildSpec:
    return PartitionSupervisor.child_spec(child, partitions, **{"name": "pool", **keywords})


def found(supervisor: SupervisorRef) -> PartitionSupervisorRef:
    ref = supervisor.whereis("pool")
    assert isinstance(ref, PartitionSupervisorRef)
    return ref


def test_its_id_is_its_name() -> None:
    """PAR-001."""
    spec = pool()
    assert (spec.id, spec.name, spec.type) == ("pool", "pool", "supervisor")
    assert (pool(id=5).id, pool(shutdown=2.0).shutdown) == (5, 2.0)

    class Named(PartitionSupervisor, name="mine", restart="transient"):
        pass

    spec = Named.child_spec(Part)
    assert (spec.id, spec.name, spec.restart) == ("mine", "mine", "transient")


@virtual
async def test_keys_are_spread_over_all_partitions() -> None:
    """PAR-002: whatever is started by way of them is found exactly once, where its key leads."""
    async with open_supervisor([pool(DynamicSupervisor, 8)]) as supervisor:
        pools = found(supervisor)
        assert pools.partitions == 8
        for key in range(100):
            rooms = pools.partition(("room", key))
            assert isinstance(rooms, DynamicSupervisorRef)
            await start(rooms, puppet(str(key)))
        counts = []
        for number in range(8):
            part: Any = pools.partition(number)
            counts.append(part.count_children().active)
        assert sum(counts) == 100
        assert all(counts)
        assert pools.partition(("room", 5)) == pools.partition(("room", 5))


@virtual
async def test_each_partition_may_have_its_own_arguments() -> None:
    """PAR-003: and an integer key leads to its absolute value, modulo the number of partitions."""
    spec = pool((Part, "a"), with_arguments=lambda args, number: [number, *args])
    async with open_supervisor([spec]) as supervisor:
        pools = found(supervisor)
        for key, number in ((0, 0), (1, 1), (2, 2), (3, 0), (-1, 1), (-5, 2)):
            assert await pools.partition(key).call(arguments) == (number, "a")
        pools.partition(1).cast(crash())
        await settle()
        assert await pools.partition(1).call(arguments) == (1, "a")
    async with open_supervisor([pool((Part, "a"))]) as supervisor:
        assert await found(supervisor).partition(2).call(arguments) == ("a",)


WRONG: dict[str, tuple[Any, dict[str, Any], str]] = {
    "no name": (Part, {"name": None}, "name=None"),
    "child": (5, {}, "5 cannot be a child"),
    "class": (int, {}, "no child_spec"),
    "no partitions": (Part, {"partitions": 0}, "partitions=0"),
    "fewer": (Part, {"partitions": -1}, "partitions=-1"),
    "half": (Part, {"partitions": 2.5}, "partitions=2.5"),
    "truth": (Part, {"partitions": True}, "partitions=True"),
    "with_arguments": (Part, {"with_arguments": 5}, "with_arguments=5"),
    "function": (
        ChildSpec("f", lambda: start_of(Part)),
        {"with_arguments": lambda args, _: args},
        "start is a function",
    ),
    "auto_shutdown": (Part, {"auto_shutdown": "any_significant"}, "auto_shutdown='any_signif"),
    "strategy": (Part, {"strategy": "all"}, "strategy='all'"),
    "unknown": (Part, {"colour": 1}, "'colour'"),
    "named child": (puppet("a", name="bob"), {}, "name='bob'"),
    "temporary child": (puppet("a", restart="temporary"), {}, "restart='temporary'"),
    "significant child": (puppet("a", restart="transient", significant=True), {}, "significant"),
}


@pytest.mark.parametrize(("child", "keywords", "expected"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_refused_before_anything_starts(
    child: Any, keywords: dict[str, Any], expected: str
) -> None:
    """PAR-004."""
    with pytest.raises(ChildSpecError) as error:
        pool(child, **keywords)
    assert expected in str(error.value)


@virtual
async def test_a_child_is_needed_and_with_arguments_has_to_give_some() -> None:
    """PAR-004."""
    nothing: Any = PartitionSupervisor.child_spec
    with pytest.raises(TypeError, match="child"):
        nothing(name="pool")
    wrong: Any = lambda *_: "args"  # noqa: E731 - it has to be untyped
    async with open_supervisor([]) as supervisor:
        with pytest.raises(StartError, match="with_arguments gave 'args'"):
            await supervisor.start_child(pool(with_arguments=wrong))


@virtual
async def test_without_a_number_there_is_a_partition_for_each_processor() -> None:
    """PAR-002."""
    async with open_supervisor([pool(partitions=None)]) as supervisor:
        assert found(supervisor).partitions == (os.cpu_count() or 1)


@virtual
async def test_a_stop_waits_until_all_have_gone() -> None:
    """PAR-005."""
    slow = puppet("slow", terminate=sleep_then(1.0))
    async with open_supervisor([]) as supervisor:
        await start(supervisor, pool(slow))
        pools = found(supervisor)
        pins = [pools.partition(number).pin() for number in range(3)]
        before = trio.current_time()
        await pools.stop(SHUTDOWN)
        assert trio.current_time() == before + 3.0
        assert not any(pin.alive for pin in pins)


@virtual
async def test_one_that_is_gone_leads_nowhere() -> None:
    """PAR-006."""
    async with open_supervisor([]) as supervisor:
        assert supervisor.whereis("pool") is None
        spec = pool(restart="temporary")
        pools = await start(supervisor, spec)
        assert isinstance(pools, PartitionSupervisorRef)
        part = pools.partition(0)
        await pools.stop(NORMAL)
        for ask in (
            lambda: pools.partition(0),
            lambda: pools.partitions,
            pools.which_children,
            pools.count_children,
        ):
            with pytest.raises(ServerGoneError) as gone:
                ask()
            assert gone.value.reason == NOPROC
        with pytest.raises(ServerGoneError):
            await pools.resize(1)
        with pytest.raises(ServerGoneError):
            await part.call(ping)


@pytest.mark.parametrize(
    "sizes",
    [range(8, -1, -1), [0, *range(9)], [4, 2, 8, 5, 5, 1, 7, 0, 3, 6], [1, 8, 0, 8]],
    ids=["down", "up", "shuffled", "jumps"],
)
@virtual
async def test_the_number_of_partitions_can_change(sizes: Iterable[int]) -> None:
    """PAR-007: the specifications stay; keys lead to those that are left."""
    async with open_supervisor([pool(partitions=8)]) as supervisor:
        pools = found(supervisor)
        before = 8
        for size in sizes:
            assert await pools.resize(size) == before
            before = size
            assert pools.partitions == size
            assert pools.count_children() == (8, size, 0, 8)
            assert [info.ref is not None for info in pools.which_children()] == [
                number < size for number in range(8)
            ]
            for key in range(20 if size else 0):
                assert pools.partition(str(key)).alive
                assert pools.partition(key) == pools.partition(key % size)


@virtual
async def test_there_is_nothing_below_zero_nor_above_the_first_number() -> None:
    """PAR-008: a refused resize changes nothing; without partitions no key leads anywhere."""
    async with open_supervisor([pool()]) as supervisor:
        pools = found(supervisor)
        wrong: list[Any] = [4, -1, 1.0, True, "1", None]
        for size in wrong:
            with pytest.raises(ConfigError, match=f"partitions={size!r} .* from 0 to 3"):
                await pools.resize(size)
        assert pools.count_children() == (3, 3, 0, 3)
        assert await pools.resize(0) == 3
        with pytest.raises(ChildNotFoundError):
            pools.partition("key")
        with pytest.raises(ConfigError):
            await pools.resize(4)
        assert await pools.resize(3) == 0
        assert await pools.partition("key").call(ping) == 1
        with pytest.raises(TypeError):
            pools.partition([])


@virtual
async def test_a_partition_that_does_not_start_again_ends_the_growth() -> None:
    """PAR-007: those before it are there; it can be tried again."""
    fails: set[int] = set()

    def init(me: Puppet) -> None:
        if me.role.name in map(str, fails):
            raise Boom("not now")

    spec = pool((Puppet, None), 4, with_arguments=lambda _, n: (Role(name=str(n), init=init),))
    async with open_supervisor([spec]) as supervisor:
        pools = found(supervisor)
        await pools.resize(1)
        fails.add(2)
        with pytest.raises(StartError):
            await pools.resize(4)
        assert pools.partitions == 2
        assert pools.count_children().active == 2
        fails.clear()
        assert await pools.resize(4) == 2
        assert pools.count_children().active == 4


@virtual
async def test_a_partition_that_was_stopped_is_not_restarted_and_one_that_crashed_is() -> None:
    """PAR-007: a resize ends a restart that waits, too."""
    spec = pool(puppet("a", backoff=lambda *_: 1.0))
    async with open_supervisor([spec]) as supervisor:
        pools = found(supervisor)
        for number in (1, 2):
            pools.partition(number).cast(crash())
        await settle()
        assert pools.count_children().active == 1
        await pools.resize(2)
        await trio.sleep(5.0)
        assert pools.count_children() == (3, 2, 0, 3)
        pools.partition(0).cast(crash())
        await trio.sleep(5.0)
        assert pools.count_children() == (3, 2, 0, 3)


@pytest.mark.parametrize(
    ("child", "counts"),
    [(Part, (3, 3, 0, 3)), (Supervisor.child_spec([Part]), (3, 3, 3, 0))],
    ids=["workers", "supervisors"],
)
@virtual
async def test_what_is_listed_is_what_keys_lead_to(child: Any, counts: Any) -> None:
    """PAR-009."""
    async with open_supervisor([pool(child)]) as supervisor:
        pools = found(supervisor)
        infos = pools.which_children()
        assert [info.id for info in infos] == [0, 1, 2]
        assert [info.ref for info in infos] == [pools.partition(number) for number in range(3)]
        assert pools.count_children() == counts
        assert pools == supervisor.child("pool")
        assert pools.whereis("pool") == pools


@virtual
async def test_it_can_be_the_root_of_a_tree() -> None:
    """PAR-009."""
    opened: Any = open_supervisor(pool())
    async with opened as pools:
        assert isinstance(pools, PartitionSupervisorRef)
        assert await pools.partition(-2).call(ping) == 1
