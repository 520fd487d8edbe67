"""Topics: wanted, joined, lost, waited for, left; and the fence round each join."""

import json
from datetime import date
from typing import Any

import pytest
import trio

from slipstream import (
    ChannelClosed,
    ChannelCrashed,
    EncodeError,
    JoinError,
    JoinFailed,
    JoinRefused,
    JoinTimedOut,
    Message,
    NotJoinedError,
    RejoinPolicy,
    SlipstreamClient,
    Socket,
)
from slipstream.testing import ClientMessage, SocketTest
from tests.client.kit import Member, OpenTest, answer, config


def closed(to: ClientMessage) -> Message:
    """The end of the channel that *to* went to, told whether there is one or not."""
    return Message(to.join_ref, to.join_ref, to.topic, "phx_close", {})


async def test_a_join_made_offline_is_remembered_and_sent_when_connected(
    socket_test: OpenTest,
) -> None:
    """Row 20, JS-P2."""
    async with socket_test(SlipstreamClient, config()) as test:
        test.socket.join("t", {"user": 1})
        assert test.socket.join_status("t") == "requested"
        await test.accept_connect()
        join = await test.assert_join("t", {"user": 1})
        assert join.join_ref == join.ref
        await test.accept_join("t", {"hello": "you"})
        assert test.called("handle_join") == [("t", {"hello": "you"})]
        assert test.socket.joined("t")


async def test_a_second_join_is_no_second_join(socket_test: OpenTest) -> None:
    """Row 25, SL-I2, JS-J3."""
    async with socket_test(SlipstreamClient, config()) as test:
        await test.accept_connect()
        test.socket.join("t", {"n": 1})
        test.socket.join("t", {"n": 2})
        assert (await test.accept_join("t")).payload == {"n": 1}
        test.socket.join("t", {"n": 3})
        test.socket.rejoin("t")
        await test.refute_sent(within=60.0)


async def test_wanted_topics_are_rejoined_after_a_reconnect(socket_test: OpenTest) -> None:
    """Row 21, SL-X6, complaint 18; refs go on over connections (row 47)."""
    async with socket_test(SlipstreamClient, config()) as test:
        await test.accept_connect()
        for topic in ("a", "b", "c"):
            test.socket.join(topic, {"topic": topic}, rejoin=topic != "c")
            await test.accept_join(topic)
        await test.drop()
        assert test.socket.topics == {"a": "waiting", "b": "waiting", "c": "closed"}
        await test.accept_connect()
        joins = [await test.accept_join(), await test.accept_join()]
        assert [(join.topic, join.ref) for join in joins] == [("a", "4"), ("b", "5")]
        await test.refute_sent(within=60.0)
        assert [args[0] for args in test.called("handle_join")] == ["a", "b", "c", "a", "b"]
        assert test.called("handle_topic_close") == []  # contract invariant 4


async def test_a_params_provider_is_asked_for_every_join(socket_test: OpenTest) -> None:
    """Row 7, JS-CH6."""
    counter = iter(range(10))
    async with socket_test(SlipstreamClient, config()) as test:
        test.socket.join("t", lambda: {"n": next(counter)})
        assert (await test.connect_and_join("t")).payload == {"n": 0}
        await test.drop()
        assert (await test.connect_and_join("t")).payload == {"n": 1}


@pytest.mark.parametrize("fault", ["raises", "hangs", "gives bytes"])
async def test_params_that_cannot_be_had_are_a_failed_join(
    socket_test: OpenTest, fault: str
) -> None:
    async def provider() -> Any:
        if fault == "raises":
            raise ValueError("not today")
        if fault == "hangs":
            await trio.sleep_forever()
        return {"a": b"x"}

    async with socket_test(SlipstreamClient, config(provider_timeout=2.0, rejoin=[5.0])) as test:
        await test.accept_connect()
        test.socket.join("t", provider)
        await test.advance(3.0)
        (topic, reason) = test.called("handle_topic_close")[0]
        assert topic == "t"
        assert isinstance(reason, JoinFailed)
        assert test.socket.join_status("t") == "waiting"
        await test.refute_sent(within=1.0)


async def test_a_leave_while_the_params_are_fetched_sends_nothing(socket_test: OpenTest) -> None:
    async def provider() -> Any:
        await trio.sleep(1.0)
        return {}

    async with socket_test(SlipstreamClient, config()) as test:
        await test.accept_connect()
        test.socket.join("t", provider)
        test.socket.leave("t")
        await test.refute_sent(within=60.0)
        assert test.called("handle_leave") == [("t",)]


REFUSALS = [
    ({"reason": "join crashed"}, True),
    ({"bad": "join"}, True),
    ([], True),
    ({"reason": "unmatched topic"}, False),
    ({"reason": "unauthorized"}, False),
]


