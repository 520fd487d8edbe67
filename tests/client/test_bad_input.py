"""Wrong use: an error of our own, at once, that says what was given and what is accepted."""

import math
import threading
from functools import partial
from typing import Any

import pytest
import trio
import trio.lowlevel

from slipstream import (
    BadReturnError,
    CallbackSignatureError,
    CallingSelfError,
    ChildSpecError,
    ConfigError,
    EncodeError,
    GenServer,
    SlipstreamClient,
    Socket,
    StartError,
    WrongTaskError,
)
from tests.client.kit import Member, OpenTest, config


def test_a_misspelled_callback_is_refused_when_the_class_is_made() -> None:
    with pytest.raises(
        CallbackSignatureError, match=r"handle_mesage.*did you mean 'handle_message'"
    ):

        class Wrong(SlipstreamClient):
            async def handle_mesage(
                self, topic: str, event: str, payload: Any, socket: Any
            ) -> None: ...


def test_a_mixin_is_checked_with_the_class_that_uses_it() -> None:
    class Slip:
        async def handle_mesage(self, *_: Any) -> None: ...

    class Short:
        async def handle_join(self, topic: str) -> None: ...

    class Fine:
        async def handle_join(self, topic: str, response: Any, socket: Any, /) -> None: ...
        def handle_uploads(self) -> None: ...

    for mixin, says in ((Slip, "Slip.handle_mesage"), (Short, "Short.handle_join")):
        with pytest.raises(CallbackSignatureError, match=says):
            type("Wrong", (mixin, SlipstreamClient), {})
    type("Right", (Fine, SlipstreamClient), {})


def test_wrong_parameters_are_refused_when_the_class_is_made() -> None:
    with pytest.raises(CallbackSignatureError, match="topic, response, socket"):

        class Wrong(SlipstreamClient):
            async def handle_join(self, topic: str, socket: Any) -> None: ...  # type: ignore[override]  # the point


def test_a_callback_that_is_not_async_is_refused_when_the_class_is_made() -> None:
    with pytest.raises(CallbackSignatureError, match="not async"):

        class Wrong(SlipstreamClient):
            def handle_connect(self, socket: Any) -> None: ...  # type: ignore[override]  # the point


def test_an_unknown_class_keyword_is_refused() -> None:
    with pytest.raises(ChildSpecError, match="restrat"):

        class Wrong(SlipstreamClient, restrat="permanent"):  # type: ignore[call-arg]  # the point
            pass


@pytest.mark.parametrize("overrides", [{"restart": "always"}, {"shutdown": -1}, {"colour": "red"}])
def test_a_wrong_child_spec_is_refused(overrides: dict[str, Any]) -> None:
    with pytest.raises(ChildSpecError, match=next(iter(overrides))):
        SlipstreamClient.child_spec("ws://x/y", **overrides)
    with pytest.raises(ChildSpecError, match="one argument"):
        SlipstreamClient.child_spec("ws://x/y", "another")


def test_class_keywords_are_the_defaults_of_the_child() -> None:
    class Patient(SlipstreamClient, restart="transient", shutdown=20.0, name="patient"):
        pass

    spec = Patient.child_spec("ws://x/y", restart="temporary")
    assert (spec.id, spec.restart, spec.shutdown, spec.name) == (
        Patient,
        "temporary",
        20.0,
        "patient",
    )
    assert SlipstreamClient.child_spec("ws://x/y").shutdown == 10.0


@pytest.mark.parametrize(
    "argument", [None, 7, "http://x", {"url": "ws://x"}, {"uri": "ws://x", "colour": 1}]
)
async def test_a_wrong_argument_is_a_start_failure_that_says_what_is_accepted(
    socket_test: OpenTest, argument: Any
) -> None:
    with pytest.raises(StartError, match="did not start") as caught:
        async with socket_test(SlipstreamClient, argument):
            raise AssertionError("it must not start")
    cause: BaseException | None = caught.value
    while cause is not None and not isinstance(cause, ConfigError):
        cause = cause.__cause__
    assert cause is not None


async def returns_nonsense(self: Any, *args: Any) -> Any:
    return 42


async def forgets_await(self: Any, *args: Any) -> Any:
    return trio.lowlevel.checkpoint()  # noqa: ASYNC105 - the point


@pytest.mark.parametrize(
    ("script", "says"),
    [(returns_nonsense, "a value of type int"), (forgets_await, "did you forget await")],
)
@pytest.mark.parametrize("callback", ["handle_connect", "handle_info"])
async def test_a_wrong_result_is_a_crash_that_names_it(
    socket_test: OpenTest, callback: str, script: Any, says: str
) -> None:
    client = type("Wrong", (SlipstreamClient,), {callback: script})
    async with socket_test(client, config(), restart="temporary") as test:
        if callback == "handle_connect":
            await test.accept_connect()
        else:
            test.ref.send("x")
        error = await test.expect_crash(BadReturnError, says)
        assert f"Wrong.{callback}" in str(error)


@pytest.mark.parametrize("shown", [False, True])
async def test_a_wrong_result_is_shown_only_where_payloads_may_be(
    socket_test: OpenTest, shown: bool
) -> None:
    client = type("Wrong", (SlipstreamClient,), {"handle_info": returns_nonsense})
    async with socket_test(client, config(log_payloads=shown), restart="temporary") as test:
        test.ref.send("x")
        assert ("42" in str(await test.expect_crash(BadReturnError))) is shown


@pytest.mark.parametrize(
    "wrong",
    [
        lambda client, socket: client.ref.call("x"),
        lambda client, socket: client.ref.wait_connected(),
    ],
    ids=["call", "wait_connected"],
)
async def test_a_client_that_calls_itself_is_told_at_once(
    socket_test: OpenTest, wrong: Any
) -> None:
    async with socket_test(SlipstreamClient, config()) as test:
        with pytest.raises(CallingSelfError):
            await test.inside(wrong, within=0.0)


