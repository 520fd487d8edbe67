"""Routing messages to methods."""

import enum
from dataclasses import dataclass
from typing import Any, TypedDict

import attrs
import msgspec
import pytest
import trio
from hypothesis import given, strategies as st
from trio.testing import MockClock

from slipstream import CallbackSignatureError, DecodeError, SlipstreamClient, Socket, on_message
from slipstream.client._on_message import Routes, collect_routes
from slipstream.testing import Call, open_socket_test
from tests.client.kit import OpenTest, config


@attrs.define
class Chat:
    body: str
    user: int = 0


class Ping(msgspec.Struct):
    n: int


class Note(TypedDict):
    text: str


class Router(SlipstreamClient):
    @on_message("t:1", "chat", payload=Chat)
    async def exact(self, topic: str, message: Chat, socket: Socket) -> None: ...

    @on_message("t:*", "chat")
    async def any_topic(self, topic: str, payload: Any, socket: Socket) -> None: ...

    @on_message("t:*", "chat*")
    async def any_chat(self, topic: str, event: str, payload: Any, socket: Socket) -> None: ...

    @on_message("t:*", "ping", payload=Ping)
    @on_message("t:*", "pong", payload=Ping)
    async def ping(self, topic: str, payload: Ping, socket: Socket) -> None: ...

    @on_message("t:*", "note", payload=Note)
    async def handle_note(self, topic: str, payload: Note, socket: Socket) -> None: ...


class Derived(Router):
    @on_message("t:*", "chat")
    async def mine(self, topic: str, payload: Any, socket: Socket) -> None: ...


def calls(
    client: type[SlipstreamClient],
    *messages: tuple[str, str, Any],
    topics: tuple[str, ...] = ("t:1", "t:2"),
) -> list[Call]:
    """Have a client hear *messages*, and give the callbacks that they went to."""

    async def scenario() -> list[Call]:
        async with open_socket_test(client, config()) as test:
            await test.accept_connect()
            for topic in topics:
                test.socket.join(topic)
                await test.accept_join(topic)
            count = len(test.calls)
            for topic, event, payload in messages:
                await test.broadcast(topic, event, payload)
            return test.calls[count:]

    return trio.run(scenario, clock=MockClock(autojump_threshold=0))


def heard(client: type[SlipstreamClient], *messages: tuple[str, str, Any]) -> list[tuple[Any, ...]]:
    """The same, by their names and arguments."""
    return [(call.name, *call.args) for call in calls(client, *messages)]


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
        ("ping", "t:2", Ping(1)),
        ("ping", "t:2", Ping(2)),
        ("handle_note", "t:1", {"text": "x"}),
        ("handle_message", "t:1", "other", {}),
    ]


def test_a_class_replaces_a_pattern_of_its_base() -> None:
    assert heard(Derived, ("t:2", "chat", {}), ("t:1", "chat", {"body": "x"})) == [
        ("mine", "t:2", {}),
        ("exact", "t:1", Chat("x")),
    ]


class Tolerant(Router):
    async def handle_bad_payload(
        self, topic: str, event: str, payload: Any, error: DecodeError, socket: Socket, /
    ) -> None: ...


def test_a_payload_that_does_not_fit_has_a_callback_of_its_own() -> None:
    bad, fits = heard(Tolerant, ("t:1", "chat", {"body": 7}), ("t:1", "chat", {"body": "x"}))
    *what, error = bad
    assert what == ["handle_bad_payload", "t:1", "chat", {"body": 7}]
    assert (error.path, str(error)) == ("payload.body", "payload.body: expected str, got int")
    assert fits == ("exact", "t:1", Chat("x"))


async def test_by_default_it_is_counted_and_a_warning_that_shows_no_value(
    socket_test: OpenTest, caplog: pytest.LogCaptureFixture
) -> None:
    misfits: list[Any] = [{"body": 7}, [], "secret", b"secret", {"body": "secret", "user": "2"}]
    async with socket_test(Router, config()) as test:
        test.socket.join("t:1")
        await test.connect_and_join("t:1")
        for payload in [*misfits, {"body": "fits"}]:
            await test.broadcast("t:1", "chat", payload)
        assert test.called("exact") == [("t:1", Chat("fits"))]
        assert test.called("handle_message") == []
        assert test.ref.health().counters["bad_payloads"] == 5
        told = test.events("slipstream.client.bad_payload")
        assert [(data["topic"], data["event"]) for data in told] == [("t:1", "chat")] * 5
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
    class Typed(SlipstreamClient):
        @on_message("t:1", "e", payload=kind)
        async def take(self, topic: str, payload: Any, socket: Socket) -> None: ...

    assert heard(Typed, ("t:1", "e", payload)) == [("take", "t:1", wanted)]


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
    assert (call[0], str(call[-1])) == ("handle_bad_payload", told)


