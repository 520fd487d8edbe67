import tracemalloc
import zlib
from typing import Any

import pytest
from hypothesis import given, strategies as st
from wsproto.extensions import PerMessageDeflate as Reference
from wsproto.frame_protocol import FrameProtocol

from slipstream.errors import ConfigError, RemoteProtocolError
from slipstream.interfaces import PerMessageDeflate
from slipstream.transport._deflate import (
    Agreement,
    Deflater,
    Inflater,
    agree,
    build_offer,
    take_answer,
)
from slipstream.transport._frames import BINARY, RSV1, TEXT, build_frame
from slipstream.transport._parser import FrameParser

LIMIT = 1 << 20


@pytest.mark.parametrize(
    ("offer", "value"),
    [
        (PerMessageDeflate(), "permessage-deflate; client_max_window_bits"),
        (
            PerMessageDeflate(client_max_window_bits=12, server_max_window_bits=8),
            "permessage-deflate; server_max_window_bits=8; client_max_window_bits=12",
        ),
        (
            PerMessageDeflate(server_no_context_takeover=True, client_no_context_takeover=True),
            (
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover; "
                "client_max_window_bits"
            ),
        ),
    ],
)
def test_an_offer_names_what_is_asked_for(offer: PerMessageDeflate, value: str) -> None:
    assert build_offer(offer) == value


@pytest.mark.parametrize(
    ("field", "value", "accepted"),
    [
        ("server_max_window_bits", 7, "from 8 to 15"),
        ("client_max_window_bits", 8, "from 9 to 15"),
        ("level", True, "from 1 to 9"),
        ("threshold", -1, "from 0"),
        ("server_no_context_takeover", 1, "True and False"),
    ],
)
def test_an_offer_that_cannot_be_made_is_refused(field: str, value: Any, accepted: str) -> None:
    with pytest.raises(ConfigError, match=rf"PerMessageDeflate\.{field} is {value}.*{accepted}"):
        PerMessageDeflate(**{field: value})


@pytest.mark.parametrize(
    ("answer", "agreed"),
    [
        ("permessage-deflate", Agreement()),
        ("Permessage-Deflate ; server_no_context_takeover", Agreement(True)),
        ("permessage-deflate; client_no_context_takeover", Agreement(False, True)),
        ("permessage-deflate; server_max_window_bits=10", Agreement(False, False, 10)),
        ('permessage-deflate; client_max_window_bits="8"', Agreement(False, False, 15, 8)),
        (
            "permessage-deflate;client_max_window_bits=11;server_max_window_bits = 9",
            Agreement(False, False, 9, 11),
        ),
    ],
)
def test_an_answer_is_read(answer: str, agreed: Agreement) -> None:
    assert agree(PerMessageDeflate(), answer) == agreed


def test_what_was_offered_holds_where_the_answer_is_silent() -> None:
    offer = PerMessageDeflate(client_no_context_takeover=True, client_max_window_bits=12)
    assert agree(offer, "permessage-deflate") == Agreement(False, True, 15, 12)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "permessage-bzip2",
        "x-webkit-deflate-frame",
        "permessage-deflate, permessage-deflate",
        "permessage-deflate; unknown",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; client_max_window_bits=7",
        "permessage-deflate; client_max_window_bits=13",
        "permessage-deflate; client_max_window_bits=09",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=",
        "permessage-deflate; ",
    ],
)
def test_an_answer_that_accepts_what_was_not_offered_is_refused(answer: str) -> None:
    with pytest.raises(RemoteProtocolError, match="permessage-deflate"):
        agree(PerMessageDeflate(client_max_window_bits=12), answer)


def test_the_answer_is_taken_out_of_the_head() -> None:
    head = (
        b"HTTP/1.1 101 OK\r\nUpgrade: websocket\r\nSEC-WebSocket-Extensions:  a; b \r\nX: y\r\n\r\n"
    )
    assert take_answer(head) == (
        b"HTTP/1.1 101 OK\r\nUpgrade: websocket\r\nX: y\r\n\r\n",
        "  a; b ",
    )
    without = b"HTTP/1.1 101 OK\r\nX-Sec-WebSocket-Extensions: a\r\n\r\n"
    assert take_answer(without) == (without, None)


