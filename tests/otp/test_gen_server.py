"""The life of a process: how it starts, what its callbacks return, how it ends."""

import logging
from collections.abc import Callable
from typing import Any

import attrs
import pytest
import trio

from slipstream.errors import (
    AlreadyStartedError,
    BadReturnError,
    CallingSelfError,
    CallTimeoutError,
    ChildNotFoundError,
    ConfigError,
    ServerGoneError,
    StartError,
    WrongTaskError,
)
from slipstream.otp import (
    Caller,
    Exit,
    GenServer,
    Ignore,
    NoReply,
    Reply,
    Status,
    Stop,
    Timeout,
    open_server,
    open_supervisor,
)
from slipstream.reasons import NOPROC, NORMAL, SHUTDOWN, Crashed, ExitReason, Shutdown
from tests.otp.support import (
    Boom,
    Diary,
    Puppet,
    Role,
    Watcher,
    crash,
    end,
    ping,
    puppet,
    records,
    settle,
    sleep_then,
    virtual,
)

QUIET = [NORMAL, SHUTDOWN, Shutdown("x")]


# -- starting


@virtual
async def test_a_server_starts_answers_and_ends_with_its_last_reply() -> None:
    """GS-001: a stop-reply is delivered, then the process is gone."""
    async with open_server(Puppet) as ref:
        assert await ref.call(ping) == 1
        assert bool(ref.alive)
        assert await ref.call(lambda *_: Stop(NORMAL, reply="bye")) == "bye"
        assert await ref.wait() == NORMAL
        assert not ref.alive
        with pytest.raises(ServerGoneError) as gone:
            await ref.call(ping)
    assert gone.value.reason == NOPROC


@virtual
async def test_an_init_that_is_in_time_starts_and_one_that_is_not_leaves_nothing_behind() -> None:
    """GS-002: the start time-out."""
    diary = Diary()

    async def slow(_: Puppet) -> None:
        try:
            await trio.sleep(1.0)
        finally:
            diary.write("left")

    async with open_supervisor([]) as supervisor:
        assert await supervisor.start_child(puppet("a", diary, init=slow, start_timeout=1.5))
        before = trio.current_time()
        with pytest.raises(StartError, match=r"0\.5"):
            await supervisor.start_child(puppet("b", diary, init=slow, start_timeout=0.5))
        assert trio.current_time() == before + 0.5
        assert diary == [("init", "a"), ("left",), ("init", "b"), ("left",)]
        assert [info.id for info in supervisor.which_children()] == ["a"]


