"""Processes and supervision after Erlang/OTP, on trio.

A process handles one message after the other (:class:`GenServer`); a :class:`Supervisor` starts
processes, and starts them again when they crash. This package knows nothing of Phoenix.
"""

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
from ._gen_server import GenServer
from ._mailbox import Mailbox, Timer
from ._partition_supervisor import PartitionSupervisor, PartitionSupervisorRef
from ._ref import ServerRef, ServerStatistics, process_of
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
    "Caller",
    "ChildCounts",
    "ChildDefaults",
    "ChildInfo",
    "ChildKeywords",
    "ChildLike",
    "ChildSpec",
    "ChildStatus",
    "Crashed",
    "Down",
    "DynamicSupervisor",
    "DynamicSupervisorRef",
    "Exit",
    "ExitReason",
    "Exited",
    "FailedToStart",
    "GenServer",
    "Ignore",
    "Mailbox",
    "Monitor",
    "NoReply",
    "PartitionSupervisor",
    "PartitionSupervisorRef",
    "Pending",
    "Reply",
    "Request",
    "ServerRef",
    "ServerStatistics",
    "Shutdown",
    "Start",
    "Status",
    "Stop",
    "StopCause",
    "Supervisor",
    "SupervisorRef",
    "Task",
    "TaskResult",
    "TaskStream",
    "TaskSupervisor",
    "TaskSupervisorRef",
    "Timeout",
    "Timer",
    "check_callbacks",
    "child_keywords",
    "current_process",
    "open_server",
    "open_supervisor",
    "process_of",
    "run",
    "start_of",
    "wait_event",
]
