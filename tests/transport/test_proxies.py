"""Through proxies: each way leads to the server, and each fault ends in time, in step "proxy"."""

import contextlib
import ssl
import sys
from typing import Any

import pytest
import trio
import trustme
from hypothesis import given, settings, strategies as st

from slipstream.errors import ConnectError
from slipstream.interfaces import ConnectRequest
from slipstream.transport._attempt import Attempt, parse_target
from slipstream.transport._reaching import reach
from tests.transport.names import names
from tests.transport.proxies import exactly, http_proxy, socks4_proxy, socks5_proxy
from tests.transport.support import (
    Connection,
    RawServer,
    Script,
    connect,
    echo_until_close,
    failed,
    free_port,
    serving,
)
from tests.transport.sweeps import cancelled_at_every_step, counts_descriptors, descriptors

USERINFO = "jo:s3cr3t@"


def via(proxy: RawServer, scheme: str = "http", credentials: str = "") -> str:
    return f"{scheme}://{credentials}127.0.0.1:{proxy.port}"


async def refused(script: Script, *, scheme: str = "http", **options: Any) -> ConnectError:
    """Ask a proxy that does as *script* says, which fails; give the error."""
    async with serving(script) as proxy:
        url = via(proxy, scheme, USERINFO if scheme not in {"socks4", "socks4a"} else "")
        error = await failed("ws://127.0.0.1:9/?token=s3cr3t", proxy=url, **options)
        assert error.step == "proxy"
        assert (error.status, error.headers, error.body) == (None, (), b"")
        assert f"through the proxy {via(proxy, scheme)}" in str(error)
        assert "s3cr3t" not in f"{error} {error!r} {error.__cause__!r}"
        await proxy.results()
        return error


# They lead to the server


