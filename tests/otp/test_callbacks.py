"""Callbacks: when they are called, in what order, and what they may return."""

from collections.abc import Callable
from typing import Any

import pytest
import trio

from slipstream.errors import (
    BadReturnError,
    ConfigError,
    ServerGoneError,
    StartError,
)
from slipstream.otp import (
    Caller,
    GenServer,
    Ignore,
    NoReply,
    Reply,
    Stop,
    Timeout,
    open_server,
    open_supervisor,
)
from slipstream.reasons import NORMAL, SHUTDOWN, Crashed, ExitReason, Shutdown
from tests.otp.support import (
    Boom,
    Diary,
    Puppet,
    Role,
    crash,
    end,
    odd,
    puppet,
    records,
    settle,
    virtual,
)

# -- casts, messages, continues and idle time-outs


@virtual
async def test_a_cast_may_set_an_idle_timeout_or_stop() -> None:
    """GS-047."""
    diary = Diary()
    async with open_server(Puppet, Role(diary)) as ref:
        ref.cast("hello")
        ref.cast(lambda _: NoReply(timeout=1.0))
        await trio.sleep(2.0)
        ref.cast(end(Shutdown("cast")))
        assert await ref.wait() == Shutdown("cast")
    assert diary == [
        ("init", "puppet"),
        ("cast", "puppet", "hello"),
        ("info", "puppet", Timeout()),
        ("terminate", "puppet", Shutdown("cast")),
    ]


@virtual
async def test_a_message_reaches_handle_info_may_come_later_and_may_stop() -> None:
    """GS-048."""
    diary = Diary()
    async with open_server(Puppet, Role(diary)) as ref:
        ref.send("raw")
        ref.send(lambda _: NoReply(timeout=1.0))
        await trio.sleep(2.0)
        ref.send(end(NORMAL))
        assert await ref.wait() == NORMAL
    assert [entry[2] for entry in diary[1:]] == ["raw", Timeout(), NORMAL]


def _continuing(kind: str, result: Any) -> Callable[..., Any]:
    """Send to oneself in a callback of *kind*, and return *result*."""

    def act(me: Puppet, *_: Any) -> Any:
        me.ref.send("self-sent")
        return result

    return act


KINDS = ["init", "call-reply", "call-noreply", "cast", "info"]


async def _provoke(ref: Any, kind: str, act: Callable[..., Any]) -> None:
    match kind:
        case "call-reply":
            assert await ref.call(act) == "value"
        case "call-noreply":
            ref.send_request(act)
        case "cast":
            ref.cast(act)
        case "info":
            ref.send(act)
        case _:
            assert kind == "init"


def _result(kind: str, **more: Any) -> Any:
    return Reply("value", **more) if kind == "call-reply" else NoReply(**more)


@pytest.mark.parametrize("kind", KINDS)
@virtual
async def test_a_continue_runs_before_what_its_callback_sent(kind: str) -> None:
    """GS-049: after init, call, cast and info; chains run first as well."""
    diary = Diary()
    chain = _result(kind, continue_with=lambda _: NoReply(continue_with="second"))
    act = _continuing(kind, chain)
    role = Role(diary, init=act if kind == "init" else None)
    async with open_server(Puppet, role) as ref:
        await _provoke(ref, kind, act)
        await settle()
        assert [entry[2] for entry in diary[1:]] == ["second", "self-sent"]


@virtual
async def test_a_continue_may_stop() -> None:
    """GS-049: a continue that stops ends the process, normally."""
    diary = Diary()
    role = Role(diary, init=lambda _: NoReply(continue_with=end(NORMAL)))
    async with open_server(Puppet, role) as ref:
        assert await ref.wait() == NORMAL
    assert diary == [("init", "puppet"), ("terminate", "puppet", NORMAL)]


@virtual
async def test_a_crash_in_the_continue_after_init_is_no_start_failure() -> None:
    """GS-049: the starter has its reference before it runs."""
    diary = Diary()
    role = Role(diary, init=lambda _: NoReply(continue_with=crash()))
    with pytest.raises(ServerGoneError):
        async with open_server(Puppet, role) as ref:
            diary.write("yielded", ref.name)
            await trio.sleep_forever()
    assert sorted(entry[0] for entry in diary) == ["init", "terminate", "yielded"]


