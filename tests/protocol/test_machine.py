"""The socket machine: the fence, deadlines, heartbeats, and what a push owes."""

import math
from typing import Any

import pytest

from slipstream.errors import EncodeError, LocalProtocolError
from slipstream.interfaces import Message
from slipstream.protocol import (
    ChannelReply,
    Event,
    FrameDiscarded,
    FrameUndecodable,
    HeartbeatAcknowledged,
    HeartbeatTimedOut,
    JoinTopic,
    LeaveTopic,
    Outgoing,
    PushFailed,
    PushMessage,
    RefCounter,
    ReplyReceived,
    SocketMachine,
    TopicClosed,
    TopicJoined,
    TopicJoinFailed,
    TopicLeft,
    TopicState,
    V1Serializer,
    V2Serializer,
)
from slipstream.protocol.topics import TRANSITIONS, Input
from slipstream.reasons import (
    ChannelClosed,
    ChannelCrashed,
    ConnectionLost,
    JoinRefused,
    JoinTimedOut,
    PushTimedOut,
    TopicGone,
)

UNMATCHED = {"status": "error", "response": {"reason": "unmatched topic"}}
OK = {"status": "ok", "response": {}}


class Wire:
    """A machine, a clock that the test sets, and a server that is the test."""

    def __init__(
        self, *, interval: float | None = None, timeout: float = 10.0, v1: bool = False
    ) -> None:
        self.refs = RefCounter()
        self.machine = SocketMachine(
            V1Serializer() if v1 else V2Serializer(),
            refs=self.refs,
            heartbeat_interval=interval,
            heartbeat_timeout=timeout,
        )
        self.server = V1Serializer(role="server") if v1 else V2Serializer(role="server")
        self.now = 100.0
        self.heard = 100.0
        self.machine.start(self.now)

    def do(self, command: Any, *, write: bool = True) -> str:
        outgoing = self.machine.handle(command, self.now)
        if write:
            self.machine.written([outgoing.ref], self.now)
        return outgoing.ref

    def join(self, topic: str = "t", timeout: float = 5.0, *, write: bool = True) -> str:
        return self.do(JoinTopic(topic, {}, timeout), write=write)

    def joined(self, topic: str = "t") -> str:
        ref = self.join(topic)
        assert self.say(ref, ref, "phx_reply", OK, topic=topic) == [TopicJoined(topic, {}, ref)]
        return ref

    def push(self, timeout: float | None = None, topic: str = "t", *, write: bool = True) -> str:
        return self.do(PushMessage(topic, "e", {}, timeout), write=write)

    def say(
        self,
        join_ref: str | None,
        ref: str | None,
        event: str,
        payload: Any = None,
        *,
        topic: str = "t",
    ) -> list[Event]:
        self.heard = self.now
        message = Message(join_ref, ref, topic, event, {} if payload is None else payload)
        frame = self.server.encode(message)
        return self.machine.receive([frame.data.decode()], self.now)

    def at(self, now: float) -> tuple[list[Event], list[Outgoing]]:
        self.now = now
        return self.machine.advance(now, self.heard)


def discarded(events: list[Event]) -> list[str]:
    assert all(isinstance(event, FrameDiscarded) for event in events), events
    return [event.why for event in events if isinstance(event, FrameDiscarded)]


def test_refs_count_up_and_a_join_carries_its_own_ref_twice() -> None:
    """JS-R1, JS-J4, row 47."""
    wire = Wire()
    outgoing = wire.machine.handle(JoinTopic("t", {"a": 1}, 5.0), 0.0)
    assert outgoing.frame.data == b'["1","1","t","phx_join",{"a":1}]'
    assert wire.join("u") == "2"


def test_every_frame_of_a_channel_carries_its_join_ref() -> None:
    """Row 48, JS-PU1, JS-L1."""
    wire = Wire()
    wire.joined()
    push = wire.machine.handle(PushMessage("t", "e", {}), 0.0)
    leave = wire.machine.handle(LeaveTopic("t", 5.0), 0.0)
    assert push.frame.data == b'["1","2","t","e",{}]'
    assert leave.frame.data == b'["1","3","t","phx_leave",{}]'


