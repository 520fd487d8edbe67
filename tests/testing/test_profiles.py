"""In what the recorded servers differ, apart from what the transcripts show."""

import math
from typing import Any

import pytest
import trio

from slipstream.errors import ConfigError
from slipstream.testing import ConnectInfo, PhoenixServer

from .support import PING, PONG, Room, connected, dialled, frame, reply

ROOMS = {"rooms:*": Room}
LIKES: list[Any] = ["1.8.12/cowboy", "1.8.12/bandit", "1.8.3/cowboy", "1.8.3/bandit"]


@pytest.mark.parametrize("like", ["1.8.12", "1.8.12/nginx", "", None, ["1.8.3/bandit"]])
def test_a_server_that_nobody_recorded_is_no_profile(like: Any) -> None:
    with pytest.raises(ConfigError, match=r"like is .*; accepted are '1\.8\.12/cowboy', '1"):
        PhoenixServer(ROOMS, like=like)


@pytest.mark.parametrize(
    ("like", "limit"),
    [("1.8.12/cowboy", 100), ("1.8.12/bandit", 100), ("1.8.3/cowboy", math.inf)],
)
def test_a_limit_of_ones_own_goes_before_the_profiles(like: Any, limit: float) -> None:
    assert PhoenixServer(ROOMS, like=like).max_channels == limit
    assert PhoenixServer(ROOMS, like=like, max_channels=3).max_channels == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_channels", -1),
        ("max_channels", "100"),
        ("max_frame_size", 0),
        ("idle_timeout", -0.1),
        ("idle_timeout", math.nan),
        ("idle_timeout", None),
        ("idle_timeout", True),
    ],
)
def test_a_limit_that_is_none_is_refused(name: str, value: Any) -> None:
    options: dict[str, Any] = {name: value}
    with pytest.raises(ConfigError, match=f"{name} is {value!r}; accepted are"):
        PhoenixServer(ROOMS, **options)


async def test_there_may_be_no_limit_at_all() -> None:
    limits: dict[str, Any] = {"max_channels": math.inf, "idle_timeout": math.inf}
    async with PhoenixServer(ROOMS, max_frame_size=1 << 40, **limits) as server:
        async with connected(server, "rooms:1", "rooms:2") as client:
            await client.silent()


async def test_a_silent_client_is_closed_and_one_that_pings_is_not() -> None:
    async with PhoenixServer(ROOMS, idle_timeout=1.0) as server:
        async with (
            connected(server, "rooms:1") as silent,
            connected(server) as pinging,
            trio.open_nursery() as nursery,
        ):

            async def ping() -> None:
                while True:
                    await pinging.stream.send_all(frame(PING, b""))
                    assert (await pinging.receive()).opcode == PONG
                    await trio.sleep(0.1)

            nursery.start_soon(ping)
            assert await silent.closed() == 1000
            await server.wait_connections(1)
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("like", LIKES)
async def test_disconnects_go_by_the_id_of_a_connection(like: Any) -> None:
    def connect(info: ConnectInfo) -> None:
        info.assigns["user"] = info.params.get("user")

    def id_of(info: ConnectInfo) -> str | None:
        user = info.assigns["user"]
        return f"users:{user}" if user else None

    async with PhoenixServer(ROOMS, like=like, connect=connect, id=id_of) as server:
        queries = [f"?vsn=2.0.0{user}" for user in ("&user=1", "&user=1", "&user=2", "")]
        async with (
            connected(server, query=queries[0]) as one,
            connected(server, query=queries[1]) as also_one,
            connected(server, query=queries[2]) as two,
            connected(server, query=queries[3]) as nobody,
        ):
            assert [socket.id for socket in server.sockets] == [
                "users:1",
                "users:1",
                "users:2",
                None,
            ]
            assert server.sockets[0].assigns == {"user": "1"}
            code = 1001 if "1.8.12" in like else 1000
            server.disconnect(id="users:1")
            assert [await one.closed(), await also_one.closed()] == [code, code]
            server.broadcast("users:2", "disconnect", {})
            assert await two.closed() == code
            await nobody.silent()
            server.drain()
            assert await nobody.closed() == 1012


async def test_an_id_that_cannot_be_given_is_a_500() -> None:
    def id_of(info: ConnectInfo) -> str:
        return info.params["user"]

    async with PhoenixServer(ROOMS, id=id_of) as server, dialled(server) as client:
        assert (await client.request("/socket/websocket?vsn=2.0.0")).status == 500
        assert isinstance(server.crashes[0], KeyError)


async def test_refs_are_given_back_as_they_came() -> None:
    async with PhoenixServer(ROOMS) as server:
        async with connected(server) as client:
            ok = '{"response":{},"status":"ok"}'
            await client.send('[1,2,"rooms:1","phx_join",{}]')
            assert await client.text() == f'[1,2,"rooms:1","phx_reply",{ok}]'
            await client.send('["1",3,"rooms:1","echo",{}]', '[1,[4],"rooms:1","echo",{},"more"]')
            assert await client.text() == f'[1,[4],"rooms:1","phx_reply",{ok}]'
            await client.send('[1,5,"rooms:1","crash",{}]')
            assert await client.text() == '[1,1,"rooms:1","phx_error",{"reason":"channel_crash"}]'
            assert await _code_after(client, '[1,6,7,"echo",{}]') == 1011
        async with connected(server, query="") as client:
            await client.send('{"topic":"rooms:1","event":"phx_join","payload":{},"ref":1}')
            expected = f'{{"event":"phx_reply","payload":{ok},"ref":1,"topic":"rooms:1"}}'
            assert await client.text() == expected
            assert await _code_after(client, '{"topic":"rooms:1","event":"echo","ref":2}') == 1011


async def _code_after(client: Any, message: str) -> int:
    await client.send(message)
    code: int = await client.closed()
    return code


async def test_a_binary_reply_has_no_place_for_a_ref_that_is_no_string() -> None:
    class Bytes(Room):
        async def handle_in(self, event: str, payload: Any, socket: Any, /) -> Any:
            return await super().handle_in("echo", b"x", socket)

    async with PhoenixServer({"rooms:*": Bytes}) as server:
        async with connected(server, "rooms:1") as client:
            await client.send('["1",2,"rooms:1","any",{}]')
            crash = '{"reason":"channel_crash"}'
            assert await client.text() == f'["1","1","rooms:1","phx_error",{crash}]'
            await client.send('["3","3","rooms:1","phx_join",{}]')
            assert await client.text() == reply("3", "3", "rooms:1")
