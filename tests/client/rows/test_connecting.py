"""Rows 6 to 8, 14, 15 and 49: what a client connects with, and how it is refused."""

import base64
import itertools
from typing import Any

import pytest
import trio

from slipstream import (
    Config,
    ConfigError,
    ConnectError,
    ConnectFailed,
    ReconnectPolicy,
    SlipstreamClient,
    Socket,
)
from slipstream.protocol import V1Serializer
from slipstream.testing import ANY

from .stage import Stage, both_wires, check_took, in_the_kit, is_kit, query, until

NOW = ReconnectPolicy(delays=[0.0])


def uri_of(test: Stage) -> str:
    config = test.socket.config
    assert config is not None
    return config.uris[0]


@both_wires(connect_timeout=10.0)
async def test_a_handshake_that_is_never_answered_ends_in_time(test: Stage) -> None:
    """Row 6: and it is followed by another attempt."""
    began = trio.current_time()
    await test.assert_connect()
    failed = await test.assert_callback("handle_disconnect", ConnectFailed, within=11.0)
    assert failed.args[0].status is None
    check_took(test, began, failed.at, 10.0)
    await test.accept_connect()
    await test.assert_callback("handle_connect")


@both_wires()
async def test_a_refusal_is_told_with_all_that_the_server_said(test: Stage) -> None:
    """Row 6; JS-E1, SL-I0: what failed, its status, its headers, its body."""
    await test.refuse_connect(503, {"X-Why": "asleep"}, b"come back later")
    call = await test.assert_callback("handle_disconnect", ConnectFailed)
    reason = call.args[0]
    assert (reason.status, reason.body) == (503, b"come back later")
    assert ("x-why", "asleep") in reason.headers
    assert isinstance(reason.error, ConnectError)


class Asking(SlipstreamClient):
    """Connects with providers, which number what they give."""

    async def init(self, config: Config, socket: Socket, /) -> None:
        count = itertools.count(1)

        async def token() -> str:
            await trio.lowlevel.checkpoint()
            return f"token-{next(count)}"

        socket.connect(
            Config(
                config.uri,
                params=lambda: {"n": str(next(count))},
                headers=lambda: {"x-n": str(next(count))},
                auth_token=token,
                heartbeat_interval=None,
                reconnect=config.reconnect,
            )
        )


@both_wires(client=Asking)
async def test_providers_are_asked_for_every_attempt(test: Stage) -> None:
    """Row 7; JS-S2, JS-S16: whether the one before failed or was lost."""
    seen = [await test.refuse_connect(503), await test.accept_connect()]
    await test.drop()
    seen.append(await test.accept_connect())
    numbers = [
        sorted(
            int("".join(filter(str.isdigit, each)))
            for each in (query(request)["n"], dict(request.headers)["x-n"], token_of(request))
        )
        for request in seen
    ]
    assert numbers == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]


def token_of(request: Any) -> str:
    (bearer,) = [name for name in request.subprotocols if name.startswith("base64url.")]
    data = bearer.removeprefix("base64url.bearer.phx.")
    return base64.urlsafe_b64decode(data + "=" * (-len(data) % 4)).decode()


async def no_params() -> dict[str, str]:
    await trio.sleep(1000.0)
    return {}


@in_the_kit(params=no_params, provider_timeout=7.0)
async def test_a_provider_has_a_time_of_its_own(test: Stage) -> None:
    """Row 7: it is no part of connect_timeout, and its time-out is a failed attempt."""
    failed = await test.assert_callback("handle_disconnect", ConnectFailed, within=60.0)
    assert failed.at == 7.0
    assert "params" in str(failed.args[0].error)


@both_wires(auth_token="s3cret/+", headers={"x-tenant": "7"})  # noqa: S106 - an example
async def test_a_token_goes_as_a_subprotocol_and_is_shown_nowhere(test: Stage) -> None:
    """Row 8; JS-CH4, JS-CH5; PCP-16, PCP-17, PXC-3: beside the headers that were asked for."""
    request = await test.accept_connect()
    assert request.subprotocols[0] == "phoenix"
    assert token_of(request) == "s3cret/+"
    assert dict(request.headers)["x-tenant"] == "7"
    await test.assert_callback("handle_connect")
    assert "s3cret" not in f"{test.socket!r} {test.socket.config!r} {request!r} {test.telemetry}"


@both_wires(reconnect=[0.0])
@pytest.mark.parametrize("status", [500, 502, 503, 429])
async def test_a_refusal_that_may_pass_is_followed_by_another_attempt(
    test: Stage, status: int
) -> None:
    """Row 14; DT-1."""
    await test.refuse_connect(status)
    await test.assert_callback("handle_disconnect", ConnectFailed)
    await test.accept_connect()
    await test.assert_callback("handle_connect")


