"""What a client sees of each fault, over both wires; and how faults compose."""

import gc
import math
import weakref
from collections.abc import Sequence
from typing import Any

import pytest
import trio
from hypothesis import given, settings, strategies as st

from slipstream.config import ReconnectPolicy
from slipstream.errors import ConfigError, ConnectError
from slipstream.interfaces import Message
from slipstream.reasons import (
    ClosedByServer,
    ConnectFailed,
    ConnectionLost,
    HeartbeatTimeout,
    JoinTimedOut,
    PushTimedOut,
    TransportFailed,
)
from slipstream.telemetry import capture_events
from slipstream.testing import Channel, PhoenixServer, ServerSocket
from slipstream.testing.faults import (
    Fault,
    Moment,
    after,
    close,
    drop,
    drop_after,
    duplicate_frames,
    garble,
    half_open,
    never_answer,
    refuse,
    reorder,
    reply_late,
    restart,
    slow,
    stall_reads,
    stall_writes,
)

from .support import Room
from .wires import Client, both_wires, client_of, over, running

HEARTBEATS: dict[str, Any] = {
    "heartbeat_interval": 0.1,
    "heartbeat_timeout": 0.1,
    "close_timeout": 0.1,
}


def numbers(client: Client) -> list[int]:
    """Give what was broadcast and came, in the order in which it came."""
    return [payload["n"] for _, event, payload in client.of("handle_message") if event == "news"]


async def arrived(client: Client, count: int) -> list[int]:
    await client.calls.wait_until(lambda: len(numbers(client)) >= count)
    return numbers(client)


# At the connect


@both_wires
def test_refuse(memory: bool) -> None:
    async def scenario(memory: bool) -> None:
        def prepare(server: PhoenixServer) -> None:
            server.inject(refuse(503, retry_after=1, body=b"later", x_id="7"), to="next")
            server.inject(refuse(429, retry_after=0), to="next")

        async with running(memory=memory, prepare=prepare, reconnect=ReconnectPolicy()) as client:
            started = trio.current_time()
            (first,) = await client.called("handle_disconnect")
            assert isinstance(first, ConnectFailed)
            assert (first.status, first.body) == (503, b"later")
            assert dict(first.headers)["retry-after"] == "1"
            assert dict(first.headers)["x-id"] == "7"
            (second,) = await client.called("handle_disconnect", 2)
            assert second.status == 429
            assert trio.current_time() - started >= 1.0
            await client.called("handle_connect")
            assert len(client.server.requests) == 3

    over(scenario, memory=memory)


@both_wires
def test_never_answer(memory: bool) -> None:
    async def scenario(memory: bool) -> None:
        def prepare(server: PhoenixServer) -> None:
            server.inject(never_answer(), to="next")

        async with running(memory=memory, prepare=prepare, connect_timeout=0.3) as client:
            (reason,) = await client.called("handle_disconnect")
            assert isinstance(reason, ConnectFailed)
            assert isinstance(reason.error, ConnectError)
            assert (reason.error.step, reason.status) == ("upgrade", None)
            await client.called("handle_connect")
            await client.server.wait_connections(1)

    over(scenario, memory=memory)


# At a moment


@both_wires
def test_drop_after_a_join(memory: bool) -> None:
    class Counting(Room):
        async def join(self, topic: str, payload: Any, socket: ServerSocket, /) -> None:
            joins.append(topic)

    joins: list[str] = []

    async def scenario(memory: bool) -> None:
        async with running(memory=memory, channels={"rooms:*": Counting}) as client:
            await client.called("handle_connect")
            injected = client.server.inject(drop_after("phx_join"), to="next")
            client.server.drop()
            await client.called("handle_connect", 2)
            client.socket.join("rooms:1")
            (reason,) = await client.called("handle_disconnect", 2)
            assert isinstance(reason, TransportFailed)
            assert client.of("handle_join") == []
            await client.called("handle_join")
            assert injected.struck == 1
            assert [frame.event for frame in client.server.frames] == ["phx_join"] * 2
            assert joins == ["rooms:1"]  # the channel never heard of the first

    over(scenario, memory=memory)


