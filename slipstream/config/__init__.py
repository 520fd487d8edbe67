"""How a client connects: one frozen, validated value, and the two policies that come with it."""

from ._config import (
    Config,
    Headers,
    Params,
    check_headers as check_headers,
    check_params as check_params,
    check_token as check_token,
    safe_uri as safe_uri,
)
from ._policies import ReconnectPolicy, RejoinPolicy

__all__ = ["Config", "Headers", "Params", "ReconnectPolicy", "RejoinPolicy"]
