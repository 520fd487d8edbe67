"""How a connection begins: accepted, refused, or not even asked for."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from slipstream.testing import ConnectInfo, PhoenixServer, Reject

from .support import V2, Room, connected, dialled

TARGET = f"/socket/websocket{V2}"
ROOMS = {"rooms:*": Room}


async def ask(server: PhoenixServer, target: str = TARGET, **headers: str) -> Any:
    with trio.fail_after(5):
        async with dialled(server) as client:
            return await client.request(target, **headers)


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (TARGET, 101),
        ("/socket/websocket", 101),
        ("/socket/websocket?vsn=1.0.0", 101),
        ("/socket/websocket?vsn=2.0.7", 101),
        ("/socket/websocket?vsn=2.1.0", 403),
        ("/socket/websocket?vsn=3.0.0", 403),
        ("/socket/websocket?vsn=2", 403),
        ("/socket?vsn=2.0.0", 404),
        ("/nosuch/websocket?vsn=2.0.0", 404),
    ],
)
async def test_path_and_vsn_decide(target: str, status: int) -> None:
    async with PhoenixServer(ROOMS) as server:
        assert (await ask(server, target)).status == status


def returning(verdict: Any) -> Callable[[ConnectInfo], Any]:
    return lambda info: verdict


async def _async_false(info: ConnectInfo) -> bool:
    await trio.lowlevel.checkpoint()
    return False


async def _async_none(info: ConnectInfo) -> None:
    await trio.lowlevel.checkpoint()


@pytest.mark.parametrize(
    ("connect", "status", "body"),
    [
        (returning(None), 101, b""),
        (returning(True), 101, b""),
        (_async_none, 101, b""),
        (returning(False), 403, b""),
        (_async_false, 403, b""),
        (returning(Reject(429, b"slow down", {"retry-after": "1"})), 429, b"slow down"),
        (returning(Reject()), 403, b""),
    ],
    ids=["None", "True", "async None", "False", "async False", "Reject(429)", "Reject()"],
)
async def test_the_verdict_of_connect_is_the_answer(
    connect: Callable[[ConnectInfo], Any | Awaitable[Any]], status: int, body: bytes
) -> None:
    async with PhoenixServer(ROOMS, connect=connect) as server:
        response = await ask(server)
        assert (response.status, response.body) == (status, body)
        assert response.headers.get("retry-after") == ("1" if status == 429 else None)


async def test_a_connect_that_raises_is_a_500_and_the_error_is_kept() -> None:
    error = LookupError("no such user")

    def connect(info: ConnectInfo) -> None:
        raise error

    async with PhoenixServer(ROOMS, connect=connect) as server:
        assert (await ask(server)).status == 500
        assert server.crashes == [error]
        assert server.sockets == []


async def test_connects_are_refused_until_they_are_accepted_again() -> None:
    async with PhoenixServer(ROOMS) as server:
        server.refuse_connects(503, body=b"later", headers={"retry-after": "7"})
        for _ in range(2):
            response = await ask(server)
            assert (response.status, response.body) == (503, b"later")
            assert response.headers["retry-after"] == "7"
        server.accept_connects()
        assert (await ask(server)).status == 101


async def test_every_request_is_kept_refused_ones_too() -> None:
    async with PhoenixServer(ROOMS) as server:
        await ask(server, f"{TARGET}&token=a%20b&empty=", X_Test="yes")
        server.refuse_connects(403)
        await ask(server, "/else?x=1", Sec_WebSocket_Protocol="a, b")
        first, second = server.requests
        assert first.path == "/socket/websocket"
        assert first.params == {"vsn": "2.0.0", "token": "a b", "empty": ""}
        assert first.headers["x-test"] == "yes"
        assert (second.path, second.params, second.subprotocols) == (
            "/else",
            {"x": "1"},
            ("a", "b"),
        )


@pytest.mark.parametrize(
    ("offered", "answered", "token"),
    [
        ("phoenix, base64url.bearer.phx.c2VjcmV0OnpvZQ", "phoenix", "secret:zoe"),
        ("base64url.bearer.phx.c2VjcmV0", None, "secret"),
        ("phoenix", "phoenix", None),
        ("foo", None, None),
    ],
)
async def test_a_token_comes_as_a_subprotocol(
    offered: str, answered: str | None, token: str | None
) -> None:
    async with PhoenixServer(ROOMS) as server:
        response = await ask(server, Sec_WebSocket_Protocol=offered)
        assert response.status == 101
        assert response.headers.get("sec-websocket-protocol") == answered
        assert server.requests[0].auth_token == token


async def test_a_token_that_is_no_base64_is_a_500_where_connect_looks_at_it() -> None:
    async with PhoenixServer(ROOMS, connect=lambda info: bool(info.auth_token)) as server:
        response = await ask(server, Sec_WebSocket_Protocol="phoenix, base64url.bearer.phx.!!!")
        assert response.status == 500


@pytest.mark.parametrize(
    "request_line",
    [
        b"GET /socket/websocket?vsn=2.0.0 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n",
    ],
)
async def test_a_get_without_upgrade_is_a_400(request_line: bytes) -> None:
    with trio.fail_after(5):
        async with PhoenixServer(ROOMS) as server, dialled(server) as client:
            assert (await client.say(request_line)).status == 400
            await client.ended()
            assert server.requests == []


@pytest.mark.parametrize("said", [b"", b"GET", b"\x16\x03\x01 no http\r\n\r\n"])
async def test_whoever_hangs_up_before_the_upgrade_leaves_nothing(said: bytes) -> None:
    with trio.fail_after(5):
        async with PhoenixServer(ROOMS) as server:
            async with dialled(server) as client:
                await client.stream.send_all(said or b"G")
            async with connected(server, "rooms:1"):
                await server.wait_connections(1)
        assert server.sockets == []


async def test_one_that_is_being_judged_does_not_hold_up_the_others() -> None:
    judged = trio.Event()

    async def connect(info: ConnectInfo) -> None:
        if "slow" in info.params:
            judged.set()
            await trio.sleep_forever()

    with trio.fail_after(5):
        async with PhoenixServer(ROOMS, connect=connect) as server, dialled(server) as slow:
            await slow.stream.send_all(
                f"GET {TARGET}&slow=1 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
                "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                "Sec-WebSocket-Version: 13\r\n\r\n".encode()
            )
            await judged.wait()
            async with connected(server, "rooms:1"):
                await server.wait_connections(1)
            await server.restart()  # cuts the one that is being judged
            await slow.ended()
