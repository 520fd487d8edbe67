"""PartitionSupervisor: one child several times, and a key that says which of them is meant."""

import os
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, Literal, TypeAlias, Unpack, cast

import attrs

from slipstream.errors import ChildNotFoundError, ChildSpecError, ConfigError

from ._child_spec import ChildKeywords, ChildLike, ChildSpec, Start, one_of
from ._children import SUPERVISOR_CHECKS, Strategy
from ._launch import PROCESS_CLASSES
from ._ref import ServerRef
from ._supervisor_base import SupervisorBase, SupervisorBaseRef
from ._supervisor_process import SupervisorProcess

__all__ = ["PartitionSupervisor", "PartitionSupervisorRef"]

WithArguments: TypeAlias = Callable[[tuple[Any, ...], int], tuple[Any, ...] | list[Any]]
"""Gives the arguments of a partition, from those of the child and the partition's number."""


PARTITION_CHECKS: Final[Mapping[str, Callable[[str, object], object]]] = {
    **SUPERVISOR_CHECKS,
    "auto_shutdown": one_of("never"),
}


class PartitionProcess(SupervisorProcess):
    """A supervisor of partitions at work.

    Attributes:
        routed: how many partitions keys lead to; those above have been stopped.
    """

    __slots__ = ("routed",)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.routed = 0

    async def begin(self, start: Start, result: Any) -> Any:
        verdict = await super().begin(start, result)
        self.routed = len(self.kids)
        return verdict

    async def resize(self, partitions: int) -> int:
        """Stop or start the highest partitions; give how many there were."""
        before = self.routed
        for number in range(before, partitions):
            child = self.find(number)
            if child.process is None and not child.restarting:
                await self._start(child)
            self.routed = number + 1
        if partitions < before:
            self.routed = partitions  # no key leads to one that is being stopped
        for number in reversed(range(partitions, before)):
            await self.terminate_child(number)
        return before


class PartitionSupervisorRef(SupervisorBaseRef):
    """The address of a partition supervisor; it leads to its partitions by key."""

    __slots__ = ()

    @property
    def partitions(self) -> int:
        """How many partitions there are.

        Raises:
            ServerGoneError: if the supervisor is gone.
        """
        return self._partitions().routed

    def partition(self, key: object) -> ServerRef:
        """Give the address of the partition that *key* belongs to.

        The absolute value of an integer, or the hash of anything else, modulo the number of
        partitions: within one run of Python equal keys share a partition until a resize.

        Raises:
            ChildNotFoundError: if there are no partitions, or none yet.
            TypeError: if *key* is not hashable.
            ServerGoneError: if the supervisor is gone.
        """
        process = self._partitions()
        if process.routed == 0:
            raise ChildNotFoundError(key)
        number = abs(key) if isinstance(key, int) else hash(key)
        return process.find(number % process.routed).ref

    async def resize(self, partitions: int) -> int:
        """Have that many *partitions*: stop the highest ones, or start some again.

        If one of them does not start, there are as many as have started.

        Args:
            partitions: at most as many as the supervisor began with.

        Returns:
            How many there were.

        Raises:
            ConfigError: for another number.
            StartError: if a partition did not start.
            ServerGoneError: if the supervisor is gone, or ends first.
            DeadlockError: if the supervisor waits for the caller to start.
            Exit: if the process round the current task is being stopped.
        """
        most = len(self._partitions().kids)
        if type(partitions) is not int or not 0 <= partitions <= most:
            raise ConfigError(
                f"partitions={partitions!r} is wrong: it takes an integer from 0 to {most}, "
                "which is how many it began with"
            )
        return cast("int", await self._request(PartitionProcess.resize, partitions))

    def _partitions(self) -> PartitionProcess:
        return cast("PartitionProcess", self._supervisor())


class PartitionKeywords(ChildKeywords, total=False):
    """What ``child_spec`` takes beside the child."""

    strategy: Strategy
    max_restarts: int
    max_seconds: float
    auto_shutdown: Literal["never"]


