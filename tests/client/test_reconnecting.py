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
    Socket,
    Stop,
    Verdict,
    open_socket,
)
from slipstream.reasons import DisconnectReason
from slipstream.telemetry import capture_events
from slipstream.testing import Channel, PhoenixServer
from slipstream.transport import MemoryNetwork
from tests.client.support import Harness, Recorder, harness, settle, virtual


def refused(status: int, **headers: str) -> ConnectError:
    pairs = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return ConnectError(f"HTTP {status}", step="upgrade", status=status, headers=pairs)


GONE = ConnectError("no route", step="tcp")
A, B, C = (f"ws://{name}.test/socket/websocket" for name in "abc")


def hosts(h: Harness) -> str:
    """The servers that were asked, in order, by their letters."""
    return "".join(request.uri.removeprefix("ws://")[0] for request in h.network.requests)


# By cause


def test_a_close_code_of_ones_own_asks_for_fresh_credentials_at_once() -> None:
    """d13, d14; complaint-16: an application that closes with 4001 when a token ran out."""
    tokens = iter("abcdef")

    async def scenario() -> None:
        policy = ReconnectPolicy(causes={4001: Refresh()}, uniform=lambda low, high: high)
        async with harness(params=lambda: {"token": next(tokens)}, reconnect=policy) as h:
            times: list[float] = []
            for _ in range(4):
                end = await h.accept()
                times.append(trio.current_time())
                end.peer.close(4001, "expired")
            # Once at once; a token that does not serve either is no accident.
            assert times == [0.0, 0.0, 2.0, 6.0]
            seen = [request.uri.partition("token=")[2][0] for request in h.network.requests]
            assert seen == ["a", "b", "c", "d"]

    virtual(scenario)


def test_a_token_that_lasted_is_asked_for_anew_at_once_each_time() -> None:
    """d10, d14: the count of refreshes, too, starts anew after a stable connection."""

    async def scenario() -> None:
        policy = ReconnectPolicy(causes={4001: Refresh()}, uniform=lambda low, high: high)
        async with harness(params=dict, reconnect=policy) as h:
            for n in range(3):
                end = await h.accept()
                assert trio.current_time() == 60.0 * n
                await trio.sleep(60.0)
                end.peer.close(4001)

    virtual(scenario)


def test_a_hold_is_not_counted() -> None:
    """d13."""

    async def scenario() -> None:
        policy = ReconnectPolicy(causes={4008: Hold(20.0)}, max_attempts=1)
        async with harness(reconnect=policy) as h:
            for n in range(5):
                end = await h.accept()
                assert trio.current_time() == 20.0 * n
                end.peer.close(4008)
            await settle()
            assert h.ref.health().attempt == 0

    virtual(scenario)


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


def test_a_policy_of_ones_own_is_told_of_the_whole_outage() -> None:
    """d9, d10, d14: attempts and refreshes in a row, and seconds since the loss."""

    async def scenario() -> None:
        asked = Asked()
        async with harness(params=dict, reconnect=asked) as h:
            end = await h.accept()
            await trio.sleep(31.0)
            h.network.refuse(GONE, times=4)
            end.peer.drop()
            await h.accept()
            assert asked.with_ == [
                (0, True, 0, 0.0),
                (1, True, 0, 10.0),
                (2, True, 1, 20.0),
                (3, True, 0, 30.0),
                (3, True, 0, 35.0),
            ]

    virtual(scenario)


# Ceilings, and what follows them


@pytest.mark.parametrize(
    ("options", "attempts", "why"),
    [
        ({"max_attempts": 3}, 4, "3 attempts failed"),
        ({"max_elapsed": 10.0, "delays": [4.0]}, 3, "no connection within 10 s"),
        ({"max_attempts": 0}, 1, "0 attempts failed"),
    ],
)
def test_a_client_whose_policy_gave_up_exits_with_the_error(
    options: Any, attempts: int, why: str
) -> None:
    """complaint-12, d14: the ceiling ends a loop, and the supervisor decides."""

    async def scenario() -> None:
        policy = ReconnectPolicy(**options)
        with capture_events("slipstream.connection.gave_up") as events:
            async with harness(reconnect=policy, restart="temporary") as h:
                h.network.refuse(GONE, times=100)
                assert await h.ref.wait() == Crashed(GONE)
                assert len(h.network.requests) == attempts
                assert h.names()[-2:] == ["handle_disconnect", "terminate"]
        assert [data["why"] for _, data in events] == [why]

    virtual(scenario)


