import socket
from contextlib import closing

import pytest

from slipstream.interfaces import ConnectRequest
from slipstream.transport._attempt import Attempt, parse_target
from slipstream.transport._opening import open_stream
from tests.transport.support import echo_until_close, failed, serving


async def test_a_refused_socket_option_is_told_and_leaves_nothing_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[socket.socket] = []

    def refuse(sock: socket.socket, request: ConnectRequest) -> None:
        opened.append(sock)
        raise OSError(92, "Protocol not available")

    monkeypatch.setattr("slipstream.transport._opening._set_options", refuse)
    async with serving(echo_until_close) as server:
        error = await failed(server.request().uri)
    assert error.step == "tcp"
    assert "Protocol not available" in str(error)
    assert [sock.fileno() for sock in opened] == [-1]


@pytest.mark.parametrize("keepalive", [True, False])
async def test_the_socket_has_the_options_that_make_a_dead_path_known(keepalive: bool) -> None:
    """d03: keepalive for a silent path, a user time-out for one that is written to."""
    async with serving(echo_until_close) as server:
        request = server.request(tcp_keepalive=keepalive, tcp_user_timeout=2.5)
        stream = await open_stream(parse_target(request.uri), request, Attempt(3.0))
        with closing(stream):
            options = stream.socket
            assert options.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
            assert bool(options.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)) is keepalive
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                assert options.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 2500
            assert stream.begin_send(b"GET / HTTP/1.1\r\n\r\n")
        await server.result()
