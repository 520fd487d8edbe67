"""A property that every serializer has to have, to be run on one's own."""

import itertools
import math
import random
from collections.abc import Iterable, Iterator
from typing import Any, Final, NoReturn

from slipstream.errors import DecodeError, EncodeError
from slipstream.interfaces import Frame, Message, Serializer

__all__ = ["check_serializer"]

_ORDINARY: Final = (
    Message(None, "1", "phoenix", "heartbeat", {}),
    Message("2", "2", "rooms:lobby", "phx_join", {"token": "x", "list": [1, 2.5, None, True]}),
    Message("2", "3", "rooms:lobby", "new:msg", {"body": "π 🚀 \u2028", "deep": {"a": [{}]}}),
    Message("2", "4", "rooms:café", "phx_leave", {}),
)
"""What no serializer may refuse: a client cannot do without."""

_PLAIN: Final = (
    Message("2", None, "t", "e", {"n": 2**53, "": ""}),
    Message(None, None, "t", "e", {}),
    Message("2", "3", "t", "e", []),
    Message("2", "3", "t", "e", [[]]),
    Message("2", "3", "t", "e", "text"),
    Message("2", "3", "t", "e", -0.5),
    Message("2", "3", "t", "e", True),  # noqa: FBT003 - a payload
    Message("2", "3", "t", "e", None),
    Message("2", "3", "t", "phx_reply", {"status": "ok", "response": b"\x00"}),
    Message("2", "3", "t" * 255, "e" * 255, b"\x00\xff binary"),
    Message("2", "3", "t", "e", b""),
)
"""What may be refused, but if not, has to arrive as it is."""


def _hostile() -> Iterator[Message]:
    """Make what may be refused, or sent in any way; but only so."""
    cycle: list[Any] = []
    cycle.append(cycle)
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    payloads: tuple[Any, ...] = (
        object(), {1, 2}, math.nan, math.inf, {"a": b"bytes"}, {7: "key"}, "\ud800", {"\udfff": 1},
        2**200, 1j, cycle, nested, Exception("x"),
    )  # fmt: skip
    yield from (Message("2", "3", "t", "e", payload) for payload in payloads)
    wrongs: tuple[Any, ...] = ("\ud800", "x" * 256, 7, None, b"2")
    small: tuple[Any, ...] = ({}, b"x")
    for wrong, payload in itertools.product(wrongs, small):
        yield Message("2", "3", wrong, "e", payload)
        yield Message(wrong, wrong, "t", wrong or "e", payload)


_GARBAGE: Final[tuple[str | bytes, ...]] = (
    "", " ", "null", "7", "{}", "[]", '""', "[1,2,3,4,5]", '["1","1","t","e"]',
    '["1","1","t","e",{},6]', '[null,null,null,null,null]', '["1","1","t","e",{}', "\ud800", "\x00",
    '["1","1","t","phx_reply",null]', '{"topic":"t"}', '{"topic":7,"event":"e","payload":{},"ref":1}',
    "[" * 100_000, '["1","1","t","e",' + "[" * 100_000, '["1","1","t","e","\\ud800"]', "NaN",
    "9" * 10_000, b"", *(bytes([kind]) for kind in range(256)), b"\x00\xff\xff\xff\xff",
    b"\x01\x01\x01\x01\x01", b"\x02\x01\x01\xff\xff", b"\x00\x01\x00\x00\x00\xff", b"\xff" * 300,
)  # fmt: skip


def check_serializer(
    serializer: Serializer,
    *,
    peer: Serializer | None = None,
    messages: Iterable[Message] = (),
    frames: Iterable[str | bytes] = (),
    examples: int = 500,
    seed: int = 0,
) -> None:
    """Check that *serializer* keeps what it promises: for a test of your own.

    It has a ``vsn``. It encodes what a client cannot do without; anything else it encodes, too, or
    raises ``EncodeError``, and nothing else. What it gives is a :class:`.Frame`, in UTF-8 where it
    is text, and the same one each time. It decodes anything at all to a :class:`.Message` of the
    right types, or raises ``DecodeError``, and nothing else: that is what keeps a connection alive
    whatever the server sends. With a *peer*, which is the other side's serializer, what one encodes
    the other decodes to the same message (but for a join_ref that has no place in it).

    *messages* and *frames* are tried beside those that it knows itself, and beside so many
    *examples* of damaged frames that it draws from *seed*. It takes half a second or so.

    Raises:
        AssertionError: with what was given, and what came of it.
    """
    vsn: Any = serializer.vsn
    if not isinstance(vsn, str) or not vsn:
        _fail(serializer, f"vsn is {vsn!r}; accepted is a string such as '2.0.0'")
    sound: list[str | bytes] = []
    for message in (*_ORDINARY, *_PLAIN, *messages):
        frame = _encode(serializer, message, may_refuse=message not in _ORDINARY)
        if frame is not None:
            sound.append(_as_read(frame))
            if peer is not None:
                _arrives(serializer, peer, message, frame)
    for message in _hostile():
        _encode(serializer, message, may_refuse=True)
    if peer is not None:
        for message in (*_ORDINARY, *_PLAIN, *messages):
            frame = _encode(peer, message, may_refuse=True)
            if frame is not None:
                _arrives(peer, serializer, message, frame)
                sound.append(_as_read(frame))
    for data in (*_GARBAGE, *sound, *frames, *_damaged(sound, examples, random.Random(seed))):  # noqa: S311 - repeatable, not secret
        _decode(serializer, data)


