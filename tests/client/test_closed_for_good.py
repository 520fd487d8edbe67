"""A topic that is lost for good is not lost in silence."""

from collections.abc import Awaitable, Callable

import pytest

from slipstream import SlipstreamClient, Socket
from slipstream.testing import SocketTest, open_socket_test
from tests.otp.support import run_virtually


class Silent(SlipstreamClient):
    """Overrides nothing that is told of topics."""

    async def handle_connect(self, socket: Socket, /) -> None:
        socket.join("t")


class Told(Silent):
    """Sees to it itself."""

    async def handle_topic_close(self, *_: object) -> None:
        pass


async def refuse(test: SocketTest) -> None:
    await test.refuse_join("t", {"reason": "unauthorized", "token": "secret"})


async def close(test: SocketTest) -> None:
    await test.accept_join("t")
    await test.close_topic("t")


async def crash(test: SocketTest) -> None:
    await test.accept_join("t")
    await test.crash_topic("t")


async def leave(test: SocketTest) -> None:
    await test.accept_join("t")
    test.socket.leave("t")
    await test.assert_leave("t")


@pytest.mark.parametrize(
    ("client", "end", "why"),
    [
        (Silent, refuse, "JoinRefused"),
        (Silent, close, "ChannelClosed"),
        (Silent, crash, None),
        (Silent, leave, None),
        (Told, close, None),
    ],
)
def test_a_warning_tells_of_a_topic_that_is_closed_for_good(
    client: type[Silent],
    end: Callable[[SocketTest], Awaitable[None]],
    why: str | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        async with open_socket_test(client) as test:
            await test.accept_connect()
            await end(test)
            await test.advance(1.0)

    run_virtually(scenario)
    told = [(each.levelname, each.getMessage()) for each in caplog.records]
    line = f"<ClientRef client>: 't' is closed and will not be joined again: {why}"
    assert told == ([] if why is None else [("WARNING", line)])