def test_the_table_names_every_state_and_closed_knows_only_a_join() -> None:
    assert set(TRANSITIONS) == set(TopicState)
    assert set(TRANSITIONS[TopicState.CLOSED]) == {Input.JOIN}


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (PushMessage("t", "e", {}), "cannot push 'e' to 't' while it is closed"),
        (LeaveTopic("t", 1.0), "cannot leave topic 't' while it is closed"),
        (JoinTopic("phoenix", {}, 1.0), "the socket's own"),
    ],
)
def test_what_the_state_does_not_allow_is_refused_and_burns_no_ref(command: Any, says: str) -> None:
    wire = Wire()
    with pytest.raises(LocalProtocolError, match=says):
        wire.machine.handle(command, 0.0)
    assert wire.refs.peek() == "1"
    assert wire.machine.topics == {}


@pytest.mark.parametrize(
    "command", [JoinTopic("u", {"a": b"x"}, 1.0), PushMessage("t", "e", {"a": b"x"}, 1.0)]
)
def test_a_payload_that_cannot_be_sent_changes_nothing(command: Any) -> None:
    wire = Wire()
    wire.joined()
    with pytest.raises(EncodeError, match=r"payload\.a"):
        wire.machine.handle(command, 0.0)
    assert wire.refs.peek() == "2"
    assert wire.machine.topics == {"t": TopicState.JOINED}
    assert wire.machine.pending_pushes == 0


def test_a_join_is_matched_by_its_ref_though_its_join_ref_is_null() -> None:
    """The first line of the ground truth: an unmatched topic."""
    wire = Wire()
    ref = wire.join()
    failed = TopicJoinFailed("t", JoinRefused(UNMATCHED["response"]), ref)
    assert wire.say(None, ref, "phx_reply", UNMATCHED) == [failed]
    assert wire.machine.state("t") is TopicState.CLOSED


def test_a_stale_join_reply_is_dropped() -> None:
    """Row 31."""
    wire = Wire()
    first, second = wire.join(), wire.join()
    assert discarded(wire.say(first, first, "phx_reply", OK)) == ["stale_reply"]
    assert wire.machine.state("t") is TopicState.JOINING
    assert wire.say(second, second, "phx_reply", OK) == [TopicJoined("t", {}, second)]


@pytest.mark.parametrize(
    ("event", "why"),
    [("phx_close", "stale_close"), ("phx_error", "stale_error"), ("m", "stale_message")],
)
def test_what_belongs_to_an_earlier_join_is_dropped(event: str, why: str) -> None:
    """Rows 32, 33, 34: also the phx_close that follows the reply to a duplicate join."""
    wire = Wire()
    first = wire.joined()
    second = wire.joined()
    assert discarded(wire.say(first, None, event)) == [why]
    assert wire.machine.state("t") is TopicState.JOINED
    assert wire.say(second, None, "m") == [Message(second, None, "t", "m", {})]


def test_a_broadcast_passes_only_while_the_topic_is_joined() -> None:
    """Row 34."""
    wire = Wire()
    broadcast = Message(None, None, "t", "m", {})
    assert discarded(wire.say(None, None, "m")) == ["unknown_topic"]
    ref = wire.join()
    assert discarded(wire.say(None, None, "m")) == ["not_joined"]
    wire.say(ref, ref, "phx_reply", OK)
    assert wire.say(None, None, "m") == [broadcast]
    wire.do(LeaveTopic("t", 5.0))
    assert discarded(wire.say(None, None, "m")) == ["not_joined"]
    assert wire.say(ref, None, "m") == [Message(ref, None, "t", "m", {})]


@pytest.mark.parametrize("event", ["phx_close", "phx_error", "phx_reply", "m"])
def test_events_of_an_unknown_topic_are_dropped(event: str) -> None:
    """Row 37."""
    payload = OK if event == "phx_reply" else {}
    assert len(discarded(Wire().say("9", "9", event, payload, topic="nobody"))) == 1


