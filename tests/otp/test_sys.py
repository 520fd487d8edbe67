"""Looking into processes from outside, and holding them."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import attrs
import pytest
import trio
from hypothesis import given, settings, strategies as st

from slipstream.errors import (
    BadReturnError,
    CallingSelfError,
    CallTimeoutError,
    DeadlockError,
    ServerGoneError,
)
from slipstream.otp import (
    GenServer,
    NoReply,
    Reply,
    ServerRef,
    Status,
    Supervisor,
    SupervisorRef,
    Timeout,
    open_server,
    open_supervisor,
    sys,
)
from slipstream.otp.sys import HandlingBegan, HandlingEnded
from slipstream.reasons import KILLED, NOPROC, NORMAL
from tests.otp.support import (
    Boom,
    Diary,
    Puppet,
    Role,
    crash,
    end,
    ping,
    puppet,
    records,
    run_virtually,
    settle,
    sleep_then,
    started,
    virtual,
)


def note(what: str) -> Callable[[Puppet], None]:
    """Have the process write down *what* it was sent."""
    return lambda me: me.write("did", what)


async def hold(ref: ServerRef) -> None:
    await sys.suspend(ref)
    await sys.resume(ref)


REQUESTS: dict[str, Callable[[ServerRef], Awaitable[Any]]] = {
    "get_state": sys.get_state,
    "replace_state": lambda ref: sys.replace_state(ref, lambda state: state),
    "get_status": sys.get_status,
    "suspend and resume": hold,
    "trace": sys.trace,
    "statistics": sys.statistics,
}


# -- the state


@pytest.mark.parametrize("suspended", [False, True])
@virtual
async def test_the_state_is_the_attributes_after_what_was_sent_before(suspended: bool) -> None:
    """GS-080: also of one that is suspended."""
    async with open_server(Puppet) as ref:
        ref.cast(lambda me: setattr(me, "thing", [1]))
        if suspended:
            await sys.suspend(ref)
            ref.cast(lambda me: setattr(me, "thing", [2]))
        state = await sys.get_state(ref)
        assert state.pop("role").starts == 1
        assert state == {"number": 1, "thing": [1]}
        assert "thing" in await sys.get_state(ref)  # the dict is not the process's


class Slotted(GenServer):
    """Has its state in slots, and forbids to set it."""

    __slots__ = ("fixed", "gone")

    fixed: int

    async def init(self) -> None:
        object.__setattr__(self, "fixed", 1)
        object.__setattr__(self, "gone", 2)
        object.__setattr__(self, "free", 3)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name} is frozen")

    @property
    def derived(self) -> int:
        return self.fixed + 1


@pytest.mark.parametrize("suspended", [False, True])
@virtual
async def test_a_state_is_replaced_as_a_whole(suspended: bool) -> None:
    """GS-081: dict to dict; also of one that is suspended."""
    async with open_server(Slotted) as ref:
        if suspended:
            await sys.suspend(ref)
        seen: list[dict[str, Any]] = []

        def replace(state: dict[str, Any]) -> Mapping[str, Any]:
            seen.append(dict(state))
            state.pop("gone")
            return {**state, "fixed": 10, "free": 30, "new": 40}

        assert await sys.replace_state(ref, replace) == {"fixed": 10, "free": 30, "new": 40}
        assert seen == [{"fixed": 1, "gone": 2, "free": 3}]
        assert await sys.get_state(ref) == {"fixed": 10, "free": 30, "new": 40}


async def no_state(state: dict[str, Any]) -> dict[str, Any]:
    return state


def change_and_raise(state: dict[str, Any]) -> Mapping[str, Any]:
    state["fixed"] = 99
    raise Boom("no new state")


@pytest.mark.parametrize(
    ("function", "error"),
    [
        (change_and_raise, Boom),
        (lambda _: None, BadReturnError),
        (lambda _: {1: 2}, BadReturnError),
        (lambda _: {"free": 9, "derived": 9}, AttributeError),
        (no_state, BadReturnError),
    ],
    ids=["raises", "nothing", "no names", "a property", "a coroutine"],
)
@pytest.mark.parametrize("suspended", [False, True])
@virtual
async def test_a_function_that_fails_leaves_the_state(
    function: Any, error: type[Exception], suspended: bool
) -> None:
    """GS-081: its error is the caller's; the process lives."""
    async with open_server(Slotted) as ref:
        if suspended:
            await sys.suspend(ref)
        with pytest.raises(error):
            await sys.replace_state(ref, function)
        assert await sys.get_state(ref) == {"fixed": 1, "gone": 2, "free": 3}


