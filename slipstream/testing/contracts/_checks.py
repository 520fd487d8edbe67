"""Checks of single callbacks."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

import trio
from hypothesis import HealthCheck, Verbosity, given, settings, strategies as st
from trio.testing import MockClock

from slipstream.client import SlipstreamClient
from slipstream.interfaces import Payload
from slipstream.testing._leaktight import open_leaktight
from slipstream.testing._open_test import URI
from slipstream.testing._socket_test import SocketTest
from slipstream.testing._time import settle
from slipstream.testing.strategies import json_payloads, json_values

from ._contract import quiet
from ._mistake import ContractBrokenError
from ._server import Do
from ._watch import Watch

__all__ = ["check_any_payload", "check_cancellation", "check_no_blocking"]

__tracebackhide__ = True  # pytest shows what was found, not how

_MOST: Final = 500
"""Checkpoints; a callback with more of them goes on for ever."""
_BY_HAND: Final = ("framework",)
"""What is called by hand comes in no order."""
_LONG: Final = 300.0
"""Seconds of virtual time after which a callback has returned, or never will."""


def check_cancellation(
    client: type[SlipstreamClient],
    callback: str,
    *args: Any,
    config: Any = URI,
    joined: Sequence[str] = (),
) -> int:
    """Check that *callback* ends wherever it is stopped: at each of its checkpoints in turn.

    Each time a new client connects, joins the topics *joined*, and has the callback called with
    *args* (and the socket); for ``handle_call`` that is the request. At the next checkpoint it is
    stopped as its supervisor stops it, and cancelled at once.

    Returns:
        How many checkpoints there were; without any there was nothing to check.

    Raises:
        ContractBrokenError: if it goes on, crashes, or does not end.
    """
    for count in range(1, _MOST):
        watch = Watch(client, allow=_BY_HAND)
        if not _run(watch, config, partial(_stopped_at, watch, count, callback, args, joined)):
            return count - 1
    raise AssertionError(f"{callback} has more than {_MOST} checkpoints")


async def _stopped_at(
    watch: Watch,
    count: int,
    callback: str,
    args: tuple[Any, ...],
    joined: Sequence[str],
    test: SocketTest,
) -> bool:
    """Stop the client at the checkpoint *count* of a callback; tell whether it came to it."""
    token, stopped = trio.lowlevel.current_trio_token(), trio.Event()

    def stepped(step: int) -> None:
        if step == count:
            token.run_sync_soon(stop)

    def stop() -> None:
        if watch.server is not None:
            watch.server.stop_now()
        stopped.set()

    await _prepare(test, joined)
    watch.target, watch.stepped = callback, stepped
    _call(test, callback, args)
    await _returned(test, callback)
    return stopped.is_set()


def check_no_blocking(
    client: type[SlipstreamClient],
    callback: str,
    *args: Any,
    config: Any = URI,
    joined: Sequence[str] = (),
) -> None:
    """Check that *callback* does not block the program: by ``time.sleep``, files, sockets, locks.

    It is called as :func:`check_cancellation` does, and runs to its end. What takes less than ten
    milliseconds is not noticed; nor is mere calculation.

    Raises:
        ContractBrokenError: if it blocks; the message names the call and its line.
    """
    scenario = partial(_once, callback, args, joined)
    with suppress(ContractBrokenError):
        _run(Watch(client, allow=_BY_HAND), config, scenario)
        return
    # A machine may stop for once; and the second time the call is named.
    _run(Watch(client, allow=_BY_HAND, names_calls=True), config, scenario)


async def _once(
    callback: str, args: tuple[Any, ...], joined: Sequence[str], test: SocketTest
) -> bool:
    await _prepare(test, joined)
    _call(test, callback, args)
    await _returned(test, callback)
    return True


def check_any_payload(
    client: type[SlipstreamClient],
    topic: str,
    event: str,
    *,
    config: Any = URI,
    payloads: st.SearchStrategy[Payload] | None = None,
    max_examples: int = 100,
) -> None:
    """Check that *client* outlives *event* on *topic*, whatever its payload is.

    Args:
        client: the class.
        topic: which it joins when it connects.
        event: the event.
        config: what its ``init`` gets.
        payloads: by default any JSON: mostly objects, but also texts, numbers, lists, null.
        max_examples: how many of them to try.

    Raises:
        ContractBrokenError: for the least payload that makes it crash.
    """
    drawn: st.SearchStrategy[Any] = (
        json_payloads() | json_values() if payloads is None else payloads
    )

    @settings(
        max_examples=max_examples,
        deadline=None,
        report_multiple_bugs=False,
        verbosity=Verbosity.quiet,
        suppress_health_check=[HealthCheck.too_slow],
        database=None,
    )
    @given(drawn)
    def outlives(payload: Any) -> None:
        _run(Watch(client), config, partial(_told, topic, event, payload))

    outlives()


async def _told(topic: str, event: str, payload: Any, test: SocketTest) -> bool:
    await _prepare(test, [topic])
    await test.push(topic, event, payload)
    return True


# -- inside


def _run(watch: Watch, config: Any, scenario: Callable[[SocketTest], Any]) -> Any:
    async def run() -> Any:
        try:
            async with open_leaktight(
                watch.client, config, contract=watch, interrupt_after=0.001
            ) as test:
                result = await scenario(test)
                watch.check()
                watch.over = True
                return result
        except AssertionError:
            watch.check()
            raise

    with quiet():
        return trio.run(run, clock=MockClock(autojump_threshold=0))


async def _prepare(test: SocketTest, joined: Sequence[str]) -> None:
    await test.accept_connect()
    for topic in joined:
        await test.accept_join(topic)


def _call(test: SocketTest, callback: str, args: tuple[Any, ...]) -> None:
    match callback:
        case "handle_call":
            test.ref.send_request(*args)
        case "handle_cast":
            test.ref.cast(*args)
        case "handle_info":
            test.ref.send(*args)
        case _:
            test.ref.send(Do(callback, args))


async def _returned(test: SocketTest, callback: str) -> None:
    """Wait until the last call of *callback* has ended."""
    deadline = trio.current_time() + _LONG
    await settle()
    while any(call.name == callback and not call.done for call in test.calls):
        if trio.current_time() >= deadline or test.crashes:
            return
        await trio.sleep(1.0)
        await settle()