@pytest.mark.parametrize("through_continue", [False, True], ids=["direct", "continue"])
@pytest.mark.parametrize("kind", ["call-reply", "call-noreply", "cast", "info"])
@pytest.mark.parametrize("interrupted", [False, True], ids=["quiet", "interrupted"])
@virtual
async def test_an_idle_timeout_from_any_callback(
    kind: str, through_continue: bool, interrupted: bool
) -> None:
    """GS-050: it fires iff nothing comes first."""
    diary = Diary()
    if through_continue:
        result = _result(kind, continue_with=lambda _: NoReply(timeout=1.0))
    else:
        result = _result(kind, timeout=1.0)
    async with open_server(Puppet, Role(diary)) as ref:
        await _provoke(ref, kind, lambda *_: result)
        await trio.sleep(0.5)
        if interrupted:
            ref.send("first")
        await trio.sleep(10.0)
        heard = [entry[2] for entry in diary if entry[0] == "info"]
        assert heard == (["first"] if interrupted else [Timeout()])


@pytest.mark.parametrize("kind", KINDS)
@virtual
async def test_an_idle_timeout_of_zero_beats_what_the_callback_sent(kind: str) -> None:
    """GS-051, GS-011."""
    diary = Diary()
    act = _continuing(kind, _result(kind, timeout=0))
    role = Role(diary, init=act if kind == "init" else None)
    async with open_server(Puppet, role) as ref:
        await _provoke(ref, kind, act)
        await settle()
        assert [entry[2] for entry in diary[1:]] == [Timeout(), "self-sent"]


@pytest.mark.parametrize("kind", ["call-reply", "cast", "info"])
@virtual
async def test_an_idle_timeout_is_armed_by_each_return_anew(kind: str) -> None:
    """GS-073: one return without it cancels it; one with it begins anew."""
    diary = Diary()
    async with open_server(Puppet, Role(diary)) as ref:
        for _ in range(3):
            await _provoke(ref, kind, lambda *_: _result(kind, timeout=1.0))
            await trio.sleep(0.9)
        assert diary.of("info") == []
        await _provoke(ref, kind, lambda *_: _result(kind))
        await trio.sleep(10.0)
        assert diary.of("info") == []


@virtual
async def test_an_idle_timeout_of_infinity_never_fires() -> None:
    """GS-050."""
    diary = Diary()
    async with open_server(Puppet, Role(diary)) as ref:
        ref.cast(lambda _: NoReply(timeout=float("inf")))
        await trio.sleep(9_000.0)
        assert diary.of("info") == []


# -- callbacks that are missing


@pytest.mark.parametrize("how", ["call", "cast", "continue"])
@virtual
async def test_a_missing_callback_that_is_needed_is_a_crash(how: str) -> None:
    """GS-054, GS-055, GS-056."""

    class Bare(GenServer):
        async def handle_info(self, message: Any) -> NoReply:
            return NoReply(continue_with=message)

    async with open_supervisor([Bare.child_spec(restart="temporary")]) as supervisor:
        ref = supervisor.child(Bare)
        pinned = ref.pin()
        match how:
            case "call":
                with pytest.raises(ServerGoneError) as gone:
                    await ref.call("anything")
                assert isinstance(gone.value.reason, Crashed)
            case "cast":
                ref.cast("anything")
            case _:
                ref.send("anything")
        reason = await pinned.wait()
    assert isinstance(reason, Crashed)
    assert isinstance(reason.exception, NotImplementedError)
    assert f"handle_{how}" in str(reason.exception)
    assert "anything" in str(reason.exception)


@virtual
async def test_a_missing_handle_info_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    """GS-057: the process lives."""

    class Deaf(GenServer):
        async def handle_call(self, request: Any, caller: Caller) -> Reply:
            return Reply(request)

    async with open_server(Deaf) as ref:
        ref.send("one")
        ref.send("two")
        assert await ref.call("alive") == "alive"
    assert [record.levelname for record in records(caplog)] == ["WARNING"]
    assert "'one'" in caplog.text


