"""A client speaks what its serializer speaks, from the URI to the callback."""

from typing import Any

import pytest
import trio

from slipstream import ChannelClosed, ChannelCrashed, EncodeError, Socket
from slipstream.interfaces import Serializer
from slipstream.protocol import V1Serializer, V2Serializer
from tests.client.kit import Member, OpenTest, config
from tests.protocol.packed import Packed

SERIALIZERS = [
    (V1Serializer(), None),
    (V2Serializer(), None),
    (Packed(), Packed()),
]
"""Each with the server's, where the kit does not know it."""


@pytest.mark.parametrize(("serializer", "peer"), SERIALIZERS)
async def test_everything_goes_through_a_serializer_of_ones_own(
    socket_test: OpenTest, serializer: Serializer, peer: Serializer | None
) -> None:
    """SL-I1, I3, I5, I7, I8, I9, I12, I13, JS-K1, JS-K2, JS-K4, JS-K5; d49."""

    async def ask(client: Any, socket: Socket) -> Any:
        return await socket.request("t", "ask", {"n": 1})

    options = config(serializer=serializer, heartbeat_interval=1000.0)
    async with socket_test(Member, options, serializer=peer) as test:
        await test.accept_connect(lambda uri: f"vsn={serializer.vsn}" in uri)
        await test.accept_join("t")
        asking = await test.start_inside(ask)
        question = await test.assert_push("t", "ask", {"n": 1})
        assert question.join_ref == "1"
        await test.reply(question, {"yes": [True]}, status="created")
        answer = await asking.outcome(within=0.0)
        assert (answer.status, answer.response) == ("created", {"yes": [True]})
        await test.broadcast("t", "told", {"all": "π"})
        assert test.called("handle_message") == [("t", "told", {"all": "π"})]
        await test.crash_topic("t")
        await test.accept_join("t", within=5.0)
        await test.close_topic("t")
        assert test.called("handle_topic_close") == [
            ("t", ChannelCrashed({"reason": "channel_crash"})),
            ("t", ChannelClosed()),
        ]
        test.socket.rejoin("t")
        await test.accept_join("t")
        test.socket.leave("t")
        await test.assert_leave("t")
        assert test.called("handle_leave") == [("t",)]
        await test.assert_heartbeat(within=1000.0)
        assert trio.current_time() == 1000.0
        await test.refute_callback("handle_disconnect", within=30.0)  # it was answered
        counters = test.ref.health().counters
        assert counters["discarded"] == 1  # the close of the channel, behind the reply to the leave
        assert not {"undecodable", "stale", "dropped"} & counters.keys()


@pytest.mark.parametrize(("serializer", "peer"), SERIALIZERS[1:])
async def test_binary_payloads_go_both_ways(
    socket_test: OpenTest, serializer: Serializer, peer: Serializer | None
) -> None:
    """SL-I10, Y8; complaint-27, d50."""
    async with socket_test(Member, config(serializer=serializer), serializer=peer) as test:
        await test.connect_and_join("t")
        await test.socket.push("t", "bytes", b"\x00\xff")
        await test.assert_push("t", "bytes", b"\x00\xff")
        await test.broadcast("t", "bytes", b"\xff\x00")
        assert test.called("handle_message") == [("t", "bytes", b"\xff\x00")]


async def test_a_payload_that_has_no_place_in_it_is_refused_at_once(socket_test: OpenTest) -> None:
    """SL-Z2; d50."""
    async with socket_test(Member, config(serializer=V1Serializer())) as test:
        await test.connect_and_join("t")
        with pytest.raises(EncodeError, match="V1 serializer knows no binary"):
            await test.socket.push("t", "bytes", b"x")
        with pytest.raises(EncodeError, match="V1 serializer knows no binary"):
            test.socket.join("other", b"x")
