"""Rows h01 to h10 of faults at the upgrade: each ends in time, in one kind of error, with its cause.

And the server sees the end of TCP, at once: no socket waits for the garbage collector.
"""

from typing import Any

import pytest
import trio

from slipstream.errors import ConnectError, RemoteProtocolError
from slipstream.reasons import ClosedByServer, TransportFailed
from tests.transport.support import (
    CLOSE,
    FIN,
    PATIENCE,
    RST,
    TEXT,
    Connection,
    End,
    RawServer,
    Script,
    close_payload,
    connect,
    echo_until_close,
    frame,
    serving,
)


async def refused(server: RawServer, *, within: float = 2.0, **options: Any) -> ConnectError:
    """Connect, which fails *within* so many seconds; give the error."""
    started = trio.current_time()
    with pytest.raises(ConnectError) as caught:
        async with connect(server.request(**options)):
            pytest.fail("it was opened")
    assert trio.current_time() - started < within
    assert caught.value.step == "upgrade"
    assert caught.value.seconds == pytest.approx(trio.current_time() - started, abs=0.2)
    assert f"127.0.0.1:{server.port}" in str(caught.value)
    assert "vsn" not in str(caught.value)
    return caught.value


def answering(*pieces: bytes, pause: float = 0.0) -> Script:
    """Read the request, send *pieces*, and tell of the client's end."""

    async def script(connection: Connection) -> End:
        await connection.read_request()
        for piece in pieces:
            await connection.send(piece)
            await trio.sleep(pause)
        return await connection.see_end()

    return script


async def left(server: RawServer, *, within: float = 2.0) -> End:
    """Give how the client left the server, which it did *within* so many seconds."""
    end = await server.result()
    assert isinstance(end, End)
    assert end.seconds < within
    return end


async def test_an_upgrade_that_is_never_answered_ends_by_connect_timeout() -> None:
    """h01: and the server sees the end of TCP."""
    async with serving(Connection.see_end) as server:
        error = await refused(server, connect_timeout=0.3)
        assert "0.3 s" in str(error)
        assert isinstance(error.__cause__, trio.TooSlowError)
        end = await left(server)
        assert (end.how, end.rest[:4]) == ("fin", b"GET ")


@pytest.mark.parametrize("status", [302, 400, 401, 403, 404, 426, 429, 500, 503])
async def test_a_refusal_has_status_headers_and_body(status: int) -> None:
    """complaint-17, h02: redirects are refusals, too."""
    head = (
        f"HTTP/1.1 {status} Because\r\nRetry-After: 7\r\nLocation: /a\r\nContent-Length: 4\r\n\r\n"
    )
    async with serving(answering(head.encode(), b"body")) as server:
        error = await refused(server)
        assert (error.status, error.body) == (status, b"body")
        assert ("retry-after", "7") in error.headers
        assert str(status) in str(error)
        assert await left(server) == FIN


@pytest.mark.parametrize("status", [404, 502])
async def test_a_body_that_ends_with_tcp_is_a_body(status: int) -> None:
    """h02k, h02l: as HTTP/1.0 has it."""

    async def script(connection: Connection) -> End:
        await connection.read_request()
        await connection.send(f"HTTP/1.0 {status} No\r\n\r\nno such ".encode())
        await connection.send(b"thing")
        await connection.send_eof()
        return await connection.see_end()

    async with serving(script) as server:
        error = await refused(server)
        assert (error.status, error.body) == (status, b"no such thing")
        assert await left(server) == FIN


async def test_a_chunked_body_is_a_body() -> None:
    head = b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with serving(answering(head, b"3\r\nabc\r\n", b"2\r\nde\r\n0\r\n\r\n")) as server:
        error = await refused(server)
        assert (error.status, error.body) == (403, b"abcde")


@pytest.mark.parametrize("interim", ["100 Continue", "103 Early Hints"])
async def test_interim_answers_before_the_101_are_skipped(interim: str) -> None:
    """h02i, h02n: a 100 and a 103 are no refusals."""

    async def script(connection: Connection) -> Any:
        await connection.read_request()
        await connection.send(f"HTTP/1.1 {interim}\r\nLink: </a>\r\n\r\n".encode())
        await connection.send(connection.switching())
        return await connection.read_close()

    async with serving(script) as server:
        async with connect(server.request()) as transport:
            assert ("link", "</a>") not in transport.response_headers
        assert await server.result() == (1000, "")


async def test_an_interim_answer_before_a_bad_101_is_no_excuse() -> None:
    """h02j: the error is a ConnectError like any other."""
    both = b"HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 101 Switching\r\n\r\n"
    async with serving(answering(both)) as server:
        error = await refused(server)
        assert error.status is None
        assert error.__cause__ is not None
        assert await left(server) == FIN


