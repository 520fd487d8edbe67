"""Routing messages to methods."""

import enum
from dataclasses import dataclass
from typing import Any, TypedDict

import attrs
import msgspec
import pytest
from hypothesis import given, strategies as st

from slipstream import CallbackSignatureError, DecodeError, SlipstreamClient, on_message
from slipstream.client._on_message import Routes, collect_routes
from slipstream.telemetry import capture_events
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


def heard(
    client: type[Recorder],
    *messages: tuple[str, str, Any],
    topics: tuple[str, ...] = ("t:1", "t:2"),
) -> list[tuple[Any, ...]]:
    calls: list[tuple[Any, ...]] = []

    async def scenario() -> None:
        async with harness(client=client) as h:
            end = await h.accept()
            for topic in topics:
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


class Tolerant(Router):
    async def handle_bad_payload(
        self, topic: str, event: str, payload: Any, error: DecodeError, socket: Any, /
    ) -> None:
        self.calls.append(("bad", topic, event, payload, error.path, str(error)))


def test_a_payload_that_does_not_fit_has_a_callback_of_its_own() -> None:
    assert heard(Tolerant, ("t:1", "chat", {"body": 7}), ("t:1", "chat", {"body": "x"})) == [
        ("bad", "t:1", "chat", {"body": 7}, "payload.body", "payload.body: expected str, got int"),
        ("exact", "t:1", Chat("x")),
    ]


