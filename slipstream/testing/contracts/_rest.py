"""The end of each example: a willing server, some outages, and an orderly stop."""

from typing import TYPE_CHECKING, Any, Final

import trio

from slipstream.errors import ServerGoneError
from slipstream.reasons import KILLED
from slipstream.testing._subject import CLIENT
from slipstream.testing._time import settle, time_passing, wait_until

from ._sizes import biggest, size_of

if TYPE_CHECKING:
    from slipstream.testing._socket_test import SocketTest

    from ._watch import Watch

__all__ = ["come_to_rest", "serve_for"]

_REST: Final = 130.0
"""Seconds in which a client has connected, by any sensible policy, and joined."""
_OUTAGES: Final = 3
_MANY: Final = 150
"""After so many outages what is kept of the newest hundred, say, does not grow any more."""


async def come_to_rest(watch: "Watch") -> None:
    """Let the client of *watch* do whatever it wants, lose its connection, and stop in order."""
    test = watch.test
    await test.resume()
    await serve_for(watch, _REST)
    for part in (_look, _check_growth, _stop):
        if not watch.broken:
            await part(watch)


async def _look(watch: "Watch") -> None:
    await settle()
    watch.at_rest()


async def serve_for(watch: "Watch", seconds: float) -> None:
    """Be a server that lets the client connect and join, for so many *seconds*."""
    test, deadline = watch.test, trio.current_time() + seconds
    while not watch.broken:
        await settle()
        changed = test.timeline.changed
        if await _serve_one(watch):
            continue
        watch.look()
        if trio.current_time() >= deadline or test.has_stopped():
            return
        await wait_until(changed, deadline)


async def _serve_one(watch: "Watch") -> bool:
    """Do the next thing that the client waits for, if there is any."""
    test = watch.test
    if test.connecting:
        await test.accept_connect()
        return True
    for topic in test.joining:
        await test.accept_join(topic, watch.welcomes.get(topic, watch.welcome))
        return True
    return False


async def _check_growth(watch: "Watch") -> None:
    """Look for what each outage leaves behind.

    Some keep the newest hundred of something. So it takes many outages to know; but only once.
    """
    if watch.test.has_stopped():
        return
    sizes = [_size(watch)]
    for count in range(1, _MANY):
        if not watch.test.socket.connected:
            return
        await watch.test.drop()
        await serve_for(watch, 40.0)
        if watch.broken or watch.test.has_stopped() or not watch.test.socket.connected:
            return
        sizes.append(_size(watch))
        if count >= _OUTAGES and sizes[-1] <= sizes[-2]:
            watch.grows = False if count > _OUTAGES else watch.grows
            return
        if count == _OUTAGES and watch.grows is False:
            return
        if count == _OUTAGES and watch.grows:
            break
    watch.grows = True
    state = _state(watch.test)
    watch.blame(
        "grows-with-reconnects",
        f"its state grows with every reconnect: {biggest(state)} by now. A client connects and joins more than once: begin anew, or put in place",
    )


def _state(test: "SocketTest") -> dict[str, Any]:
    return {**test.client.__dict__, "socket.assigns": test.assigns}


def _size(watch: "Watch") -> int:
    return sum(size_of(value) for value in _state(watch.test).values())


async def _stop(watch: "Watch") -> None:
    test = watch.test
    if test.has_stopped():
        return
    lives = len(test.ends)
    with time_passing():
        try:
            await test.supervisor.terminate_child(CLIENT)
        except ServerGoneError:
            return  # it ended by itself meanwhile, and took its supervisor along
    await settle()
    for reason in test.ends[lives:]:
        if reason == KILLED and not watch.broken:
            name = test.calls[-1].name
            watch.blame(
                "slow-stop",
                f"it had to be killed: {name} did not end within the seconds that its child specification "
                "gives it to stop (shutdown=…)",
            )
