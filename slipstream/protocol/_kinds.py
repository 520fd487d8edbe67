"""Binary frames of a server's own: kinds beside the three that Phoenix has."""

from collections.abc import Mapping
from typing import Any, Final, Protocol

from slipstream.errors import ConfigError, DecodeError, EncodeError
from slipstream.interfaces import Frame, Message

from ._binary import BROADCAST

__all__ = ["BinaryKind", "Kinds"]

_OWN: Final = range(BROADCAST + 1, 256)


class BinaryKind(Protocol):
    """One kind of binary frame, for :class:`V2Serializer`; any object with these methods."""

    def encode(self, message: Message, /) -> bytes | None:
        """Give what follows the byte of the kind, or ``None`` where *message* is not of this kind.

        It is asked about every message that is sent, so the answer ``None`` should come soon.

        Raises:
            EncodeError: if *message* is of this kind and cannot be put on the wire.
        """
        ...

    def decode(self, body: bytes, /) -> Message:
        """Decode what follows the byte of the kind.

        Raises:
            DecodeError: if it is no such message. What else it raises counts as that.
        """
        ...


class Kinds:
    """The kinds that a serializer knows beside Phoenix's."""

    def __init__(self, kinds: Mapping[int, BinaryKind]) -> None:
        given: Any = kinds
        if not isinstance(given, Mapping):
            raise ConfigError(f"kinds is {given!r}; accepted is a mapping of numbers to kinds")
        for number, kind in kinds.items():
            if type(number) is not int or number not in _OWN:
                raise ConfigError(
                    f"kinds has {number!r}; accepted are whole numbers from 3 to 255 (0, 1 and 2 are "
                    "Phoenix's own)"
                )
            if not all(callable(getattr(kind, name, None)) for name in ("encode", "decode")):
                raise ConfigError(
                    f"kinds[{number}] is {kind!r}; accepted is an object with encode and decode"
                )
        self._kinds = dict(kinds)

    def encode(self, message: Message) -> Frame | None:
        """Encode *message* if it is of one of these kinds."""
        for number, kind in self._kinds.items():
            try:
                body = kind.encode(message)
            except EncodeError:
                raise
            except Exception as error:
                raise EncodeError(
                    f"payload could not be encoded as kind {number}: {error!r}", field="payload"
                ) from error
            if body is not None:
                return Frame(bytes([number]) + body, binary=True)
        return None

    def decode(self, data: bytes) -> Message | None:
        """Decode *data* if it is of one of these kinds.

        Raises:
            DecodeError: if it is, and cannot be decoded.
        """
        kind = self._kinds.get(data[0]) if data else None
        if kind is None:
            return None
        try:
            message: Any = kind.decode(data[1:])
        except DecodeError:
            raise
        except Exception as error:
            raise DecodeError(f"a binary message of kind {data[0]} is none: {error!r}") from error
        if not isinstance(message, Message):
            raise DecodeError(
                f"kind {data[0]} gave a {type(message).__name__}; accepted is a Message"
            )
        return message
