"""Messages to frames and back, byte for byte."""

import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings, strategies as st

from slipstream.errors import DecodeError, EncodeError
from slipstream.interfaces import Frame, JsonCodec, Message
from slipstream.protocol import V1Serializer, V2Serializer
from slipstream.testing.strategies import (
    binary_payloads,
    events,
    json_values,
    messages,
    mutated_frames,
    refs,
    topics,
)

CLIENT, SERVER = V2Serializer(), V2Serializer(role="server")


class StdlibJson:
    """A codec of one's own."""

    def encode(self, value: Any, /) -> bytes:
        return json.dumps(value, allow_nan=False).encode()

    def decode(self, data: bytes | str, /) -> Any:
        return json.loads(data)


BYTE_EXACT = [
    pytest.param(
        CLIENT,
        Message("0", "1", "t", "e", {"foo": 1}),
        Frame(b'["0","1","t","e",{"foo":1}]'),
        id="SE1",
    ),
    pytest.param(
        CLIENT,
        Message("0", "1", "t", "e", b"\x01"),
        Frame(b"\x00\x01\x01\x01\x0101te\x01", binary=True),
        id="SE3",
    ),
    pytest.param(
        CLIENT,
        Message("10", "1", "top", "ev", b"\x01"),
        Frame(b"\x00\x02\x01\x03\x02101topev\x01", binary=True),
        id="SE4",
    ),
    pytest.param(
        SERVER,
        Message("123", None, "top", "some-event", b"\x01\x01"),
        Frame(b"\x00\x03\x03\x0a123topsome-event\x01\x01", binary=True),
        id="SE5",
    ),
    pytest.param(
        SERVER,
        Message("100", "12", "top", "phx_reply", {"status": "ok", "response": b"\x01\x01"}),
        Frame(b"\x01\x03\x02\x03\x0210012topok\x01\x01", binary=True),
        id="SE6",
    ),
    pytest.param(
        CLIENT,
        Message("🚀", "π", "room:café", "e", b""),
        Frame(b"\x00\x04\x02\x0a\x01" + "🚀πroom:cafée".encode(), binary=True),
        id="SE7",
    ),
    pytest.param(
        SERVER,
        Message(None, None, "top", "some-event", b"\x01\x01"),
        Frame(b"\x02\x03\x0atopsome-event\x01\x01", binary=True),
        id="SE9",
    ),
]


@pytest.mark.parametrize(("serializer", "message", "frame"), BYTE_EXACT)
def test_messages_are_encoded_byte_for_byte(
    serializer: V2Serializer, message: Message, frame: Frame
) -> None:
    """SE1, SE3, SE4, SE5, SE6, SE7, SE9."""
    assert serializer.encode(message) == frame


@pytest.mark.parametrize(("serializer", "message", "frame"), BYTE_EXACT)
def test_frames_are_decoded_by_the_other_side(
    serializer: V2Serializer, message: Message, frame: Frame
) -> None:
    """SE2, SE5, SE6, SE9: decoding what the one role encodes, in the other role."""
    other = SERVER if serializer is CLIENT else CLIENT
    assert other.decode(frame.data if frame.binary else frame.data.decode()) == message


def test_a_text_frame_is_decoded() -> None:
    """SE2."""
    assert CLIENT.decode('["1",null,"t","e",{"a":[1]}]') == Message("1", None, "t", "e", {"a": [1]})


@pytest.mark.parametrize("field", ["join_ref", "ref", "topic", "event"])
def test_a_field_of_256_bytes_is_refused_by_name(field: str) -> None:
    """SE8, SL-Z1."""
    values: dict[str, Any] = {"join_ref": "1", "ref": "2", "topic": "t", "event": "e"}
    values[field] = "é" * 128
    with pytest.raises(EncodeError, match=f"{field} has 256 bytes") as caught:
        CLIENT.encode(Message(**values, payload=b""))
    assert caught.value.field == field


RECURSIVE: list[Any] = []
RECURSIVE.append(RECURSIVE)
CYCLE: dict[str, Any] = {}
CYCLE["a"] = CYCLE


def nested(levels: int) -> Any:
    value: Any = {}
    for _ in range(levels):
        value = {"a": value}
    return value


class Text(str):
    """A kind of text that msgspec does not take."""

    __slots__ = ()


