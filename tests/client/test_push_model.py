"""Whatever the server does, a push with a deadline ends exactly once: the outcomes are counted."""

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import attrs
import trio
from hypothesis import given, settings, strategies as st

from slipstream import ChannelReply, DisconnectedError, LinkError, Message, NotJoinedError
from tests.client.support import Harness, ServerEnd, harness, settle, virtual

TOPICS = ("t", "u")
WHEN = st.sampled_from(["fail", "raise", "queue", "queue"])
SECONDS = st.sampled_from([0.0, 0.5, 3.0, 12.0])


@attrs.define(eq=False)
class World:
    """The server's side: connections come and go, frames are kept until they are answered."""

    h: Harness
    lets_in: bool = True
    ends: list[ServerEnd] = attrs.field(factory=list)
    pushes: list[tuple[ServerEnd, Message]] = attrs.field(factory=list)
    joins: dict[str, Message] = attrs.field(factory=dict)

    async def accept(self) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                end = ServerEnd(await self.h.network.accept(within=1e6))
                self.ends.append(end)
                nursery.start_soon(self.read, end)

    async def read(self, end: ServerEnd) -> None:
        try:
            while True:
                frame = await end.next()
                match frame.event:
                    case "phx_join":
                        self.joins[frame.topic] = frame
                        end.reply(frame, "ok" if self.lets_in else "error")
                    case "phx_leave":
                        end.reply(frame)
                    case _:
                        self.pushes.append((end, frame))
        except DisconnectedError:
            self.ends.remove(end)

    def all(self, act: Callable[[ServerEnd], None]) -> None:
        for end in list(self.ends):
            act(end)

    def say(self, topic: str, event: str) -> None:
        join = self.joins.get(topic)
        if self.ends and join is not None:
            self.ends[-1].say(join.join_ref, join.ref, topic, event)

    def answer(self, number: int, *, times: int = 1, keep: bool = False) -> None:
        if self.pushes:
            at = number % len(self.pushes)
            end, push = self.pushes[at] if keep else self.pushes.pop(at)
            for _ in range(times if end in self.ends else 0):
                end.reply(push, "ok" if number % 2 else "error")


@attrs.define(eq=False)
class Ledger:
    """What the client's side did, and what came of it."""

    refs: list[str] = attrs.field(factory=list)
    asked: int = 0
    outcomes: Counter[str] = attrs.field(factory=Counter)

    async def push(
        self, h: Harness, topic: str, timeout: float, when: Any, patience: float
    ) -> None:
        with trio.move_on_after(patience):
            with suppress(LinkError, NotJoinedError):
                ref = await h.socket.push(topic, "e", timeout=timeout, when_unjoined=when)
                self.refs.append(ref)

    async def request(
        self, h: Harness, topic: str, timeout: float, when: Any, patience: float
    ) -> None:
        self.asked += 1
        before = sum(self.outcomes.values())
        with trio.move_on_after(patience) as scope:
            try:
                reply = await h.socket.request(topic, "e", timeout=timeout, when_unjoined=when)
                assert isinstance(reply, ChannelReply)
                self.outcomes["reply"] += 1
            except (LinkError, NotJoinedError) as error:
                self.outcomes[type(error).__name__] += 1
        if scope.cancelled_caught:
            self.outcomes["cancelled"] += 1
        assert sum(self.outcomes.values()) > before


ACTIONS: dict[str, Callable[[World, Any], Any]] = {
    "answer": lambda w, n: w.answer(n),
    "answer twice": lambda w, n: w.answer(n, times=2),
    "answer early": lambda w, n: w.answer(n, keep=True),
    "crash": lambda w, n: w.say(TOPICS[n % 2], "phx_error"),
    "close": lambda w, n: w.say(TOPICS[n % 2], "phx_close"),
    "drop": lambda w, n: w.all(lambda end: end.peer.drop()),
    "stall": lambda w, n: w.all(lambda end: end.peer.stall_writes()),
    "flow": lambda w, n: w.all(lambda end: end.peer.resume_writes()),
    "refuse joins": lambda w, n: setattr(w, "lets_in", False),
    "let in": lambda w, n: setattr(w, "lets_in", True),
    "join": lambda w, n: w.h.socket.join(TOPICS[n % 2]),
    "rejoin": lambda w, n: (
        w.h.socket.rejoin(TOPICS[n % 2], {"n": n}) if TOPICS[n % 2] in w.h.socket.topics else None
    ),
    "leave": lambda w, n: w.h.socket.leave(TOPICS[n % 2]),
    "disconnect": lambda w, n: w.h.socket.disconnect(),
    "reconnect": lambda w, n: w.h.socket.reconnect(),
    "busy": lambda w, n: w.all(lambda end: end.broadcast(TOPICS[n % 2], "m", n % 5)),
}

STEPS = st.one_of(
    st.tuples(
        st.sampled_from(["push", "request"]), st.sampled_from(TOPICS), SECONDS, WHEN, SECONDS
    ),
    st.tuples(st.sampled_from(sorted(ACTIONS)), st.integers(0, 9)),
    st.tuples(st.just("sleep"), st.sampled_from([0.0, 0.1, 1.0, 6.0])),
)


async def work(_client: Any, _topic: str, _event: str, payload: Any, _socket: Any) -> None:
    await trio.sleep(payload)


@settings(max_examples=150)
@given(
    st.lists(STEPS, max_size=40),
    st.sampled_from(["error", "drop_oldest", "block"]),
    st.sampled_from([0, 1, 3, 256]),
    st.booleans(),
)
def test_pushes_are_replies_and_failures(
    steps: list[tuple[Any, ...]], overflow: Any, limit: int, tight: bool
) -> None:
    """JS-PU1 to PU8; rows 38 to 41; complaints 7, 22, 24; contract invariant 5."""

    async def scenario() -> None:
        ledger = Ledger()
        async with (
            harness(
                {"handle_message": work},
                reconnect=[1.0],
                rejoin=[1.0],
                write_timeout=5.0,
                unjoined_limit=limit,
                unjoined_ttl=8.0,
                unjoined_overflow=overflow,
                outbound_bytes=50 if tight else 1 << 20,
            ) as h,
            trio.open_nursery() as nursery,
        ):
            world = World(h)
            nursery.start_soon(world.accept)
            h.socket.join("t")
            await settle()
            for name, *details in steps:
                match name:
                    case "push" | "request":
                        nursery.start_soon(getattr(ledger, name), h, *details)
                    case "sleep":
                        await trio.sleep(*details)
                    case _:
                        with suppress(DisconnectedError):  # the client is closing already
                            ACTIONS[name](world, *details)
                if name != "push":
                    await settle()
            await trio.sleep(500.0)
            outcomes = [args[0] for args in h.of("handle_reply") + h.of("handle_push_failed")]
            assert Counter(outcomes) == Counter(ledger.refs)
            assert sum(ledger.outcomes.values()) == ledger.asked
            assert h.server.uplink.inbox.waiters == {}
            assert h.ref.health().queued_pushes == 0
            assert h.names().count("init") == 1
            nursery.cancel_scope.cancel()

    virtual(scenario)
