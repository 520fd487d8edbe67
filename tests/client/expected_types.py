"""What type checkers know of clients. Nothing here is run: mypy and pyright, both strict, read it.

A line that must not type-check ends in an ignore; both checkers report one that is not needed.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true, reportUnusedCoroutine=false

from typing import Any, TypedDict, assert_type

import attrs
import msgspec

from slipstream import (
    ANY,
    ChannelReply,
    Config,
    DecodeError,
    Message,
    NoReply,
    SlipstreamClient,
    Socket,
    Stop,
    coalesce,
    on_message,
)
from slipstream.reasons import NORMAL


@attrs.define
class Chat:
    """A message's payload."""

    body: str


class Item(msgspec.Struct):
    """A part of a response."""

    price: float


class Note(TypedDict):
    """A payload that stays a dict."""

    text: str


class Typed(SlipstreamClient):
    """Handles messages, each with the payload that was asked for."""

    @on_message("rooms:lobby", "chat", payload=Chat)
    async def chat(self, topic: str, message: Chat, socket: Socket) -> None:
        assert_type(message.body, str)

    @on_message("rooms:{room}", "chat", payload=Chat)
    async def chat_of(self, topic: str, message: Chat, socket: Socket, *, room: str) -> NoReply:
        return NoReply(timeout=1.0)

    @on_message("rooms:*", "note", payload=Note)
    async def note(self, topic: str, note: Note, socket: Socket) -> Stop | None:
        return Stop(NORMAL) if note["text"] == "stop" else None

    @on_message("rooms:*", "items", payload=list[Item])
    async def items(self, topic: str, items: list[Item], socket: Socket) -> None:
        assert_type(items[0].price, float)

    @on_message("rooms:*", "chat*", payload=Chat)
    async def chats(self, topic: str, event: str, message: Chat, socket: Socket) -> None:
        assert_type(event, str)

    @on_message("rooms:*", "plain", payload=dict)
    async def plain(self, topic: str, payload: dict[str, Any], socket: Socket) -> None: ...

    @on_message("rooms:*", "binary", payload=bytes)
    async def binary(self, topic: str, payload: bytes, socket: Socket) -> None: ...

    @on_message("rooms:*", "maybe", payload=Chat | None)
    async def maybe(self, topic: str, payload: Chat | None, socket: Socket) -> None: ...

    @on_message("rooms:*", "untyped")
    async def untyped(self, topic: str, payload: Any, socket: Socket) -> None: ...

    @on_message("rooms:*")
    async def whatever(self, topic: str, event: str, payload: Any, socket: Socket) -> None: ...

    @on_message("rooms:*", "one", payload=Chat)
    @on_message("rooms:*", "two", payload=Chat)
    async def stacked(self, topic: str, message: Chat, socket: Socket) -> None: ...

    async def handle_bad_payload(
        self, topic: str, event: str, payload: Any, error: DecodeError, socket: Socket
    ) -> None:
        assert_type(error.path, str | None)

    async def handle_messages(self, messages: list[Message], socket: Socket) -> None:
        await super().handle_messages(messages, socket)


async def handlers_stay_methods(client: Typed, socket: Socket) -> None:
    """Expect of a decorated method that it can be called as it was written."""
    assert_type(await client.chat("t", Chat("x"), socket), None)
    await client.chat_of("t", Chat("x"), socket, room="a")
    await client.chat("t", "x", socket)  # type: ignore[arg-type]  # no Chat
    await client.chat_of("t", Chat("x"), socket)  # type: ignore[call-arg]  # no room


async def replies(socket: Socket, reply: ChannelReply, kind: Any) -> None:
    """Expect of a typed response that it has the type asked for."""
    assert_type(await socket.request("t", "e"), ChannelReply)
    assert_type(await socket.request("t", "e", {}, response=Item, timeout=1.0), Item)
    assert_type(await socket.request("t", "e", response=list[Item]), list[Item])
    assert_type(await socket.request("t", "e", response=Note), Note)
    assert_type(await socket.request("t", "e", response=kind), Any)
    assert_type(reply.decode(Chat), Chat)
    assert_type(reply.decode(dict[str, Item]), dict[str, Item])
    maybe: Chat | None = reply.decode(Chat | None)
    assert_type(maybe, Chat | None)


async def floods(socket: Socket) -> None:
    """Expect of messages that they are typed wherever they come from."""
    Config("ws://x", on_overflow="drop_oldest")
    Config("ws://x", on_overflow=coalesce(lambda message: message.topic))
    async with socket.messages("t", ANY, {"n": int}, limit=10) as messages:
        assert_type(messages.dropped, int)
        async for message in messages:
            assert_type(message, Message)


# -- what must not type-check


class Wrong(SlipstreamClient):
    """Has handlers that do not take what they are given."""

    @on_message("t", "e", payload=Chat)  # type: ignore[arg-type]  # another payload
    async def other(self, topic: str, message: Item, socket: Socket) -> None: ...

    @on_message("t", "note", payload=Note)  # type: ignore[arg-type]  # a dict of anything is no Note
    async def loose(self, topic: str, note: dict[str, int], socket: Socket) -> None: ...

    @on_message("t", "f*", payload=Chat)  # type: ignore[arg-type]  # the same, with the event
    async def with_event(self, topic: str, event: str, message: Item, socket: Socket) -> None: ...

    @on_message("t", "items", payload=list[Item])  # type: ignore[arg-type]  # of what?
    async def chats(self, topic: str, items: list[Chat], socket: Socket) -> None: ...

    @on_message("t", "g", payload=Chat)  # type: ignore[arg-type]  # not async
    def blocking(self, topic: str, message: Chat, socket: Socket) -> None: ...

    @on_message("t", "h")  # type: ignore[arg-type]  # no socket
    async def few(self, topic: str, payload: Any) -> None: ...

    @on_message("t", "i", payload=Chat)  # type: ignore[arg-type, type-var]  # nobody wants a Chat back
    async def returns(self, topic: str, message: Chat, socket: Socket) -> Chat:
        return message


async def wrong_calls(socket: Socket, reply: ChannelReply) -> None:
    """Refuse what would be something else."""
    item: Item = reply.decode(Chat)  # type: ignore[assignment]  # it is a Chat
    # Where an Item is wanted, mypy takes the overload for types that it cannot follow.
    item = await socket.request("t", "e", response=Chat)  # pyright: ignore[reportAssignmentType]  # a Chat
    item.price.upper()  # type: ignore[attr-defined]  # a float
    Config("ws://x", on_overflow="drop")  # type: ignore[arg-type]  # no such choice
    Config("ws://x", on_overflow=len)  # type: ignore[arg-type]  # a key goes into coalesce
    coalesce("symbol")  # type: ignore[arg-type]  # no function
    socket.messages("t", limit="10")  # type: ignore[arg-type]  # no number
    await socket.request("t", "e", Item)  # the payload is anything: no mistake that can be seen
    await socket.request("t", "e", {}, 5.0)  # type: ignore[call-overload]  # options are keywords