@pytest.mark.parametrize(
    ("payload", "path"),
    [
        ({"a": [1, {"b": b"x"}]}, "payload.a[1].b"),
        ([bytearray(b"x")], "payload[0]"),
        ({"a": math.nan}, "payload.a"),
        ({"a": [math.inf]}, "payload.a[0]"),
        ({1: "x"}, "payload"),
        ({"a": {2: "x"}}, "payload.a"),
        ({"a": {1, 2}}, "payload.a"),
        ({"a": object()}, "payload.a"),
        ({"a": "\ud800"}, "payload.a"),
        (RECURSIVE, "payload[0][0][0]"),
        (CYCLE, "payload.a.a.a"),
        ({"x": [nested(600)]}, "payload.x[0].a"),
        (nested(5000), "payload.a.a.a"),
    ],
)
@pytest.mark.parametrize("codec", [None, StdlibJson()])
def test_what_json_cannot_hold_is_refused_with_its_path(
    payload: Any, path: str | None, codec: JsonCodec | None
) -> None:
    """SL-Z2, and protocol row 50."""
    for serializer in (V2Serializer(json=codec), V1Serializer(json=codec)):
        if isinstance(payload, dict) and "\ud800" in payload.values() and codec is not None:
            continue  # the standard library writes it as an escape, which is legal JSON
        with pytest.raises(EncodeError) as caught:
            serializer.encode(Message("1", "2", "t", "e", payload))
        if path is not None:
            assert caught.value.field == path
            assert path in str(caught.value)


def test_nesting_that_json_can_hold_is_encoded() -> None:
    payload = {"x": nested(300)}
    frame = CLIENT.encode(Message("1", "2", "t", "e", payload))
    assert SERVER.decode(frame.data.decode()).payload == payload


@pytest.mark.parametrize("payload", [{}, b""])
@pytest.mark.parametrize("topic", [7, None])
def test_a_topic_that_is_no_string_is_refused_by_name(topic: Any, payload: Any) -> None:
    for serializer in (V1Serializer(), V2Serializer(), SERVER):
        with pytest.raises(EncodeError, match=rf"topic is {topic}|no binary") as caught:
            serializer.encode(Message("1", "2", topic, "e", payload))
        assert caught.value.field in {"topic", "payload"}


def test_a_part_that_only_the_codec_refuses_is_named() -> None:
    with pytest.raises(EncodeError, match=r"payload\.a\[1\] could not be encoded"):
        CLIENT.encode(Message("1", "2", "t", "e", {"a": ["x", Text("y")]}))


def test_a_codec_of_ones_own_may_know_more_types_but_not_bytes() -> None:
    class Generous(StdlibJson):
        def encode(self, value: Any, /) -> bytes:
            return json.dumps(value, default=repr).encode()

    serializer = V2Serializer(json=Generous())
    frame = serializer.encode(Message("1", "2", "t", "e", {"a": {3}}))
    assert frame.data == b'["1", "2", "t", "e", {"a": "{3}"}]'
    for payload in ({"a": [b"x"]}, {"a": math.inf}):
        with pytest.raises(EncodeError, match=r"payload\.a"):
            serializer.encode(Message("1", "2", "t", "e", payload))


def test_v1_says_that_it_knows_no_binary_messages() -> None:
    with pytest.raises(EncodeError, match="V1 serializer knows no binary") as caught:
        V1Serializer().encode(Message("1", "2", "t", "e", b"x"))
    assert caught.value.field == "payload"


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        ({"response": b"x"}, "status"),
        ({"status": 7, "response": b"x"}, "status"),
        ({"status": "s" * 256, "response": b"x"}, "status"),
        (b"x", "payload"),
    ],
)
def test_a_binary_reply_that_is_none_is_refused_by_name(payload: Any, field: str) -> None:
    with pytest.raises(EncodeError) as caught:
        SERVER.encode(Message("1", "2", "t", "phx_reply", payload))
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("", "no Phoenix message"),
        ("{not json", "no Phoenix message"),
        ('["a"]', "no Phoenix message"),
        ('["1","2","t","e",{},"sixth"]', "no Phoenix message"),
        ('[1,"2","t","e",{}]', "no Phoenix message"),
        ('["1","2",null,"e",{}]', "no Phoenix message"),
        ("{}", "no Phoenix message"),
        ("[" * 100_000, "no Phoenix message"),
        (b"", "empty"),
        (b"\x03abc", "kind 3"),
        (b"\x00\xff\xff", "ends within"),
        (b"\x01\x01\x00\x00", "ends within"),
        (b"\x02\x01\x00\xff", "no UTF-8"),
    ],
)
def test_what_is_no_message_raises_a_decode_error(data: str | bytes, says: str) -> None:
    """SL-Z3, row 45: also a sixth element, and absurd nesting."""
    with pytest.raises(DecodeError, match=says):
        CLIENT.decode(data)