@virtual
async def test_an_init_that_ignores_gives_no_process_and_no_report(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """GS-003: Ignore is no error; terminate is not called."""
    diary = Diary()
    async with open_server(Puppet, Role(diary, init=lambda _: Ignore())) as ref:
        opened: Any = ref
        assert opened is None
    assert diary == [("init", "puppet")]
    assert records(caplog) == []


@pytest.mark.parametrize("reason", [Shutdown("no"), SHUTDOWN, NORMAL, Crashed(Boom("no"))])
@virtual
async def test_an_init_that_stops_is_a_start_error_with_its_reason(reason: ExitReason) -> None:
    """GS-004, GS-005, GS-069: the starter gets the reason; terminate is not called."""
    diary = Diary()
    with pytest.raises(StartError) as error:
        async with open_server(Puppet, Role(diary, init=end(reason))):
            pytest.fail("it must not start")
    assert error.value.reason == reason
    assert diary == [("init", "puppet")]


@virtual
async def test_an_init_that_raises_is_a_start_error_with_its_exception_as_the_cause() -> None:
    """GS-005, TRI-050: what init raised is the cause, and the reason tells it."""
    boom = Boom("in init")
    with pytest.raises(StartError) as error:
        async with open_server(Puppet, Role(init=crash(boom))):
            pytest.fail("it must not start")
    assert error.value.reason == Crashed(boom)
    assert error.value.__cause__ is boom


@virtual
async def test_an_abnormal_end_reaches_the_owner_of_the_block() -> None:
    """GS-006: the block is cancelled, and the error tells the reason and its cause."""
    boom = Boom("later")
    with pytest.raises(ServerGoneError) as error:
        async with open_server(Puppet) as ref:
            ref.send(crash(boom))
            await trio.sleep_forever()
    assert error.value.reason == Crashed(boom)
    assert error.value.__cause__ is boom


@virtual
async def test_a_monitor_tells_of_the_end_exactly_once() -> None:
    """GS-007: one Down, with the reason; each monitor is independent of the others."""
    diary = Diary()
    async with open_supervisor([(Watcher, diary), puppet("a", restart="temporary")]) as supervisor:
        watcher, ref = supervisor.child(Watcher), supervisor.child("a")
        watcher.cast(ref)
        watcher.cast(ref)
        await settle()
        await ref.stop(Shutdown("stopped"))
        await settle()
        assert diary.take() == [("down", Shutdown("stopped"))] * 2
        await trio.sleep(100.0)
        assert diary == []
        watcher.cast(ref)
        await settle()
        assert diary == [("down", NOPROC)]


@virtual
async def test_a_monitor_that_is_taken_back_tells_nothing() -> None:
    """GS-007: not even what lies in the mailbox already."""
    diary = Diary()

    async def watch(me: Puppet, caller: Caller) -> Reply:
        other = me.whereis("other")
        assert other is not None
        monitor = me.monitor(other)
        await other.stop()
        me.demonitor(monitor)
        return Reply("done")

    async with open_supervisor([puppet("a", diary), puppet("b", name="other")]) as supervisor:
        ref = supervisor.child("a")
        assert await ref.call(watch) == "done"
        await settle()
        assert diary.of("info") == []


@virtual
async def test_a_name_leads_to_its_process_and_is_free_again_after_its_end() -> None:
    """GS-008, GS-015, GS-022, GS-026: names."""
    async with open_supervisor([puppet("a", name="bob", restart="temporary")]) as supervisor:
        bob = supervisor.whereis("bob")
        assert bob is not None
        assert bob.name == "bob"
        assert await bob.call(ping) == 1
        with pytest.raises(AlreadyStartedError, match="'bob'") as taken:
            await supervisor.start_child(puppet("b", name="bob"))
        assert taken.value.ref == bob
        with pytest.raises(ChildNotFoundError):
            supervisor.child("b")

        await bob.stop()
        assert supervisor.whereis("bob") is None
        other = await supervisor.start_child(puppet("b", name="bob"))
        assert supervisor.whereis("bob") == other
        assert supervisor.whereis("carol") is None


@pytest.mark.parametrize("timeout", [1.0, None])
@virtual
async def test_an_idle_timeout_from_init_fires_once(timeout: float | None) -> None:
    """GS-010: directly, or through a continue."""
    diary = Diary()
    results: dict[float | None, Any] = {
        1.0: NoReply(timeout=1.0),
        None: NoReply(continue_with=lambda _: NoReply(timeout=1.0)),
    }
    async with open_server(Puppet, Role(diary, init=lambda _: results[timeout])):
        await trio.sleep(0.99)
        assert diary.of("info") == []
        await trio.sleep(0.02)
        assert diary.names("info") == ["puppet"]
        assert diary[-1] == ("info", "puppet", Timeout())
        await trio.sleep(10.0)
        assert len(diary.of("info")) == 1


@virtual
async def test_a_call_that_comes_first_cancels_the_idle_timeout() -> None:
    """GS-010, GS-073."""
    diary = Diary()
    async with open_server(Puppet, Role(diary, init=lambda _: NoReply(timeout=1.0))) as ref:
        await trio.sleep(0.5)
        assert await ref.call(ping) == 1
        await trio.sleep(10.0)
        assert diary.of("info") == []


@virtual
async def test_an_idle_timeout_of_zero_goes_before_what_init_sent_to_itself() -> None:
    """GS-011."""
    diary = Diary()

    def init(me: Puppet) -> NoReply:
        me.ref.send("queued")
        return NoReply(timeout=0)

    async with open_server(Puppet, Role(diary, init=init)):
        await settle()
        assert [entry[2] for entry in diary if entry[0] == "info"] == [Timeout(), "queued"]


# -- stopping


@virtual
async def test_stop_waits_for_the_end_and_a_second_stop_finds_nobody() -> None:
    """GS-012, GS-027."""
    diary = Diary()
    async with open_server(Puppet, Role(diary, terminate=sleep_then(1.0))) as ref:
        before = trio.current_time()
        await ref.stop()
        assert trio.current_time() == before + 1.0
        assert not ref.alive
        with pytest.raises(ServerGoneError) as gone:
            await ref.stop()
        assert gone.value.reason == NOPROC
    assert diary == [("init", "puppet"), ("terminate", "puppet", NORMAL)]


@pytest.mark.parametrize("reason", [NORMAL, SHUTDOWN, Shutdown({"why": "asked"})])
@virtual
async def test_stop_with_a_reason_is_fine_if_the_process_ends_for_it(reason: ExitReason) -> None:
    """GS-013."""
    async with open_server(Puppet) as ref:
        await ref.stop(reason)
        assert await ref.wait() == reason


@virtual
async def test_stop_tells_if_the_process_ended_for_another_reason() -> None:
    """GS-013, GS-070: a terminate that raises replaces the reason."""
    boom = Boom("in terminate")
    async with open_supervisor([puppet("a", terminate=crash(boom), restart="temporary")]) as sup:
        ref = sup.child("a")
        with pytest.raises(ServerGoneError) as gone:
            await ref.stop()
    assert gone.value.reason == Crashed(boom)


@pytest.mark.parametrize("timeout", [-1.0, float("nan"), "soon", True])
@virtual
async def test_stop_with_a_wrong_timeout_raises_and_the_process_lives(timeout: Any) -> None:
    """GS-014: it names what was given and what is accepted."""
    async with open_server(Puppet) as ref:
        with pytest.raises(ConfigError, match=r"timeout=.*seconds"):
            await ref.stop(timeout=timeout)
        assert await ref.call(ping) == 1
        await ref.stop()
        assert not ref.alive


@virtual
async def test_stop_with_something_that_is_no_reason_raises_and_the_process_lives() -> None:
    async with open_server(Puppet) as ref:
        with pytest.raises((TypeError, ConfigError), match="'normal'"):
            await ref.stop("normal")  # type: ignore[arg-type]  # the mistake under test
        assert ref.alive


@virtual
async def test_stop_that_times_out_tells_so_and_the_process_goes_on_stopping() -> None:
    """GS-014."""
    async with open_server(Puppet, Role(terminate=sleep_then(2.0))) as ref:
        with pytest.raises(CallTimeoutError):
            await ref.stop(timeout=1.0)
        assert await ref.wait() == NORMAL


@virtual
async def test_stop_by_name_frees_the_name() -> None:
    """GS-015."""
    spec = puppet("a", name="bob", restart="temporary")
    async with open_supervisor([spec]) as supervisor:
        bob = supervisor.whereis("bob")
        assert bob
        await bob.stop()
        assert supervisor.whereis("bob") is None


@virtual
async def test_a_process_that_stops_itself_and_waits_is_told_so() -> None:
    """GS-027: calling oneself."""

    async def stop_self(me: Puppet, _: Caller) -> Reply:
        with pytest.raises(CallingSelfError):
            await me.ref.stop()
        with pytest.raises(CallingSelfError):
            await me.ref.wait()
        return Reply("lives")

    async with open_server(Puppet) as ref:
        assert await ref.call(stop_self) == "lives"


# -- ends that are loud, and ends that are not


def _by_exit(reason: ExitReason) -> Callable[..., Any]:
    return crash(Exit(reason))


@pytest.mark.parametrize("reason", QUIET, ids=str)
@pytest.mark.parametrize("how", [end, _by_exit], ids=["stop", "exit"])
@virtual
async def test_an_orderly_end_reaches_caller_and_monitor_and_is_not_reported(
    how: Callable[[ExitReason], Any], reason: ExitReason, caplog: pytest.LogCaptureFixture
) -> None:
    """GS-017: normal and shutdown, with a detail or without, by a result or by Exit."""
    diary = Diary()
    children: list[Any] = [(Watcher, diary), puppet("a", diary, restart="temporary")]
    async with open_supervisor(children) as supervisor:
        watcher, ref = supervisor.child(Watcher), supervisor.child("a")
        watcher.cast(ref)
        await settle()
        with pytest.raises(ServerGoneError) as gone:
            await ref.call(how(reason))
        assert gone.value.reason == reason
        await settle()
        assert diary == [("init", "a"), ("terminate", "a", reason), ("down", reason)]
    assert records(caplog) == []


@virtual
async def test_a_crash_is_reported_once_with_all_that_helps(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """GS-018: server, last message, state, reason with its traceback, and the client."""
    boom = Boom("while asked")

    class Fragile(GenServer):
        async def init(self) -> None:
            self.secret = "visible-state"  # noqa: S105 - no password, a value to look for

        async def handle_call(self, request: Any, caller: Caller) -> Reply:
            raise boom

    async with open_supervisor([Fragile.child_spec(restart="temporary", name="fred")]) as sup:
        ref = sup.whereis("fred")
        assert ref
        with pytest.raises(ServerGoneError) as gone:
            await ref.call("the question")
        assert gone.value.reason == Crashed(boom)
        assert gone.value.__cause__ is boom
        await settle()
    crashes = [record for record in records(caplog) if record.exc_info]
    assert len(crashes) == 1
    (record,) = crashes
    assert record.name == "slipstream"
    assert record.levelno == logging.ERROR
    text = record.getMessage()
    for part in ("fred", "the question", "visible-state", "while asked", "client"):
        assert part in text
    assert record.exc_info[1] is boom


@virtual
async def test_the_report_shows_what_format_status_gives(caplog: pytest.LogCaptureFixture) -> None:
    """GS-083, GS-086: state and message may be redacted."""

    class Discreet(GenServer):
        async def init(self) -> None:
            self.token = "s3cret"  # noqa: S105 - no password, a value that must not show

        async def handle_cast(self, message: Any) -> None:
            raise Boom("oops")

        def format_status(self, status: Status) -> Status:
            return attrs.evolve(status, state={"token": "<hidden>"}, message="<message>")

    async with open_supervisor([Discreet.child_spec(restart="temporary")]) as supervisor:
        ref = supervisor.child(Discreet)
        ref.cast("t0psecret")
        await settle()
    assert "<hidden>" in caplog.text
    assert "s3cret" not in caplog.text
    assert "t0psecret" not in caplog.text


@virtual
async def test_a_formatter_that_raises_does_not_hide_the_report(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """GS-085: a placeholder, the report all the same, and the reason unchanged."""
    boom = Boom("the crash itself")

    class Clumsy(GenServer):
        async def handle_cast(self, message: Any) -> None:
            raise boom

        def format_status(self, status: Status) -> Status:
            raise KeyError("formatter")

    async with open_supervisor([Clumsy.child_spec(restart="temporary")]) as supervisor:
        ref = supervisor.child(Clumsy)
        pinned = ref.pin()
        ref.cast("x")
        assert await pinned.wait() == Crashed(boom)
        await settle()
    assert "the crash itself" in caplog.text


# -- every way not to start


def _odd(_: Puppet) -> Any:
    return "odd"


FAILURES: dict[str, tuple[Callable[..., Any] | None, type[BaseException] | None]] = {
    "stop": (end(Shutdown("no")), StartError),
    "ignore": (lambda _: Ignore(), None),
    "bad return": (_odd, StartError),
    "raise": (crash(), StartError),
    "exit": (crash(Exit(Shutdown("out"))), StartError),
    "timeout": (sleep_then(9.0), StartError),
}


@pytest.mark.parametrize("flavour", ["block", "supervisor", "start_child"])
@pytest.mark.parametrize("failure", FAILURES)
@virtual
async def test_a_start_that_fails_leaves_nothing_registered_or_running(
    failure: str, flavour: str
) -> None:
    """GS-019, GS-020: five times, each start flavour, each failure; the name is free at once."""
    init, raised = FAILURES[failure]
    diary = Diary()
    spec = puppet("a", diary, init=init, name="bob", start_timeout=1.0)

    async with open_supervisor([]) as supervisor:
        for round_ in range(1, 6):
            try:
                match flavour:
                    case "block":
                        role = Role(diary, "a", init)
                        async with open_server(Puppet, role, name="bob", start_timeout=1.0) as ref:
                            assert ref is None
                    case "supervisor":
                        async with open_supervisor([spec]) as inner:
                            assert inner.whereis("bob") is None
                            assert not inner.child("a").alive
                    case _:
                        assert await supervisor.start_child(spec) is None
                        assert raised is None
                        await supervisor.delete_child("a")
            except StartError as error:
                assert raised is StartError
                assert not isinstance(error, AlreadyStartedError)
                if failure == "bad return":
                    assert "'odd'" in str(error)
            else:
                assert raised is None
            assert supervisor.whereis("bob") is None
            assert supervisor.which_children() == []
            assert started_count(diary) == round_
    assert diary.of("terminate") == []


def started_count(diary: Diary) -> int:
    return len(diary.of("init"))


@pytest.mark.parametrize("init", [lambda _: Ignore(), end(SHUTDOWN)], ids=["ignore", "stop"])
@virtual
async def test_the_name_of_a_start_that_failed_is_free_when_the_starter_learns(init: Any) -> None:
    """GS-020: a hundred times."""
    async with open_supervisor([]) as supervisor:
        for _ in range(100):
            spec = puppet("a", init=init, name="bob", restart="temporary")
            try:
                assert await supervisor.start_child(spec) is None
            except AlreadyStartedError:
                raise
            except StartError:
                pass
            assert supervisor.whereis("bob") is None


@pytest.mark.parametrize("name", ["", 7, b"bob", ["bob"]])
@virtual
async def test_a_wrong_name_is_refused_with_its_value(name: Any) -> None:
    """GS-021."""
    with pytest.raises(ValueError, match="name=") as error:
        async with open_server(Puppet, name=name):
            pytest.fail("it must not start")
    assert repr(name) in str(error.value)


@virtual
async def test_a_class_without_init_takes_no_argument() -> None:
    """GS-029: an argument that nobody takes is a start error."""

    class Plain(GenServer):
        pass

    async with open_server(Plain) as ref:
        assert ref.alive
    with pytest.raises(StartError) as error:
        async with open_server(Plain, 1):
            pytest.fail("it must not start")
    assert isinstance(error.value.__cause__, TypeError)


def test_an_object_that_is_no_process_says_so() -> None:
    with pytest.raises(WrongTaskError, match="open_server"):
        _ = Puppet().ref


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
                ref.cast(_odd)
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
