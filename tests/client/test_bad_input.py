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
    Crashed,
    EncodeError,
    GenServer,
    SlipstreamClient,
    WrongTaskError,
    open_supervisor,
)
from tests.client.support import harness, settle, virtual


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
def test_a_wrong_argument_is_a_start_failure_that_says_what_is_accepted(argument: Any) -> None:
    async def scenario() -> None:
        async with open_supervisor([(SlipstreamClient, argument)]):
            raise AssertionError("it must not start")

    with pytest.raises(Exception, match="did not start") as caught:
        virtual(scenario)
    cause: BaseException | None = caught.value
    while cause is not None and not isinstance(cause, ConfigError):
        cause = cause.__cause__
    assert cause is not None


async def returns_nonsense(*args: Any) -> Any:
    return 42


async def forgets_await(*args: Any) -> Any:
    return trio.lowlevel.checkpoint()  # noqa: ASYNC105 - the point


@pytest.mark.parametrize(
    ("script", "says"),
    [(returns_nonsense, "a value of type int"), (forgets_await, "did you forget await")],
)
@pytest.mark.parametrize("callback", ["handle_connect", "handle_info"])
def test_a_wrong_result_is_a_crash_that_names_it(callback: str, script: Any, says: str) -> None:
    async def scenario() -> None:
        async with harness({callback: script}, restart="temporary") as h:
            ref = h.ref.pin()
            if callback == "handle_connect":
                await h.accept()
            else:
                ref.send("x")
            reason = await ref.wait()
            assert isinstance(reason, Crashed)
            assert isinstance(reason.exception, BadReturnError)
            assert says in str(reason.exception)
            assert f"Recorder.{callback}" in str(reason.exception)

    virtual(scenario)


@pytest.mark.parametrize("shown", [False, True])
def test_a_wrong_result_is_shown_only_where_payloads_may_be(shown: bool) -> None:
    async def scenario() -> None:
        async with harness(
            {"handle_info": returns_nonsense}, restart="temporary", log_payloads=shown
        ) as h:
            ref = h.ref.pin()
            ref.send("x")
            assert ("42" in str(await ref.wait())) is shown

    virtual(scenario)


def test_a_client_that_calls_itself_is_told_at_once() -> None:
    async def scenario() -> None:
        async with harness() as h:

            async def call_self(client: Any, socket: Any) -> None:
                await client.ref.call("x")

            async def wait_for_self(client: Any, socket: Any) -> None:
                await client.ref.wait_connected()

            for wrong in (call_self, wait_for_self):
                with pytest.raises(CallingSelfError):
                    await h.inside(wrong)

    virtual(scenario)


def test_a_foreign_thread_is_refused() -> None:
    async def scenario() -> None:
        async with harness() as h:
            caught: list[BaseException] = []
            actions: list[tuple[Any, ...]] = [
                (h.socket.join, "t"),
                (h.ref.send, "x"),
                (h.socket.health,),
                (h.ref.health,),
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
            assert h.socket.topics == {}

    virtual(scenario)


@pytest.mark.parametrize("after", [-1, "soon", float("nan"), True, math.inf])
def test_a_wrong_delay_is_refused(after: Any) -> None:
    async def scenario() -> None:
        async with harness() as h:
            with pytest.raises(ConfigError, match="after is"):
                h.socket.reconnect(after=after)
            for topic in ("", "phoenix"):
                with pytest.raises(ConfigError, match="topic is"):
                    h.socket.join(topic)
            with pytest.raises(ConfigError, match="topic is"):
                h.socket.join(7)  # type: ignore[arg-type]  # the point

    virtual(scenario)


@pytest.mark.parametrize("timeout", [-1, "5", [], float("nan"), True])
def test_a_wrong_timeout_is_refused_wherever_one_is_taken(timeout: Any) -> None:
    async def scenario() -> None:
        async with harness() as h:
            await h.joined()
            with pytest.raises(ConfigError, match="timeout is"):
                await h.ref.wait_connected(timeout)
            with pytest.raises(ConfigError, match="timeout is"):
                await h.socket.push("t", "e", timeout=timeout)
            with pytest.raises(ConfigError, match="timeout is"):
                await h.socket.request("t", "e", timeout=timeout)

            async def wait(client: Any, socket: Any) -> int:
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

            assert await h.inside(wait) == 6

    virtual(scenario)


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
def test_a_wrong_push_is_refused_and_changes_nothing(
    topic: Any, event: Any, when_unjoined: Any, says: str
) -> None:
    async def scenario() -> None:
        async with harness() as h:
            await h.joined()
            for action in (h.socket.push, h.socket.request):
                with pytest.raises((ConfigError, EncodeError), match=says):
                    await action(topic, event, when_unjoined=when_unjoined)
            assert h.socket.joined("t")
            assert h.ref.health().queued_pushes == 0

    virtual(scenario)


def test_reconnecting_without_a_configuration_is_refused() -> None:
    """SL-B1, AWT-006."""

    async def rest(client: Any, socket: Any) -> None:
        await trio.lowlevel.checkpoint()

    async def scenario() -> None:
        async with harness({"init": rest}) as h:
            with pytest.raises(ConfigError, match=r"call socket\.connect"):
                h.socket.reconnect()
            assert h.socket.config is None
            assert h.ref.health().phase == "down"

    virtual(scenario)


def test_what_a_client_does_not_handle_is_told(caplog: pytest.LogCaptureFixture) -> None:
    class Silent(SlipstreamClient, restart="temporary"):
        async def init(self, argument: Any, socket: Any, /) -> None: ...

    async def scenario() -> None:
        for send, kind in (("call", "handle_call"), ("cast", "handle_cast")):
            async with open_supervisor([(Silent, None)]) as supervisor:
                ref = supervisor.child(Silent).pin()
                ref.send("unhandled")
                await settle()
                assert ref.alive
                if send == "call":
                    ref.send_request("x")
                else:
                    ref.cast("x")
                reason = await ref.wait()
                assert isinstance(reason, Crashed)
                assert kind in str(reason.exception)

    virtual(scenario)
    assert "'unhandled'" in caplog.text


def test_a_client_has_the_inner_names_of_a_process() -> None:
    class Other(GenServer, name="other"):
        async def init(self, heard: list[Any]) -> None:
            self.heard = heard

        async def handle_cast(self, message: Any, /) -> None:
            self.heard.append(message)

    async def scenario() -> None:
        heard: list[Any] = []
        async with harness(children=[(Other, heard)]) as h:

            async def use(client: Any, socket: Any) -> None:
                assert client.whereis("other") is not None
                client.cast("other", "hello")
                client.monitor(client.whereis("other"))
                client.send_every(10.0, "tick")
                client.start_soon(trio.sleep, 1.0)
                assert client.ref == h.ref
                assert client.stop_cause is None

            await h.inside(use)
            await trio.sleep(25.0)
            assert heard == ["hello"]
            assert [args for args in h.of("handle_info") if args == ("tick",)] == [("tick",)] * 2
            await h.supervisor.terminate_child(Other)
            await settle()
            assert type(h.of("handle_info")[-1][0]).__name__ == "Down"

    virtual(scenario)
