"""Replies as types of the user's."""

from typing import Any

import msgspec
import pytest
import trio

from slipstream import ChannelReply, DecodeError, LinkError, ReplyError
from tests.client.support import Harness, harness, settle, virtual


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


async def ask(h: Harness, end: Any, status: str, response: Any) -> Any:
    outcome: list[Any] = []

    async def request() -> None:
        try:
            outcome.append(await h.socket.request("t", "order", response=Order))
        except (ReplyError, DecodeError) as error:
            outcome.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(request)
        end.reply(await end.next("order"), status, response)
    return outcome[0]


def test_a_request_gives_the_response_as_the_type_asked_for() -> None:
    async def scenario() -> None:
        async with harness() as h:
            end, _ = await h.joined()
            assert await ask(h, end, "ok", GOOD) == Order([Item(1.0), Item(2.5)])
            misfit = await ask(h, end, "ok", BAD)
            assert str(misfit) == PATH
            refused = await ask(h, end, "error", {"reason": "secret"})
            assert isinstance(refused, ReplyError)
            assert str(refused) == "'order' on 't' was answered with status 'error'"
            assert refused.reply == ChannelReply("error", {"reason": "secret"})
            assert (refused.topic, refused.event) == ("t", "order")

    virtual(scenario)


def test_a_refusal_that_leaves_a_callback_ends_that_callback_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def asking(_client: Any, _topic: str, _event: str, _payload: Any, socket: Any) -> None:
        await socket.request("t", "order", response=Order)

    async def scenario() -> None:
        async with harness({"handle_message": asking}) as h:
            end, _ = await h.joined()
            end.broadcast("t", "m")
            end.reply(await end.next("order"), "error")
            await settle()
            assert h.socket.connected
            assert h.names().count("init") == 1

    virtual(scenario)
    assert issubclass(ReplyError, LinkError)
    assert "handle_message ended early: 'order' on 't' was answered" in caplog.text
