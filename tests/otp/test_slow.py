"""Callbacks that run for too long."""

import logging
import math
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from slipstream.otp import (
    Caller,
    GenServer,
    NoReply,
    Reply,
    ServerRef,
    SlowReport,
    Status,
    Supervisor,
    SupervisorRef,
    open_server,
    open_supervisor,
    process_of,
    sys,
)
from slipstream.otp._shell import Shell
from tests.otp.support import (
    Puppet,
    crash,
    live_tasks,
    ping,
    puppet,
    records,
    settle,
    sleep_then,
    virtual,
)


def reports(caplog: pytest.LogCaptureFixture) -> list[SlowReport]:
    return [r.report for r in records(caplog) if isinstance(r.report, SlowReport)]


async def linger(seconds: float) -> None:
    await trio.sleep(seconds)


def waiting(process: Shell) -> list[float]:
    """Give when the alarms ring that nobody has cancelled."""
    heap = process.timers._heap
    return [deadline for deadline, _, alarm in heap if alarm.action is not None]


@virtual
async def test_a_slow_callback_is_reported_once_with_its_stack_while_it_runs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def work(_: Puppet) -> None:
        await linger(10.0)

    async with open_supervisor([puppet("a", slow_after=1.5)], name="app") as supervisor:
        await trio.sleep(3.0)
        supervisor.child("a").cast(work)
        await trio.sleep(1.4)
        assert reports(caplog) == []
        await trio.sleep(0.2)
        (report,) = reports(caplog)
        assert report.path == ("app", "a")
        assert (report.process, report.callback, report.message) == ("a", "handle_cast", work)
        assert report.seconds == pytest.approx(1.5)
        assert report.slow_after == 1.5
        assert report.stack
        assert "handle_cast" in report.stack[0]  # from the callback on
        assert any("linger" in line for line in report.stack)
        await trio.sleep(20.0)
        assert len(reports(caplog)) == 1
    (record,) = records(caplog)
    assert record.levelno == logging.WARNING
    text = record.getMessage()
    assert text.startswith(
        "process app > a: handle_cast has run for 1.5 s, more than slow_after=1.5"
    )
    assert "linger" in text
    assert "\n" not in report.render(single_line=True)


