"""The configuration, and the policies that come with it."""

import math
import re
import socket
import sys
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given, strategies as st

from slipstream import (
    ChannelClosed,
    ChannelCrashed,
    ClosedByServer,
    Config,
    ConfigError,
    ConnectError,
    ConnectFailed,
    Fatal,
    HeartbeatTimeout,
    Hold,
    JoinRefused,
    JoinTimedOut,
    ReconnectPolicy,
    RejoinPolicy,
    RemoteProtocolError,
    Retry,
    TransportFailed,
)
from slipstream.config import check_headers, proxy_from_environment, safe_uri
from slipstream.protocol import V1Serializer

URI = "ws://host.test:4000/socket/websocket"


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("http://host/socket", "unknown scheme 'http'"),  # SL-C4
        ("host/socket", "unknown scheme ''"),
        ("ws://", "names no host"),
        ("ws:///socket", "names no host"),
        ("ws://host:0/x", "names no host"),
        ("ws://host:99999/x", "out of range"),
        ("ws://host:port/x", "Config.uri"),
        ("ws://host/a b", "a space"),
        ("ws://host/\r\nX: y", "a control"),
        ("ws://host/café", "non-ASCII"),
        ("ws://host/x#top", "a fragment"),
        ("ws://host/x?vsn=1.0.0", "asks for vsn=1.0.0, but the serializer speaks 2.0.0"),
        ("ws://host/x?vsn=", "asks for vsn=, but the serializer speaks 2.0.0"),
        ("ws://host/x?vsn=2.0.0&vsn=3", "asks for vsn=3, but the serializer speaks 2.0.0"),
        (7, "Config.uri is 7"),
        (
            [],
            "Config.uri is (); accepted is a URI such as 'ws://host:4000/socket/websocket', or a list",
        ),
        (["ws://h/x", 7], "Config.uri is 7; accepted is a URI"),
        (["ws://h/x", "http://s3cret@h/x?t=s3cret"], "Config.uri 'http://h/x' has unknown scheme"),
        (["ws://h/x", "ws://h/x?vsn=1.0.0"], "asks for vsn=1.0.0"),
        (None, "Config.uri is None"),
    ],
)
def test_a_wrong_uri_is_refused_and_says_what_is_accepted(uri: Any, says: str) -> None:
    """SL-C1, SL-C4; row 49; h09."""
    with pytest.raises(ConfigError, match=re.escape(says)):
        Config(uri)


def test_a_right_uri_is_kept() -> None:
    """SL-C2, SL-C3."""
    for uri in (
        "ws://host/x",
        "wss://host/x",
        "ws://[::1]:4000/x?vsn=2.0.0&a=b",
        "ws://user:pass@h/x",
    ):
        assert Config(uri).uri == uri
    assert Config("ws://h/x?vsn=1.0.0", serializer=V1Serializer()).vsn == "1.0.0"


class _OldDecider:
    """A policy whose verdict lacks what it is asked with."""

    stable_after = 1.0

    def verdict(self, reason: Any, attempt: int) -> Any:
        return Retry(float(attempt))


DURATIONS = [
    "heartbeat_timeout",
    "connect_timeout",
    "write_timeout",
    "join_timeout",
    "push_timeout",
    "leave_timeout",
    "provider_timeout",
    "close_timeout",
    "max_seconds",
]


