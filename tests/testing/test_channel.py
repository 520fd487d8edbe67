"""Channels: what they may do, and what becomes of what they do wrong."""

from collections.abc import Callable
from typing import Any

import pytest
import trio

from slipstream.errors import BadReturnError, CallbackSignatureError, EncodeError
from slipstream.reasons import NORMAL, Crashed, ExitReason, Shutdown
from slipstream.testing import Answer, Channel, Error, Ok, PhoenixServer, Refuse, ServerSocket

from .support import UNMATCHED, Room, connected, reply

CRASH = '{"reason":"channel_crash"}'


class Noted(Room):
    """Notes what becomes of it."""

    async def join(self, topic: str, payload: Any, socket: ServerSocket, /) -> Any:
        if "refuse" in payload:
            return Refuse({"reason": "as asked"})
        if "crash" in payload:
            raise ValueError("as asked")
        return None

    async def terminate(self, reason: ExitReason, /) -> None:
        self.socket.assigns.setdefault("ends", []).append(reason)


async def test_a_crash_ends_one_channel_and_nothing_else() -> None:
    with trio.fail_after(5):
        async with PhoenixServer({"rooms:*": Noted}) as server:
            async with connected(server, "rooms:1", "rooms:2") as client:
                await client.send('["1","3","rooms:1","crash",{}]')
                assert await client.text() == f'["1","1","rooms:1","phx_error",{CRASH}]'
                await client.send('["2","4","rooms:2","echo",{"a":1}]')
                assert await client.text() == reply("2", "4", "rooms:2", '{"a":1}')
                await client.send('["1","5","rooms:1","echo",{}]')
                assert await client.text() == reply(None, "5", "rooms:1", UNMATCHED, "error")
                (error,) = server.crashes
                assert isinstance(error, ValueError)
                assert server.sockets[0].topics == ["rooms:2"]
                (reason,) = server.sockets[0].assigns["ends"]
                assert isinstance(reason, Crashed)


async def test_pushes_before_a_leave_are_answered_before_it() -> None:
    with trio.fail_after(5):
        async with PhoenixServer({"rooms:*": Noted}) as server:
            async with connected(server, "rooms:1") as client:
                await client.send(
                    '["1","2","rooms:1","slow",{}]',
                    '["1","3","rooms:1","echo",{}]',
                    '["1","4","rooms:1","phx_leave",{}]',
                    '["5","5","rooms:1","phx_join",{}]',
                )
                for ref in ("2", "3", "4"):
                    assert await client.text() == reply("1", ref, "rooms:1")
                assert await client.text() == '["1","1","rooms:1","phx_close",{}]'
                assert await client.text() == reply("5", "5", "rooms:1")
                assert server.sockets[0].assigns["ends"] == [Shutdown("left")]


@pytest.mark.parametrize(
    ("how", "response"),
    [("refuse", '{"reason":"as asked"}'), ("crash", '{"reason":"join crashed"}')],
)
async def test_a_second_join_ends_the_first_even_if_it_is_not_let_in(
    how: str, response: str
) -> None:
    with trio.fail_after(5):
        async with PhoenixServer({"rooms:*": Noted}) as server:
            async with connected(server, "rooms:1") as client:
                await client.send(f'["2","2","rooms:1","phx_join",{{"{how}":1}}]')
                assert await client.text() == reply("2", "2", "rooms:1", response, "error")
                assert await client.text() == '["1","1","rooms:1","phx_close",{}]'
                assert server.channels("rooms:1") == []
                assert server.sockets[0].assigns["ends"] == [Shutdown("duplicate join")]


class Wrong(Channel):
    """Gives what its payload says is wrong."""

    async def join(self, topic: str, payload: Any, socket: ServerSocket, /) -> Any:
        return ANSWERS[payload["give"]] if "give" in payload else None

    async def handle_in(self, event: str, payload: Any, socket: ServerSocket, /) -> Any:
        return ANSWERS[event]


