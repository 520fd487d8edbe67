"""The exceptions of this library, one tree.

::

    SlipstreamError
    ├── ConfigError                  a configuration value is wrong
    ├── CallbackSignatureError       a callback cannot be called as it is written
    ├── ChildSpecError               a child specification is wrong
    ├── BadReturnError               a callback returned what it may not
    ├── WrongTaskError               called from a task, thread or trio run it may not be called from
    ├── NotJoinedError               a push on a topic that was never asked for
    ├── InboundOverflowError         a wait was given up, since unread messages passed the limit
    ├── ProtocolError
    │   ├── LocalProtocolError       you asked for what the state does not allow
    │   │   └── EncodeError          you gave what the wire cannot carry
    │   └── RemoteProtocolError      they broke the protocol
    │       └── DecodeError          they sent what is no Phoenix message, or not of the type wanted
    ├── LinkError                    ordinary life of a link: ends a callback, never a client
    │   ├── ConnectError             no connection came about
    │   ├── DisconnectedError        there is no connection (any more)
    │   ├── TopicClosedError         the topic is not joined (any more)
    │   ├── JoinError                a join came to nothing
    │   ├── PushTimeoutError         no reply to a push in time
    │   ├── ReplyError               the reply is not "ok", where a typed response was asked for
    │   └── AwaitTimeoutError        what was awaited did not come in time
    ├── ServerGoneError              the process is not there, or ended before it answered
    ├── CallTimeoutError             no answer to a call in time
    ├── DeadlockError                a call that could never be answered
    │   └── CallingSelfError         a process called itself
    ├── StartError                   a process did not start
    │   └── AlreadyStartedError      ... because it runs already
    ├── AlreadyPresentError          the supervisor has a child of that id, not running
    ├── ChildNotFoundError           the supervisor has no child of that id
    ├── ChildRunningError            ... it runs
    ├── ChildRestartingError         ... it waits for its restart
    ├── MaxChildrenError             the supervisor is full
    ├── AlreadyRegisteredError       the key is taken
    ├── NotRegisteredError           the process does not stand under the key
    └── SupervisorGaveUpError        too many restarts in too short a time

Messages are for people; every fact in them is also an attribute.
"""

from typing import Any

from .reasons import DisconnectReason, ExitReason, TopicCloseReason

__all__ = [
    "AlreadyPresentError",
    "AlreadyRegisteredError",
    "AlreadyStartedError",
    "AwaitTimeoutError",
    "BadReturnError",
    "CallTimeoutError",
    "CallbackSignatureError",
    "CallingSelfError",
    "ChildNotFoundError",
    "ChildRestartingError",
    "ChildRunningError",
    "ChildSpecError",
    "ConfigError",
    "ConnectError",
    "DeadlockError",
    "DecodeError",
    "DisconnectedError",
    "EncodeError",
    "InboundOverflowError",
    "JoinError",
    "LinkError",
    "LocalProtocolError",
    "MaxChildrenError",
    "NotJoinedError",
    "NotRegisteredError",
    "ProtocolError",
    "PushTimeoutError",
    "RemoteProtocolError",
    "ReplyError",
    "ServerGoneError",
    "SlipstreamError",
    "StartError",
    "SupervisorGaveUpError",
    "TopicClosedError",
    "WrongTaskError",
]


class SlipstreamError(Exception):
    """Any error of this library."""


class ConfigError(SlipstreamError, ValueError):
    """A configuration value is wrong; the message names the field, the value and what is accepted."""


class CallbackSignatureError(SlipstreamError, TypeError):
    """A callback is misspelled, takes the wrong parameters, or is not ``async``."""


class ChildSpecError(SlipstreamError, ValueError):
    """A child specification or a supervisor's option is wrong, by key and value."""


class BadReturnError(SlipstreamError, TypeError):
    """A callback returned what it may not; *value* is what it was."""

    def __init__(self, message: str, *, value: Any = None) -> None:
        super().__init__(message)
        self.value = value


class WrongTaskError(SlipstreamError, RuntimeError):
    """Something was called from a task, a thread or a trio run that it may not be called from."""


