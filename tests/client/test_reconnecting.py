"""When to try again, and where: by cause, up to a ceiling, at once on request, at another server."""

from typing import Any

import pytest
import trio

from slipstream import (
    Config,
    ConnectError,
    ConnectFailed,
    Crashed,
    Health,
    Hold,
    ReconnectPolicy,
    Refresh,
    Reply,
    Retry,
    ServerGoneError,
    Shutdown,
    SlipstreamClient,
    Socket,
    Stop,
    Verdict,
    open_socket,
)
from slipstream.reasons import DisconnectReason
from slipstream.testing import Channel, PhoenixServer, SocketTest
from slipstream.transport import MemoryNetwork
from tests.client.kit import GONE, OpenTest, config

A, B, C = (f"ws://{name}.test/socket/websocket" for name in "abc")


def hosts(test: SocketTest) -> str:
    """The servers that were asked, in order, by their letters."""
    return "".join(request.uri.removeprefix("ws://")[0] for request in test.requests)


# By cause


async def test_a_close_code_of_ones_own_asks_for_fresh_credentials_at_once(
    socket_test: OpenTest,
) -> None:
    """d13, d14; complaint-16: an application that closes with 4001 when a token ran out."""
    tokens = iter("abcdef")
    policy = ReconnectPolicy(causes={4001: Refresh()}, uniform=lambda low, high: high)
    options = config(params=lambda: {"token": next(tokens)}, reconnect=policy)
    async with socket_test(SlipstreamClient, options) as test:
        times: list[float] = []
        for _ in range(4):
            await test.accept_connect()
            times.append(trio.current_time())
            await test.close(4001, "expired")
        # Once at once; a token that does not serve either is no accident.
        assert times == [0.0, 0.0, 2.0, 6.0]
        seen = [request.uri.partition("token=")[2][0] for request in test.requests]
        assert seen == ["a", "b", "c", "d"]


async def test_a_token_that_lasted_is_asked_for_anew_at_once_each_time(
    socket_test: OpenTest,
) -> None:
    """d10, d14: the count of refreshes, too, starts anew after a stable connection."""
    policy = ReconnectPolicy(causes={4001: Refresh()}, uniform=lambda low, high: high)
    async with socket_test(SlipstreamClient, config(params=dict, reconnect=policy)) as test:
        for n in range(3):
            await test.accept_connect()
            assert trio.current_time() == 60.0 * n
            await test.advance(60.0)
            await test.close(4001)


async def test_a_hold_is_not_counted(socket_test: OpenTest) -> None:
    """d13."""
    policy = ReconnectPolicy(causes={4008: Hold(20.0)}, max_attempts=1)
    async with socket_test(SlipstreamClient, config(reconnect=policy)) as test:
        for n in range(5):
            await test.accept_connect()
            assert trio.current_time() == 20.0 * n
            await test.close(4008)
        assert test.ref.health().attempt == 0


class Asked:
    """A policy of one's own: no subclass, and it notes what it is asked with."""

    stable_after = 30.0

    def __init__(self) -> None:
        self.with_: list[Any] = []

    def verdict(
        self, reason: DisconnectReason, attempt: int, /, *,
        refreshable: bool = False, refreshes: int = 0, elapsed: float = 0.0,
    ) -> Verdict:  # fmt: skip
        self.with_.append((attempt, refreshable, refreshes, elapsed))
        return Retry(10.0, refresh=attempt == 1) if attempt < 3 else Hold(5.0)


async def test_a_policy_of_ones_own_is_told_of_the_whole_outage(socket_test: OpenTest) -> None:
    """d9, d10, d14: attempts and refreshes in a row, and seconds since the loss."""
    asked = Asked()
    async with socket_test(SlipstreamClient, config(params=dict, reconnect=asked)) as test:
        await test.accept_connect()
        await test.advance(31.0)
        await test.drop()
        for _ in range(4):
            await test.fail_connect(GONE)
        await test.accept_connect()
        assert asked.with_ == [
            (0, True, 0, 0.0),
            (1, True, 0, 10.0),
            (2, True, 1, 20.0),
            (3, True, 0, 30.0),
            (3, True, 0, 35.0),
        ]


# Ceilings, and what follows them


