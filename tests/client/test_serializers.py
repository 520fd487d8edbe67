"""A client speaks what its serializer speaks, from the URI to the callback."""

from typing import Any

import pytest

from slipstream import EncodeError
from slipstream.interfaces import Serializer
from slipstream.protocol import V1Serializer, V2Serializer
from tests.client.support import ServerEnd, harness, settle, virtual
from tests.protocol.packed import Packed

SERIALIZERS = [
    (V1Serializer(), V1Serializer(role="server")),
    (V2Serializer(), V2Serializer(role="server")),
    (Packed(), Packed()),
]


@pytest.mark.parametrize(("serializer", "peer"), SERIALIZERS)
def test_everything_goes_through_a_serializer_of_ones_own(
    serializer: Serializer, peer: Serializer
) -> None:
    """SL-I1, I3, I5, I7, I8, I9, I12, I13, JS-K1, JS-K2, JS-K4, JS-K5; d49."""

    async def ask(client: Any, socket: Any) -> Any:
        return await socket.request("t", "ask", {"n": 1})

    async def scenario() -> None:
        async with harness(serializer=serializer, heartbeat_interval=1000.0) as h:
            end = ServerEnd(await h.network.accept(), peer)
            assert f"vsn={serializer.vsn}" in h.network.requests[0].uri
            await h.joined("t", end)
            answer: list[Any] = []
            h.server.start_soon(lambda: _keep(answer, ask(None, h.socket)))
            question = await end.next("ask")
            assert (question.join_ref, question.payload) == ("1", {"n": 1})
            end.reply(question, "created", {"yes": [True]})
            end.broadcast("t", "told", {"all": "π"})
            await settle()
            assert (answer[0].status, answer[0].response) == ("created", {"yes": [True]})
            assert h.of("handle_message") == [("t", "told", {"all": "π"})]
            end.say("1", None, "t", "phx_error", {"reason": "channel_crash"})
            again = await end.accept_join()
            end.say(again.join_ref, None, "t", "phx_close")
            await settle()
            assert [type(reason).__name__ for _, reason in h.of("handle_topic_close")] == [
                "ChannelCrashed", "ChannelClosed",
            ]  # fmt: skip
            h.socket.rejoin("t")
            await end.accept_join()
            await settle()
            h.socket.leave("t")
            end.reply(await end.next("phx_leave"))
            await settle()
            assert h.of("handle_leave") == [("t",)]
            end.reply(await end.next("heartbeat"))
            assert h.ref.health().counters == {}

    virtual(scenario)


async def _keep(box: list[Any], awaitable: Any) -> None:
    box.append(await awaitable)


@pytest.mark.parametrize(("serializer", "peer"), SERIALIZERS[1:])
def test_binary_payloads_go_both_ways(serializer: Serializer, peer: Serializer) -> None:
    """SL-I10, Y8; complaint-27, d50."""

    async def scenario() -> None:
        async with harness(serializer=serializer) as h:
            end = ServerEnd(await h.network.accept(), peer)
            await h.joined("t", end)
            await h.socket.push("t", "bytes", b"\x00\xff")
            assert (await end.next("bytes")).payload == b"\x00\xff"
            end.broadcast("t", "bytes", b"\xff\x00")
            await settle()
            assert h.of("handle_message") == [("t", "bytes", b"\xff\x00")]

    virtual(scenario)


def test_a_payload_that_has_no_place_in_it_is_refused_at_once() -> None:
    """SL-Z2; d50."""

    async def scenario() -> None:
        async with harness(serializer=V1Serializer()) as h:
            end = ServerEnd(await h.network.accept(), V1Serializer(role="server"))
            await h.joined("t", end)
            with pytest.raises(EncodeError, match="V1 serializer knows no binary"):
                await h.socket.push("t", "bytes", b"x")
            with pytest.raises(EncodeError, match="V1 serializer knows no binary"):
                h.socket.join("other", b"x")

    virtual(scenario)