def test_by_default_it_is_counted_and_a_warning_that_shows_no_value(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        with capture_events("slipstream.client.bad_payload") as events:
            async with harness(client=Router) as h:
                end = await h.accept()
                await h.joined("t:1", end)
                misfits: list[Any] = [{"body": 7}, [], "secret", b"secret"]
                misfits.append({"body": "secret", "user": "2"})
                for payload in misfits:
                    end.broadcast("t:1", "chat", payload)
                end.broadcast("t:1", "chat", {"body": "fits"})
                await settle()
                assert h.calls[-1] == ("exact", "t:1", Chat("fits"))
                assert h.of("handle_message") == []
                assert h.ref.health().counters["bad_payloads"] == 5
            assert [(data["topic"], data["event"]) for _, data in events] == [("t:1", "chat")] * 5

    virtual(scenario)
    assert caplog.text.count("was not handled: payload") == 5
    assert "payload.user: expected int, got str" in caplog.text
    assert "secret" not in caplog.text


class Colour(enum.Enum):
    RED = "red"


@attrs.define
class Dice:
    eyes: int = attrs.field(validator=attrs.validators.le(6))


@dataclass
class Point:
    x: float
    y: float = 0.0


KINDS = [
    (Chat, {"body": "a"}, Chat("a")),
    (Ping, {"n": 1}, Ping(1)),
    (Note, {"text": "a"}, {"text": "a"}),
    (Point, {"x": 1}, Point(1.0)),
    (dict, {"any": []}, {"any": []}),
    (dict[int, bool], {"1": True}, {1: True}),
    (list[Ping], [{"n": 1}], [Ping(1)]),
    (int | None, 5, 5),
    (Colour, "red", Colour.RED),
    (bytes, b"raw", b"raw"),
    (Any, [1], [1]),
]


@pytest.mark.parametrize(("kind", "payload", "wanted"), KINDS)
def test_every_kind_of_type_is_made(kind: Any, payload: Any, wanted: Any) -> None:
    class Typed(Recorder):
        @on_message("t:1", "e", payload=kind)
        async def take(self, topic: str, payload: Any, socket: Any) -> None:
            self.calls.append((payload,))

    assert heard(Typed, ("t:1", "e", payload)) == [(wanted,)]


MISFITS = [
    (Colour, "secret", "payload: invalid enum value"),
    (bytes, "secret", "payload: expected bytes, got str"),
    (Dice, {"eyes": 7}, "payload: refused by a check of its type (ValueError)"),
    (list[Ping], [{"n": 1}, {"n": "secret"}], "payload[1].n: expected int, got str"),
    (dict[str, Ping], {"a": {}}, "payload[...]: object missing required field n"),
    (Note, b"secret", "payload: expected object, got bytes"),
]


@pytest.mark.parametrize(("kind", "payload", "told"), MISFITS)
def test_a_misfit_is_told_of_by_its_path_and_never_by_its_value(
    kind: Any, payload: Any, told: str
) -> None:
    class Typed(Tolerant):
        @on_message("t:1", "e", payload=kind)
        async def take(self, topic: str, payload: Any, socket: Any) -> None:
            raise AssertionError("it does not fit")

    [call] = heard(Typed, ("t:1", "e", payload))
    assert call[-1] == told


@pytest.mark.parametrize("kind", [7, "Chat", object(), SlipstreamClient])
def test_a_payload_that_is_no_type_is_refused(kind: Any) -> None:
    with pytest.raises(CallbackSignatureError, match=r"payload is .*; accepted are attrs classes"):
        on_message("t", "e", payload=kind)


class Capturing(Recorder):
    @on_message("rooms:{room}", "new:{what}")
    async def one(self, topic: str, payload: Any, socket: Any, *, room: str, what: str) -> None:
        self.calls.append(("one", room, what))

    @on_message("rooms:{room}:users:{user}", "new:*")
    async def two(
        self, topic: str, event: str, payload: Any, socket: Any, *, room: str, user: str
    ) -> None:
        self.calls.append(("two", event, room, user))

    @on_message("rooms:{room}:*", "new:msg")
    async def three(self, topic: str, payload: Any, socket: Any, *, room: str) -> None:
        self.calls.append(("three", room))


def test_captures_are_given_as_keywords() -> None:
    assert heard(
        Capturing,
        ("rooms:a", "new:msg", {}),
        ("rooms:é 1", "new:\n", {}),
        ("rooms:a:users:7", "new:msg:x", {}),
        ("rooms:a:b:c", "new:msg", {}),
        ("rooms:", "new:msg", {}),
        ("rooms:a", "new:msg:x", {}),
        topics=("rooms:a", "rooms:é 1", "rooms:a:users:7", "rooms:a:b:c", "rooms:"),
    ) == [
        ("one", "a", "msg"),
        ("one", "é 1", "\n"),
        ("two", "new:msg:x", "a", "7"),
        ("three", "a"),
        ("handle_message", "rooms:", "new:msg", {}),
        ("handle_message", "rooms:a", "new:msg:x", {}),
    ]


# From the most to the least specific; each fits the message of its row's topic and event.
ORDER = [
    ("a:b:c", "e:f"),
    ("a:b:c", "e:{x}"),
    ("a:b:c", "e:f*"),
    ("a:b:c", "*"),
    ("a:b:{x}", "e:f"),
    ("a:b:{x}", "*"),
    ("a:b:c*", "e:f"),
    ("a:b:*", "e:f"),
    ("a:{x}:c", "e:f"),
    ("a:{x}:*", "e:f"),
    ("a:b*", "e:f"),
    ("a:*", "*"),
    ("{x}:b:c", "e:f"),
    ("*", "e:f"),
    ("*", "*"),
]


@given(st.permutations(range(len(ORDER))))
def test_precedence_is_as_documented_however_methods_stand(order: list[int]) -> None:
    methods: dict[str, Any] = {}
    for rank in order:

        async def method(self: Any, *args: Any, **names: Any) -> None: ...

        method.__name__ = f"m{rank}"
        methods[method.__name__] = on_message(*ORDER[rank])(method)
    left = set(range(len(ORDER)))
    while left:
        body = {f"m{n}": methods[f"m{n}"] for n in order if n in left}
        routes: Routes = collect_routes(type("Any", (), body))
        found = routes.find("a:b:c", "e:f")
        assert found is not None
        assert found[0].method == f"m{min(left)}"
        left.remove(min(left))


def test_routes_stay_right_over_names_without_number() -> None:
    routes = Router.routes
    for number in range(10_000):
        assert routes.find(f"x:{number}", "chat") is None
    found = routes.find("t:9", "chat")
    assert found is not None
    assert found[0].method == "any_topic"


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "a*b",
        "**",
        7,
        "{",
        "{}",
        "a:{b",
        "a{b}",
        "{a}{b}",
        "{1}",
        "{class}",
        "{a}:{a}",
        "{topic}",
    ],
)
def test_a_malformed_pattern_is_refused(pattern: Any) -> None:
    with pytest.raises(CallbackSignatureError, match="topic pattern"):
        on_message(pattern, "e")
    with pytest.raises(CallbackSignatureError, match="event pattern"):
        on_message("t", pattern)