def test_the_end_of_a_channel_is_told_once_with_its_reason() -> None:
    """Rows 35, 36, 46."""
    wire = Wire()
    ref = wire.joined()
    assert wire.say(ref, ref, "phx_close", {"odd": 1}) == [TopicClosed("t", ChannelClosed(), ref)]
    assert discarded(wire.say(ref, ref, "phx_close")) == ["unknown_topic"]
    ref = wire.joined()
    crash = {"reason": "channel_crash"}
    assert wire.say(ref, ref, "phx_error", crash) == [TopicClosed("t", ChannelCrashed(crash), ref)]


@pytest.mark.parametrize("payload", [[], "x", 7, None])
def test_a_crash_may_carry_any_payload(payload: Any) -> None:
    """Row 36: never crash on its shape."""
    wire = Wire()
    ref = wire.joined()
    events = wire.machine.receive(
        [wire.server.encode(Message(ref, ref, "t", "phx_error", payload)).data.decode()], 0.0
    )
    assert events == [TopicClosed("t", ChannelCrashed(payload), ref)]


def test_v1_ends_without_a_join_ref_count_as_the_present_joins() -> None:
    """Row 33, and design section 2."""
    for state in ("joining", "joined", "leaving"):
        wire = Wire(v1=True)
        ref = wire.join()
        if state != "joining":
            wire.say(None, ref, "phx_reply", OK)
        if state == "leaving":
            wire.do(LeaveTopic("t", 5.0))
            assert wire.say(None, None, "phx_error") == [TopicLeft("t", ref)]
        else:
            assert wire.say(None, None, "phx_close") == [TopicClosed("t", ChannelClosed(), ref)]


def test_v2_ends_without_a_join_ref_count_only_while_joined() -> None:
    wire = Wire()
    ref = wire.join()
    assert discarded(wire.say(None, None, "phx_close")) == ["stale_close"]
    wire.say(ref, ref, "phx_reply", OK)
    assert wire.say(None, None, "phx_close") == [TopicClosed("t", ChannelClosed(), ref)]


@pytest.mark.parametrize("event", ["phx_close", "phx_error"])
def test_the_answer_to_a_join_whose_channel_has_ended_already_is_dropped(event: str) -> None:
    wire = Wire()
    ref = wire.join()
    assert isinstance(wire.say(ref, ref, event)[0], TopicClosed)
    assert discarded(wire.say(ref, ref, "phx_reply", OK)) == ["stale_reply"]
    assert wire.machine.deadline() == math.inf
    assert wire.machine.state("t") is TopicState.CLOSED


@pytest.mark.parametrize("by", ["reply", "close", "error"])
def test_a_leave_is_told_once_whatever_tells_of_it_first(by: str) -> None:
    """Row 27: a leave brings a reply and a phx_close."""
    wire = Wire()
    join_ref = wire.joined()
    ref = wire.do(LeaveTopic("t", 5.0))
    says: dict[str, tuple[str, str, Any]] = {
        "reply": (ref, "phx_reply", OK),
        "close": (join_ref, "phx_close", {}),
        "error": (join_ref, "phx_error", {}),
    }
    assert wire.say(join_ref, *says.pop(by)) == [TopicLeft("t", join_ref)]
    for said in says.values():
        assert len(discarded(wire.say(join_ref, *said))) == 1


def test_a_leave_while_joining_drops_the_late_ok() -> None:
    """Row 26."""
    wire = Wire()
    join_ref = wire.join()
    leave = wire.do(LeaveTopic("t", 5.0))
    assert discarded(wire.say(join_ref, join_ref, "phx_reply", OK)) == ["stale_reply"]
    assert wire.say(join_ref, leave, "phx_reply", OK) == [TopicLeft("t", join_ref)]