# -- suspending


@virtual
async def test_a_suspended_process_handles_nothing_until_it_is_resumed() -> None:
    """GS-080: messages keep their order, calls wait for their answer."""
    role = Role()
    async with open_server(Puppet, role) as ref:
        ref.cast(note("before"))
        await sys.suspend(ref)
        await sys.suspend(ref)  # a second time changes nothing
        ref.cast(note("cast"))
        pending = ref.send_request(ping)
        ref.send(note("info"))
        ref.send_after(1.0, note("timer"))
        await trio.sleep(2.0)
        assert role.diary.names("did") == ["puppet"]
        assert not pending.done
        assert ref.statistics().waiting == 4
        with pytest.raises(CallTimeoutError):
            await ref.call(ping)
        assert (await sys.get_status(ref)).suspended
        await sys.resume(ref)
        assert await pending.wait() == 1
        await settle()
        assert [entry[1] for entry in role.diary.of("did")] == ["before", "cast", "info", "timer"]
        assert not (await sys.get_status(ref)).suspended


@virtual
async def test_requests_in_the_mailbox_behind_a_suspension_are_answered() -> None:
    """In their order, past the messages between them, whose places do not change."""
    role = Role()
    async with open_server(Puppet, role) as ref, trio.open_nursery() as nursery:
        ref.cast(sleep_then(1.0))
        await settle()
        nursery.start_soon(sys.suspend, ref)
        await settle()
        for number in range(5):
            ref.cast(note(f"{number}"))
            nursery.start_soon(sys.get_state, ref)
            await settle()
        await trio.sleep(2.0)
        assert ref.statistics().open_calls == 0
        assert role.diary.of("did") == []
        await sys.resume(ref)
        await settle()
        assert [entry[1] for entry in role.diary.of("did")] == ["0", "1", "2", "3", "4"]


@virtual
async def test_messages_that_are_taken_back_during_a_suspension_hide_no_request() -> None:
    """A helper task that demonitors takes them out of the mailbox."""
    async with open_supervisor([puppet("a"), puppet("gone", restart="temporary")]) as supervisor:
        ref, gone = supervisor.child("a"), supervisor.child("gone").pin()
        await gone.stop()

        async def look_away(me: Puppet) -> None:
            await trio.sleep(1.0)
            monitors = [me.monitor(gone) for _ in range(3)]
            await trio.sleep(1.0)
            for monitor in monitors:
                me.demonitor(monitor)

        ref.cast(lambda me: me.start_soon(look_away, me))
        await sys.suspend(ref)
        await trio.sleep(1.5)
        assert ref.statistics().waiting == 3
        await trio.sleep(1.0)
        assert (await sys.get_state(ref))["number"] == 1
        assert ref.statistics().waiting == 0


OPERATIONS = ["cast", "send", "call", "suspend", "resume", "get_state", "busy", "time"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(OPERATIONS), max_size=30))
def test_whatever_is_asked_messages_are_handled_in_order_and_only_while_not_suspended(
    operations: list[str],
) -> None:
    async def scenario() -> None:
        role, sent, held, suspended = Role(), 0, 0, False
        pending = []
        async with open_server(Puppet, role) as ref:
            for operation in operations:
                match operation:
                    case "cast":
                        ref.cast(f"{sent}")
                    case "send":
                        ref.send(f"{sent}")
                    case "call":
                        number = sent

                        def answer(me: Puppet, _: Any, number: int = number) -> Reply:
                            me.write("call", f"{number}")
                            return Reply(number)

                        pending.append((number, ref.send_request(answer)))
                    case "busy":
                        ref.cast(note_and_sleep(sent))
                    case "suspend":
                        await sys.suspend(ref, timeout=None)
                        held, suspended = held if suspended else sent, True
                    case "resume":
                        await sys.resume(ref, timeout=None)
                        suspended = False
                    case "get_state":
                        await sys.get_state(ref, timeout=None)
                    case _:
                        await trio.sleep(1.0)
                sent += operation in {"cast", "send", "call", "busy"}
                if operation == "get_state":
                    handled = held if suspended else sent
                    assert numbers(role) == list(range(handled))
                    assert ref.statistics().handled == handled
                    assert ref.statistics().waiting == sent - handled
            await sys.resume(ref)
            await sys.statistics(ref, timeout=None)
            assert numbers(role) == list(range(sent))
            for number, call in pending:
                assert await call.wait(timeout=0.0) == number

    run_virtually(scenario)


