"""Callbacks that run for too long: each is reported once, while it runs if that is possible."""

import logging
from typing import TYPE_CHECKING

import trio

from ._reports import SlowReport, log_report, stack_of
from ._timers import Alarm

if TYPE_CHECKING:
    from ._server_process import ServerProcess

__all__ = ["SlowWatch"]


class SlowWatch:
    """Watches one process, whose callbacks are to take no longer than *limit* seconds.

    It costs one alarm a process, however many callbacks there are: an alarm that rings looks when
    the present callback began, and is set anew for when that one will have been too long.
    """

    __slots__ = ("_alarm", "_limit", "_process", "_reported")

    def __init__(self, process: "ServerProcess", limit: float) -> None:
        self._process = process
        self._limit = limit
        self._alarm: Alarm | None = None
        self._reported = -1.0

    def start(self, now: float) -> None:
        """Watch from *now* on: the process goes to work."""
        if self._alarm is None:
            self._set(now + self._limit)

    def look_back(self, now: float) -> None:
        """Report the callback that has ended *now*, if nothing could ring while it ran."""
        process = self._process
        seconds = now - process.began
        if seconds >= self._limit and self._reported != process.began:
            self._report(seconds, None)

    def stop(self) -> None:
        """Watch no more."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _set(self, deadline: float) -> None:
        self._alarm = self._process.timers.at(deadline, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        process, now = self._process, trio.current_time()
        seconds = now - process.began
        if seconds < 0.0:
            return  # it rests: the next time it works, it starts the watch
        if seconds < self._limit:
            self._set(process.began + self._limit)
            return
        self._reported = process.began
        # Outside of its task nobody else may look at it; here it waits for something, or is due.
        frames = stack_of(process.task) if process.task is not None else []
        ours = [place for place, frame in enumerate(frames) if "ServerProcess._loop " in frame]
        self._report(seconds, tuple(frames[ours[-1] + 1 :] if ours else frames))

    def _report(self, seconds: float, stack: tuple[str, ...] | None) -> None:
        process = self._process
        report = SlowReport(
            process=process.label,
            path=process.path,
            callback=process.kind,
            seconds=seconds,
            slow_after=self._limit,
            message=process.status(None).message,
            stack=stack,
        )
        log_report(report, level=logging.WARNING)