@pytest.mark.parametrize(("response", "retried"), REFUSALS)
async def test_a_refused_join_is_judged_by_its_response(
    socket_test: OpenTest, response: Any, retried: bool
) -> None:
    """Row 24, SL-I14, I15."""
    async with socket_test(SlipstreamClient, config(rejoin=[3.0])) as test:
        await test.accept_connect()
        test.socket.join("t", {"n": 1})
        await test.refuse_join("t", response)
        assert test.called("handle_topic_close") == [("t", JoinRefused(response))]
        assert test.socket.join_status("t") == ("waiting" if retried else "closed")
        if retried:
            again = await test.assert_join("t", {"n": 1}, within=60.0)
            assert again.at == 3.0
            await test.accept_join("t")
        await test.refute_sent(within=60.0)


async def test_too_many_channels_wait_long_and_are_not_counted(socket_test: OpenTest) -> None:
    """Row 24, complaint 26."""
    policy = RejoinPolicy(delays=[1.0], maximum=45.0, max_attempts=1)
    async with socket_test(Member, config(rejoin=policy)) as test:
        await test.accept_connect()
        for _ in range(3):
            await test.refuse_join("t", {"reason": "too many channels joined"}, within=60.0)
        assert trio.current_time() == pytest.approx(90.0)


async def test_a_join_without_an_answer_times_out_and_is_tried_again(
    socket_test: OpenTest,
) -> None:
    """Row 23, JS-JT2; complaint 10."""
    async with socket_test(Member, config(join_timeout=10.0, rejoin=[1.0])) as test:
        await test.accept_connect()
        for _ in range(2):
            join = await test.assert_join("t", within=5.0)
            leave = await test.assert_leave("t", within=15.0)
            assert leave.join_ref == join.join_ref
        await test.assert_join("t", within=5.0)
        assert trio.current_time() == pytest.approx(22.0)
        for joined in (False, False, True):  # what comes too late is no join
            await test.accept_join("t")
            assert test.socket.joined("t") is joined
        assert test.called("handle_topic_close") == [("t", JoinTimedOut())] * 2
        assert len(test.called("handle_join")) == 1


async def test_a_crashed_channel_is_rejoined_and_a_closed_one_is_not(
    socket_test: OpenTest,
) -> None:
    """Rows 35, 36; SL-I12, I13; JS-OE1, OC2."""
    async with socket_test(Member, config()) as test:
        await test.connect_and_join("t")
        await test.crash_topic("t")
        await test.accept_join("t", within=5.0)
        await test.close_topic("t")
        assert test.called("handle_topic_close") == [
            ("t", ChannelCrashed({"reason": "channel_crash"})),
            ("t", ChannelClosed()),
        ]
        await test.refute_sent(within=60.0)
        assert test.socket.join_status("t") == "closed"
        assert test.called("handle_leave") == []


@pytest.mark.parametrize(("how", "delay"), [("nothing", 5.0), ("rejoin", 0.0), ("leave", None)])
async def test_overriding_handle_topic_close_never_loses_the_rejoin_and_may_override_it(
    socket_test: OpenTest, how: str, delay: float | None
) -> None:
    class Decided(Member):
        async def handle_topic_close(self, topic: str, reason: Any, socket: Socket, /) -> None:
            if how != "nothing":
                getattr(socket, how)(topic)

    async with socket_test(Decided, config(rejoin=[5.0])) as test:
        await test.connect_and_join("t")
        await test.crash_topic("t")
        if delay is None:
            await test.refute_sent(within=60.0)
            assert test.called("handle_leave") == [("t",)]
        else:
            assert (await test.assert_join("t", within=60.0)).at == delay


async def test_the_count_of_a_topic_starts_anew_only_after_it_was_stable(
    socket_test: OpenTest,
) -> None:
    """Row 22."""
    policy = RejoinPolicy(delays=[1.0, 2.0, 4.0], stable_after=30.0)
    async with socket_test(Member, config(rejoin=policy)) as test:
        await test.connect_and_join("t")
        waits: list[float] = []
        for up in (0.0, 0.0, 31.0, 0.0):
            await test.advance(up)
            started = trio.current_time()
            await test.crash_topic("t")
            waits.append((await test.accept_join("t", within=60.0)).at - started)
        assert waits == [1.0, 2.0, 1.0, 2.0]


async def _left_by_reply(test: SocketTest, leave: ClientMessage) -> None:
    await test.send(answer(leave))


async def _left_by_close(test: SocketTest, leave: ClientMessage) -> None:
    await test.send(closed(leave))


async def _left_by_both(test: SocketTest, leave: ClientMessage) -> None:
    await test.resume()


async def _left_by_silence(test: SocketTest, leave: ClientMessage) -> None:
    await test.advance(10.0)


async def _left_by_loss(test: SocketTest, leave: ClientMessage) -> None:
    await test.drop()


