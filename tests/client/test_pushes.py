"""What a push owes, and when it is paid."""

import math
from functools import partial
from typing import Any

import msgspec
import pytest
import trio

from slipstream import (
    ChannelClosed,
    ChannelCrashed,
    ChannelReply,
    Config,
    ConnectionLost,
    DisconnectedError,
    EncodeError,
    LinkError,
    NotJoinedError,
    PushTimedOut,
    PushTimeoutError,
    SlipstreamClient,
    Socket,
    TopicClosedError,
    TopicGone,
    TransportFailed,
)
from slipstream.testing import ClientMessage, SocketTest
from tests.client.kit import URI, Member, OpenTest, answer, config, server_of


async def test_a_push_is_written_and_its_reply_goes_to_handle_reply(socket_test: OpenTest) -> None:
    """SL-I5, I8; AWT-004; complaint 22."""
    async with socket_test(Member, config()) as test:
        join = await test.connect_and_join("t")
        ref = await test.socket.push("t", "e", {"a": 1})
        push = await test.assert_push("t", "e")
        assert (push.join_ref, push.ref, push.payload) == (join.ref, ref, {"a": 1})
        await test.reply(push, {"id": 7}, status="created")
        assert test.called("handle_reply") == [(ref, ChannelReply("created", {"id": 7}))]
        await test.reply(push)  # a second one is dropped
        assert len(test.called("handle_reply")) == 1


async def test_binary_payloads_go_both_ways(socket_test: OpenTest) -> None:
    """SL-I10, row 50, complaint 27."""
    async with socket_test(Member, config()) as test:
        await test.connect_and_join("t")
        await test.socket.push("t", "e", b"\x00\xff")
        await test.assert_push("t", "e", b"\x00\xff")
        await test.broadcast("t", "m", b"\x01")
        await test.broadcast("t", "m", b"")
        assert test.called("handle_message") == [("t", "m", b"\x01"), ("t", "m", b"")]


async def test_a_plain_push_owes_nothing(socket_test: OpenTest) -> None:
    """Row 40: many channels never reply."""
    async with socket_test(Member, config()) as test:
        await test.connect_and_join("t")
        await test.socket.push("t", "e")
        await test.assert_push("t", "e")
        await test.advance(1000.0)
        await test.crash_topic("t")
        assert test.called("handle_push_failed") == []


async def _reply_in_time(test: SocketTest, push: ClientMessage) -> None:
    await test.reply(push)


async def _silence(test: SocketTest, push: ClientMessage) -> None:
    await test.advance(5.0)


async def _crash(test: SocketTest, push: ClientMessage) -> None:
    await test.crash_topic("t")


async def _close(test: SocketTest, push: ClientMessage) -> None:
    await test.close_topic("t")


async def _leave(test: SocketTest, push: ClientMessage) -> None:
    test.socket.leave("t")
    await test.settle()


async def _rejoin(test: SocketTest, push: ClientMessage) -> None:
    test.socket.rejoin("t", {})
    await test.settle()


async def _drop(test: SocketTest, push: ClientMessage) -> None:
    await test.drop()


ENDS = [
    (_reply_in_time, None, None),
    (_silence, PushTimedOut(), PushTimeoutError),
    (_crash, TopicGone(), TopicClosedError),
    (_close, TopicGone(), TopicClosedError),
    (_leave, TopicGone(), TopicClosedError),
    (_rejoin, TopicGone(), TopicClosedError),
    (_drop, ConnectionLost(written=True), DisconnectedError),
]


@pytest.mark.parametrize(("end_it", "failure", "error"), ENDS)
async def test_a_push_with_a_deadline_ends_exactly_once(
    socket_test: OpenTest, end_it: Any, failure: Any, error: Any
) -> None:
    """Rows 40, 41; contract invariant 5; complaint 7."""
    async with socket_test(Member, config(reconnect=[100.0], rejoin=[100.0])) as test:
        await test.connect_and_join("t")
        ref = await test.socket.push("t", "e", timeout=5.0)
        push = await test.assert_push("t", "e")
        await end_it(test, push)
        if end_it is not _drop:
            await test.send(answer(push))
        await test.advance(50.0)
        outcomes = test.called("handle_reply") + test.called("handle_push_failed")
        assert len(outcomes) == 1
        if failure is not None:
            assert test.called("handle_push_failed") == [(ref, failure)]