@pytest.mark.parametrize("kind", [7, "Chat", object(), SlipstreamClient])
def test_a_payload_that_is_no_type_is_refused(kind: Any) -> None:
    with pytest.raises(CallbackSignatureError, match=r"payload is .*; accepted are attrs classes"):
        on_message("t", "e", payload=kind)


class Capturing(SlipstreamClient):
    @on_message("rooms:{room}", "new:{what}")
    async def one(
        self, topic: str, payload: Any, socket: Socket, *, room: str, what: str
    ) -> None: ...

    @on_message("rooms:{room}:users:{user}", "new:*")
    async def two(
        self, topic: str, event: str, payload: Any, socket: Socket, *, room: str, user: str
    ) -> None: ...

    @on_message("rooms:{room}:*", "new:msg")
    async def three(self, topic: str, payload: Any, socket: Socket, *, room: str) -> None: ...


def test_captures_are_given_as_keywords() -> None:
    found = calls(
        Capturing,
        ("rooms:a", "new:msg", {}),
        ("rooms:é 1", "new:\n", {}),
        ("rooms:a:users:7", "new:msg:x", {}),
        ("rooms:a:b:c", "new:msg", {}),
        ("rooms:", "new:msg", {}),
        ("rooms:a", "new:msg:x", {}),
        topics=("rooms:a", "rooms:é 1", "rooms:a:users:7", "rooms:a:b:c", "rooms:"),
    )
    assert [(call.name, call.args, call.captures) for call in found] == [
        ("one", ("rooms:a", {}), {"room": "a", "what": "msg"}),
        ("one", ("rooms:é 1", {}), {"room": "é 1", "what": "\n"}),
        ("two", ("rooms:a:users:7", "new:msg:x", {}), {"room": "a", "user": "7"}),
        ("three", ("rooms:a:b:c", {}), {"room": "a"}),
        ("handle_message", ("rooms:", "new:msg", {}), {}),
        ("handle_message", ("rooms:a", "new:msg:x", {}), {}),
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
    async def greet(self: Any, topic: str, payload: Any, socket: Socket) -> None:
        socket.assigns["greeted"] = True


class Waving:
    @on_message("t:*", "hello")
    async def wave(self: Any, topic: str, payload: Any, socket: Socket) -> None: ...


def test_mixins_bring_their_patterns() -> None:
    class Polite(Greeting, SlipstreamClient):
        pass

    assert heard(Polite, ("t:1", "hello", {})) == [("greet", "t:1", {})]


def test_two_mixins_that_both_want_a_message_are_refused_until_the_class_decides() -> None:
    with pytest.raises(
        CallbackSignatureError, match=r"two methods handle .*Greeting\.greet and Waving\.wave"
    ):

        class Torn(Greeting, Waving, SlipstreamClient):
            pass

    class Decided(Greeting, Waving, SlipstreamClient):
        @on_message("t:*", "hello")
        async def both(self, topic: str, payload: Any, socket: Socket) -> None:
            await self.greet(topic, payload, socket)
            await self.wave(topic, payload, socket)
            assert socket.assigns["greeted"]

    assert heard(Decided, ("t:1", "hello", {})) == [("both", "t:1", {})]


def test_an_overriding_method_keeps_its_patterns_or_has_its_own() -> None:
    quiet: list[str] = []

    class Quiet(Router):
        async def any_topic(self, topic: str, payload: Any, socket: Socket) -> None:
            quiet.append(topic)

    class Elsewhere(Router):
        @on_message("t:*", "elsewhere")
        async def any_topic(self, topic: str, payload: Any, socket: Socket) -> None: ...

    assert heard(Quiet, ("t:2", "chat", {})) == [("any_topic", "t:2", {})]
    assert quiet == ["t:2"]
    assert heard(Elsewhere, ("t:2", "chat", {}), ("t:2", "elsewhere", {})) == [
        ("any_chat", "t:2", "chat", {}),
        ("any_topic", "t:2", {}),
    ]
    with pytest.raises(CallbackSignatureError, match=r"Wrong\.any_topic.* the wrong parameters"):

        class Wrong(Router):
            async def any_topic(self, topic: str) -> None: ...  # type: ignore[override]  # that is the point
