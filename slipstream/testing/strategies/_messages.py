"""Messages, and frames that are whole or not."""

from typing import Any, Final, Literal, TypeAlias, TypeVar

import msgspec
from hypothesis import strategies as st

from slipstream.interfaces import Message, Payload
from slipstream.protocol import Role, V1Serializer, V2Serializer
from slipstream.protocol.messages import (
    HEARTBEAT,
    PHOENIX,
    PHX_CLOSE,
    PHX_ERROR,
    PHX_JOIN,
    PHX_LEAVE,
    PHX_REPLY,
)

from ._names import (
    events as any_events,
    json_payloads,
    json_values,
    payloads as any_payloads,
    refs as any_refs,
    topics as any_topics,
)

__all__ = ["frames", "messages", "mutated_frames"]

T = TypeVar("T")

Vsn: TypeAlias = Literal["1.0.0", "2.0.0"]


def messages(
    role: Role = "server",
    *,
    topics: st.SearchStrategy[str] | None = None,
    events: st.SearchStrategy[str] | None = None,
    payloads: st.SearchStrategy[Payload] | None = None,
    refs: st.SearchStrategy[str] | None = None,
) -> st.SearchStrategy[Message]:
    """Draw messages that *role* may say: pushes first, and Phoenix's own kinds as well.

    Each alone: whether it fits what was said before is a matter of :func:`conversations`.

    >>> @given(messages("client", topics=st.just("t")))
    ... def test_clients_always_give_a_ref(message):
    ...     assert message.ref is not None
    >>> test_clients_always_give_a_ref()
    """
    topics = any_topics() if topics is None else topics
    events = any_events() if events is None else events
    payloads = any_payloads() if payloads is None else payloads
    refs = any_refs() if refs is None else refs
    if role == "client":
        return st.one_of(
            st.builds(Message, refs, refs, topics, events, payloads),
            st.builds(_join, refs, topics, json_payloads()),
            st.builds(Message, refs, refs, topics, st.just(PHX_LEAVE), _EMPTY),
            st.builds(Message, st.none(), refs, st.just(PHOENIX), st.just(HEARTBEAT), _EMPTY),
        )
    status = st.sampled_from(["ok", "error", "created"])
    replies = st.fixed_dictionaries({"status": status, "response": payloads})
    return st.one_of(
        st.builds(Message, st.none() | refs, st.none(), topics, events, payloads),
        st.builds(Message, refs, refs, topics, st.just(PHX_REPLY), replies),
        st.builds(_end, refs, topics, st.sampled_from([PHX_CLOSE, PHX_ERROR])),
    )


_EMPTY: Final = st.builds(dict[str, Any])


def _join(ref: str, topic: str, params: Payload) -> Message:
    return Message(ref, ref, topic, PHX_JOIN, params)


def _end(ref: str, topic: str, event: str) -> Message:
    payload = {"reason": "channel_crash"} if event == PHX_ERROR else {}
    return Message(ref, ref, topic, event, payload)


def frames(
    role: Role = "server", *, vsn: Vsn = "2.0.0", messages: st.SearchStrategy[Message] | None = None
) -> st.SearchStrategy[str | bytes]:
    """Draw what *role* may put on the wire: text as ``str``, binary as ``bytes``.

    >>> @given(frames("server"))
    ... def test_a_frame_of_a_server_is_a_message(data):
    ...     assert V2Serializer().decode(data).topic
    >>> test_a_frame_of_a_server_is_a_message()
    """
    serializer = V1Serializer(role=role) if vsn == "1.0.0" else V2Serializer(role=role)

    def encode(message: Message) -> str | bytes:
        frame = serializer.encode(message)
        return frame.data if frame.binary else frame.data.decode()

    return _all(role, vsn, messages).map(encode)


def _all(
    role: Role, vsn: Vsn, given: st.SearchStrategy[Message] | None
) -> st.SearchStrategy[Message]:
    if given is not None:
        return given
    # V1 knows no binary messages.
    return messages(role, payloads=json_payloads() if vsn == "1.0.0" else None)


@st.composite
def mutated_frames(
    draw: st.DrawFn,
    role: Role = "server",
    *,
    vsn: Vsn = "2.0.0",
    messages: st.SearchStrategy[Message] | None = None,
) -> str | bytes:
    """Draw frames with one mistake: cut short, a byte or a whole element that is another, one too many.

    A few are a message by chance, another one than it was. Shrinks to a small message that lacks one
    character.

    >>> @given(mutated_frames())
    ... def test_whatever_comes_there_is_one_error(data):
    ...     try:
    ...         V2Serializer().decode(data)
    ...     except DecodeError:
    ...         pass
    >>> test_whatever_comes_there_is_one_error()
    """
    data = draw(frames(role, vsn=vsn, messages=messages))
    if isinstance(data, bytes):
        return draw(_broken(data, st.binary(min_size=1, max_size=1)))
    how = draw(st.sampled_from(["characters", "parts", "kind"]))
    match how:
        case "parts":
            return draw(_other_parts(msgspec.json.decode(data)))
        case "kind":
            return data.encode()  # text where binary is due
        case _:
            return draw(_broken(data, st.characters(codec="utf-8")))


@st.composite
def _broken(draw: st.DrawFn, data: T, unit: st.SearchStrategy[T]) -> T:
    """Draw *data* without a *unit* of it, with another one there or one more, or without its end."""
    whole: Any = data
    at = draw(st.integers(0, len(whole) - 1))
    how = draw(st.sampled_from(["left out", "other", "one more", "cut"]))
    between = draw(unit) if how in {"other", "one more"} else whole[:0]
    behind = {"one more": at, "cut": len(whole)}.get(how, at + 1)
    broken: T = whole[:at] + between + whole[behind:]
    return broken


@st.composite
def _other_parts(draw: st.DrawFn, parts: Any) -> str:
    """Draw a JSON message with a part that is missing, doubled or anything else."""
    is_object = isinstance(parts, dict)  # V1's
    at: Any = draw(
        st.sampled_from(["topic", "event", "payload", "ref"]) if is_object else st.integers(0, 4)
    )
    how = draw(
        st.sampled_from(["missing", "other"] if is_object else ["missing", "other", "doubled"])
    )
    match how:
        case "missing":
            del parts[at]
        case "other":
            parts[at] = draw(json_values())
        case _:
            parts.append(parts[at])
    return msgspec.json.encode(parts).decode()
