"""Why things ended is a value, whose fault it was is a type, and every fact is an attribute."""

import inspect
from typing import Any

import attrs
import pytest

import slipstream
from slipstream import errors, reasons
from slipstream.errors import (
    AlreadyPresentError,
    AlreadyRegisteredError,
    AlreadyStartedError,
    AwaitTimeoutError,
    BadReturnError,
    CallingSelfError,
    CallTimeoutError,
    ChildNotFoundError,
    ChildRestartingError,
    ChildRunningError,
    ConfigError,
    ConnectError,
    DeadlockError,
    DecodeError,
    DisconnectedError,
    EncodeError,
    JoinError,
    LinkError,
    LocalProtocolError,
    NotJoinedError,
    PushTimeoutError,
    RemoteProtocolError,
    ReplyError,
    ServerGoneError,
    SlipstreamError,
    StartError,
    SupervisorGaveUpError,
    TopicClosedError,
    WrongTaskError,
)
from slipstream.protocol import ChannelReply
from slipstream.reasons import (
    KILLED,
    NOPROC,
    NORMAL,
    RESTARTING,
    SHUTDOWN,
    ChannelClosed,
    ChannelCrashed,
    ClosedByClient,
    ClosedByServer,
    ConnectFailed,
    ConnectionCrashed,
    ConnectionLost,
    ConsumerTooSlow,
    Crashed,
    DisconnectReason,
    ExitReason,
    HeartbeatTimeout,
    JoinRefused,
    JoinTimedOut,
    PushFailure,
    PushTimedOut,
    Shutdown,
    TopicCloseReason,
    TopicGone,
    TransportFailed,
)

# Reasons


@pytest.mark.parametrize(
    ("reason", "abnormal"),
    [
        (NORMAL, False),
        (SHUTDOWN, False),
        (Shutdown("detail"), False),
        (KILLED, True),
        (NOPROC, True),
        (RESTARTING, True),
        (Crashed(ValueError()), True),
    ],
)
def test_all_but_normal_and_shutdown_is_abnormal(reason: ExitReason, abnormal: bool) -> None:
    assert reason.abnormal is abnormal


def test_reasons_are_equal_by_value() -> None:
    error = ValueError()
    assert Shutdown() == SHUTDOWN
    assert Shutdown(1) == Shutdown(1) != Shutdown(2)
    assert Crashed(error) == Crashed(error) != Crashed(ValueError())
    assert ClosedByServer(1000) == ClosedByServer(1000, "") != ClosedByServer(1001)
    assert ConnectionLost(written=True) != ConnectionLost(written=False)
    assert JoinRefused({"reason": "no"}) == JoinRefused({"reason": "no"})
    assert PushTimedOut() == PushTimedOut()
    assert len({ClosedByClient(), ClosedByClient(), HeartbeatTimeout()}) == 2


FAMILIES: list[tuple[type[Any], list[Any]]] = [
    (
        DisconnectReason,
        [
            ClosedByClient(),
            ClosedByServer(1012, "restart"),
            HeartbeatTimeout(),
            ConnectFailed(ConnectError("no", step="tcp")),
            TransportFailed(OSError("cut")),
            ConsumerTooSlow(20.0),
            ConnectionCrashed(ValueError("bug")),
        ],
    ),
    (
        TopicCloseReason,
        [JoinRefused({}), JoinTimedOut(), ChannelCrashed({}), ChannelClosed()],
    ),
    (PushFailure, [PushTimedOut(), ConnectionLost(written=True), TopicGone()]),
    (ExitReason, [NORMAL, SHUTDOWN, KILLED, NOPROC, RESTARTING, Crashed(ValueError())]),
]


@pytest.mark.parametrize(("family", "members"), FAMILIES)
def test_a_family_of_reasons_is_closed_and_frozen(family: type[Any], members: list[Any]) -> None:
    for reason in members:
        assert isinstance(reason, family)
        for field in attrs.fields(type(reason)):
            with pytest.raises(attrs.exceptions.FrozenInstanceError):
                setattr(reason, field.name, None)
        assert type(reason).__name__ in repr(reason)
    others = {other for other, _ in FAMILIES} - {family}
    assert not any(isinstance(reason, tuple(others)) for reason in members)


