"""Binary frames: a byte for the kind, a byte for the length of each field, the fields, the payload.

Phoenix.Socket.V2.JSONSerializer and phoenix.js' serializer.js: a push of the client has four
fields, one of the server three (no ref); a reply four, with the status; a broadcast two.
"""

from typing import Any, Final

from slipstream.errors import DecodeError, EncodeError
from slipstream.interfaces import Message

from ._fields import check_fields
from .messages import PHX_REPLY

__all__ = ["BROADCAST", "decode_binary", "encode_binary", "pack_fields", "unpack_fields"]

PUSH: Final = 0
REPLY: Final = 1
BROADCAST: Final = 2


def _field(name: str, value: str | None) -> bytes:
    try:
        data = (value or "").encode()
    except UnicodeEncodeError as error:
        raise EncodeError(
            f"{name} {value!r} is no valid Unicode: {error.reason}", field=name
        ) from None
    if len(data) > 255:
        raise EncodeError(
            f"{name} has {len(data)} bytes in UTF-8; a binary message takes 255 at most: {value!r}",
            field=name,
        )
    return data


def pack_fields(**fields: str | None) -> tuple[bytes, bytes]:
    """Give the lengths of *fields*, a byte each, and the fields; for a :class:`BinaryKind`.

    ``None`` counts as empty.

    Raises:
        EncodeError: with the field that has more than 255 bytes, or no encoding.
    """
    packed = [_field(name, value) for name, value in fields.items()]
    return bytes(map(len, packed)), b"".join(packed)


def unpack_fields(lengths: bytes, data: bytes) -> tuple[list[str], bytes]:
    """Take fields of these *lengths* off *data*: give them, and the rest; see :func:`pack_fields`.

    Raises:
        DecodeError: if *data* is shorter than that, or a field is no UTF-8.
    """
    if sum(lengths) > len(data):
        raise DecodeError("a binary message ends within its fields")
    fields: list[str] = []
    start = 0
    for length in lengths:
        try:
            fields.append(data[start : start + length].decode())
        except UnicodeDecodeError as error:
            raise DecodeError(f"a field of a binary message is no UTF-8: {error.reason}") from None
        start += length
    return fields, data[start:]


def _join(kind: int, fields: list[bytes], payload: bytes) -> bytes:
    return b"".join([bytes([kind, *map(len, fields)]), *fields, payload])


def encode_binary(message: Message, *, from_client: bool) -> bytes:
    """Encode *message*, whose payload is ``bytes`` (of a reply: whose response is).

    Raises:
        EncodeError: with the field that is too long, or no string.
    """
    check_fields(message)
    join_ref = _field("join_ref", message.join_ref)
    topic, event = _field("topic", message.topic), _field("event", message.event)
    if from_client:
        ref = _field("ref", message.ref)
        return _join(PUSH, [join_ref, ref, topic, event], message.payload)
    if message.event == PHX_REPLY:
        status, response = _parts_of_reply(message.payload)
        ref = _field("ref", message.ref)
        return _join(REPLY, [join_ref, ref, topic, _field("status", status)], response)
    if message.join_ref is None:
        return _join(BROADCAST, [topic, event], message.payload)
    return _join(PUSH, [join_ref, topic, event], message.payload)


def _parts_of_reply(payload: Any) -> tuple[str, bytes]:
    match payload:
        case {"status": str(status), "response": bytes(response)}:
            return status, response
        case dict():
            raise EncodeError("status of a reply is missing, or no string", field="status")
        case _:
            raise EncodeError(
                "payload of a reply is bytes, not a status and a response", field="payload"
            )


def _split(data: bytes, count: int) -> tuple[list[str], bytes]:
    lengths = data[1 : 1 + count]
    if len(lengths) < count:
        raise DecodeError(f"a binary message of {len(data)} bytes ends within its fields")
    return unpack_fields(lengths, data[1 + count :])


def decode_binary(data: bytes, *, from_client: bool) -> Message:
    """Decode *data*, which the client (or else the server) sent."""
    match data[0] if data else None:
        case 0 if from_client:
            (join_ref, ref, topic, event), payload = _split(data, 4)
            return Message(join_ref or None, ref or None, topic, event, payload)
        case 0:
            (join_ref, topic, event), payload = _split(data, 3)
            return Message(join_ref or None, None, topic, event, payload)
        case 1 if not from_client:
            (join_ref, ref, topic, status), payload = _split(data, 4)
            reply = {"status": status, "response": payload}
            return Message(join_ref or None, ref or None, topic, PHX_REPLY, reply)
        case 2 if not from_client:
            (topic, event), payload = _split(data, 2)
            return Message(None, None, topic, event, payload)
        case None:
            raise DecodeError("a binary message is empty")
        case kind:
            raise DecodeError(f"a binary message is of kind {kind}, which there is not")
