"""Reports: they show what helps, and never make anything worse."""

import logging
from typing import Any

import attrs
import pytest
import trio

from slipstream.errors import StartError
from slipstream.otp import (
    Caller,
    ChildSpec,
    CrashReport,
    GenServer,
    Reply,
    Start,
    Status,
    Supervisor,
    SupervisorRef,
    SupervisorReport,
    open_supervisor,
)
from slipstream.otp._reports import explain, show, state_of
from slipstream.reasons import NORMAL, SHUTDOWN, Crashed, ExitReason, Shutdown
from tests.otp.support import (
    Boom,
    Puppet,
    Role,
    crash,
    end,
    ping,
    puppet,
    records,
    settle,
    virtual,
)


class Unprintable:
    """Has a repr that raises."""

    def __repr__(self) -> str:
        raise Boom("in repr")


def test_showing_never_fails_and_is_never_long() -> None:
    assert "Unprintable" in show(Unprintable()) or "Boom" in show(Unprintable())
    assert len(show(list(range(10_000)))) < 1_000
    assert len(show("x" * 10_000)) < 1_000
    assert show({"a": 1}) == "{'a': 1}"


def test_showing_does_not_even_fail_for_what_pretends_to_be_something_else() -> None:
    """``reprlib`` goes by the name of a class, and ``traceback`` reads notes."""
    pretender = type("list", (), {"__len__": lambda _: 1, "__repr__": Unprintable.__repr__})()
    assert show(pretender) == "<not to be shown: its repr raised TypeError>"

    class Haunted(Exception):
        @property
        def __notes__(self) -> list[str]:  # type: ignore[override]  # on purpose
            raise Boom("no notes")

    assert "Boom" in explain(Crashed(Haunted()))  # newer ones of traceback see to it themselves


def test_the_state_is_made_of_slots_and_attributes() -> None:
    class Slotted:
        __slots__ = ("__weakref__", "given", "missing")

        def __init__(self) -> None:
            self.given = 1

    class Both(Slotted):
        one: str

        def __init__(self) -> None:
            super().__init__()
            self.other = 2

    class Single:
        __slots__ = "single"  # noqa: PLC0205 - a string is allowed, and has to be understood

        def __init__(self) -> None:
            self.single = 3

    assert state_of(Both()) == {"given": 1, "other": 2}
    assert state_of(Single()) == {"single": 3}


