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
    TopicClosedError,
    TopicGone,
    TransportFailed,
    open_supervisor,
)
from slipstream.transport import MemoryNetwork
from tests.client.support import URI, Harness, ServerEnd, harness, settle, virtual


def test_a_push_is_written_and_its_reply_goes_to_handle_reply() -> None:
    """SL-I5, I8; AWT-004; complaint 22."""

    async def scenario() -> None:
        async with harness() as h:
            end, join = await h.joined()
            ref = await h.socket.push("t", "e", {"a": 1})
            push = await end.next("e")
            assert (push.join_ref, push.ref, push.payload) == (join.ref, ref, {"a": 1})
            end.reply(push, "created", {"id": 7})
            await settle()
            assert h.of("handle_reply") == [(ref, ChannelReply("created", {"id": 7}))]
            end.reply(push)  # a second one is dropped
            await settle()
            assert len(h.of("handle_reply")) == 1

    virtual(scenario)


def test_binary_payloads_go_both_ways() -> None:
    """SL-I10, row 50, complaint 27."""

    async def scenario() -> None:
        async with harness() as h:
            end, _ = await h.joined()
            await h.socket.push("t", "e", b"\x00\xff")
            assert (await end.next("e")).payload == b"\x00\xff"
            end.broadcast("t", "m", b"\x01")
            end.broadcast("t", "m", b"")
            await settle()
            assert h.of("handle_message") == [("t", "m", b"\x01"), ("t", "m", b"")]

    virtual(scenario)


def test_a_plain_push_owes_nothing() -> None:
    """Row 40: many channels never reply."""

    async def scenario() -> None:
        async with harness() as h:
            end, join = await h.joined()
            await h.socket.push("t", "e")
            await end.next("e")
            await trio.sleep(1000.0)
            end.say(join.join_ref, join.ref, "t", "phx_error")
            await settle()
            assert h.of("handle_push_failed") == []

    virtual(scenario)


async def _reply_in_time(h: Harness, end: ServerEnd, push: Any) -> None:
    end.reply(push)


async def _silence(h: Harness, end: ServerEnd, push: Any) -> None:
    await trio.sleep(5.0)


async def _crash(h: Harness, end: ServerEnd, push: Any) -> None:
    end.say(push.join_ref, push.join_ref, "t", "phx_error")


async def _close(h: Harness, end: ServerEnd, push: Any) -> None:
    end.say(push.join_ref, push.join_ref, "t", "phx_close")


async def _leave(h: Harness, end: ServerEnd, push: Any) -> None:
    h.socket.leave("t")
    end.reply(await end.next("phx_leave"))


async def _rejoin(h: Harness, end: ServerEnd, push: Any) -> None:
    h.socket.rejoin("t", {})


async def _drop(h: Harness, end: ServerEnd, push: Any) -> None:
    end.peer.drop()


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
def test_a_push_with_a_deadline_ends_exactly_once(end_it: Any, failure: Any, error: Any) -> None:
    """Rows 40, 41; contract invariant 5; complaint 7."""

    async def scenario() -> None:
        async with harness(reconnect=[100.0], rejoin=[100.0]) as h:
            end, _ = await h.joined()
            ref = await h.socket.push("t", "e", timeout=5.0)
            push = await end.next("e")
            await end_it(h, end, push)
            await settle()
            if end_it is not _drop:
                end.reply(push)
            await trio.sleep(50.0)
            outcomes = h.of("handle_reply") + h.of("handle_push_failed")
            assert len(outcomes) == 1
            if failure is not None:
                assert h.of("handle_push_failed") == [(ref, failure)]

    virtual(scenario)


@pytest.mark.parametrize(("end_it", "failure", "error"), ENDS)
def test_a_request_gives_the_reply_or_raises(end_it: Any, failure: Any, error: Any) -> None:
    async def scenario() -> None:
        async with harness(reconnect=[100.0], rejoin=[100.0], push_timeout=5.0) as h:
            end, _ = await h.joined()
            results: list[Any] = []

            async def ask() -> None:
                try:
                    results.append(await h.socket.request("t", "e", {}))
                except Exception as caught:  # noqa: BLE001 - whatever it is, it is looked at
                    results.append(caught)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask)
                push = await end.next("e")
                await end_it(h, end, push)
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
            await trio.sleep(50.0)
            assert h.of("handle_reply") == h.of("handle_push_failed") == []

    virtual(scenario)


