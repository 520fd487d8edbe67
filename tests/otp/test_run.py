"""slipstream.run: the one place that touches signals."""

import signal
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from slipstream.errors import SupervisorGaveUpError
from slipstream.otp import open_supervisor, run
from slipstream.reasons import NORMAL, SHUTDOWN
from tests.otp.support import Boom, Diary, Puppet, crash, end, puppet, stopped

SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture(autouse=True)
def _handlers_are_put_back() -> Any:
    before = [signal.getsignal(number) for number in SIGNALS]
    yield
    assert [signal.getsignal(number) for number in SIGNALS] == before


def virtual_run(program: Any) -> Any:
    return run(program, clock=MockClock(autojump_threshold=0))


def test_a_function_is_run_and_its_value_given() -> None:
    async def main() -> int:
        await trio.sleep(1.0)
        return 7

    assert virtual_run(main) == 7


def test_what_a_function_raises_is_raised_bare() -> None:
    async def main() -> None:
        raise Boom("main")

    with pytest.raises(Boom):
        virtual_run(main)


def test_children_are_supervised_until_their_supervisor_ends() -> None:
    diary = Diary()

    async def give_up(me: Puppet) -> None:
        await trio.sleep(1.0)
        raise Boom

    spec = puppet("a", diary, init=lambda me: me.ref.cast(give_up))
    with pytest.raises(SupervisorGaveUpError):
        virtual_run([spec])
    assert diary.names("init") == ["a"] * 4


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_stops_everything_in_order(number: signal.Signals) -> None:
    """The exit code is 128 and the signal."""
    diary = Diary()

    async def main() -> None:
        children = [puppet("a", diary), puppet("b", diary)]
        async with open_supervisor(children):
            signal.raise_signal(number)
            await trio.sleep_forever()

    with pytest.raises(SystemExit) as ended:
        run(main)
    assert ended.value.code == 128 + number
    assert stopped(diary) == ["b", "a"]


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_ends_a_list_of_children_too(number: signal.Signals) -> None:
    diary = Diary()

    def init(_: Puppet) -> None:
        signal.raise_signal(number)

    with pytest.raises(SystemExit) as ended:
        run([puppet("a", diary, init=init), puppet("b", diary)])
    assert ended.value.code == 128 + number


def test_the_processes_are_told_that_they_were_cancelled() -> None:
    """Close code 1001 hangs on it."""
    diary = Diary()

    def goodbye(me: Puppet, reason: Any) -> None:
        me.write("cause", me.stop_cause, reason)

    async def main() -> None:
        async with open_supervisor([puppet("a", diary, terminate=goodbye)]):
            signal.raise_signal(signal.SIGTERM)
            await trio.sleep_forever()

    with pytest.raises(SystemExit):
        run(main)
    assert diary.of("cause") == [("a", "cancelled", SHUTDOWN)]


def test_a_second_signal_kills_every_open_tree() -> None:
    diary = Diary()

    async def goodbye(me: Puppet, _: Any) -> None:
        me.write("says goodbye")
        signal.raise_signal(signal.SIGTERM)
        await trio.sleep(30.0)

    async def main() -> None:
        async with (
            open_supervisor([puppet("other", diary)]),
            open_supervisor([puppet("a", diary), puppet("b", diary, terminate=goodbye)]),
        ):
            signal.raise_signal(signal.SIGTERM)
            await trio.sleep_forever()

    with pytest.raises(SystemExit) as ended:
        run(main)
    assert ended.value.code == 128 + signal.SIGTERM
    assert diary.of("says goodbye") == ["b"]
    assert stopped(diary) == ["b"]


def test_an_error_while_stopping_after_a_signal_is_not_lost() -> None:
    async def main() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
            await trio.sleep_forever()
        finally:
            raise Boom("cleaning up")

    with pytest.raises(Boom):
        run(main)


def test_a_program_that_ignores_the_first_signal_still_ends_in_system_exit() -> None:
    async def main() -> str:
        with trio.CancelScope(shield=True):
            signal.raise_signal(signal.SIGINT)
            await trio.testing.wait_all_tasks_blocked()
        return "done"

    with pytest.raises(SystemExit) as ended:
        run(main)
    assert ended.value.code == 128 + signal.SIGINT


def test_system_exit_of_a_child_is_the_exit_of_the_program() -> None:
    """TRI-042."""
    diary = Diary()

    async def main() -> None:
        async with open_supervisor([puppet("a", diary), puppet("b", diary)]) as supervisor:
            supervisor.child("b").cast(crash(SystemExit(3)))
            await trio.sleep_forever()

    with pytest.raises(SystemExit) as ended:
        virtual_run(main)
    assert ended.value.code == 3
    assert stopped(diary)[-1] == "a"


def test_an_orderly_end_of_the_supervisor_is_the_value() -> None:
    spec = puppet(
        "s",
        init=lambda me: me.ref.cast(end(NORMAL)),
        restart="transient",
        significant=True,
    )

    async def main() -> Any:
        async with open_supervisor([spec], auto_shutdown="any_significant") as supervisor:
            return await supervisor.wait()

    assert virtual_run(main) == SHUTDOWN


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """What the program said of itself, with its level: reports have more than one line, or a name."""
    return [
        (record.levelname, record.getMessage())
        for record in caplog.records
        if not hasattr(record, "report")
    ]


async def succeed() -> int:
    return 0


async def fail() -> None:
    raise Boom("main")


async def leave() -> None:
    raise SystemExit(3)


async def interrupt() -> None:
    signal.raise_signal(signal.SIGTERM)
    await trio.sleep_forever()


async def interrupt_twice() -> None:
    signal.raise_signal(signal.SIGINT)
    with trio.CancelScope(shield=True):
        await trio.sleep(0.05)
        signal.raise_signal(signal.SIGTERM)
        await trio.sleep(0.05)


@pytest.mark.parametrize(
    ("main", "code", "said"),
    [
        (succeed, None, [("INFO", "ended")]),
        (fail, None, [("ERROR", "ended by Boom")]),
        (leave, 3, [("INFO", "ended by SystemExit, exit code 3")]),
        (
            interrupt,
            143,
            [
                ("INFO", "SIGTERM: stopping in order; another signal kills"),
                ("INFO", "stopped by SIGTERM, exit code 143"),
            ],
        ),
        (
            interrupt_twice,
            130,
            [
                ("INFO", "SIGINT: stopping in order; another signal kills"),
                ("WARNING", "SIGTERM after the first signal: killing what still runs"),
                ("INFO", "stopped by SIGINT, exit code 130"),
            ],
        ),
    ],
)
def test_each_end_of_a_program_is_a_line_and_a_code(
    main: Any, code: int | None, said: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "slipstream")
    try:
        run(main)
    except SystemExit as ended:
        assert ended.code == code
    except Boom:
        assert main is fail
    else:
        assert code is None
    assert lines(caplog) == said


def test_children_that_end_are_a_line_with_the_reason(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "slipstream")
    spec = puppet(
        "s", init=lambda me: me.ref.cast(end(NORMAL)), restart="transient", significant=True
    )

    async def main() -> Any:
        async with open_supervisor([spec], auto_shutdown="any_significant") as supervisor:
            return await supervisor.wait()

    assert virtual_run(main) == SHUTDOWN
    assert lines(caplog)[-1] == ("INFO", "ended: Shutdown(detail=None)")