def test_join_leave_join_back_to_back_is_keyed_by_join_ref() -> None:
    """complaint-19. The ground truth: ok, ok, close(old), ok."""
    wire = Wire()
    first = wire.join()
    leave = wire.do(LeaveTopic("t", 5.0))
    second = wire.join()
    events = [
        *wire.say(first, first, "phx_reply", OK),
        *wire.say(first, leave, "phx_reply", OK),
        *wire.say(first, first, "phx_close"),
        *wire.say(second, second, "phx_reply", OK),
    ]
    told = [event for event in events if not isinstance(event, FrameDiscarded)]
    assert told == [TopicLeft("t", first), TopicJoined("t", {}, second)]
    assert wire.machine.state("t") is TopicState.JOINED


def test_a_push_is_answered_by_ref_with_any_status() -> None:
    """Rows 42, 43."""
    wire = Wire()
    join_ref = wire.joined()
    for status in ("ok", "error", "created", ""):
        ref = wire.push()
        reply = {"status": status, "response": [1]}
        assert wire.say(join_ref, ref, "phx_reply", reply) == [
            ReplyReceived(ref, "t", ChannelReply(status, [1]))
        ]
    ref = wire.push()
    assert wire.say(join_ref, ref, "phx_reply", {"status": "ok"}) == [
        ReplyReceived(ref, "t", ChannelReply("ok", {}))
    ]


def test_a_second_reply_to_one_push_is_dropped() -> None:
    wire = Wire()
    join_ref = wire.joined()
    for timeout in (None, 5.0):
        ref = wire.push(timeout)
        assert len(wire.say(join_ref, ref, "phx_reply", OK)) == 1
        assert discarded(wire.say(join_ref, ref, "phx_reply", OK)) == ["stale_reply"]


def test_a_reply_of_another_topic_or_join_is_dropped() -> None:
    wire = Wire()
    join_ref = wire.joined()
    wire.joined("u")
    ref = wire.push()
    assert discarded(wire.say(join_ref, ref, "phx_reply", OK, topic="u")) == ["stale_reply"]
    assert discarded(wire.say("9", ref, "phx_reply", OK)) == ["stale_reply"]
    assert wire.say(None, ref, "phx_reply", OK) == [ReplyReceived(ref, "t", ChannelReply("ok", {}))]


@pytest.mark.parametrize("payload", [[], "x", {}, {"status": 7}])
def test_a_reply_without_a_status_is_no_reply(payload: Any) -> None:
    wire = Wire()
    wire.joined()
    ref = wire.push(5.0)
    frame = wire.server.encode(Message("1", ref, "t", "phx_reply", payload)).data.decode()
    (event,) = wire.machine.receive([frame], 0.0)
    assert isinstance(event, FrameUndecodable)
    assert wire.machine.pending_pushes == 1


def test_an_unmatched_topic_for_a_joined_one_means_a_lost_channel() -> None:
    """Row 41b: the reply first, then the end of the topic, with what else was pending."""
    wire = Wire()
    join_ref = wire.joined()
    other, ref = wire.push(5.0), wire.push(5.0)
    assert wire.say(None, ref, "phx_reply", UNMATCHED) == [
        ReplyReceived(ref, "t", ChannelReply("error", UNMATCHED["response"])),
        PushFailed(other, "t", TopicGone()),
        TopicClosed("t", ChannelCrashed(UNMATCHED["response"]), join_ref),
    ]


def test_an_unmatched_topic_with_a_join_ref_is_an_ordinary_error() -> None:
    wire = Wire()
    join_ref = wire.joined()
    ref = wire.push(5.0)
    assert len(wire.say(join_ref, ref, "phx_reply", UNMATCHED)) == 1
    assert wire.machine.state("t") is TopicState.JOINED


def test_an_unmatched_topic_for_a_push_of_an_earlier_join_says_nothing_about_this_one() -> None:
    wire = Wire()
    wire.joined()
    ref = wire.push(write=False)
    wire.joined()
    assert wire.say(None, ref, "phx_reply", UNMATCHED) == [
        ReplyReceived(ref, "t", ChannelReply("error", UNMATCHED["response"]))
    ]
    assert wire.machine.state("t") is TopicState.JOINED


