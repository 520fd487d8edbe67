from typing import Any

import pytest

from slipstream.errors import ConfigError
from slipstream.transport._attempt import parse_target
from tests.transport.support import Connection, connect, failed, serving


@pytest.mark.parametrize(
    ("uri", "host", "port", "secure", "resource", "authority"),
    [
        ("ws://h", "h", 80, False, "/", "h"),
        ("wss://h/a?b=c", "h", 443, True, "/a?b=c", "h"),
        ("ws://h:4000/a", "h", 4000, False, "/a", "h:4000"),
        ("ws://h:443", "h", 443, False, "/", "h:443"),
        ("wss://[::1]:4000", "::1", 4000, True, "/", "[::1]:4000"),
    ],
)
def test_a_uri_is_taken_apart(
    uri: str, host: str, port: int, secure: bool, resource: str, authority: str
) -> None:
    target = parse_target(uri)
    assert (target.host, target.port, target.secure) == (host, port, secure)
    assert (target.resource, target.authority) == (resource, authority)


def test_credentials_in_a_uri_are_found_and_never_shown() -> None:
    target = parse_target("wss://jo%40x:s%3Acret@h/a?token=t0ken")
    assert target.credentials == "jo@x:s:cret"
    assert target.authority == "h"
    assert "cret" not in repr(target)
    assert "t0ken" not in repr(target)


@pytest.mark.parametrize(
    "uri",
    [
        "http://h/",
        "ws://",
        "ws://h:99999/",
        "ws://h:0/",
        "ws:///a?token=secret",
        "h",
        "ws://u:secret/@h/",
        "ws://u:[secret]@h/",
    ],
)
async def test_a_uri_that_leads_nowhere_fails_in_step_uri(uri: str) -> None:
    """h09: and its query stays out of the message."""
    error = await failed(uri)
    assert error.step == "uri"
    assert isinstance(error.__cause__, ValueError)
    assert "secret" not in str(error)


@pytest.mark.parametrize("where", ["host", "path", "query", "user"])
@pytest.mark.parametrize("char", ["\r", "\n", "\r\nX: y", "\0", " ", "\t", "\x7f", "\u2028", "é"])
async def test_what_could_inject_in_a_uri_is_refused_before_anything_is_sent(
    char: str, where: str
) -> None:
    """h09."""
    async with serving(Connection.read_end) as server:
        at = f"127.0.0.1:{server.port}"
        uris = {
            "host": f"ws://{at}{char}/?secret",
            "path": f"ws://{at}/a{char}b?secret",
            "query": f"ws://{at}/?secret{char}b",
            "user": f"ws://secret{char}:b@{at}/",
        }
        error = await failed(uris[where])
        assert error.step == "uri"
        assert "secret" not in str(error)
        assert await server.results() == []


@pytest.mark.parametrize(
    "options",
    [
        *[
            {"headers": ((name, value),)}
            for name, value in [
                ("X-Key", "secret\r\nInjected: b"),
                ("X-Key", "secret\n"),
                ("X-Key", "secret\0"),
                ("X-Key", " secret"),
                ("X-Key", "secret\u010a"),
                ("X-Key\r\nInjected", "secret"),
                ("X-Key\0", "secret"),
                ("X Key", "secret"),
                ("", "secret"),
                ("Host", "secret"),
                ("X-Key", b"secret"),
            ]
        ],
        {"headers": ("secret",)},
        {"headers": 7},
        *[
            {"subprotocols": ("phoenix", name)}
            for name in [
                "secret\r\nInjected: b",
                "secret\n",
                "secret\0",
                "secret, other",
                "secret other",
                "",
                "sécret",
                b"secret",
            ]
        ],
    ],
)
async def test_what_could_inject_in_a_head_is_refused_before_anything_is_sent(
    options: dict[str, Any],
) -> None:
    """h09: a request made by hand has not been checked by a configuration."""
    async with serving(Connection.read_end) as server:
        error = await failed(server.request().uri, **options)
        assert error.step == "upgrade"
        assert isinstance(error.__cause__, ConfigError)
        assert "secret" not in str(error)
        assert await server.results() == []


async def test_a_token_as_a_subprotocol_may_hold_all_of_base64() -> None:
    async def script(connection: Connection) -> str | None:
        await connection.accept()
        return connection.header("Sec-WebSocket-Protocol")

    async with serving(script) as server:
        request = server.request(subprotocols=("phoenix", "base64url.bearer.phx.a/b+c"))
        async with connect(request):
            pass
        assert await server.result() == "phoenix, base64url.bearer.phx.a/b+c"