ANSWERS: dict[str, Any] = {
    "a dict": {"ok": 1},
    "a tuple": ("ok", {}),
    "a class": Ok,
    "a set inside": Ok({"x": {1}}),
}


@pytest.mark.parametrize("wrong", list(ANSWERS))
async def test_what_no_callback_may_give_is_a_crash_that_names_it(wrong: str) -> None:
    kind: type[Exception] = EncodeError if wrong == "a set inside" else BadReturnError
    with trio.fail_after(5):
        async with PhoenixServer({"rooms:*": Wrong}) as server:
            async with connected(server, "rooms:1") as client:
                await client.send(f'["1","2","rooms:1","{wrong}",{{}}]')
                assert await client.text() == f'["1","1","rooms:1","phx_error",{CRASH}]'
                await client.send(f'["3","3","rooms:1","phx_join",{{"give":"{wrong}"}}]')
                crashed = '{"reason":"join crashed"}'
                assert await client.text() == reply("3", "3", "rooms:1", crashed, "error")
                in_handle_in, in_join = server.crashes
                assert isinstance(in_handle_in, kind)
                assert isinstance(in_join, kind)
                if kind is BadReturnError:
                    assert "Wrong.handle_in gave" in str(in_handle_in)
                    assert "Refuse(response)" in str(in_join)
                await client.silent()


@pytest.mark.parametrize("action", ["push", "broadcast", "broadcast_from"])
async def test_nothing_is_pushed_before_the_client_is_in(action: str) -> None:
    """As in Phoenix, where push and broadcast raise within join."""

    class Early(Channel):
        async def join(self, topic: str, payload: Any, socket: ServerSocket, /) -> None:
            getattr(self, action)("hello", {})

    with trio.fail_after(5):
        async with PhoenixServer({"rooms:*": Early}) as server:
            async with connected(server) as client:
                await client.send('["1","1","rooms:1","phx_join",{}]')
                crashed = '{"reason":"join crashed"}'
                assert await client.text() == reply("1", "1", "rooms:1", crashed, "error")
                assert f"cannot {action} to 'rooms:1' within join" in str(server.crashes[0])


async def test_what_join_sends_itself_is_handled_before_after_join() -> None:
    class Sending(Channel):
        async def join(self, topic: str, payload: Any, socket: ServerSocket, /) -> None:
            self.send("first")

        async def handle_info(self, message: Any, /) -> None:
            self.push("heard", message)

    with trio.fail_after(5):
        async with PhoenixServer({"rooms:*": Sending}) as server:
            async with connected(server, "rooms:1") as client:
                said = [await client.text(), await client.text()]
                assert said == [
                    f'["1",null,"rooms:1","heard","{message}"]'
                    for message in ("first", "after_join")
                ]


@pytest.mark.parametrize(
    ("reason", "frame"),
    [
        (NORMAL, '["1","1","rooms:1","phx_close",{}]'),
        (Shutdown("enough"), '["1","1","rooms:1","phx_close",{}]'),
        (Crashed(ValueError("bad")), f'["1","1","rooms:1","phx_error",{CRASH}]'),
    ],
)
async def test_a_test_may_stop_a_channel_from_outside(reason: ExitReason, frame: str) -> None:
    with trio.fail_after(5):
        async with PhoenixServer({"rooms:*": Noted}) as server:
            async with connected(server, "rooms:1") as client:
                channel = await server.wait_joined("rooms:1")
                channel.stop(reason)
                assert await client.text() == frame
                await server.wait_until(lambda: not server.channels("rooms:1"))


async def test_one_that_stops_in_join_is_joined_and_then_closed() -> None:
    class Brief(Channel):
        async def join(self, topic: str, payload: Any, socket: ServerSocket, /) -> None:
            self.stop()

    with trio.fail_after(5):
        async with PhoenixServer({"rooms:*": Brief}) as server:
            async with connected(server, "rooms:1") as client:
                assert await client.text() == '["1","1","rooms:1","phx_close",{}]'