@pytest.mark.parametrize(
    ("options", "attempts", "why"),
    [
        ({"max_attempts": 3}, 4, "3 attempts failed"),
        ({"max_elapsed": 10.0, "delays": [4.0]}, 3, "no connection within 10 s"),
        ({"max_attempts": 0}, 1, "0 attempts failed"),
    ],
)
async def test_a_client_whose_policy_gave_up_exits_with_the_error(
    socket_test: OpenTest, options: Any, attempts: int, why: str
) -> None:
    """complaint-12, d14: the ceiling ends a loop, and the supervisor decides."""
    policy = ReconnectPolicy(**options)
    async with socket_test(SlipstreamClient, config(reconnect=policy), restart="temporary") as test:
        for _ in range(attempts):
            await test.fail_connect(GONE)
        assert await test.assert_stopped(Crashed(GONE), within=0.0) == Crashed(GONE)
        assert test.callbacks[-3:] == ["handle_disconnect", "handle_gave_up", "terminate"]
        assert [data["why"] for data in test.events("slipstream.connection.gave_up")] == [why]


@pytest.mark.parametrize("why", ["disconnect", "clean close"])
async def test_time_spent_down_on_purpose_counts_towards_no_ceiling(
    socket_test: OpenTest, why: str
) -> None:
    """d14: max_elapsed is about an outage, and begins with it."""
    policy = ReconnectPolicy(delays=[4.0], max_elapsed=10.0)
    options = config(reconnect=policy, connection_restart="transient")
    async with socket_test(SlipstreamClient, options) as test:
        await test.accept_connect()
        if why == "disconnect":
            test.socket.disconnect()
        else:
            await test.close(1000)
        await test.advance(3600.0)
        assert test.ref.health().phase == "down"
        test.socket.reconnect()
        await test.fail_connect(GONE)
        await test.fail_connect(GONE)
        await test.accept_connect()
        assert trio.current_time() == 3608.0


class StaysDown(SlipstreamClient):
    """Lives on when the policy gave up."""

    async def handle_gave_up(self, reason: Any, socket: Socket, /) -> Any:
        return None


async def test_a_client_may_stay_down_and_start_afresh_when_asked(socket_test: OpenTest) -> None:
    """d14: on_gave_up. The reason is told once; afterwards the count begins at 0."""
    policy = ReconnectPolicy(delays=[1.0], max_attempts=2)
    async with socket_test(StaysDown, config(reconnect=policy)) as test:
        for _ in range(3):
            await test.fail_connect(GONE)
        await test.refute_connect(within=1000.0)
        assert test.callbacks[-2:] == ["handle_disconnect", "handle_gave_up"]
        assert test.called("handle_gave_up") == [(ConnectFailed(GONE),)]
        health = test.ref.health()
        assert (health.phase, health.gave_up) == ("down", "2 attempts failed")
        await test.inside(_nothing)  # another callback is no second telling
        assert test.callbacks.count("handle_gave_up") == 1

        test.socket.reconnect()
        for _ in range(2):
            await test.fail_connect(GONE)
        await test.accept_connect()
        assert test.ref.health().gave_up is None
        assert test.callbacks.count("handle_gave_up") == 1


@pytest.mark.parametrize("way", ["stop", "elsewhere"])
async def test_a_client_may_end_in_order_or_go_elsewhere(socket_test: OpenTest, way: str) -> None:
    """d14: on_gave_up."""

    class Decided(SlipstreamClient):
        async def handle_gave_up(self, reason: Any, socket: Socket, /) -> Stop | None:
            if way == "stop":
                return Stop(Shutdown("offline"))
            socket.connect(config(uri=B))
            return None

    policy = ReconnectPolicy(max_attempts=0)
    async with socket_test(Decided, config(reconnect=policy), restart="temporary") as test:
        await test.fail_connect(GONE)
        if way == "stop":
            assert await test.assert_stopped() == Shutdown("offline")
        else:
            await test.accept_connect(lambda uri: uri.startswith(B))


@pytest.mark.parametrize("where", ["inside", "call"])
async def test_giving_up_inside_a_callback_that_waits_is_told_after_it(
    socket_test: OpenTest, where: str
) -> None:
    """d14: the decision may fall in an await_connect, anywhere."""
    waited: list[float] = []

    async def wait(client: Any, socket: Socket) -> None:
        socket.reconnect()
        with pytest.raises(ConnectError):
            await socket.await_connect()
        with pytest.raises(ConnectError):
            await socket.await_connect()  # the policy is asked here
        assert not test.called("handle_gave_up")
        waited.append(trio.current_time())

    class Waiting(StaysDown):
        async def handle_call(self, request: Any, caller: Any, socket: Socket, /) -> Reply:
            await wait(self, socket)
            return Reply(None)

        async def handle_disconnect(self, reason: Any, socket: Socket, /) -> None:
            if not waited:
                socket.disconnect()

    policy = ReconnectPolicy(max_attempts=0)
    async with socket_test(Waiting, config(reconnect=policy)) as test:
        await test.fail_connect(GONE)
        async with trio.open_nursery() as nursery:
            if where == "call":
                nursery.start_soon(test.ref.call, "go")
            else:
                nursery.start_soon(test.inside, wait)
            await test.fail_connect(GONE)
        await test.settle()
        assert waited
        assert test.callbacks.count("handle_gave_up") == 1


