"""Attaching, telling, spans: who hears what, and what an observer cannot break."""

import logging
from collections.abc import Generator, Mapping
from functools import partial
from typing import Any

import pytest
import trio

from slipstream import telemetry
from slipstream.errors import ConfigError
from tests.telemetry.support import Clock, Heard, virtual


@pytest.fixture
def heard() -> Generator[Heard]:
    """Attached to everything below ``app``."""
    listener = Heard()
    telemetry.attach("heard", "app", listener)
    yield listener
    telemetry.detach("heard")


def test_a_handler_hears_an_events_name_and_its_data(heard: Heard) -> None:
    telemetry.execute("app.started", port=4000, event="a key may have any name")
    assert heard == [("app.started", {"port": 4000, "event": "a key may have any name"})]


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ("", {"app", "app.one", "app.one.start", "app.one.stop", "application", "other"}),
        ("app", {"app", "app.one", "app.one.start", "app.one.stop"}),
        ("app.one", {"app.one", "app.one.start", "app.one.stop"}),
        ("app.one.stop", {"app.one.stop"}),
        ("app.on", set[str]()),
    ],
)
def test_a_prefix_is_whole_parts_of_the_name(wanted: str, told: set[str]) -> None:
    with telemetry.capture_events(wanted) as events:
        for event in ("app", "app.one", "app.one.start", "app.one.stop", "application", "other"):
            telemetry.execute(event)
    assert {event for event, _ in events} == told


@pytest.mark.parametrize(
    ("wanted", "asked"),
    [
        ("", True),
        ("app", True),
        ("app.work", True),
        ("app.work.stop", True),  # whoever wants an end of the span wants the span
        ("app.work.deeper.still", True),
        ("app.workshop", False),
        ("app.wor", False),
        ("other", False),
    ],
)
def test_one_can_ask_whether_anyone_wants_an_event_or_a_span(wanted: str, asked: bool) -> None:
    assert not telemetry.attached("app.work")
    telemetry.attach("asker", wanted, Heard())
    assert telemetry.attached("app.work") is asked
    telemetry.detach("asker")
    assert not telemetry.attached("app.work")


def test_asking_for_a_span_does_not_make_its_ends_listener_hear_the_span() -> None:
    with telemetry.capture_events("app.work.stop") as events:
        assert telemetry.attached("app.work")
        telemetry.execute("app.work")
        telemetry.execute("app.work.stop")
    assert [event for event, _ in events] == ["app.work.stop"]


def test_attaching_later_counts_for_events_that_were_told_before() -> None:
    telemetry.execute("app.early")
    with telemetry.capture_events("app") as events:
        telemetry.execute("app.early")
    telemetry.execute("app.early")
    assert len(events) == 1


def test_all_handlers_hear_in_the_order_in_which_they_were_attached() -> None:
    order: list[str] = []

    def note(name: str, event: str, data: Mapping[str, Any]) -> None:
        order.append(name)

    for name in ("first", "second", "third"):
        telemetry.attach(name, "app", partial(note, name))
    telemetry.execute("app.event")
    for name in ("first", "second", "third"):
        assert telemetry.detach(name)
    assert order == ["first", "second", "third"]


def test_a_detached_handler_hears_no_more(heard: Heard) -> None:
    assert telemetry.detach("heard") is True
    telemetry.execute("app.event")
    assert heard == []
    assert telemetry.detach("heard") is False


def test_an_id_can_be_attached_once(heard: Heard) -> None:
    with pytest.raises(ConfigError, match="'heard' is attached already"):
        telemetry.attach("heard", "other", print)
    telemetry.execute("other.event")
    telemetry.execute("app.event")
    assert heard == [("app.event", {})]


@pytest.mark.parametrize("name", ["app.", ".app", "app..one", "app.*", "*", "."])
def test_a_name_that_would_never_match_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="is no dotted name"):
        telemetry.attach("wrong", name, print)
    assert not telemetry.detach("wrong")


