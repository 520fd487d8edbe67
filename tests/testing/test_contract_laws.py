"""Each of the twelve invariants, broken by hand, is found; and what keeps them is not."""

from collections.abc import Callable
from typing import Any

import pytest

from slipstream import Crashed, HeartbeatTimeout, Message
from slipstream.protocol import ChannelReply
from slipstream.testing import Call
from slipstream.testing.contracts._laws import Laws


class Story:
    """Tells the laws what happens, in few words."""

    def __init__(self) -> None:
        self.broken: list[int] = []
        self.laws = Laws(lambda number, text: self.broken.append(number))
        self.joined: set[str] = set()
        self.connected = True
        self.wire: Any = None

    def begin(self, name: str, *args: Any) -> Call:
        call = Call(name, args)
        self.laws.began(call, joined=self.joined.__contains__, connected=self.connected)
        return call

    def call(self, name: str, *args: Any, error: Exception | None = None) -> None:
        call = self.begin(name, *args)
        call.error, call.done = error, True
        self.laws.ended(call)

    def connect(self) -> None:
        attempt, self.wire = object(), object()
        self.laws.attempted(attempt)
        self.laws.opened(self.wire)

    def start(self) -> None:
        self.call("init", None)
        self.connect()
        self.call("handle_connect")

    def join(self, ref: str = "1", response: Any = None) -> None:
        self.laws.asked("a")
        self.laws.heard(self.wire, Message(ref, ref, "a", "phx_join", {}))
        self.reply(ref, ref, response or {})
        self.call("handle_join", "a", response or {})
        self.joined.add("a")

    def reply(self, join_ref: str | None, ref: str, response: Any) -> None:
        payload = {"status": "ok", "response": response}
        self.laws.said(self.wire, Message(join_ref, ref, "a", "phx_reply", payload), joined=True)

    def push(self, number: int, *, join_ref: str = "1", joined: bool = True) -> Message:
        message = Message(join_ref, None, "a", "msg", {"n": number})
        self.laws.said(self.wire, message, joined=joined)
        return message

    def rest(self, unread: int = 0) -> None:
        self.laws.at_rest(unread=unread, queued=0, waiters=0, steered=False)


def overlap(story: Story) -> None:
    story.begin("handle_cast", 1)
    story.call("handle_cast", 2)


def call_after_terminate(story: Story) -> None:
    story.call("terminate", None)
    story.call("handle_cast", 1)


def connect_twice(story: Story) -> None:
    story.connect()
    story.call("handle_connect")


def disconnect_untold(story: Story) -> None:
    story.laws.closed(story.wire)
    story.rest()


def join_unasked(story: Story) -> None:
    story.call("handle_join", "b", {})


def join_told_twice(story: Story) -> None:
    story.join()
    story.call("handle_join", "a", {})


def close_while_joined(story: Story) -> None:
    story.join()
    story.call("handle_topic_close", "a", None)


def joined_without_a_connection(story: Story) -> None:
    story.join()
    story.laws.closed(story.wire)
    story.connected = False
    story.call("handle_disconnect", None)


def push_ends_twice(story: Story) -> None:
    story.join()
    story.reply("1", "2", {})
    for _ in range(2):
        story.call("handle_reply", "2", ChannelReply("ok", {}))


def reply_to_nothing(story: Story) -> None:
    story.call("handle_reply", "7", ChannelReply("ok", {}))


def stale_message(story: Story) -> None:
    story.join()
    story.laws.delivered(story.push(1, join_ref="0", joined=False), awaited=False)


def messages_out_of_order(story: Story) -> None:
    story.join()
    first, second = story.push(1), story.push(2)
    story.laws.delivered(second, awaited=False)
    story.laws.delivered(first, awaited=False)


def message_of_the_last_connection(story: Story) -> None:
    story.join()
    message = story.push(1)
    story.laws.closed(story.wire)
    story.call("handle_disconnect", None)
    story.connect()
    story.call("handle_connect")
    story.laws.delivered(message, awaited=False)


def message_twice(story: Story) -> None:
    story.join()
    message = story.push(1)
    story.push(1)
    for awaited in (True, False):
        story.laws.delivered(message, awaited=awaited)


def ref_used_again(story: Story) -> None:
    story.join(ref="3")
    story.laws.heard(story.wire, Message("3", "3", "a", "new", {}))


def push_by_an_old_join(story: Story) -> None:
    story.join(ref="3")
    story.laws.heard(story.wire, Message("1", "4", "a", "new", {}))


def two_connections(story: Story) -> None:
    story.laws.attempted(object())


def two_heartbeat_timeouts(story: Story) -> None:
    story.laws.closed(story.wire)
    for _ in range(2):
        story.call("handle_disconnect", HeartbeatTimeout())


def goes_on_after_a_crash(story: Story) -> None:
    story.call("handle_cast", 1, error=ValueError())
    story.call("handle_cast", 2)


def callback_before_init(story: Story) -> None:
    other = Story()
    other.call("handle_cast", 1)
    story.broken += other.broken


def unread_at_rest(story: Story) -> None:
    story.rest(unread=2)


@pytest.mark.parametrize(
    ("number", "happens"),
    [
        (1, overlap),
        (1, call_after_terminate),
        (2, connect_twice),
        (2, disconnect_untold),
        (3, join_unasked),
        (3, join_told_twice),
        (4, close_while_joined),
        (4, joined_without_a_connection),
        (5, push_ends_twice),
        (5, reply_to_nothing),
        (6, stale_message),
        (6, messages_out_of_order),
        (6, message_of_the_last_connection),
        (7, message_twice),
        (8, ref_used_again),
        (8, push_by_an_old_join),
        (9, two_connections),
        (10, two_heartbeat_timeouts),
        (11, goes_on_after_a_crash),
        (11, callback_before_init),
        (12, unread_at_rest),
    ],
)
def test_an_invariant_that_is_broken_is_named(
    number: int, happens: Callable[[Story], None]
) -> None:
    story = Story()
    story.start()
    assert story.broken == []
    happens(story)
    assert number in story.broken


def test_a_life_that_keeps_them_breaks_none() -> None:
    story = Story()
    story.start()
    story.join(response={"welcome": 1})
    story.laws.heard(story.wire, Message("1", "2", "a", "new", {}))
    story.reply("1", "2", {})
    story.call("handle_reply", "2", ChannelReply("ok", {}))
    first, second, third = story.push(1), story.push(2), story.push(3)
    story.laws.delivered(second, awaited=True)
    story.laws.delivered(first, awaited=False)
    story.laws.delivered(third, awaited=False)
    story.joined.clear()
    story.laws.closed(story.wire)
    story.call("handle_disconnect", None)
    failed = object()
    story.laws.attempted(failed)
    story.laws.attempt_failed(failed)
    story.call("handle_disconnect", None)
    story.connect()
    story.call("handle_connect")
    story.rest()
    story.call("handle_cast", 1, error=ValueError())
    story.call("terminate", Crashed(ValueError()))
    story.laws.life_ended(Crashed(ValueError()))
    story.start()
    assert story.broken == []