@pytest.mark.parametrize("kind", ["call", "info", "continue", "receive", "traced"])
@virtual
async def test_every_callback_between_init_and_terminate_is_watched(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """``init`` and ``terminate`` have limits of their own."""
    nap = sleep_then(5.0)
    spec = puppet("a", init=nap, terminate=nap, slow_after=1.0, shutdown=math.inf)
    async with open_supervisor([spec]) as supervisor:
        ref = supervisor.child("a")
        match kind:
            case "call":
                assert await ref.call(sleep_then(4.0, Reply("late"))) == "late"
            case "info":
                ref.send(nap)
            case "continue":
                ref.cast(lambda _: NoReply(continue_with=nap))
            case "receive":

                async def wait(me: Puppet) -> None:
                    await me.receive(lambda message: message == "now")

                ref.cast(wait)
                ref.send_after(5.0, "now")
            case _:
                await sys.trace(ref, lambda _: None)
                ref.cast(nap)
        await trio.sleep(6.0)
    expected = {"call": "handle_call", "info": "handle_info", "continue": "handle_continue"}
    (report,) = reports(caplog)
    assert report.callback == expected.get(kind, "handle_cast")
    assert report.stack
    assert report.callback in report.stack[1 if kind == "traced" else 0]


@virtual
async def test_each_slow_callback_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    """And none that is fast, however many there are; rest between them is no work."""
    async with open_server(Puppet, slow_after=1.0) as ref:
        for number in range(1, 40):
            ref.cast(sleep_then(2.0 if number % 10 == 0 else 0.9))
        await trio.sleep(100.0)
        ref.cast(sleep_then(0.9))
        await trio.sleep(0.5)
        await sys.suspend(ref)
        await trio.sleep(5.0)
        await sys.resume(ref)
        ref.cast(sleep_then(0.9))
        await trio.sleep(5.0)
    assert len(reports(caplog)) == 3
    assert [report.seconds for report in reports(caplog)] == pytest.approx([1.0] * 3)


@pytest.mark.parametrize("limit", [1.0, 0.001])
def test_a_callback_that_blocks_the_event_loop_is_reported_after_the_fact(
    limit: float, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a stack, and once; a limit below a slice of work is kept, too."""
    clock = MockClock()

    async def main() -> None:
        async with open_server(Puppet, slow_after=limit) as ref:
            ref.cast("fast")
            ref.cast(lambda _: clock.jump(1.25 * limit))
            ref.cast("fast")
            await settle()
            (report,) = reports(caplog)
            assert report.stack is None
            assert report.seconds == pytest.approx(1.25 * limit)
            assert "handle_cast ran for" in records(caplog)[0].getMessage()
            ref.cast(lambda _: clock.jump(0.5 * limit))
            await settle()
            ref.cast(lambda _: clock.jump(0.75 * limit))
            await settle()
            assert len(reports(caplog)) == 1

    trio.run(main, clock=clock)


@virtual
async def test_the_limit_is_that_of_the_process_above_unless_one_says_so_itself(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A tree-wide default is that of its root."""

    class Owner(GenServer):
        async def handle_call(self, request: Any, caller: Caller) -> Any:
            return Reply(await self.start_owned(puppet("owned")))

    class Quick(Puppet, slow_after=0.5):
        pass

    nap = sleep_then(10.0)
    inner = Supervisor.child_spec([puppet("deep")], id="inner", slow_after=3.0)
    never = puppet("never", slow_after=math.inf)
    children: list[Any] = [Owner, Quick, puppet("plain"), inner, never]
    async with open_supervisor(children, slow_after=2.0) as supervisor:
        sub = supervisor.child("inner")
        assert isinstance(sub, SupervisorRef)
        owned = await supervisor.child(Owner).call("start")
        refs: list[ServerRef] = [supervisor.child(id_) for id_ in ("never", "plain", Quick)]
        for ref in (*refs, sub.child("deep"), owned):
            ref.cast(nap)
        await trio.sleep(12.0)
    limits = {report.path: report.slow_after for report in reports(caplog)}
    assert limits == {
        ("root", "test_the_limit_is_that_of_the_process_above_unless_one_says_so_itself.<locals>.Quick"): 0.5,
        ("root", "plain"): 2.0,
        ("root", "test_the_limit_is_that_of_the_process_above_unless_one_says_so_itself.<locals>.Owner", "owned"): 2.0,
        ("root", "inner", "deep"): 3.0,
    }  # fmt: skip


@virtual
async def test_nothing_is_watched_by_default(caplog: pytest.LogCaptureFixture) -> None:
    async with open_supervisor([puppet("a")]) as supervisor:
        supervisor.child("a").cast(sleep_then(3600.0))
        await trio.sleep(4000.0)
    assert records(caplog) == []


@virtual
async def test_a_report_of_a_slow_callback_shows_what_format_status_gives(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """GS-086: the message may be redacted."""

    class Discreet(Puppet):
        def format_status(self, status: Status) -> Status:
            return attrs.evolve(status, message="<message>")

    async with open_server(Discreet, slow_after=1.0) as ref:
        ref.cast(sleep_then(2.0))
        await trio.sleep(3.0)
    (report,) = reports(caplog)
    assert report.message == "<message>"


@virtual
async def test_the_watch_is_one_alarm_and_ends_with_the_process() -> None:
    """Also where it crashes or is killed in a callback."""
    before = live_tasks()
    specs = [
        puppet("a", slow_after=1.0),
        puppet("b", slow_after=1.0, restart="temporary"),
        puppet("c", slow_after=50.0, shutdown="brutal_kill"),
    ]
    async with open_supervisor(specs) as supervisor:
        for name in "abc":
            for _ in range(200):
                supervisor.child(name).cast("x")
        supervisor.child("a").cast(crash())
        supervisor.child("c").cast(sleep_then(100.0))
        await settle()
        assert await supervisor.child("a").call(ping) == 2
        process = process_of(supervisor)
        assert process
        assert len(waiting(process)) <= 4  # of both incarnations of a, and of the others
        await trio.sleep(10.0)
        assert len(waiting(process)) == 1  # of c, which is in its callback
    assert live_tasks() == before