def test_a_name_or_an_id_that_is_no_string_is_refused() -> None:
    for wrong in (5, None, ["l"]):
        with pytest.raises(ConfigError, match="telemetry event is"):
            telemetry.attach("wrong", wrong, print)  # type: ignore[arg-type]  # the point
        with pytest.raises(ConfigError, match="telemetry id is"):
            telemetry.attach(wrong, "app", print)  # type: ignore[arg-type]  # the point


def test_what_cannot_be_called_is_refused() -> None:
    async def waits(event: str, data: Mapping[str, Any]) -> None:
        await trio.lowlevel.checkpoint()

    class Waits:
        async def __call__(self, event: str, data: Mapping[str, Any]) -> None: ...

    wrong: tuple[Any, ...] = (waits, Waits(), None, "print")
    for function in wrong:
        with pytest.raises(ConfigError, match=r"'wrong' is .*: give a plain function"):
            telemetry.attach("wrong", "app", function)
        assert not telemetry.detach("wrong")


def test_a_handler_that_raises_is_detached_and_logged_once(
    heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    mistake = ValueError("a bug of the observer's")
    calls: list[str] = []

    def bad(event: str, data: Mapping[str, Any]) -> None:
        calls.append(event)
        raise mistake

    telemetry.attach("bad", "app", bad)
    telemetry.attach("after", "app", after := Heard())
    telemetry.execute("app.one")
    telemetry.execute("app.two")
    assert telemetry.detach("after")

    assert calls == ["app.one"]
    assert [event for event, _ in heard] == ["app.one", "app.two"]
    assert [event for event, _ in after] == ["app.one", "app.two"]
    assert not telemetry.detach("bad")
    [record] = caplog.records
    assert (record.name, record.levelno) == ("slipstream.telemetry", logging.ERROR)
    assert record.getMessage() == "telemetry handler 'bad' raised at app.one and was detached"
    assert record.exc_info is not None
    assert record.exc_info[1] is mistake


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_program_goes_through_a_handler(stop: type[BaseException]) -> None:
    def interrupted(event: str, data: Mapping[str, Any]) -> None:
        raise stop

    telemetry.attach("interrupted", "app", interrupted)
    with pytest.raises(stop):
        telemetry.execute("app.event")
    assert telemetry.detach("interrupted"), "it did nothing wrong"


def test_a_handler_may_attach_and_detach_while_it_is_told(heard: Heard) -> None:
    later = Heard()

    def once(event: str, data: Mapping[str, Any]) -> None:
        telemetry.detach("once")
        telemetry.attach("next", "app", later)

    telemetry.attach("once", "app", once)
    telemetry.execute("app.one")
    telemetry.execute("app.two")
    assert telemetry.detach("next")
    assert [event for event, _ in heard] == ["app.one", "app.two"]
    assert later == [("app.two", {})]


def test_a_handler_that_tells_the_event_it_hears_ends_itself_only(
    heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    def echo(event: str, data: Mapping[str, Any]) -> None:
        telemetry.execute("app.event")

    telemetry.attach("echo", "app", echo)
    telemetry.execute("app.event")
    assert not telemetry.detach("echo")
    assert "telemetry handler 'echo' raised at app.event" in caplog.text
    heard.clear()
    telemetry.execute("app.event")
    assert len(heard) == 1


def test_with_nobody_attached_an_event_is_looked_up_and_no_more() -> None:
    """An event that was told before costs one look-up: no handler's prefix is compared again."""

    class Prefix(str):
        __slots__ = ()
        compared = 0

        def __hash__(self) -> int:
            return super().__hash__()

        def __eq__(self, other: object) -> bool:
            Prefix.compared += 1
            return super().__eq__(other)

    telemetry.attach("elsewhere", Prefix("elsewhere"), print)
    telemetry.execute("app.event")
    assert not telemetry.attached("app.event")
    compared = Prefix.compared
    assert compared > 0
    for _ in range(10):
        telemetry.execute("app.event")
        assert not telemetry.attached("app.event")
    assert telemetry.detach("elsewhere")
    assert Prefix.compared == compared


def test_a_span_tells_its_start_and_its_stop_with_a_duration(heard: Heard) -> None:
    clock = Clock()
    with telemetry.span("app.work", clock=clock, job=7) as extra:
        clock.now += 2.5
        extra["found"] = "it"
    span = heard[0][1]["span"]
    assert heard == [
        ("app.work.start", {"span": span, "job": 7}),
        ("app.work.stop", {"span": span, "job": 7, "found": "it", "duration": 2.5}),
    ]


def test_each_span_has_a_number_of_its_own(heard: Heard) -> None:
    with telemetry.span("app.outer", clock=Clock()), telemetry.span("app.inner", clock=Clock()):
        assert telemetry.new_span() not in {data["span"] for _, data in heard}
    outer, inner, inner_end, outer_end = (data["span"] for _, data in heard)
    assert (outer, inner) == (outer_end, inner_end)
    assert outer != inner


@pytest.mark.parametrize(
    "error",
    [ValueError("a bug"), KeyboardInterrupt(), ExceptionGroup("two", [OSError(), OSError()])],
    ids=lambda error: type(error).__name__,
)
def test_a_span_tells_an_exception_and_lets_it_go_on(error: BaseException, heard: Heard) -> None:
    clock = Clock()

    def work() -> None:
        with telemetry.span("app.work", clock=clock, job=7) as extra:
            extra["got"] = "so far"
            clock.now += 1.0
            raise error

    with pytest.raises(type(error)) as caught:
        work()
    assert caught.value is error
    told = {"job": 7, "got": "so far", "duration": 1.0, "error": error}
    assert heard[1:] == [("app.work.exception", {"span": heard[0][1]["span"], **told})]


def test_a_cancelled_span_is_told_and_the_cancellation_goes_on(heard: Heard) -> None:
    async def scenario() -> None:
        with trio.move_on_after(3.0) as scope, telemetry.span("app.work", clock=trio.current_time):
            await trio.sleep_forever()
        assert scope.cancelled_caught

    virtual(scenario)
    name, data = heard[-1]
    assert name == "app.work.exception"
    assert isinstance(data["error"], trio.Cancelled)
    assert data["duration"] == pytest.approx(3.0)


def test_the_data_of_a_span_cannot_replace_its_exception(heard: Heard) -> None:
    def work() -> None:
        with telemetry.span("app.work", clock=Clock(), error="mine", duration="mine") as extra:
            extra["error"] = "mine too"
            raise OSError

    with pytest.raises(OSError, match=r"^$") as caught:
        work()
    span = heard[0][1]["span"]
    assert heard[-1][1] == {"span": span, "error": caught.value, "duration": 0.0}


def test_a_span_whose_handler_raises_changes_nothing_for_the_block(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def bad(event: str, data: Mapping[str, Any]) -> None:
        raise RuntimeError

    telemetry.attach("bad", "app.work.stop", bad)
    done = False
    with telemetry.span("app.work", clock=Clock()):
        done = True
    assert done
    assert not telemetry.detach("bad")
    assert len(caplog.records) == 1


def test_captures_can_be_nested_and_end_with_their_block() -> None:
    def fail() -> None:
        with telemetry.capture_events("app.inner") as inner:
            telemetry.execute("app.inner.event", inside=True)
            telemetry.execute("app.other")
            assert inner == [("app.inner.event", {"inside": True})]
            raise OSError

    with telemetry.capture_events("app") as outer:
        with pytest.raises(OSError, match=r"^$"):
            fail()
        telemetry.execute("app.inner.event", inside=False)
    assert not telemetry.attached("app.inner.event")
    assert [event for event, _ in outer] == ["app.inner.event", "app.other", "app.inner.event"]


def test_a_capture_hears_only_the_library_unless_told_otherwise() -> None:
    with telemetry.capture_events() as events:
        telemetry.execute("slipstream.client.rejoin")
        telemetry.execute("app.event")
    assert [event for event, _ in events] == ["slipstream.client.rejoin"]