def note_and_sleep(number: int) -> Callable[[Puppet], Awaitable[None]]:
    async def act(me: Puppet) -> None:
        me.write("busy", f"{number}")
        await trio.sleep(0.5)

    return act


def numbers(role: Role) -> list[int]:
    kinds = {"cast", "info", "call", "busy"}
    return [int(entry[2]) for entry in role.diary if entry[0] in kinds]


@pytest.mark.parametrize("drain", [False, True])
@pytest.mark.parametrize("how", ["stop", "leave", "supervisor"])
@virtual
async def test_a_suspended_process_can_be_stopped(how: str, drain: bool) -> None:
    """At once; what waits in its mailbox is not handled even if it drains."""
    diary = Diary()
    spec = puppet("a", diary, drain=drain, restart="temporary")
    before = trio.current_time()
    async with open_supervisor([spec]) as supervisor:
        ref = supervisor.child("a")
        one = ref.pin()
        await sys.suspend(ref)
        ref.cast(note("never"))
        match how:
            case "stop":
                await ref.stop()
                assert await one.wait() == NORMAL
            case "supervisor":
                await supervisor.terminate_child("a")
            case _:
                pass
    assert trio.current_time() == before
    assert diary.names("terminate") == ["a"]
    assert diary.of("did") == []


@virtual
async def test_a_suspended_process_that_must_be_killed_is_killed() -> None:
    diary = Diary()
    async with open_supervisor([puppet("a", diary, shutdown="brutal_kill")]) as supervisor:
        one = supervisor.child("a").pin()
        await sys.suspend(one)
        await supervisor.terminate_child("a")
        assert await one.wait() == KILLED
    assert diary.names("terminate") == []


@virtual
async def test_a_new_incarnation_is_neither_suspended_nor_traced() -> None:
    async with open_supervisor([puppet("a")]) as supervisor:
        ref = supervisor.child("a")
        await sys.trace(ref)
        ref.cast(crash())
        await settle()
        status = await sys.get_status(ref)
        assert (status.suspended, status.traced) == (False, False)


# -- what requests must not do


class Idler(GenServer):
    """Has an idle time-out of 5 s."""

    async def init(self, diary: Diary) -> NoReply:
        self.diary = diary
        return NoReply(timeout=5.0)

    async def handle_cast(self, message: Any) -> None:
        self.diary.write("cast", message)

    async def handle_info(self, message: Any) -> None:
        self.diary.write("info", message, trio.current_time() - self.diary.begin)  # type: ignore[attr-defined]  # set by the test


@pytest.mark.parametrize("request_", REQUESTS)
@virtual
async def test_a_request_does_not_cancel_an_idle_time_out(request_: str) -> None:
    """GS-052: it rings when it would have; a message cancels it."""
    diary = Diary()
    diary.begin = trio.current_time()  # type: ignore[attr-defined]  # for this test
    async with open_server(Idler, diary) as ref:
        await trio.sleep(3.0)
        await REQUESTS[request_](ref)
        await trio.sleep(10.0)
        assert diary == [("info", Timeout(), 5.0)]
    diary.clear()
    async with open_server(Idler, diary) as ref:
        await REQUESTS[request_](ref)
        ref.cast("a message")
        await trio.sleep(10.0)
        assert diary == [("cast", "a message")]