@pytest.mark.parametrize(
    "answers",
    [
        (),
        (b"HTTP/1.0 200 OK\r\nVia: x\r\n\r\n",),
        (b"HTTP/1", b".1 200 OK\r\n", b"X: y\r\n", b"\r\n"),
        (b"HTTP/1.1 204 No Content\r\n\r\n",),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nTransfer-Encoding: chunked\r\n\r\n",),
        (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"),
    ],
)
async def test_an_http_proxy_leads_to_the_server_however_its_answer_is_cut(
    answers: tuple[bytes, ...],
) -> None:
    async with serving(echo_until_close) as server, serving(http_proxy(*answers)) as proxy:
        uri = f"ws://app.example:{server.port}/socket"
        async with connect(ConnectRequest(uri=uri, proxy=via(proxy), close_timeout=1.0)):
            pass
        assert await server.result() == (1000, "")
        head = await proxy.result()
    assert head.split(b"\r\n") == [
        f"CONNECT app.example:{server.port} HTTP/1.1".encode(),
        f"Host: app.example:{server.port}".encode(),
    ]


async def test_the_name_in_the_certificate_is_that_of_the_server_and_not_of_the_proxy() -> None:
    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("app.example").configure_cert(tls)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with serving(echo_until_close, tls=tls) as server:
        # As to the usual port, which the URI does not name.
        async with serving(http_proxy(port=lambda _: server.port)) as proxy:
            request = ConnectRequest(
                uri="wss://app.example/", proxy=via(proxy), ssl_context=trusting, close_timeout=1.0
            )
            async with connect(request):
                pass
            assert await server.result() == (1000, "")
            assert (await proxy.result()).startswith(b"CONNECT app.example:443 HTTP/1.1\r\n")


async def test_an_address_of_ipv6_stands_in_brackets_in_a_connect() -> None:
    async with serving(echo_until_close) as server, serving(http_proxy()) as proxy:
        request = ConnectRequest(uri=f"ws://[::1]:{server.port}/", proxy=via(proxy))
        async with connect(request):
            pass
        assert f"CONNECT [::1]:{server.port} ".encode() in await proxy.result()


async def test_credentials_for_an_http_proxy_are_sent_to_it_and_to_nobody_else() -> None:
    async def script(connection: Connection) -> bytes:
        await connection.accept()
        return connection.request

    async with serving(script) as server, serving(http_proxy()) as proxy:
        request = server.request(proxy=via(proxy, "http", "jo%40x:s3cr%3At@"))
        assert "s3cr" not in repr(request)
        async with connect(request):
            pass
        assert b"Proxy-Authorization" not in await server.result()
        assert b"Proxy-Authorization: Basic am9AeDpzM2NyOnQ=" in await proxy.result()


@pytest.mark.parametrize("bound", [b"\1\0\0\0\0\0\0", b"\4" + b"\0" * 18, b"\3\4host\0\0"])
@pytest.mark.parametrize(
    ("scheme", "credentials", "password", "asked"),
    [
        ("socks5h", "", None, "app.example"),
        ("socks5", "", None, "127.0.0.1"),
        ("socks5h", "jo:s3cr%3At@", b"jo:s3cr:t", "app.example"),
    ],
)
async def test_a_socks_5_proxy_leads_to_the_server(
    scheme: str, credentials: str, password: bytes | None, asked: str, bound: bytes
) -> None:
    script = socks5_proxy(password=password, bound=bound)
    async with serving(echo_until_close) as server, serving(script) as proxy:
        async with names(**{"app.example": ["127.0.0.1"], "127.0.0.1": ["127.0.0.1"]}):
            request = ConnectRequest(
                uri=f"ws://app.example:{server.port}/",
                proxy=via(proxy, scheme, credentials),
                close_timeout=1.0,
            )
            async with connect(request):
                pass
        assert await server.result() == (1000, "")
        assert await proxy.result() == asked


@pytest.mark.parametrize(("scheme", "asked"), [("socks4a", "app.example"), ("socks4", "127.0.0.1")])
async def test_a_socks_4_proxy_leads_to_the_server(scheme: str, asked: str) -> None:
    async with serving(echo_until_close) as server, serving(socks4_proxy()) as proxy:
        async with names(**{"app.example": ["127.0.0.1"], "127.0.0.1": ["127.0.0.1"]}):
            request = ConnectRequest(
                uri=f"ws://app.example:{server.port}/",
                proxy=via(proxy, scheme, "jo@"),
                close_timeout=1.0,
            )
            async with connect(request):
                pass
        assert await server.result() == (1000, "")
        assert await proxy.result() == (b"jo", asked)


async def test_the_addresses_of_a_proxy_are_tried_until_one_answers() -> None:
    async with serving(echo_until_close) as server, serving(socks5_proxy()) as proxy:
        async with names(many=["127.0.0.254", "127.0.0.1"]):
            request = server.request(proxy=f"socks5h://many:{proxy.port}")
            async with connect(request):
                pass
        assert await server.result() == (1000, "")


# They refuse


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"407 Proxy Authentication Required", "407 'Proxy Authentication Required' (step"),
        (b"403 Filtered \x1b[31m", "403 'Filtered \\x1b[31m' (step"),
        (b"502 " + b"x" * 1000, "502 'xxx"),
        (b"302 Found\r\nLocation: /", "302 'Found' (step"),
        (b"101 Switching", "101 'Switching' (step"),
        (b"503", "503 (step"),
    ],
)
async def test_a_refusal_of_an_http_proxy_is_told_in_its_words(answer: bytes, said: str) -> None:
    """And its status is not the server's, by which a policy would judge our credentials."""
    error = await refused(answering(b"HTTP/1.1 " + answer + b"\r\n\r\n"))
    assert f"the proxy answered HTTP {said}" in str(error)
    assert len(str(error)) < 500


def answering(*pieces: bytes) -> Script:
    async def script(connection: Connection) -> bytes:
        await connection.stream.receive_some()
        for piece in pieces:
            await connection.send(piece)
        return await connection.read_end()

    return script


async def test_a_refusal_of_a_socks_proxy_is_told_in_words() -> None:
    error = await refused(socks5_proxy(password=USERINFO[:-1].encode(), code=2), scheme="socks5h")
    assert "Connection not allowed by ruleset" in str(error)
    error = await refused(socks5_proxy(password=b"other"), scheme="socks5h")
    assert "authentication failure" in str(error)
    error = await refused(socks4_proxy(code=0x5B), scheme="socks4")
    assert "rejected" in str(error)
    error = await refused(answering(b"\5\xff"), scheme="socks5h")
    assert "No acceptable authentication methods" in str(error)


# They are broken


@pytest.mark.parametrize("scheme", ["http", "socks5h", "socks4"])
async def test_a_proxy_that_is_not_there_is_told(scheme: str) -> None:
    port = await free_port()
    async with names(**{"127.0.0.1": ["127.0.0.1"]}):
        error = await failed("ws://h.example/", proxy=f"{scheme}://127.0.0.1:{port}")
    assert error.step == ("dns" if scheme == "socks4" else "proxy")
    error = await failed("ws://127.0.0.1/", proxy=f"{scheme}://127.0.0.1:{port}")
    assert error.step == "proxy"
    assert isinstance(error.__cause__, ConnectionRefusedError)
    assert f"through the proxy {scheme}://127.0.0.1:{port}" in str(error)


