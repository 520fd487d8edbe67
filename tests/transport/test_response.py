import itertools

import pytest
from hypothesis import given, strategies as st

from slipstream.errors import RemoteProtocolError
from slipstream.transport._response import MAX_BODY_BYTES, ResponseReader, ResponseState


def read(*pieces: bytes, eof: bool = False) -> ResponseReader:
    reader = ResponseReader()
    for piece in pieces:
        reader.feed(piece)
    if eof:
        reader.feed_eof()
    return reader


def test_a_101_is_kept_as_it_came_and_what_is_behind_it_too() -> None:
    head = b"HTTP/1.1 101 Switching Protocols\r\nX-Served-By: a\r\n\r\n"
    reader = read(head + b"\x81\x00")
    assert reader.state is ResponseState.UPGRADED
    assert (reader.head, reader.rest) == (head, b"\x81\x00")
    assert reader.headers == (("x-served-by", "a"),)


@pytest.mark.parametrize(
    "interim", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"]
)
def test_interim_answers_are_skipped(interim: bytes) -> None:
    """h02i, h02n."""
    final = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
    for pieces in ([interim + final], [interim, interim, final]):
        reader = read(*pieces)
        assert reader.state is ResponseState.UPGRADED
        assert reader.head == final


def test_a_body_of_a_known_length_is_complete_when_it_is_there() -> None:
    """h02."""
    head = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\n\r\n"
    assert read(head, b"abc").state is ResponseState.BODY
    reader = read(head, b"abc", b"de, and more")
    assert (reader.state, reader.status, reader.body) == (ResponseState.COMPLETE, 403, b"abcde")


def test_a_body_without_a_length_ends_by_the_end_of_tcp() -> None:
    """h02k, h02l."""
    reader = read(b"HTTP/1.0 502 Bad Gateway\r\n\r\n", b"no ", b"backend", eof=True)
    assert (reader.state, reader.status, reader.body) == (
        ResponseState.COMPLETE,
        502,
        b"no backend",
    )


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_that_has_no_body_has_none_whatever_is_behind_it(status: int) -> None:
    """h02: and however that is cut."""
    head = f"HTTP/1.1 {status} No\r\n\r\n".encode()
    for pieces in ([head + b"more"], [head, b"more"], [head + b"mo", b"re"]):
        reader = read(*pieces)
        assert (reader.state, reader.body) == (ResponseState.COMPLETE, b"")


def test_a_chunked_body_is_put_together() -> None:
    reader = read(
        b"HTTP/1.1 429 Too Many Requests\r\nTransfer-Encoding: chunked\r\nRetry-After: 7\r\n\r\n",
        b"5\r\nhello\r\n",
        b"6;x=y\r\n world\r\n0\r\n\r\n",
    )
    assert reader.state is ResponseState.COMPLETE
    assert reader.body == b"hello world"
    assert reader.header("retry-after") == "7"


def test_an_answer_without_a_body_is_complete_at_once() -> None:
    assert read(b"HTTP/1.1 204 No Content\r\n\r\n").state is ResponseState.COMPLETE
    assert read(b"HTTP/1.1 404 N\r\nContent-Length: 0\r\n\r\n").state is ResponseState.COMPLETE


@pytest.mark.parametrize("header", [b"", b"Transfer-Encoding: chunked\r\n"])
def test_an_endless_body_is_kept_up_to_64_kib(header: bytes) -> None:
    """h04."""
    piece = b"8000\r\n" + b"x" * 32768 + b"\r\n" if header else b"x" * 32768
    reader = read(b"HTTP/1.1 500 Oops\r\n" + header + b"\r\n", *[piece] * 10)
    assert reader.state is ResponseState.COMPLETE
    assert reader.body == b"x" * MAX_BODY_BYTES


@pytest.mark.parametrize(
    "garbage",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x00\x01\x02",
        b"HTTP/2",
        b"HTTP/1.1 nonsense\r\n\r\n",
        b"HTTP/1.1 99 Low\r\n\r\n",
        b"\r\n\r\n",
    ],
)
def test_what_is_not_http_is_said_so_at_once(garbage: bytes) -> None:
    """h05."""
    with pytest.raises(RemoteProtocolError, match="not HTTP"):
        read(garbage)


@pytest.mark.parametrize("status", [b"101 Switching", b"103 Hints"])
def test_a_head_is_limited_and_so_are_many_interim_ones(status: bytes) -> None:
    """h08."""
    with pytest.raises(RemoteProtocolError, match="64 KiB"):
        read(*[b"HTTP/1.1 " + status + b"\r\n"], *[b"X: " + b"y" * 1000 + b"\r\n"] * 70)
    with pytest.raises(RemoteProtocolError, match="64 KiB"):
        read(*[b"HTTP/1.1 103 Hints\r\nX: " + b"y" * 1000 + b"\r\n\r\n"] * 70)


def test_bytes_that_are_not_ascii_are_no_reason_to_lose_the_status() -> None:
    """h10."""
    reader = read(b"HTTP/1.1 503 \xc3\x9cberlastet\r\nServer: caf\xe9\r\n\r\n")
    assert (reader.status, reader.header("server")) == (503, "café")


WHOLE = (
    b"HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
)


@given(st.sets(st.integers(1, len(WHOLE) - 1)))
def test_it_does_not_matter_where_the_bytes_are_cut(cuts: set[int]) -> None:
    edges = [0, *sorted(cuts), len(WHOLE)]
    reader = read(*[WHOLE[a:b] for a, b in itertools.pairwise(edges)])
    assert (reader.state, reader.status, reader.body) == (ResponseState.COMPLETE, 403, b"abcde")


@given(st.lists(st.binary(max_size=30), max_size=8))
def test_no_bytes_raise_anything_else(pieces: list[bytes]) -> None:
    reader = ResponseReader()
    for piece in [b"HTTP/1.", *pieces]:
        try:
            reader.feed(piece)
        except RemoteProtocolError:
            break
    assert len(reader.body) <= MAX_BODY_BYTES


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("wss://other.example/socket", "wss://other.example/socket"),
        ("https://jo:s3cr3t@other.example/x?token=s3cr3t#s3cr3t", "https://other.example/x"),
        ("/login?token=s3cr3t", "/login"),
        ("/login#s3cr3t", "/login"),
        ("//jo:s3cr3t@other.example/x", "other.example/x"),
    ],
)
def test_a_redirect_is_refused_and_says_where_it_points(
    status: int, location: str, shown: str
) -> None:
    head = f"HTTP/1.1 {status} See there\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
    reader = read(head.encode())
    assert reader.refusal == (
        f"the server answered HTTP {status}: redirects are not followed, it points to {shown!r}"
    )


def test_other_refusals_and_a_redirect_to_nowhere_say_no_more_than_there_is() -> None:
    said = "the server answered HTTP"
    assert read(b"HTTP/1.1 403 No\r\nLocation: /x\r\n\r\n").refusal == f"{said} 403"
    assert read(b"HTTP/1.1 304 Same\r\nLocation: /x\r\n\r\n").refusal == f"{said} 304"
    nowhere = read(b"HTTP/1.1 302 Found\r\n\r\n").refusal
    assert nowhere == f"{said} 302: redirects are not followed"


def test_a_location_is_shown_escaped_and_short() -> None:
    shown = read(b"HTTP/1.1 302 Found\r\nLocation: /\x1b[31m" + b"x" * 5000 + b"\r\n\r\n").refusal
    assert "\x1b" not in shown
    assert len(shown) < 400