def test_requests_work_from_any_task_and_answers_may_come_out_of_order() -> None:
    async def scenario() -> None:
        async with harness() as h:
            end, _ = await h.joined()
            got: dict[int, Any] = {}

            async def ask(number: int) -> None:
                got[number] = (await h.socket.request("t", "e", {"n": number})).response

            async with trio.open_nursery() as nursery:
                for number in range(5):
                    nursery.start_soon(ask, number)
                pushes = [await end.next("e") for _ in range(5)]
                for push in reversed(pushes):
                    end.reply(push, "ok", push.payload)
            assert got == {number: {"n": number} for number in range(5)}

    virtual(scenario)


def test_a_cancelled_request_drops_its_late_reply() -> None:
    """Its push has one outcome, which nobody wants: counted."""

    async def scenario() -> None:
        async with harness() as h:
            end, _ = await h.joined()
            with trio.move_on_after(1.0) as scope:
                await h.socket.request("t", "e")
            assert scope.cancelled_caught
            end.reply(await end.next("e"))
            await settle()
            assert h.of("handle_reply") == []
            assert h.server.uplink.inbox.dropped == 1
            assert h.server.uplink.inbox.waiters == {}

    virtual(scenario)


def test_a_push_is_queued_whole_or_not_at_all() -> None:
    """d13: cancelling a push never tears a frame."""

    async def scenario() -> None:
        async with harness(outbound_bytes=200) as h:
            end, _ = await h.joined()
            end.peer.stall_writes()
            await h.socket.push("t", "first", {"x": "y" * 300})
            with trio.move_on_after(1.0) as scope:
                await h.socket.push("t", "second")
            assert scope.cancelled_caught
            end.peer.resume_writes()
            await h.socket.push("t", "third")
            assert [(await end.next()).event for _ in range(2)] == ["first", "third"]

    virtual(scenario)


def test_a_push_waits_for_room_and_goes_on_when_there_is_some() -> None:
    async def scenario() -> None:
        async with harness(outbound_bytes=100) as h:
            end, _ = await h.joined()
            end.peer.stall_writes()
            await h.socket.push("t", "first", {"x": "y" * 300})
            async with trio.open_nursery() as nursery:
                nursery.start_soon(h.socket.push, "t", "second")
                await settle()
                end.peer.resume_writes()
            assert [(await end.next()).event for _ in range(2)] == ["first", "second"]

    virtual(scenario)


def test_what_could_not_be_written_fails_when_the_connection_ends() -> None:
    """Complaint 2: a stalled write ends the connection; nothing is lost in silence."""

    async def scenario() -> None:
        async with harness(write_timeout=5.0, reconnect=[100.0]) as h:
            end, _ = await h.joined()
            end.peer.stall_writes()
            plain = await h.socket.push("t", "e")
            timed = await h.socket.push("t", "e", timeout=60.0)
            await trio.sleep(6.0)
            assert h.of("handle_push_failed") == [
                (plain, ConnectionLost(written=False)),
                (timed, ConnectionLost(written=False)),
            ]
            assert isinstance(h.of("handle_disconnect")[0][0], TransportFailed)

    virtual(scenario)


def test_a_push_to_a_topic_never_asked_for_is_the_programs_mistake() -> None:
    """Row 38, JS-PU7, SL-I6."""

    async def scenario() -> None:
        async with harness() as h:
            await h.accept()
            for when in ("fail", "queue", "raise"):
                with pytest.raises(NotJoinedError, match="'nowhere'"):
                    await h.socket.push("nowhere", "e", when_unjoined=when)
            with pytest.raises(NotJoinedError):
                await h.socket.request("nowhere", "e")

    virtual(scenario)


async def _offline(h: Harness) -> tuple[Any, type[Exception]]:
    end, _ = await h.joined()
    end.peer.drop()
    await settle()
    return ConnectionLost(written=False), DisconnectedError


async def _joining(h: Harness) -> tuple[Any, type[Exception]]:
    await h.accept()
    await settle()
    h.socket.join("t")
    return TopicGone(), TopicClosedError


async def _closed(h: Harness) -> tuple[Any, type[Exception]]:
    end, join = await h.joined()
    end.say(join.join_ref, join.ref, "t", "phx_close")
    await settle()
    return TopicGone(), TopicClosedError


@pytest.mark.parametrize("state", [_offline, _joining, _closed])
def test_a_push_that_finds_its_topic_not_joined_fails_or_raises(state: Any) -> None:
    """Rows 38, 39; AWT-014."""

    async def scenario() -> None:
        async with harness(reconnect=[100.0]) as h:
            failure, error = await state(h)
            ref = await h.socket.push("t", "e")
            await settle()
            assert h.of("handle_push_failed") == [(ref, failure)]
            with pytest.raises(error):
                await h.socket.push("t", "e", when_unjoined="raise")
            with pytest.raises(error):
                await h.socket.request("t", "e")
            with pytest.raises(EncodeError):
                await h.socket.push("t", "e", {"a": b"x"})

    virtual(scenario)


