"""What a client of ours makes of each server: other codes and payloads, and the same way back."""

from typing import Any

import pytest

from slipstream.client import SlipstreamClient, Socket, open_socket
from slipstream.config import Config, ReconnectPolicy
from slipstream.errors import TopicClosedError
from slipstream.otp import open_supervisor
from slipstream.reasons import ChannelCrashed, ClosedByServer
from slipstream.testing import PhoenixServer

from .support import Room
from .test_profiles import LIKES

ROOMS = {"rooms:*": Room}


@pytest.mark.parametrize("like", LIKES)
async def test_a_crash_and_a_close_are_told_as_this_server_tells_them(like: Any) -> None:
    old, bandit = "1.8.3" in like, "bandit" in like
    async with PhoenixServer(ROOMS, like=like, idle_timeout=0.8) as server:
        config = Config(server.url, heartbeat_interval=None)
        async with open_socket(config, reconnect=False) as socket:
            socket.join("rooms:1", rejoin=False)
            await socket.await_join("rooms:1")
            await socket.push("rooms:1", "crash", {})
            with pytest.raises(TopicClosedError) as caught:
                await socket.await_message("rooms:1", "never")
            assert caught.value.reason == ChannelCrashed({} if old else {"reason": "channel_crash"})
            assert await socket.await_disconnect() == ClosedByServer(1002 if bandit else 1000, "")
        async with open_socket(config, reconnect=False) as socket:
            server.disconnect()
            assert await socket.await_disconnect() == ClosedByServer(1000 if old else 1001, "")


class Staying(SlipstreamClient):
    """Asks for its topic once."""

    async def init(self, argument: Config, socket: Socket, /) -> None:
        socket.connect(argument)
        socket.join("rooms:1")


@pytest.mark.parametrize("like", LIKES)
async def test_a_client_comes_back_from_what_is_no_fault_of_its(like: Any) -> None:
    """complaint-20."""
    policy = ReconnectPolicy(first=0.01, factor=1.0, maximum=0.01)
    async with PhoenixServer(ROOMS, like=like) as server:
        async with open_supervisor([(Staying, Config(server.url, reconnect=policy))]):
            for code in (server.profile.disconnect_code, server.profile.idle_code, None):
                left = await server.wait_joined("rooms:1", within=10)
                if code is None:
                    server.drop()
                else:
                    server.close(code)
                await left.socket.ref.wait()
            await server.wait_joined("rooms:1", within=10)
