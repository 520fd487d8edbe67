"""What a client has itself told later."""

from typing import Any

import trio

from slipstream import SlipstreamClient, Socket
from slipstream.testing import open_socket_test
from slipstream.testing.otp import advance
from tests.otp.support import run_virtually


class Timed(SlipstreamClient):
    """Asks to be told something after two seconds, and something else every three."""

    async def init(self, argument: Any, socket: Socket, /) -> None:
        self.told: list[tuple[float, str]] = []
        self.once = self.send_after(2.0, "once")
        self.again = self.send_every(3.0, "again")
        self.never = self.send_after(5.0, "never")

    async def handle_info(self, message: Any, socket: Socket, /) -> None:
        self.told.append((trio.current_time(), message))


def test_a_client_is_told_what_it_asked_to_be_told_later() -> None:
    async def scenario() -> None:
        async with open_socket_test(Timed) as test:
            timed: Any = test.client
            timed.never.cancel()
            await advance(7.0)
            assert timed.told == [(2.0, "once"), (3.0, "again"), (6.0, "again")]

    run_virtually(scenario)