async def test_a_push_is_for_one_a_broadcast_for_all_and_one_from_for_the_others() -> None:
    class Loud(Channel):
        async def handle_in(self, event: str, payload: Any, socket: ServerSocket, /) -> None:
            getattr(self, event)("news", payload)

    with trio.fail_after(5):
        async with PhoenixServer({"rooms:*": Loud}) as server:
            async with connected(server, "rooms:1") as one, connected(server, "rooms:1") as other:
                await one.send(
                    '["1","2","rooms:1","push",{"n":1}]',
                    '["1","3","rooms:1","broadcast",{"n":2}]',
                    '["1","4","rooms:1","broadcast_from",{"n":3}]',
                )
                assert await one.text() == '["1",null,"rooms:1","news",{"n":1}]'
                assert await one.text() == '[null,null,"rooms:1","news",{"n":2}]'
                await one.silent()
                assert await other.text() == '[null,null,"rooms:1","news",{"n":2}]'
                assert await other.text() == '[null,null,"rooms:1","news",{"n":3}]'
                assert server.broadcast("rooms:1", "x", {}) == 2
                assert server.broadcast("rooms:2", "x", {}) == 0


async def test_the_most_specific_pattern_wins() -> None:
    class Told(Channel):
        async def join(self, topic: str, payload: Any, socket: ServerSocket, /) -> Ok:
            return Ok({"by": type(self).__name__})

    names = ["Exact", "Long", "Short"]
    exact, long, short = (type(name, (Told,), {}) for name in names)
    channels = {"rooms:*": short, "rooms:big:*": long, "rooms:big:1": exact}
    expected = {"rooms:x": "Short", "rooms:big:2": "Long", "rooms:big:1": "Exact"}
    with trio.fail_after(5):
        async with PhoenixServer(channels) as server, connected(server) as client:
            for topic, name in expected.items():
                await client.send(f'["1","1","{topic}","phx_join",{{}}]')
                assert await client.text() == reply("1", "1", topic, f'{{"by":"{name}"}}')


async def misspelled(self: Any, event: Any, payload: Any, socket: Any) -> None: ...
async def short(self: Any, event: Any) -> None: ...
def plain(self: Any, event: Any, payload: Any, socket: Any) -> None: ...


@pytest.mark.parametrize(
    ("name", "function", "says"),
    [
        ("handle_ni", misspelled, "did you mean 'handle_in'"),
        ("handle_in", short, "takes the wrong parameters"),
        ("handle_in", plain, "is not async"),
    ],
)
def test_a_wrong_callback_is_refused_with_its_class(
    name: str, function: Callable[..., Any], says: str
) -> None:
    with pytest.raises(CallbackSignatureError, match=says):
        type("Bad", (Channel,), {name: function})


async def test_later_replies_go_to_the_push_that_they_are_for() -> None:
    class Late(Channel):
        async def handle_in(
            self, event: str, payload: Any, socket: ServerSocket, /
        ) -> Answer | None:
            waiting = self.assigns.setdefault("waiting", [])
            if event == "wait":
                waiting.append(self.reply_ref)
                return None
            for ref in reversed(waiting):
                self.reply(ref, Error({"for": ref.ref}))
            return Ok()

    with trio.fail_after(5):
        async with PhoenixServer({"rooms:*": Late}) as server:
            async with connected(server, "rooms:1") as client:
                for ref, event in (("2", "wait"), ("3", "wait"), ("4", "go")):
                    await client.send(f'["1","{ref}","rooms:1","{event}",{{}}]')
                assert await client.text() == reply("1", "3", "rooms:1", '{"for":"3"}', "error")
                assert await client.text() == reply("1", "2", "rooms:1", '{"for":"2"}', "error")
                assert await client.text() == reply("1", "4", "rooms:1")
