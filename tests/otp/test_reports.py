"""Reports: they show what helps, and never make anything worse."""

import logging
from typing import Any

import pytest
import trio

from slipstream.otp import Caller, GenServer, Reply, open_supervisor
from slipstream.otp._reports import show, state_of
from slipstream.reasons import Crashed, ExitReason
from tests.otp.support import Boom, Puppet, crash, ping, puppet, records, settle, virtual


class Unprintable:
    """Has a repr that raises."""

    def __repr__(self) -> str:
        raise Boom("in repr")


def test_showing_never_fails_and_is_never_long() -> None:
    assert "Unprintable" in show(Unprintable()) or "Boom" in show(Unprintable())
    assert len(show(list(range(10_000)))) < 1_000
    assert len(show("x" * 10_000)) < 1_000
    assert show({"a": 1}) == "{'a': 1}"


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
