"""Properties of whole clients: whether one keeps its contract, whatever its server does.

They need the extra ``testing``.
"""

from typing import Any

try:
    import hypothesis as hypothesis
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        "slipstream.testing.contracts needs hypothesis: pip install 'slipstream[testing]'",
        name=missing.name,
    ) from missing

from slipstream.client import SlipstreamClient
from slipstream.otp import ChildSpec, Start

from ._checks import check_any_payload, check_cancellation, check_no_blocking
from ._contract import ClientContract, client_contract
from ._mistake import CODES, ContractBrokenError, Mistake
from ._rules import (
    Rule,
    after,
    answered,
    bounded,
    invariant,
    never_before,
    only_while_joined,
    recovers,
    sent,
)
from ._watch import UNKNOWN, Watch

__all__ = [
    "CODES",
    "UNKNOWN",
    "ClientContract",
    "ContractBrokenError",
    "Mistake",
    "Rule",
    "after",
    "answered",
    "bounded",
    "check_any_payload",
    "check_cancellation",
    "check_no_blocking",
    "client_contract",
    "invariant",
    "never_before",
    "only_while_joined",
    "recovers",
    "sent",
]


def watch_for(spec: ChildSpec, contract: Any) -> Watch:
    """Make what watches the client of *spec*: by *contract*, ``True``, or rules."""
    if isinstance(contract, Watch):
        return contract
    if isinstance(contract, ClientContract):
        return contract.watch()
    start = spec.start
    client: Any = start.bound[0] if isinstance(start, Start) and start.bound else SlipstreamClient
    return Watch(client, [] if contract is True else contract)
