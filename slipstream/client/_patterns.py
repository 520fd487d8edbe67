"""Patterns of names, such as ``rooms:{room}`` and ``rooms:*``: what they fit, and which goes first."""

import keyword
import re
from typing import Final, TypeAlias

import attrs

from slipstream.errors import CallbackSignatureError

__all__ = ["Pattern", "Shape"]

Shape: TypeAlias = tuple[tuple[int, int, str], ...]
"""Per part: the rank of its kind, the length of what a ``*`` follows, and what it says."""

_REST, _CAPTURE, _EXACT = 0, 1, 2
_TAKEN: Final = frozenset({"self", "topic", "event", "payload", "socket"})


@attrs.frozen
class Pattern:
    """A name whose parts, between colons, may be ``{captures}``, and whose end may be a ``*``.

    Attributes:
        text: as it was written.
        shape: what it fits, however its captures are called. Of several patterns that fit one name,
            the one with the greatest shape is the most specific: from the left, an exact part goes
            before a capture, a capture before a ``*``, and a ``*`` after more before one after less.
        captures: the names of its captures.
    """

    text: str
    shape: Shape
    captures: tuple[str, ...]
    _regex: re.Pattern[str] = attrs.field(repr=False, eq=False)

    @classmethod
    def parse(cls, what: str, text: object) -> "Pattern":
        """Read *text*; *what* is what errors call it.

        Raises:
            CallbackSignatureError: if it is malformed.
        """
        if not isinstance(text, str) or not text or "*" in text[:-1]:
            raise _malformed(what, text, "no name with at most one '*', at its end")
        shape: list[tuple[int, int, str]] = []
        captures: list[str] = []
        regex: list[str] = []
        for part in text.split(":"):
            if part[:1] == "{" and part[-1:] == "}" and len(part) > 1:
                name = part[1:-1]
                if (
                    not name.isidentifier()
                    or keyword.iskeyword(name)
                    or name in _TAKEN | {*captures}
                ):
                    why = f"its capture {part} is no name for a parameter that is still free"
                    raise _malformed(what, text, why)
                captures.append(name)
                shape.append((_CAPTURE, 0, ""))
                regex.append(f"(?P<{name}>[^:]+)")
            elif "{" in part or "}" in part:
                raise _malformed(what, text, "braces stand round a whole part between colons")
            elif part.endswith("*"):
                shape.append((_REST, len(part), part))
                regex.append(re.escape(part[:-1]) + ".*")
            else:
                shape.append((_EXACT, 0, part))
                regex.append(re.escape(part))
        return cls(text, tuple(shape), tuple(captures), re.compile(":".join(regex), re.DOTALL))

    @property
    def is_open(self) -> bool:
        """Whether it ends in a ``*``."""
        return self.text.endswith("*")

    def match(self, name: str) -> dict[str, str] | None:
        """Give the captures of *name*, or ``None`` if it does not fit."""
        found = self._regex.fullmatch(name)
        return None if found is None else found.groupdict()


def _malformed(what: str, text: object, why: str) -> CallbackSignatureError:
    return CallbackSignatureError(
        f"on_message: {what} pattern {text!r}: {why}; accepted are names such as 'rooms:lobby', "
        "'rooms:{room}' and 'rooms:*'"
    )