agreements = st.builds(
    Agreement,
    st.booleans(),
    st.booleans(),
    st.integers(9, 15),
    st.integers(9, 15),
)
messages = st.lists(
    st.one_of(
        st.text("abü", max_size=300),
        st.binary(max_size=300),
        st.just(b"x" * 70_000),
        st.just("tick"),
    ),
    max_size=6,
)


def reference(agreed: Agreement, *, client: bool) -> FrameProtocol:
    """Make the other side, which has agreed on the same."""
    extension = Reference(
        client_no_context_takeover=agreed.client_no_context_takeover,
        client_max_window_bits=agreed.client_max_window_bits,
        server_no_context_takeover=agreed.server_no_context_takeover,
        server_max_window_bits=agreed.server_max_window_bits,
    )
    extension._enabled = True
    return FrameProtocol(client=client, extensions=[extension])


@given(agreements, messages, st.integers(1, 5000))
def test_what_another_implementation_deflates_we_inflate(
    agreed: Agreement, sent: list[str | bytes], cut: int
) -> None:
    server = reference(agreed, client=False)
    data = b"".join(bytes(server.send_data(each, fin=True)) for each in sent)
    reader = FrameParser(max_message_size=LIMIT, max_fragments=100, inflater=Inflater(agreed))
    got: list[str | bytes] = []
    for at in range(0, len(data), cut):
        got += reader.feed(data[at : at + cut])[0]
    assert (got, reader.error) == (sent, None)


@given(agreements, messages)
def test_what_we_deflate_another_implementation_inflates(
    agreed: Agreement, sent: list[str | bytes]
) -> None:
    server = reference(agreed, client=False)
    deflater = Deflater(PerMessageDeflate(), agreed)
    got: list[str | bytes] = []
    for each in sent:
        data = each.encode() if isinstance(each, str) else each
        opcode = TEXT if isinstance(each, str) else BINARY
        deflated = deflater.deflate(data)
        server.receive_bytes(
            build_frame(opcode, data) if deflated is None else build_frame(opcode, deflated, RSV1)
        )
        parts: list[Any] = [part.payload for part in server.received_frames()]
        got.append(type(each)().join(parts))
    assert got == sent


def test_small_messages_and_an_impossible_window_are_sent_as_they_are() -> None:
    assert Deflater(PerMessageDeflate(threshold=10), Agreement()).deflate(b"x" * 9) is None
    assert Deflater(PerMessageDeflate(threshold=10), Agreement()).deflate(b"x" * 10)
    eight = Agreement(client_max_window_bits=8)
    assert Deflater(PerMessageDeflate(), eight).deflate(b"x" * 1000) is None


def deflated(data: bytes, flush: int = zlib.Z_SYNC_FLUSH) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (compressor.compress(data) + compressor.flush(flush)).removesuffix(b"\x00\x00\xff\xff")


def test_a_bomb_ends_with_1009_and_fills_no_memory() -> None:
    """d06a, compressed: a quarter of a gigabyte behind a quarter of a megabyte on the wire."""
    bomb = deflated(b"\0" * (1 << 28))
    tracemalloc.start()
    with pytest.raises(RemoteProtocolError, match="max_message_size") as caught:
        Inflater(Agreement()).inflate(bomb, 1 << 16)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert caught.value.code == 1009
    assert peak < 1 << 20


def test_a_message_may_inflate_to_the_limit_but_not_beyond() -> None:
    data = deflated(b"x" * 1000)
    inflater = Inflater(Agreement())
    assert inflater.inflate(data, 1000) + inflater.finish(0) == b"x" * 1000
    with pytest.raises(RemoteProtocolError):
        Inflater(Agreement()).inflate(data, 999)


def test_empty_blocks_without_end_are_limited_too() -> None:
    reader = FrameParser(max_message_size=1000, max_fragments=100, inflater=Inflater(Agreement()))
    reader.feed(b"\x42\x7f" + (1 << 20).to_bytes(8, "big"))
    assert reader.error is not None
    assert reader.error.code == 1009


def test_a_stream_that_says_it_is_final_may_be_followed_by_another() -> None:
    """RFC 7692, 7.2.3.4."""
    inflater = Inflater(Agreement())
    for _ in range(2):
        data = deflated(b"Hello", zlib.Z_FINISH) + b"\0"
        assert inflater.inflate(data, 10) + inflater.finish(10) == b"Hello"


def test_what_is_not_deflated_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="not deflated") as caught:
        Inflater(Agreement()).inflate(b"\xff\xff\xff", 10)
    assert caught.value.code == 1007
