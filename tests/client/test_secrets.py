"""Secrets occur in nothing that is written: no repr, log line, traceback, event, report, health.

Every place where a user, or a server, may put a secret has a canary of its own. Whatever happens,
none of them is found in what can be seen.
"""

import base64
import logging
import traceback
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import attrs
import pytest
import trio
from hypothesis import HealthCheck, given, settings, strategies as st

from slipstream import (
    Config,
    ConnectError,
    SlipstreamClient,
    Socket,
    format_tree,
    open_socket,
    open_supervisor,
    telemetry,
)
from slipstream.client import ClientRef
from slipstream.errors import DisconnectedError, SlipstreamError
from slipstream.otp import process_of, sys as otp_sys
from slipstream.transport import MemoryNetwork
from tests.client.kit import OpenTest
from tests.client.support import ServerEnd, settle, virtual

PLACES: Final = (
    "userinfo",
    "query",
    "params",
    "headers",
    "token",
    "proxy",
    "subprotocol",
    "join",
    "raised",
    "pushed",
    "answered",
    "cookie",
    "body",
)
CANARIES: Final = {place: f"c4n4ry{place}" for place in PLACES}
ENCODED: Final = base64.b64encode(CANARIES["token"].encode()).decode().rstrip("=")


class Seen:
    """Everything that was written while something happened."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._errors: list[BaseException] = []  # kept, so that none has the id of another

    def see(self, *things: Any) -> None:
        for thing in things:
            self.texts += [repr(thing), str(thing)]
            for error in errors_in(thing):
                if any(error is known for known in self._errors):
                    continue
                self._errors.append(error)
                self.texts.append("".join(traceback.format_exception(error)))

    def found(self) -> dict[str, str]:
        """Give each canary that was seen, with where."""
        searched = {**CANARIES, "token in base64": ENCODED}
        return {
            place: text
            for place, canary in searched.items()
            for text in self.texts
            # A test's own source is in its tracebacks, but no value of a run.
            if canary in text
        }


def errors_in(thing: Any) -> Iterator[BaseException]:
    """Find the exceptions in *thing*: it is one, or a value or mapping that holds some."""
    if isinstance(thing, BaseException):
        yield thing
    elif isinstance(thing, Mapping):
        for value in thing.values():
            yield from errors_in(value)
    elif attrs.has(type(thing)):
        for field in attrs.fields(type(thing)):
            if field.repr is not False:
                yield from errors_in(getattr(thing, field.name, None))


class _Keeper(logging.Handler):
    def __init__(self, seen: Seen) -> None:
        super().__init__(logging.DEBUG)
        self._seen = seen

    def emit(self, record: logging.LogRecord) -> None:
        self._seen.see(vars(record))
        self._seen.texts.append(logging.Formatter().format(record))
        report: Any = getattr(record, "report", None)
        if report is not None:
            self._seen.texts.append(report.render(chars=100_000, items=1000, depth=20))


@contextmanager
def watching() -> Iterator[Seen]:
    """See all log records and events while the block lasts, and the lines of the bridge."""
    seen = Seen()
    keeper = _Keeper(seen)
    logger = logging.getLogger("slipstream")
    before = logger.level, logger.propagate
    logger.addHandler(keeper)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    telemetry.attach_logging(skip=())
    try:
        with telemetry.capture_events() as events:
            yield seen
        for name, data in events:
            seen.see(name, data)
    finally:
        telemetry.detach_logging()
        logger.removeHandler(keeper)
        logger.setLevel(before[0])
        logger.propagate = before[1]


class Careless(SlipstreamClient, restart="transient"):
    """Pushes and joins with secrets, and crashes when it is told to."""

    async def init(self, argument: Any, socket: Socket, /) -> None:
        socket.connect(argument)
        self.joins = 0

    async def handle_connect(self, socket: Socket, /) -> None:
        socket.join("t", {"token": CANARIES["join"]})
        socket.join("u", self._provided)

    async def _provided(self) -> Any:
        self.joins += 1
        if self.joins % 3 == 2:
            raise LookupError(CANARIES["raised"])
        unfit = {0: "\ud800", 1: object()}.get(self.joins % 4, "")
        return {"token": CANARIES["join"], "unfit": unfit}

    async def handle_join(self, topic: str, response: Any, socket: Socket, /) -> None:
        await socket.push(topic, "secret", {"password": CANARIES["pushed"]}, timeout=1.0)

    async def handle_cast(self, message: Any, socket: Socket, /) -> Any:
        match message:
            case "crash":
                raise ValueError("a bug")
            case "request":
                payload = {"password": CANARIES["pushed"]}
                return await socket.request("t", "secret", payload, timeout=1.0)
            case "return":
                return {"password": CANARIES["pushed"]}
            case "unencodable":
                await socket.push("t", "secret", {"password": CANARIES["pushed"], "x": object()})
            case _:
                await socket.await_join("t", timeout=1.0)
        return None


def config_for(network: MemoryNetwork | None, providers: dict[str, Any], **options: Any) -> Config:
    """Make a configuration with a canary in every place; *providers* replace values."""
    values: dict[str, Any] = {
        "params": {"token": CANARIES["params"]},
        "headers": {"authorization": CANARIES["headers"]},
        "auth_token": CANARIES["token"],
    }
    return Config(
        f"ws://jo:{CANARIES['userinfo']}@server.test/socket/websocket?token={CANARIES['query']}",
        proxy=f"http://jo:{CANARIES['proxy']}@proxy.test:3128",
        subprotocols=[CANARIES["subprotocol"]],
        transport=network.open_transport if network is not None else None,
        reconnect=[1.0],
        rejoin=[1.0],
        **{**values, **providers, **options},
    )


def a_provider(how: str, value: Any) -> Any:
    """Give a provider of *value* that works, or does not, as *how* says."""

    async def asynchronous() -> Any:
        await trio.sleep(0.1)
        return value

    async def hangs() -> Any:
        await trio.sleep(1000.0)
        return value

    def raises() -> Any:
        raise LookupError(CANARIES["raised"], value)

    async def raises_a_chain() -> Any:
        try:
            raises()
        except LookupError as error:
            raise RuntimeError(f"no token at https://id.test/?key={CANARIES['raised']}") from error

    async def raises_in_a_group() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(raises_a_chain)

    ways: dict[str, Callable[[], Any]] = {
        "sync": lambda: value,
        "async": asynchronous,
        "hangs": hangs,
        "raises": raises,
        "raises a chain": raises_a_chain,
        "raises in a group": raises_in_a_group,
        "wrong type": lambda: [value, 7],
        "wrong text": lambda: {"a b": str(value), "\ud800": str(value)},
    }
    return ways[how]


WAYS: Final = ("value", "sync", "async", "hangs", "raises", "raises a chain",
               "raises in a group", "wrong type", "wrong text")  # fmt: skip


async def refused(network: MemoryNetwork, status: int) -> None:
    """Let the server refuse attempts for a while."""
    for _ in range(2):
        headers = (("set-cookie", CANARIES["cookie"]),)
        body = CANARIES["body"].encode()
        network.refuse(
            ConnectError(
                f"HTTP {status}", step="upgrade", status=status, headers=headers, body=body
            )
        )


async def served(network: MemoryNetwork, ref: ClientRef, faults: list[str]) -> None:
    """Be the server: let each of *faults* happen, one after the other."""
    end: ServerEnd | None = None
    for fault in faults:
        name, _, detail = fault.partition(" ")
        if name == "refuse":
            await refused(network, int(detail))
            continue
        if name == "cast":
            ref.cast(detail)
            await settle()
            continue
        if end is None:
            with trio.move_on_after(7.0):
                end = ServerEnd(await network.accept())
        if end is None:
            return
        try:
            end = await happen(end, name, detail)
        except DisconnectedError:
            end = None
        await settle()


async def happen(end: ServerEnd, name: str, detail: str) -> ServerEnd | None:
    answer = {"reason": CANARIES["answered"]}
    with trio.move_on_after(5.0):
        match name:
            case "answer":
                # Why it refuses are the server's words, and a reason shows them.
                end.reply(
                    await end.next(), detail, {"reason": "words"} if detail == "error" else answer
                )
            case "echo":
                message = await end.next()
                end.broadcast("t", "echo", message.payload)
            case "message":
                end.broadcast("t", "news", answer)
            case "garbage":
                end.peer.send(
                    f'["1","1","t","phx_reply",{{"status":7,"x":"{CANARIES["answered"]}"}}]'
                )
                end.peer.send(CANARIES["answered"], f'{{"{CANARIES["answered"]}":')
                end.peer.send(CANARIES["answered"].encode())
            case "crash":
                message = await end.next()
                end.say(
                    message.join_ref,
                    message.join_ref,
                    message.topic,
                    "phx_error",
                    {"reason": "words"},
                )
            case "close":
                end.peer.close(int(detail))
                return None
            case "drop":
                end.peer.drop()
                return None
            case _:
                await trio.sleep(60.0)
    return end


FAULTS: Final = (
    "answer ok", "answer ok", "answer error", "echo x", "message x", "garbage x", "crash x",
    "close 1000", "close 1008", "close 1012", "drop x", "silence x",
    "cast crash", "cast request", "cast return", "cast unencodable", "cast await",
    "refuse 401", "refuse 403", "refuse 503", "refuse 302", "refuse 418",
)  # fmt: skip


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    ways=st.fixed_dictionaries(
        {name: st.sampled_from(WAYS) for name in ("params", "headers", "auth_token")}
    ),
    faults=st.lists(st.sampled_from(FAULTS), max_size=8),
    undecodable=st.sampled_from(["ignore", "close"]),
    log_payloads=st.booleans(),
)
def test_no_canary_is_seen_whatever_happens(
    ways: dict[str, str], faults: list[str], undecodable: Any, *, log_payloads: bool
) -> None:
    """Design section 4: secrets never appear in a repr, a log line, a report or an event."""
    values = {
        "params": {"token": CANARIES["params"]},
        "headers": {"authorization": CANARIES["headers"]},
        "auth_token": CANARIES["token"],
    }
    providers = {
        name: a_provider(how, values[name]) for name, how in ways.items() if how != "value"
    }

    async def scenario(seen: Seen) -> None:
        network = MemoryNetwork()
        config = config_for(
            network, providers, provider_timeout=2.0, on_undecodable=undecodable,
                log_payloads=log_payloads,
            join_timeout=3.0,
        )  # fmt: skip
        spec = Careless.child_spec(config, id="careless")
        seen.see(config, spec)
        socket: Socket | None = None
        try:
            async with open_supervisor([spec], max_restarts=2) as supervisor:
                ref = supervisor.child("careless")
                assert isinstance(ref, ClientRef)
                process = process_of(ref)
                assert process is not None
                socket = process.server.socket
                await otp_sys.trace(ref)
                await served(network, ref, faults)
                seen.see(ref, supervisor, socket, *network.requests, format_tree(supervisor))
                seen.see(*supervisor.which_children(), spec, ref.connections)
                look_at(seen, socket)
                if ref.alive:
                    status = await otp_sys.get_status(ref)
                    seen.see(status.message, status)
        except SlipstreamError as error:
            seen.see(error)
        look_at(seen, socket)

    def look_at(seen: Seen, socket: Socket | None) -> None:
        assert socket is not None
        health = socket.health()
        seen.see(health, health.as_dict(), health.last_disconnect, health.last_error)
        seen.see(*socket.recorded_frames())

    with watching() as seen:
        virtual(lambda: scenario(seen))
    payloads = {"join", "pushed", "answered"} if log_payloads else set[str]()
    assert seen.found().keys() <= payloads
    assert len(seen.texts) > 20


def test_the_watch_would_see_a_canary() -> None:
    """The property can fail: each kind of place is looked at."""
    canary = CANARIES["token"]
    error = ConnectError("outer", step="tcp")
    error.__cause__ = ValueError(canary)
    ways: list[Callable[[], None]] = [
        lambda: logging.getLogger("slipstream.client").debug("%s", canary),
        lambda: logging.getLogger("slipstream").warning("x", exc_info=error),
        lambda: telemetry.execute("slipstream.client.x", error=error),
        lambda: telemetry.execute("slipstream.client.x", data={"deep": [canary]}),
    ]
    for write in ways:
        with watching() as seen:
            write()
        assert seen.found().keys() == {"token"}


class Server:
    """A TCP server that answers as it is told, and keeps no secrets."""

    def __init__(self, port: int) -> None:
        self.port = port


@asynccontextmanager
async def answering(answer: Callable[[bytes], bytes]) -> AsyncGenerator[Server]:
    async def handle(stream: trio.SocketStream) -> None:
        async with stream:
            data = await stream.receive_some()
            await stream.send_all(answer(bytes(data)))
            with trio.move_on_after(0.2):
                async for _ in stream:
                    pass

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, handle, 0)
        yield Server(listeners[0].socket.getsockname()[1])
        nursery.cancel_scope.cancel()


def first_line(request: bytes) -> bytes:
    return request.split(b"\r\n")[0]


def target(request: bytes) -> bytes:
    return first_line(request).split()[1]


HEADERS: Final = f"set-cookie: {CANARIES['cookie']}\r\n".encode()


@pytest.mark.parametrize(
    "answer",
    [
        lambda request: request,  # an echo
        lambda request: b"HTTP/1.1 302 Found\r\nlocation: " + target(request) + b"\r\n\r\n",
        lambda request: (
            b"HTTP/1.1 403 No\r\n" + HEADERS + b"content-length: 5000\r\n\r\n" + request
        ),
        lambda request: b"HTTP/1.1 400 Bad\r\n" + HEADERS + b"\r\n" + CANARIES["body"].encode(),
        lambda request: b"HTTP/1.1 101 Switching Protocols\r\n" + HEADERS + b"\r\n",
        lambda request: b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
        lambda request: b"",
    ],
    ids=["echo", "redirect", "403", "400", "wrong 101", "407", "nothing"],
)
@pytest.mark.parametrize("by", ["direct", "proxy", "refused"])
async def test_a_refusal_over_tcp_tells_no_secret(
    answer: Callable[[bytes], bytes], by: str
) -> None:
    with trio.fail_after(30), watching() as seen:
        async with answering(answer) as server:
            host = f"jo:{CANARIES['userinfo']}@127.0.0.1:{server.port if by == 'direct' else 1}"
            config = Config(
                f"ws://{host}/socket/websocket?token={CANARIES['query']}",
                params={"token": CANARIES["params"]},
                headers={"authorization": CANARIES["headers"]},
                auth_token=CANARIES["token"],
                proxy=f"http://jo:{CANARIES['proxy']}@127.0.0.1:{server.port}"
                if by == "proxy"
                else None,
                connect_timeout=2.0,
            )
            with pytest.raises(ConnectError) as caught:
                async with open_socket(config):
                    pass
            seen.see(caught.value, config)
    assert seen.found() == {}


async def test_a_client_may_hide_what_is_its_own(socket_test: OpenTest) -> None:
    """Design section 3: ``format_status`` may redact reports."""

    class Discreet(Careless):
        async def init(self, argument: Any, socket: Socket, /) -> None:
            await super().init(argument, socket)
            self.password = CANARIES["token"]

        def format_status(self, status: Any, /) -> Any:
            return attrs.evolve(status, state={**status.state, "password": "<hidden>"})

    with watching() as seen:
        async with socket_test(Discreet, config_for(None, {})) as test:
            test.ref.cast("crash")
            await test.expect_crash(ValueError, "a bug")
    assert seen.found() == {}
    assert any("<hidden>" in text for text in seen.texts)