def test_queued_pushes_are_sent_in_order_once_joined() -> None:
    """JS-PU2, OK9; complaint 24."""

    async def scenario() -> None:
        async with harness() as h:
            h.socket.join("t")
            refs = [await h.socket.push("t", f"e{n}", when_unjoined="queue") for n in range(3)]
            assert h.ref.health().queued_pushes == 3
            end = await h.accept()
            await end.accept_join()
            pushes = [await end.next() for _ in range(3)]
            assert [push.event for push in pushes] == ["e0", "e1", "e2"]
            assert [push.ref for push in pushes] == refs

            async def ask() -> None:
                assert (await h.socket.request("t", "ask", when_unjoined="queue")).ok

            end.peer.drop()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask)
                end = await h.accept()
                await end.accept_join()
                end.reply(await end.next("ask"))

    virtual(scenario)


def test_queued_pushes_have_a_time_to_live_and_fail_with_their_topic() -> None:
    async def scenario() -> None:
        async with harness(unjoined_ttl=10.0) as h:
            h.network.stall_connects()
            h.socket.join("t")
            first = await h.socket.push("t", "e", when_unjoined="queue")
            await trio.sleep(10.5)
            assert h.of("handle_push_failed") == [(first, ConnectionLost(written=False))]
            second = await h.socket.push("t", "e", when_unjoined="queue")
            h.socket.leave("t")
            await settle()
            assert h.of("handle_push_failed")[1:] == [(second, TopicGone())]

    virtual(scenario)


@pytest.mark.parametrize("overflow", ["error", "drop_oldest", "block"])
def test_a_full_queue_of_unjoined_pushes(overflow: Any) -> None:
    async def scenario() -> None:
        async with harness(unjoined_limit=2, unjoined_overflow=overflow, unjoined_ttl=50.0) as h:
            h.network.stall_connects()
            h.socket.join("t")
            first, _ = [await h.socket.push("t", "e", when_unjoined="queue") for _ in range(2)]
            if overflow == "error":
                with pytest.raises(DisconnectedError):
                    await h.socket.push("t", "e", when_unjoined="queue")
            elif overflow == "drop_oldest":
                await h.socket.push("t", "e", when_unjoined="queue")
                await settle()
                assert h.of("handle_push_failed") == [(first, ConnectionLost(written=False))]
            else:
                await h.socket.push("t", "e", when_unjoined="queue")
                assert trio.current_time() == pytest.approx(50.0)
            assert h.ref.health().queued_pushes <= 2

    virtual(scenario)


def test_a_cancelled_request_takes_its_queued_push_back() -> None:
    async def scenario() -> None:
        async with harness() as h:
            h.network.stall_connects()
            h.socket.join("t")
            with trio.move_on_after(1.0):
                await h.socket.request("t", "e", when_unjoined="queue")
            assert h.ref.health().queued_pushes == 0

    virtual(scenario)


def test_a_default_handle_push_failed_warns(caplog: pytest.LogCaptureFixture) -> None:
    class Plain(SlipstreamClient):
        async def handle_connect(self, socket: Any, /) -> None:
            socket.join("t")
            self.ref_of_push = await socket.push("t", "e")

    async def scenario() -> None:
        network = MemoryNetwork()
        config = Config(URI, transport=network.open_transport)
        async with open_supervisor([(Plain, config)]):
            await network.accept()
            await settle()

    virtual(scenario)
    assert "push 2 failed: TopicGone()" in caplog.text


def test_a_callback_may_ask_before_the_client_has_learnt_of_the_join() -> None:
    """What waits for its topic is sent as soon as the wire allows, while the callback still waits."""

    async def asking(client: Any, socket: Any) -> None:
        socket.join("t")
        reply = await socket.request("t", "e", when_unjoined="queue")
        client.calls.append(("answered", reply.response, trio.current_time()))
        # By now the news of the join lies in the mailbox.
        reply = await socket.request("t", "e", when_unjoined="queue")
        client.calls.append(("answered", reply.response, trio.current_time()))

    async def scenario() -> None:
        async with harness({"handle_connect": asking}) as h:
            end = await h.accept()
            await end.accept_join()
            for number in range(2):
                end.reply(await end.next("e"), response=number)
            await settle()
            assert h.names() == ["init", "handle_connect", "answered", "answered", "handle_join"]
            assert h.of("answered") == [(0, 0.0), (1, 0.0)]

    virtual(scenario)


