"""The bridge to OpenTelemetry: spans have the parents that they should have."""

import subprocess
import sys
from collections.abc import Awaitable, Callable, Generator
from typing import Any

import pytest
import trio

from slipstream import ConfigError, ConnectError, JoinError, JoinRefused, telemetry
from tests.client.support import Harness, harness, settle
from tests.telemetry.support import virtual

SECRET = "s3cr3t"  # noqa: S105 - it guards nothing


def test_without_the_extra_one_line_says_what_to_install() -> None:
    block = (
        "import sys; sys.modules['opentelemetry'] = None; from slipstream import telemetry\n"
        "try: telemetry.attach_opentelemetry()\n"
        "except ValueError as error: print(error)"
    )
    done = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-c", block], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == (
        "the bridge to OpenTelemetry needs opentelemetry-api: pip install 'slipstream[otel]'\n"
    )


class Traced:
    """The spans that were made, by name, and the tracer that made them."""

    def __init__(self) -> None:
        sdk = pytest.importorskip("opentelemetry.sdk.trace")
        export = pytest.importorskip("opentelemetry.sdk.trace.export")
        memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
        self._exporter = memory.InMemorySpanExporter()
        self.provider: Any = sdk.TracerProvider()
        self.provider.add_span_processor(export.SimpleSpanProcessor(self._exporter))

    def all(self) -> list[Any]:
        return list(self._exporter.get_finished_spans())

    def of(self, name: str) -> list[Any]:
        return [span for span in self.all() if span.name == name]

    def one(self, name: str) -> Any:
        [span] = self.of(name)
        return span

    def parent_of(self, span: Any) -> str | None:
        """Give the name of the span above *span*."""
        if span.parent is None:
            return None
        [above] = [s for s in self.all() if s.context.span_id == span.parent.span_id]
        assert above.context.trace_id == span.context.trace_id
        return str(above.name).removeprefix("slipstream.")


@pytest.fixture
def traced() -> Generator[Traced]:
    """The bridge is on."""
    spans = Traced()
    telemetry.attach_opentelemetry(tracer_provider=spans.provider)
    yield spans
    telemetry.detach_opentelemetry()


def run(scenario: Callable[[Harness], Awaitable[None]], **options: Any) -> None:
    async def within() -> None:
        async with harness(**options) as h:
            await scenario(h)

    virtual(within)


async def joins(client: Any, socket: Any) -> None:
    socket.join("rooms:1", {"token": SECRET})


def test_a_life_is_a_tree_of_spans(traced: Traced) -> None:
    """Spans with parents for connect, join, request and callbacks."""

    async def asks(client: Any, topic: str, response: Any, socket: Any) -> None:
        with traced.provider.get_tracer("app").start_as_current_span("app.work"):
            await socket.request(topic, "ask", {"password": SECRET})

    async def scenario(h: Harness) -> None:
        end = await h.accept()
        await end.accept_join("rooms:1")
        ask = await end.next("ask")
        await trio.sleep(0.5)
        end.reply(ask, "ok", {"secret": SECRET})
        await settle()

    run(scenario, scripts={"handle_connect": joins, "handle_join": asks}, auth_token=SECRET)
    parents = {
        span.name.removeprefix("slipstream."): traced.parent_of(span) for span in traced.all()
    }
    assert parents["client.connect"] is None
    assert parents["connection.connect"] == "client.connect"
    assert parents["client.handle_connect"] == "client.connect"
    assert parents["client.join"] == "client.handle_connect"
    assert parents["client.handle_join"] == "client.join"
    assert parents["app.work"] == "client.handle_join"
    assert parents["client.request"] == "app.work"
    request = traced.one("slipstream.client.request")
    assert dict(request.attributes) == {
        "slipstream.client": "client",
        "slipstream.topic": "rooms:1",
        "slipstream.event": "ask",
        "slipstream.status": "ok",
    }
    assert request.kind.name == "CLIENT"
    connect = traced.one("slipstream.client.connect")
    assert connect.attributes["url.full"] == "ws://server.test/socket/websocket"
    assert SECRET not in "".join(span.to_json() for span in traced.all())


