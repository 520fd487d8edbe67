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
)
from tests.client.support import Harness, ServerEnd, harness, settle, virtual


def test_a_join_made_offline_is_remembered_and_sent_when_connected() -> None:
    """Row 20, JS-P2."""

    async def scenario() -> None:
        async with harness() as h:
            h.socket.join("t", {"user": 1})
            assert h.socket.join_status("t") == "requested"
            end = await h.accept()
            join = await end.next("phx_join")
            assert join.payload == {"user": 1}
            assert join.join_ref == join.ref
            end.reply(join, response={"hello": "you"})
            await settle()
            assert h.of("handle_join") == [("t", {"hello": "you"})]
            assert h.socket.joined("t")

    virtual(scenario)


def test_a_second_join_is_no_second_join() -> None:
    """Row 25, SL-I2, JS-J3."""

    async def scenario() -> None:
        async with harness() as h:
            end = await h.accept()
            h.socket.join("t", {"n": 1})
            h.socket.join("t", {"n": 2})
            join = await end.accept_join()
            assert join.payload == {"n": 1}
            await settle()
            h.socket.join("t", {"n": 3})
            h.socket.rejoin("t")
            await end.nothing()

    virtual(scenario)


def test_wanted_topics_are_rejoined_after_a_reconnect() -> None:
    """Row 21, SL-X6, complaint 18; refs go on over connections (row 47)."""

    async def scenario() -> None:
        async with harness() as h:
            end = await h.accept()
            for topic in ("a", "b", "c"):
                h.socket.join(topic, {"topic": topic}, rejoin=topic != "c")
                await end.accept_join(topic)
            await settle()
            end.peer.drop()
            await settle()
            assert h.socket.topics == {"a": "waiting", "b": "waiting", "c": "closed"}
            end = await h.accept()
            joins = [await end.accept_join("a"), await end.accept_join("b")]
            assert [join.ref for join in joins] == ["4", "5"]
            await end.nothing()
            assert [args[0] for args in h.of("handle_join")] == ["a", "b", "c", "a", "b"]
            assert h.of("handle_topic_close") == []  # contract invariant 4

    virtual(scenario)


def test_a_params_provider_is_asked_for_every_join() -> None:
    """Row 7, JS-CH6."""
    counter = iter(range(10))

    async def scenario() -> None:
        async with harness() as h:
            end = await h.accept()
            h.socket.join("t", lambda: {"n": next(counter)})
            assert (await end.accept_join()).payload == {"n": 0}
            await settle()
            end.peer.drop()
            end = await h.accept()
            assert (await end.accept_join()).payload == {"n": 1}

    virtual(scenario)


@pytest.mark.parametrize("fault", ["raises", "hangs", "gives bytes"])
def test_params_that_cannot_be_had_are_a_failed_join(fault: str) -> None:
    async def provider() -> Any:
        if fault == "raises":
            raise ValueError("not today")
        if fault == "hangs":
            await trio.sleep_forever()
        return {"a": b"x"}

    async def scenario() -> None:
        async with harness(provider_timeout=2.0, rejoin=[5.0]) as h:
            end = await h.accept()
            h.socket.join("t", provider)
            await trio.sleep(3.0)
            (topic, reason) = h.of("handle_topic_close")[0]
            assert topic == "t"
            assert isinstance(reason, JoinFailed)
            assert h.socket.join_status("t") == "waiting"
            await end.nothing(1.0)

    virtual(scenario)


def test_a_leave_while_the_params_are_fetched_sends_nothing() -> None:
    async def provider() -> Any:
        await trio.sleep(1.0)
        return {}

    async def scenario() -> None:
        async with harness() as h:
            end = await h.accept()
            await settle()
            h.socket.join("t", provider)
            h.socket.leave("t")
            await end.nothing()
            assert h.of("handle_leave") == [("t",)]

    virtual(scenario)


REFUSALS = [
    ({"reason": "join crashed"}, True),
    ({"bad": "join"}, True),
    ([], True),
    ({"reason": "unmatched topic"}, False),
    ({"reason": "unauthorized"}, False),
]


@pytest.mark.parametrize(("response", "retried"), REFUSALS)
def test_a_refused_join_is_judged_by_its_response(response: Any, retried: bool) -> None:
    """Row 24, SL-I14, I15."""

    async def scenario() -> None:
        async with harness(rejoin=[3.0]) as h:
            end = await h.accept()
            h.socket.join("t", {"n": 1})
            end.reply(await end.next("phx_join"), "error", response)
            await settle()
            assert h.of("handle_topic_close") == [("t", JoinRefused(response))]
            assert h.socket.join_status("t") == ("waiting" if retried else "closed")
            if retried:
                started = trio.current_time()
                assert (await end.accept_join()).payload == {"n": 1}
                assert trio.current_time() - started == 3.0
            else:
                await end.nothing()

    virtual(scenario)