@both_wires
def test_close(memory: bool) -> None:
    async def scenario(memory: bool) -> None:
        async with running(memory=memory) as client:
            await client.joined()
            client.server.inject(close(1012, "deploy"), to="open")
            assert await client.called("handle_disconnect") == (ClosedByServer(1012, "deploy"),)
            await client.called("handle_join", 2)
            assert len(client.of("handle_disconnect")) == 1

    over(scenario, memory=memory)


@both_wires
def test_a_server_that_closes_every_connection_soon(memory: bool) -> None:
    async def scenario(memory: bool) -> None:
        async with running(memory=memory) as client:
            flapping = client.server.inject(after("phx_reply", close(1013)))
            client.socket.join("rooms:1")
            await client.called("handle_disconnect", 3)
            assert set(client.of("handle_disconnect")) == {(ClosedByServer(1013),)}
            flapping.lift()
            await client.called("handle_join", flapping.struck + 1)
            await trio.sleep(0.1)
            assert flapping.struck == len(client.of("handle_disconnect"))

    over(scenario, memory=memory)


@both_wires
def test_restart(memory: bool) -> None:
    async def scenario(memory: bool) -> None:
        async with running(memory=memory, reconnect=[0.05]) as client:
            await client.joined()
            client.server.inject(after("restart", restart(down_for=0.3)), to="open")
            started = trio.current_time()
            await client.push("restart", {})
            assert await client.called("handle_disconnect") == (ClosedByServer(1012),)
            await client.called("handle_join", 2)
            assert trio.current_time() - started >= 0.3
            assert {reason.error.step for (reason,) in client.of("handle_disconnect")[1:]} == {
                "tcp"
            }

    over(scenario, memory=memory)