@pytest.mark.parametrize(
    "how", [_left_by_reply, _left_by_close, _left_by_both, _left_by_silence, _left_by_loss]
)
async def test_a_leave_ends_once_whatever_ends_it(socket_test: OpenTest, how: Any) -> None:
    """Row 27; SL-I3, I4, T11; JS-L2-L6; complaint 19."""
    async with socket_test(SlipstreamClient, config(leave_timeout=10.0)) as test:
        test.socket.join("t")
        join = await test.connect_and_join("t")
        await test.stall("t")
        test.socket.leave("t")
        test.socket.leave("t")  # row 29
        leave = await test.assert_leave("t")
        assert leave.join_ref == join.join_ref
        assert test.socket.join_status("t") == "leaving"
        await how(test, leave)
        assert test.called("handle_leave") == [("t",)]
        assert test.socket.join_status("t") == "closed"
        if how is not _left_by_loss:
            await test.send(closed(leave))
            await test.refute_sent(within=60.0)
        assert test.called("handle_leave") == [("t",)]
        assert test.called("handle_topic_close") == []


async def test_leaving_while_joining_drops_the_late_ok(socket_test: OpenTest) -> None:
    """Row 26."""
    async with socket_test(Member, config()) as test:
        await test.accept_connect()
        await test.assert_join("t")
        test.socket.leave("t")
        await test.assert_leave("t")
        await test.accept_join("t")
        assert test.called("handle_join") == []
        assert test.called("handle_leave") == [("t",)]


@pytest.mark.parametrize("when", ["offline", "waiting"])
async def test_leaving_what_is_not_joined_takes_back_the_wish(
    socket_test: OpenTest, when: str
) -> None:
    """Row 28."""
    async with socket_test(SlipstreamClient, config(rejoin=[5.0])) as test:
        test.socket.join("t")
        if when == "offline":
            test.socket.leave("t")
            await test.accept_connect()
        else:
            await test.connect_and_join("t")
            await test.crash_topic("t")
            test.socket.leave("t")
        await test.refute_sent(within=60.0)
        assert test.called("handle_leave") == [("t",)]


async def test_leaving_what_was_never_asked_for_does_nothing(socket_test: OpenTest) -> None:
    async with socket_test(SlipstreamClient, config()) as test:
        await test.accept_connect()
        test.socket.leave("nothing")
        await test.refute_sent(within=60.0)
        assert test.socket.join_status("nothing") is None
        with pytest.raises(NotJoinedError):
            test.socket.rejoin("nothing")  # SL-B5


async def test_a_topic_that_was_left_is_rejoined_with_the_same_params(
    socket_test: OpenTest,
) -> None:
    """Row 30, SL-B6."""
    async with socket_test(SlipstreamClient, config()) as test:
        test.socket.join("t", {"n": 1})
        await test.connect_and_join("t")
        test.socket.leave("t")
        await test.assert_leave("t")
        test.socket.rejoin("t")
        await test.assert_join("t", {"n": 1}, within=0.0)


async def test_an_explicit_rejoin_sends_at_once_and_its_stale_close_is_ignored(
    socket_test: OpenTest,
) -> None:
    """Rows 25, 33; second line of the ground truth."""
    async with socket_test(SlipstreamClient, config()) as test:
        test.socket.join("t")
        await test.connect_and_join("t")
        test.socket.rejoin("t", {"n": 2})
        await test.assert_join("t", {"n": 2}, within=0.0)
        await test.accept_join("t")  # the close of the first comes behind it
        assert test.socket.joined("t")
        assert test.callbacks.count("handle_join") == 2
        assert test.called("handle_topic_close") == []
        await test.drop()
        assert (await test.connect_and_join("t")).payload == {"n": 2}


async def test_join_leave_join_back_to_back_ends_joined(socket_test: OpenTest) -> None:
    """Ground truth: states are keyed by join_ref."""
    async with socket_test(SlipstreamClient, config()) as test:
        await test.accept_connect()
        test.socket.join("t")
        test.socket.leave("t")
        test.socket.join("t", {"n": 2})
        await test.settle()
        first, leave, second = test.sent
        await test.send(answer(first))
        await test.send(answer(leave))
        await test.send(closed(first))
        await test.send(answer(second))
        assert test.socket.joined("t")
        assert test.callbacks[2:] == ["handle_leave", "handle_join"]


