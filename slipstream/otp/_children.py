"""A supervisor's view of its children."""

import enum
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, NamedTuple, TypeAlias, TypedDict

import attrs

from slipstream.errors import ChildSpecError
from slipstream.reasons import KILLED, NOPROC, RESTARTING, SHUTDOWN, ExitReason

from ._child_spec import ChildSpec, ChildType, Restart, Start, check_keys, one_of
from ._names import Name
from ._ref import ServerRef
from ._results import check_duration
from ._shell import Phase, Shell
from ._timers import Alarm

__all__ = [
    "SUPERVISOR_CHECKS",
    "AutoShutdown",
    "Child",
    "ChildCounts",
    "ChildInfo",
    "ChildStatus",
    "Flags",
    "Strategy",
    "SupervisorKeywords",
    "check_children",
    "check_significant",
    "check_supervisor_keys",
    "flags_of",
    "is_restart_due",
    "is_stop_fine",
]

Strategy: TypeAlias = Literal["one_for_one", "one_for_all", "rest_for_one"]
AutoShutdown: TypeAlias = Literal["never", "any_significant", "all_significant"]


class SupervisorKeywords(TypedDict, total=False):
    """The options of a supervisor."""

    strategy: Strategy
    max_restarts: int
    max_seconds: float
    auto_shutdown: AutoShutdown


@attrs.frozen
class Flags:
    """The options of a supervisor, checked."""

    strategy: Strategy = "one_for_one"
    max_restarts: int = 3
    max_seconds: float = 5.0
    auto_shutdown: AutoShutdown = "never"


