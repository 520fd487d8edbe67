"""Configurations of clients."""

from typing import Any, Final

from hypothesis import strategies as st

from slipstream.config import Config

__all__ = ["configs"]

_DURATIONS: Final = (
    "connect_timeout",
    "write_timeout",
    "join_timeout",
    "push_timeout",
    "leave_timeout",
    "provider_timeout",
    "close_timeout",
    "heartbeat_timeout",
    "max_seconds",
    "unjoined_ttl",
    "max_pause",
)
_COUNTS: Final = ("outbound_bytes", "max_fragments", "inbound_limit", "inbound_bytes")
_CHOICES: Final[dict[str, list[Any]]] = {
    "connection_restart": ["permanent", "transient", "temporary"],
    "unjoined_overflow": ["error", "drop_oldest", "block"],
    "on_undecodable": ["ignore", "close"],
    "on_overflow": ["pause", "drop_oldest", "disconnect"],
    "tcp_keepalive": [True, False],
    "log_payloads": [False, True],
}


def configs(
    uri: str | st.SearchStrategy[str] = "ws://server.test/socket/websocket", **options: Any
) -> st.SearchStrategy[Config]:
    """Draw configurations, any of whose options may be other than its default.

    *options* are fixed to a value, or drawn from the strategy that is given. What belongs to a
    deployment (credentials, TLS, proxies, compression, serializers) is not drawn unless so.
    Shrinks to the defaults.

    >>> @given(configs(join_timeout=5.0, log_payloads=st.just(False)))
    ... def test_what_is_given_stays(config):
    ...     assert (config.join_timeout, config.log_payloads) == (5.0, False)
    >>> test_what_is_given_stays()
    """
    seconds = st.sampled_from([0.05, 0.5, 1.0, 5.0, 60.0]) | st.floats(0.01, 600.0)
    delays = st.lists(st.sampled_from([0.0, 0.5, 1.0, 30.0]), min_size=1, max_size=3)
    drawn: dict[str, st.SearchStrategy[Any]] = {
        **dict.fromkeys(_DURATIONS, seconds),
        **dict.fromkeys(_COUNTS, st.integers(1, 1 << 20)),
        **{name: st.sampled_from(values) for name, values in _CHOICES.items()},
        **dict.fromkeys(["max_restarts", "unjoined_limit"], st.integers(0, 300)),
        **dict.fromkeys(["reconnect", "rejoin"], delays),
        "heartbeat_interval": st.none() | seconds,
        "max_message_size": st.integers(1 << 10, 16 << 20),
        "params": st.dictionaries(st.text("abü &", min_size=1, max_size=3), st.text(max_size=5)),
        "headers": st.dictionaries(st.sampled_from(["x-a", "x-b"]), st.text("ab", max_size=3)),
    }
    fixed = {name: _strategy(value) for name, value in options.items()}
    optional = {name: strategy for name, strategy in drawn.items() if name not in fixed}

    def build(address: str, chosen: dict[str, Any]) -> Config:
        interval = chosen.get("heartbeat_interval", 30.0)
        if interval and "heartbeat_timeout" not in options:
            chosen["heartbeat_timeout"] = min(chosen.get("heartbeat_timeout", 10.0), interval)
        return Config(address, **chosen)

    return st.builds(build, _strategy(uri), st.fixed_dictionaries(fixed, optional=optional))


def _strategy(value: Any) -> st.SearchStrategy[Any]:
    return value if isinstance(value, st.SearchStrategy) else st.just(value)  # pyright: ignore[reportUnknownVariableType]  # of anything
