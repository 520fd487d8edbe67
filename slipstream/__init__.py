"""Supervised Phoenix channel clients on trio.

This is what an application imports. Processes alone are in :mod:`slipstream.otp`, the protocol
without I/O in :mod:`slipstream.protocol`, an embedded server for tests in
:mod:`slipstream.testing`, events to observe in :mod:`slipstream.telemetry`.
"""

from .client import (
    ANY as ANY,
    ClientRef as ClientRef,
    Health as Health,
    SlipstreamClient as SlipstreamClient,
    Socket as Socket,
    on_message as on_message,
    open_socket as open_socket,
)
from .config import (
    Between as Between,
    Config as Config,
    Grow as Grow,
    ReconnectPolicy as ReconnectPolicy,
    Refresh as Refresh,
    RejoinPolicy as RejoinPolicy,
    RetryAfter as RetryAfter,
    coalesce as coalesce,
)
from .errors import *  # noqa: F403 - the whole tree, as its __all__ says
from .interfaces import (
    Fatal as Fatal,
    Hold as Hold,
    JoinContext as JoinContext,
    Message as Message,
    PerMessageDeflate as PerMessageDeflate,
    Retry as Retry,
    Verdict as Verdict,
)
from .otp import (
    Backoff as Backoff,
    Caller as Caller,
    ChildSpec as ChildSpec,
    Down as Down,
    DynamicSupervisor as DynamicSupervisor,
    Exit as Exit,
    Exited as Exited,
    GenServer as GenServer,
    Ignore as Ignore,
    NoReply as NoReply,
    PartitionSupervisor as PartitionSupervisor,
    Pending as Pending,
    Registry as Registry,
    Reply as Reply,
    Request as Request,
    ServerRef as ServerRef,
    Stop as Stop,
    Supervisor as Supervisor,
    SupervisorRef as SupervisorRef,
    TaskSupervisor as TaskSupervisor,
    Timeout as Timeout,
    Via as Via,
    format_tree as format_tree,
    open_server as open_server,
    open_supervisor as open_supervisor,
    run as run,
)
from .presence import (
    Presence as Presence,
    PresenceDiff as PresenceDiff,
    PresenceJoin as PresenceJoin,
    PresenceLeave as PresenceLeave,
    PresenceState as PresenceState,
    PresenceUpdate as PresenceUpdate,
)
from .protocol import ChannelReply as ChannelReply
from .reasons import *  # noqa: F403 - all reasons, as its __all__ says

__version__ = "0.1.0"