async def test_a_body_that_never_ends_is_cut_and_its_beginning_told() -> None:
    """h03: by connect_timeout, or a second after the head."""
    head = b"HTTP/1.1 503 Later\r\nContent-Length: 100\r\n\r\nso far"
    async with serving(answering(head)) as server:
        error = await refused(server, connect_timeout=0.5)
        assert (error.status, error.body) == (503, b"so far")
        assert await left(server) == FIN
        error = await refused(server, connect_timeout=60.0, within=2.5)
        assert (error.status, error.body) == (503, b"so far")
        assert await left(server) == FIN


async def test_a_body_that_is_cut_by_the_end_of_tcp_is_told_as_far_as_it_came() -> None:
    """h03: the status and what there is of the body, at once."""

    async def script(connection: Connection) -> End:
        await connection.read_request()
        await connection.send(b"HTTP/1.1 503 Later\r\nContent-Length: 100\r\n\r\nso far")
        await connection.send_eof()
        return await connection.see_end()

    async with serving(script) as server:
        error = await refused(server, connect_timeout=60.0, within=0.9)
        assert (error.status, error.body) == (503, b"so far")
        assert await left(server) == FIN


async def test_an_endless_body_is_cut_at_64_kib() -> None:
    """h04: and the client leaves while the server still sends."""

    async def script(connection: Connection) -> End:
        await connection.read_request()
        await connection.send(b"HTTP/1.1 500 Oops\r\n\r\n")
        return await connection.send_until_refused(b"x" * 16384)

    async with serving(script) as server:
        error = await refused(server, connect_timeout=60.0)
        assert (error.status, error.body) == (500, b"x" * 65536)
        assert await left(server) == RST


@pytest.mark.parametrize(
    "garbage", [b"SSH-2.0-OpenSSH_9.6\r\n", b"\x16\x03\x01\x00", b"hello\r\n\r\n"]
)
async def test_an_answer_that_is_not_http_is_refused_at_once(garbage: bytes) -> None:
    """h05: garbage, and what a server of another kind says."""
    async with serving(answering(garbage)) as server:
        error = await refused(server, connect_timeout=60.0)
        assert isinstance(error.__cause__, RemoteProtocolError)
        assert "not HTTP" in str(error)
        assert await left(server) == FIN


@pytest.mark.parametrize(
    ("replace", "by", "says"),
    [
        ("Sec-WebSocket-Accept: ", "Sec-WebSocket-Accept: x", "accept"),
        ("Sec-WebSocket-Accept: ", "X-Nothing: ", "accept"),
        ("Upgrade: websocket\r\n", "Upgrade: h2c\r\n", "Upgrade"),
        ("Connection: Upgrade\r\n", "", "Connection"),
        ("\r\n\r\n", "\r\nSec-WebSocket-Protocol: other\r\n\r\n", "subprotocol"),
        ("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n", "extension"),
    ],
)
async def test_a_bad_101_is_refused_at_once_and_the_error_says_what_is_wrong_with_it(
    replace: str, by: str, says: str
) -> None:
    """h05: and TCP is closed."""

    async def script(connection: Connection) -> End:
        await connection.read_request()
        await connection.send(connection.switching().replace(replace.encode(), by.encode()))
        return await connection.see_end()

    async with serving(script) as server:
        error = await refused(server, connect_timeout=60.0)
        assert says in str(error)
        assert error.__cause__ is not None
        assert await left(server) == FIN


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 101 Swit", b"HTTP/1.1 101 Switching\r\nUpgr"])
@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_the_end_of_tcp_inside_the_answer_is_noticed_at_once(sent: bytes, how: str) -> None:
    """h06, h06b: before the answer and inside it."""

    async def script(connection: Connection) -> End | None:
        await connection.read_request()
        await connection.send(sent)
        if how == "rst":
            connection.reset()
            return None
        await connection.send_eof()
        return await connection.see_end()

    async with serving(script) as server:
        error = await refused(server, connect_timeout=60.0)
        assert isinstance(error.__cause__, EOFError if how == "fin" else ConnectionResetError)
        if how == "fin":
            assert await left(server) == FIN


async def test_an_answer_that_trickles_ends_by_connect_timeout() -> None:
    """h07: a byte now and then does not buy more time."""

    async def script(connection: Connection) -> End:
        await connection.read_request()
        await connection.send(b"HTTP/1.1 101 Switching Protocols\r\nX: ")
        return await connection.send_until_refused(b"y", pause=0.01)

    async with serving(script) as server:
        error = await refused(server, connect_timeout=0.3)
        assert error.seconds >= 0.3
        assert "0.3" in str(error)
        assert await left(server) == RST


async def test_a_head_without_end_is_refused() -> None:
    """h08: a bomb of headers, of which no more than 64 KiB are kept."""

    async def script(connection: Connection) -> End:
        await connection.read_request()
        await connection.send(b"HTTP/1.1 101 Switching\r\n")
        return await connection.send_until_refused(b"X-Bomb: " + b"x" * 8192 + b"\r\n")

    async with serving(script) as server:
        assert "64 KiB" in str(await refused(server, connect_timeout=60.0))
        assert await left(server) == RST