@pytest.mark.parametrize(("end_it", "failure", "error"), ENDS)
async def test_a_request_gives_the_reply_or_raises(
    socket_test: OpenTest, end_it: Any, failure: Any, error: Any
) -> None:
    options = config(reconnect=[100.0], rejoin=[100.0], push_timeout=5.0)
    async with socket_test(Member, options) as test:
        await test.connect_and_join("t")
        results: list[Any] = []

        async def ask() -> None:
            try:
                results.append(await test.socket.request("t", "e", {}))
            except Exception as caught:  # noqa: BLE001 - whatever it is, it is looked at
                results.append(caught)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await end_it(test, await test.assert_push("t", "e"))
        (result,) = results
        if error is None:
            assert result == ChannelReply("ok", {})
        else:
            assert type(result) is error
        if end_it is _drop:
            assert isinstance(result.reason, TransportFailed)
        if end_it is _crash:
            assert isinstance(result.reason, ChannelCrashed)
        if end_it is _close:
            assert result.reason == ChannelClosed()
        await test.advance(50.0)
        assert test.called("handle_reply") == test.called("handle_push_failed") == []


async def test_requests_work_from_any_task_and_answers_may_come_out_of_order(
    socket_test: OpenTest,
) -> None:
    async with socket_test(Member, config()) as test:
        await test.connect_and_join("t")
        got: dict[int, Any] = {}

        async def ask(number: int) -> None:
            got[number] = (await test.socket.request("t", "e", {"n": number})).response

        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(ask, number)
            pushes = [await test.assert_push("t", "e") for _ in range(5)]
            for push in reversed(pushes):
                await test.reply(push, push.payload)
        assert got == {number: {"n": number} for number in range(5)}


async def test_a_cancelled_request_drops_its_late_reply(socket_test: OpenTest) -> None:
    """Its push has one outcome, which nobody wants: counted."""
    async with socket_test(Member, config()) as test:
        await test.connect_and_join("t")
        with trio.move_on_after(1.0) as scope:
            await test.socket.request("t", "e")
        assert scope.cancelled_caught
        await test.reply(await test.assert_push("t", "e"))
        assert test.called("handle_reply") == []
        assert server_of(test).uplink.inbox.dropped == 1
        assert server_of(test).uplink.inbox.waiters == {}


async def test_a_push_is_queued_whole_or_not_at_all(socket_test: OpenTest) -> None:
    """d13: cancelling a push never tears a frame."""
    async with socket_test(Member, config(outbound_bytes=200)) as test:
        await test.connect_and_join("t")
        await test.stall(buffers_full=True)
        await test.socket.push("t", "first", {"x": "y" * 300})
        with trio.move_on_after(1.0) as scope:
            await test.socket.push("t", "second")
        assert scope.cancelled_caught
        await test.resume()
        await test.socket.push("t", "third")
        assert [(await test.assert_push()).event for _ in range(2)] == ["first", "third"]


async def test_a_push_waits_for_room_and_goes_on_when_there_is_some(
    socket_test: OpenTest,
) -> None:
    async with socket_test(Member, config(outbound_bytes=100)) as test:
        await test.connect_and_join("t")
        await test.stall(buffers_full=True)
        await test.socket.push("t", "first", {"x": "y" * 300})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(test.socket.push, "t", "second")
            await test.settle()
            assert nursery.child_tasks
            await test.resume()
        assert [(await test.assert_push()).event for _ in range(2)] == ["first", "second"]


async def test_what_could_not_be_written_fails_when_the_connection_ends(
    socket_test: OpenTest,
) -> None:
    """Complaint 2: a stalled write ends the connection; nothing is lost in silence."""
    async with socket_test(Member, config(write_timeout=5.0, reconnect=[100.0])) as test:
        await test.connect_and_join("t")
        await test.stall(buffers_full=True)
        plain = await test.socket.push("t", "e")
        timed = await test.socket.push("t", "e", timeout=60.0)
        await test.advance(6.0)
        assert test.called("handle_push_failed") == [
            (plain, ConnectionLost(written=False)),
            (timed, ConnectionLost(written=False)),
        ]
        assert isinstance(test.called("handle_disconnect")[0][0], TransportFailed)


async def test_a_push_to_a_topic_never_asked_for_is_the_programs_mistake(
    socket_test: OpenTest,
) -> None:
    """Row 38, JS-PU7, SL-I6."""
    async with socket_test(SlipstreamClient, config()) as test:
        await test.accept_connect()
        for when in ("fail", "queue", "raise"):
            with pytest.raises(NotJoinedError, match="'nowhere'"):
                await test.socket.push("nowhere", "e", when_unjoined=when)
        with pytest.raises(NotJoinedError):
            await test.socket.request("nowhere", "e")


async def _offline(test: SocketTest) -> tuple[Any, type[Exception]]:
    await test.connect_and_join("t")
    await test.drop()
    return ConnectionLost(written=False), DisconnectedError


async def _joining(test: SocketTest) -> tuple[Any, type[Exception]]:
    await test.accept_connect()
    return TopicGone(), TopicClosedError


async def _closed(test: SocketTest) -> tuple[Any, type[Exception]]:
    await test.connect_and_join("t")
    await test.close_topic("t")
    return TopicGone(), TopicClosedError