@pytest.mark.parametrize("event", ["phx_error", "phx_close"])
def test_pushes_fail_at_once_when_their_channel_ends(event: str) -> None:
    """Row 41: the server never answers them."""
    wire = Wire()
    join_ref = wire.joined()
    timed, _plain = wire.push(5.0), wire.push()
    events = wire.say(join_ref, join_ref, event)
    assert events[0] == PushFailed(timed, "t", TopicGone())
    assert isinstance(events[1], TopicClosed)
    assert len(events) == 2
    assert wire.machine.pending_pushes == 0


def test_pushes_of_the_join_before_fail_when_it_is_joined_anew() -> None:
    wire = Wire()
    wire.joined()
    timed = wire.push(5.0)
    wire.join()
    assert wire.machine.deadline() == -math.inf
    assert wire.at(wire.now)[0] == [PushFailed(timed, "t", TopicGone())]


def test_the_end_of_the_connection_settles_everything() -> None:
    """Row 41: written or not is said."""
    wire = Wire()
    wire.joined()
    wire.joined("u")
    written, unwritten = wire.push(5.0), wire.push(5.0, write=False)
    wire.push()
    plain_unwritten = wire.push(write=False)
    wire.join("v")
    wire.do(LeaveTopic("u", 5.0))
    assert wire.machine.end() == [
        PushFailed(written, "t", ConnectionLost(written=True)),
        PushFailed(unwritten, "t", ConnectionLost(written=False)),
        PushFailed(plain_unwritten, "t", ConnectionLost(written=False)),
        TopicLeft("u", "2"),
    ]
    assert wire.machine.topics == {}
    assert wire.machine.deadline() == math.inf
    assert wire.machine.end() == []


def test_a_push_times_out_at_its_deadline_which_starts_when_it_is_written() -> None:
    """complaint-23; rows 23, 40; JS-PU4."""
    wire = Wire()
    join_ref = wire.joined()
    ref = wire.push(5.0, write=False)
    assert wire.machine.deadline() == math.inf
    wire.now = 200.0
    wire.machine.written([ref], wire.now)
    assert wire.machine.deadline() == 205.0
    assert wire.at(204.999) == ([], [])
    assert wire.at(205.0) == ([PushFailed(ref, "t", PushTimedOut())], [])
    assert discarded(wire.say(join_ref, ref, "phx_reply", OK)) == ["stale_reply"]


def test_a_join_times_out_and_the_server_is_told_to_forget_it() -> None:
    """complaint-10; row 23, JS-JT2."""
    wire = Wire()
    ref = wire.join(timeout=5.0)
    events, frames = wire.at(105.0)
    assert events == [TopicJoinFailed("t", JoinTimedOut(), ref)]
    assert [frame.frame.data for frame in frames] == [b'["1","2","t","phx_leave",{}]']
    assert discarded(wire.say(ref, ref, "phx_reply", OK)) == ["stale_reply"]  # JS-TO3
    assert discarded(wire.say(ref, "2", "phx_reply", OK)) == ["stale_reply"]


def test_a_leave_times_out_as_left() -> None:
    """Row 27, JS-L5: with a stale join_ref the server says nothing."""
    wire = Wire()
    join_ref = wire.joined()
    wire.do(LeaveTopic("t", 5.0))
    assert wire.at(105.0) == ([TopicLeft("t", join_ref)], [])


def test_paused_time_counts_towards_no_deadline() -> None:
    wire = Wire()
    wire.joined()
    ref = wire.push(5.0)
    wire.machine.pause(102.0)
    wire.machine.pause(103.0)
    assert wire.machine.deadline() == math.inf
    assert wire.at(150.0) == ([], [])
    wire.machine.resume(152.0)
    wire.machine.resume(153.0)
    assert wire.machine.deadline() == 155.0
    assert wire.at(154.999) == ([], [])
    assert wire.at(155.0)[0] == [PushFailed(ref, "t", PushTimedOut())]


