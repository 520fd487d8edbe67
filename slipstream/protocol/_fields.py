"""The four fields of a message that are text, whatever the serializer."""

from typing import Any, Final

from slipstream.errors import EncodeError
from slipstream.interfaces import Message

__all__ = ["FIELDS", "check_fields"]

FIELDS: Final = ("join_ref", "ref", "topic", "event")


def check_fields(message: Message) -> None:
    """Check that refs are strings or none, and that topic and event are strings.

    Raises:
        EncodeError: with the name of the field that is not.
    """
    # msgspec checks no types where a Message is made, only where it is decoded.
    for name in FIELDS:
        value: Any = getattr(message, name)
        if not isinstance(value, str) and (value is not None or name in {"topic", "event"}):
            raise EncodeError(f"{name} is {value!r}, which is no string", field=name)