@pytest.mark.parametrize(
    "data",
    [
        "{",
        "7",
        "[]",
        '{"topic":"t","event":"e","ref":null}',
        '{"topic":"t"}',
        '{"topic":1,"event":"e","payload":{},"ref":null}',
        b"\x00",
    ],
)
@pytest.mark.parametrize("codec", [None, StdlibJson()])
def test_v1_refuses_what_is_no_message(data: str | bytes, codec: JsonCodec | None) -> None:
    with pytest.raises(DecodeError):
        V1Serializer(json=codec).decode(data)


@pytest.mark.parametrize(
    "data", ["[1]", "{}", '[1,"2","t","e",{}]', '["1","2","t",3,{}]', "[" * 9999]
)
def test_a_codec_of_ones_own_changes_nothing_about_the_errors(data: str) -> None:
    with pytest.raises(DecodeError):
        V2Serializer(json=StdlibJson()).decode(data)


def test_a_binary_frame_of_the_wrong_side_is_refused() -> None:
    with pytest.raises(DecodeError, match="kind 1"):
        SERVER.decode(b"\x01\x00\x00\x00\x00")


def test_v1_writes_an_object_and_knows_no_join_ref_of_the_server() -> None:
    server = V1Serializer(role="server")
    frame = server.encode(Message("1", "2", "t", "e", {"a": 1}))
    assert frame.data == b'{"event":"e","payload":{"a":1},"ref":"2","topic":"t"}'
    assert V1Serializer().decode(frame.data.decode()) == Message(None, "2", "t", "e", {"a": 1})


json_messages = st.builds(
    Message,
    st.none() | refs(),
    st.none() | refs(),
    topics(),
    events() | st.sampled_from(["phx_reply", "phx_close"]),
    json_values(),
)


@given(json_messages, st.booleans())
def test_json_messages_survive_the_round_trip(message: Message, own_codec: bool) -> None:
    codec = StdlibJson() if own_codec else None
    for role in ("client", "server"):
        serializer = V2Serializer(role=role, json=codec)
        assert V2Serializer().decode(serializer.encode(message).data.decode()) == message
    first = V1Serializer(json=codec)
    assert V1Serializer(role="server").decode(first.encode(message).data.decode()) == message


@given(messages("client", payloads=binary_payloads()), messages(payloads=binary_payloads()))
def test_binary_messages_survive_the_round_trip(ours: Message, theirs: Message) -> None:
    """complaint-27: both directions."""
    for sender, receiver, message in ((CLIENT, SERVER, ours), (SERVER, CLIENT, theirs)):
        frame = sender.encode(message)
        assert receiver.decode(frame.data if frame.binary else frame.data.decode()) == message


@settings(max_examples=300)
@given(
    st.binary()
    | st.text().map(str.encode)
    | mutated_frames("client")
    | mutated_frames("server")
    | mutated_frames(vsn="1.0.0")
)
def test_whatever_arrives_gives_a_message_or_a_decode_error(data: str | bytes) -> None:
    """Row 45: nothing else ever comes out."""
    raw = data.encode() if isinstance(data, str) else data
    for serializer in (CLIENT, SERVER, V1Serializer(), V2Serializer(json=StdlibJson())):
        for form in (raw, raw.decode("utf-8", "surrogateescape"), raw.decode("latin-1")):
            try:
                message = serializer.decode(form)
            except DecodeError:
                continue
            assert type(message) is Message


@pytest.mark.parametrize("shape", [("[", "]"), ('{"a":', "}")])
@pytest.mark.parametrize("codec", [None, StdlibJson()])
def test_absurd_nesting_anywhere_gives_a_message_or_a_decode_error(
    shape: tuple[str, str], codec: JsonCodec | None
) -> None:
    """Also at the very depth where a decoder gives up, and in the error's own text."""
    opening, closing = shape
    for levels in (500, *range(880, 1000), 5000):
        value = f"{opening * levels}1{closing * levels}"
        for data in (
            value,
            f'[{value},"1","t","e",1]',
            f'["1","1","t","phx_reply",{value}]',
            f'{{"topic":{value},"event":"e","payload":1,"ref":null}}',
        ):
            for serializer in (V2Serializer(json=codec), V1Serializer(json=codec)):
                try:
                    message = serializer.decode(data)
                except DecodeError as error:
                    assert len(str(error)) < 500
                else:
                    assert type(message) is Message


def test_msgspec_itself_fits_as_a_codec() -> None:
    serializer = V2Serializer(json=msgspec.json)
    assert (
        serializer.decode(serializer.encode(Message("1", "2", "t", "e", {})).data.decode()).topic
        == "t"
    )