@pytest.mark.parametrize("state", [_offline, _joining, _closed])
async def test_a_push_that_finds_its_topic_not_joined_fails_or_raises(
    socket_test: OpenTest, state: Any
) -> None:
    """Rows 38, 39; AWT-014."""
    async with socket_test(Member, config(reconnect=[100.0])) as test:
        failure, error = await state(test)
        ref = await test.socket.push("t", "e")
        await test.settle()
        assert test.called("handle_push_failed") == [(ref, failure)]
        with pytest.raises(error):
            await test.socket.push("t", "e", when_unjoined="raise")
        with pytest.raises(error):
            await test.socket.request("t", "e")
        with pytest.raises(EncodeError):
            await test.socket.push("t", "e", {"a": b"x"})


async def test_queued_pushes_are_sent_in_order_once_joined(socket_test: OpenTest) -> None:
    """JS-PU2, OK9; complaint 24."""
    async with socket_test(SlipstreamClient, config()) as test:
        test.socket.join("t")
        refs = [await test.socket.push("t", f"e{n}", when_unjoined="queue") for n in range(3)]
        assert test.ref.health().queued_pushes == 3
        await test.connect_and_join("t")
        pushes = [await test.assert_push() for _ in range(3)]
        assert [push.event for push in pushes] == ["e0", "e1", "e2"]
        assert [push.ref for push in pushes] == refs

        async def ask() -> None:
            assert (await test.socket.request("t", "ask", when_unjoined="queue")).ok

        await test.drop()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await test.connect_and_join("t")
            await test.reply(await test.assert_push("t", "ask"))


async def test_queued_pushes_have_a_time_to_live_and_fail_with_their_topic(
    socket_test: OpenTest,
) -> None:
    async with socket_test(SlipstreamClient, config(unjoined_ttl=10.0)) as test:
        test.socket.join("t")
        first = await test.socket.push("t", "e", when_unjoined="queue")
        await test.advance(10.5)
        assert test.called("handle_push_failed") == [(first, ConnectionLost(written=False))]
        second = await test.socket.push("t", "e", when_unjoined="queue")
        test.socket.leave("t")
        await test.settle()
        assert test.called("handle_push_failed")[1:] == [(second, TopicGone())]


@pytest.mark.parametrize("overflow", ["error", "drop_oldest", "block"])
async def test_a_full_queue_of_unjoined_pushes(socket_test: OpenTest, overflow: Any) -> None:
    options = config(unjoined_limit=2, unjoined_overflow=overflow, unjoined_ttl=50.0)
    async with socket_test(SlipstreamClient, options) as test:
        test.socket.join("t")
        first, _ = [await test.socket.push("t", "e", when_unjoined="queue") for _ in range(2)]
        if overflow == "error":
            with pytest.raises(DisconnectedError):
                await test.socket.push("t", "e", when_unjoined="queue")
        elif overflow == "drop_oldest":
            await test.socket.push("t", "e", when_unjoined="queue")
            await test.settle()
            assert test.called("handle_push_failed") == [(first, ConnectionLost(written=False))]
        else:
            await test.socket.push("t", "e", when_unjoined="queue")
            assert trio.current_time() == pytest.approx(50.0)
        assert test.ref.health().queued_pushes <= 2


async def test_a_cancelled_request_takes_its_queued_push_back(socket_test: OpenTest) -> None:
    async with socket_test(SlipstreamClient, config()) as test:
        test.socket.join("t")
        with trio.move_on_after(1.0):
            await test.socket.request("t", "e", when_unjoined="queue")
        assert test.ref.health().queued_pushes == 0


async def test_a_default_handle_push_failed_warns(
    socket_test: OpenTest, caplog: pytest.LogCaptureFixture
) -> None:
    class Plain(SlipstreamClient):
        async def handle_connect(self, socket: Socket, /) -> None:
            socket.join("t")
            await socket.push("t", "e")

    async with socket_test(Plain, Config(URI)) as test:
        await test.accept_connect()
    assert "push 2 failed: TopicGone()" in caplog.text


async def test_a_callback_may_ask_before_the_client_has_learnt_of_the_join(
    socket_test: OpenTest,
) -> None:
    """What waits for its topic is sent as soon as the wire allows, while the callback still waits."""

    class Asking(SlipstreamClient):
        async def handle_connect(self, socket: Socket, /) -> None:
            answers = socket.assigns["answers"] = []
            socket.join("t")
            for _ in range(2):  # the second time the news of the join lies in the mailbox
                reply = await socket.request("t", "e", when_unjoined="queue")
                answers.append((reply.response, trio.current_time()))

    async with socket_test(Asking, config()) as test:
        await test.connect_and_join("t")
        for number in range(2):
            assert test.callbacks == ["init", "handle_connect"]
            await test.reply(await test.assert_push("t", "e"), number)
        assert test.callbacks == ["init", "handle_connect", "handle_join"]
        assert test.assigns["answers"] == [(0, 0.0), (1, 0.0)]


