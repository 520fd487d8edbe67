import pytest

from slipstream.transport._attempt import parse_target
from tests.transport.support import failed


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
    "uri", ["http://h/", "ws://", "ws://h:99999/", "ws:///a?token=secret", "h"]
)
async def test_a_uri_that_leads_nowhere_fails_in_step_uri(uri: str) -> None:
    """h09: and its query stays out of the message."""
    error = await failed(uri)
    assert error.step == "uri"
    assert isinstance(error.__cause__, ValueError)
    assert "secret" not in str(error)
