"""What one version of Phoenix, on one web server, does otherwise than another."""

import math
from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

import attrs

from slipstream.errors import ConfigError

__all__ = ["Like", "Profile", "check_limit", "find_profile"]

Like: TypeAlias = Literal["1.8.12/cowboy", "1.8.12/bandit", "1.8.3/cowboy", "1.8.3/bandit"]
"""The servers whose frames are known from recordings: a version of Phoenix, on a web server."""


@attrs.frozen(kw_only=True)
class Profile:
    """Everything in which recorded servers differ.

    Attributes:
        disconnect_code: how a ``disconnect`` broadcast closes.
        crash_payload: what a ``phx_error`` carries.
        takes_null_join_ref: whether a JSON push without a join_ref reaches the channel.
        max_channels: how many topics one connection may join.
        idle_code: how a connection is closed that was silent for too long.
        accepting: headers of every 101.
        refusing: headers of every other response.
    """

    disconnect_code: int
    crash_payload: Mapping[str, Any]
    takes_null_join_ref: bool
    max_channels: float
    idle_code: int
    accepting: Mapping[str, str]
    refusing: Mapping[str, str]


_CACHE: Final = {"cache-control": "max-age=0, private, must-revalidate"}
_COWBOY: Final = {**_CACHE, "server": "Cowboy"}
_VERSIONS: Final[dict[str, dict[str, Any]]] = {
    "1.8.12": {
        "disconnect_code": 1001,
        "crash_payload": {"reason": "channel_crash"},
        "takes_null_join_ref": True,
        "max_channels": 100,
    },
    "1.8.3": {
        "disconnect_code": 1000,
        "crash_payload": {},
        "takes_null_join_ref": False,
        "max_channels": math.inf,
    },
}
_WEB_SERVERS: Final[dict[str, dict[str, Any]]] = {
    "cowboy": {"idle_code": 1000, "accepting": _COWBOY, "refusing": _COWBOY},
    "bandit": {
        "idle_code": 1002,
        "accepting": _CACHE,
        "refusing": {**_CACHE, "vary": "accept-encoding"},
    },
}
_PROFILES: Final = {
    f"{version}/{web_server}": Profile(**of_version, **of_web_server)
    for version, of_version in _VERSIONS.items()
    for web_server, of_web_server in _WEB_SERVERS.items()
}


def find_profile(like: str) -> Profile:
    """Give the profile of the server that is named *like* this.

    Raises:
        ConfigError: if there is none.
    """
    try:
        return _PROFILES[like]
    except (KeyError, TypeError):
        accepted = ", ".join(map(repr, _PROFILES))
        raise ConfigError(f"like is {like!r}; accepted are {accepted}") from None


def check_limit(name: str, value: Any, *, least: float) -> None:
    """Check a limit of a server: a number, *least* or more.

    Raises:
        ConfigError: if it is none.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not value >= least:
        raise ConfigError(f"{name} is {value!r}; accepted are {least:g} and more, up to math.inf")