def test_a_refusal_holds_what_the_server_answered() -> None:
    """Row 17."""
    headers = (("retry-after", "5"),)
    error = ConnectError("no", step="upgrade", status=429, headers=headers, body=b"later")
    failed = ConnectFailed(error, error.status, error.headers, error.body)
    assert (failed.status, failed.headers, failed.body) == (429, headers, b"later")
    bare = ConnectFailed(OSError())
    assert (bare.status, bare.headers, bare.body) == (None, (), b"")


# Errors


def test_everything_is_caught_by_one_name() -> None:
    for name in errors.__all__:
        assert issubclass(getattr(errors, name), SlipstreamError), name
        assert name.endswith("Error")


def test_ordinary_life_of_a_link_is_a_family_and_nothing_else_is() -> None:
    """Design section 4: these end a callback, never a client."""
    family = {
        name
        for name in errors.__all__
        if issubclass(getattr(errors, name), LinkError) and name != "LinkError"
    }
    assert family == {
        "ConnectError",
        "DisconnectedError",
        "TopicClosedError",
        "JoinError",
        "PushTimeoutError",
        "ReplyError",
        "AwaitTimeoutError",
    }


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (ConfigError, ValueError),
        (errors.ChildSpecError, ValueError),
        (errors.CallbackSignatureError, TypeError),
        (BadReturnError, TypeError),
        (WrongTaskError, RuntimeError),
    ],
)
def test_a_wrong_use_is_also_what_python_would_raise(
    error: type[Exception], builtin: type[Exception]
) -> None:
    assert issubclass(error, builtin)


def test_whose_fault_it_is_stands_in_the_type() -> None:
    assert issubclass(EncodeError, LocalProtocolError)
    assert issubclass(DecodeError, RemoteProtocolError)
    assert not issubclass(LocalProtocolError, RemoteProtocolError)
    assert not issubclass(RemoteProtocolError, LocalProtocolError)
    assert issubclass(CallingSelfError, DeadlockError)
    assert issubclass(AlreadyStartedError, StartError)


def test_a_link_error_is_no_protocol_error() -> None:
    assert not issubclass(LinkError, errors.ProtocolError)


@pytest.mark.parametrize(
    ("error", "facts", "says"),
    [
        (NotJoinedError("t"), {"topic": "t"}, "'t'.*socket.join"),
        (EncodeError("bad", field="payload.a"), {"field": "payload.a"}, "bad"),
        (RemoteProtocolError("bad"), {"code": 1002}, "bad"),
        (RemoteProtocolError("big", code=1009), {"code": 1009}, "big"),
        (DecodeError("bad"), {"code": 1007, "path": None}, "bad"),
        (DecodeError("bad", path="response.a"), {"code": 1007, "path": "response.a"}, "bad"),
        (
            ReplyError("t", "e", ChannelReply("error", {})),
            {"topic": "t", "event": "e", "reply": ChannelReply("error", {})},
            "'e' on 't' .* 'error'",
        ),
        (
            ConnectError("no", step="tls", seconds=1.5),
            {"step": "tls", "seconds": 1.5, "status": None, "headers": (), "body": b""},
            "no",
        ),
        (DisconnectedError(ClosedByServer(1012)), {"reason": ClosedByServer(1012)}, "1012"),
        (DisconnectedError(), {"reason": None}, "not connected"),
        (
            TopicClosedError("t", ChannelClosed()),
            {"topic": "t", "reason": ChannelClosed()},
            "'t'.*ChannelClosed",
        ),
        (TopicClosedError("t"), {"topic": "t", "reason": None}, "'t'"),
        (JoinError("t", JoinTimedOut()), {"topic": "t", "reason": JoinTimedOut()}, "JoinTimedOut"),
        (JoinError("t"), {"topic": "t", "reason": None}, "left"),
        (
            PushTimeoutError("t", "e", 2.5),
            {"topic": "t", "event": "e", "seconds": 2.5},
            r"'e' on 't' within 2\.5 s",
        ),
        (AwaitTimeoutError("a reply", 3.0), {"what": "a reply", "seconds": 3.0}, "a reply.* 3 s"),
        (ServerGoneError("ref", KILLED), {"server": "ref", "reason": KILLED}, "ref is gone"),
        (
            CallTimeoutError("ref", "get", 5.0),
            {"server": "ref", "request": "get", "timeout": 5.0},
            "'get' within 5 s",
        ),
        (StartError("no", reason=NORMAL), {"reason": NORMAL}, "no"),
        (
            AlreadyStartedError("runs", reason=NORMAL, ref="ref"),
            {"reason": NORMAL, "ref": "ref"},
            "runs",
        ),
        (AlreadyPresentError("id"), {"id": "id"}, "'id'.*restart.*delete"),
        (ChildNotFoundError("id"), {"id": "id"}, "'id' is not there"),
        (ChildRunningError("id"), {"id": "id"}, "terminate it first"),
        (ChildRestartingError("id"), {"id": "id"}, "terminate it first"),
        (AlreadyRegisteredError("key", "ref"), {"key": "key", "ref": "ref"}, "'key'.*ref"),
        (BadReturnError("bad", value=7), {"value": 7}, "bad"),
        (
            SupervisorGaveUpError("too often", child="id", reason=KILLED),
            {"child": "id", "reason": KILLED},
            "too often",
        ),
    ],
)
def test_every_fact_of_a_message_is_an_attribute(
    error: Exception, facts: dict[str, Any], says: str
) -> None:
    assert {name: getattr(error, name) for name in facts} == facts
    with pytest.raises(type(error), match=says):
        raise error


