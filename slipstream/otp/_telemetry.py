"""The telemetry events of supervisors, in one place."""

from typing import Any

from slipstream import telemetry
from slipstream.reasons import ExitReason

__all__ = ["child_event"]


def child_event(what: str, supervisor: str, id: Any, reason: ExitReason | None = None) -> None:  # noqa: A002 - OTP's word
    """Tell that a supervisor's child has started or stopped, or is being restarted: *what*."""
    telemetry.execute(
        f"slipstream.supervisor.child.{what}", supervisor=supervisor, id=id, reason=reason
    )
