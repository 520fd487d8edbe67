"""Rows t01b to t01g, t02 and t04 of faults: TLS fails in its own step, with its own cause."""

import datetime
import os
import socket
import ssl
import warnings
from typing import Any

import pytest
import trio
import trustme

from slipstream.errors import ConnectError
from slipstream.interfaces import Frame
from slipstream.reasons import ClosedByClient, TransportFailed
from tests.transport.support import (
    CLOSE,
    FIN,
    PATIENCE,
    TEXT,
    Connection,
    End,
    RawServer,
    close_payload,
    connect,
    echo_until_close,
    frame,
    serving,
)


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


def server_context(authority: trustme.CA, *names: str, **options: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names or ("localhost",), **options).configure_cert(context)
    return context


def client_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def greet_nobody(connection: Connection) -> End:
    """Do the server's part of the handshake, which fails, and tell of the client's end of TCP."""
    stream = connection.stream
    assert isinstance(stream, trio.SSLStream)
    with pytest.raises(trio.BrokenResourceError):
        await stream.do_handshake()
        await stream.receive_some()
    tcp = Connection(stream.transport_stream)
    await tcp.send_eof()
    return await tcp.see_end()


async def refused(server: RawServer, **options: Any) -> ConnectError:
    """Connect, which fails in the step "tls"; give the error, when the server has seen a FIN."""
    started = trio.current_time()
    with pytest.raises(ConnectError) as caught:
        async with connect(server.request(**options)):
            pytest.fail("it was opened")
    assert trio.current_time() - started < 2.0
    assert caught.value.step == "tls"
    end = await server.result()
    assert (end.how, end.seconds < 2.0) == ("fin", True)
    return caught.value


async def test_messages_go_both_ways_over_tls(authority: trustme.CA) -> None:
    async with serving(echo_until_close, tls=server_context(authority)) as server:
        with trio.fail_after(PATIENCE):
            request = server.request(ssl_context=client_context(authority))
            async with connect(request) as transport:
                big = b"x" * 300_000
                transport.send_nowait(Frame(big, binary=True))
                assert await transport.receive() == [big]
        assert await server.result() == (1000, "")
        assert transport.closed == ClosedByClient()