async def test_bytes_that_trio_websocket_cannot_read_are_a_connect_error() -> None:
    """h10: a byte that is not ASCII in a header of the 101."""

    async def script(connection: Connection) -> End:
        await connection.accept("Sec-WebSocket-Protocol: caf\xe9")
        return await connection.see_end()

    async with serving(script) as server:
        error = await refused(server, connect_timeout=60.0)
        assert isinstance(error.__cause__, UnicodeDecodeError)
        assert await left(server) == FIN


async def test_the_request_says_what_was_asked_for_and_the_transport_what_was_answered() -> None:
    """complaint-30."""

    async def script(connection: Connection) -> tuple[bytes, str | None, str | None, str | None]:
        await connection.accept("Sec-WebSocket-Protocol: phoenix", "X-Request-Id: r1")
        await connection.read_close()
        return (
            connection.request.split(b"\r\n")[0],
            connection.header("Host"),
            connection.header("Authorization"),
            connection.header("Sec-WebSocket-Protocol"),
        )

    async with serving(script) as server:
        request = server.request(
            headers=(("Authorization", "Bearer s"),), subprotocols=("phoenix", "token.abc")
        )
        async with connect(request) as transport:
            assert transport.subprotocol == "phoenix"
            assert ("x-request-id", "r1") in transport.response_headers
        assert await server.result() == (
            b"GET /socket/websocket?vsn=2.0.0 HTTP/1.1",
            f"127.0.0.1:{server.port}",
            "Bearer s",
            "phoenix, token.abc",
        )


@pytest.mark.parametrize(
    ("headers", "sent"), [((), "Basic am86cHc="), ((("authorization", "Bearer s"),), "Bearer s")]
)
async def test_credentials_in_the_uri_are_sent_unless_a_header_says_otherwise(
    headers: tuple[tuple[str, str], ...], sent: str
) -> None:
    async def script(connection: Connection) -> str | None:
        await connection.accept()
        await connection.read_close()
        return connection.header("Authorization")

    async with serving(script) as server:
        uri = f"ws://jo:pw@127.0.0.1:{server.port}/"
        async with connect(server.request(uri=uri, headers=headers, close_timeout=0.1)):
            pass
        assert await server.result() == sent


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed_and_the_error_says_where_it_pointed(status: int) -> None:
    async with serving(echo_until_close) as other:
        there = f"ws://127.0.0.1:{other.port}/"
        head = f"HTTP/1.1 {status} There\r\nLocation: {there}?token=s3cr3t\r\n"
        answer = f"{head}Content-Length: 4\r\n\r\nmove"
        async with serving(answering(answer.encode())) as server:
            error = await refused(server)
            assert (error.status, error.body) == (status, b"move")
            assert ("location", f"{there}?token=s3cr3t") in error.headers
            assert "redirects are not followed" in str(error)
            assert repr(there) in str(error)
            assert "s3cr3t" not in str(error)
            await server.result()
        assert await other.results() == []


async def test_messages_in_the_segment_of_the_101_are_not_lost() -> None:
    async def script(connection: Connection) -> Any:
        await connection.accept(then=frame(TEXT, b"a") + frame(TEXT, b"b"))
        return await connection.read_close()

    async with serving(script) as server:
        with trio.fail_after(PATIENCE):
            async with connect(server.request()) as transport:
                assert await transport.receive() == ["a", "b"]
        assert await server.result() == (1000, "")


async def test_a_message_and_a_close_in_the_segment_of_the_101_come_in_that_order() -> None:
    async def script(connection: Connection) -> Any:
        await connection.accept(then=frame(TEXT, b"a") + frame(CLOSE, close_payload(1013, "full")))
        return await connection.read_close()

    async with serving(script) as server:
        with trio.fail_after(PATIENCE):
            async with connect(server.request()) as transport:
                assert await transport.receive() == ["a"]
                assert transport.closed == ClosedByServer(1013, "full")
        assert await server.result() == (1013, "full")


async def test_a_connection_that_ends_right_after_the_101_was_open() -> None:
    async def script(connection: Connection) -> None:
        await connection.read_request()
        connection.send_now(connection.switching() + frame(TEXT, b"a"))
        connection.socket.close()

    async with serving(script) as server:
        for _ in range(20):
            with trio.fail_after(PATIENCE):
                async with connect(server.request()) as transport:
                    assert await transport.receive() == ["a"]
                    with pytest.raises(Exception, match="disconnected"):
                        await transport.receive()
                    assert isinstance(transport.closed, TransportFailed)


async def test_a_cancelled_connect_leaves_nothing_open() -> None:
    scope = trio.CancelScope()

    async def script(connection: Connection) -> End:
        await connection.read_request()
        scope.cancel()
        return await connection.see_end()

    async with serving(script) as server:
        with scope:
            async with connect(server.request()):
                pytest.fail("it was opened")
        assert scope.cancelled_caught
        assert await left(server) == FIN


async def test_two_transports_in_one_block_end_one_after_the_other() -> None:
    async with serving(echo_until_close) as server:
        async with connect(server.request()) as first, connect(server.request()) as second:
            assert first.closed is second.closed is None
        assert await server.result() == (1000, "")
        assert await server.result() == (1000, "")