async def test_the_name_of_a_proxy_may_be_unknown() -> None:
    async with names():
        error = await failed("ws://127.0.0.1/", proxy="http://jo:s3cr3t@nowhere.example:3128")
    assert error.step == "proxy"
    assert "no address for 'nowhere.example'" in str(error)
    assert "s3cr3t" not in str(error)


@pytest.mark.parametrize("scheme", ["http", "socks5h", "socks4"])
@pytest.mark.parametrize("sent", [b"", b"\5", b"HTTP/1.1 200"])
@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_a_proxy_that_ends_tcp_is_noticed_at_once(scheme: str, sent: bytes, how: str) -> None:
    async def script(connection: Connection) -> None:
        await connection.stream.receive_some()
        await connection.send(sent)
        if how == "rst":
            connection.reset()

    await refused(script, scheme=scheme, connect_timeout=60.0)


@pytest.mark.parametrize("scheme", ["http", "socks5h", "socks4"])
async def test_a_proxy_that_does_not_answer_ends_by_connect_timeout(scheme: str) -> None:
    """complaint-1."""
    error = await refused(Connection.read_end, scheme=scheme, connect_timeout=0.2)
    assert isinstance(error.__cause__, trio.TooSlowError)


@pytest.mark.parametrize(
    ("scheme", "first", "then"),
    [("http", b"HTTP/1.1 200 OK\r\nX: ", b"y"), ("socks5h", b"\5\0", b"\5\0\0\3\xff")],
)
async def test_a_proxy_that_trickles_ends_by_connect_timeout(
    scheme: str, first: bytes, then: bytes
) -> None:
    async def script(connection: Connection) -> None:
        await connection.stream.receive_some()
        await connection.send(first)
        if then == b"y":
            await connection.send_until_refused(then, pause=0.01)
        else:
            await connection.send(then)
            await connection.read_end()

    error = await refused(script, scheme=scheme, connect_timeout=0.3)
    assert isinstance(error.__cause__, trio.TooSlowError)


async def test_an_endless_head_is_cut_at_64_kib() -> None:
    async def script(connection: Connection) -> None:
        await connection.read_request()
        await connection.send(b"HTTP/1.1 200 OK\r\n")
        await connection.send_until_refused(b"X-Bomb: " + b"x" * 8192 + b"\r\n")

    assert "64 KiB" in str(await refused(script))


