"""Row 55: the kit says what servers say, and asserts as it is said to."""

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from slipstream import (
    ChannelReply,
    ClosedByClient,
    ClosedByServer,
    HeartbeatTimeout,
    TransportFailed,
)
from slipstream.reasons import NORMAL
from slipstream.testing import (
    ANY,
    Channel,
    Ok,
    PhoenixServer,
    ServerSocket,
    open_socket_test,
)
from tests.testing.support import connected, reply

from .stage import Lodger, Stage, in_the_kit


@in_the_kit(heartbeat_interval=30.0, heartbeat_timeout=10.0)
async def test_the_kit_gives_the_reasons_that_a_server_brings_about(test: Stage) -> None:
    """Row 55; SL-T6, SL-T8: and no others; there is no flag for tests in a configuration."""
    for reason in (
        ClosedByServer(1000),
        ClosedByServer(1012, "deploy"),
        HeartbeatTimeout(),
        TransportFailed(ConnectionResetError("gone")),
    ):
        await test.accept_connect()
        await test.disconnect(reason)
        call = await test.assert_callback("handle_disconnect")
        assert call.args == (reason,)
    await test.accept_connect()
    with pytest.raises(ValueError, match="ClosedByServer"):
        await test.disconnect(ClosedByClient())
    test.socket.disconnect()
    await test.assert_disconnect(1000)
    await test.assert_callback("handle_disconnect", ClosedByClient())
    await test.refute_disconnect()


class Crashing(Channel):
    """Crashes while somebody joins."""

    async def join(self, topic: str, payload: Any, socket: ServerSocket, /) -> Ok:
        raise ValueError("as asked")


async def test_a_channel_that_crashes_while_it_lets_in_refuses() -> None:
    """Row 55; SL-T5, SL-I14: with the reason that the kit's refuse_join has in its examples."""
    async with PhoenixServer({"rooms:*": Crashing}) as server, connected(server) as client:
        await client.send('["1","1","rooms:1","phx_join",{}]')
        assert await client.text() == reply(
            "1", "1", "rooms:1", '{"reason":"join crashed"}', "error"
        )


@in_the_kit()
async def test_the_kit_asserts_by_patterns_and_each_once(test: Stage) -> None:
    """SL-T1, SL-T4, SL-T7, SL-T9, SL-T10, SL-T11."""
    user = 7
    test.socket.join("t", {"user": user, "more": True})
    await test.accept_connect(lambda uri: uri.startswith("ws://"))
    await test.assert_callback("handle_connect")
    await test.assert_join("t", {"user": user})
    await test.accept_join("t")
    await test.refute_join("t")
    await test.push("t", "foo", {"bar": 1})
    await test.assert_callback("handle_message", "t", "foo", {"bar": int})
    await test.refute_push("t")
    ref = await test.socket.push("t", "ask", {"a": [1, 2]})
    push = await test.assert_push("t", "ask", {"a": [1, ANY]})
    assert push.ref == ref
    await test.reply(push, {"n": 1})
    await test.assert_callback("handle_reply", ref, ChannelReply("ok", {"n": 1}))
    await test.refute_push("t", "ask")
    await test.refute_leave("t")
    test.socket.leave("t")
    await test.assert_leave("t")
    await test.refute_leave("t")
    with pytest.raises(AssertionError, match="expected a leave of 't'"):
        await test.assert_leave("t")


class Transient(Lodger, restart="transient"):
    """Is not started again once it has stopped in order."""


@pytest.mark.parametrize("wrong", [None, "Lobby", object(), Channel])
async def test_the_kit_takes_clients_only(autojump_clock: MockClock, wrong: Any) -> None:
    """SL-T2."""
    with pytest.raises(TypeError, match="client"):
        async with open_socket_test(wrong):
            pass


def test_the_kit_says_that_a_client_has_ended() -> None:
    """SL-T3: whatever is asserted of it."""

    async def main() -> None:
        async with open_socket_test(Transient) as test:
            await test.accept_connect()
            await test.ref.stop()
            await test.assert_stopped(NORMAL)
            with pytest.raises(AssertionError, match="has stopped"):
                await test.assert_join("t")
            with pytest.raises(AssertionError, match="nobody to send to"):
                await test.push("t", "e")

    trio.run(main, clock=MockClock())