def test_wrong_parameters_are_refused_when_the_method_is_made() -> None:
    with pytest.raises(
        CallbackSignatureError, match=r"it must be: async def few\(self, topic, payload, socket\)"
    ):

        @on_message("t", "e")  # type: ignore[arg-type]  # that is the point
        async def few(self: Any, topic: str) -> None: ...

    with pytest.raises(CallbackSignatureError, match="topic, event, payload, socket"):

        @on_message("t", "*")
        async def no_event(self: Any, topic: str, payload: Any, socket: Any) -> None: ...

    with pytest.raises(CallbackSignatureError, match=r"payload, socket, \*, room\)"):

        @on_message("rooms:{room}", "e")
        async def no_room(self: Any, topic: str, payload: Any, socket: Any) -> None: ...

    with pytest.raises(CallbackSignatureError, match="a capture stands in both patterns"):

        @on_message("rooms:{room}", "{room}")
        async def twice(self: Any, topic: str, payload: Any, socket: Any, room: str) -> None: ...

    with pytest.raises(CallbackSignatureError, match="is not async"):

        @on_message("t", "e")  # type: ignore[arg-type]  # that is the point
        def sync(self: Any, topic: str, payload: Any, socket: Any) -> None: ...


def test_two_methods_for_one_pattern_are_refused() -> None:
    """However their captures are called."""
    with pytest.raises(CallbackSignatureError, match=r"two methods handle .*Twice\.one and .*two"):

        class Twice(SlipstreamClient):
            @on_message("t:{a}", "e")
            async def one(self, topic: str, payload: Any, socket: Any, a: str) -> None: ...

            @on_message("t:{b}", "e")
            async def two(self, topic: str, payload: Any, socket: Any, b: str) -> None: ...


class Greeting:
    @on_message("t:*", "hello")
    async def greet(self: Any, topic: str, payload: Any, socket: Any) -> None:
        self.calls.append(("greet", topic))


class Waving:
    @on_message("t:*", "hello")
    async def wave(self: Any, topic: str, payload: Any, socket: Any) -> None:
        self.calls.append(("wave", topic))


def test_mixins_bring_their_patterns() -> None:
    class Polite(Greeting, Recorder):
        pass

    assert heard(Polite, ("t:1", "hello", {})) == [("greet", "t:1")]


def test_two_mixins_that_both_want_a_message_are_refused_until_the_class_decides() -> None:
    with pytest.raises(
        CallbackSignatureError, match=r"two methods handle .*Greeting\.greet and Waving\.wave"
    ):

        class Torn(Greeting, Waving, Recorder):
            pass

    class Decided(Greeting, Waving, Recorder):
        @on_message("t:*", "hello")
        async def both(self, topic: str, payload: Any, socket: Any) -> None:
            await self.greet(topic, payload, socket)
            await self.wave(topic, payload, socket)

    assert heard(Decided, ("t:1", "hello", {})) == [("greet", "t:1"), ("wave", "t:1")]


def test_an_overriding_method_keeps_its_patterns_or_has_its_own() -> None:
    class Quiet(Router):
        async def any_topic(self, topic: str, payload: Any, socket: Any) -> None:
            self.calls.append(("quiet", topic))

    class Elsewhere(Router):
        @on_message("t:*", "elsewhere")
        async def any_topic(self, topic: str, payload: Any, socket: Any) -> None:
            self.calls.append(("elsewhere", topic))

    assert heard(Quiet, ("t:2", "chat", {})) == [("quiet", "t:2")]
    assert heard(Elsewhere, ("t:2", "chat", {}), ("t:2", "elsewhere", {})) == [
        ("any_chat", "t:2", "chat", {}),
        ("elsewhere", "t:2"),
    ]
    with pytest.raises(CallbackSignatureError, match=r"Wrong\.any_topic.* the wrong parameters"):

        class Wrong(Router):
            async def any_topic(self, topic: str) -> None: ...  # type: ignore[override]  # that is the point