async def test_the_server_learns_its_name_and_the_protocol(
    authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = server_context(authority)
    context.set_alpn_protocols(["h2", "http/1.1"])
    names: list[str | None] = []
    context.sni_callback = lambda _, name, __: names.append(name)

    async def script(connection: Connection) -> tuple[Any, Any]:
        assert isinstance(connection.stream, trio.SSLStream)
        await connection.accept()
        await connection.read_close()
        return connection.stream.selected_alpn_protocol(), names

    def trusting(*_: Any, **__: Any) -> ssl.SSLContext:
        return context_of_client

    # The default context, made as always, but trusting the test's authority.
    context_of_client = client_context(authority)
    monkeypatch.setattr(ssl, "create_default_context", trusting)
    async with serving(script, tls=context) as server:
        async with connect(server.request()):
            pass
        assert await server.result() == ("http/1.1", ["localhost"])


async def test_an_authority_that_the_system_does_not_trust_is_refused(
    authority: trustme.CA,
) -> None:
    """t01b: at once, and with the cause."""
    async with serving(greet_nobody, tls=server_context(authority)) as server:
        error = await refused(server)
        assert isinstance(error.__cause__, ssl.SSLCertVerificationError)
        assert "certificate" in str(error)


async def test_another_authority_than_ours_is_refused(authority: trustme.CA) -> None:
    """t01c: even one that the system may trust."""
    async with serving(greet_nobody, tls=server_context(trustme.CA())) as server:
        error = await refused(server, ssl_context=client_context(authority))
        assert isinstance(error.__cause__, ssl.SSLCertVerificationError)


async def test_a_certificate_of_another_host_is_refused(authority: trustme.CA) -> None:
    """t01d: the name in the URI is what counts."""
    context = server_context(authority, "other.example")
    async with serving(greet_nobody, tls=context) as server:
        error = await refused(server, ssl_context=client_context(authority))
        assert isinstance(error.__cause__, ssl.SSLCertVerificationError)
        assert "localhost" in str(error)


async def test_an_expired_certificate_is_refused(authority: trustme.CA) -> None:
    """t01e: by the clock of this machine."""
    expired = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    context = server_context(
        authority,
        "localhost",
        not_before=expired - datetime.timedelta(days=1),
        not_after=expired,
    )
    async with serving(greet_nobody, tls=context) as server:
        error = await refused(server, ssl_context=client_context(authority))
        assert isinstance(error.__cause__, ssl.SSLCertVerificationError)
        assert "expired" in str(error)


async def test_a_server_that_knows_only_old_tls_is_refused(authority: trustme.CA) -> None:
    """t01f: TLS 1.1 and older."""
    context = server_context(authority)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it is old TLS that is wanted
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    async with serving(greet_nobody, tls=context) as server:
        error = await refused(server, ssl_context=client_context(authority))
        assert isinstance(error.__cause__, ssl.SSLError)


async def test_a_client_hello_that_is_never_answered_ends_by_connect_timeout(
    authority: trustme.CA,
) -> None:
    """complaint-1, t01g: and the server sees the end of TCP."""

    async def script(connection: Connection) -> End:
        hello = await connection.stream.receive_some(1)
        assert hello == b"\x16"
        return await connection.see_end()

    async with serving(script) as server:
        uri = f"wss://127.0.0.1:{server.port}/"
        context = client_context(authority)
        error = await refused(server, uri=uri, ssl_context=context, connect_timeout=0.3)
        assert isinstance(error.__cause__, trio.TooSlowError)


async def test_a_server_without_tls_is_refused(authority: trustme.CA) -> None:
    async def script(connection: Connection) -> End:
        await connection.stream.receive_some()
        await connection.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        return await connection.see_end()

    async with serving(script) as server:
        error = await refused(server, uri=f"wss://127.0.0.1:{server.port}/")
        assert isinstance(error.__cause__, ssl.SSLError)


@pytest.mark.parametrize("sent", [b"", frame(TEXT, b"whole"), frame(TEXT, b"torn")[:3]])
async def test_tls_that_is_cut_without_close_notify_is_no_clean_end(
    authority: trustme.CA, sent: bytes
) -> None:
    """complaint-4, t02: inside a frame and between frames; the server sees our end of TCP, and no Close."""

    async def script(connection: Connection) -> End:
        await connection.accept()
        await connection.send(sent)
        await connection.send_eof()
        return await connection.see_end()

    async with serving(script, tls=server_context(authority)) as server:
        with trio.fail_after(PATIENCE):
            request = server.request(ssl_context=client_context(authority))
            async with connect(request) as transport:
                if sent == frame(TEXT, b"whole"):
                    assert await transport.receive() == ["whole"]
                with pytest.raises(Exception, match="disconnected"):
                    await transport.receive()
                assert isinstance(transport.closed, TransportFailed)
        end = await server.result()
        assert end == FIN
        assert end.seconds < 2.0


async def test_a_corrupt_record_is_the_end(authority: trustme.CA) -> None:
    """t02: nothing can be said any more, so nothing is."""

    async def script(connection: Connection) -> End:
        assert isinstance(connection.stream, trio.SSLStream)
        await connection.accept()
        tcp = connection.stream.transport_stream
        await tcp.send_all(b"\x17\x03\x03\x00\x20" + b"x" * 32)
        return await Connection(tcp).see_end()

    async with serving(script, tls=server_context(authority)) as server:
        with trio.fail_after(PATIENCE):
            request = server.request(ssl_context=client_context(authority))
            async with connect(request) as transport:
                with pytest.raises(Exception, match="disconnected"):
                    await transport.receive()
                assert isinstance(transport.closed, TransportFailed)
                assert isinstance(transport.closed.error, ssl.SSLError)
        end = await server.result()
        assert (end.how, end.seconds < 2.0) == ("fin", True)


async def test_an_answered_close_without_close_notify_is_a_clean_end(
    authority: trustme.CA,
) -> None:
    """t04: and takes no time."""

    async def script(connection: Connection) -> Any:
        await connection.accept()
        code = await connection.read_close()
        await connection.send_frame(CLOSE, close_payload(1000))
        await connection.send_eof()
        return code, await connection.see_end()

    async with serving(script, tls=server_context(authority)) as server:
        request = server.request(ssl_context=client_context(authority), close_timeout=60.0)
        async with connect(request) as transport:
            started = trio.current_time()
        assert trio.current_time() - started < 0.9
        assert transport.closed == ClosedByClient()
        assert await server.result() == ((1000, ""), FIN)


async def test_a_cancelled_block_says_1001_over_tls_too(authority: trustme.CA) -> None:
    """d11: and does not wait for the server."""

    async def script(connection: Connection) -> Any:
        await connection.accept()
        return await connection.see_close_and_end()

    async with serving(script, tls=server_context(authority)) as server:
        with trio.CancelScope() as scope:
            request = server.request(ssl_context=client_context(authority), close_timeout=60.0)
            async with connect(request):
                scope.cancel()
                await trio.sleep_forever()
        assert await server.result() == ((1001, ""), FIN)


async def test_a_caller_that_is_cancelled_beside_a_blocked_write_tears_no_record(
    authority: trustme.CA,
) -> None:
    """t03: the frames before and behind it arrive whole, and so does the Close."""
    go = trio.Event()
    big = b"x" * (8 << 20)

    async def script(connection: Connection) -> Any:
        await connection.accept()
        await go.wait()
        seen = [await connection.read_frame() for _ in range(2)]
        close = await connection.read_close()
        await connection.send_frame(CLOSE, close_payload(1000))
        await connection.send_eof()
        return [each and each.payload for each in seen], close, await connection.see_end()

    async with serving(script, tls=server_context(authority)) as server:
        request = server.request(ssl_context=client_context(authority), write_timeout=60.0)
        with trio.fail_after(2 * PATIENCE):
            async with connect(request) as transport:
                transport.send_nowait(Frame(big, binary=True))
                with trio.move_on_after(0.1) as scope:
                    await transport.wait_room()
                assert scope.cancelled_caught
                transport.send_nowait(Frame(b"next"))
                go.set()
                await transport.wait_room()
            result = await server.result()
        assert result == ([big, b"next"], (1000, ""), FIN)


def demanding(authority: trustme.CA, version: ssl.TLSVersion) -> ssl.SSLContext:
    """Make the context of a server that wants a certificate of the client."""
    context = server_context(authority)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = context.maximum_version = version
    return context


VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])