@virtual
async def test_an_idle_time_out_that_rings_as_a_request_arrives_is_not_lost() -> None:
    """GS-052: in the very tick, and while the process is suspended."""
    diary = Diary()
    diary.begin = trio.current_time()  # type: ignore[attr-defined]  # for this test
    async with open_server(Idler, diary) as ref, trio.open_nursery() as nursery:

        async def ask_late() -> None:
            await trio.sleep(5.0)
            await sys.get_state(ref)

        nursery.start_soon(ask_late)
        await trio.sleep(6.0)
        assert [kind for kind, *_ in diary] == ["info"]
    diary.clear()
    async with open_server(Idler, diary) as ref:
        await sys.suspend(ref)
        await trio.sleep(7.0)
        assert diary == []
        await sys.resume(ref)
        await settle()
        assert [kind for kind, *_ in diary] == ["info"]


@virtual
async def test_requests_are_no_messages() -> None:
    async with open_server(Puppet) as ref:
        await ref.call(ping)
        for request in REQUESTS.values():
            await request(ref)
        statistics = await sys.statistics(ref)
        assert (statistics.handled, statistics.waiting, statistics.open_calls) == (1, 0, 0)
        assert statistics == ref.statistics()


@virtual
async def test_statistics_come_after_what_was_sent_before() -> None:
    async with open_server(Puppet) as ref:
        for _ in range(200):
            ref.cast("x")
        assert ref.statistics().handled == 0
        assert (await sys.statistics(ref)).handled == 200


# -- requests that come to nothing


@pytest.mark.parametrize("request_", REQUESTS)
@virtual
async def test_a_request_can_fail(request_: str) -> None:
    """Busy, gone, gone meanwhile, to itself, and in a circle."""
    ask = REQUESTS[request_]
    async with open_supervisor([puppet("a", restart="temporary"), puppet("b")]) as supervisor:
        a, b = supervisor.child("a"), supervisor.child("b")
        a.cast(sleep_then(6.0))
        before = trio.current_time()
        with pytest.raises(CallTimeoutError, match=request_.split(maxsplit=1)[0]):
            await ask(a)
        assert trio.current_time() == before + 5.0

        async def try_own(me: Puppet, _: Any) -> Reply:
            with pytest.raises(CallingSelfError):
                await ask(me.ref)
            return Reply("refused")

        async def try_circle(_: Puppet, __: Any) -> Reply:
            return Reply(await b.call(try_other))

        async def try_other(_: Puppet, __: Any) -> Reply:
            with pytest.raises(DeadlockError):
                await ask(a)
            return Reply("refused")

        assert await a.call(try_own) == await a.call(try_circle) == "refused"
        one = a.pin()
        a.cast(end(NORMAL))
        with pytest.raises(ServerGoneError):
            await ask(one)
        with pytest.raises(ServerGoneError) as gone:
            await ask(one)
        assert gone.value.reason == NOPROC


@virtual
async def test_a_suspension_that_its_caller_has_given_up_does_not_come_later() -> None:
    async with open_server(Puppet) as ref:
        ref.cast(sleep_then(6.0))
        with pytest.raises(CallTimeoutError):
            await sys.suspend(ref, timeout=1.0)
        assert await ref.call(ping, timeout=None) == 1


# -- get_status


class Discreet(GenServer):
    """Shows nothing of itself."""

    async def init(self) -> None:
        self.token = "s3cret"  # noqa: S105 - no password, a value that must not show

    async def handle_cast(self, message: Any) -> None:
        pass

    def format_status(self, status: Status) -> Status:
        assert status.reason is None
        return attrs.evolve(status, state={"token": "<hidden>"}, message="<message>")


@pytest.mark.parametrize("kind", ["by name", "by id", "pinned"])
@virtual
async def test_the_status_is_what_format_status_gives(kind: str) -> None:
    """GS-082: whatever the process is found by."""
    spec = Discreet.child_spec(name="quiet" if kind == "by name" else None)
    async with open_supervisor([spec], name="app") as supervisor:
        ref = supervisor.whereis("quiet") if kind == "by name" else supervisor.child(Discreet)
        assert ref
        if kind == "pinned":
            ref = ref.pin()
        ref.cast("t0psecret")
        status = await sys.get_status(ref)
        assert status.state == {"token": "<hidden>"}
        assert status.message == "<message>"
        assert status.path == ("app", "quiet" if kind == "by name" else "Discreet")
        assert status.cls is Discreet
        assert status.statistics.handled == 1
        assert await sys.get_state(ref) == {"token": "s3cret"}