def test_what_is_written_during_a_pause_has_its_whole_time_after_it() -> None:
    wire = Wire()
    wire.machine.pause(101.0)
    wire.now = 110.0
    ref = wire.join(timeout=5.0)
    wire.machine.resume(120.0)
    wire.machine.pause(122.0)
    wire.machine.resume(132.0)
    assert wire.machine.deadline() == 135.0
    assert wire.at(135.0)[0] == [TopicJoinFailed("t", JoinTimedOut(), ref)]


def test_heartbeats_are_sent_during_a_pause_and_judged_after_it() -> None:
    """Row 4: a server cuts a silent socket, whatever keeps the client from reading."""
    wire = Wire(interval=30.0)
    wire.machine.pause(102.0)
    assert wire.machine.deadline() == 130.0
    beat(wire, 130.0)
    assert wire.machine.deadline() == 160.0
    beat(wire, 160.0)
    wire.machine.resume(170.0)
    assert wire.machine.deadline() == 180.0
    assert wire.at(180.0) == ([HeartbeatTimedOut()], [])


def test_bytes_that_came_before_a_pause_still_renew_the_time_of_a_heartbeat() -> None:
    """The beginning of a long message, say: no frame has come of it yet."""
    wire = Wire(interval=30.0)
    beat(wire, 130.0)
    wire.heard = 135.0
    wire.machine.pause(136.0)
    wire.at(140.0)
    wire.machine.resume(146.0)
    assert wire.at(154.999) == ([], [])
    assert wire.at(155.0) == ([HeartbeatTimedOut()], [])


def test_a_pause_alone_renews_nothing() -> None:
    wire = Wire(interval=30.0)
    beat(wire, 130.0)
    wire.machine.pause(135.0)
    wire.at(140.0)  # what was received last came before the heartbeat
    wire.machine.resume(145.0)
    assert wire.at(149.999) == ([], [])
    assert wire.at(150.0) == ([HeartbeatTimedOut()], [])


def test_a_deadline_that_was_told_is_met_whatever_the_rounding() -> None:
    """Or a loop that sleeps until then and asks again would never end."""
    for number in range(1, 200):
        wire = Wire(interval=300.0, timeout=number / 11)
        paused_at = 100.0 + number / 7
        wire.machine.pause(paused_at)
        wire.machine.resume(paused_at + number / 3)
        beat(wire, wire.machine.deadline())
        assert wire.at(wire.machine.deadline())[0] == [HeartbeatTimedOut()]


def beat(wire: Wire, at: float) -> str:
    events, frames = wire.at(at)
    assert events == []
    (frame,) = frames
    assert frame.urgent
    wire.machine.written([frame.ref], wire.now)
    return frame.ref


def test_a_heartbeat_is_sent_after_the_interval_and_again_after_its_answer() -> None:
    """JS-H2, rows 1-4: whatever else is received."""
    wire = Wire(interval=30.0)
    wire.now = 120.0
    wire.say(None, None, "m")
    _, frames = wire.at(130.0)
    assert frames[0].frame.data == b'[null,"1","phoenix","heartbeat",{}]'
    wire.machine.written(["1"], 130.0)
    wire.now = 131.5
    answer = wire.say(None, "1", "phx_reply", OK, topic="phoenix")
    assert answer == [HeartbeatAcknowledged("1", 1.5)]
    assert wire.machine.last_rtt == 1.5
    assert wire.machine.deadline() == 161.5
    assert beat(wire, 161.5) == "2"


def test_a_silent_peer_is_found_out_though_heartbeats_go_out_more_often() -> None:
    wire = Wire(interval=3.0, timeout=10.0)
    for now in (103.0, 106.0, 109.0, 112.0):
        beat(wire, now)
    assert wire.at(113.0) == ([HeartbeatTimedOut()], [])
    assert wire.machine.deadline() == math.inf


