import socket
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from slipstream.errors import ConnectError
from slipstream.interfaces import ConnectRequest
from slipstream.transport._opening import Attempt, open_stream, parse_target
from tests.transport.support import connect, echo_until_close, serving

on_linux = pytest.mark.skipif(
    sys.platform != "linux", reason="needs all of 127.0.0.0/8, and Linux's way with full queues"
)


class Names(trio.abc.HostnameResolver):
    """Knows a few names, each with its addresses; others fail, and "slow" is never answered."""

    def __init__(self, **names: Sequence[str]) -> None:
        self.names = names

    async def getaddrinfo(
        self,
        host: bytes | None,
        port: bytes | str | int | None,
        family: int = 0,
        type: int = 0,  # noqa: A002 - the interface's name
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        assert host is not None
        if host == b"slow":
            await trio.sleep_forever()
        if host.decode() not in self.names:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port))
            for address in self.names[host.decode()]
        ]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        raise NotImplementedError


@asynccontextmanager
async def names(**known: Sequence[str]) -> AsyncGenerator[None]:
    before = trio.socket.set_custom_hostname_resolver(Names(**known))
    try:
        yield
    finally:
        trio.socket.set_custom_hostname_resolver(before)


async def failed(uri: str, *, within: float = 2.0, **options: Any) -> ConnectError:
    """Connect, which fails *within* so many seconds; give the error."""
    started = trio.current_time()
    with pytest.raises(ConnectError) as caught:
        async with connect(ConnectRequest(uri=uri, **options)):
            pytest.fail("it was opened")
    assert trio.current_time() - started < within
    return caught.value


async def test_a_refused_socket_option_is_told_and_leaves_nothing_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[trio.SocketStream] = []

    def refuse(stream: trio.SocketStream, request: ConnectRequest) -> None:
        opened.append(stream)
        raise OSError(92, "Protocol not available")

    monkeypatch.setattr("slipstream.transport._opening._set_options", refuse)
    async with serving(echo_until_close) as server:
        error = await failed(server.request().uri)
    assert error.step == "tcp"
    assert "Protocol not available" in str(error)
    assert [stream.socket.fileno() for stream in opened] == [-1]


async def free_port() -> int:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port: int = listener.socket.getsockname()[1]
    await listener.aclose()
    return port


@pytest.mark.parametrize(
    ("uri", "host", "port", "secure", "resource", "authority"),
    [
        ("ws://h", "h", 80, False, "/", "h"),
        ("wss://h/a?b=c", "h", 443, True, "/a?b=c", "h"),
        ("ws://h:4000/a", "h", 4000, False, "/a", "h:4000"),
        ("ws://h:443", "h", 443, False, "/", "h:443"),
        ("wss://[::1]:4000", "::1", 4000, True, "/", "[::1]:4000"),
    ],
)
def test_a_uri_is_taken_apart(
    uri: str, host: str, port: int, secure: bool, resource: str, authority: str
) -> None:
    target = parse_target(uri)
    assert (target.host, target.port, target.secure) == (host, port, secure)
    assert (target.resource, target.authority) == (resource, authority)


@pytest.mark.parametrize(
    "uri", ["http://h/", "ws://", "ws://h:99999/", "ws:///a?token=secret", "h"]
)
async def test_a_uri_that_leads_nowhere_fails_in_step_uri(uri: str) -> None:
    """h09: and its query stays out of the message."""
    error = await failed(uri)
    assert error.step == "uri"
    assert isinstance(error.__cause__, ValueError)
    assert "secret" not in str(error)


def test_credentials_in_a_uri_are_found_and_never_shown() -> None:
    target = parse_target("wss://jo%40x:s%3Acret@h/a?token=t0ken")
    assert target.credentials == "jo@x:s:cret"
    assert target.authority == "h"
    assert "cret" not in repr(target)
    assert "t0ken" not in repr(target)


async def test_a_refused_connection_fails_in_step_tcp() -> None:
    """h09: at once."""
    error = await failed(f"ws://127.0.0.1:{await free_port()}/")
    assert error.step == "tcp"
    assert isinstance(error.__cause__, ConnectionRefusedError)
    assert "refused" in str(error)


async def test_an_unknown_name_fails_in_step_dns() -> None:
    """h09: and the name is told."""
    async with names():
        error = await failed("ws://nowhere.example:4000/")
    assert error.step == "dns"
    assert isinstance(error.__cause__, socket.gaierror)
    assert "nowhere.example" in str(error)


async def test_an_impossible_name_fails_in_step_dns() -> None:
    """h09: one that is no name at all."""
    error = await failed(f"ws://{'x' * 64}.example/")
    assert error.step == "dns"
    assert error.__cause__ is not None


async def test_a_name_server_that_does_not_answer_ends_by_connect_timeout() -> None:
    """h09: the deadline holds for every step."""
    async with names():
        error = await failed("ws://slow/", connect_timeout=0.2)
    assert error.step == "dns"
    assert error.seconds == pytest.approx(0.2, abs=0.2)
    assert isinstance(error.__cause__, trio.TooSlowError)


@on_linux
async def test_an_unanswered_syn_ends_by_connect_timeout() -> None:
    """h09: as with an address that nobody has."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        # Linux drops a SYN that finds the queue of those who wait to be accepted full.
        fillers = [socket.socket() for _ in range(4)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(address)
            error = await failed(f"ws://127.0.0.1:{address[1]}/", connect_timeout=0.3)
        finally:
            for filler in fillers:
                filler.close()
    assert error.step == "tcp"
    assert "0.3 s" in str(error)
    assert isinstance(error.__cause__, trio.TooSlowError)


@on_linux
async def test_a_name_with_several_addresses_is_tried_until_one_answers() -> None:
    async with (
        serving(echo_until_close, host="127.0.0.3") as server,
        names(many=["127.0.0.2", "127.0.0.3"]),
    ):
        async with connect(ConnectRequest(uri=f"ws://many:{server.port}/")) as transport:
            assert transport.closed is None
        assert await server.result() == (1000, "")


@on_linux
async def test_where_no_address_answers_all_the_causes_are_kept() -> None:
    async with names(many=["127.0.0.2", "127.0.0.3"]):
        error = await failed(f"ws://many:{await free_port()}/")
    assert error.step == "tcp"
    assert isinstance(error.__cause__, ExceptionGroup)
    assert [type(each) for each in error.__cause__.exceptions] == [ConnectionRefusedError] * 2


@pytest.mark.parametrize("keepalive", [True, False])
async def test_the_socket_has_the_options_that_make_a_dead_path_known(keepalive: bool) -> None:
    """d03: keepalive for a silent path, a user time-out for one that is written to."""
    async with serving(echo_until_close) as server:
        request = server.request(tcp_keepalive=keepalive, tcp_user_timeout=2.5)
        stream = await open_stream(parse_target(request.uri), request, Attempt(3.0))
        assert isinstance(stream, trio.SocketStream)
        async with stream:
            options = stream.socket
            assert options.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
            assert bool(options.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)) is keepalive
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                assert options.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 2500
            await stream.send_all(b"GET / HTTP/1.1\r\n\r\n")
        await server.result()