async def _nothing(client: Any, socket: Any) -> None:
    await trio.lowlevel.checkpoint()


# The network came back


async def test_reconnect_now_ends_the_wait_and_is_single_flight(socket_test: OpenTest) -> None:
    """complaint-15, d17: however often it is called, there is one attempt."""
    policy = ReconnectPolicy(delays=[0.0, 100.0, 200.0])
    async with socket_test(StaysDown, config(reconnect=policy)) as test:
        await test.fail_connect(GONE)
        await test.fail_connect(GONE)
        await test.advance(5.0)
        assert test.ref.health().next_attempt_in == 95.0
        for _ in range(3):
            test.ref.reconnect_now()
        await test.settle()
        test.ref.reconnect_now()
        await test.settle()
        assert len(test.requests) == 3
        assert test.ref.health().attempt == 0
        await test.accept_connect(within=0.0)
        test.socket.reconnect_now()  # open: left alone
        await test.refute_connect(within=500.0)
        assert len(test.requests) == 3


async def test_reconnect_now_wakes_one_that_gave_up_but_none_that_wants_no_connection(
    socket_test: OpenTest,
) -> None:
    """complaint-14: a client that was told to stay down stays down."""
    policy = ReconnectPolicy(max_attempts=0)
    async with socket_test(StaysDown, config(reconnect=policy)) as test:
        await test.fail_connect(GONE)
        assert test.ref.health().gave_up is not None
        test.ref.reconnect_now()
        await test.accept_connect()
        test.socket.disconnect()
        await test.settle()
        test.ref.reconnect_now()
        await test.refute_connect(within=100.0)
        assert test.ref.health().phase == "down"
        await test.supervisor.terminate_child("client")
        with pytest.raises(ServerGoneError):
            test.ref.reconnect_now()


# Several servers


async def test_a_failed_attempt_is_followed_by_one_at_the_next_server(
    socket_test: OpenTest,
) -> None:
    """complaint-15: in order, in a circle, one at a time, each after the policy's delay."""
    async with socket_test(SlipstreamClient, config(uri=[A, B, C])) as test:
        for _ in range(4):
            await test.fail_connect(GONE)
        await test.accept_connect()
        assert hosts(test) == "abcab"
        assert trio.current_time() == 4.0
        assert test.ref.health().uri == B
        starts = [data["uri"] for data in test.events("slipstream.client.connect.start")]
        assert starts == [A, B, C, A, B]


async def test_a_stable_connection_gives_the_turn_back_to_the_first_server(
    socket_test: OpenTest,
) -> None:
    policy = ReconnectPolicy(delays=[1.0], stable_after=30.0)
    async with socket_test(SlipstreamClient, config(uri=[A, B, C], reconnect=policy)) as test:
        await test.fail_connect(GONE)
        await test.accept_connect()  # b
        await test.advance(10.0)
        await test.drop()  # it did not last
        await test.accept_connect()  # c
        await test.advance(31.0)
        assert test.ref.health().uri == C
        await test.drop()
        await test.accept_connect()
        assert hosts(test) == "abca"


async def test_what_is_fatal_at_one_server_is_fatal_when_no_other_is_left(
    socket_test: OpenTest,
) -> None:
    """d14: a 404 of one server says nothing about another; the next is asked at once."""
    options = config(uri=[A, B, C], reconnect=[50.0])
    async with socket_test(SlipstreamClient, options, restart="temporary") as test:
        await test.refuse_connect(404)
        await test.fail_connect(GONE)
        await test.refuse_connect(404)
        await test.refuse_connect(404)
        await test.assert_stopped(Crashed, within=0.0)
        assert hosts(test) == "abcb"  # a and c are hopeless, b was only out of reach
        assert trio.current_time() == 50.0


@pytest.mark.parametrize("fault", ["refused", "raised"])
async def test_credentials_are_refreshed_at_the_same_server(
    socket_test: OpenTest, fault: str
) -> None:
    """d14: what is ours to mend is no reason to go elsewhere."""
    failures = iter([fault == "raised"])

    def params() -> dict[str, str]:
        if next(failures, False):
            raise ValueError("not just now")
        return {}

    async with socket_test(SlipstreamClient, config(uri=[A, B], params=params)) as test:
        if fault == "refused":
            await test.refuse_connect(403)
        await test.accept_connect()
        assert set(hosts(test)) == {"a"}