def test_an_answer_may_come_before_it_is_known_that_the_heartbeat_was_written() -> None:
    wire = Wire(interval=30.0)
    _, (frame,) = wire.at(130.0)
    assert wire.at(135.0) == ([], [])  # one at a time, while it waits to be written
    answer = wire.say(None, frame.ref, "phx_reply", OK, topic="phoenix")
    assert answer == [HeartbeatAcknowledged(frame.ref, 0.0)]
    wire.machine.written([frame.ref], wire.now)
    assert wire.machine.deadline() == 165.0


def test_silence_after_a_heartbeat_is_told_once() -> None:
    """JS-H1, row 2."""
    wire = Wire(interval=30.0)
    beat(wire, 130.0)
    assert wire.at(139.999) == ([], [])
    assert wire.at(140.0) == ([HeartbeatTimedOut()], [])
    assert wire.at(1000.0) == ([], [])


def test_any_byte_renews_the_time_of_a_heartbeat() -> None:
    wire = Wire(interval=30.0)
    beat(wire, 130.0)
    wire.heard = 138.0
    assert wire.at(140.0) == ([], [])
    assert wire.machine.deadline() == 148.0
    assert wire.at(148.0) == ([HeartbeatTimedOut()], [])


def test_a_server_that_talks_but_does_not_answer_gets_another_heartbeat() -> None:
    """complaint-9; row 4: inbound traffic never replaces a heartbeat."""
    wire = Wire(interval=30.0)
    first = beat(wire, 130.0)
    for now in range(135, 160, 5):
        wire.now = float(now)
        wire.say(None, None, "m")
        assert wire.at(float(now) + 1.0) == ([], [])
    wire.heard = 159.0
    assert beat(wire, 160.0) != first
    assert discarded(wire.say(None, first, "phx_reply", OK, topic="phoenix")) == ["socket"]


def test_without_an_interval_there_is_no_heartbeat() -> None:
    wire = Wire(interval=None)
    assert wire.machine.deadline() == math.inf
    assert wire.at(10_000.0) == ([], [])


def test_a_stray_answer_on_the_sockets_topic_is_dropped() -> None:
    """Rows 3, 44."""
    wire = Wire(interval=30.0)
    assert discarded(wire.say(None, "9", "phx_reply", OK, topic="phoenix")) == ["socket"]
    assert discarded(wire.say(None, None, "phx_reply", OK, topic="phoenix")) == ["stale_reply"]
    assert discarded(wire.say(None, None, "other", topic="phoenix")) == ["socket"]


def test_undecodable_frames_are_told_and_the_rest_of_the_batch_goes_on() -> None:
    wire = Wire()
    wire.joined()
    events = wire.machine.receive(["{", '[null,null,"t","m",1]', b""], 0.0)
    assert [type(event) for event in events] == [FrameUndecodable, Message, FrameUndecodable]
    assert wire.machine.discarded["undecodable"] == 2


def test_a_ref_that_was_drawn_before_is_used() -> None:
    wire = Wire()
    wire.joined()
    drawn = next(wire.refs)
    assert wire.do(PushMessage("t", "e", {}, 5.0, drawn)) == drawn
    assert wire.machine.topic_of_push(drawn) == "t"
    assert wire.machine.topic_of_push("99") is None


def test_memory_stays_flat_over_failed_joins_and_unanswered_pushes() -> None:
    """complaint-3: 10⁵ of each."""
    wire = Wire()
    machine = wire.machine
    wire.joined("busy")
    for number in range(100_000):
        ref = wire.join(f"t{number}")
        machine.receive(
            [f'["{ref}","{ref}","t{number}","phx_reply",{{"status":"error","response":{{}}}}]'], 0.0
        )
        wire.push(topic="busy")
    assert machine.topics == {"busy": TopicState.JOINED}
    assert machine.pending_pushes == 4096
    assert len(machine._deadlines._heap) < 200
    assert len(machine._owed) == len(machine._running) == len(machine._joins) == 0
    machine.end()
    assert machine.pending_pushes == 0
