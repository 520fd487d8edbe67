"""A listener that notes, a clock that stands, and virtual time."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import trio
from trio.testing import MockClock


class Heard(list[tuple[str, Mapping[str, Any]]]):
    """A handler that notes what it was told."""

    def __call__(self, event: str, data: Mapping[str, Any], /) -> None:
        self.append((event, data))


class Clock:
    """A clock that goes on when told to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def virtual(scenario: Callable[[], Awaitable[None]]) -> None:
    """Run *scenario* in virtual time."""

    async def bounded() -> None:
        with trio.fail_after(100_000.0):
            await scenario()

    trio.run(bounded, clock=MockClock(autojump_threshold=0))
