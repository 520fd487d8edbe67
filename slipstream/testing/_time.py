"""How time passes in a test: on a virtual clock at once, on a real one as it does."""

import math
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeVar

import trio

from slipstream.errors import WrongTaskError

if TYPE_CHECKING:
    from trio.testing import MockClock

__all__ = [
    "Patience",
    "advance",
    "check_virtual",
    "set_off_clock",
    "settle",
    "time_passing",
    "wait_found",
    "wait_until",
]


T = TypeVar("T")

# trio.testing imports pytest, if it is there; who only wants the embedded server does not need it.


async def settle() -> None:
    """Let everything happen that can happen now."""
    from trio.testing import wait_all_tasks_blocked  # noqa: PLC0415 - see above

    await wait_all_tasks_blocked()


def _virtual_clock() -> "MockClock | None":
    from trio.testing import MockClock  # noqa: PLC0415 - see above

    clock = trio.lowlevel.current_clock()
    return clock if isinstance(clock, MockClock) else None


def _stands_still(clock: "MockClock | None") -> bool:
    return clock is not None and clock.autojump_threshold == math.inf


def set_off_clock() -> None:
    """Let a virtual clock that stands still jump from here on: a test is over, its end takes time."""
    clock = _virtual_clock()
    if clock is not None and _stands_still(clock):
        clock.autojump_threshold = 0.0


@contextmanager
def time_passing() -> Generator[None]:
    """Let a virtual clock that stands still jump while the block waits for something."""
    clock = _virtual_clock()
    stands_still = _stands_still(clock)
    if clock is not None and stands_still:
        clock.autojump_threshold = 0.0
    try:
        yield
    finally:
        if clock is not None and stands_still:
            clock.autojump_threshold = math.inf


class Patience:
    """A limit to how much virtual time may pass while a test waits for something of its own.

    Where it is all that is left to happen, the test would wait for ever: virtual time jumps to it.

    Attributes:
        scope: what is cancelled then.
    """

    LIMIT: Final = 100_000.0

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self._begin()

    @contextmanager
    def suspended(self) -> Generator[None]:
        """Leave out what the kit waits for, which has limits of its own; then it begins anew."""
        self.scope.deadline = math.inf
        try:
            yield
        finally:
            self._begin()

    def _begin(self) -> None:
        virtual = _virtual_clock() is not None
        self.scope.deadline = trio.current_time() + self.LIMIT if virtual else math.inf


def check_virtual(what: str) -> "MockClock":
    """Give the virtual clock that is needed for *what*.

    Raises:
        WrongTaskError: on a real clock, where it would take as long.
    """
    clock = _virtual_clock()
    if clock is None:
        raise WrongTaskError(
            f"{what}, time has to pass, and cannot be skipped on a real clock: run the test on a "
            "virtual one, by the fixture socket_test or pytest-trio's autojump_clock, or by "
            "trio.run(…, clock=trio.testing.MockClock())"
        )
    return clock


async def advance(seconds: float) -> None:
    """Let *seconds* of virtual time pass, with everything that is due meanwhile, in order.

    Raises:
        WrongTaskError: on a real clock, where it would take as long.
    """
    clock = check_virtual(f"to advance by {seconds:g} s")
    await settle()
    if _stands_still(clock):
        await _jump(clock, trio.current_time() + seconds, lambda: False)
        return
    await trio.sleep(seconds)
    await settle()


async def wait_until(changed: trio.Event, deadline: float) -> None:
    """Wait until *changed* is set or the *deadline* has passed, on whatever clock there is."""
    clock = _virtual_clock()
    if clock is not None and _stands_still(clock):
        await settle()
        await _jump(clock, deadline, changed.is_set)
        return
    with trio.CancelScope(deadline=deadline):
        await changed.wait()


async def wait_found(find: Callable[[], T | None], within: float) -> T | None:
    """Wait until *find* gives something, and give it; ``None`` after *within* seconds.

    It is asked whenever everything has happened that can happen now, and at last at the deadline.
    """
    deadline = trio.current_time() + within
    clock, pause = _virtual_clock(), 0.001
    while True:
        await settle()
        found = find()
        now = trio.current_time()
        if found is not None or now >= deadline:
            return found
        if clock is None:
            await trio.sleep(min(pause, deadline - now))
            pause = min(2 * pause, 0.1)
        else:
            _go_on(clock, deadline)


def _go_on(clock: "MockClock", end: float) -> None:
    """Let time pass until something is due, and not beyond *end*."""
    now = trio.current_time()
    due = trio.lowlevel.current_statistics().seconds_to_next_deadline
    # Never short of the end by what floats lose.
    clock.jump(due if now + due < end else end - now)


async def _jump(clock: "MockClock", end: float, enough: Callable[[], bool]) -> None:
    while not enough() and trio.current_time() < end:
        _go_on(clock, end)
        await settle()