async def test_a_ceiling_holds_for_all_servers_together(socket_test: OpenTest) -> None:
    policy = ReconnectPolicy(delays=[1.0], max_attempts=2)
    options = config(uri=[A, B, C], reconnect=policy)
    async with socket_test(SlipstreamClient, options, restart="temporary") as test:
        for _ in range(3):
            await test.fail_connect(GONE)
        await test.assert_stopped(Crashed(GONE), within=0.0)
        assert hosts(test) == "abc"


async def test_another_list_of_servers_begins_with_its_first(socket_test: OpenTest) -> None:
    """d16: single-flight, and the old connection is closed first."""
    async with socket_test(SlipstreamClient, config(uri=[A, B])) as test:
        await test.fail_connect(GONE)
        await test.accept_connect()
        test.socket.connect(config(uri=[C, A]))
        await test.accept_connect()
        assert hosts(test) == "abc"
        await test.assert_disconnect(1000, within=0.0)


@pytest.mark.parametrize("reachable", [True, False])
async def test_a_script_tries_each_server_once(autojump_clock: Any, reachable: bool) -> None:
    network = MemoryNetwork()
    network.refuse(GONE, times=1 if reachable else 9)
    options = config(uri=[A, B], transport=network.open_transport)
    if reachable:
        async with open_socket(options) as socket:
            assert socket.health().uri == B
    else:
        with pytest.raises(ConnectError):
            async with open_socket(options):
                raise AssertionError("there is no connection")
    assert [request.uri.partition("?")[0] for request in network.requests] == [A, B]


async def test_a_client_moves_to_another_server_and_back() -> None:
    """complaint-15, over TCP: what was joined at one server is joined at the other."""
    reconnect = ReconnectPolicy(delays=[0.01], stable_after=0.0)
    with trio.fail_after(20):
        async with PhoenixServer({"t": Channel}) as first, PhoenixServer({"t": Channel}) as second:
            both = Config([first.url, second.url], reconnect=reconnect)
            async with open_socket(both, reconnect=True) as socket:
                socket.join("t")
                await first.wait_joined("t")
                first.refuse_connects(503)
                first.drop()
                await second.wait_joined("t")
                assert first.sockets == []
                first.accept_connects()
                second.drop()
                await first.wait_joined("t")


# Providers


PROVIDED = ["params", "headers", "auth_token"]


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("name", PROVIDED)
async def test_every_provider_is_asked_for_every_attempt(
    socket_test: OpenTest, name: str, is_async: bool
) -> None:
    """d7, d8; JS-S2, JS-S16; complaint-16."""
    calls: list[float] = []

    def value() -> Any:
        calls.append(trio.current_time())
        n = str(len(calls))
        return f"token{n}" if name == "auth_token" else {"x-n": n}

    async def later() -> Any:
        await trio.sleep(0.25)
        return value()

    options: dict[str, Any] = {name: later if is_async else value}
    async with socket_test(SlipstreamClient, config(**options)) as test:
        await test.fail_connect(GONE)
        await test.accept_connect()
        await test.drop()
        await test.accept_connect()
        wait = 0.25 if is_async else 0.0
        assert calls == [wait, 1.0 + 2 * wait, 2.0 + 3 * wait]
        sent = [
            {"params": r.uri, "headers": r.headers, "auth_token": r.subprotocols}[name]
            for r in test.requests
        ]
        assert len(set(sent)) == 3


@pytest.mark.parametrize("fault", ["raises", "hangs", "misfits"])
@pytest.mark.parametrize("name", PROVIDED)
async def test_the_error_names_the_provider_that_failed(
    socket_test: OpenTest, name: str, fault: str
) -> None:
    """d7: a time-out and an error of its own, told like any failed attempt."""

    async def provider() -> Any:
        if fault == "raises":
            raise KeyError("store")
        if fault == "hangs":
            await trio.sleep_forever()
        return 7

    options: dict[str, Any] = {name: provider}
    async with socket_test(
        SlipstreamClient, config(**options, provider_timeout=3.0, reconnect=[60.0])
    ) as test:
        await test.refute_connect(within=30.0)
        (failed,) = test.called("handle_disconnect")[0]
        assert isinstance(failed, ConnectFailed)
        assert isinstance(failed.error, ConnectError)
        assert (failed.error.step, failed.error.provider) == ("provider", name)
        assert name in str(failed.error)
        assert test.requests == []
        assert test.ref.health().attempt == 1


async def test_a_health_tells_where_to_without_secrets(socket_test: OpenTest) -> None:
    uri = "ws://me:pw@a.test/socket/websocket?token=s"
    async with socket_test(SlipstreamClient, config(uri=uri)) as test:
        await test.accept_connect()
        health: Health = test.ref.health()
        assert health.uri == A
        assert "pw" not in repr(health)