@pytest.mark.parametrize("name", DURATIONS)
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, "5", None, True])
def test_a_wrong_duration_is_refused_by_name_and_value(name: str, value: Any) -> None:
    with pytest.raises(
        ConfigError, match=rf"Config\.{name} is .*; accepted is a number of seconds"
    ):
        Config(URI, **{name: value})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"conect_timeout": 1}, "no option 'conect_timeout'; accepted are uri, params"),
        ({"connection_restart": "always"}, "'always'; accepted is one of 'permanent'"),
        ({"on_overflow": "explode"}, "'disconnect' or coalesce(key)"),
        ({"inbound_limit": 0}, "accepted is a whole number from 1"),
        ({"max_restarts": -1}, "accepted is a whole number from 0"),
        ({"max_restarts": 1.5}, "accepted is a whole number from 0"),
        ({"heartbeat_interval": -1}, "heartbeat_interval is -1"),
        (
            {"heartbeat_interval": 5.0, "heartbeat_timeout": 6.0},
            "at most Config.heartbeat_interval, 5.0",
        ),
        ({"tcp_user_timeout": 0}, "or None"),
        ({"tcp_user_timeout": 3e6}, "at most 2,000,000"),
        ({"unix_socket": ""}, "accepted is a path, or None"),
        ({"unix_socket": b"/run/x"}, "accepted is a path, or None"),
        ({"unix_socket": "/run/x\0y"}, "a name that begins with a NUL"),
        ({"unix_socket": "\0"}, "a name that begins with a NUL"),
        ({"unix_socket": "/" + "x" * 120}, "bytes, not 121"),
        ({"unix_socket": "/run/\ud800"}, "no encoding"),
        ({"proxy": 7}, "'http://user:password@host:3128', with one of http, socks5h"),
        ({"proxy": "https://h"}, "TLS to the proxy itself is not supported"),
        ({"proxy": "ftp://h"}, "Config.proxy: its scheme is unknown"),
        ({"proxy": "h:3128"}, "Config.proxy: its scheme is unknown"),
        ({"proxy": ""}, "Config.proxy: its scheme is unknown"),
        ({"proxy": "http://h", "unix_socket": "/run/x"}, "Config.unix_socket and Config.proxy"),
        ({"params": {"vsn": "1.0.0"}}, "Config.params asks for vsn=1.0.0"),
        ({"params": {"a": "\ud800"}}, "Config.params: 'a' or its value holds a lone surrogate"),
        ({"auth_token": "\ud800"}, "Config.auth_token holds a lone surrogate"),
        ({"headers": {"Host": "h"}}, "'Host' is set by the upgrade itself"),
        (
            {"last_seen": 7},
            "Config.last_seen is 7; accepted is a function (message) -> value, or None",
        ),
        ({"compression": "gzip"}, "a value of type PerMessageDeflate, 'deflate', or None"),
        ({"max_fragments": 0}, "accepted is a whole number from 1"),
        ({"params": 7}, "Config.params is 'int'"),
        ({"headers": 7}, "neither a mapping nor"),
        ({"headers": {"a b": "c"}}, "a name that begins with 'a' is no header name"),
        ({"headers": {"a": "b\r\nc: d"}}, "control"),
        ({"headers": {"a": "é"}}, "non-ASCII"),
        ({"headers": {"a": 7}}, "not both strings"),
        ({"subprotocols": ["a b"]}, "subprotocols"),
        ({"subprotocols": [""]}, "subprotocols"),
        ({"serializer": object()}, "an object with vsn, encode, decode"),
        ({"reconnect": object()}, "an object with verdict"),
        ({"reconnect": _OldDecider()}, "whose verdict takes (reason, attempt, *, refreshable, ref"),
        ({"reconnect": []}, "one or more numbers"),
        ({"rejoin": [1, "2"]}, "one or more numbers"),
    ],
)
def test_a_wrong_option_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config(URI, **options)
    assert says in str(caught.value)


@pytest.mark.parametrize("policy", [ReconnectPolicy, RejoinPolicy])
@pytest.mark.parametrize(
    ("option", "says"),
    [
        ({"delays": 3}, "one or more numbers"),
        ({"delays": math.nan}, "one or more numbers"),
        ({"uniform": 3}, "a function"),
        ({"is_final": 3}, "a function"),
        ({"after_close": "yes"}, "of type bool"),
    ],
)
def test_a_wrong_option_of_a_policy_is_refused(policy: Any, option: Any, says: str) -> None:
    (name,) = option
    if name not in [field.name for field in attrs.fields(policy)]:
        says = "has no option"
    with pytest.raises(ConfigError, match=says):
        policy(**option)


def test_a_unix_socket_is_a_path_where_there_are_any(monkeypatch: pytest.MonkeyPatch) -> None:
    for path in ("/run/app.sock", "app.sock", Path("/run/app.sock"), None):
        assert Config(URI, unix_socket=path).unix_socket == path
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(ConfigError, match="on Linux a name that begins with a NUL"):
        Config(URI, unix_socket="\0name")
    monkeypatch.delattr(socket, "AF_UNIX", raising=False)
    with pytest.raises(ConfigError, match="no Unix-domain sockets"):
        Config(URI, unix_socket="/run/app.sock")


