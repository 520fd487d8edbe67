"""The property of serializers: it lets the good ones pass, and names what is wrong with the others."""

import json
from typing import Any

import pytest

from slipstream.errors import DecodeError, EncodeError
from slipstream.interfaces import Frame, Message, Serializer
from slipstream.protocol import Role, V1Serializer, V2Serializer, check_serializer
from tests.protocol.packed import Packed


class Stdlib:
    """The standard library's JSON, as a codec."""

    def encode(self, value: Any, /) -> bytes:
        return json.dumps(value).encode()

    def decode(self, data: bytes | str, /) -> Any:
        return json.loads(data)


@pytest.mark.parametrize("codec", [None, Stdlib()])
@pytest.mark.parametrize("kind", [V1Serializer, V2Serializer])
@pytest.mark.parametrize(("role", "other"), [("client", "server"), ("server", "client")])
def test_the_librarys_own_serializers_have_the_property(
    role: Role, other: Role, kind: Any, codec: Any
) -> None:
    """SL-Z1, SL-Z2, SL-Z3, JS-K1; d45, d50."""
    check_serializer(kind(role=role, json=codec), peer=kind(role=other, json=codec))
    check_serializer(kind(role=role, json=codec))


def test_a_serializer_of_ones_own_has_it_too() -> None:
    """JS-K2, JS-K5: custom, over the wire in both directions."""
    own: Serializer = Packed()
    check_serializer(own, peer=Packed())


class NoVersion(V2Serializer):
    vsn = ""


class LeaksOnEncode(V2Serializer):
    def encode(self, message: Message, /) -> Frame:
        fields = [message.join_ref, message.ref, message.topic, message.event, message.payload]
        return Frame(json.dumps(fields).encode())


class LeaksOnDecode(V2Serializer):
    def decode(self, data: str | bytes, /) -> Message:
        if isinstance(data, bytes):
            return super().decode(data)
        join_ref, ref, topic, event, payload = json.loads(data)
        return Message(join_ref, ref, topic, event, payload)


class LeaksOnBinary(V2Serializer):
    def decode(self, data: str | bytes, /) -> Message:
        if isinstance(data, bytes) and data[0] == 9:
            raise DecodeError("nine")
        return super().decode(data)


class ChecksNoTypes(V2Serializer):
    def decode(self, data: str | bytes, /) -> Message:
        if isinstance(data, bytes):
            return super().decode(data)
        try:
            join_ref, ref, topic, event, payload = json.loads(data)
        except Exception as error:
            raise DecodeError("no") from error
        return Message(join_ref, ref, topic, event, payload)


class GivesText(V2Serializer):
    def encode(self, message: Message, /) -> Any:
        return super().encode(message).data.decode()


class GivesLatin1(V2Serializer):
    def encode(self, message: Message, /) -> Frame:
        frame = super().encode(message)
        text = f'[null,null,"{message.topic}","e",1]'
        return frame if message.topic.isascii() else Frame(text.encode("latin-1"))


class RefusesHeartbeats(V2Serializer):
    def encode(self, message: Message, /) -> Frame:
        if message.join_ref is None:
            raise EncodeError("join_ref is missing", field="join_ref")
        return super().encode(message)


class Counts(V2Serializer):
    count = 0

    def encode(self, message: Message, /) -> Frame:
        self.count += 1
        frame = super().encode(message)
        return frame._replace(data=frame.data + b" " * (self.count % 2))


class GivesNone(V2Serializer):
    def decode(self, data: str | bytes, /) -> Any:
        return None if data == "null" else super().decode(data)


class LosesRefs(V2Serializer):
    def encode(self, message: Message, /) -> Frame:
        return super().encode(Message(message.join_ref, None, message.topic, message.event, {}))


class NumbersRefs(V2Serializer):
    def encode(self, message: Message, /) -> Frame:
        frame = super().encode(message)
        return frame if frame.binary else Frame(frame.data.replace(b'["2"', b"[2"))


@pytest.mark.parametrize(
    ("serializer", "says"),
    [
        (NoVersion(), "vsn is ''; accepted is a string"),
        (LeaksOnEncode(), "encode raised TypeError for Message(.*accepted is EncodeError"),
        (LeaksOnDecode(), "decode raised .* for '.*accepted is DecodeError"),
        (LeaksOnBinary(), "decode raised IndexError for b''; accepted is DecodeError"),
        (ChecksNoTypes(), "decode gave the join_ref 1 for .*1,2,3"),
        (GivesText(), "encode gave '.* for Message(.*accepted is a Frame"),
        (GivesLatin1(), "encode gave text that is no UTF-8 for Message(.*café"),
        (RefusesHeartbeats(), "encode refused Message(.*heartbeat.*which a client has to send"),
        (Counts(), "encode gave two different frames"),
        (GivesNone(), "decode gave None for 'null'; accepted is a Message"),
        (LosesRefs(), "decode gave Message(.*for what was Message("),
        (NumbersRefs(), "decode refused .*, which is Message("),
    ],
)
def test_what_is_wrong_with_a_serializer_is_named(serializer: Any, says: str) -> None:
    """d45: nothing a serializer may raise but EncodeError and DecodeError, whatever it is given."""
    with pytest.raises(AssertionError, match=says.replace("Message(", r"Message\(")) as caught:
        check_serializer(serializer, peer=V2Serializer(role="server"))
    message = str(caught.value)
    assert type(serializer).__name__ in message or "V2Serializer" in message
    assert len(message) < 700


def test_frames_and_messages_of_ones_own_are_tried_too() -> None:
    class Superstitious(V2Serializer):
        def encode(self, message: Message, /) -> Frame:
            if message.topic == "13":
                raise ValueError("no")
            return super().encode(message)

        def decode(self, data: str | bytes, /) -> Message:
            if data == "13":
                raise ValueError("no")
            return super().decode(data)

    check_serializer(Superstitious())
    with pytest.raises(AssertionError, match="encode raised ValueError"):
        check_serializer(Superstitious(), messages=[Message(None, None, "13", "e", {})])
    with pytest.raises(AssertionError, match="decode raised ValueError for '13'"):
        check_serializer(Superstitious(), frames=["13"])