@virtual
async def test_a_formatter_that_raises_gives_a_placeholder() -> None:
    """GS-085."""

    class Clumsy(Discreet):
        def format_status(self, status: Status) -> Status:
            raise KeyError("formatter")

    async with open_server(Clumsy) as ref:
        status = await sys.get_status(ref)
        assert "formatter" in str(status.state)
        assert "s3cret" not in str(status)


# -- trace


@virtual
async def test_a_trace_tells_before_and_after_all_that_is_handled() -> None:
    events: list[HandlingBegan | HandlingEnded] = []
    async with open_server(Puppet, name="p") as ref:
        await sys.trace(ref, events.append)
        assert (await sys.get_status(ref)).traced
        act = sleep_then(2.0)
        ref.cast(act)
        assert await ref.call(ping) == 1
        ref.send("hello")
        await settle()
        await sys.trace(ref, None)
        ref.cast("untraced")
        await settle()
    path = ("p",)
    assert events == [
        HandlingBegan(path, "handle_cast", act),
        HandlingEnded(path, "handle_cast", act, None, 2.0),
        HandlingBegan(path, "handle_call", ping),
        HandlingEnded(path, "handle_call", ping, Reply(1), 0.0),
        HandlingBegan(path, "handle_info", "hello"),
        HandlingEnded(path, "handle_info", "hello", None, 0.0),
    ]


@virtual
async def test_a_trace_tells_what_a_callback_raised() -> None:
    events: list[Any] = []
    boom = Boom("bug")
    async with open_supervisor([puppet("a", restart="temporary")]) as supervisor:
        ref = supervisor.child("a")
        await sys.trace(ref, events.append)
        ref.cast(crash(boom))
        await settle()
    assert events[-1].result is boom