async def test_stale_messages_never_reach_the_client(socket_test: OpenTest) -> None:
    """Row 34, contract invariant 6: also those that lay unread when the join changed."""

    class Rejoining(SlipstreamClient):
        async def handle_message(
            self, topic: str, event: str, payload: Any, socket: Socket, /
        ) -> None:
            if event == "first":
                socket.rejoin("t", {"n": 2})

    async with socket_test(Rejoining, config()) as test:
        test.socket.join("t")
        join = await test.connect_and_join("t")
        await test.send(
            Message(join.join_ref, None, "t", "first", {}),
            Message(join.join_ref, None, "t", "old", {}),
            Message(None, None, "t", "broadcast", {}),
        )
        await test.assert_join("t", {"n": 2})
        await test.push("t", "older")
        await test.accept_join("t")
        await test.broadcast("t", "new")
        assert [args[1] for args in test.called("handle_message")] == ["first", "new"]
        assert test.ref.health().counters["stale"] == 2


async def test_joins_are_paced(socket_test: OpenTest) -> None:
    policy = RejoinPolicy(max_joins_per_second=2.0)
    async with socket_test(SlipstreamClient, config(rejoin=policy)) as test:
        for number in range(5):
            test.socket.join(f"t{number}")
        await test.accept_connect()
        times = [(await test.accept_join()).at for _ in range(5)]
        assert times == pytest.approx([0.0, 0.5, 1.0, 1.5, 2.0])


@pytest.mark.parametrize(
    ("topic", "params", "field"), [("t", {"a": {1, 2}}, "payload.a"), ("t", object(), "payload")]
)
async def test_params_that_cannot_be_sent_are_refused_at_once(
    socket_test: OpenTest, topic: str, params: Any, field: str
) -> None:
    async with socket_test(SlipstreamClient, config()) as test:
        await test.accept_connect()
        with pytest.raises(EncodeError) as caught:
            test.socket.join(topic, params)
        assert caught.value.field == field
        assert test.socket.topics == {}


async def test_left_topics_are_not_kept_without_number(socket_test: OpenTest) -> None:
    """Complaint 3."""
    async with socket_test(SlipstreamClient, config()) as test:
        await test.accept_connect()
        for number in range(1500):
            test.socket.join(f"t{number}")
            await test.refuse_join(f"t{number}", {"reason": "unauthorized"})
        assert len(test.socket.topics) == 1024
        assert len(test.called("handle_topic_close")) == 1500


async def test_undecodable_frames_are_counted_or_close_the_connection(
    socket_test: OpenTest,
) -> None:
    """Row 45."""
    async with socket_test(Member, config()) as test:
        await test.connect_and_join("t")
        await test.send("{", b"\xff")
        await test.broadcast("t", "m")
        assert len(test.called("handle_message")) == 1
        assert test.ref.health().counters["undecodable"] == 2
    async with socket_test(Member, config(on_undecodable="close")) as test:
        await test.connect_and_join("t")
        await test.send("{")
        await test.assert_disconnect(1007)


class _Dates:
    """A codec that knows a type more than JSON has."""

    def encode(self, value: Any, /) -> bytes:
        return json.dumps(value, default=str).encode()

    def decode(self, data: bytes | str, /) -> Any:
        return json.loads(data)


async def test_a_codec_of_ones_own_says_what_can_be_sent_also_while_offline(
    socket_test: OpenTest,
) -> None:
    """d20, d50, JS-K2: what is checked at once is checked by the codec that will send it."""
    day = date(2026, 1, 2)
    async with socket_test(SlipstreamClient, config(json=_Dates())) as test:
        test.socket.join("t", {"since": day})
        await test.socket.push("t", "new", {"on": day})
        await test.accept_connect()
        await test.assert_join("t", {"since": "2026-01-02"})


async def test_a_rejoin_that_falls_due_while_the_client_is_ending_is_off(
    socket_test: OpenTest,
) -> None:
    """The server answers no close, so the end takes its time; nothing may be started then."""

    async def params() -> dict[str, int]:
        return {"token": 1}

    policy = RejoinPolicy(delays=[2.0], max_joins_per_second=0.5)
    async with socket_test(SlipstreamClient, config(rejoin=policy, close_timeout=3.0)) as test:
        await test.accept_connect()
        test.socket.join("refused", params)
        test.socket.join("paced", params)
        await test.refuse_join("refused", {"reason": "no"})
        assert test.socket.topics == {"refused": "waiting", "paced": "requested"}
        await test.stall()
        started = trio.current_time()
        await test.supervisor.terminate_child("client")
        assert trio.current_time() == started + 3.0


async def test_a_refused_topic_waits_its_own_delay_whatever_is_flushed(
    socket_test: OpenTest,
) -> None:
    """A callback of the same connection that ends later does not send it again at once."""

    class Waiting(SlipstreamClient):
        async def handle_connect(self, socket: Socket, /) -> None:
            socket.join("t")
            with pytest.raises(JoinError):
                await socket.await_join("t")

    async with socket_test(Waiting, config(rejoin=[5.0, 7.0])) as test:
        await test.accept_connect()
        joins = [await test.refuse_join("t", {"reason": "no"}, within=10.0) for _ in range(3)]
        assert [join.at for join in joins] == [0.0, 5.0, 12.0]
