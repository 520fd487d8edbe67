"""What an attempt needs to know."""

import base64
import traceback
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from slipstream import Config, ConfigError, ConnectError, PerMessageDeflate, ProviderError
from slipstream.connection import build_request, provide
from slipstream.protocol import V1Serializer

URI = "ws://host.test/socket/websocket"


def run(function: Any, *args: Any) -> Any:
    return trio.run(function, *args, clock=MockClock(autojump_threshold=0))


async def _async_token() -> str:
    await trio.sleep(1.0)
    return "async"


def test_values_and_functions_are_asked_alike() -> None:
    """Row 7."""

    async def scenario() -> None:
        for provider, value in (("v", "v"), (lambda: "sync", "sync"), (_async_token, "async")):
            assert await provide(provider, timeout=5.0, what="x") == value

    run(scenario)


def test_the_request_holds_everything() -> None:
    """JS-S12, S16, rows 8, 49."""

    async def scenario() -> None:
        config = Config(
            f"{URI}?room=1",
            params=lambda: {"token": "a b&c"},
            headers={"X-Key": "k"},
            auth_token=_async_token,
            subprotocols=("extra",),
            connect_timeout=7.0,
            unix_socket="app.sock",
            compression="deflate",
            max_fragments=7,
        )
        request = await build_request(config)
        assert request.uri == f"{URI}?room=1&token=a+b%26c&vsn=2.0.0"
        assert request.headers == (("X-Key", "k"),)
        token = base64.b64encode(b"async").decode().rstrip("=")
        assert request.subprotocols == ("phoenix", f"base64url.bearer.phx.{token}", "extra")
        assert request.unix_socket == "app.sock"
        assert (request.connect_timeout, request.max_fragments) == (7.0, 7)
        assert request.compression == PerMessageDeflate()
        assert "token" not in repr(request)

    run(scenario)


@pytest.mark.parametrize(
    ("uri", "options", "complete"),
    [
        ("ws://h", {}, "ws://h/?vsn=2.0.0"),
        ("ws://h/x?vsn=2.0.0", {}, "ws://h/x?vsn=2.0.0"),
        ("ws://h/x", {"serializer": V1Serializer()}, "ws://h/x?vsn=1.0.0"),
        ("ws://h/x?app_vsn=7", {}, "ws://h/x?app_vsn=7&vsn=2.0.0"),
        ("ws://h/x", {"params": {"vsn": "2.0.0"}}, "ws://h/x?vsn=2.0.0"),
    ],
)
def test_vsn_is_always_stated_once(uri: str, options: dict[str, Any], complete: str) -> None:
    assert run(build_request, Config(uri, **options)).uri == complete


def _raises() -> Any:
    raise KeyError("secret store")


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({"params": _raises}, ProviderError),
        ({"headers": _raises}, ProviderError),
        ({"auth_token": _raises}, ProviderError),
        ({"params": lambda: 7}, ConfigError),
        ({"headers": lambda: {"a": "b\n"}}, ConfigError),
        ({"auth_token": lambda: ""}, ConfigError),
        ({"auth_token": lambda: 7}, ConfigError),
    ],
)
def test_what_a_provider_does_wrong_is_a_failed_attempt(
    options: dict[str, Any], cause: type[Exception]
) -> None:
    with pytest.raises(ConnectError) as caught:
        run(build_request, Config(URI, **options))
    assert caught.value.step == "provider"
    assert isinstance(caught.value.__cause__, cause)


def test_what_a_provider_raised_is_kept_and_never_printed() -> None:
    """Its message may be the secret, or a URL that holds it; where it came from is told."""
    with pytest.raises(ConnectError) as caught:
        run(build_request, Config(URI, params=_raises))
    cause = caught.value.__cause__
    assert isinstance(cause, ProviderError)
    assert (cause.what, str(cause.error)) == ("params", "'secret store'")
    told = "".join(traceback.format_exception(caught.value))
    # The line of the source has it, too; that is no secret of a run.
    assert "'secret store'" not in told.replace('raise KeyError("secret store")', "")
    assert "the provider of params raised KeyError" in told
    assert "in _raises" in told
    assert caught.value.__context__ is None


def test_a_provider_has_its_own_time() -> None:
    """complaint-16."""

    async def scenario() -> None:
        with pytest.raises(ConnectError, match="longer than provider_timeout, 2 s"):
            await provide(trio.sleep_forever, timeout=2.0, what="headers")
        assert trio.current_time() == 2.0

    run(scenario)


def test_cancellation_goes_through_a_provider() -> None:
    async def scenario() -> None:
        with trio.move_on_after(1.0) as scope:
            await provide(trio.sleep_forever, timeout=2.0, what="headers")
        assert scope.cancelled_caught

    run(scenario)


def test_the_environment_is_asked_for_a_proxy_at_every_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = Config(URI)
    assert run(build_request, config).proxy is None
    monkeypatch.setenv("http_proxy", "http://jo:s3cr3t@proxy.test:3128")
    request = run(build_request, config)
    assert request.proxy == "http://jo:s3cr3t@proxy.test:3128"
    assert "s3cr3t" not in repr(request)
    monkeypatch.setenv("no_proxy", "host.test")
    assert run(build_request, config).proxy is None


def test_who_says_which_proxy_or_none_is_not_overruled_by_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.test")
    assert run(build_request, Config(URI, proxy=None)).proxy is None
    assert run(build_request, Config(URI, proxy="http://mine")).proxy == "http://mine"
    assert run(build_request, Config(URI, unix_socket="app.sock")).proxy is None
