"""Routing messages to methods."""

from typing import Any, TypedDict

import attrs
import msgspec
import pytest

from slipstream import CallbackSignatureError, SlipstreamClient, on_message
from tests.client.support import Recorder, harness, settle, virtual


@attrs.define
class Chat:
    body: str
    user: int = 0


class Ping(msgspec.Struct):
    n: int


class Note(TypedDict):
    text: str


class Router(Recorder):
    @on_message("t:1", "chat", payload=Chat)
    async def exact(self, topic: str, message: Chat, socket: Any) -> None:
        self.calls.append(("exact", topic, message))

    @on_message("t:*", "chat")
    async def any_topic(self, topic: str, payload: Any, socket: Any) -> None:
        self.calls.append(("any_topic", topic, payload))

    @on_message("t:*", "chat*")
    async def any_chat(self, topic: str, event: str, payload: Any, socket: Any) -> None:
        self.calls.append(("any_chat", topic, event, payload))

    @on_message("t:*", "ping", payload=Ping)
    @on_message("t:*", "pong", payload=Ping)
    async def ping(self, topic: str, payload: Ping, socket: Any) -> None:
        self.calls.append(("ping", payload.n))

    @on_message("t:*", "note", payload=Note)
    async def handle_note(self, topic: str, payload: Note, socket: Any) -> None:
        self.calls.append(("note", payload["text"]))


class Derived(Router):
    @on_message("t:*", "chat")
    async def mine(self, topic: str, payload: Any, socket: Any) -> None:
        self.calls.append(("mine", topic))


def heard(client: type[Recorder], *messages: tuple[str, str, Any]) -> list[tuple[Any, ...]]:
    calls: list[tuple[Any, ...]] = []

    async def scenario() -> None:
        async with harness(client=client) as h:
            end = await h.accept()
            for topic in ("t:1", "t:2"):
                await h.joined(topic, end)
            h.calls.clear()
            for topic, event, payload in messages:
                end.broadcast(topic, event, payload)
            await settle()
            calls.extend(h.calls)

    virtual(scenario)
    return calls


def test_the_most_specific_pattern_wins_and_the_rest_goes_to_handle_message() -> None:
    assert heard(
        Router,
        ("t:1", "chat", {"body": "hi", "user": 2}),
        ("t:2", "chat", {"body": "hi"}),
        ("t:2", "chatter", 1),
        ("t:2", "ping", {"n": 1}),
        ("t:2", "pong", {"n": 2}),
        ("t:1", "note", {"text": "x"}),
        ("t:1", "other", {}),
    ) == [
        ("exact", "t:1", Chat("hi", 2)),
        ("any_topic", "t:2", {"body": "hi"}),
        ("any_chat", "t:2", "chatter", 1),
        ("ping", 1),
        ("ping", 2),
        ("note", "x"),
        ("handle_message", "t:1", "other", {}),
    ]


def test_a_class_replaces_a_pattern_of_its_base() -> None:
    assert heard(Derived, ("t:2", "chat", {}), ("t:1", "chat", {"body": "x"})) == [
        ("mine", "t:2"),
        ("exact", "t:1", Chat("x")),
    ]


def test_a_payload_that_does_not_fit_goes_to_handle_message(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert heard(Router, ("t:1", "chat", {"body": 7})) == [
        ("handle_message", "t:1", "chat", {"body": 7})
    ]
    assert "does not fit" in caplog.text


def test_routes_stay_right_over_names_without_number() -> None:
    routes = Router.routes
    for number in range(10_000):
        assert routes.find(f"x:{number}", "chat") is None
    found = routes.find("t:9", "chat")
    assert found is not None
    assert found.method == "any_topic"


@pytest.mark.parametrize("pattern", ["", "a*b", "**", 7])
def test_a_malformed_pattern_is_refused(pattern: Any) -> None:
    with pytest.raises(CallbackSignatureError, match="pattern"):
        on_message(pattern, "e")
    with pytest.raises(CallbackSignatureError, match="pattern"):
        on_message("t", pattern)


def test_wrong_parameters_are_refused_when_the_method_is_made() -> None:
    with pytest.raises(
        CallbackSignatureError, match=r"it must be: async def few\(self, topic, payload, socket\)"
    ):

        @on_message("t", "e")
        async def few(self: Any, topic: str) -> None: ...

    with pytest.raises(CallbackSignatureError, match="topic, event, payload, socket"):

        @on_message("t", "*")
        async def no_event(self: Any, topic: str, payload: Any, socket: Any) -> None: ...

    with pytest.raises(CallbackSignatureError, match="is not async"):

        @on_message("t", "e")  # type: ignore[type-var]  # that is the point
        def sync(self: Any, topic: str, payload: Any, socket: Any) -> None: ...


def test_two_methods_for_one_pattern_are_refused() -> None:
    with pytest.raises(CallbackSignatureError, match="two methods handle"):

        class Twice(SlipstreamClient):
            @on_message("t", "e")
            async def one(self, topic: str, payload: Any, socket: Any) -> None: ...

            @on_message("t", "e")
            async def two(self, topic: str, payload: Any, socket: Any) -> None: ...