@pytest.mark.parametrize("reason", [NORMAL, Shutdown("x"), Crashed(Boom("e"))], ids=repr)
@virtual
async def test_a_missing_terminate_keeps_the_reason(reason: ExitReason) -> None:
    """GS-058."""

    class Short(GenServer):
        async def handle_cast(self, message: ExitReason) -> Stop:
            return Stop(message)

    async with open_supervisor([Short.child_spec(restart="temporary")]) as supervisor:
        ref = supervisor.child(Short)
        pinned = ref.pin()
        ref.cast(reason)
        assert await pinned.wait() == reason


@virtual
async def test_a_missing_name_inside_a_callback_is_an_ordinary_crash() -> None:
    """GS-059."""
    async with open_supervisor([puppet("a", restart="temporary")]) as supervisor:
        ref = supervisor.child("a")
        pinned = ref.pin()
        ref.send(lambda me: me.no_such_thing)
        reason = await pinned.wait()
    assert isinstance(reason, Crashed)
    assert isinstance(reason.exception, AttributeError)


# -- terminate


@virtual
async def test_terminate_sees_the_instance_as_the_failing_callback_left_it() -> None:
    """GS-068."""
    seen: list[int] = []

    class Counter(GenServer):
        async def init(self) -> None:
            self.count = 0

        async def handle_cast(self, message: Any) -> None:
            self.count += 1
            raise Boom

        async def terminate(self, reason: ExitReason) -> None:
            seen.append(self.count)

    async with open_supervisor([Counter.child_spec(restart="temporary")]) as supervisor:
        ref = supervisor.child(Counter)
        ref.cast("go")
        await settle()
    assert seen == [1]


@pytest.mark.parametrize(
    ("how", "reasons"),
    [
        ("stop", [NORMAL]),
        ("crash", [Crashed]),
        ("bad return", [Crashed]),
        ("shutdown", [SHUTDOWN]),
        ("kill", []),
    ],
)
@virtual
async def test_when_terminate_is_called(how: str, reasons: list[Any]) -> None:
    """GS-069: not for a kill; with the right reason for anything else, once."""
    diary = Diary()
    shutdown: Any = "brutal_kill" if how == "kill" else 5.0
    spec = puppet("a", diary, restart="temporary", shutdown=shutdown)
    async with open_supervisor([spec]) as supervisor:
        ref = supervisor.child("a")
        match how:
            case "stop":
                ref.cast(end(NORMAL))
            case "crash":
                ref.cast(crash())
            case "bad return":
                ref.cast(odd)
            case _:
                await supervisor.terminate_child("a")
        await settle()
    found = [entry[2] for entry in diary if entry[0] == "terminate"]
    assert len(found) == len(reasons)
    for reason, expected in zip(found, reasons, strict=True):
        assert reason == expected or isinstance(reason, Crashed)


@virtual
async def test_a_terminate_that_raises_replaces_the_reason_and_is_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """GS-070, GS-084."""
    boom = Boom("while leaving")
    spec = puppet("a", terminate=crash(boom), restart="temporary")
    async with open_supervisor([spec]) as supervisor:
        ref = supervisor.child("a")
        pinned = ref.pin()
        ref.cast(end(NORMAL))
        assert await pinned.wait() == Crashed(boom)
        await settle()
    assert "while leaving" in caplog.text


# -- order


@virtual
async def test_messages_never_overlap_and_keep_their_order() -> None:
    """GS-071: even if callbacks wait."""
    diary = Diary()
    running = 0

    async def handle(me: Puppet, what: Any) -> Any:
        nonlocal running
        running += 1
        assert running == 1
        await trio.sleep(0.1)
        diary.write("handled", what)
        running -= 1

    async with open_server(Puppet) as ref:
        for number in range(0, 30, 3):
            ref.cast(lambda me, n=number: handle(me, n))
            ref.send(lambda me, n=number + 1: handle(me, n))

            async def asked(me: Puppet, _: Caller, n: int = number + 2) -> Reply:
                await handle(me, n)
                return Reply(n)

            ref.send_request(asked)
        await trio.sleep(10.0)
        assert diary.of("handled") == list(range(30))