class NotJoinedError(SlipstreamError):
    """A push went to a topic that was never asked for: the program's mistake."""

    def __init__(self, topic: str) -> None:
        super().__init__(f"no join was ever asked for on topic {topic!r}: call socket.join first")
        self.topic = topic


class InboundOverflowError(SlipstreamError):
    """A wait was given up because the messages that lie unread before it passed the limit."""


class ProtocolError(SlipstreamError):
    """The Phoenix protocol, or WebSocket under it, was broken by one side."""


class LocalProtocolError(ProtocolError):
    """The caller asked for something the current state does not allow.

    Nothing was sent and nothing has changed.
    """


class EncodeError(LocalProtocolError):
    """A message cannot be put on the wire; *field* names the part, or the path within a payload."""

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__(message)
        self.field = field


class RemoteProtocolError(ProtocolError):
    """The server broke the protocol; *code* is the close code that answers it."""

    def __init__(self, message: str, *, code: int = 1002) -> None:
        super().__init__(message)
        self.code = code


class DecodeError(RemoteProtocolError):
    """A frame is no Phoenix message, or a payload not of the type that was wanted.

    *path* names the part of the payload that does not fit, such as ``"response.items[2].price"``;
    ``None`` for a frame.
    """

    def __init__(self, message: str, *, path: str | None = None) -> None:
        super().__init__(message, code=1007)
        self.path = path


class LinkError(SlipstreamError):
    """Ordinary life of a link: an outage, a refusal, a time-out.

    One that leaves a client's callback ends that callback only.
    """


class ConnectError(LinkError):
    """No connection came about.

    Attributes:
        step: where it failed: ``"provider"``, ``"uri"``, ``"dns"``, ``"tcp"``, ``"unix"``,
            ``"proxy"``, ``"tls"`` or ``"upgrade"``.
        seconds: how long the attempt had taken.
        status: the HTTP status of the server's refusal (not of a proxy's), else ``None``.
        headers: the refusal's headers, names in lower case.
        body: the beginning of the refusal's body, at most 64 KiB.
        provider: in step ``"provider"`` the one that failed: ``"params"``, ``"headers"``,
            ``"auth_token"`` or ``"params of 'topic'"``.
    """

    def __init__(
        self,
        message: str,
        *,
        step: str,
        seconds: float = 0.0,
        status: int | None = None,
        headers: tuple[tuple[str, str], ...] = (),
        body: bytes = b"",
        provider: str | None = None,
    ) -> None:
        super().__init__(message)
        self.provider = provider
        self.step = step
        self.seconds = seconds
        self.status = status
        self.headers = headers
        self.body = body


class DisconnectedError(LinkError):
    """There is no connection, or it ended first; *reason* says why."""

    def __init__(self, reason: DisconnectReason | None = None, message: str | None = None) -> None:
        super().__init__(message or (f"disconnected: {reason}" if reason else "not connected"))
        self.reason = reason


class TopicClosedError(LinkError):
    """The *topic* is not joined, or stopped being joined; *reason* says why, where it is known."""

    def __init__(self, topic: str, reason: TopicCloseReason | None = None) -> None:
        super().__init__(f"topic {topic!r} is not joined" + (f": {reason}" if reason else ""))
        self.topic = topic
        self.reason = reason


class JoinError(LinkError):
    """A join of *topic* came to nothing; *reason* is a topic-close reason, or ``None`` if it was left."""

    def __init__(self, topic: str, reason: TopicCloseReason | None = None) -> None:
        super().__init__(f"could not join {topic!r}: {reason or 'it was left'}")
        self.topic = topic
        self.reason = reason


class PushTimeoutError(LinkError):
    """No reply to the push of *event* on *topic* within *seconds*."""

    def __init__(self, topic: str, event: str, seconds: float) -> None:
        super().__init__(f"no reply to {event!r} on {topic!r} within {seconds:g} s")
        self.topic = topic
        self.event = event
        self.seconds = seconds


