"""The server's serializers. Phoenix looks at a ref only to compare it and to give it back."""

from typing import Any

import msgspec

from slipstream.errors import DecodeError, EncodeError
from slipstream.interfaces import Frame, Message, Serializer
from slipstream.protocol import V1Serializer, V2Serializer

__all__ = ["serializer_for"]


def serializer_for(vsn: str) -> Serializer:
    """Give the serializer that Phoenix has for this *vsn*."""
    return _V1() if vsn.startswith("1.") else _V2()


class _V2(V2Serializer):
    """Takes refs that are no strings, and more than five elements, as Phoenix does."""

    def __init__(self) -> None:
        super().__init__(role="server")

    def encode(self, message: Message, /) -> Frame:
        """Encode *message*; a ref goes back as it came."""
        if _has_text_refs(message):
            return super().encode(message)
        frame = super().encode(_without_refs(message))
        if frame.binary:  # where Phoenix's encoder raises, too
            raise EncodeError(f"ref is {message.ref!r}, which is no string", field="ref")
        array: list[Any] = msgspec.json.decode(frame.data)
        return Frame(msgspec.json.encode([message.join_ref, message.ref, *array[2:]]))

    def decode(self, data: str | bytes, /) -> Message:
        """Decode *data*."""
        try:
            return super().decode(data)
        except DecodeError:
            match _value_of(data):
                case [join_ref, ref, str(topic), str(event), payload, *_]:
                    return Message(join_ref, ref, topic, event, payload)
                case _:
                    raise


class _V1(V1Serializer):
    """Takes refs that are no strings, as Phoenix does."""

    def __init__(self) -> None:
        super().__init__(role="server")

    def encode(self, message: Message, /) -> Frame:
        """Encode *message*; a ref goes back as it came."""
        if _has_text_refs(message):
            return super().encode(message)
        fields = msgspec.json.decode(super().encode(_without_refs(message)).data)
        return Frame(msgspec.json.encode({**fields, "ref": message.ref}))

    def decode(self, data: str | bytes, /) -> Message:
        """Decode *data*."""
        try:
            return super().decode(data)
        except DecodeError:
            match _value_of(data):
                case {
                    "topic": str(topic),
                    "event": str(event),
                    "payload": payload,
                    "ref": ref,
                } as all_:
                    return Message(all_.get("join_ref"), ref, topic, event, payload)
                case _:
                    raise


def _has_text_refs(message: Message) -> bool:
    refs: tuple[Any, Any] = (message.join_ref, message.ref)
    return all(ref is None or isinstance(ref, str) for ref in refs)


def _without_refs(message: Message) -> Message:
    return Message(None, None, message.topic, message.event, message.payload)


def _value_of(data: str | bytes) -> Any:
    if isinstance(data, bytes):
        return None
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
