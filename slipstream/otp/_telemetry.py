"""The telemetry events of supervisors, in one place."""

from typing import TYPE_CHECKING, Any, Final, Literal

from slipstream import telemetry
from slipstream.reasons import ExitReason

if TYPE_CHECKING:
    from ._shell import Shell

__all__ = ["child_event"]

EVENTS: Final = {
    what: f"slipstream.supervisor.child.{what}" for what in ("start", "stop", "restart")
}


def child_event(
    what: Literal["start", "stop", "restart"],
    supervisor: "Shell",
    id: Any,  # noqa: A002 - OTP's word
    reason: ExitReason | None = None,
) -> None:
    """Tell that a child of *supervisor* has started or stopped, or is being restarted: *what*."""
    event = EVENTS[what]
    if telemetry.attached(event):
        telemetry.execute(event, supervisor=supervisor.label, id=id, reason=reason)