@virtual
async def test_a_state_that_cannot_be_shown_does_not_hide_the_report(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """GS-085."""
    async with open_supervisor([puppet("a", restart="temporary")]) as supervisor:
        ref = supervisor.child("a")
        ref.cast(lambda me: setattr(me, "thing", Unprintable()))
        ref.cast(crash(Boom("the crash")))
        await settle()
    assert "the crash" in caplog.text


class Broken(logging.Handler):
    """Raises whatever it is given to handle."""

    def emit(self, record: logging.LogRecord) -> None:
        raise Boom("in the log handler")


@virtual
async def test_a_log_handler_that_raises_takes_no_process_with_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logger = logging.getLogger("slipstream")
    handler = Broken()
    logger.addHandler(handler)
    try:
        async with open_supervisor([puppet("a")]) as supervisor:
            supervisor.child("a").cast(crash())
            await settle()
            assert await supervisor.child("a").call(ping) == 2
    finally:
        logger.removeHandler(handler)
    assert "in the log handler" in capsys.readouterr().err


@virtual
async def test_a_report_tells_the_client_and_where_it_waits(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """GS-018: a process, and the line of its callback."""

    async def ask_for_trouble(me: Puppet, _: Caller) -> Reply:
        other = me.whereis("fragile")
        assert other
        return Reply(await other.call(crash()))

    children = [
        puppet("asker", restart="temporary"),
        puppet("f", name="fragile", restart="temporary"),
    ]
    async with open_supervisor(children) as supervisor:
        pending = supervisor.child("asker").send_request(ask_for_trouble)
        await settle()
        assert pending.done
    first = records(caplog)[0].getMessage()
    assert "fragile" in first
    assert "asker" in first
    assert "ask_for_trouble" in first


@pytest.mark.parametrize("answer", [True, False, "raises"])
@virtual
async def test_a_process_may_say_that_its_crash_is_no_bug(
    answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The hook must not hide a report by a bug of its own."""

    class Link(GenServer):
        async def handle_cast(self, message: Any) -> None:
            raise Boom("an outage")

        def reports_crash(self, reason: ExitReason) -> bool:
            assert isinstance(reason, Crashed)
            if answer == "raises":
                raise Boom("in the hook")
            return bool(answer)

    async with open_supervisor([Link.child_spec(restart="temporary")]) as supervisor:
        supervisor.child(Link).cast("x")
        await settle()
    assert bool(records(caplog)) is (answer is not False)


@virtual
async def test_an_exception_without_a_message_is_told_by_its_name(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_supervisor([puppet("a", restart="temporary")]) as supervisor:
        supervisor.child("a").cast(crash(trio.ClosedResourceError()))
        await settle()
    assert "ClosedResourceError" in records(caplog)[0].getMessage()


# -- what stands in a report


class Secretive(Puppet):
    """Shows neither its state nor what it was sent, nor why it ended."""

    def format_status(self, status: Status) -> Status:
        assert status.reason is not None
        return Status(state={"all": "<hidden>"}, message="<hidden>", reason=Shutdown("<hidden>"))


class Chronicler(Puppet):
    """Keeps a log of its own."""

    def format_status(self, status: Status) -> Status:
        return attrs.evolve(status, log=("began", "went on"))


@virtual
async def test_what_a_process_has_kept_of_its_doings_stands_in_its_report(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """OTP's format_status has a ``log``, too."""
    async with open_supervisor([Chronicler.child_spec(id="a", restart="temporary")]) as supervisor:
        supervisor.child("a").cast(crash(Boom("a bug")))
        await settle()
    report = records(caplog)[0].report
    assert report.log == ("began", "went on")
    assert report.render().endswith("log, the last 2, the oldest first:\n    began\n    went on")
    assert report.render(single_line=True).endswith("the oldest first:; began; went on")


@virtual
async def test_a_report_names_the_way_to_the_process(caplog: pytest.LogCaptureFixture) -> None:
    """And has all that it shows as attributes; so has the supervisor's."""
    lobby = puppet("lobby", restart="temporary")
    rooms = Supervisor.child_spec([lobby], id="rooms")
    boom = Boom("a bug")
    act = crash(boom)
    async with open_supervisor([rooms]) as supervisor:
        inner = supervisor.child("rooms")
        assert isinstance(inner, SupervisorRef)
        pending = inner.child("lobby").send_request(act)
        await settle()
        assert pending.done
    own, above = records(caplog)
    assert isinstance(own.report, CrashReport)
    assert own.report.path == ("root", "rooms", "lobby")
    assert own.report.process == "lobby"
    assert own.report.reason == Crashed(boom)
    assert own.report.message is act
    assert own.report.state["number"] == 1
    assert "run_virtually" in (own.report.client or "")
    assert own.getMessage().startswith("process root > rooms > lobby ended: ")
    assert isinstance(above.report, SupervisorReport)
    assert above.report.path == ("root", "rooms")
    assert above.report.supervisor == "rooms"
    assert above.getMessage().startswith("supervisor root > rooms: child lobby ended: ")


@virtual
async def test_the_report_of_a_process_may_be_redacted_as_a_whole(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """GS-086: message, state, and the reason with its traceback; the reason itself stays."""
    boom = Boom("s3cret reason")
    async with open_supervisor([Secretive.child_spec(id="a", restart="temporary")]) as supervisor:
        one = supervisor.child("a").pin()
        one.cast(lambda me: setattr(me, "token", "s3cret state"))
        one.cast(crash(boom))
        assert await one.wait() == Crashed(boom)
        await settle()
    own, *_ = records(caplog)
    assert own.report.reason == Shutdown("<hidden>")
    assert own.exc_info is None
    assert "s3cret" not in logging.Formatter().format(own)
    assert "s3cret" not in repr(own.report)


@virtual
async def test_a_reason_may_be_redacted_by_another_exception(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """GS-086: then that one has its traceback shown."""
    other = Boom("<hidden>")

    class Mild(Puppet):
        def format_status(self, status: Status) -> Status:
            return attrs.evolve(status, state={}, reason=Crashed(other))

    async with open_supervisor([Mild.child_spec(id="a", restart="temporary")]) as supervisor:
        supervisor.child("a").cast(crash(Boom("s3cret")))
        await settle()
    own, *_ = records(caplog)
    assert own.exc_info
    assert own.exc_info[1] is other
    assert "s3cret" not in logging.Formatter().format(own)


@virtual
async def test_a_crash_in_terminate_is_reported_with_the_formatted_state_and_its_stack(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """GS-084."""

    class Formatted(Puppet):
        def format_status(self, status: Status) -> Status:
            return attrs.evolve(status, state={"formatted": True})

    def fail_to_say_goodbye(*_: Any) -> None:
        raise Boom("in terminate")

    role = Role(terminate=fail_to_say_goodbye)
    async with open_supervisor([Formatted.child_spec(role, restart="temporary")]) as supervisor:
        supervisor.child(Formatted).cast(end(NORMAL))
        await settle()
    own, *_ = records(caplog)
    assert own.report.state == {"formatted": True}
    text = logging.Formatter().format(own)
    assert "fail_to_say_goodbye" in text
    assert "in terminate" in text


def test_a_report_is_rendered_within_limits_in_one_line_or_several() -> None:
    """GS-087."""
    report = CrashReport(
        process="p",
        path=("root", "p"),
        reason=Crashed(Boom("one\ntwo")),
        message=[[[[["deep"]]]]],
        state={"many": list(range(1000)), "long": "x" * 10_000},
        client="somebody\n    waits there",
    )
    full = report.render()
    assert len(full.splitlines()) > 4
    assert "deep" not in full
    assert "deep" in report.render(depth=6)
    assert len(full) < 2_000
    assert len(report.render(chars=20, items=2)) < 500 < len(full)
    assert len(report.render(chars=20_000, items=2_000)) > 10_000
    single = report.render(single_line=True)
    assert len(single.splitlines()) == 1
    for part in ("process root > p ended", "one two", "last message", "state", "waits there"):
        assert part in single


@pytest.mark.parametrize("context", ["child_terminated", "start_error", "shutdown_error"])
def test_a_supervisors_report_is_rendered_with_all_that_is_known(context: str) -> None:
    """SUP-086: supervisor, context, reason and offender."""
    offender = {"id": Unprintable(), "ref": None, "restart": "permanent", "shutdown": 5.0}
    report = SupervisorReport("s", ("root", "s"), context, NORMAL, offender, "it ended: Normal()")
    text = report.render()
    parts = ["root > s", context, "Normal()", "Unprintable", "'permanent'", "shutdown=5.0", "ref="]
    for part in parts:
        assert part in text
    assert len(report.render(single_line=True).splitlines()) == 1


class Mute(Exception):
    """Neither its text nor its repr can be had."""

    def __str__(self) -> str:
        raise Boom("no text")

    __repr__ = __str__


@pytest.mark.parametrize("restart", ["permanent", "temporary"])
@virtual
async def test_what_cannot_be_shown_hides_no_crash_and_ends_no_supervisor(
    restart: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """GS-085: neither id, nor exception, nor message, nor state."""
    id_ = Unprintable()
    spec = ChildSpec(id_, Start(Puppet), restart=restart)
    async with open_supervisor([spec, puppet("b")]) as supervisor:
        ref = supervisor.child(id_)
        ref.cast(lambda me: setattr(me, "thing", Unprintable()))

        class Raise:
            __repr__ = Unprintable.__repr__

            def __call__(self, _: Puppet) -> None:
                raise Mute

        ref.cast(Raise())
        await settle()
        assert await supervisor.child("b").call(ping) == 1
        assert ref.alive is (restart == "permanent")
    crashes = [record for record in records(caplog) if isinstance(record.report, CrashReport)]
    assert len(crashes) == 1
    assert crashes[0].exc_info
    assert len(records(caplog)) == 2


@virtual
async def test_a_start_that_fails_by_what_cannot_be_shown_is_told() -> None:
    async with open_supervisor([]) as supervisor:
        with pytest.raises(StartError, match="did not start") as error:
            await supervisor.start_child(ChildSpec(Unprintable(), crash(Mute())))
        assert isinstance(error.value.__cause__, Mute)
        assert supervisor.alive


@pytest.mark.parametrize("reason", [NORMAL, SHUTDOWN, Shutdown("done")])
@virtual
async def test_an_end_that_is_normal_is_not_reported(
    reason: ExitReason, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    specs = [puppet("a", restart="transient"), puppet("b", restart="temporary"), puppet("c")]
    async with open_supervisor(specs) as supervisor:
        supervisor.child("a").cast(end(reason))
        supervisor.child("b").cast(end(reason))
        await settle()
    assert [record for record in caplog.records if record.name == "slipstream"] == []


@virtual
async def test_what_refuses_to_die_is_reported_with_the_way_to_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """TRI-070."""

    async def cling(_: Puppet) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(9.0)

    spec = puppet("a", shutdown=1.0, kill_grace=2.0, restart="temporary")
    async with open_supervisor([spec], name="app") as supervisor:
        supervisor.child("a").cast(cling)
        await settle()
    (record, *_) = records(caplog)
    assert record.report.context == "killing"
    assert record.report.path == ("app",)
    assert "cling" in record.getMessage()