def test_a_socks_proxy_needs_its_extra_and_an_http_proxy_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Config(URI, proxy="socks5h://h")
    monkeypatch.setitem(sys.modules, "python_socks", None)
    Config(URI, proxy="http://h")
    with pytest.raises(ConfigError, match=r"pip install 'slipstream\[proxy\]'"):
        Config(URI, proxy="socks5h://h")


@pytest.mark.parametrize("proxy", [None, "environment", "http://h", "socks5h://jo:s3cr3t@[::1]:9"])
def test_the_credentials_of_a_proxy_are_never_shown(proxy: str | None) -> None:
    shown = repr(Config(URI, proxy=proxy))
    assert "s3cr3t" not in shown
    safe = {"http://h": "http://h:80", "socks5h://jo:s3cr3t@[::1]:9": "socks5h://[::1]:9"}
    assert f"proxy={safe.get(proxy or '', proxy)!r}" in shown


@pytest.mark.parametrize(
    "proxy", ["https://jo:s3cr3t@h", "http://jo:s3cr3t/@h", "jo:s3cr3t@h", "socks4://jo:s3cr3t@h"]
)
def test_a_refused_proxy_is_not_shown(proxy: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config(URI, proxy=proxy)
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "environment", "proxy"),
    [
        ("wss://h.test/x", {}, None),
        ("wss://h.test/x", {"http_proxy": "http://p"}, None),
        ("wss://h.test/x", {"all_proxy": "http://a", "https_proxy": "http://p"}, "http://p"),
        ("wss://h.test/x", {"https_proxy": "http://p", "wss_proxy": "http://w"}, "http://w"),
        ("wss://h.test/x", {"https_proxy": "http://p", "socks_proxy": "socks5://s"}, "socks5://s"),
        ("wss://h.test/x", {"HTTPS_PROXY": "http://p"}, "http://p"),
        ("ws://h.test/x", {"http_proxy": "http://p"}, "http://p"),
        ("ws://h.test/x", {"http_proxy": "http://p", "https_proxy": "http://q"}, "http://q"),
        ("ws://h.test/x", {"http_proxy": "http://p", "ws_proxy": "http://w"}, "http://w"),
        ("ws://h.test/x", {"wss_proxy": "http://w"}, None),
        ("ws://h.test/x", {"all_proxy": "socks5h://a"}, "socks5h://a"),
        ("ws://h.test/x", {"http_proxy": ""}, None),
        ("ws://h.test/x", {"http_proxy": "p:3128"}, "http://p:3128"),
        ("ws://h.test/x", {"socks_proxy": "s:1080"}, "socks5h://s:1080"),
        ("ws://h.test/x", {"socks_proxy": "http://s:1080"}, "socks5h://s:1080"),
        ("ws://h.test/x", {"http_proxy": "http://p", "no_proxy": "h.test"}, None),
        ("ws://h.test/x", {"http_proxy": "http://p", "no_proxy": ".test"}, None),
        ("ws://h.test/x", {"http_proxy": "http://p", "no_proxy": "h.test:80"}, None),
        ("ws://h.test:81/x", {"http_proxy": "http://p", "no_proxy": "h.test:80"}, "http://p"),
        ("ws://[::1]:4000/x", {"http_proxy": "http://p", "no_proxy": "::1"}, None),
        ("ws://localhost/x", {"http_proxy": "http://p", "no_proxy": "*"}, None),
        ("ws://localhost/x", {"http_proxy": "http://p"}, "http://p"),
    ],
)
def test_the_environment_names_a_proxy_as_for_other_tools(
    uri: str, environment: dict[str, str], proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert proxy_from_environment(uri) == proxy


def test_the_value_of_a_header_is_never_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        Config(URI, headers={"authorization": "Bearer s3cret\n"})
    assert "s3cret" not in str(caught.value)


def test_secrets_never_stand_in_the_repr() -> None:
    config = Config(
        "wss://user:s3cret@host.test/x?token=s3cret",
        params={"token": "s3cret"},
        headers={"authorization": "s3cret"},
        auth_token="s3cret",  # noqa: S106 - the point
    )
    assert "s3cret" not in repr(config)
    assert "host.test/x" in repr(config)
    several = Config(["wss://user:s3cret@a.test/x", "wss://b.test/x?token=s3cret"])
    assert "uri=['wss://a.test/x', 'wss://b.test/x']" in repr(several)
    assert safe_uri("ws://u:p@h:1/x?q#f") == "ws://h:1/x"


def test_a_configuration_is_made_of_what_a_client_is_given() -> None:
    config = Config.of({"uri": URI, "join_timeout": 3})
    assert config.join_timeout == 3
    assert Config.of(URI) == Config(URI)
    assert Config.of([URI, URI]) == Config((URI, URI))
    assert Config.of(URI).uris == (URI,)
    assert Config.of({"uri": [URI, "ws://b/x"]}).uris == (URI, "ws://b/x")
    assert Config.of(config) is config
    for wrong in (None, 7, {"join_timeout": 3}):
        with pytest.raises(ConfigError):
            Config.of(wrong)  # type: ignore[arg-type]  # the point
    assert Config(URI, params=dict).refreshable
    assert not config.refreshable


def test_headers_are_given_as_pairs() -> None:
    assert check_headers({"a": "b"}) == check_headers([("a", "b")]) == (("a", "b"),)


def failed(status: int | None, **headers: str) -> ConnectFailed:
    pairs = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return ConnectFailed(ConnectError("x", step="upgrade"), status, pairs)


STEADY = ReconnectPolicy(uniform=lambda low, high: high)


@pytest.mark.parametrize(
    ("reason", "attempt", "refreshable", "verdict"),
    [
        (ClosedByServer(1000), 0, False, Retry(1.0)),
        (ClosedByServer(1001), 1, False, Retry(2.0)),
        (ClosedByServer(1002), 2, False, Retry(4.0)),
        (ClosedByServer(1011), 9, False, Retry(30.0)),
        (ClosedByServer(1012), 0, False, Retry(5.0)),
        (ClosedByServer(1013), 0, False, Retry(60.0)),
        (ClosedByServer(4000), 10**6, False, Retry(30.0)),
        (HeartbeatTimeout(), 0, False, Retry(1.0)),
        (TransportFailed(OSError()), 0, False, Retry(1.0)),
        (TransportFailed(RemoteProtocolError("big", code=1009)), 0, False, Fatal),
        (TransportFailed(RemoteProtocolError("bad", code=1002)), 0, False, Retry(1.0)),
        *[(ClosedByServer(code), 0, False, Fatal) for code in (1003, 1007, 1008, 1009, 1010)],
        (failed(None), 0, False, Retry(1.0)),
        (failed(401), 0, False, Fatal),
        (failed(403), 0, False, Fatal),
        (failed(403), 0, True, Retry(0.0, refresh=True)),
        (failed(403), 1, True, Retry(2.0, refresh=True)),
        (failed(401), 20, True, Retry(300.0, refresh=True)),
        (failed(302), 0, False, Fatal),
        (failed(404), 0, True, Fatal),
        (failed(426), 0, False, Fatal),
        (failed(500), 0, False, Retry(1.0)),
        (failed(429), 0, False, Retry(1.0)),
        (failed(503, retry_after="7"), 0, False, Retry(7.0)),
        *[
            (failed(503, retry_after=value), 0, False, Retry(1.0))
            for value in (
                "nonsense",
                "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
                "Mon, 99999999999999999999 Jan 2027 00:00:00 GMT",
                "Mon, 01 Jan 2027 00:00:00 +99999999999999",
            )
        ],
        (failed(503, retry_after="999999999"), 0, False, Retry(3600.0)),
        (ConnectFailed(ConfigError("x")), 0, False, Fatal),
    ],
)
def test_reconnects_are_judged_by_cause(
    reason: Any, attempt: int, refreshable: bool, verdict: Any
) -> None:
    """Rows 9-15."""
    got = STEADY.verdict(reason, attempt, refreshable=refreshable, refreshes=attempt)
    assert isinstance(got, Fatal) if verdict is Fatal else got == verdict


def test_retry_after_may_be_a_date() -> None:
    when = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    got = STEADY.verdict(failed(429, retry_after=when), 0)
    assert isinstance(got, Retry)
    assert 95 < got.delay <= 100
    past = format_datetime(datetime.now(UTC) - timedelta(seconds=100))
    assert STEADY.verdict(failed(429, retry_after=past), 0) == Retry(1.0)


@pytest.mark.parametrize(
    ("reason", "verdict"),
    [
        (JoinRefused({"reason": "busy"}), Retry(1.0)),
        (JoinRefused("any"), Retry(1.0)),
        (JoinRefused({"reason": "unmatched topic"}), Fatal),
        (JoinRefused({"reason": "unauthorized"}), Fatal),
        (JoinRefused({"reason": "too many channels joined"}), Hold(30.0)),
        (JoinTimedOut(), Retry(1.0)),
        (ChannelCrashed({}), Retry(1.0)),
        (ChannelClosed(), Fatal),
    ],
)
def test_rejoins_are_judged_by_cause(reason: Any, verdict: Any) -> None:
    """Rows 22-24, 35."""
    got = RejoinPolicy(uniform=lambda low, high: high).verdict("t", reason, 0)
    assert isinstance(got, Fatal) if verdict is Fatal else got == verdict


def test_what_is_final_may_be_said_and_attempts_have_a_ceiling() -> None:
    policy = RejoinPolicy(is_final=lambda response: response == "never", max_attempts=3)
    assert isinstance(policy.verdict("t", JoinRefused("never"), 0), Fatal)
    assert isinstance(policy.verdict("t", JoinRefused({"reason": "unauthorized"}), 0), Retry)
    assert isinstance(policy.verdict("t", JoinTimedOut(), 3), Fatal)
    assert isinstance(ReconnectPolicy(max_attempts=2).verdict(HeartbeatTimeout(), 2), Fatal)
    assert isinstance(ReconnectPolicy(max_attempts=2).verdict(HeartbeatTimeout(), 1), Retry)


def test_a_list_of_delays_is_taken_literally_and_its_last_repeats() -> None:
    """Row 9."""
    policy = Config(URI, reconnect=[0.1, 0.5]).reconnect
    verdicts = [policy.verdict(ClosedByServer(1012), n) for n in range(3)]
    assert verdicts == [Retry(0.1), Retry(0.5), Retry(0.5)]


@given(st.integers(0, 10_000), st.floats(0.0, 10.0), st.floats(1.0, 4.0), st.floats(0.0, 100.0))
def test_delays_lie_within_the_policys_bounds(
    attempt: int, first: float, factor: float, maximum: float
) -> None:
    """Contract invariant 9, complaint-11: full jitter, and no overflow."""
    policy = ReconnectPolicy(first=first, factor=factor, maximum=maximum)
    assert 0.0 <= policy.delay(attempt) <= maximum


@pytest.mark.parametrize("policy", [ReconnectPolicy, RejoinPolicy])
@pytest.mark.parametrize(
    "options", [{"first": -1}, {"maximum": math.nan}, {"colour": 1}, {"max_attempts": "3"}]
)
def test_a_wrong_policy_is_refused(policy: Any, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        policy(**options)


ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.binary(max_size=12),
    st.lists(st.text(max_size=3), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    st.builds(object),
)


def error_of(make: Callable[[], Any]) -> ConfigError | None:
    """Give our own error; any other fails the test."""
    try:
        make()
    except ConfigError as error:
        return error
    return None


@given(st.sampled_from([field.name for field in attrs.fields(Config)]), ANYTHING)
def test_validation_is_total(name: str, value: Any) -> None:
    """Whatever is given: a configuration, or our own error that names the option."""
    options: dict[str, Any] = {"uri": URI, name: value}
    error = error_of(lambda: repr(Config(**options)))
    # A list of delays becomes a policy, which speaks for itself.
    assert error is None or f"Config.{name}" in str(error) or "Policy.delays" in str(error)


@given(st.text(max_size=40))
def test_any_text_as_uri_gives_a_configuration_or_our_error(text: str) -> None:
    for uri in (text, f"ws://{text}", f"ws://host/{text}", f"ws://host?{text}"):
        error = error_of(partial(Config, uri))
        assert error is None or "Config.uri" in str(error)


@pytest.mark.parametrize(
    "uri",
    [
        "http://user:s3cr3t@host.test/x?token=s3cr3t",
        "ws://user:s3cr3t@/x?token=s3cr3t",
        "ws://user:s3cr3t@host.test/a b?token=s3cr3t",
        "ws://user:s3cr3t@host.test:port/?token=s3cr3t",
        "ws://user:s3cr3t@[::1/?token=s3cr3t",
        "ws://host.test/?token=s3cr3t#s3cr3t",
        "ws://host.test/#?token=s3cr3t",
        "ws://host.test/?vsn=1.0.0&token=s3cr3t",
        "user:s3cr3t@host.test?token=s3cr3t",
        "ws:user:s3cr3t@host.test?token=s3cr3t",
        "ws://user:a/s3cr3t@host.test/",
        "ws://user:a?s3cr3t@host.test/",
        "ws://user:a#s3cr3t@host.test/",
        "ws://user:s3cr3t",
        "ws://user:s3cr3t?x=host.test",
        b"ws://user:s3cr3t@host.test/",
        [b"ws://user:s3cr3t@host.test/"],
    ],
)
def test_a_refused_uri_does_not_show_its_secrets(uri: Any) -> None:
    for make in (Config, Config.of):
        with pytest.raises(ConfigError) as caught:
            make(uri)
        assert "s3cr3t" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("headers", [("authorization: s3cr3t", "")]),
        ("headers", [("s3cr3t", 7)]),
        ("headers", {"authorization": "s3cr3t\n"}),
        ("subprotocols", ["phoenix", "base64url.bearer.phx.s3cr3t="]),
        ("subprotocols", "s3cr3t"),
        ("auth_token", b"s3cr3t"),
        ("params", [("token", "s3cr3t")]),
        ("params", {"token": "s3cr3t\ud800"}),
        ("proxy", b"http://jo:s3cr3t@proxy.test"),
        ("proxy", "ftp://jo:s3cr3t@proxy.test"),
    ],
)
def test_a_refused_option_does_not_show_its_secret(name: str, value: Any) -> None:
    options: dict[str, Any] = {name: value}
    with pytest.raises(ConfigError) as caught:
        Config(URI, **options)
    assert "s3cr3t" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[(name, "yes") for name in ("tcp_keepalive", "log_payloads", "ssl_context", "transport")],
        *[("auth_token", token) for token in (7, b"token", "", {"a": 1})],
        ("subprotocols", "chat"),
        ("subprotocols", 7),
        ("reconnect", None),
        ("rejoin", None),
        ("reconnect", [True]),
        ("max_pause", math.nan),
        ("unjoined_ttl", -1),
        ("inbound_bytes", True),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_name(name: str, value: Any) -> None:
    options: dict[str, Any] = {name: value}
    with pytest.raises(ConfigError, match=rf"{name}|delays"):
        Config(URI, **options)