def test_too_many_channels_wait_long_and_are_not_counted() -> None:
    """Row 24, complaint 26."""

    async def scenario() -> None:
        policy = RejoinPolicy(delays=[1.0], maximum=45.0, max_attempts=1)
        async with harness(rejoin=policy) as h:
            end = await h.accept()
            h.socket.join("t")
            for _ in range(3):
                end.reply(
                    await end.next("phx_join"), "error", {"reason": "too many channels joined"}
                )
            assert trio.current_time() == pytest.approx(90.0)

    virtual(scenario)


def test_a_join_without_an_answer_times_out_and_is_tried_again() -> None:
    """Row 23, JS-JT2; complaint 10."""

    async def scenario() -> None:
        async with harness(join_timeout=10.0, rejoin=[1.0]) as h:
            end = await h.accept()
            h.socket.join("t")
            for _ in range(2):
                join = await end.next("phx_join")
                leave = await end.next("phx_leave")
                assert leave.join_ref == join.join_ref
            await end.accept_join()
            await settle()
            assert trio.current_time() == pytest.approx(22.0)
            assert h.of("handle_topic_close") == [("t", JoinTimedOut())] * 2
            assert h.socket.joined("t")

    virtual(scenario)


def test_a_crashed_channel_is_rejoined_and_a_closed_one_is_not() -> None:
    """Rows 35, 36; SL-I12, I13; JS-OE1, OC2."""

    async def scenario() -> None:
        async with harness() as h:
            end, join = await h.joined()
            end.say(join.join_ref, join.ref, "t", "phx_error", {"reason": "channel_crash"})
            join = await end.accept_join()
            await settle()
            end.say(join.join_ref, join.ref, "t", "phx_close")
            await settle()
            assert h.of("handle_topic_close") == [
                ("t", ChannelCrashed({"reason": "channel_crash"})),
                ("t", ChannelClosed()),
            ]
            await end.nothing()
            assert h.socket.join_status("t") == "closed"
            assert h.of("handle_leave") == []

    virtual(scenario)


def test_a_close_is_followed_by_a_rejoin_if_the_policy_says_so() -> None:
    async def scenario() -> None:
        async with harness(rejoin=RejoinPolicy(delays=[2.0], after_close=True)) as h:
            end, join = await h.joined()
            end.say(join.join_ref, join.ref, "t", "phx_close")
            await end.accept_join()

    virtual(scenario)


def test_overriding_handle_topic_close_never_loses_the_rejoin_and_may_override_it() -> None:
    async def scenario() -> None:
        for how, delay in (("nothing", 5.0), ("rejoin", 0.0), ("leave", None)):

            async def decide(
                client: Any, topic: str, reason: Any, socket: Any, how: str = how
            ) -> None:
                if how != "nothing":
                    getattr(socket, how)(topic)

            async with harness({"handle_topic_close": decide}, rejoin=[5.0]) as h:
                end, join = await h.joined()
                started = trio.current_time()
                end.say(join.join_ref, join.ref, "t", "phx_error")
                if delay is None:
                    await end.nothing()
                    assert h.of("handle_leave") == [("t",)]
                else:
                    await end.accept_join()
                    assert trio.current_time() - started == delay

    virtual(scenario)


def test_the_count_of_a_topic_starts_anew_only_after_it_was_stable() -> None:
    """Row 22."""

    async def scenario() -> None:
        async with harness(rejoin=RejoinPolicy(delays=[1.0, 2.0, 4.0], stable_after=30.0)) as h:
            end, join = await h.joined()
            waits: list[float] = []
            for up in (0.0, 0.0, 31.0, 0.0):
                await trio.sleep(up)
                end.say(join.join_ref, join.ref, "t", "phx_error")
                started = trio.current_time()
                join = await end.accept_join()
                waits.append(trio.current_time() - started)
                await settle()
            assert waits == [1.0, 2.0, 1.0, 2.0]

    virtual(scenario)


async def _left_by_reply(h: Harness, end: ServerEnd, leave: Any) -> None:
    end.reply(leave)


async def _left_by_close(h: Harness, end: ServerEnd, leave: Any) -> None:
    end.say(leave.join_ref, leave.join_ref, "t", "phx_close")


async def _left_by_silence(h: Harness, end: ServerEnd, leave: Any) -> None:
    await trio.sleep(10.0)


async def _left_by_loss(h: Harness, end: ServerEnd, leave: Any) -> None:
    end.peer.drop()


