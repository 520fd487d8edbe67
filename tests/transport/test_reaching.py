import os
import socket
import ssl
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme

from slipstream.errors import ConfigError
from slipstream.interfaces import ConnectRequest
from slipstream.transport._attempt import Attempt, parse_target
from slipstream.transport._reaching import reach
from tests.transport.names import names
from tests.transport.support import (
    PATIENCE,
    Connection,
    connect,
    echo_until_close,
    failed,
    free_port,
    serving,
)
from tests.transport.sweeps import cancelled_at_every_step, counts_descriptors, descriptors

on_linux = pytest.mark.skipif(
    sys.platform != "linux", reason="needs all of 127.0.0.0/8, and Linux's way with full queues"
)

has_unix = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs Unix-domain sockets")


async def test_a_refused_connection_fails_in_step_tcp() -> None:
    """h09."""
    error = await failed(f"ws://127.0.0.1:{await free_port()}/")
    assert error.step == "tcp"
    assert isinstance(error.__cause__, ConnectionRefusedError)
    assert "refused" in str(error)


async def test_an_unknown_name_fails_in_step_dns() -> None:
    """h09."""
    async with names():
        error = await failed("ws://nowhere.example:4000/")
    assert error.step == "dns"
    assert isinstance(error.__cause__, socket.gaierror)
    assert "nowhere.example" in str(error)


async def test_a_name_without_an_address_fails_in_step_dns() -> None:
    async with names(none=[]):
        error = await failed("ws://none/")
    assert error.step == "dns"


async def test_an_impossible_name_fails_in_step_dns() -> None:
    error = await failed(f"ws://{'x' * 64}.example/")
    assert error.step == "dns"
    assert error.__cause__ is not None


async def test_a_name_server_that_does_not_answer_ends_by_connect_timeout() -> None:
    """complaint-1."""
    async with names():
        error = await failed("ws://slow/", connect_timeout=0.2)
    assert error.step == "dns"
    assert error.seconds == pytest.approx(0.2, abs=0.2)
    assert isinstance(error.__cause__, trio.TooSlowError)


@on_linux
async def test_an_unanswered_syn_ends_by_connect_timeout() -> None:
    """complaint-1, h09."""
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


async def test_what_is_given_is_a_connected_socket_that_does_not_block() -> None:
    async with serving(echo_until_close) as server:
        request = server.request()
        sock = await reach(parse_target(request.uri), request, Attempt(3.0))
        with sock:
            assert type(sock) is socket.socket
            assert sock.gettimeout() == 0.0
            assert sock.getpeername() == ("127.0.0.1", server.port)
            with pytest.raises(BlockingIOError):
                sock.recv(1)
            sock.send(b"GET / HTTP/1.1\r\n\r\n")
        await server.result()


# Unix-domain sockets


async def greeting(connection: Connection) -> tuple[bytes, str | None]:
    await connection.accept()
    await connection.read_close()
    return connection.request.split(b"\r\n")[0], connection.header("Host")


@has_unix
async def test_over_a_unix_socket_the_uri_still_says_who_is_meant(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    async with serving(greeting, path=str(path)) as server:
        request = ConnectRequest(
            uri="ws://app.example:4000/socket?a=b", unix_socket=path, close_timeout=0.1
        )
        async with connect(request) as transport:
            assert transport.closed is None
        assert await server.result() == (b"GET /socket?a=b HTTP/1.1", "app.example:4000")


@has_unix
async def test_over_a_unix_socket_the_certificate_is_that_of_the_uris_host(tmp_path: Path) -> None:
    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("app.example").configure_cert(tls)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    path = str(tmp_path / "app.sock")
    async with serving(echo_until_close, path=path, tls=tls) as server:
        request = ConnectRequest(
            uri="wss://app.example/", unix_socket=path, ssl_context=trusting, close_timeout=1.0
        )
        async with connect(request):
            pass
        assert await server.result() == (1000, "")


@has_unix
async def test_a_path_may_be_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with serving(echo_until_close, path="app.sock") as server:
        async with connect(ConnectRequest(uri="ws://h/", unix_socket="app.sock")):
            pass
        assert await server.result() == (1000, "")


@on_linux
async def test_a_unix_socket_may_have_an_abstract_name() -> None:
    name = f"\0slipstream-test-{os.getpid()}"
    async with serving(echo_until_close, path=name) as server:
        async with connect(ConnectRequest(uri="ws://h/", unix_socket=name)):
            pass
        assert await server.result() == (1000, "")


@has_unix
async def test_a_unix_socket_that_is_not_there_or_not_served_fails_in_step_unix(
    tmp_path: Path,
) -> None:
    path = tmp_path / "app.sock"
    error = await failed("ws://h/?token=s3cr3t", unix_socket=path)
    assert error.step == "unix"
    assert isinstance(error.__cause__, FileNotFoundError)
    assert str(path) in str(error)
    assert "s3cr3t" not in str(error)
    with socket.socket(socket.AF_UNIX) as nobody:
        nobody.bind(str(path))
        error = await failed("ws://h/", unix_socket=path)
    assert error.step == "unix"
    assert isinstance(error.__cause__, ConnectionRefusedError)


@on_linux
async def test_a_unix_socket_whose_queue_is_full_is_waited_for(tmp_path: Path) -> None:
    """Linux says so at once, and calls the unconnected socket writable."""
    path = tmp_path / "app.sock"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as filler:
        listener.bind(str(path))
        listener.listen(0)
        filler.connect(str(path))
        error = await failed("ws://h/", unix_socket=path, connect_timeout=0.2)
        assert error.step == "unix"
        assert isinstance(error.__cause__, trio.TooSlowError)
        request = ConnectRequest(uri="ws://h/", unix_socket=path)
        async with trio.open_nursery() as nursery:
            with trio.fail_after(PATIENCE):
                nursery.start_soon(trio.to_thread.run_sync, _accept_twice, listener)
                sock = await reach(parse_target(request.uri), request, Attempt(3.0))
        with sock:
            assert sock.getpeername() == str(path)


def _accept_twice(listener: socket.socket) -> None:
    for _ in range(2):
        listener.accept()[0].close()


@pytest.mark.parametrize("path", ["", b"/tmp/x", 7, "/tmp/a\0b", "\0", "/" + "x" * 200, "\ud800"])  # noqa: S108 - nothing is there
async def test_what_is_no_unix_socket_is_refused_in_step_unix(path: Any) -> None:
    error = await failed("ws://h/", unix_socket=path)
    assert error.step == "unix"
    assert isinstance(error.__cause__, ConfigError)


async def test_where_there_are_no_unix_sockets_it_is_said_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(socket, "AF_UNIX", raising=False)
    error = await failed("ws://h/", unix_socket="/run/app.sock")
    assert "this platform has no Unix-domain sockets" in str(error)


# Nothing is left over


@counts_descriptors
@pytest.mark.parametrize("way", ["tcp", "unix"])
async def test_reaching_may_be_cancelled_at_any_step_and_leaves_nothing_open(
    way: str, tmp_path: Path
) -> None:
    path = str(tmp_path / "app.sock") if way == "unix" else None
    async with serving(Connection.read_end, path=path) as server, names(h=["127.0.0.1"] * 2):
        request = ConnectRequest(uri=f"ws://h:{server.port or 80}/", unix_socket=path)

        async def run() -> None:
            (await reach(parse_target(request.uri), request, Attempt(3.0))).close()

        await run()
        await server.results()
        before = descriptors()
        count = await cancelled_at_every_step(run, most=100)
        await server.results()
        assert descriptors() == before
    assert count > 1