@both_wires(reconnect=[0.0])
@pytest.mark.parametrize("status", [400, 401, 403, 404, 426])
async def test_a_refusal_that_would_come_again_ends_the_client(test: Stage, status: int) -> None:
    """Row 14; SL-I0, SL-Y12: once handle_disconnect was told; with constant credentials 401 and 403."""
    await test.refuse_connect(status, {"x-why": "not so"})
    call = await test.assert_callback("handle_disconnect", ConnectFailed)
    assert call.args[0].status == status
    assert ("x-why", "not so") in call.args[0].headers
    error = await test.expect_crash(ConnectError)
    assert isinstance(error, ConnectError)
    assert error.status == status


@both_wires(client=Asking, reconnect=[5.0])
@pytest.mark.parametrize("status", [401, 403])
async def test_where_a_credential_can_be_had_anew_it_is_tried_at_once(
    test: Stage, status: int
) -> None:
    """Row 14; SL-X5: once at once, and then after the policy's delay."""
    first = await test.refuse_connect(status)
    second = await test.refuse_connect(status, within=0.0)
    assert token_of(first) != token_of(second)
    refused = trio.current_time()
    await test.accept_connect()
    await until(lambda: test.socket.connected)
    check_took(test, refused, trio.current_time(), 5.0)


@pytest.mark.parametrize("status", [429, 503])
@in_the_kit(reconnect=[1.0])
async def test_retry_after_is_honoured(test: Stage, status: int) -> None:
    """Row 14."""
    await test.refuse_connect(status, {"Retry-After": "42"})
    refused = trio.current_time()
    await test.refute_connect(within=41.9)
    await test.accept_connect()
    assert trio.current_time() == refused + 42.0


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@both_wires(reconnect=[0.0])
async def test_redirects_are_not_followed(test: Stage, status: int) -> None:
    """Row 15: the error names the status, and where it led to stands in the headers."""
    await test.refuse_connect(status, {"location": "ws://elsewhere.test/"})
    call = await test.assert_callback("handle_disconnect", ConnectFailed)
    assert call.args[0].status == status
    assert ("location", "ws://elsewhere.test/") in call.args[0].headers
    await test.expect_crash(ConnectError, str(status))


@both_wires(params={"user": "ü&="})
async def test_the_uri_is_kept_and_vsn_is_stated_once(test: Stage) -> None:
    """Row 49; JS-S10, JS-S12, JS-S13; PXC-4."""
    request = await test.accept_connect()
    assert request.uri.split("?")[0].endswith("/socket/websocket")
    assert request.uri.split("?")[0] == uri_of(test)
    assert request.uri.count("vsn=") == 1
    assert query(request)["vsn"] == "2.0.0"
    await test.assert_callback("handle_connect")


@pytest.mark.parametrize(
    ("uri", "options", "says"),
    [
        ("ws://a/s?vsn=1.0.0", {}, "uri asks for vsn=1.0.0, but the serializer speaks 2.0.0"),
        ("ws://a/s", {"params": {"vsn": "1.0.0"}}, "params asks for vsn=1.0.0"),
        ("ws://a/s?vsn=2.0.0", {"serializer": V1Serializer()}, "the serializer speaks 1.0.0"),
    ],
)
@in_the_kit()
async def test_a_vsn_that_contradicts_the_serializer_is_refused(
    test: Stage, uri: str, options: dict[str, Any], says: str
) -> None:
    """Row 49."""
    with pytest.raises(ConfigError, match=says):
        test.socket.connect({"uri": uri, **options})
    await test.accept_connect()  # as it was


@in_the_kit()
async def test_a_uri_has_to_be_whole(test: Stage) -> None:
    """JS-S11, SL-C4: there is no page that it could be relative to, and no other scheme."""
    for uri in ("//a/socket", "/socket", "http://a/socket", "https://a/socket"):
        with pytest.raises(ConfigError, match="unknown scheme"):
            test.socket.connect(uri)
    request = await test.accept_connect(ANY)
    assert request.uri.startswith("ws://server.test/")


@both_wires(serving={})
async def test_a_server_that_is_not_there_is_a_failed_attempt(test: Stage) -> None:
    """SL-Y11: the error is that of the network."""
    if is_kit(test):
        await test.fail_connect()
    else:
        test.socket.connect(Config("ws://127.0.0.1:1/", reconnect=[60.0]))
    call = await test.assert_callback("handle_disconnect", ConnectFailed)
    assert isinstance(call.args[0].error.__cause__, OSError)
    assert call.args[0].status is None
