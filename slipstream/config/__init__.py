"""How a client connects: one frozen, validated value, and the two policies that come with it."""

from ._checks import (
    check_headers as check_headers,
    check_params as check_params,
    check_subprotocols as check_subprotocols,
    check_token as check_token,
    check_unix_socket as check_unix_socket,
    safe_uri as safe_uri,
)
from ._config import Config, Headers, Params
from ._overflow import Coalesce, OnOverflow, coalesce
from ._policies import ReconnectPolicy, RejoinPolicy, is_over_limit as is_over_limit
from ._proxies import (
    ENVIRONMENT as ENVIRONMENT,
    Proxy as Proxy,
    parse_proxy as parse_proxy,
    proxy_from_environment as proxy_from_environment,
)
from ._rules import CAUSES, Between, Cause, Grow, Refresh, RetryAfter, Rule

__all__ = [
    "CAUSES",
    "Between",
    "Cause",
    "Coalesce",
    "Config",
    "Grow",
    "Headers",
    "OnOverflow",
    "Params",
    "ReconnectPolicy",
    "Refresh",
    "RejoinPolicy",
    "RetryAfter",
    "Rule",
    "coalesce",
]