def test_a_key_that_is_no_string_is_refused() -> None:
    mapping: Any = {"uri": URI, 7: 1}
    with pytest.raises(ConfigError, match="7"):
        Config.of(mapping)


@pytest.mark.parametrize(
    "reason",
    [
        JoinRefused("no"),
        JoinRefused(None),
        JoinRefused(b"no"),
        JoinRefused(["reason"]),
        JoinRefused({"reason": ["unmatched topic"]}),
        JoinRefused({"reason": {}}),
        ChannelCrashed("odd"),
    ],
)
def test_the_shape_of_a_payload_never_trips_the_policy(reason: Any) -> None:
    """Row 36."""
    assert RejoinPolicy(delays=[1.0]).verdict("t", reason, 0) == Retry(1.0)


@pytest.mark.parametrize("retry_after", ["", "soon", "-5", "1.5", "Mon, 99 Foo", "\u0665" * 400])
def test_a_retry_after_that_is_none_is_passed_over(retry_after: str) -> None:
    headers = (("retry-after", retry_after),)
    failed = ConnectFailed(ConnectError("x", step="upgrade"), 503, headers)
    verdict = ReconnectPolicy().verdict(failed, 0)
    assert isinstance(verdict, Retry)
    assert 0.0 <= verdict.delay <= 3600.0
