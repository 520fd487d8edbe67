"""Names, payloads and replies: what messages are made of."""

from collections.abc import Sequence
from typing import Any, Final

from hypothesis import strategies as st

from slipstream.interfaces import Payload
from slipstream.protocol import ChannelReply
from slipstream.protocol.messages import (
    PHOENIX,
    PHX_CLOSE,
    PHX_ERROR,
    PHX_JOIN,
    PHX_LEAVE,
    PHX_REPLY,
)

__all__ = [
    "binary_payloads",
    "channel_replies",
    "events",
    "json_payloads",
    "json_values",
    "payloads",
    "refs",
    "topics",
]

_RESERVED: Final = frozenset({PHX_JOIN, PHX_LEAVE, PHX_REPLY, PHX_ERROR, PHX_CLOSE})
_LONGEST: Final = 255
"""Bytes that a name may have in a binary message."""


def _names(prefix: str = "", *, least: int = 1) -> st.SearchStrategy[str]:
    most = (_LONGEST - len(prefix.encode())) // 4
    return st.text(min_size=least, max_size=min(20, most)).map(lambda rest: prefix + rest)


def topics(pattern: str = "*") -> st.SearchStrategy[str]:
    """Draw topics: any text that Phoenix takes for one; or such as *pattern*, ``"rooms:*"``, matches.

    >>> @given(topics("rooms:*"))
    ... def test_a_room_has_a_name(topic):
    ...     assert topic.partition(":")[2]
    >>> test_a_room_has_a_name()
    """
    if not pattern.endswith("*"):
        return st.just(pattern)
    return _names(pattern[:-1]).filter(lambda topic: topic != PHOENIX)


def events() -> st.SearchStrategy[str]:
    """Draw names of events that are not Phoenix's own (``phx_join``, ``phx_reply``, …).

    >>> @given(events())
    ... def test_events_are_an_applications(event):
    ...     assert not event.startswith("phx_reply")
    >>> test_events_are_an_applications()
    """
    return _names().filter(lambda event: event not in _RESERVED)


def refs(most: int = 8) -> st.SearchStrategy[str]:
    """Draw refs: numbers as text, few of them, so that they meet.

    >>> @given(refs(), refs())
    ... def test_refs_are_told_apart(one, other):
    ...     assert (one == other) == (int(one) == int(other))
    >>> test_refs_are_told_apart()
    """
    return st.integers(1, most).map(str)


def json_values(max_leaves: int = 12) -> st.SearchStrategy[Any]:
    """Draw whatever JSON can hold, without numbers that not every decoder keeps.

    *max_leaves* is about how much one of them may hold.

    >>> @given(json_values())
    ... def test_json_survives(value):
    ...     assert json.loads(json.dumps(value)) == value
    >>> test_json_survives()
    """
    plain: st.SearchStrategy[Any] = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**53), 2**53),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=20),
    )
    return st.recursive(plain, _containers, max_leaves=max_leaves)


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=4) | _objects(inner)


def _objects(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.dictionaries(st.text(max_size=20), values, max_size=4)


def json_payloads(max_leaves: int = 12) -> st.SearchStrategy[dict[str, Any]]:
    """Draw JSON objects, which is what nearly every payload is.

    *max_leaves* is about how much each field may hold.

    >>> @given(json_payloads())
    ... def test_fields_may_be_missing(payload):
    ...     assert payload.get("body", payload) in [payload, *payload.values()]
    >>> test_fields_may_be_missing()
    """
    return _objects(json_values(max_leaves))


def binary_payloads(max_size: int = 64) -> st.SearchStrategy[bytes]:
    """Draw payloads of binary messages.

    >>> @given(binary_payloads(max_size=4))
    ... def test_binary_is_bytes(payload):
    ...     assert isinstance(payload, bytes) and len(payload) <= 4
    >>> test_binary_is_bytes()
    """
    return st.binary(max_size=max_size)


def payloads() -> st.SearchStrategy[Payload]:
    """Draw payloads, JSON and binary.

    >>> @given(payloads())
    ... def test_a_payload_is_either(payload):
    ...     assert isinstance(payload, dict | bytes)
    >>> test_a_payload_is_either()
    """
    return json_payloads() | binary_payloads()


def channel_replies(
    statuses: Sequence[str] = ("ok", "error", "created"),
    responses: st.SearchStrategy[Payload] | None = None,
) -> st.SearchStrategy[ChannelReply]:
    """Draw replies of channels to pushes: any of *statuses*, with any of *responses*.

    >>> @given(channel_replies())
    ... def test_only_ok_is_ok(reply):
    ...     assert reply.ok == (reply.status == "ok")
    >>> test_only_ok_is_ok()
    """
    response = json_payloads() if responses is None else responses
    return st.builds(ChannelReply, st.sampled_from(statuses), response)