@pytest.mark.parametrize("why", ["disconnect", "clean close"])
def test_time_spent_down_on_purpose_counts_towards_no_ceiling(why: str) -> None:
    """d14: max_elapsed is about an outage, and begins with it."""

    async def scenario() -> None:
        policy = ReconnectPolicy(delays=[4.0], max_elapsed=10.0)
        async with harness(reconnect=policy, connection_restart="transient") as h:
            end = await h.accept()
            if why == "disconnect":
                h.socket.disconnect()
            else:
                end.peer.close(1000)
            await trio.sleep(3600.0)
            assert h.ref.health().phase == "down"
            h.network.refuse(GONE, times=2)
            h.socket.reconnect()
            await h.accept()
            assert trio.current_time() == 3608.0

    virtual(scenario)


class Decides(Recorder):
    """Also notes that the policy gave up, and does what the test says."""

    async def handle_gave_up(self, reason: Any, socket: Any, /) -> Any:
        return await self._note("handle_gave_up", reason, socket)


def test_a_client_may_stay_down_and_start_afresh_when_asked() -> None:
    """d14: on_gave_up. The reason is told once; afterwards the count begins at 0."""

    async def scenario() -> None:
        policy = ReconnectPolicy(delays=[1.0], max_attempts=2)
        async with harness(client=Decides, reconnect=policy) as h:
            h.network.refuse(GONE, times=3)
            await trio.sleep(1000.0)
            assert len(h.network.requests) == 3
            assert h.names()[-2:] == ["handle_disconnect", "handle_gave_up"]
            assert h.of("handle_gave_up") == [(ConnectFailed(GONE),)]
            health = h.ref.health()
            assert (health.phase, health.gave_up) == ("down", "2 attempts failed")
            await h.inside(_nothing)  # another callback is no second telling
            assert h.names().count("handle_gave_up") == 1

            h.network.refuse(GONE, times=2)
            h.socket.reconnect()
            await h.accept()
            await settle()
            assert h.ref.health().gave_up is None
            assert h.names().count("handle_gave_up") == 1

    virtual(scenario)


@pytest.mark.parametrize("way", ["stop", "elsewhere"])
def test_a_client_may_end_in_order_or_go_elsewhere(way: str) -> None:
    """d14: on_gave_up."""

    async def gave_up(client: Any, reason: Any, socket: Any) -> Any:
        if way == "stop":
            return Stop(Shutdown("offline"))
        config = socket.config
        socket.connect(Config(B, transport=config.transport, heartbeat_interval=None))
        return None

    async def scenario() -> None:
        policy = ReconnectPolicy(max_attempts=0)
        scripts: dict[str, Any] = {"handle_gave_up": gave_up}
        async with harness(scripts, client=Decides, reconnect=policy, restart="temporary") as h:
            h.network.refuse(GONE)
            if way == "stop":
                assert await h.ref.wait() == Shutdown("offline")
            else:
                await h.accept()
                assert h.network.requests[-1].uri.startswith(B)

    virtual(scenario)


@pytest.mark.parametrize("where", ["cast", "call"])
def test_giving_up_inside_a_callback_that_waits_is_told_after_it(where: str) -> None:
    """d14: the decision may fall in an await_connect, anywhere."""

    async def wait(client: Any, *args: Any) -> Any:
        socket: Socket = args[-1]
        socket.reconnect()
        with pytest.raises(ConnectError):
            await socket.await_connect()
        with pytest.raises(ConnectError):
            await socket.await_connect()  # the policy is asked here
        client.calls.append(("waited",))
        return Reply(None) if where == "call" else None

    async def disconnected(client: Any, reason: Any, socket: Socket) -> None:
        if "waited" not in [call[0] for call in client.calls]:
            socket.disconnect()

    async def scenario() -> None:
        policy = ReconnectPolicy(max_attempts=0)
        scripts: dict[str, Any] = {"handle_call": wait, "handle_disconnect": disconnected}
        async with harness(scripts, client=Decides, reconnect=policy) as h:
            h.network.refuse(GONE, times=9)
            await settle()
            await (h.ref.call("go") if where == "call" else h.inside(wait))
            await settle()
            assert h.names().count("handle_gave_up") == 1
            assert h.names().index("waited") < h.names().index("handle_gave_up")

    virtual(scenario)