@VERSIONS
async def test_a_server_may_want_a_certificate_of_ours(
    authority: trustme.CA, version: ssl.TLSVersion
) -> None:
    """complaint-30."""
    async with serving(echo_until_close, tls=demanding(authority, version)) as server:
        context = client_context(authority)
        authority.issue_cert("client.example").configure_cert(context)
        async with connect(server.request(ssl_context=context)):
            pass
        assert await server.result() == (1000, "")


@VERSIONS
async def test_a_server_that_misses_a_certificate_of_ours_is_heard(
    authority: trustme.CA, version: ssl.TLSVersion
) -> None:
    """With TLS 1.3 it looks for one when our part of the handshake is over."""
    context = demanding(authority, version)

    def shake_hands(number: int) -> str:
        # OpenSSL on a socket sends its alert; a stream of trio's keeps it to itself.
        with socket.socket(fileno=os.dup(number)) as twin:
            twin.settimeout(PATIENCE)
            with pytest.raises(ssl.SSLError) as caught:
                context.wrap_socket(twin, server_side=True)
            return caught.value.reason

    async def script(connection: Connection) -> str:
        reason = await trio.to_thread.run_sync(shake_hands, connection.socket.fileno())
        await connection.read_end()
        return reason

    async with serving(script) as server:
        with pytest.raises(ConnectError) as caught:
            uri = f"wss://localhost:{server.port}/"
            async with connect(server.request(uri=uri, ssl_context=client_context(authority))):
                pytest.fail("it was opened")
        assert caught.value.step == ("tls" if version is ssl.TLSVersion.TLSv1_2 else "upgrade")
        assert isinstance(caught.value.__cause__, ssl.SSLError)
        assert "alert" in str(caught.value)
        assert await server.result() == "PEER_DID_NOT_RETURN_A_CERTIFICATE"
