"""Reports of crashes, of supervisors and of slow callbacks, through the standard library's logging.

A log record's message is its report as rendered by default; ``record.report`` is the report itself,
which a formatter may render in its own way, as ``record.report.render(single_line=True)``.
"""

import logging
import reprlib
import traceback
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import attrs
from trio.lowlevel import Task

from slipstream.reasons import Crashed, ExitReason

__all__ = [
    "CrashReport",
    "SlowReport",
    "SupervisorReport",
    "explain",
    "join_path",
    "log_report",
    "show",
    "stack_of",
    "state_of",
]

logger = logging.getLogger("slipstream")

OURS: Final = "_slipstream_"
"""What the names of attributes begin with that this library puts into a user's instance."""

_FAILED: Final = "<not to be shown: {} raised {}>"


def state_of(instance: Any) -> dict[str, Any]:
    """Give the attributes of a process's *instance*, which are its state."""
    state: dict[str, Any] = {}
    for cls in type(instance).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if not name.startswith("__"):
                try:
                    state[name] = getattr(instance, name)
                except AttributeError:
                    continue
    state.update(getattr(instance, "__dict__", {}))
    return {name: value for name, value in state.items() if not name.startswith(OURS)}


def show(value: Any, *, depth: int = 4, items: int = 20, chars: int = 400) -> str:
    """Give a ``repr`` that never fails, of some *depth*, *items* a container, and *chars* a value."""
    short = reprlib.Repr()
    short.maxlevel = depth
    short.maxdict = short.maxlist = short.maxtuple = short.maxset = short.maxfrozenset = items
    short.maxdeque = short.maxarray = items
    short.maxstring = short.maxother = short.maxlong = chars
    try:
        return short.repr(value)
    except Exception as error:  # noqa: BLE001 - boundary: a report must not fail by what it shows
        return _FAILED.format("its repr", type(error).__name__)


def explain(reason: object) -> str:
    """Tell in words that never fail why something ended."""
    if not isinstance(reason, Crashed):
        return show(reason)
    try:
        return "".join(traceback.format_exception_only(reason.exception)).strip()
    except Exception as error:  # noqa: BLE001 - boundary: a report must not fail by what it shows
        return _FAILED.format("its exception", type(error).__name__)


def join_path(path: Sequence[str]) -> str:
    """Tell the way to a process, from the root of its tree on."""
    return " > ".join(path)


def stack_of(task: Task) -> list[str]:
    """Tell where *task* waits, the outermost frame first, a line each."""
    return [
        f"{frame.f_code.co_qualname} ({frame.f_code.co_filename}:{line})"
        for frame, line in task.iter_await_frames()
    ]


class Report(Protocol):
    """What a log record carries as ``record.report``."""

    def render(
        self, *, single_line: bool = False, depth: int = 4, items: int = 20, chars: int = 400
    ) -> str:
        """Give it as text, for people."""
        ...


def _lay_out(lines: list[str], *, single_line: bool) -> str:
    if single_line:
        return "; ".join(" ".join(line.split()) for line in lines)
    return "\n  ".join(lines)


@attrs.frozen
class CrashReport:
    """What the log record of a crash carries as ``record.report``.

    The record's message is this as :meth:`render` gives it by default; a formatter may render it
    in another way.

    Attributes:
        process: the name or id of the process.
        path: the same, after those of all the processes above it, from the root on.
        reason: why it ended. This, *message* and *state* are what ``format_status`` gave.
        message: what it had handled last.
        state: the attributes of its instance.
        client: who made the call that it was handling, and where that waits.
        log: what it had kept of its last doings, the oldest first; as ``format_status`` gave it.
    """

    process: str
    path: tuple[str, ...]
    reason: ExitReason | None
    message: Any
    state: Any
    client: str | None = None
    log: tuple[str, ...] = ()

    def render(
        self, *, single_line: bool = False, depth: int = 4, items: int = 20, chars: int = 400
    ) -> str:
        """Give it as text, in a *single_line* or several.

        Args:
            single_line: whether line breaks are replaced.
            depth: how deep into containers it looks.
            items: how many elements of a container it shows.
            chars: how many characters of any one value it shows.
        """
        limits = {"depth": depth, "items": items, "chars": chars}
        lines = [
            f"process {join_path(self.path)} ended: {explain(self.reason)}",
            f"last message: {show(self.message, **limits)}",
            f"state: {show(self.state, **limits)}",
        ]
        if self.client is not None:
            lines.append(f"client: {self.client}")
        if self.log:
            lines.append(f"log, the last {len(self.log)}, the oldest first:")
            lines.extend(f"  {line}" for line in self.log)
        return _lay_out(lines, single_line=single_line)


@attrs.frozen
class SupervisorReport:
    """What the log record of a supervisor's report carries as ``record.report``.

    Attributes:
        supervisor: the name or id of the supervisor.
        path: the same, after those of all the processes above it, from the root on.
        context: OTP's: ``child_terminated``, ``start_error``, ``shutdown_error`` or ``shutdown``;
            ``killing`` for a child that does not end; ``crash`` for the supervisor itself.
        reason: why the child ended.
        offender: describes the child.
        text: what happened, in words.
    """

    supervisor: str
    path: tuple[str, ...]
    context: str
    reason: Any
    offender: Mapping[str, Any]
    text: str

    def render(
        self, *, single_line: bool = False, depth: int = 4, items: int = 20, chars: int = 400
    ) -> str:
        """Give it as text, as :meth:`CrashReport.render` does."""
        path = join_path(self.path) or self.supervisor
        lines = [f"supervisor {path}: {self.text}"]
        if self.offender:
            described = ", ".join(
                f"{key}={show(value, depth=depth, items=items, chars=chars)}"
                for key, value in self.offender.items()
            )
            lines.append(f"{self.context} of {described}")
        return _lay_out(lines, single_line=single_line)


@attrs.frozen
class SlowReport:
    """What the log record of a slow callback carries as ``record.report``.

    Attributes:
        process: the name or id of the process.
        path: the same, after those of all the processes above it, from the root on.
        callback: the name of the callback.
        seconds: for how long it has run.
        slow_after: the limit.
        message: what it handles, as ``format_status`` gave it.
        stack: where it waits, the outermost frame first; ``None`` if it has ended before anybody
            could look, since it blocked the event loop.
    """

    process: str
    path: tuple[str, ...]
    callback: str
    seconds: float
    slow_after: float
    message: Any
    stack: tuple[str, ...] | None

    def render(
        self, *, single_line: bool = False, depth: int = 4, items: int = 20, chars: int = 400
    ) -> str:
        """Give it as text, as :meth:`CrashReport.render` does."""
        how = "ran" if self.stack is None else "has run"
        took = f"{how} for {self.seconds:.3g} s, more than slow_after={self.slow_after:g}"
        lines = [
            f"process {join_path(self.path)}: {self.callback} {took}",
            f"message: {show(self.message, depth=depth, items=items, chars=chars)}",
            *(self.stack or ()),
        ]
        return _lay_out(lines, single_line=single_line)


def log_report(
    report: Report, *, level: int = logging.ERROR, error: BaseException | None = None
) -> None:
    """Log *report*; never fails."""
    try:
        logger.log(level, "%s", report.render(), exc_info=error, extra={"report": report})
    except Exception:  # noqa: BLE001 - boundary: a log handler must not take a process with it
        traceback.print_exc()