async def _nothing(client: Any, socket: Any) -> None:
    await trio.lowlevel.checkpoint()


# The network came back


def test_reconnect_now_ends_the_wait_and_is_single_flight() -> None:
    """complaint-15, d17: however often it is called, there is one attempt."""

    async def scenario() -> None:
        policy = ReconnectPolicy(delays=[0.0, 100.0, 200.0])
        async with harness(reconnect=policy, client=Decides) as h:
            h.network.refuse(GONE, times=2)
            await trio.sleep(5.0)
            assert h.ref.health().next_attempt_in == 95.0
            h.network.stall_connects()
            for _ in range(3):
                h.ref.reconnect_now()
            await settle()
            h.ref.reconnect_now()
            await settle()
            assert len(h.network.requests) == 3
            assert h.ref.health().attempt == 0
            h.network.resume_connects()
            await h.accept()
            h.socket.reconnect_now()  # open: left alone
            await trio.sleep(500.0)
            assert len(h.network.requests) == 3

    virtual(scenario)


def test_reconnect_now_wakes_one_that_gave_up_but_none_that_wants_no_connection() -> None:
    """complaint-14: a client that was told to stay down stays down."""

    async def scenario() -> None:
        async with harness(reconnect=ReconnectPolicy(max_attempts=0), client=Decides) as h:
            h.network.refuse(GONE)
            await settle()
            assert h.ref.health().gave_up is not None
            h.ref.reconnect_now()
            await h.accept()
            h.socket.disconnect()
            await settle()
            h.ref.reconnect_now()
            await trio.sleep(100.0)
            assert h.ref.health().phase == "down"
            assert len(h.network.requests) == 2
            await h.supervisor.terminate_child("client")
            with pytest.raises(ServerGoneError):
                h.ref.reconnect_now()

    virtual(scenario)


# Several servers


def test_a_failed_attempt_is_followed_by_one_at_the_next_server() -> None:
    """complaint-15: in order, in a circle, one at a time, each after the policy's delay."""

    async def scenario() -> None:
        with capture_events("slipstream.client.connect") as events:
            async with harness(uri=[A, B, C], reconnect=[1.0]) as h:
                h.network.refuse(GONE, times=4)
                await h.accept()
                assert hosts(h) == "abcab"
                assert trio.current_time() == 4.0
                assert h.ref.health().uri == B
            starts = [data["uri"] for name, data in events if name.endswith("start")]
            assert starts == [A, B, C, A, B]

    virtual(scenario)


def test_a_stable_connection_gives_the_turn_back_to_the_first_server() -> None:
    async def scenario() -> None:
        policy = ReconnectPolicy(delays=[1.0], stable_after=30.0)
        async with harness(uri=[A, B, C], reconnect=policy) as h:
            h.network.refuse(GONE)
            end = await h.accept()  # b
            await trio.sleep(10.0)
            end.peer.drop()  # it did not last
            end = await h.accept()  # c
            await trio.sleep(31.0)
            assert h.ref.health().uri == C
            end.peer.drop()
            await h.accept()
            assert hosts(h) == "abca"

    virtual(scenario)


def test_what_is_fatal_at_one_server_is_fatal_when_no_other_is_left() -> None:
    """d14: a 404 of one server says nothing about another; the next is asked at once."""

    async def scenario() -> None:
        async with harness(uri=[A, B, C], reconnect=[50.0], restart="temporary") as h:
            h.network.refuse(refused(404))
            h.network.refuse(GONE)
            h.network.refuse(refused(404), times=2)
            reason = await h.ref.wait()
            assert isinstance(reason, Crashed)
            assert hosts(h) == "abcb"  # a and c are hopeless, b was only out of reach
            assert trio.current_time() == 50.0

    virtual(scenario)


@pytest.mark.parametrize("fault", ["refused", "raised"])
def test_credentials_are_refreshed_at_the_same_server(fault: str) -> None:
    """d14: what is ours to mend is no reason to go elsewhere."""
    failures = iter([fault == "raised"])

    def params() -> dict[str, str]:
        if next(failures, False):
            raise ValueError("not just now")
        return {}

    async def scenario() -> None:
        async with harness(uri=[A, B], params=params, reconnect=[1.0]) as h:
            if fault == "refused":
                h.network.refuse(refused(403))
            await h.accept()
            assert set(hosts(h)) == {"a"}

    virtual(scenario)