async def test_a_proxy_that_talks_on_is_refused() -> None:
    """What it said would be taken for the server's."""
    error = await refused(answering(b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 101 Switching\r\n\r\n"))
    assert "more than its answer" in str(error)


@pytest.mark.parametrize("scheme", ["http", "socks5h", "socks4"])
@pytest.mark.parametrize("garbage", [b"SSH-2.0-OpenSSH_9.6\r\n", b"\0" * 400, b"\xff" * 400])
async def test_a_proxy_that_talks_garbage_is_refused_at_once(scheme: str, garbage: bytes) -> None:
    await refused(answering(garbage), scheme=scheme)


async def test_a_proxy_that_only_echoes_learns_and_tells_nothing() -> None:
    async def script(connection: Connection) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            while data := await connection.stream.receive_some():
                await connection.send(bytes(data))

    for scheme in ("http", "socks5h", "socks5"):
        await refused(script, scheme=scheme)


@pytest.mark.parametrize("scheme", ["http", "socks5h", "socks4"])
@settings(max_examples=40)
@given(pieces=st.lists(st.binary(max_size=12), max_size=4), well=st.booleans())
def test_whatever_a_proxy_says_the_end_is_one_kind_of_error(
    scheme: str, pieces: list[bytes], well: bool
) -> None:
    """Behind a good beginning, or none, and then the end of TCP."""
    beginnings = {"http": b"HTTP/1.1 ", "socks5h": b"\5\0\5\0\0", "socks4": b"\0\x5a"}

    async def script(connection: Connection) -> None:
        await connection.stream.receive_some()
        await connection.send((beginnings[scheme] if well else b"") + b"".join(pieces))

    async def ask() -> None:
        async with serving(script) as proxy:
            request = ConnectRequest(uri="ws://127.0.0.1:9/", proxy=via(proxy, scheme))
            try:
                (await reach(parse_target(request.uri), request, Attempt(3.0))).close()
            except ConnectError as error:
                assert error.step == "proxy"

    trio.run(ask)


# Requests that cannot be


@pytest.mark.parametrize(
    "url",
    [
        "https://jo:s3cr3t@h:3128",
        "ftp://jo:s3cr3t@h",
        "jo:s3cr3t@h:3128",
        "http://jo:s3cr3t@",
        "http://jo:s3cr3t@h:0",
        "http://jo:s3cr3t/@h:1",
        "http://jo:s3cr3t[]@h:1",
        "http://jo:s3cr3t@h:1/x",
        "http://jo:s3cr3t@h:1/?x",
        "http://jo:s3cr3t@h:1/\r\nX: y",
        "http://jo:s3cr3t\0@h:1",
        "http://s3cr3t%3A:x@h:1",
        "socks5://jo:s3cr3t%C3%A9@h:1",
        "socks5://s3cr3t@h:1",
        "socks5://:s3cr3t@h:1",
        "socks5h://jo:" + "s3cr3t" * 50 + "@h:1",
        "socks4://jo:s3cr3t@h:1",
        "",
    ],
)
async def test_a_url_that_is_no_proxys_is_refused_and_not_shown(url: str) -> None:
    error = await failed("ws://127.0.0.1/", proxy=url)
    assert error.step == "proxy"
    assert "s3cr3t" not in f"{error} {error.__cause__!r}"


async def test_a_proxy_and_a_unix_socket_exclude_each_other() -> None:
    error = await failed("ws://127.0.0.1/", proxy="http://h", unix_socket="/run/app.sock")
    assert error.step == "proxy"


async def test_a_name_that_socks_cannot_carry_is_refused() -> None:
    async def script(connection: Connection) -> bytes:
        await exactly(connection, 3)
        await connection.send(b"\5\0")
        return await connection.read_end()

    async with serving(script) as proxy:
        uri = f"ws://{'.'.join(['x' * 60] * 5)}/"
        error = await failed(uri, proxy=via(proxy, "socks5h"))
        assert error.step == "proxy"
        assert await proxy.result() == b""


async def test_without_the_extra_a_socks_proxy_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "slipstream.transport._socks", raising=False)
    monkeypatch.setitem(sys.modules, "python_socks", None)
    error = await refused(Connection.read_end, scheme="socks5h")
    assert "pip install 'slipstream[proxy]'" in str(error)
    assert "\n" not in str(error)
    async with serving(echo_until_close) as server, serving(http_proxy()) as proxy:
        async with connect(server.request(proxy=via(proxy))):  # this needs nothing
            pass
        assert await server.result() == (1000, "")


# Nothing is left over


@counts_descriptors
@pytest.mark.parametrize(
    ("scheme", "script"),
    [
        ("http", http_proxy()),
        ("http", answering(b"HTTP/1.1 407 No\r\n\r\n")),
        ("socks5h", socks5_proxy()),
        ("socks5", socks5_proxy()),
        ("socks5h", socks5_proxy(code=1)),
        ("socks4", socks4_proxy()),
        ("socks5h", answering(b"garbage")),
    ],
    ids=["http", "http-407", "socks5h", "socks5", "socks5h-refuses", "socks4", "garbage"],
)
async def test_a_way_through_a_proxy_may_be_cancelled_at_any_step_and_leaves_nothing_open(
    scheme: str, script: Script
) -> None:
    async def lenient(connection: Connection) -> None:
        with contextlib.suppress(AssertionError, trio.BrokenResourceError):
            await script(connection)

    async with serving(Connection.read_end) as server, serving(lenient) as proxy:
        async with names(**{"app.example": ["127.0.0.1"], "127.0.0.1": ["127.0.0.1"]}):
            uri = f"ws://app.example:{server.port}/"
            request = ConnectRequest(uri=uri, proxy=via(proxy, scheme))

            async def run() -> None:
                with contextlib.suppress(ConnectError):
                    (await reach(parse_target(request.uri), request, Attempt(3.0))).close()

            await run()
            await proxy.results()
            await server.results()
            before = descriptors()
            count = await cancelled_at_every_step(run, most=300)
            await proxy.results()
            await server.results()
            assert descriptors() == before
    assert count > 5
