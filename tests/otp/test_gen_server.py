"""The life of a process: how it starts, and how it ends."""

import logging
from collections.abc import Callable
from typing import Any

import attrs
import pytest
import trio

from slipstream.errors import (
    AlreadyStartedError,
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
    odd,
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


FAILURES: dict[str, tuple[Callable[..., Any] | None, type[BaseException] | None]] = {
    "stop": (end(Shutdown("no")), StartError),
    "ignore": (lambda _: Ignore(), None),
    "bad return": (odd, StartError),
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


@virtual
async def test_a_process_without_a_name_is_anonymous() -> None:
    """GS-024: None is no name; any number of processes have none."""
    async with open_supervisor([puppet("a", name=None)], name=None) as supervisor:
        for number in range(2):
            ref = await supervisor.start_child(puppet(f"b{number}", name=None))
            assert ref is not None
            assert ref.name is None
        assert supervisor.name is None
        assert supervisor.child("a").name is None
        assert not any(supervisor.whereis(name) for name in ("a", "b0", "b1", "root", "None"))


@pytest.mark.parametrize("owned", [True, False])
@virtual
async def test_the_end_of_a_temporary_child_is_nothing_to_whoever_started_it(owned: bool) -> None:
    """GS-025: neither by the supervisor nor in its own nursery is a start a link."""
    diary = Diary()
    spec = puppet("b", diary, restart="temporary", name="bob")

    async def start(me: Puppet, _: Caller) -> Reply:
        return Reply(await (me.start_owned(spec) if owned else supervisor.start_child(spec)))

    async with open_supervisor([puppet("a", diary)]) as supervisor:
        starter = supervisor.child("a").pin()
        for act in (crash(), end(NORMAL), crash(Exit(SHUTDOWN))):
            child = await starter.call(start)
            child.cast(act)
            await child.wait()
            await settle()
            assert supervisor.whereis("bob") is None
            assert starter.alive
            assert await starter.call(ping) == 1


@pytest.mark.parametrize("parent", ["supervisor", "server", "block"])
@virtual
async def test_terminate_runs_also_where_the_parent_is_a_named_process(parent: str) -> None:
    """GS-030: whoever stops it, under whatever name."""
    diary = Diary()
    spec = puppet("a", diary, name="bob")

    async def own(me: Puppet) -> None:
        await me.start_owned(spec)

    children = [spec] if parent == "supervisor" else []
    if parent == "server":
        children = [puppet("owner", init=own, name="owner")]
    if parent == "block":
        async with open_server(spec):
            pass
    else:
        async with open_supervisor(children, name="top") as supervisor:
            assert supervisor.whereis("top") == supervisor
            assert supervisor.whereis("bob")
    assert diary.of("terminate") == [("a", SHUTDOWN)]