def _max_restarts(key: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ChildSpecError(f"{key}={value!r} is wrong: it takes an integer of 0 or more")
    return value


def _max_seconds(key: str, value: object) -> float:
    accepted = "seconds as a number above 0, or math.inf"
    seconds = check_duration(key, value, error=ChildSpecError, accepted=accepted)
    if seconds == 0.0:
        raise ChildSpecError(f"{key}={value!r} is wrong: it takes {accepted}")
    return seconds


SUPERVISOR_CHECKS: Final[Mapping[str, Callable[[str, object], object]]] = {
    "strategy": one_of("one_for_one", "one_for_all", "rest_for_one"),
    "max_restarts": _max_restarts,
    "max_seconds": _max_seconds,
    "auto_shutdown": one_of("never", "any_significant", "all_significant"),
}


def flags_of(options: Mapping[str, Any], *, where: str = "of a supervisor") -> Flags:
    """Check the *options* of a supervisor.

    Raises:
        ChildSpecError: for an unknown one or a wrong value.
    """
    return Flags(**check_keys(options, SUPERVISOR_CHECKS, where=where))


def check_supervisor_keys(given: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """Check some *given* options of a supervisor.

    Raises:
        ChildSpecError: for an unknown one or a wrong value.
    """
    return check_keys(given, SUPERVISOR_CHECKS, where=where)


class ChildStatus(enum.StrEnum):
    """How a child is."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    RESTARTING = "restarting"
    DOWN = "down"


@attrs.frozen
class ChildInfo:
    """One child of a supervisor, as ``which_children`` tells.

    *ref* is ``None`` unless the child is alive.
    """

    id: Any
    ref: ServerRef | None
    status: ChildStatus
    type: ChildType
    restart: Restart


class ChildCounts(NamedTuple):
    """How many children a supervisor has: all, those alive, and all by type."""

    specs: int
    active: int
    supervisors: int
    workers: int


class Child:
    """A child over its incarnations; what its address leads to.

    Attributes:
        process: the incarnation that is there, if one is.
        restarting: whether its restart is due, and not done.
        awaited: whether a group restart has yet to start it.
        restarts: how often it was restarted since it last lived ``max_seconds``.
        started_at: when the last incarnation had started.
        starts: how many incarnations have started.
        cause: the exception that the last one ended with, if it was one.
    """

    __slots__ = (
        "__weakref__",
        "alarm",
        "awaited",
        "being_stopped",
        "cause",
        "dropped",
        "gone",
        "last",
        "process",
        "restarting",
        "restarts",
        "spec",
        "started_at",
        "starts",
        "thread",
        "ticket",
    )

    def __init__(self, spec: ChildSpec, *, thread: int) -> None:
        self.spec = spec
        self.thread = thread
        self.process: Shell | None = None
        self.restarting = False
        self.awaited = False
        self.being_stopped = False
        self.gone = False
        self.restarts = 0
        self.started_at: float | None = None
        self.starts = 0
        self.cause: BaseException | None = None
        self.alarm: Alarm | None = None
        self.ticket = 0
        self.last: ExitReason = NOPROC
        self.dropped = 0

    @property
    def id(self) -> Any:
        """What its supervisor's calls name it by."""
        return self.spec.id

    @property
    def label(self) -> str:
        """What reports call it."""
        return self.spec.label

    @property
    def name(self) -> Name | None:
        """Its name in the tree."""
        return self.spec.name

    def live(self) -> Shell | None:
        """Give the process that lives now."""
        process = self.process  # not by its own ``live``: every message comes this way
        return None if process is None or process.phase is Phase.DEAD else process

    def absence(self) -> ExitReason:
        """Tell why there is none."""
        return RESTARTING if not self.gone and (self.restarting or self.awaited) else NOPROC

    def last_reason(self) -> ExitReason:
        """Tell how the last one ended."""
        if self.process is not None and self.process.exit_reason is not None:
            return self.process.exit_reason
        return self.last

    @property
    def ref(self) -> ServerRef:
        """Its address."""
        if self.process is not None:
            ref: ServerRef = self.process.make_ref()
            return ref
        start = self.spec.start
        cls: type[ServerRef] = ServerRef
        if isinstance(start, Start):
            cls = getattr(start.cls, "ref_class", ServerRef)
        return cls(self)

    @property
    def status(self) -> ChildStatus:
        """How it is."""
        process = self.live()
        if process is None:
            return ChildStatus.RESTARTING if self.restarting else ChildStatus.DOWN
        if process.stopping:
            return ChildStatus.STOPPING
        return ChildStatus.STARTING if process.phase is Phase.STARTING else ChildStatus.RUNNING

    def info(self) -> ChildInfo:
        """Describe it."""
        spec, status = self.spec, self.status
        alive = status in {ChildStatus.RUNNING, ChildStatus.STOPPING}
        return ChildInfo(self.id, self.ref if alive else None, status, spec.type, spec.restart)

    def settle(self) -> None:
        """Forget a restart that was due: it has been done, or will not be."""
        self.restarting = self.awaited = False
        self.disarm()

    def disarm(self) -> None:
        """Have no restart come by itself any more: it is being done, or will not be."""
        self.ticket += 1
        if self.alarm is not None:
            self.alarm.cancel()
            self.alarm = None

    def offender(self) -> dict[str, Any]:
        """Describe it for a report."""
        spec = self.spec
        return {
            "id": spec.id,
            "name": spec.name,
            "ref": self.ref,
            "restart": spec.restart,
            "shutdown": spec.shutdown,
            "type": spec.type,
        }


def check_children(specs: list[ChildSpec], flags: Flags) -> None:
    """Check that *specs* go together, and with the supervisor's *flags*.

    Raises:
        ChildSpecError: if they do not.
    """
    seen: set[Any] = set()
    for spec in specs:
        if spec.id in seen:
            raise ChildSpecError(
                f"two children have the id {spec.id!r}: give one of them another, "
                "as with child_spec(..., id=...)"
            )
        seen.add(spec.id)
        check_significant(spec, flags)


def check_significant(spec: ChildSpec, flags: Flags) -> None:
    """Check that *spec* is not significant to a supervisor that does not mind.

    Raises:
        ChildSpecError: if it is.
    """
    if spec.significant and flags.auto_shutdown == "never":
        raise ChildSpecError(
            f"significant=True (child {spec.id!r}) does not go with auto_shutdown='never'"
        )


def is_restart_due(restart: Restart, reason: ExitReason) -> bool:
    """Tell whether a child that ended by itself for *reason* is to be restarted."""
    match restart:
        case "permanent":
            return True
        case "transient":
            return reason.abnormal
        case "temporary":
            return False


def is_stop_fine(spec: ChildSpec, reason: ExitReason) -> bool:
    """Tell whether *reason* is what a child ends with that its supervisor has stopped.

    ``SHUTDOWN`` always is. A child that is not permanent may also have been on its way out.
    """
    if spec.shutdown == "brutal_kill":
        if reason == KILLED:
            return True
    elif reason == SHUTDOWN:
        return True
    return spec.restart != "permanent" and not reason.abnormal
