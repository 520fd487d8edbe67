"""Messages to frames and back: the V1 and V2 serializers of Phoenix, for both roles."""

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeAlias, cast

import msgspec

from slipstream.errors import DecodeError, EncodeError
from slipstream.interfaces import Frame, JsonCodec, Message

from ._binary import decode_binary, encode_binary
from ._fields import FIELDS, check_fields
from ._json import find_fault, judge_encoded, judge_refused, judge_trusted
from ._kinds import BinaryKind, Kinds
from .messages import PHX_REPLY

__all__ = ["Role", "V1Serializer", "V2Serializer"]

Role: TypeAlias = Literal["client", "server"]
"""Whose messages are encoded; those of the other side are decoded."""

_PLAIN: Final = frozenset({str, int, bool, type(None)})
_decode_message = msgspec.json.Decoder(Message).decode


class _Object(msgspec.Struct):
    """A message as the V1 serializer writes it."""

    topic: str
    event: str
    payload: Any
    ref: str | None = None
    join_ref: str | None = None


_decode_object = msgspec.json.Decoder(_Object).decode


class V2Serializer:
    """The serializer of Phoenix 1.3 and newer: a JSON array of five, or a binary frame.

    A payload of ``bytes`` makes a binary frame. *json* replaces msgspec for the JSON part, and may
    know more types than JSON has. *kinds* are binary frames that a server has beside Phoenix's, by
    the number in their first byte, 3 to 255; each is asked about every message before anything else.

    Raises:
        ConfigError: if *kinds* has another number, or what is no :class:`BinaryKind`.
    """

    vsn = "2.0.0"

    def __init__(
        self,
        *,
        role: Role = "client",
        json: JsonCodec | None = None,
        kinds: Mapping[int, BinaryKind] | None = None,
    ) -> None:
        self._from_client = role == "client"
        self._json = json
        self._kinds = Kinds(kinds) if kinds is not None else None

    def encode(self, message: Message, /) -> Frame:
        """Encode *message*.

        Raises:
            EncodeError: with the field, or the path within the payload, that is wrong.
        """
        if self._kinds is not None:
            frame = self._kinds.encode(message)
            if frame is not None:
                return frame
        if self._is_binary(message):
            return Frame(encode_binary(message, from_client=self._from_client), binary=True)
        array = [message.join_ref, message.ref, message.topic, message.event, message.payload]
        return Frame(_encode_json(self._json, array, message))

    def decode(self, data: str | bytes, /) -> Message:
        """Decode a text message (``str``) or a binary one (``bytes``).

        Raises:
            DecodeError: for anything that is no Phoenix message; nothing else is ever raised.
        """
        if isinstance(data, str):
            if self._json is None:
                try:
                    return _decode_message(data)
                except Exception as error:
                    raise _no_message(error) from error
            return _from_array(_decode_json(self._json, data))
        if self._kinds is not None:
            message = self._kinds.decode(bytes(data))
            if message is not None:
                return message
        return decode_binary(bytes(data), from_client=not self._from_client)

    def _is_binary(self, message: Message) -> bool:
        payload = message.payload
        if type(payload) is dict:
            # Only a server's reply carries its bytes one level down.
            whole = cast("dict[str, Any]", payload)
            is_reply = not self._from_client and message.event == PHX_REPLY
            return is_reply and isinstance(whole.get("response"), bytes)
        return isinstance(payload, bytes)


class V1Serializer:
    """The serializer that Phoenix speaks where the URI has no ``vsn``: a JSON object, no binary."""

    vsn = "1.0.0"

    def __init__(self, *, role: Role = "client", json: JsonCodec | None = None) -> None:
        self._from_client = role == "client"
        self._json = json

    def encode(self, message: Message, /) -> Frame:
        """Encode *message*.

        Raises:
            EncodeError: with the field, or the path within the payload, that is wrong.
        """
        if isinstance(message.payload, bytes):
            raise EncodeError(
                "payload is bytes, and the V1 serializer knows no binary messages", field="payload"
            )
        # Phoenix's own order of keys: alphabetical, as its JSON encoder writes a map.
        fields = {
            "event": message.event,
            "payload": message.payload,
            "ref": message.ref,
            "topic": message.topic,
        }
        if self._from_client:
            fields["join_ref"] = message.join_ref
        return Frame(_encode_json(self._json, fields, message))

    def decode(self, data: str | bytes, /) -> Message:
        """Decode a text message (``str``).

        Raises:
            DecodeError: for anything that is no Phoenix message, every binary one included.
        """
        if not isinstance(data, str):
            raise DecodeError("a binary message came, and the V1 serializer knows none")
        if self._json is None:
            try:
                found = _decode_object(data)
            except Exception as error:
                raise _no_message(error) from error
            return Message(found.join_ref, found.ref, found.topic, found.event, found.payload)
        value = _decode_json(self._json, data)
        if not isinstance(value, dict):
            raise DecodeError(f"a message is of type {type(value).__name__}, and no object")
        fields = cast("dict[str, Any]", value)
        if "payload" not in fields:
            raise DecodeError("a message has no payload")
        return _from_array([*map(fields.get, FIELDS), fields["payload"]])


def _encode_json(json: JsonCodec | None, value: Any, message: Message) -> bytes:
    check_fields(message)
    encode = msgspec.json.encode if json is None else json.encode
    try:
        data = encode(value)
    except Exception as error:
        raise _refusal(encode, message, error) from error
    payload = message.payload
    if _is_suspect(payload):
        judge = judge_encoded if json is None else judge_trusted
        fault = find_fault(payload, "payload", judge)
        if fault is not None:
            raise EncodeError(" ".join(fault), field=fault[0])
    return data


def _refusal(encode: Callable[[Any], bytes], message: Message, error: Exception) -> EncodeError:
    judge = judge_refused(encode)
    for name in (*FIELDS, "payload"):
        fault = find_fault(getattr(message, name), name, judge)
        if fault is not None:
            return EncodeError(" ".join(fault), field=fault[0])
    return EncodeError(f"payload could not be encoded: {error!r}", field="payload")


def _is_suspect(payload: Any) -> bool:
    """Tell cheaply whether *payload* may hold what a codec would write, and JSON cannot hold."""
    if type(payload) is not dict:
        return True
    return any(
        type(key) is not str or type(item) not in _PLAIN
        for key, item in cast("Any", payload).items()
    )


def _decode_json(json: JsonCodec, data: str) -> Any:
    try:
        return json.decode(data)
    except Exception as error:
        raise _no_message(error) from error


def _no_message(error: Exception) -> DecodeError:
    return DecodeError(f"no Phoenix message: {error}")


def _from_array(value: Any) -> Message:
    array = cast("list[Any]", value)
    if not isinstance(value, list) or len(array) != 5:
        raise DecodeError("a message is no array of five")
    join_ref, ref, topic, event, payload = array
    for name, field in (("join_ref", join_ref), ("ref", ref)):
        if field is not None and not isinstance(field, str):
            raise DecodeError(f"{name} is of type {type(field).__name__}: neither string nor null")
    for name, field in (("topic", topic), ("event", event)):
        if not isinstance(field, str):
            raise DecodeError(f"{name} is of type {type(field).__name__}, and no string")
    return Message(join_ref, ref, topic, event, payload)
