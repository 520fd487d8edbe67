"""What a contract can be broken by, and the error that says so."""

from typing import Final

import attrs

__all__ = ["CODES", "ContractBrokenError", "Mistake"]

CODES: Final = {
    "crash": "a callback raises for something that a server may do",
    "init": "the client does not start",
    "never-awaited": "a coroutine was made, and nobody awaited it",
    "blocking-call": "a callback blocks the whole program",
    "stuck-callback": "a callback waits, and the client is deaf meanwhile",
    "unanswered-call": "a call gets no answer",
    "swallowed-cancel": "a callback goes on although it is being stopped",
    "slow-stop": "the client has to be killed",
    "tight-reconnect": "it connects again and again, without a delay",
    "tight-rejoin": "it joins again and again, without a delay",
    "push-before-join": "it pushes to what it has only just asked to join",
    "duplicate-timer": "each connection or join starts one more timer",
    "duplicate-task": "each connection or join starts one more task",
    "grows-with-reconnects": "each reconnect leaves something behind in the state",
    "shared-state": "the state of one client is that of all",
    "changed-payload": "it changes a payload that is not its own",
    "unknown-event": "an event that it does not know makes it give up",
    "task-left-behind": "it leaves a task behind",
    "framework": "the callbacks did not come as they have to: the fault is most likely the library's",
    "rule": "a rule of your own is broken",
}
"""What a contract finds, by code. ``allow=`` takes codes."""


@attrs.frozen
class Mistake:
    """Something that breaks the contract.

    Attributes:
        code: which of ``CODES``.
        text: what exactly it is.
        cause: the exception, if there was one.
    """

    code: str
    text: str
    cause: BaseException | None = attrs.field(default=None, eq=False)


class ContractBrokenError(AssertionError):
    """A client breaks its contract.

    Attributes:
        mistake: how.
    """

    __module__ = "slipstream.testing.contracts"  # as pytest shows it

    def __init__(self, mistake: Mistake, client: str, more: str = "") -> None:
        super().__init__(f"{client} breaks its contract [{mistake.code}]: {mistake.text}{more}")
        self.mistake = mistake