def test_a_callback_never_waits_for_what_comes_after_it() -> None:
    """A push that can only be sent later fails in bounded time, whatever its time to live."""

    async def scenario() -> None:
        async with harness(
            unjoined_ttl=math.inf, unjoined_limit=1, unjoined_overflow="block", push_timeout=5.0
        ) as h:
            h.network.stall_connects()
            h.socket.join("t")

            async def asking(_client: Any, socket: Any) -> None:
                await socket.request("t", "e", when_unjoined="queue")

            with pytest.raises(PushTimeoutError):
                await h.inside(asking)
            assert trio.current_time() == 5.0
            assert h.ref.health().queued_pushes == 0
            await h.socket.push("t", "e", when_unjoined="queue")
            with pytest.raises(DisconnectedError):
                await h.inside(asking)
            assert trio.current_time() == 5.0

    virtual(scenario)


@pytest.mark.parametrize("limit", [0, 1])
def test_who_waits_for_room_in_the_queue_goes_on_once_joined(limit: int) -> None:
    async def scenario() -> None:
        async with harness(
            unjoined_limit=limit, unjoined_overflow="block", unjoined_ttl=math.inf
        ) as h:
            h.socket.join("other")
            h.socket.join("t")
            for _ in range(limit):
                await h.socket.push("other", "waits", when_unjoined="queue")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(h.socket.push, "t", "e", when_unjoined="queue"))
                end = await h.accept()
                assert (await end.next("phx_join")).topic == "other"
                await end.accept_join("t")
                assert (await end.next()).event == "e"

    virtual(scenario)


@pytest.mark.parametrize("overflow", ["error", "block"])
@pytest.mark.parametrize("kill", [False, True])
def test_nobody_waits_for_a_client_that_has_ended(overflow: Any, kill: Any) -> None:
    """Not for a reply, and not for room in the queue."""

    async def scenario() -> None:
        async with harness(
            unjoined_limit=1, unjoined_overflow=overflow, unjoined_ttl=math.inf, restart="temporary"
        ) as h:
            h.network.stall_connects()
            h.socket.join("t")
            ends: list[Exception] = []

            async def ask() -> None:
                try:
                    await h.socket.request("t", "e", when_unjoined="queue")
                except LinkError as error:
                    ends.append(error)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask)
                nursery.start_soon(ask)
                await settle()
                assert len(ends) == (0 if overflow == "block" else 1)
                if kill:
                    h.ref.kill()
                else:
                    await h.ref.stop()
            assert len(ends) == 2

    virtual(scenario)


def test_a_queued_push_that_was_spoilt_meanwhile_fails_alone() -> None:
    """EncodeError is its own: the connection and the pushes behind it go on."""

    async def scenario() -> None:
        async with harness() as h:
            payload: dict[str, Any] = {"a": 1}
            h.socket.join("t")
            spoilt = await h.socket.push("t", "spoilt", payload, when_unjoined="queue")
            await h.socket.push("t", "sound", when_unjoined="queue")
            payload["a"] = object()
            end = await h.accept()
            await end.accept_join()
            assert (await end.next()).event == "sound"
            await settle()
            assert h.of("handle_push_failed") == [(spoilt, ConnectionLost(written=False))]

    virtual(scenario)


def test_what_waits_is_judged_by_the_codec_that_will_send_it() -> None:
    class Codec:
        """Knows complex numbers."""

        def encode(self, value: Any) -> bytes:
            return msgspec.json.encode(value, enc_hook=str)

        def decode(self, data: bytes | str) -> Any:
            return msgspec.json.decode(data)

    async def scenario() -> None:
        async with harness(json=Codec()) as h:
            h.socket.join("t", {"z": 1j})
            await h.socket.push("t", "e", {"z": 2j}, when_unjoined="queue")
            end = await h.accept()
            assert (await end.accept_join()).payload == {"z": "1j"}
            assert (await end.next("e")).payload == {"z": "2j"}

    virtual(scenario)


def test_however_many_wait_for_room_each_has_its_turn() -> None:
    """One place, which each gives up after a second: the last waits for all the others."""

    async def scenario() -> None:
        async with harness(
            unjoined_limit=1, unjoined_ttl=1.0, unjoined_overflow="block", connect_timeout=10000.0
        ) as h:
            h.network.stall_connects()
            h.socket.join("t")
            async with trio.open_nursery() as nursery:
                for _ in range(600):
                    nursery.start_soon(partial(h.socket.push, "t", "e", when_unjoined="queue"))
            assert trio.current_time() == 599.0

    virtual(scenario)
