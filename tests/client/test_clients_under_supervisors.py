"""The supervisors that make arguments for their children make those of a client, too."""

from typing import Any

import pytest

from slipstream import (
    DynamicSupervisor,
    PartitionSupervisor,
    SlipstreamClient,
    Socket,
    StartError,
    open_supervisor,
)
from tests.otp.support import run_virtually


class Noting(SlipstreamClient):
    """Notes what its ``init`` gets, and connects to nothing."""

    given: list[Any] = []  # noqa: RUF012 - emptied by each test

    async def init(self, argument: Any, socket: Socket, /) -> None:
        """Note it."""
        self.given.append(argument)


@pytest.fixture
def given() -> list[Any]:
    Noting.given = []
    return Noting.given


@pytest.mark.parametrize("argument", [(), ("own",)])
def test_arguments_by_partition_are_those_of_init(
    argument: tuple[str, ...], given: list[Any]
) -> None:
    """The class of the client is none of them."""
    asked: list[tuple[Any, ...]] = []

    def with_arguments(arguments: tuple[Any, ...], number: int) -> list[Any]:
        asked.append(arguments)
        return [number]

    async def scenario() -> None:
        child = Noting.child_spec(*argument)
        spec = PartitionSupervisor.child_spec(child, 3, with_arguments, name="parts")
        async with open_supervisor([spec]):
            assert asked == [argument] * 3
            assert given == [0, 1, 2]

    run_virtually(scenario)


def test_an_extra_argument_is_that_of_init(given: list[Any]) -> None:
    async def scenario() -> None:
        clients = DynamicSupervisor.child_spec(name="clients", extra_arguments=["all alike"])
        async with open_supervisor([clients]) as supervisor:
            ref: Any = supervisor.whereis("clients")
            await ref.start_child(Noting)
            with pytest.raises(StartError, match="positional argument"):
                await ref.start_child((Noting, "one too many"))
        assert given == ["all alike"]

    run_virtually(scenario)
