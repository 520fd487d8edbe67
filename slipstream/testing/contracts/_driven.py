"""Runs what is the user's step by step: whether it blocks, and what becomes of a cancellation."""

import sys
import time
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Final

import trio

try:
    from resource import RUSAGE_THREAD, getrusage
except ImportError:  # not on Linux

    def _switches() -> int:
        return time.perf_counter_ns()  # as if it did so all the time
else:

    def _switches() -> int:
        return getrusage(RUSAGE_THREAD).ru_nvcsw


__all__ = ["Driven"]

_BLOCKED: Final = 0.008 if sys.platform == "linux" else 0.05
"""Seconds off the processor within one step. Where nobody tells whether it was given up freely, the
machine may have been busy; a time-slice is not that long."""
_PATIENCE: Final = 20
"""So often a callback may swallow its cancellation, until it is let alone."""

_ABANDONED: Final[list[Any]] = []
"""Callbacks that cannot be ended: closed by force they would only complain."""


class _Moment:
    """When a step began, by each clock."""

    __slots__ = ("busy", "given_up", "wall")

    def __init__(self) -> None:
        self.wall = time.perf_counter()
        self.busy = time.thread_time()
        self.given_up = _switches()

    def idle(self) -> float:
        """Give the seconds since then in which the thread was off the processor of its own will."""
        idle = (time.perf_counter() - self.wall) - (time.thread_time() - self.busy)
        return idle if idle >= _BLOCKED and _switches() != self.given_up else 0.0


class Driven(Generator[Any, Any, Any]):
    """Awaits *coroutine* as it is, and tells of what goes wrong within.

    Args:
        coroutine: a callback, or a helper task.
        blocked: is told of seconds in which it blocked, and by what, as far as that is known.
        is_cancelled: tells whether what runs it has been cancelled.
        swallowed: is told that it swallows its cancellation; gives what to raise in its stead.
        stepped: is told after each step that it waits, for the how-manieth time.
        names_calls: whether to find out what it blocks in, which takes time.
    """

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, Any],
        *,
        blocked: Callable[[float, str], None],
        is_cancelled: Callable[[], bool] = bool,
        swallowed: Callable[[], BaseException | None] = lambda: None,
        stepped: Callable[[int], None] | None = None,
        names_calls: bool = False,
    ) -> None:
        self._coroutine = coroutine
        self._blocked = blocked
        self._is_cancelled = is_cancelled
        self._swallowed = swallowed
        self._profile = _Profile() if names_calls else None

        self._stepped = stepped
        self._cancelled = 0
        self._steps = 0

    def __await__(self) -> Generator[Any, Any, Any]:
        return self

    def send(self, value: Any, /) -> Any:
        """Take the next step."""
        if self._is_cancelled() and isinstance(getattr(value, "error", None), trio.Cancelled):
            self._cancelled += 1
        if self._cancelled > _PATIENCE:
            self._cancelled = 0
            _ABANDONED.append(self._coroutine)
            error = self._swallowed()
            if error is not None:
                raise error
        try:
            trap = self._take(self._coroutine.send, value)
        except StopIteration:
            if self._cancelled:
                self._swallowed()
            raise
        self._steps += 1
        if self._stepped is not None:
            self._stepped(self._steps)
        return trap

    def throw(self, *error: Any) -> Any:
        """Take the next step, with an exception."""
        return self._take(self._coroutine.throw, *error)

    def _take(self, step: Callable[..., Any], *args: Any) -> Any:
        began, profile = _Moment(), self._profile
        if profile is not None:
            sys.setprofile(profile)
        try:
            return step(*args)
        finally:
            if profile is not None:
                sys.setprofile(None)
            seconds = began.idle()
            if seconds:
                self._blocked(seconds, profile.slowest if profile is not None else "")


class _Profile:
    """Finds the call into C that takes longest."""

    def __init__(self) -> None:
        self.slowest = ""
        self._longest = _BLOCKED / 2
        self._began: list[float] = []

    def __call__(self, frame: Any, event: str, arg: Any) -> None:
        if frame.f_code.co_filename == __file__:
            return  # that of the whole step
        if event == "c_call":
            self._began.append(time.perf_counter())
        elif event in {"c_return", "c_exception"} and self._began:
            seconds = time.perf_counter() - self._began.pop()
            if seconds > self._longest:
                self._longest = seconds
                module = getattr(arg, "__module__", None)
                name = getattr(arg, "__qualname__", repr(arg))
                where = f"{frame.f_code.co_filename}:{frame.f_lineno}"
                self.slowest = f"{f'{module}.' if module else ''}{name} ({where})"