def test_a_ceiling_holds_for_all_servers_together() -> None:
    async def scenario() -> None:
        policy = ReconnectPolicy(delays=[1.0], max_attempts=2)
        async with harness(uri=[A, B, C], reconnect=policy, restart="temporary") as h:
            h.network.refuse(GONE, times=99)
            await h.ref.wait()
            assert hosts(h) == "abc"

    virtual(scenario)


def test_another_list_of_servers_begins_with_its_first() -> None:
    """d16: single-flight, and the old connection is closed first."""

    async def scenario() -> None:
        async with harness(uri=[A, B], reconnect=[1.0]) as h:
            h.network.refuse(GONE)
            end = await h.accept()
            old = h.socket.config
            assert old is not None
            h.socket.connect(Config([C, A], transport=old.transport, heartbeat_interval=None))
            await h.accept()
            assert hosts(h) == "abc"
            assert (await end.peer.wait_closed()).code == 1000

    virtual(scenario)


@pytest.mark.parametrize("reachable", [True, False])
def test_a_script_tries_each_server_once(reachable: bool) -> None:
    async def scenario() -> None:
        network = MemoryNetwork()
        network.refuse(GONE, times=1 if reachable else 9)
        options = {"uri": [A, B], "transport": network.open_transport, "heartbeat_interval": None}
        if reachable:
            async with open_socket(options) as socket:
                assert socket.health().uri == B
        else:
            with pytest.raises(ConnectError):
                async with open_socket(options):
                    raise AssertionError("there is no connection")
        assert [request.uri.partition("?")[0] for request in network.requests] == [A, B]

    virtual(scenario)


async def test_a_client_moves_to_another_server_and_back() -> None:
    """complaint-15, over TCP: what was joined at one server is joined at the other."""
    reconnect = ReconnectPolicy(delays=[0.01], stable_after=0.0)
    with trio.fail_after(20):
        async with PhoenixServer({"t": Channel}) as first, PhoenixServer({"t": Channel}) as second:
            config = Config([first.url, second.url], reconnect=reconnect)
            async with open_socket(config, reconnect=True) as socket:
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
def test_every_provider_is_asked_for_every_attempt(name: str, is_async: bool) -> None:
    """d7, d8; JS-S2, JS-S16; complaint-16."""
    calls: list[float] = []

    def value() -> Any:
        calls.append(trio.current_time())
        n = str(len(calls))
        return f"token{n}" if name == "auth_token" else {"x-n": n}

    async def later() -> Any:
        await trio.sleep(0.25)
        return value()

    async def scenario() -> None:
        options: dict[str, Any] = {name: later if is_async else value}
        async with harness(**options, reconnect=[1.0]) as h:
            h.network.refuse(GONE)
            end = await h.accept()
            end.peer.drop()
            await h.accept()
            wait = 0.25 if is_async else 0.0
            assert calls == [wait, 1.0 + 2 * wait, 2.0 + 3 * wait]
            sent = [
                {"params": r.uri, "headers": r.headers, "auth_token": r.subprotocols}[name]
                for r in h.network.requests
            ]
            assert len(set(sent)) == 3

    virtual(scenario)


@pytest.mark.parametrize("fault", ["raises", "hangs", "misfits"])
@pytest.mark.parametrize("name", PROVIDED)
def test_the_error_names_the_provider_that_failed(name: str, fault: str) -> None:
    """d7: a time-out and an error of its own, told like any failed attempt."""

    async def provider() -> Any:
        if fault == "raises":
            raise KeyError("store")
        if fault == "hangs":
            await trio.sleep_forever()
        return 7

    async def scenario() -> None:
        options: dict[str, Any] = {name: provider}
        async with harness(**options, provider_timeout=3.0, reconnect=[60.0]) as h:
            await trio.sleep(30.0)
            (failed,) = h.of("handle_disconnect")[0]
            assert isinstance(failed, ConnectFailed)
            assert isinstance(failed.error, ConnectError)
            assert (failed.error.step, failed.error.provider) == ("provider", name)
            assert name in str(failed.error)
            assert h.network.requests == []
            assert h.ref.health().attempt == 1

    virtual(scenario)


def test_a_health_tells_where_to_without_secrets() -> None:
    async def scenario() -> None:
        uri = "ws://me:pw@a.test/socket/websocket?token=s"
        async with harness(uri=uri) as h:
            await h.accept()
            health: Health = h.ref.health()
            assert health.uri == A
            assert "pw" not in repr(health)

    virtual(scenario)