def test_a_callback_for_a_message_is_a_trace_that_links_to_its_join(traced: Traced) -> None:
    async def scenario(h: Harness) -> None:
        end, _ = await h.joined()
        end.broadcast("t", "a")
        end.broadcast("t", "b")
        await settle()

    run(scenario)
    [join] = traced.of("slipstream.client.join")
    first, second = traced.of("slipstream.client.handle_message")
    assert first.parent is second.parent is None
    assert first.context.trace_id != second.context.trace_id
    assert [link.context.span_id for link in first.links] == [join.context.span_id]
    # Joined from outside of any callback.
    assert traced.parent_of(join) == "client.connect"


def test_a_process_is_not_below_what_it_was_started_in(traced: Traced) -> None:
    """It lives on; a request is below whoever makes it."""
    tracer = traced.provider.get_tracer("app")

    async def scenario() -> None:
        with tracer.start_as_current_span("app.main"):
            async with harness() as h:
                end, _ = await h.joined()
                end.peer.drop()
                end = await h.accept()
                await end.accept_join()
                end.broadcast("t", "m")
                await settle()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(h.socket.request, "t", "ask")
                    end.reply(await end.next("ask"))

    virtual(scenario)
    below = [span.name for span in traced.all() if traced.parent_of(span) == "app.main"]
    assert below == ["slipstream.client.request"]
    assert len({span.context.trace_id for span in traced.of("slipstream.client.connect")}) == 2


def test_what_failed_is_an_error_without_payloads(traced: Traced) -> None:
    async def fails(client: Any, topic: str, event: str, payload: Any, socket: Any) -> None:
        raise JoinError(topic, JoinRefused({"token": SECRET}))

    async def scenario(h: Harness) -> None:
        h.network.refuse(ConnectError("no route", step="tcp"))
        end, _ = await h.joined()
        h.socket.join("u")
        end.reply(await end.next("phx_join"), "error", {"token": SECRET})
        end.broadcast("t", "m")
        await settle()

    run(scenario, scripts={"handle_message": fails})
    for name, told in (
        ("connection.connect", "ConnectError: no route"),
        ("client.join", "JoinRefused()"),
        ("client.handle_message", "JoinError: JoinRefused()"),
    ):
        [span] = [s for s in traced.of(f"slipstream.{name}") if not s.status.is_unset]
        assert (span.status.status_code.name, span.status.description) == ("ERROR", told)
        [event] = span.events
        assert event.name == "exception"
        assert event.attributes["exception.message"] == told
    assert SECRET not in "".join(span.to_json() for span in traced.all())


def test_a_callback_that_is_cancelled_is_no_error(traced: Traced) -> None:
    async def sleeps(client: Any, *args: Any) -> None:
        await trio.sleep_forever()

    async def scenario(h: Harness) -> None:
        end, _ = await h.joined()
        end.broadcast("t", "m")
        await settle()
        await h.supervisor.terminate_child("client")

    run(scenario, scripts={"handle_message": sleeps})
    span = traced.one("slipstream.client.handle_message")
    assert span.status.is_unset
    assert span.attributes["slipstream.left_by"] in {"Cancelled", "Exit"}


def test_single_events_stand_in_the_span_of_their_time(traced: Traced) -> None:
    with traced.provider.get_tracer("app").start_as_current_span("app.work"):
        telemetry.execute("slipstream.client.rejoin", client="c", topic="t", delay=1.0)
    telemetry.execute("slipstream.client.rejoin", client="c", topic="t", delay=1.0)
    [event] = traced.one("app.work").events
    assert event.name == "slipstream.client.rejoin"
    assert dict(event.attributes) == {"slipstream.client": "c", "slipstream.topic": "t"}


def test_the_bridge_can_be_attached_once_and_detached_between_the_ends_of_a_span(
    traced: Traced,
) -> None:
    with pytest.raises(ConfigError, match="attached already"):
        telemetry.attach_opentelemetry()
    assert telemetry.detach_opentelemetry()
    with telemetry.span("slipstream.client.x", clock=lambda: 0.0, client="c"):
        telemetry.attach_opentelemetry(tracer_provider=traced.provider)
    assert traced.all() == []
    assert telemetry.detach_opentelemetry()
    assert not telemetry.detach_opentelemetry()


def test_what_it_remembers_is_bounded(traced: Traced) -> None:
    for number in range(6000):
        data = {"span": telemetry.new_span(), "client": f"device {number}"}
        telemetry.execute("slipstream.client.connect.start", **data)
        telemetry.execute("slipstream.client.connect.stop", **data)
    bridge: Any = telemetry.attached.__globals__["_handlers"]["slipstream-opentelemetry"][
        1
    ].__self__
    assert len(bridge._recent) == 4096
    assert bridge._open == {}