def _encode(serializer: Serializer, message: Message, *, may_refuse: bool) -> Frame | None:
    try:
        frame: Any = serializer.encode(message)
        again: Any = serializer.encode(message)
    except EncodeError as error:
        if may_refuse:
            return None
        _fail(serializer, f"encode refused {_shown(message)}, which a client has to send", error)
    except Exception as error:  # noqa: BLE001 - the very thing that is looked for
        _fail(
            serializer,
            f"encode raised {type(error).__name__} for {_shown(message)}; accepted is EncodeError",
            error,
        )
    data: Any = frame.data if isinstance(frame, Frame) else None
    if not isinstance(frame, Frame) or not isinstance(data, bytes):
        _fail(serializer, f"encode gave {_shown(frame)} for {_shown(message)}; accepted is a Frame")
    if frame != again:
        _fail(serializer, f"encode gave two different frames for {_shown(message)}")
    if not frame.binary:
        try:
            frame.data.decode()
        except UnicodeDecodeError as error:
            _fail(serializer, f"encode gave text that is no UTF-8 for {_shown(message)}", error)
    return frame


def _decode(serializer: Serializer, data: str | bytes) -> Message | None:
    try:
        message: Any = serializer.decode(data)
    except DecodeError:
        return None
    except Exception as error:  # noqa: BLE001 - the very thing that is looked for
        _fail(
            serializer,
            f"decode raised {type(error).__name__} for {_shown(data)}; accepted is DecodeError",
            error,
        )
    if not isinstance(message, Message):
        _fail(
            serializer, f"decode gave {_shown(message)} for {_shown(data)}; accepted is a Message"
        )
    for name in ("join_ref", "ref", "topic", "event"):
        value = getattr(message, name)
        if not isinstance(value, str) and (value is not None or name in {"topic", "event"}):
            _fail(serializer, f"decode gave the {name} {value!r} for {_shown(data)}")
    return message


def _arrives(sender: Serializer, receiver: Serializer, message: Message, frame: Frame) -> None:
    data = _as_read(frame)
    got = _decode(receiver, data)
    if got is None:
        _fail(receiver, f"decode refused {_shown(data)}, which is {_shown(message)}")
    same = (got.ref, got.topic, got.event) == (message.ref, message.topic, message.event)
    # A broadcast has neither, and V1 has no join_ref on the way from the server.
    fits = got.join_ref in {message.join_ref, None} and got.payload == message.payload
    if not fits or not (same or _lost_only_ref(got, message)):
        _fail(receiver, f"decode gave {_shown(got)} for what was {_shown(message)}")


def _lost_only_ref(got: Message, sent: Message) -> bool:
    # A binary push of the server's has no place for one.
    binary = isinstance(sent.payload, bytes) and got.ref is None
    return binary and (got.topic, got.event) == (sent.topic, sent.event)


def _as_read(frame: Frame) -> str | bytes:
    return frame.data if frame.binary else frame.data.decode()


def _damaged(
    sound: list[str | bytes], examples: int, chance: random.Random
) -> Iterator[str | bytes]:
    for _ in range(examples if sound else 0):
        whole = chance.choice(sound)
        data = bytearray(whole if isinstance(whole, bytes) else whole.encode())
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(data) + 1)
            match chance.randrange(4):
                case 0:
                    del data[at:]
                case 1:
                    data[at:at] = bytes(chance.choices(b'[]{}",:\\0 \x00\x80\xff', k=3))
                case 2:
                    del data[at : at + chance.randint(1, 9)]
                case _:
                    data[at : at + 1] = bytes([chance.randrange(256)])
        yield bytes(data) if isinstance(whole, bytes) else data.decode(errors="replace")


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001 - what is shown is hostile by intent
        text = f"<{type(value).__name__}: {type(error).__name__}>"
    return text if len(text) <= 200 else f"{text[:200]}..."


def _fail(serializer: Serializer, what: str, cause: BaseException | None = None) -> NoReturn:
    raise AssertionError(f"{type(serializer).__qualname__}: {what}") from cause