@pytest.mark.parametrize("how", [_left_by_reply, _left_by_close, _left_by_silence, _left_by_loss])
def test_a_leave_ends_once_whatever_ends_it(how: Any) -> None:
    """Row 27; SL-I3, I4, T11; JS-L2-L6; complaint 19."""

    async def scenario() -> None:
        async with harness(leave_timeout=10.0) as h:
            end, join = await h.joined()
            h.socket.leave("t")
            h.socket.leave("t")  # row 29
            leave = await end.next("phx_leave")
            assert leave.join_ref == join.join_ref
            assert h.socket.join_status("t") == "leaving"
            await how(h, end, leave)
            await settle()
            assert h.of("handle_leave") == [("t",)]
            assert h.socket.join_status("t") == "closed"
            if how is not _left_by_loss:
                end.say(leave.join_ref, leave.join_ref, "t", "phx_close")
                await end.nothing()
            assert h.of("handle_leave") == [("t",)]
            assert h.of("handle_topic_close") == []

    virtual(scenario)


def test_leaving_while_joining_drops_the_late_ok() -> None:
    """Row 26."""

    async def scenario() -> None:
        async with harness() as h:
            end = await h.accept()
            await settle()
            h.socket.join("t")
            join = await end.next("phx_join")
            h.socket.leave("t")
            leave = await end.next("phx_leave")
            end.reply(join)
            end.reply(leave)
            await settle()
            assert h.of("handle_join") == []
            assert h.of("handle_leave") == [("t",)]

    virtual(scenario)


@pytest.mark.parametrize("when", ["offline", "waiting"])
def test_leaving_what_is_not_joined_takes_back_the_wish(when: str) -> None:
    """Row 28."""

    async def scenario() -> None:
        async with harness(rejoin=[5.0]) as h:
            if when == "offline":
                h.socket.join("t")
                h.socket.leave("t")
                end = await h.accept()
            else:
                end, join = await h.joined()
                end.say(join.join_ref, join.ref, "t", "phx_error")
                await settle()
                h.socket.leave("t")
            await end.nothing()
            assert h.of("handle_leave") == [("t",)]

    virtual(scenario)


def test_leaving_what_was_never_asked_for_does_nothing() -> None:
    async def scenario() -> None:
        async with harness() as h:
            end = await h.accept()
            h.socket.leave("nothing")
            await end.nothing()
            assert h.socket.join_status("nothing") is None
            with pytest.raises(NotJoinedError):
                h.socket.rejoin("nothing")  # SL-B5

    virtual(scenario)


def test_a_topic_that_was_left_is_rejoined_with_the_same_params() -> None:
    """Row 30, SL-B6."""

    async def scenario() -> None:
        async with harness() as h:
            end = await h.accept()
            h.socket.join("t", {"n": 1})
            await end.accept_join()
            await settle()
            h.socket.leave("t")
            end.reply(await end.next("phx_leave"))
            await settle()
            h.socket.rejoin("t")
            assert (await end.accept_join()).payload == {"n": 1}

    virtual(scenario)


def test_an_explicit_rejoin_sends_at_once_and_its_stale_close_is_ignored() -> None:
    """Rows 25, 33; second line of the ground truth."""

    async def scenario() -> None:
        async with harness() as h:
            end, first = await h.joined()
            h.socket.rejoin("t", {"n": 2})
            second = await end.next("phx_join")
            assert second.payload == {"n": 2}
            end.reply(second)
            end.say(first.join_ref, first.ref, "t", "phx_close")
            await settle()
            assert h.socket.joined("t")
            assert h.names().count("handle_join") == 2
            assert h.of("handle_topic_close") == []
            end.peer.drop()
            end = await h.accept()
            assert (await end.accept_join()).payload == {"n": 2}

    virtual(scenario)


def test_join_leave_join_back_to_back_ends_joined() -> None:
    """Ground truth: states are keyed by join_ref."""

    async def scenario() -> None:
        async with harness() as h:
            end = await h.accept()
            await settle()
            h.socket.join("t")
            h.socket.leave("t")
            h.socket.join("t", {"n": 2})
            first, leave, second = [await end.next() for _ in range(3)]
            end.reply(first)
            end.reply(leave)
            end.say(first.join_ref, first.ref, "t", "phx_close")
            end.reply(second)
            await settle()
            assert h.socket.joined("t")
            assert h.names()[2:] == ["handle_leave", "handle_join"]

    virtual(scenario)


def test_stale_messages_never_reach_the_client() -> None:
    """Row 34, contract invariant 6: also those that lay unread when the join changed."""

    async def rejoin(client: Any, topic: str, event: str, payload: Any, socket: Any) -> None:
        if event == "first":
            socket.rejoin("t", {"n": 2})

    async def scenario() -> None:
        async with harness({"handle_message": rejoin}) as h:
            end, join = await h.joined()
            messages: list[tuple[Any, ...]] = [
                (join.join_ref, None, "t", "first", {}),
                (join.join_ref, None, "t", "old", {}),
                (None, None, "t", "broadcast", {}),
            ]
            end.send(*[Message(*fields) for fields in messages])
            second = await end.next("phx_join")
            end.say(join.join_ref, None, "t", "older", {})
            end.reply(second)
            end.broadcast("t", "new")
            await settle()
            assert [args[1] for args in h.of("handle_message")] == ["first", "new"]
            assert h.ref.health().counters["stale"] == 2

    virtual(scenario)


