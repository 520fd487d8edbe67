"""Processes and supervision after Erlang/OTP, on trio.

A process handles one message after the other (:class:`GenServer`); a :class:`Supervisor` starts
processes, and starts them again when they crash. This package knows nothing of Phoenix.
"""

from slipstream.errors import (
    AlreadyPresentError,
    AlreadyRegisteredError,
    AlreadyStartedError,
    AwaitTimeoutError,
    BadReturnError,
    CallbackSignatureError,
    CallingSelfError,
    CallTimeoutError,
    ChildNotFoundError,
    ChildRestartingError,
    ChildRunningError,
    ChildSpecError,
    DeadlockError,
    MaxChildrenError,
    NotRegisteredError,
    ServerGoneError,
    StartError,
    SupervisorGaveUpError,
    WrongTaskError,
)
from slipstream.reasons import (
    KILLED,
    NOPROC,
    NORMAL,
    RESTARTING,
    SHUTDOWN,
    Crashed,
    ExitReason,
    Shutdown,
)

from . import sys as sys  # not in __all__: a star import must not hide the standard one
from ._backoff import Backoff
from ._blocks import open_server, open_supervisor
from ._calls import Caller, Pending
from ._child_spec import (
    ChildDefaults,
    ChildKeywords,
    ChildLike,
    ChildSpec,
    Start,
    child_keywords,
    start_of,
)
from ._children import ChildCounts, ChildInfo, ChildStatus
from ._dynamic_supervisor import DynamicSupervisor, DynamicSupervisorRef
from ._format_tree import format_tree
from ._gen_server import GenServer
from ._mailbox import Mailbox, Timer
from ._names import Name, Via
from ._partition_supervisor import PartitionSupervisor, PartitionSupervisorRef
from ._ref import ServerRef, ServerStatistics, process_of, target_of
from ._registry import Registry
from ._registry_ref import Entry, Registration, RegistryRef
from ._reports import CrashReport, SlowReport, SupervisorReport
from ._results import (
    Down,
    Exit,
    Exited,
    FailedToStart,
    Ignore,
    NoReply,
    Reply,
    Request,
    Status,
    Stop,
    StopCause,
    Timeout,
)
from ._run import run
from ._shell import Monitor
from ._signatures import check_callbacks
from ._supervisor import Supervisor, SupervisorRef
from ._table import Registered, Unregistered
from ._task import Task
from ._task_stream import TaskResult, TaskStream
from ._task_supervisor import TaskSupervisor, TaskSupervisorRef
from ._waits import current_process, wait_event

__all__ = [
    "KILLED",
    "NOPROC",
    "NORMAL",
    "RESTARTING",
    "SHUTDOWN",
    "AlreadyPresentError",
    "AlreadyRegisteredError",
    "AlreadyStartedError",
    "AwaitTimeoutError",
    "Backoff",
    "BadReturnError",
    "CallTimeoutError",
    "CallbackSignatureError",
    "Caller",
    "CallingSelfError",
    "ChildCounts",
    "ChildDefaults",
    "ChildInfo",
    "ChildKeywords",
    "ChildLike",
    "ChildNotFoundError",
    "ChildRestartingError",
    "ChildRunningError",
    "ChildSpec",
    "ChildSpecError",
    "ChildStatus",
    "CrashReport",
    "Crashed",
    "DeadlockError",
    "Down",
    "DynamicSupervisor",
    "DynamicSupervisorRef",
    "Entry",
    "Exit",
    "ExitReason",
    "Exited",
    "FailedToStart",
    "GenServer",
    "Ignore",
    "Mailbox",
    "MaxChildrenError",
    "Monitor",
    "Name",
    "NoReply",
    "NotRegisteredError",
    "PartitionSupervisor",
    "PartitionSupervisorRef",
    "Pending",
    "Registered",
    "Registration",
    "Registry",
    "RegistryRef",
    "Reply",
    "Request",
    "ServerGoneError",
    "ServerRef",
    "ServerStatistics",
    "Shutdown",
    "SlowReport",
    "Start",
    "StartError",
    "Status",
    "Stop",
    "StopCause",
    "Supervisor",
    "SupervisorGaveUpError",
    "SupervisorRef",
    "SupervisorReport",
    "Task",
    "TaskResult",
    "TaskStream",
    "TaskSupervisor",
    "TaskSupervisorRef",
    "Timeout",
    "Timer",
    "Unregistered",
    "Via",
    "WrongTaskError",
    "check_callbacks",
    "child_keywords",
    "current_process",
    "format_tree",
    "open_server",
    "open_supervisor",
    "process_of",
    "run",
    "start_of",
    "target_of",
    "wait_event",
]
