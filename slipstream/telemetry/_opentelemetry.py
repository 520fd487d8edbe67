"""The bridge to OpenTelemetry: spans, with parents, without payloads. Needs the extra ``otel``."""

from collections import OrderedDict
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

import attrs

from slipstream.errors import ConfigError

from ._dispatch import attach, detach
from ._logging import plain

__all__ = ["attach_opentelemetry", "detach_opentelemetry"]

_ID: Final = "slipstream-opentelemetry"
_CONNECT: Final = "slipstream.client.connect"
_JOIN: Final = "slipstream.client.join"
_REQUEST: Final = "slipstream.client.request"
_INSIDE: Final = "slipstream.span"
_REMOTE: Final = frozenset({
    _CONNECT, _JOIN, _REQUEST, "slipstream.connection.connect",
})  # fmt: skip
_KEPT: Final = 4096
_SHOWN: Final = ("client", "topic", "event", "generation", "status", "reason")


def attach_opentelemetry(prefix: str = "slipstream", *, tracer_provider: Any = None) -> None:
    """Make OpenTelemetry spans of the spans below *prefix*, by *tracer_provider* or the global one.

    Their names are those of the events. A callback's span is the current one while the callback
    runs, so that what it does (a request, a join that it asks for, a span of its own, a call of an
    instrumented library in a provider of credentials) is below it. Beside that a connection, a join
    and ``handle_connect`` are below the client's connect, and ``handle_join`` is below its join;
    callbacks for messages begin traces of their own, which link to the join. Single events are
    events of the current span.

    Attributes begin with ``slipstream.``; payloads, params, headers and bodies are not among them.

    Raises:
        ConfigError: if it is attached already, or the extra ``otel`` is not installed.
    """
    try:
        api = _Api.load()
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "opentelemetry":
            raise
        raise ConfigError(
            "the bridge to OpenTelemetry needs opentelemetry-api: pip install 'slipstream[otel]'"
        ) from None
    attach(_ID, prefix, _Bridge(api, tracer_provider).tell)


def detach_opentelemetry() -> bool:
    """Make no more spans; tell whether the bridge was attached."""
    return detach(_ID)


@attrs.frozen
class _Api:
    """The parts of OpenTelemetry's API; imported late, since only an extra installs it."""

    trace: Any
    context: Any

    @classmethod
    def load(cls) -> "_Api":
        return cls(import_module("opentelemetry.trace"), import_module("opentelemetry.context"))


@attrs.frozen
class _Open:
    span: Any
    token: Any


class _Recent(OrderedDict[Any, Any]):
    """The contexts of spans that others may be below of; without limit it would only grow."""

    def keep(self, key: Any, context: Any) -> None:
        self[key] = context
        self.move_to_end(key)
        if len(self) > _KEPT:
            self.popitem(last=False)


class _Bridge:
    def __init__(self, api: _Api, tracer_provider: Any) -> None:
        self._api = api
        self._tracer = api.trace.get_tracer("slipstream", tracer_provider=tracer_provider)
        self._open: dict[int, _Open] = {}
        self._recent = _Recent()

    def tell(self, event: str, data: Mapping[str, Any]) -> None:
        """Follow one event."""
        name, _, what = event.rpartition(".")
        match data.get("span"), what:
            case int(number), "start":
                self._start(number, name, data)
            case int(number), "stop" | "exception":
                self._end(number, data)
            case _:
                current = self._api.trace.get_current_span()
                if current.is_recording():
                    current.add_event(event, _attributes(data))

    def _start(self, number: int, name: str, data: Mapping[str, Any]) -> None:
        trace = self._api.trace
        options: dict[str, Any] = {"attributes": _attributes(data)}
        options["kind"] = trace.SpanKind.CLIENT if name in _REMOTE else trace.SpanKind.INTERNAL
        if not self._has_current(name):
            above, is_parent = self._above(name, data)
            options["context"] = context = self._api.context.Context()
            if above is not None and is_parent:
                above_it = trace.NonRecordingSpan(above)
                options["context"] = trace.set_span_in_context(above_it, context)
            elif above is not None:
                options["links"] = [trace.Link(above)]
        span = self._tracer.start_span(name, **options)
        if name in {_CONNECT, _JOIN}:
            self._recent.keep((name, data["client"], data.get("topic")), span.get_span_context())
        # These two end in another task than they begin in, and others may run in between.
        token = None
        if name not in {_CONNECT, _JOIN}:
            inside = self._api.context.set_value(_INSIDE, number)
            token = self._api.context.attach(trace.set_span_in_context(span, inside))
        self._open[number] = _Open(span, token)

    def _has_current(self, name: str) -> bool:
        """Tell whether the current span is what the span *name* is made for.

        A request is made by whoever makes it. Otherwise it is so only within a callback that still
        runs: a process, and a helper task, inherit the context that they are started in, and live on.
        """
        current = self._api.trace.get_current_span().get_span_context()
        if name == _REQUEST:
            return bool(current.is_valid)
        return name == _JOIN and self._api.context.get_value(_INSIDE) in self._open

    def _above(self, name: str, data: Mapping[str, Any]) -> tuple[Any, bool]:
        """Give the context that a span without a current one belongs to, and whether as its child."""
        client = data.get("client")
        connect = self._recent.get((_CONNECT, client, None))
        join = self._recent.get((_JOIN, client, data.get("topic")))
        match name.rpartition(".")[2]:
            case "join" | "handle_connect":
                return connect, True
            case "connect" if name != _CONNECT:
                return connect, True
            case "handle_join":
                return join, True
            case "connect" | "init":
                return None, False
            case "request":
                return join, True
            case _:
                return join or connect, False

    def _end(self, number: int, data: Mapping[str, Any]) -> None:
        found = self._open.pop(number, None)
        if found is None:  # it began before the bridge was attached
            return
        span, trace = found.span, self._api.trace
        span.set_attributes(_attributes(data))
        error = data.get("error", data.get("reason"))
        if isinstance(error, BaseException) and not isinstance(error, Exception):
            span.set_attribute("slipstream.left_by", type(error).__name__)  # cancelled, or an Exit
        elif error is not None:
            told = str(plain(error))
            span.set_status(trace.Status(trace.StatusCode.ERROR, told))
            kind = type(error).__qualname__
            # No record_exception: its stack trace has messages in it, and these have payloads.
            span.add_event("exception", {"exception.type": kind, "exception.message": told})
        if found.token is not None:
            self._api.context.detach(found.token)
        span.end()


def _attributes(data: Mapping[str, Any]) -> dict[str, Any]:
    shown = {f"slipstream.{key}": plain(data[key]) for key in _SHOWN if data.get(key) is not None}
    uri = getattr(data.get("config"), "safe_uri", None)
    return shown if uri is None else {**shown, "url.full": uri}