def test_joins_are_paced() -> None:
    async def scenario() -> None:
        policy = RejoinPolicy(max_joins_per_second=2.0)
        async with harness(rejoin=policy) as h:
            for number in range(5):
                h.socket.join(f"t{number}")
            end = await h.accept()
            times: list[float] = []
            for _ in range(5):
                end.reply(await end.next("phx_join"))
                times.append(trio.current_time())
            assert times == pytest.approx([0.0, 0.5, 1.0, 1.5, 2.0])

    virtual(scenario)


@pytest.mark.parametrize(
    ("topic", "params", "field"), [("t", {"a": {1, 2}}, "payload.a"), ("t", object(), "payload")]
)
def test_params_that_cannot_be_sent_are_refused_at_once(
    topic: str, params: Any, field: str
) -> None:
    async def scenario() -> None:
        async with harness() as h:
            await h.accept()
            with pytest.raises(EncodeError) as caught:
                h.socket.join(topic, params)
            assert caught.value.field == field
            assert h.socket.topics == {}

    virtual(scenario)


def test_left_topics_are_not_kept_without_number() -> None:
    """Complaint 3."""

    async def scenario() -> None:
        async with harness() as h:
            end = await h.accept()
            for number in range(1500):
                h.socket.join(f"t{number}")
                end.reply(await end.next("phx_join"), "error", {"reason": "unauthorized"})
            await settle()
            assert len(h.socket.topics) == 1024
            assert len(h.of("handle_topic_close")) == 1500

    virtual(scenario)


def test_undecodable_frames_are_counted_or_close_the_connection() -> None:
    """Row 45."""

    async def scenario() -> None:
        async with harness() as h:
            end, _ = await h.joined()
            end.peer.send("{", b"\xff")
            end.broadcast("t", "m")
            await settle()
            assert len(h.of("handle_message")) == 1
            assert h.ref.health().counters["undecodable"] == 2
        async with harness(on_undecodable="close") as h:
            end, _ = await h.joined()
            end.peer.send("{")
            assert (await end.peer.wait_closed()).code == 1007

    virtual(scenario)


class _Dates:
    """A codec that knows a type more than JSON has."""

    def encode(self, value: Any, /) -> bytes:
        return json.dumps(value, default=str).encode()

    def decode(self, data: bytes | str, /) -> Any:
        return json.loads(data)


def test_a_codec_of_ones_own_says_what_can_be_sent_also_while_offline() -> None:
    """d20, d50, JS-K2: what is checked at once is checked by the codec that will send it."""
    day = date(2026, 1, 2)

    async def scenario() -> None:
        async with harness(json=_Dates()) as h:
            h.socket.join("t", {"since": day})
            await h.socket.push("t", "new", {"on": day})
            end = await h.accept()
            assert (await end.next("phx_join")).payload == {"since": "2026-01-02"}

    virtual(scenario)


def test_a_rejoin_that_falls_due_while_the_client_is_ending_is_off() -> None:
    """The server answers no close, so the end takes its time; nothing may be started then."""

    async def params() -> dict[str, int]:
        return {"token": 1}

    async def scenario() -> None:
        async with harness(
            rejoin=RejoinPolicy(delays=[2.0], max_joins_per_second=0.5), close_timeout=3.0
        ) as h:
            end = await h.accept()
            h.socket.join("refused", params)
            h.socket.join("paced", params)
            end.reply(await end.next("phx_join"), "error", {"reason": "no"})
            await settle()
            assert h.socket.topics == {"refused": "waiting", "paced": "requested"}
            end.peer.ignore_close()
            started = trio.current_time()
        assert trio.current_time() == started + 3.0

    virtual(scenario)


def test_a_refused_topic_waits_its_own_delay_whatever_is_flushed() -> None:
    """A callback of the same connection that ends later does not send it again at once."""
    refused: list[float] = []
    asked: list[float] = []

    async def join(client: Any, socket: Any) -> None:
        socket.join("t")
        with pytest.raises(JoinError):
            await socket.await_join("t")
        refused.append(trio.current_time())

    async def scenario() -> None:
        async with harness({"handle_connect": join}, rejoin=[5.0, 7.0]) as h:
            end = await h.accept()
            for _ in range(3):
                message = await end.next("phx_join")
                asked.append(trio.current_time() - refused[0] if refused else 0.0)
                end.reply(message, "error", {"reason": "no"})
                await settle()
            assert asked == [0.0, 5.0, 12.0]

    virtual(scenario)