@virtual
async def test_a_trace_is_logged_by_default(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with open_server(Puppet, name="p") as ref:
        await sys.trace(ref)
        ref.cast("hello")
        await settle()
    began, ended = [record.getMessage() for record in records(caplog, logging.INFO)]
    assert began == "p: handle_cast gets 'hello'"
    assert ended.startswith("p: handle_cast took 0 s and gave None")


@virtual
async def test_a_trace_in_the_log_shows_what_format_status_gives(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A function of one's own gets the message as it is."""

    class Discreet(Puppet):
        def format_status(self, status: Status) -> Status:
            return attrs.evolve(status, message="<hidden>")

    caplog.set_level(logging.INFO, "slipstream")
    async with open_server(Discreet) as server:
        await sys.trace(server)
        server.cast(idle)
        await settle()
        assert "handle_cast gets '<hidden>'" in caplog.text
        assert "idle" not in caplog.text
        told: list[Any] = []
        await sys.trace(server, told.append)
        server.cast(idle)
        await settle()
        assert told[0].message is idle


async def idle(me: Puppet) -> None:
    """Do nothing."""


@virtual
async def test_a_trace_that_raises_is_taken_off(caplog: pytest.LogCaptureFixture) -> None:
    calls: list[Any] = []

    def trace(event: Any) -> None:
        calls.append(event)
        raise Boom("in the trace")

    async with open_server(Puppet) as ref:
        await sys.trace(ref, trace)
        assert await ref.call(ping) == 1
        assert await ref.call(ping) == 1
        assert not (await sys.get_status(ref)).traced
    assert len(calls) == 1
    assert "in the trace" in caplog.text


# -- supervisors


@virtual
async def test_a_supervisor_has_a_state_too() -> None:
    """GS-080: the attributes of the instance of its class."""

    class App(Supervisor):
        async def init(self) -> Any:
            self.mode = "test"
            return []

    async with open_supervisor(App) as supervisor:
        assert await sys.get_state(supervisor) == {"mode": "test"}
        assert await sys.replace_state(supervisor, lambda _: {"mode": "live"}) == {"mode": "live"}
        status = await sys.get_status(supervisor)
        assert (status.cls, status.state) == (App, {"mode": "live"})


@virtual
async def test_a_suspended_supervisor_does_nothing_until_it_is_resumed() -> None:
    """Its children live on; their ends and all requests wait."""
    diary = Diary()
    async with open_supervisor([puppet("a", diary)]) as supervisor, trio.open_nursery() as nursery:
        await sys.suspend(supervisor)
        supervisor.child("a").cast(crash())
        await settle()
        nursery.start_soon(supervisor.start_child, puppet("b", diary))
        await trio.sleep(1.0)
        assert started(diary) == ["a"]
        assert (await sys.get_status(supervisor)).suspended
        await sys.resume(supervisor)
        await settle()
        assert started(diary) == ["a", "a", "b"]
        statistics = supervisor.statistics()
        assert statistics.handled == 2


@virtual
async def test_a_suspended_supervisor_stops_its_children() -> None:
    diary = Diary()
    async with open_supervisor([puppet("a", diary), puppet("b", diary)]) as supervisor:
        await sys.suspend(supervisor)
    assert diary.names("terminate") == ["b", "a"]


@virtual
async def test_a_trace_of_a_supervisor_tells_what_it_does() -> None:
    events: list[Any] = []
    spec = puppet("b")
    async with open_supervisor([puppet("a")], name="app") as supervisor:
        await sys.trace(supervisor, events.append)
        supervisor.child("a").cast(crash())
        await settle()
        await supervisor.start_child(spec)
        supervisor.send("what?")
        await settle()
    began = [event for event in events if isinstance(event, HandlingBegan)]
    assert began == [
        HandlingBegan(("app",), "child_ended", "a"),
        HandlingBegan(("app",), "start_child", spec),
        HandlingBegan(("app",), "drop", "what?"),
    ]
    assert len(events) == 6


@virtual
async def test_a_child_that_starts_cannot_look_into_its_supervisor() -> None:
    """TRI-063: that could never be answered."""

    async def init(me: Puppet) -> None:
        root = me.whereis("app")
        assert isinstance(root, SupervisorRef)
        with pytest.raises(DeadlockError):
            await sys.get_state(root)

    async with open_supervisor([puppet("a", init=init)], name="app"):
        pass


# -- statistics


@virtual
async def test_statistics_count_the_restarts_of_a_child() -> None:
    """Over its supervisor's life, whoever started it again; an owned or a root process has none."""
    diary = Diary()
    async with open_supervisor(
        [puppet("a", diary), puppet("b", diary)], strategy="rest_for_one", max_seconds=0.5
    ) as supervisor:
        a, b = supervisor.child("a"), supervisor.child("b")
        for _ in range(5):
            a.cast(crash())
            await trio.sleep(1.0)
        await supervisor.terminate_child("b")
        assert b.statistics().restarts == 5
        await supervisor.restart_child("b")
        assert a.statistics().restarts == a.pin().statistics().restarts == 5
        assert b.statistics().restarts == 6
        assert supervisor.statistics().restarts == 0


@virtual
async def test_statistics_tell_the_seconds_in_callbacks() -> None:
    """Of this incarnation: in init, in callbacks, in the one that runs; not at rest or on hold."""
    init = sleep_then(0.5)
    async with open_supervisor([puppet("a", init=init), puppet("idle")]) as supervisor:
        ref = supervisor.child("a")
        assert ref.statistics().busy == pytest.approx(0.5)
        await trio.sleep(10.0)
        ref.cast(sleep_then(2.0))
        ref.cast(sleep_then(1.0))
        await trio.sleep(2.5)
        assert ref.statistics().busy == pytest.approx(3.0)
        await trio.sleep(2.5)
        assert ref.statistics().busy == pytest.approx(3.5)
        await sys.suspend(ref)
        await trio.sleep(4.0)
        await sys.resume(ref)
        await trio.sleep(4.0)
        assert ref.statistics().busy == pytest.approx(3.5)
        for _ in range(300):
            ref.cast("x")
        await settle()
        assert ref.statistics().busy == pytest.approx(3.5)
        ref.cast(crash())
        await trio.sleep(1.0)
        assert ref.statistics().busy == pytest.approx(0.5)
        assert supervisor.child("idle").statistics().busy == 0.0
        assert supervisor.statistics().busy == pytest.approx(1.0)  # it started a, twice
