"""A serializer that is no variant of Phoenix's own."""

import msgspec

from slipstream.errors import DecodeError, EncodeError
from slipstream.interfaces import Frame, Message
from slipstream.protocol._fields import check_fields

__all__ = ["Packed"]


class Packed:
    """A serializer of one's own: MessagePack, every message a binary one."""

    vsn = "9.0.0"

    def encode(self, message: Message, /) -> Frame:
        try:
            check_fields(message)
            return Frame(msgspec.msgpack.encode(message), binary=True)
        except EncodeError:
            raise
        except Exception as error:
            raise EncodeError(f"payload cannot be packed: {error!r}", field="payload") from error

    def decode(self, data: str | bytes, /) -> Message:
        try:
            return msgspec.msgpack.decode(data, type=Message)  # type: ignore[arg-type]  # a str is refused
        except Exception as error:
            raise DecodeError(f"no packed message: {error!r}") from error
