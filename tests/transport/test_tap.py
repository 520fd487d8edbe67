import pytest
import trio

from slipstream.errors import RemoteProtocolError
from slipstream.transport._tap import Refused, Tap
from tests.transport.test_stream import pair

HEAD = b"HTTP/1.1 101 OK\r\nUpgrade: websocket\r\nSec-WebSocket-Extensions: x\r\n\r\n"


async def test_the_request_goes_down_and_the_head_of_a_101_comes_up_and_nothing_after_it() -> None:
    async with pair(secure=False) as (stream, peer):
        tap = Tap(stream, takes_extensions=False)
        await tap.wait_send_all_might_not_block()
        await tap.send_all(b"GET / HTTP/1.1\r\n\r\n")
        assert await peer.receive_some() == b"GET / HTTP/1.1\r\n\r\n"
        await peer.send_all(b"HTTP/1.1 103 Early\r\n\r\n" + HEAD[:20])
        await peer.send_all(HEAD[20:] + b"\x81\x01a")
        assert await tap.receive_some(10) + await tap.receive_some() == HEAD
        with trio.move_on_after(0.05) as scope:
            await tap.receive_some()
        assert scope.cancelled_caught
        assert tap.answer.rest == b"\x81\x01a"
        await tap.send_eof()
        await tap.aclose()
        assert stream.begin_send(b"still open")


async def test_what_the_server_agreed_on_with_us_stays_with_us() -> None:
    async with pair(secure=False) as (stream, peer):
        tap = Tap(stream, takes_extensions=True)
        await peer.send_all(HEAD)
        assert await tap.receive_some() == b"HTTP/1.1 101 OK\r\nUpgrade: websocket\r\n\r\n"
        assert tap.extensions == " x"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", Refused),
        (b"SSH-2.0-OpenSSH\r\n", RemoteProtocolError),
        (b"HTTP/1.1 101 Swit", EOFError),
    ],
)
async def test_any_other_answer_does_not_go_up(answer: bytes, error: type[Exception]) -> None:
    async with pair(secure=False) as (stream, peer):
        tap = Tap(stream, takes_extensions=False)
        await peer.send_all(answer)
        await peer.aclose()
        with pytest.raises(error):
            await tap.receive_some()


async def test_a_request_that_the_kernel_does_not_take_at_once_is_finished() -> None:
    request = b"GET /" + b"x" * 5_000_000
    async with pair(secure=False) as (stream, peer):
        tap = Tap(stream, takes_extensions=False)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tap.send_all, request)
            received = b""
            while len(received) < len(request):
                received += await peer.receive_some()
        assert received == request
