"""Replies as types of the user's."""

from typing import Any

import msgspec
import pytest

from slipstream import ChannelReply, DecodeError, LinkError, ReplyError, Socket
from slipstream.testing import SocketTest
from tests.client.kit import Member, OpenTest, config


class Item(msgspec.Struct):
    price: float


class Order(msgspec.Struct):
    items: list[Item]


class Tree(msgspec.Struct):
    below: "Tree | None" = None


GOOD = {"items": [{"price": 1}, {"price": 2.5}]}
BAD = {"items": [{"price": 1}, {"price": 2}, {"price": "3"}]}
PATH = "response.items[2].price: expected float, got str"


def test_a_reply_decodes_into_a_type() -> None:
    assert ChannelReply("ok", GOOD).decode(Order) == Order([Item(1.0), Item(2.5)])
    assert ChannelReply("error", {"price": 1}).decode(Item) == Item(1.0)
    assert ChannelReply("ok", b"raw").decode(bytes) == b"raw"
    with pytest.raises(DecodeError) as caught:
        ChannelReply("ok", BAD).decode(Order)
    assert (str(caught.value), caught.value.path) == (PATH, "response.items[2].price")
    with pytest.raises(DecodeError, match=r"key of response\[...\]: expected int, got str"):
        ChannelReply("ok", {"items": {"one": 1}}).decode(dict[str, dict[int, int]])
    with pytest.raises(DecodeError, match="response: expected object, got bytes"):
        ChannelReply("ok", b"raw").decode(Order)


def test_a_response_may_be_nested_as_deep_as_json_gets() -> None:
    deep: dict[str, Any] = {}
    for _ in range(100_000):  # how deep is too deep differs between Pythons
        deep = {"below": deep}
    with pytest.raises(DecodeError, match="response: is nested too deeply"):
        ChannelReply("ok", deep).decode(Tree)


async def ask(test: SocketTest, status: str, response: Any) -> Any:
    """Have an order asked for, answer it, and give what comes of it."""
    asking = await test.start_inside(
        lambda client, socket: socket.request("t", "order", response=Order)
    )
    await test.reply(await test.assert_push("t", "order"), response, status=status)
    return await asking.outcome(within=0.0)


async def test_a_request_gives_the_response_as_the_type_asked_for(socket_test: OpenTest) -> None:
    async with socket_test(Member, config()) as test:
        await test.connect_and_join("t")
        assert await ask(test, "ok", GOOD) == Order([Item(1.0), Item(2.5)])
        with pytest.raises(DecodeError) as misfit:
            await ask(test, "ok", BAD)
        assert str(misfit.value) == PATH
        with pytest.raises(ReplyError) as caught:
            await ask(test, "error", {"reason": "secret"})
        refused = caught.value
        assert str(refused) == "'order' on 't' was answered with status 'error'"
        assert refused.reply == ChannelReply("error", {"reason": "secret"})
        assert (refused.topic, refused.event) == ("t", "order")


async def test_a_refusal_that_leaves_a_callback_ends_that_callback_only(
    socket_test: OpenTest, caplog: pytest.LogCaptureFixture
) -> None:
    class Asking(Member):
        async def handle_message(
            self, topic: str, event: str, payload: Any, socket: Socket, /
        ) -> None:
            await socket.request("t", "order", response=Order)

    async with socket_test(Asking, config()) as test:
        await test.connect_and_join("t")
        await test.broadcast("t", "m")
        await test.reply(await test.assert_push("t", "order"), status="error")
        assert isinstance((await test.assert_callback("handle_message")).error, ReplyError)
        assert test.socket.connected
        assert test.callbacks.count("init") == 1
    assert issubclass(ReplyError, LinkError)
    assert "handle_message ended early: 'order' on 't' was answered" in caplog.text