class ReplyError(LinkError):
    """The *reply* to the push of *event* on *topic* is not ``"ok"``, so it has no typed response."""

    def __init__(self, topic: str, event: str, reply: Any) -> None:
        super().__init__(f"{event!r} on {topic!r} was answered with status {reply.status!r}")
        self.topic = topic
        self.event = event
        self.reply = reply


class AwaitTimeoutError(LinkError):
    """What was awaited did not come within *seconds*."""

    def __init__(self, what: str, seconds: float) -> None:
        super().__init__(f"{what} did not come within {seconds:g} s")
        self.what = what
        self.seconds = seconds


class ServerGoneError(SlipstreamError):
    """The process is not there, or ended before it answered; *reason* is its exit reason.

    Where the process crashed, its exception is the cause.
    """

    def __init__(self, server: object, reason: ExitReason) -> None:
        super().__init__(f"{server} is gone: {reason}")
        self.server = server
        self.reason = reason


class CallTimeoutError(SlipstreamError):
    """No answer from *server* to *request* within *timeout* seconds. It may still handle it."""

    def __init__(self, server: object, request: object, timeout: float) -> None:
        super().__init__(f"{server} did not answer {request!r} within {timeout:g} s")
        self.server = server
        self.request = request
        self.timeout = timeout


class DeadlockError(SlipstreamError):
    """A call could never be answered: its server waits, directly or not, for the caller."""


class CallingSelfError(DeadlockError):
    """A process called itself; its own mailbox cannot be served while it waits."""


class StartError(SlipstreamError):
    """A process did not start; *reason* says why, and the cause is its exception, if it had one."""

    def __init__(self, message: str, *, reason: ExitReason) -> None:
        super().__init__(message)
        self.reason = reason


class AlreadyStartedError(StartError):
    """The process runs already, or its name is taken; *ref* is the one that runs."""

    def __init__(self, message: str, *, reason: ExitReason, ref: Any) -> None:
        super().__init__(message, reason=reason)
        self.ref = ref


class _ChildError(SlipstreamError):
    """A request to a supervisor that does not fit the state of the child *id*."""

    _says = ""

    def __init__(self, id: object) -> None:  # noqa: A002 - OTP's word
        super().__init__(f"child {id!r} {self._says}")
        self.id = id


class AlreadyPresentError(_ChildError):
    """The supervisor has a child of that id, which does not run: restart or delete it."""

    _says = "is present, but does not run: restart it, or delete it first"


class ChildNotFoundError(_ChildError):
    """The supervisor has no child of that id."""

    _says = "is not there"


class ChildRunningError(_ChildError):
    """The child runs: terminate it first."""

    _says = "is running: terminate it first"


class ChildRestartingError(_ChildError):
    """The child waits for its restart: terminate it first."""

    _says = "waits for its restart: terminate it first"


class MaxChildrenError(SlipstreamError):
    """The supervisor has as many children as it may."""


class AlreadyRegisteredError(SlipstreamError):
    """The *key* is taken; *ref* is its holder."""

    def __init__(self, key: object, ref: Any) -> None:
        super().__init__(f"key {key!r} is taken by {ref}")
        self.key = key
        self.ref = ref


class NotRegisteredError(SlipstreamError):
    """The process does not stand under *key* in the registry."""

    def __init__(self, key: object) -> None:
        super().__init__(f"the process does not stand under key {key!r}")
        self.key = key


class SupervisorGaveUpError(SlipstreamError):
    """A supervisor gave up: its children failed too often in too short a time.

    The cause is the last child's exception; that of a child that is a supervisor is why it gave up.

    Attributes:
        child: the id of the last child.
        reason: why it ended, or did not start.
        restarts: how many restarts there had been, of any child.
        seconds: within how long.
    """

    def __init__(
        self,
        message: str,
        *,
        child: object = None,
        reason: ExitReason | None = None,
        restarts: int = 0,
        seconds: float = 0.0,
    ) -> None:
        super().__init__(message)
        self.child = child
        self.reason = reason
        self.restarts = restarts
        self.seconds = seconds
