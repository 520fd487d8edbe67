"""Binary frames of a server's own."""

from typing import Any

import pytest
from hypothesis import given, strategies as st

from slipstream.errors import ConfigError, DecodeError, EncodeError
from slipstream.interfaces import Frame, Message
from slipstream.protocol import V2Serializer, check_serializer, pack_fields, unpack_fields


class Note:
    """A kind for the event ``note``: topic and text."""

    def encode(self, message: Message, /) -> bytes | None:
        if message.event != "note":
            return None
        lengths, fields = pack_fields(topic=message.topic)
        text: str = message.payload["text"]
        return lengths + fields + text.encode()

    def decode(self, body: bytes, /) -> Message:
        (topic,), text = unpack_fields(body[:1], body[1:])
        return Message(None, None, topic, "note", {"text": text.decode()})


BOTH = V2Serializer(kinds={3: Note()})


def test_a_kind_of_ones_own_goes_over_the_wire() -> None:
    """d50: a frame with a first byte of its own, whose payload is no bytes at all."""
    note = Message("1", "2", "t", "note", {"text": "hé"})
    assert BOTH.encode(note) == Frame(b"\x03\x01t" + "hé".encode(), binary=True)
    assert BOTH.decode(b"\x03\x01th\xc3\xa9") == Message(None, None, "t", "note", {"text": "hé"})


def test_everything_else_is_as_without() -> None:
    """SE1 to SE9 hold all the same."""
    plain = V2Serializer()
    for message in (
        Message("0", "1", "t", "e", {"foo": 1}),
        Message("0", "1", "t", "e", b"\x01"),
        Message(None, "1", "phoenix", "heartbeat", {}),
    ):
        assert BOTH.encode(message) == plain.encode(message)
    for data in (b"\x02\x03\x0atopsome-event\x01\x01", '["0","1","t","e",{"foo":1}]'):
        assert BOTH.decode(data) == plain.decode(data)
    for kind in (4, 255):
        with pytest.raises(DecodeError, match=f"is of kind {kind}, which there is not"):
            BOTH.decode(bytes([kind]))
    check_serializer(BOTH, peer=V2Serializer(role="server", kinds={3: Note()}))


@pytest.mark.parametrize("body", [b"", b"\x09t", b"\x01\xff", b"\x01t\xff"])
def test_a_frame_that_its_kind_cannot_decode_is_undecodable(body: bytes) -> None:
    """d45: whatever the user's code raises for it."""
    with pytest.raises(DecodeError):
        BOTH.decode(b"\x03" + body)


@pytest.mark.parametrize(
    ("topic", "payload", "field"),
    [
        ("t" * 256, {"text": ""}, "topic"),
        ("t", {}, "payload"),
        ("t", {"text": "\ud800"}, "payload"),
    ],
)
def test_a_message_that_its_kind_cannot_encode_is_refused(
    topic: str, payload: Any, field: str
) -> None:
    """d50."""
    with pytest.raises(EncodeError) as caught:
        BOTH.encode(Message(None, None, topic, "note", payload))
    assert caught.value.field == field


def test_what_is_no_message_is_not_let_through() -> None:
    class Wrong(Note):
        def decode(self, body: bytes, /) -> Any:
            return {"topic": "t"}

    with pytest.raises(DecodeError, match="kind 7 gave a dict; accepted is a Message"):
        V2Serializer(kinds={7: Wrong()}).decode(b"\x07")


@pytest.mark.parametrize(
    ("kinds", "says"),
    [
        ([Note()], "accepted is a mapping of numbers to kinds"),
        ({2: Note()}, "kinds has 2; accepted are whole numbers from 3 to 255"),
        ({256: Note()}, "kinds has 256"),
        ({True: Note()}, "kinds has True"),
        ({3: object()}, "accepted is an object with encode and decode"),
        ({3: lambda: None}, "accepted is an object with encode and decode"),
    ],
)
def test_wrong_kinds_are_refused(kinds: Any, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        V2Serializer(kinds=kinds)
    assert says in str(caught.value)


@given(st.lists(st.text(max_size=40), max_size=6), st.binary(max_size=20))
def test_fields_are_unpacked_as_they_were_packed(fields: list[str], rest: bytes) -> None:
    """SE4, SE7: lengths are of UTF-8."""
    lengths, packed = pack_fields(**{f"field{n}": field for n, field in enumerate(fields)})
    assert unpack_fields(lengths, packed + rest) == (fields, rest)
    if packed:
        with pytest.raises(DecodeError):
            unpack_fields(lengths, packed[:-1])