async def test_a_callback_never_waits_for_what_comes_after_it(socket_test: OpenTest) -> None:
    """A push that can only be sent later fails in bounded time, whatever its time to live."""

    async def ask(client: Any, socket: Socket) -> None:
        await socket.request("t", "e", when_unjoined="queue")

    options = config(
        unjoined_ttl=math.inf, unjoined_limit=1, unjoined_overflow="block", push_timeout=5.0
    )
    async with socket_test(SlipstreamClient, options) as test:
        test.socket.join("t")
        with pytest.raises(PushTimeoutError):
            await test.inside(ask)
        assert trio.current_time() == 5.0
        assert test.ref.health().queued_pushes == 0
        await test.socket.push("t", "e", when_unjoined="queue")
        with pytest.raises(DisconnectedError):
            await test.inside(ask)
        assert trio.current_time() == 5.0


@pytest.mark.parametrize("limit", [0, 1])
async def test_who_waits_for_room_in_the_queue_goes_on_once_joined(
    socket_test: OpenTest, limit: int
) -> None:
    options = config(unjoined_limit=limit, unjoined_overflow="block", unjoined_ttl=math.inf)
    async with socket_test(SlipstreamClient, options) as test:
        test.socket.join("other")
        test.socket.join("t")
        for _ in range(limit):
            await test.socket.push("other", "waits", when_unjoined="queue")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(test.socket.push, "t", "e", when_unjoined="queue"))
            await test.accept_connect()
            await test.assert_join("other")
            await test.accept_join("t")
            await test.assert_push("t", "e")
            await test.refute_sent()


@pytest.mark.parametrize("overflow", ["error", "block"])
@pytest.mark.parametrize("kill", [False, True])
async def test_nobody_waits_for_a_client_that_has_ended(
    socket_test: OpenTest, overflow: Any, kill: Any
) -> None:
    """Not for a reply, and not for room in the queue."""
    options = config(unjoined_limit=1, unjoined_overflow=overflow, unjoined_ttl=math.inf)
    async with socket_test(SlipstreamClient, options, restart="temporary") as test:
        test.socket.join("t")
        ends: list[Exception] = []

        async def ask() -> None:
            try:
                await test.socket.request("t", "e", when_unjoined="queue")
            except LinkError as error:
                ends.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            nursery.start_soon(ask)
            await test.settle()
            assert len(ends) == (0 if overflow == "block" else 1)
            await (test.kill() if kill else test.ref.stop())
        assert len(ends) == 2


async def test_a_queued_push_that_was_spoilt_meanwhile_fails_alone(socket_test: OpenTest) -> None:
    """EncodeError is its own: the connection and the pushes behind it go on."""
    async with socket_test(SlipstreamClient, config()) as test:
        payload: dict[str, Any] = {"a": 1}
        test.socket.join("t")
        spoilt = await test.socket.push("t", "spoilt", payload, when_unjoined="queue")
        await test.socket.push("t", "sound", when_unjoined="queue")
        payload["a"] = object()
        await test.connect_and_join("t")
        assert (await test.assert_push()).event == "sound"
        assert test.called("handle_push_failed") == [(spoilt, ConnectionLost(written=False))]


async def test_what_waits_is_judged_by_the_codec_that_will_send_it(socket_test: OpenTest) -> None:
    class Codec:
        """Knows complex numbers."""

        def encode(self, value: Any) -> bytes:
            return msgspec.json.encode(value, enc_hook=str)

        def decode(self, data: bytes | str) -> Any:
            return msgspec.json.decode(data)

    async with socket_test(SlipstreamClient, config(json=Codec())) as test:
        test.socket.join("t", {"z": 1j})
        await test.socket.push("t", "e", {"z": 2j}, when_unjoined="queue")
        assert (await test.connect_and_join("t")).payload == {"z": "1j"}
        assert (await test.assert_push("t", "e")).payload == {"z": "2j"}


async def test_however_many_wait_for_room_each_has_its_turn(socket_test: OpenTest) -> None:
    """One place, which each gives up after a second: the last waits for all the others."""
    options = config(
        unjoined_limit=1, unjoined_ttl=1.0, unjoined_overflow="block", connect_timeout=10000.0
    )
    async with socket_test(SlipstreamClient, options) as test:
        test.socket.join("t")
        async with trio.open_nursery() as nursery:
            for _ in range(600):
                nursery.start_soon(partial(test.socket.push, "t", "e", when_unjoined="queue"))
        assert trio.current_time() == 599.0