# -- what callbacks may not return


class Forgetful(GenServer):
    """Forgets await everywhere."""

    async def init(self, forgets: str = "") -> Any:
        if forgets == "init":
            return self.work()
        return None

    async def work(self) -> None:
        """Do nothing."""

    async def handle_call(self, request: Any, caller: Caller) -> Any:
        return self.work()

    async def handle_cast(self, message: Any) -> Any:
        return self.work()

    async def handle_info(self, message: Any) -> Any:
        return NoReply(continue_with=1) if message == "continue" else self.work()

    async def handle_continue(self, argument: Any) -> Any:
        return self.work()


@pytest.mark.parametrize("how", ["call", "cast", "info", "continue"])
@virtual
async def test_a_coroutine_that_was_not_awaited_is_a_bad_return_that_says_so(how: str) -> None:
    """GS-040: without a RuntimeWarning that nobody understands."""
    async with open_supervisor([Forgetful.child_spec(restart="temporary")]) as supervisor:
        ref = supervisor.child(Forgetful)
        pinned = ref.pin()
        match how:
            case "call":
                with pytest.raises(ServerGoneError):
                    await ref.call("x")
            case "cast":
                ref.cast("x")
            case _:
                ref.send(how)
        reason = await pinned.wait()
    assert isinstance(reason, Crashed)
    assert isinstance(reason.exception, BadReturnError)
    assert "did you forget await?" in str(reason.exception)
    assert f"handle_{how}" in str(reason.exception)


@virtual
async def test_an_init_that_forgets_await_does_not_start() -> None:
    """GS-019."""
    with pytest.raises(StartError, match="did you forget await") as error:
        async with open_server(Forgetful, "init"):
            pytest.fail("it must not start")
    assert isinstance(error.value.__cause__, BadReturnError)


@pytest.mark.parametrize(
    ("how", "value"),
    [
        ("call", None),
        ("call", "value"),
        ("call", Ignore()),
        ("cast", Reply(1)),
        ("cast", 5),
        ("cast", Stop(NORMAL, reply=1)),
        ("cast", Ignore()),
        ("info", True),
        ("info", Reply(None)),
        ("continue", Reply(1)),
        ("continue", ()),
    ],
)
@virtual
async def test_a_bad_return_is_a_crash_that_names_callback_and_value(how: str, value: Any) -> None:
    """GS-040: never None from handle_call; terminate gets the same reason."""
    diary = Diary()
    async with open_supervisor([puppet("a", diary, restart="temporary")]) as supervisor:
        ref = supervisor.child("a")
        pinned = ref.pin()
        match how:
            case "call":
                with pytest.raises(ServerGoneError) as gone:
                    await ref.call(lambda *_: value)
                assert isinstance(gone.value.__cause__, BadReturnError)
            case "cast":
                ref.cast(lambda _: value)
            case "info":
                ref.send(lambda _: value)
            case _:
                ref.send(lambda _: NoReply(continue_with=lambda _: value))
        reason = await pinned.wait()
    assert isinstance(reason, Crashed)
    assert isinstance(reason.exception, BadReturnError)
    assert reason.exception.value == value
    assert f"handle_{how}" in str(reason.exception)
    assert repr(value) in str(reason.exception)
    assert diary[-1] == ("terminate", "a", reason)


@pytest.mark.parametrize("value", [-1.0, float("nan"), "1"])
@pytest.mark.parametrize(
    "make", [lambda t: NoReply(timeout=t), lambda t: Reply(1, timeout=t)], ids=["noreply", "reply"]
)
def test_a_result_with_a_wrong_timeout_cannot_be_made(make: Any, value: Any) -> None:
    with pytest.raises(ConfigError, match="timeout="):
        make(value)


@pytest.mark.parametrize("value", ["normal", None, Boom("x"), 3])
def test_a_stop_without_an_exit_reason_cannot_be_made(value: Any) -> None:
    with pytest.raises(ConfigError, match="exit reason"):
        Stop(value)