async def test_a_foreign_thread_is_refused(socket_test: OpenTest) -> None:
    async with socket_test(SlipstreamClient, config()) as test:
        caught: list[BaseException] = []
        actions: list[tuple[Any, ...]] = [
            (test.socket.join, "t"),
            (test.ref.send, "x"),
            (test.socket.health,),
            (test.ref.health,),
        ]

        def act() -> None:
            for action, *arguments in actions:
                try:
                    action(*arguments)
                except WrongTaskError as error:
                    caught.append(error)

        thread = threading.Thread(target=act)
        thread.start()
        thread.join()
        assert len(caught) == len(actions)
        assert test.socket.topics == {}


@pytest.mark.parametrize("after", [-1, "soon", float("nan"), True, math.inf])
async def test_a_wrong_delay_is_refused(socket_test: OpenTest, after: Any) -> None:
    async with socket_test(SlipstreamClient, config()) as test:
        with pytest.raises(ConfigError, match="after is"):
            test.socket.reconnect(after=after)
        for topic in ("", "phoenix"):
            with pytest.raises(ConfigError, match="topic is"):
                test.socket.join(topic)
        with pytest.raises(ConfigError, match="topic is"):
            test.socket.join(7)  # type: ignore[arg-type]  # the point


@pytest.mark.parametrize("timeout", [-1, "5", [], float("nan"), True])
async def test_a_wrong_timeout_is_refused_wherever_one_is_taken(
    socket_test: OpenTest, timeout: Any
) -> None:
    async def wait(client: Any, socket: Socket) -> int:
        socket.leave("t")
        waits = (
            partial(socket.await_connect, timeout),
            partial(socket.await_disconnect, timeout),
            partial(socket.await_message, timeout=timeout),
            partial(socket.await_reply, "1", timeout),
            partial(socket.await_join, "t", timeout),
            partial(socket.await_leave, "t", timeout),
        )
        for one in waits:
            with pytest.raises(ConfigError, match="timeout is"):
                await one()
        return len(waits)

    async with socket_test(Member, config()) as test:
        await test.connect_and_join("t")
        with pytest.raises(ConfigError, match="timeout is"):
            await test.ref.wait_connected(timeout)
        with pytest.raises(ConfigError, match="timeout is"):
            await test.socket.push("t", "e", timeout=timeout)
        with pytest.raises(ConfigError, match="timeout is"):
            await test.socket.request("t", "e", timeout=timeout)
        assert await test.inside(wait) == 6


@pytest.mark.parametrize(
    ("topic", "event", "when_unjoined", "says"),
    [
        ("t", "phx_join", "fail", "event is 'phx_join', which is the protocol's own"),
        ("t", "phx_leave", "queue", "event is 'phx_leave', which is the protocol's own"),
        ("t", 7, "fail", "event is 7; accepted is a string"),
        ([], "e", "fail", r"topic is \[\]; accepted is a string"),
        ("t", "e", "queued", "when_unjoined is 'queued'; accepted are 'fail', 'queue' and 'raise'"),
    ],
)
async def test_a_wrong_push_is_refused_and_changes_nothing(
    socket_test: OpenTest, topic: Any, event: Any, when_unjoined: Any, says: str
) -> None:
    async with socket_test(Member, config()) as test:
        await test.connect_and_join("t")
        for action in (test.socket.push, test.socket.request):
            with pytest.raises((ConfigError, EncodeError), match=says):
                await action(topic, event, when_unjoined=when_unjoined)
        await test.refute_sent()
        assert test.socket.joined("t")
        assert test.ref.health().queued_pushes == 0


class Silent(SlipstreamClient):
    """Wants nothing, and does nothing."""

    async def init(self, argument: Any, socket: Socket, /) -> None: ...


async def test_reconnecting_without_a_configuration_is_refused(socket_test: OpenTest) -> None:
    """SL-B1, AWT-006."""
    async with socket_test(Silent) as test:
        with pytest.raises(ConfigError, match=r"call socket\.connect"):
            test.socket.reconnect()
        assert test.socket.config is None
        assert test.ref.health().phase == "down"


@pytest.mark.parametrize("send", ["call", "cast"])
async def test_what_a_client_does_not_handle_is_told(
    socket_test: OpenTest, send: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with socket_test(Silent, restart="temporary") as test:
        test.ref.send("unhandled")
        await test.settle()
        assert test.ref.alive
        if send == "call":
            test.ref.send_request("x")
        else:
            test.ref.cast("x")
        await test.expect_crash(NotImplementedError, f"handle_{send}")
    assert "'unhandled'" in caplog.text


async def test_a_client_has_the_inner_names_of_a_process(socket_test: OpenTest) -> None:
    class Other(GenServer, name="other"):
        async def init(self, heard: list[Any]) -> None:
            self.heard = heard

        async def handle_cast(self, message: Any, /) -> None:
            self.heard.append(message)

    async def use(client: Any, socket: Socket) -> Any:
        assert client.whereis("other") is not None
        client.cast("other", "hello")
        client.monitor(client.whereis("other"))
        client.send_every(10.0, "tick")
        client.start_soon(trio.sleep, 1.0)
        assert client.stop_cause is None
        return client.ref

    heard: list[Any] = []
    async with socket_test(SlipstreamClient, config(), children=[(Other, heard)]) as test:
        assert await test.inside(use) == test.ref
        await test.advance(25.0)
        assert heard == ["hello"]
        assert test.called("handle_info") == [("tick",)] * 2
        await test.supervisor.terminate_child(Other)
        await test.settle()
        assert type(test.called("handle_info")[-1][0]).__name__ == "Down"