def test_of_many_that_restart_a_server_one_does(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(memory: bool) -> None:
        async with running(memory=memory) as one, client_of(one.server, memory=memory) as two:
            for client in (one, two):
                await client.joined()
            started = trio.current_time()
            one.server.inject(restart(down_for=1.0), to="open")
            for client in (one, two):
                await client.called("handle_join", 2)
                closes = [reason for (reason,) in client.of("handle_disconnect")]
                assert closes.count(ClosedByServer(1012)) == 1
            assert 1.0 <= trio.current_time() - started < 2.0

    over(scenario, memory=True)
    assert caplog.text == ""


# From a moment on


@both_wires
@pytest.mark.parametrize("fault", [stall_reads(), stall_writes(), half_open()], ids=str)
def test_a_stalled_connection_ends_by_its_heartbeat(memory: bool, fault: Fault) -> None:
    """complaint-8."""

    async def scenario(memory: bool) -> None:
        async with running(memory=memory, **HEARTBEATS) as client:
            await client.joined()
            started = trio.current_time()
            client.server.inject(after("echo", fault), to=client.server.sockets[0])
            ref = await client.push("echo", {}, timeout=30.0)
            assert await client.called("handle_disconnect") == (HeartbeatTimeout(),)
            assert trio.current_time() - started >= 0.1
            if fault != stall_reads():  # which comes too late for what has been read
                assert await client.called("handle_push_failed") == (ref, ConnectionLost(True))
            await client.called("handle_join", 2)
            if fault != stall_writes():
                # Nobody has told the server that the first one is gone.
                assert len(client.server.sockets) == 2

    over(scenario, memory=memory)


@both_wires
def test_a_server_that_reads_nothing_blocks_writes_in_the_end(memory: bool) -> None:
    async def scenario(memory: bool) -> None:
        async with running(memory=memory, write_timeout=0.5, close_timeout=0.1) as client:
            await client.joined()
            client.server.inject(stall_reads(), to="open")
            for _ in range(40):
                await client.push("echo", "x" * 500_000)
            (reason,) = await client.called("handle_disconnect")
            assert isinstance(reason, TransportFailed)
            assert isinstance(reason.error, TimeoutError)

    over(scenario, memory=memory)


@both_wires
def test_what_was_stalled_goes_on(memory: bool) -> None:
    async def scenario(memory: bool) -> None:
        async with running(memory=memory) as client:
            await client.joined()
            reads = client.server.inject(stall_reads())
            both = client.server.inject(half_open())
            await client.push("echo", {"n": 1})
            client.server.broadcast("rooms:1", "news", {"n": 1})
            await trio.sleep(0.1)
            reads.lift()
            await trio.sleep(0.1)
            assert len(client.server.frames) == 1
            assert numbers(client) == []
            both.lift()
            assert await arrived(client, 1) == [1]
            await client.called("handle_reply")
            assert client.of("handle_disconnect") == []

    over(scenario, memory=memory)


@both_wires
def test_what_has_come_but_not_been_handled_is_not_handled_while_reads_are_stalled(
    memory: bool,
) -> None:
    class Slow(Channel):
        async def join(self, topic: str, payload: Any, socket: ServerSocket, /) -> None:
            await go.wait()

    go = trio.Event()

    async def scenario(memory: bool) -> None:
        channels = {"rooms:*": Room, "slow:*": Slow}
        async with running(memory=memory, channels=channels) as client:
            await client.joined()
            client.socket.join("slow:1")
            await client.server.wait_until(lambda: client.server.frames[-1].topic == "slow:1")
            await client.push("echo", {})
            await trio.sleep(0.1)
            stalled = client.server.inject(stall_reads())
            go.set()
            await client.called("handle_join", 2)
            await trio.sleep(0.1)
            assert len(client.server.frames) == 2
            stalled.lift()
            await client.called("handle_reply")

    over(scenario, memory=memory)


@both_wires
def test_what_comes_after_a_close_of_the_server_is_not_handled(memory: bool) -> None:
    async def scenario(memory: bool) -> None:
        async with running(memory=memory) as client:
            await client.joined()
            client.server.inject(after("echo", close(1001)), to="open")
            for n in range(50):
                await client.push("echo", {"n": n})
            await client.called("handle_join", 2)
            assert len(client.server.frames) < 50

    over(scenario, memory=memory)


@both_wires
def test_slow(memory: bool) -> None:
    async def scenario(memory: bool) -> None:
        async with running(memory=memory, heartbeat_interval=0.3, heartbeat_timeout=0.3) as client:
            await client.joined()
            client.server.inject(slow(20_000), to="open")
            started = trio.current_time()
            client.server.broadcast("rooms:1", "news", {"n": 1, "much": "x" * 20_000})
            assert await arrived(client, 1) == [1]
            # Slow is not silent: every byte that comes keeps the connection alive.
            assert trio.current_time() - started >= 1.0
            assert client.of("handle_disconnect") == []

    over(scenario, memory=memory)


# To messages


@both_wires
def test_garble(memory: bool) -> None:
    async def scenario(memory: bool) -> None:
        async with running(memory=memory) as client:
            await client.joined()
            with capture_events("slipstream.connection.undecodable") as undecodable:
                spoilt = client.server.inject(garble("news", times=2, seed=3))
                for n in range(4):
                    client.server.broadcast("rooms:1", "news", {"n": n})
                assert await arrived(client, 2) == [2, 3]
                ref = await client.push("echo", {}, timeout=0.2)
                client.server.inject(garble("phx_reply"))
                assert await client.called("handle_push_failed") == (ref, PushTimedOut())
                spoilt.lift()
            assert len(undecodable) == 3
            assert client.of("handle_disconnect") == []

    over(scenario, memory=memory)


@both_wires
def test_reply_late(memory: bool) -> None:
    async def scenario(memory: bool) -> None:
        async with running(memory=memory) as client:
            await client.joined()
            late = client.server.inject(reply_late(0.3, to="echo"))
            given_up = await client.push("echo", {"n": 1}, timeout=0.1)
            patient = await client.push("echo", {"n": 2})
            assert await client.called("handle_push_failed") == (given_up, PushTimedOut())
            ref, reply = await client.called("handle_reply")
            assert (ref, reply.response) == (patient, {"n": 2})
            await client.push("echo", {"n": 3})
            await client.server.wait_until(lambda: late.struck == 1)
            await client.push("slow", {"n": 4})
            assert (await client.called("handle_reply", 2))[1].response == {"n": 4}
            late.lift()  # what is held comes at once
            assert (await client.called("handle_reply", 3))[1].response == {"n": 3}
            assert len(client.of("handle_reply")) == 3

    over(scenario, memory=memory)


@both_wires
def test_a_join_that_is_answered_late(memory: bool) -> None:
    async def scenario(memory: bool) -> None:
        async with running(memory=memory, join_timeout=0.1) as client:
            late = client.server.inject(reply_late(0.2, to="phx_join"))
            await client.called("handle_connect")
            client.socket.join("rooms:1")
            assert await client.called("handle_topic_close") == ("rooms:1", JoinTimedOut())
            late.lift()
            await client.called("handle_join")

    over(scenario, memory=memory)


@both_wires
def test_duplicate_frames(memory: bool) -> None:
    async def scenario(memory: bool) -> None:
        async with running(memory=memory) as client:
            await client.joined()
            client.server.inject(duplicate_frames())
            client.server.broadcast("rooms:1", "news", {"n": 1})
            assert await arrived(client, 2) == [1, 1]
            await client.push("echo", {"n": 2})
            await client.called("handle_reply")
            client.server.broadcast("rooms:1", "news", {"n": 3})
            assert await arrived(client, 4) == [1, 1, 3, 3]
            assert len(client.of("handle_reply")) == 1  # a push is answered once
            client.socket.leave("rooms:1")
            await client.called("handle_leave")
            await client.joined()
            assert len(client.of("handle_leave")) == 1

    over(scenario, memory=memory)


def reordered(memory: bool, seed: int) -> list[int]:
    """Give the order in which seven messages come, two of each."""
    seen: list[int] = []

    async def scenario(memory: bool) -> None:
        async with running(memory=memory) as client:
            await client.joined()
            client.server.inject(duplicate_frames("news"), reorder(window=6, within=0.1, seed=seed))
            for n in range(7):
                client.server.broadcast("rooms:1", "news", {"n": n})
            seen.extend(await arrived(client, 14))

    over(scenario, memory=memory)
    return seen


def test_faults_compose_in_order_and_come_out_the_same_from_a_seed() -> None:
    memory = reordered(memory=True, seed=1)
    expected = [n // 2 for n in range(14)]
    assert memory != expected
    # Copies are made first: so they are shuffled like the others, six by six.
    windows = [slice(0, 6), slice(6, 12), slice(12, 14)]
    assert [sorted(memory[each]) for each in windows] == [expected[each] for each in windows]
    assert memory == reordered(memory=True, seed=1) == reordered(memory=False, seed=1)
    assert memory != reordered(memory=True, seed=2)


def test_what_was_held_comes_before_a_close() -> None:
    async def scenario(memory: bool) -> None:
        async with running(memory=memory) as client:
            await client.joined()
            client.server.inject(reorder(within=60.0), reply_late(60.0))
            client.server.broadcast("rooms:1", "news", {"n": 1})
            client.server.broadcast("rooms:1", "news", {"n": 2})
            await client.push("echo", {})
            await trio.sleep(1.0)
            assert numbers(client) == []
            client.server.close(1000)
            await client.called("handle_disconnect")
            assert sorted(numbers(client)) == [1, 2]
            assert client.of("handle_reply") == []  # its channel has gone

    over(scenario, memory=True)


# When, and to which


def test_after_some_time_and_after_what_a_function_means() -> None:
    async def scenario(memory: bool) -> None:
        def third(message: Message) -> bool:
            return bool(message.payload == {"n": 3})

        async with running(memory=memory) as client:
            await client.joined()
            started = trio.current_time()
            client.server.inject(after(5.0, drop()), to="open")
            await client.called("handle_disconnect")
            assert trio.current_time() - started == 5.0
            await client.called("handle_join", 2)
            client.server.inject(after(third, after(1.0, drop())), to="open")
            for n in range(5):
                await client.push("echo", {"n": n})
            await client.called("handle_disconnect", 2)
            assert trio.current_time() - started >= 6.0
            assert len(client.of("handle_reply")) == 5
            await client.called("handle_join", 3)
            client.server.inject(drop_after("echo", count=3), to="open")
            for n in range(2):
                await client.push("echo", {"n": n})
            await client.called("handle_reply", 7)
            await client.push("echo", {})
            await client.called("handle_disconnect", 3)

    over(scenario, memory=True)


def test_what_is_lifted_in_time_never_happens() -> None:
    async def scenario(memory: bool) -> None:
        def prepare(server: PhoenixServer) -> None:
            lifted = [
                server.inject(refuse(), to="next"),
                server.inject(never_answer()),
                server.inject(after(0.0, drop())),
                server.inject(close(), to="next"),
            ]
            for injected in lifted:
                injected.lift()

        async with running(memory=memory, prepare=prepare) as client:
            await client.joined()
            lifted = client.server.inject(after(1.0, drop()), drop_after("echo"), stall_writes())
            lifted.lift()
            await trio.sleep(2.0)
            await client.push("echo", {})
            await client.called("handle_reply")
            assert client.of("handle_disconnect") == []

    over(scenario, memory=True)


def test_faults_reach_those_that_they_are_meant_for() -> None:
    async def scenario(memory: bool) -> None:
        async with PhoenixServer({"rooms:*": Room}, memory=memory) as server:
            faults = {
                "open": server.inject(stall_writes(), to="open"),
                "all": server.inject(slow(1e6), to="all"),
            }
            async with client_of(server, memory=memory) as one:
                await one.called("handle_connect")
                faults["next"] = server.inject(slow(1e6), to="next")
                faults["socket"] = server.inject(slow(1e6), to=server.sockets[0])
                async with (
                    client_of(server, memory=memory) as two,
                    client_of(server, memory=memory) as three,
                ):
                    await two.called("handle_connect")
                    await three.called("handle_connect")
                    struck = {name: injected.struck for name, injected in faults.items()}
                    assert struck == {"open": 0, "all": 3, "next": 1, "socket": 1}

    over(scenario, memory=True)


FAULTS: Sequence[st.SearchStrategy[Fault]] = [
    st.builds(refuse, st.sampled_from([500, 503]), retry_after=st.sampled_from([None, 2.0])),
    st.just(never_answer()),
    st.builds(close, st.sampled_from([1000, 1001, 1011, 1012])),
    st.builds(restart, down_for=st.sampled_from([0.0, 3.0])),
    st.sampled_from([drop(), stall_reads(), stall_writes(), half_open(), duplicate_frames()]),
    st.builds(garble, times=st.sampled_from([1, 3, None]), seed=st.integers(0, 9)),
    st.builds(reply_late, st.sampled_from([0.5, 7.0, 20.0])),
    st.builds(reorder, window=st.integers(2, 5), seed=st.integers(0, 9)),
    st.builds(slow, st.sampled_from([10.0, 1e4])),
]
faults = st.one_of(*FAULTS)
moments: st.SearchStrategy[Moment] = st.sampled_from(
    ["phx_join", "phx_reply", "heartbeat", "echo", 0.0, 1.0, 10.0]
)
scripts = st.lists(
    faults | st.builds(after, moments, faults.filter(lambda fault: not fault.at_connect)),
    max_size=4,
)


@settings(max_examples=80, deadline=None)
@given(scripts)
def test_a_client_is_well_again_when_all_faults_are_lifted(script: list[Fault]) -> None:
    """complaint-6."""

    async def scenario(memory: bool) -> None:
        async with running(
            memory=memory,
            heartbeat_interval=5.0,
            heartbeat_timeout=2.0,
            reconnect=[1.0],
            rejoin=[1.0],
        ) as client:
            client.socket.join("rooms:1")
            injected = client.server.inject(*script)
            for n in range(30):
                await trio.sleep(1.0)
                if client.socket.joined("rooms:1"):
                    await client.push("echo", {"n": n}, timeout=5.0)
            injected.lift()
            await trio.sleep(60.0)
            assert client.socket.joined("rooms:1")
            before = len(client.of("handle_reply"))
            await client.push("echo", {})
            await trio.sleep(1.0)
            assert len(client.of("handle_reply")) == before + 1
            assert client.server.crashes == []

    over(scenario, memory=True)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: refuse(200), "status is 200"),
        (lambda: refuse(503, retry_after=-1), "retry_after is -1"),
        (lambda: close(1006), "code is 1006"),
        (lambda: restart(down_for=-1.0), "down_for is -1.0"),
        (lambda: slow(0), "bytes_per_second is 0"),
        (lambda: slow(math.inf), "bytes_per_second is inf; accepted is a finite number"),
        (lambda: slow(math.nan), "bytes_per_second is nan"),
        (lambda: reorder(window=1), "window is 1"),
        (lambda: reorder(within=-1.0), "within is -1.0"),
        (lambda: reply_late(-1.0), "seconds is -1.0"),
        (lambda: garble(times=-1), "times is -1"),
        (lambda: after(-1.0, drop()), "what is -1.0"),
        (lambda: after(None, drop()), "what is None"),  # type: ignore[arg-type]  # that is the point
        (lambda: after("echo", drop(), count=0), "count is 0"),
        (lambda: after(1.0, drop(), count=2), "count is 2"),
        (lambda: after(1.0, drop), "faults is <function drop .* such as drop\\(\\)"),  # type: ignore[arg-type]  # that is the point
        (lambda: after("echo", refuse()), "what happens to a client that is in"),
    ],
)
def test_a_bad_fault_is_named(make: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        make()


async def test_bad_injections_are_named() -> None:
    async with PhoenixServer({"rooms:*": Room}, memory=True) as server:
        with pytest.raises(ConfigError, match="to is 'some'; accepted are"):
            server.inject(drop(), to="some")  # type: ignore[arg-type]  # that is the point
        with pytest.raises(ConfigError, match="accepted is 'all' or 'next'"):
            server.inject(refuse(), to="open")


@pytest.mark.parametrize("to", ["all", "open", "next"])
@pytest.mark.parametrize("fault", [drop, "text", None])
async def test_what_is_no_fault_is_named_and_not_kept(fault: Any, to: Any) -> None:
    async with PhoenixServer({"rooms:*": Room}, memory=True) as server:
        with pytest.raises(ConfigError, match=r"faults is .*; accepted is .* such as drop"):
            server.inject(drop_after("echo"), fault, to=to)
        async with client_of(server, memory=True) as client:
            await client.joined()
            await client.push("echo", {})
            await client.called("handle_reply")  # nor is the one before it


@both_wires
def test_a_connection_that_a_fault_breaks_is_the_only_one(memory: bool) -> None:
    class Broken(Fault):
        at_connect = True

        def begin(self, line: Any, note: Any) -> Any:
            raise error

    error = RuntimeError("this fault has a fault")

    async def scenario(memory: bool) -> None:
        def prepare(server: PhoenixServer) -> None:
            server.inject(Broken(), to="next")

        async with running(memory=memory, prepare=prepare) as client:
            (reason,) = await client.called("handle_disconnect")
            assert isinstance(reason, ConnectFailed)
            await client.joined()
            assert client.server.crashes == [error]

    over(scenario, memory=memory)


# Taken back


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_of_several_speeds_the_least_counts_in_whatever_order_they_are_lifted(data: Any) -> None:
    async def scenario(memory: bool) -> None:
        async with running(memory=memory) as client:
            await client.joined()
            flow = client.server.sockets[0].wire.flow
            rates = data.draw(st.lists(st.sampled_from([1e3, 2e3, 3e3]), min_size=1, max_size=4))
            standing = [(rate, client.server.inject(slow(rate))) for rate in rates]
            for rate, injected in data.draw(st.permutations(standing)):
                assert flow.bytes_per_second == min(rate for rate, _ in standing)
                injected.lift()
                standing.remove((rate, injected))
            assert flow.bytes_per_second is None

    over(scenario, memory=True)


@pytest.mark.parametrize(
    ("statuses", "lifted", "expected"),
    [
        ([503, 401], [], 503),
        ([503, 401], [1], 503),
        ([503, 401], [0], 401),
        ([503, 401, 503], [2], 503),
        ([503, 401, 503], [0, 1], 503),
        ([503, 401], [1, 0], None),
    ],
)
def test_of_several_refusals_the_first_that_stands_counts(
    statuses: list[int], lifted: list[int], expected: int | None
) -> None:
    async def scenario(memory: bool) -> None:
        def prepare(server: PhoenixServer) -> None:
            injected = [server.inject(refuse(status)) for status in statuses]
            silent = server.inject(never_answer())

            async def lift() -> None:
                await trio.sleep(1.0)  # the connect has come, and waits
                for at in lifted:
                    injected[at].lift()
                silent.lift()

            nursery.start_soon(lift)

        async with trio.open_nursery() as nursery:
            async with running(memory=memory, prepare=prepare) as client:
                if expected is None:
                    await client.called("handle_connect")
                else:
                    (reason,) = await client.called("handle_disconnect")
                    assert reason.status == expected
                assert trio.current_time() == 1.0

    over(scenario, memory=True)


@both_wires
def test_a_connect_is_answered_when_that_it_is_not_is_lifted(memory: bool) -> None:
    async def scenario(memory: bool) -> None:
        def prepare(server: PhoenixServer) -> None:
            silences.extend(server.inject(never_answer()) for _ in range(2))

        silences: list[Any] = []
        async with running(memory=memory, prepare=prepare) as client:
            await client.server.wait_until(lambda: len(client.server.requests) == 1)
            silences[0].lift()
            await trio.sleep(0.1)
            assert client.of("handle_connect") == []
            silences[1].lift()
            await client.joined()
            assert client.of("handle_disconnect") == []
            assert len(client.server.requests) == 1

    over(scenario, memory=memory)


async def line_of_a_connection(server: PhoenixServer, *, memory: bool) -> weakref.ref[Any]:
    async with client_of(server, memory=memory) as client:
        await client.joined()
        line = weakref.ref(server.sockets[0].line)
    await server.wait_connections(0)
    return line


def test_nothing_is_kept_of_connections_that_have_ended() -> None:
    async def scenario(memory: bool) -> None:
        async with PhoenixServer({"rooms:*": Room}, memory=memory) as server:
            injected = server.inject(after("never", drop()), stall_writes(), refuse())
            injected.lift()
            standing = server.inject(after("never", drop()), slow(1e6))
            lines = [await line_of_a_connection(server, memory=memory) for _ in range(5)]
            await trio.sleep(1.0)
            gc.collect()
            assert [line() for line in lines] == [None] * 5
            assert standing.struck == 5

    over(scenario, memory=True)


def test_what_was_held_comes_before_what_is_sent_after_it_is_lifted() -> None:
    async def scenario(memory: bool) -> None:
        async with running(memory=memory) as client:
            await client.joined()
            client.server.inject(slow(1e3))
            for hold in ([], [stall_writes()]):
                held = client.server.inject(reorder(within=60.0, window=100))
                for _ in range(3):
                    client.server.broadcast("rooms:1", "news", {"n": 1, "much": "x" * 1000})
                await trio.sleep(1.0)
                stalled = client.server.inject(*hold)
                held.lift()
                client.server.broadcast("rooms:1", "news", {"n": 2})
                await trio.sleep(1.0)
                client.server.broadcast("rooms:1", "news", {"n": 3})
                stalled.lift()
                await trio.sleep(60.0)
            assert numbers(client) == [1, 1, 1, 2, 3] * 2

    over(scenario, memory=True)