class PartitionSupervisor(SupervisorBase):
    """A supervisor of several children that are alike, each for a part of the keys.

    For what one process would be too busy with, or would take too much with it when it crashes::

        PartitionSupervisor.child_spec(Store, partitions=4, name="stores")

        stores = supervisor.whereis("stores")
        await stores.partition(user_id).call(request)
    """

    __slots__ = ()

    _checks = PARTITION_CHECKS

    ref_class: ClassVar[type[ServerRef]] = PartitionSupervisorRef

    @classmethod
    def child_spec(
        cls,
        child: ChildLike,
        partitions: int | None = None,
        with_arguments: WithArguments | None = None,
        **overrides: Unpack[PartitionKeywords],
    ) -> ChildSpec:
        """Give the specification of a supervisor of *partitions* times *child*.

        Its id is its name, which it must have; the ids of the partitions count from 0.

        Args:
            child: what a list of children takes; it has no name and is not temporary.
            partitions: how many; ``None`` for as many as there are processors.
            with_arguments: gets the arguments of the child's start as a tuple, and the number of
                the partition; gives the arguments for that one.
            overrides: the *name*, the options of a :class:`Supervisor` and those of any child.

        Raises:
            ChildSpecError: if any of it is wrong.
        """
        options, rest = cls._divide(overrides, where=f"of {cls.__qualname__}.child_spec")
        keywords = {**cls._keywords_of(), **rest}
        name = keywords.get("name")
        if name is None:
            raise ChildSpecError(
                f"name=None is wrong: it takes the name by which a {cls.__qualname__} is found"
            )
        spec = ChildSpec.of(child)
        _check(spec, with_arguments)
        args = (spec, _count(partitions), with_arguments)
        return cls._make_spec(args, options, {"id": name, **rest})

    async def init(
        self, child: ChildSpec, partitions: int, with_arguments: WithArguments | None
    ) -> list[ChildSpec]:
        """Give the partitions."""
        return [_partition(child, number, with_arguments) for number in range(partitions)]


def _count(partitions: object) -> int:
    if partitions is None:
        return os.cpu_count() or 1
    if type(partitions) is not int or partitions < 1:
        raise ChildSpecError(
            f"partitions={partitions!r} is wrong: it takes an integer of 1 or more, or None for "
            "as many as there are processors"
        )
    return partitions


def _check(spec: ChildSpec, with_arguments: object) -> None:
    if spec.name is not None:
        raise ChildSpecError(
            f"name={spec.name!r} is wrong: only one of the partitions could have it"
        )
    if spec.restart == "temporary":
        raise ChildSpecError(
            f"restart='temporary' is wrong (child {spec.id!r}): a partition that ends has to stay"
        )
    if spec.significant:
        raise ChildSpecError(
            f"significant=True (child {spec.id!r}) does not go with auto_shutdown='never'"
        )
    if with_arguments is not None:
        if not callable(with_arguments):
            raise ChildSpecError(
                f"with_arguments={with_arguments!r} is wrong: it takes a function of the arguments "
                "and the number of the partition, or None"
            )
        if not isinstance(spec.start, Start):
            raise ChildSpecError(
                f"with_arguments does not go with a child whose start is a function ({spec.start!r})"
            )


def _partition(spec: ChildSpec, number: int, with_arguments: WithArguments | None) -> ChildSpec:
    spec = ChildSpec.of(spec, id=number)
    if with_arguments is None or not isinstance(spec.start, Start):
        return spec
    args = with_arguments(spec.start.args, number)
    if not isinstance(cast("object", args), tuple | list):
        raise ChildSpecError(f"with_arguments gave {args!r}: it takes a tuple or a list")
    return spec.starting(attrs.evolve(spec.start, args=tuple(args)))


PartitionProcess.serves = PartitionSupervisor
PROCESS_CLASSES["partition"] = PartitionProcess