NAMED_IN_THE_DESIGN = [
    "ClosedByClient",
    "ClosedByServer",
    "HeartbeatTimeout",
    "ConnectFailed",
    "TransportFailed",
    "ConsumerTooSlow",
    "ConnectionCrashed",
    "JoinRefused",
    "JoinTimedOut",
    "ChannelCrashed",
    "ChannelClosed",
    "PushTimedOut",
    "ConnectionLost",
    "TopicGone",
    "NORMAL",
    "SHUTDOWN",
    "Shutdown",
    "KILLED",
    "NOPROC",
    "RESTARTING",
    "Crashed",
    "ConnectError",
    "DisconnectedError",
    "TopicClosedError",
    "NotJoinedError",
    "JoinError",
    "PushTimeoutError",
    "ServerGoneError",
    "CallTimeoutError",
    "CallingSelfError",
    "DeadlockError",
    "StartError",
    "AlreadyStartedError",
    "AlreadyPresentError",
    "ChildNotFoundError",
    "ChildRunningError",
    "ChildRestartingError",
    "SupervisorGaveUpError",
    "BadReturnError",
    "CallbackSignatureError",
    "ConfigError",
    "EncodeError",
    "DecodeError",
    "LocalProtocolError",
    "RemoteProtocolError",
    "InboundOverflowError",
    "AwaitTimeoutError",
    "LinkError",
    "ChildSpecError",
    "MaxChildrenError",
    "AlreadyRegisteredError",
    "WrongTaskError",
    "SlipstreamClient",
    "Socket",
    "Config",
    "ReconnectPolicy",
    "RejoinPolicy",
    "Retry",
    "Hold",
    "Fatal",
    "Message",
    "ANY",
    "on_message",
    "open_socket",
    "open_supervisor",
    "open_server",
    "run",
    "GenServer",
    "Supervisor",
    "ServerRef",
    "SupervisorRef",
    "ClientRef",
    "Reply",
    "NoReply",
    "Stop",
    "Ignore",
    "Exit",
    "Timeout",
    "Down",
    "Request",
    "Pending",
    "Caller",
    "ChildSpec",
    "ChannelReply",
]


@pytest.mark.parametrize("name", NAMED_IN_THE_DESIGN)
def test_an_application_finds_it_in_the_facade(name: str) -> None:
    assert hasattr(slipstream, name)


def test_the_modules_of_values_say_all_that_is_theirs() -> None:
    for module in (errors, reasons):
        own = {
            name
            for name, value in vars(module).items()
            if inspect.isclass(value)
            and value.__module__ == module.__name__
            and not name.startswith("_")
        }
        assert own <= set(module.__all__)
