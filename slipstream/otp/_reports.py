"""Crash reports and supervisor reports, through the standard library's logging."""

import logging
import reprlib
import traceback
from collections.abc import Mapping
from typing import Any, Final

import attrs

from slipstream.reasons import Crashed, ExitReason

__all__ = ["CrashReport", "SupervisorReport", "report_crash", "report_supervisor", "state_of"]

logger = logging.getLogger("slipstream")

_repr = reprlib.Repr()
_repr.maxdict = _repr.maxlist = _repr.maxtuple = _repr.maxset = 20
_repr.maxstring = _repr.maxother = 400
_repr.maxlevel = 4
_FAILED: Final = "<not to be shown: {} raised {!r}>"


@attrs.frozen
class CrashReport:
    """What the log record of a crash carries as ``record.report``."""

    process: str
    reason: ExitReason
    message: Any
    state: Any
    client: str | None


@attrs.frozen
class SupervisorReport:
    """What the log record of a supervisor's report carries as ``record.report``.

    *context* is OTP's: ``child_terminated``, ``start_error``, ``shutdown_error``, ``shutdown`` or
    ``killing``; *offender* describes the child.
    """

    supervisor: str
    context: str
    reason: Any
    offender: Mapping[str, Any]


def state_of(instance: Any) -> dict[str, Any]:
    """Give the attributes of a process's *instance*, which are its state."""
    state: dict[str, Any] = {}
    for cls in type(instance).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if not name.startswith("__") and name != "_slipstream_process":
                try:
                    state[name] = getattr(instance, name)
                except AttributeError:
                    continue
    state.update(getattr(instance, "__dict__", {}))
    return state


def show(value: Any) -> str:
    """Give a short ``repr`` that never fails."""
    try:
        return _repr.repr(value)
    except Exception as error:  # noqa: BLE001 - boundary: a report must not fail by what it shows
        return _FAILED.format("its repr", type(error).__name__)


def report_crash(report: CrashReport, error: BaseException | None) -> None:
    """Log that a process ended by a crash."""
    lines = [
        f"process {report.process} ended: {_why(report.reason)}",
        f"last message: {show(report.message)}",
        f"state: {show(report.state)}",
    ]
    if report.client is not None:
        lines.append(f"client: {report.client}")
    _log(logging.ERROR, "\n  ".join(lines), report, error)


def report_supervisor(
    report: SupervisorReport,
    text: str,
    *,
    level: int = logging.ERROR,
    error: BaseException | None = None,
) -> None:
    """Log what a supervisor has to say of a child."""
    _log(level, f"supervisor {report.supervisor}: {text}", report, error)


def _log(level: int, text: str, report: object, error: BaseException | None) -> None:
    try:
        logger.log(level, "%s", text, exc_info=error, extra={"report": report})
    except Exception:  # noqa: BLE001 - boundary: a log handler must not take a process with it
        traceback.print_exc()


def _why(reason: ExitReason) -> str:
    if isinstance(reason, Crashed):
        return "".join(traceback.format_exception_only(reason.exception)).strip()
    return str(reason)
