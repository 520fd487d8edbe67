"""Ground truth 16 to 20: what servers do to connections, and what a client does upon it."""

from typing import Any

import pytest
import trio

from slipstream import (
    ClosedByServer,
    ConnectError,
    ConnectFailed,
    DisconnectedError,
    TransportFailed,
)
from slipstream.testing import ConnectInfo, PhoenixServer, Reject
from tests.testing.support import TEXT, Room, connected, dialled, frame, reply

from .stage import Stage, both_wires, check_took, joined, over_tcp, until

SERVERS = ["1.8.12/cowboy", "1.8.12/bandit", "1.8.3/cowboy", "1.8.3/bandit"]


async def test_a_server_lets_a_connection_join_a_hundred_topics() -> None:
    """Ground truth 16: the hundred and first is refused, and those before it live on."""
    topics = [f"rooms:{n}" for n in range(100)]
    async with PhoenixServer({"rooms:*": Room}) as server, connected(server, *topics) as client:
        await client.send('["101","101","rooms:100","phx_join",{}]')
        full = '{"reason":"too many channels joined"}'
        assert await client.text() == reply("101", "101", "rooms:100", full, "error")
        await client.send('["1","102","rooms:0","echo",{"n":1}]')
        assert await client.text() == reply("1", "102", "rooms:0", '{"n":1}')


@pytest.mark.parametrize("how", ["disconnect", "drain", "kill", "idle"])
@both_wires()
async def test_whatever_a_server_ends_a_connection_with_the_client_comes_back(
    test: Stage, how: str
) -> None:
    """Ground truth 17; rows 12, 13: and joins what it had joined."""
    await joined(test)
    codes = {"disconnect": 1001, "drain": 1012, "idle": 1000}
    if how == "kill":
        await test.drop()
        await test.assert_callback("handle_disconnect", TransportFailed)
    else:
        await test.close(codes[how])
        await test.assert_callback("handle_disconnect", ClosedByServer(codes[how]))
    await test.accept_connect()
    await test.accept_join("t")
    await test.assert_callback("handle_join", "t")


@pytest.mark.parametrize("like", SERVERS)
async def test_servers_end_connections_with_codes_of_their_own(like: Any) -> None:
    """Ground truth 17: a disconnect broadcast, a drain, and a client that was idle."""
    async with PhoenixServer({"rooms:*": Room}, like=like) as server:
        async with connected(server) as client:
            server.disconnect()
            assert await client.closed() == (1000 if like.startswith("1.8.3") else 1001)
        async with connected(server) as client:
            server.drain()
            assert await client.closed() == 1012
        async with connected(server) as client:
            server.drop()
            await client.ended()
    async with (
        PhoenixServer({"rooms:*": Room}, like=like, idle_timeout=0.1) as server,
        connected(server) as client,
    ):
        assert await client.closed() == (1002 if like.endswith("bandit") else 1000)


@over_tcp(serving={"like": "1.8.12/bandit", "idle_timeout": 0.2})
async def test_an_idle_connection_of_bandits_is_opened_again(test: Stage) -> None:
    """Ground truth 17; row 13: 1002 is no reason to give up."""
    await joined(test)
    await test.assert_callback("handle_disconnect", ClosedByServer(1002))
    await test.accept_connect()
    await until(lambda: test.socket.connected)


BROKEN = [b"no json", b'["1","1"]', b'{"topic":"t","event":"e","payload":{},"ref":"1"}']


@pytest.mark.parametrize("data", [*BROKEN, b""], ids=repr)
async def test_a_server_closes_with_1011_upon_what_it_cannot_read(data: bytes) -> None:
    """Ground truth 18."""
    async with PhoenixServer({"rooms:*": Room}) as server, connected(server) as client:
        if data:
            await client.stream.send_all(frame(TEXT, data))
        else:
            await client.send(b"")
        assert await client.closed() == 1011


async def test_a_server_closes_with_1011_upon_messages_of_another_version() -> None:
    """Ground truth 18: a connect without a vsn speaks V1."""
    async with (
        PhoenixServer({"rooms:*": Room}) as server,
        connected(server, query="") as client,
    ):
        await client.send('["1","1","rooms:1","phx_join",{}]')
        assert await client.closed() == 1011


@both_wires(reconnect=[1.0, 2.0, 4.0])
async def test_a_server_that_cannot_read_us_is_not_asked_without_end(test: Stage) -> None:
    """Ground truth 18; rows 10, 13: each attempt waits longer, though each was let in."""
    await test.accept_connect()
    for delay in (1.0, 2.0, 4.0, 4.0):
        await test.close(1011)
        lost = await test.assert_callback("handle_disconnect", ClosedByServer(1011))
        await test.accept_connect()
        check_took(test, lost.at, trio.current_time(), delay)


@over_tcp(serving={"max_frame_size": 1000})
async def test_a_server_closes_with_1009_upon_what_is_too_large(test: Stage) -> None:
    """Ground truth 19; row 13: which ends the client."""
    await joined(test)
    await test.socket.push("t", "e", {"x": "x" * 1000})
    await test.assert_callback("handle_disconnect", ClosedByServer(1009))
    await test.expect_crash(DisconnectedError, "1009")


@pytest.mark.parametrize(
    ("query", "status"), [("?vsn=3.0.0", 403), ("?vsn=x", 403), ("?vsn=2.0.0&as=no", 403),
                          ("?vsn=2.0.0&as=raise", 500), ("?vsn=2.0.0&as=busy", 429),
                          ("?vsn=2.0.0", 101), ("", 101)],
)  # fmt: skip
async def test_a_server_refuses_by_status(query: str, status: int) -> None:
    """Ground truth 20."""
    async with PhoenixServer({}, connect=_judge) as server, dialled(server) as client:
        response = await client.request(f"/socket/websocket{query}")
        assert response.status == status
        if status == 429:
            assert response.headers["retry-after"] == "7"
            assert response.body == b"later"


def _judge(info: ConnectInfo) -> Reject | bool | None:
    match info.params.get("as"):
        case "no":
            return False
        case "raise":
            raise ValueError("as asked")
        case "busy":
            return Reject(429, b"later", {"retry-after": "7"})
        case _:
            return None


@pytest.mark.parametrize(("status", "final"), [(403, True), (500, False), (429, False)])
@both_wires()
async def test_a_client_classifies_by_status(test: Stage, status: int, final: bool) -> None:
    """Ground truth 20; row 14; SL-I0."""
    await test.refuse_connect(status)
    call = await test.assert_callback("handle_disconnect", ConnectFailed)
    assert call.args[0].status == status
    if final:
        await test.expect_crash(ConnectError)
    else:
        await test.accept_connect()


async def test_a_server_answers_heartbeats_by_their_refs() -> None:
    """Ground truth 21: also one without a ref, which nobody can tell from others."""
    async with PhoenixServer({}) as server, connected(server) as client:
        await client.send('[null,"9","phoenix","heartbeat",{}]')
        assert await client.text() == reply(None, "9", "phoenix")
        await client.send('[null,null,"phoenix","heartbeat",{}]')
        assert await client.text() == reply(None, None, "phoenix")
