"""The callback contract: whatever server, network and program do, callbacks keep their order.

A program is a list of steps: of the client (inside a callback), of the server, of time. It runs in
virtual time over the transport in memory; the contract is checked at each callback, at each frame,
and when everything has come to rest. Topics and refs are few, so that they collide.
"""

from collections import Counter, deque
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import trio
from hypothesis import HealthCheck, example, given, note, settings, strategies as st

from slipstream import (
    ConnectError,
    DisconnectedError,
    HeartbeatTimeout,
    Message,
    NotJoinedError,
    PushTimeoutError,
    Socket,
)
from slipstream.transport import MemoryNetwork
from tests.client.support import SERVER, Harness, Recorder, harness, settle, virtual

TOPICS = ("a", "b")
Step = tuple[Any, ...]


class Wire:
    """One connection, seen from a server that follows Phoenix."""

    def __init__(self, world: "World", number: int, peer: Any) -> None:
        self.world = world
        self.number = number
        self.peer = peer
        self.open = True
        self.unanswered: deque[Message] = deque()
        self.joined: dict[str, str] = {}  # what the server believes
        self.last_ok: dict[str, str] = {}  # the last join that was let in
        self.past: dict[str, str] = {}  # a join_ref that is no longer current
        self.answered: list[Message] = []
        self.muted = False
        self.left: set[str] = set()
        self.joining: dict[str, str] = {}
        self.may_rejoin: Counter[str] = Counter()

    async def read(self) -> None:
        """Note what the client sends, until the end."""
        try:
            while True:
                for frame in await self.peer.receive():
                    self.heard(SERVER.decode(frame.data if frame.binary else frame.data.decode()))
        except DisconnectedError:
            self.open = False
            self.world.ended += 1

    def heard(self, message: Message) -> None:
        """Check a frame of the client's, and remember it for an answer."""
        topic, event = message.topic, message.event
        assert message.ref is not None
        assert message.ref not in self.world.refs, f"ref used twice: {message}"
        self.world.refs.add(message.ref)
        if event == "heartbeat":
            if not self.muted:
                self.send(Message(None, message.ref, "phoenix", "phx_reply", OK))
            return
        assert int(message.ref) > self.world.last_ref, f"refs do not increase: {message}"
        self.world.last_ref = int(message.ref)
        if event == "phx_join":
            assert message.join_ref == message.ref
            if topic in self.joining:
                assert self.may_rejoin[topic] > 0, "a join while one is under way"
                self.may_rejoin[topic] -= 1
            self.joining[topic] = message.ref
        elif event == "phx_leave":
            assert message.join_ref is not None
            self.left.add(message.join_ref)
            self.joining.pop(topic, None)
            if self.joined.get(topic) == message.join_ref:
                del self.joined[topic]  # what it says until the answer is still of this join
        else:
            assert message.join_ref == self.last_ok.get(topic), f"not the current join: {message}"
        self.unanswered.append(message)

    def send(self, *messages: Message) -> None:
        """Send in one delivery."""
        if self.open:
            frames = [SERVER.encode(message) for message in messages]
            self.peer.send(*[frame.data.decode() for frame in frames])

    def frames_of(self, step: Step) -> list[Message]:
        """Give the frames that a step of the server sends, and follow them."""
        match step:
            case ("answer", status):
                return self.answer(status)
            case ("answer again", status):
                if not self.answered:
                    return []
                message = self.answered[-1]
                return [self.reply_to(message, status)]
            case ("unknown reply",):
                payload = {"status": "ok", "response": {}}
                return [Message(None, "999999", "a", "phx_reply", payload)]
            case ("say", topic, kind):
                return self.say(topic, kind)
            case ("crash channel" | "close channel", topic):
                event = "phx_error" if step[0] == "crash channel" else "phx_close"
                ref = self.joined.pop(topic, None)
                if ref is None:
                    return []
                self.past[topic] = ref
                return [Message(ref, ref, topic, event, {})]
            case ("stale end", topic, event):
                ref = self.past.get(topic, "0")
                return [Message(ref, ref, topic, event, {})]
            case _:
                raise AssertionError(step)

    def reply_to(self, message: Message, status: str) -> Message:
        self.world.sequence += 1
        response = {"join": message.ref, "sequence": self.world.sequence, "wire": self.number}
        payload = {"status": status, "response": response}
        return Message(message.join_ref, message.ref, message.topic, "phx_reply", payload)

    def answer(self, status: str) -> list[Message]:
        if not self.unanswered:
            return []
        message = self.unanswered.popleft()
        self.answered.append(message)
        topic = message.topic
        reply = self.reply_to(message, status)
        if message.event == "phx_leave":
            assert message.join_ref is not None
            self.past[topic] = message.join_ref
            ended = Message(message.join_ref, message.join_ref, topic, "phx_close", {})
            return [reply, ended] if status == "ok" else [ended]
        if message.event == "phx_join":
            if self.joining.get(topic) == message.ref:
                del self.joining[topic]
            if status != "ok":
                return [reply]
            old = self.joined.get(topic)
            assert message.ref is not None
            self.joined[topic] = self.last_ok[topic] = message.ref
            self.world.let_in.append(message.ref)
            if old is not None:
                self.past[topic] = old
                return [reply, Message(old, old, topic, "phx_close", {})]
        return [reply]

    def help(self) -> None:
        """Answer what has to do with joins, and most of the rest."""
        while self.unanswered:
            message = self.unanswered[0]
            if not message.event.startswith("phx_") and int(message.ref or 0) % 4 == 0:
                return
            self.send(*self.answer("ok"))

    def say(self, topic: str, kind: str) -> list[Message]:
        self.world.sequence += 1
        payload = {
            "sequence": self.world.sequence,
            "wire": self.number,
            "null": kind == "broadcast",
        }
        current = self.joined.get(topic)
        if kind in {"push", "broadcast"} and current is not None and current not in self.left:
            self.world.owed.append(self.world.sequence)
        match kind:
            case "push" if current is not None:
                return [Message(current, None, topic, "news", payload)]
            case "broadcast" if current is not None:
                return [Message(None, None, topic, "news", payload)]
            case "left" if topic in self.last_ok:
                return [Message(self.last_ok[topic], None, topic, "news", payload)]
            case "stale" if topic in self.past:
                return [Message(self.past[topic], None, topic, "stale", payload)]
            case _:
                return [Message(None, None, "elsewhere", "news", payload)]


OK: dict[str, Any] = {"status": "ok", "response": {}}


class World:
    """What happened: on the wire, and in the client."""

    def __init__(self) -> None:
        self.wires: list[Wire] = []
        self.refs: set[str] = set()
        self.last_ref = 0
        self.sequence = 0
        self.owed: list[int] = []
        self.let_in: list[str] = []
        self.ended = 0
        self.life: Life | None = None
        self.lives: list[Life] = []
        self.inside = 0
        self.broken: list[AssertionError] = []

    @contextmanager
    def within_contract(self) -> Generator[None]:
        """Keep a broken contract for the test: inside a client it would be one more crash."""
        assert self.inside == 0, "two callbacks at once"
        self.inside += 1
        try:
            yield
        except AssertionError as error:
            self.broken.append(error)
            raise
        finally:
            self.inside -= 1

    def wires_last_may_rejoin(self, topic: str) -> None:
        """Note that the client asked for a join of *topic* beside the one under way."""
        if self.wires:
            self.wires[-1].may_rejoin[topic] += 1

    def reborn(self) -> None:
        """Let refs start anew, as a new incarnation does."""
        self.refs.clear()
        self.last_ref = 0


class Life:
    """What one incarnation of the client has been told."""

    def __init__(self, world: World) -> None:
        self.number = len(world.lives) + 1
        self.names: list[str] = []
        self.connected = False
        self.terminated = False
        self.failed_attempts = 0
        self.connects = 0
        self.disconnects = 0
        self.heartbeats: Counter[int] = Counter()
        self.join_of: dict[str, dict[str, Any]] = {}  # topic to the response of its present join
        self.asked: set[str] = set()
        self.joins_seen: list[str] = []
        self.messages: list[int] = []
        self.ends: Counter[str] = Counter()
        self.due: set[str] = set()
        self.leaving: set[str] = set()
        self.awaits_link = False


class Subject(Recorder):
    """The client under test: checks each callback against the contract as it is called."""

    world: World
    life: Life

    async def init(self, argument: Any, socket: Socket, /) -> Any:
        self.world = argument[2]["world"]
        world = self.world
        assert world.life is None or world.life.terminated, "a second life beside the first"
        self.life = world.life = Life(world)
        world.lives.append(self.life)
        world.reborn()
        self.life.names.append("init")
        config, self.calls, self.scripts = argument
        socket.connect(config)

    async def _note(self, name: str, *args: Any) -> Any:
        world, life = self.world, self.life
        with world.within_contract():
            life.names.append(f"{name} {args[:-1]}")
            assert world.life is life, f"{name}: an event of the old life"
            assert not life.terminated, f"{name} after terminate"
            getattr(self, f"check_{name}")(*args)
            await trio.lowlevel.checkpoint()

    async def handle_cast(self, message: Any, socket: Socket, /) -> Any:
        with self.world.within_contract():
            self.life.names.append(f"cast {message}")
            await act(self, socket, message)

    # What each may be

    def check_handle_connect(self, socket: Socket) -> None:
        life = self.life
        assert not life.connected, "handle_connect twice"
        life.connected = True
        life.connects += 1

    def check_handle_disconnect(self, reason: Any, socket: Socket) -> None:
        self.lost(reason)
        assert not any(socket.joined(topic) for topic in TOPICS) or socket.connected

    def lost(self, reason: Any) -> None:
        life = self.life
        life.connected = False
        life.disconnects += 1
        if not life.awaits_link:
            # Else a later join may have been awaited before this end was told.
            life.join_of.clear()
        if isinstance(reason, HeartbeatTimeout):
            life.heartbeats[len(self.world.wires)] += 1

    def joined_with(self, topic: str, response: Any) -> None:
        life = self.life
        assert topic in life.asked
        ref = response["join"]
        assert ref in self.world.let_in
        assert ref not in life.joins_seen, "one join told twice"
        assert all(int(ref) > int(seen) for seen in life.joins_seen if seen in self.of_topic(topic))
        life.joins_seen.append(ref)
        self.of_topic(topic).add(ref)
        life.join_of[topic] = response
        life.leaving.discard(topic)

    def of_topic(self, topic: str) -> set[str]:
        seen: dict[str, set[str]] = self.life.__dict__.setdefault("by_topic", {})
        return seen.setdefault(topic, set())

    def check_handle_join(self, topic: str, response: Any, socket: Socket) -> None:
        self.joined_with(topic, response)

    def check_handle_topic_close(self, topic: str, reason: Any, socket: Socket) -> None:
        assert topic in self.life.asked
        assert not socket.joined(topic)
        self.life.join_of.pop(topic, None)

    def check_handle_leave(self, topic: str, socket: Socket) -> None:
        assert topic in self.life.asked
        self.life.join_of.pop(topic, None)

    def heard(self, topic: str, payload: Any) -> None:
        join = self.life.join_of.get(topic)
        assert join is not None, "a message on a topic that is not joined"
        assert payload["wire"] == join["wire"], "a message of another connection"
        assert payload["sequence"] > join["sequence"], "read before the join was"
        assert not (payload["null"] and topic in self.life.leaving), "a broadcast while leaving"

    def check_handle_message(self, topic: str, event: str, payload: Any, socket: Socket) -> None:
        assert event != "stale"
        self.heard(topic, payload)
        seen = self.life.messages
        assert payload["sequence"] not in seen, "delivered twice"
        in_order = [number for number in seen if number > 0]
        assert not in_order or payload["sequence"] > in_order[-1], "out of order"
        seen.append(payload["sequence"])

    def push_ended(self, ref: str) -> None:
        self.life.ends[ref] += 1
        assert self.life.ends[ref] == 1, f"push {ref} ended twice"
        self.life.due.discard(ref)

    def check_handle_reply(self, ref: str, reply: Any, socket: Socket) -> None:
        self.push_ended(ref)
        assert reply.response["join"] == ref

    def check_handle_push_failed(self, ref: str, reason: Any, socket: Socket) -> None:
        self.push_ended(ref)

    def check_terminate(self, reason: Any, socket: Socket) -> None:
        self.life.terminated = True


async def act(client: Subject, socket: Socket, step: Step) -> None:
    """Do one step of the client, inside a callback."""
    life = client.life
    match step:
        case ("join", topic, rejoin):
            life.asked.add(topic)
            socket.join(topic, rejoin=rejoin)
        case ("leave", topic):
            if topic in life.join_of:
                life.leaving.add(topic)
            socket.leave(topic)
        case ("rejoin", topic, changed):
            if topic in life.asked:
                if changed:
                    life.join_of.pop(topic, None)  # the messages of that join are stale now
                    if socket.join_status(topic) == "requested":
                        client.world.wires_last_may_rejoin(topic)
                    socket.rejoin(topic, {"again": True})
                else:
                    socket.rejoin(topic)
        case ("disconnect",):
            socket.disconnect()
        case ("reconnect", after):
            socket.reconnect(after)
        case ("connect",):
            assert socket.config is not None
            socket.connect(socket.config)
        case ("push", topic, timeout):
            try:
                ref = await socket.push(topic, "new", {}, timeout=timeout)
            except NotJoinedError:
                assert topic not in life.asked
            else:
                if timeout is not None:
                    life.due.add(ref)
        case ("outage",):
            raise PushTimeoutError("a", "e", 1.0)
        case ("bug",):
            raise ZeroDivisionError
        case _:
            await wait_for(client, socket, step)


async def wait_for(client: Subject, socket: Socket, step: Step) -> None:
    """Do a step that waits, inside a callback."""
    life = client.life
    match step:
        case ("request", topic):
            try:
                await socket.request(topic, "new", {}, timeout=3.0)
            except NotJoinedError:
                assert topic not in life.asked
        case ("push and await", topic):
            if topic in life.asked:
                ref = await socket.push(topic, "new", {}, timeout=2.0)
                life.due.add(ref)
                try:
                    reply = await socket.await_reply(ref, 4.0)
                finally:
                    client.push_ended(ref)
                assert reply.response["join"] == ref
        case ("await message", topic):
            message = await socket.await_message(topic, "news", timeout=5.0)
            life.messages.append(-message.payload["sequence"])
            client.heard(topic, message.payload)
        case ("await join", topic):
            if topic in life.asked and socket.join_status(topic) in {"requested", "waiting"}:
                life.awaits_link = True
                response = await socket.await_join(topic, 5.0)
                if life.join_of.get(topic) != response:
                    client.joined_with(topic, response)
        case ("await leave", topic):
            if socket.join_status(topic) == "leaving":
                await socket.await_leave(topic, 5.0)
                life.join_of.pop(topic, None)
        case ("await connect",):
            life.awaits_link = True
            await socket.await_connect(5.0)
            life.connected = True
        case ("await disconnect",):
            life.awaits_link = True
            reason = await socket.await_disconnect(5.0)
            if life.connected:
                client.lost(reason)
        case _:
            raise AssertionError(step)


def weighted(choices: list[tuple[int, Step]]) -> st.SearchStrategy[Any]:
    """Draw a step, the heavy ones more often; the first is what shrinking ends at."""
    return st.sampled_from([step for weight, step in choices for _ in range(weight)])


CLIENT_STEPS = weighted(
    [
        *[(4, ("join", topic, True)) for topic in TOPICS],
        *[(1, ("join", topic, False)) for topic in TOPICS],
        *[(2, ("leave", topic)) for topic in TOPICS],
        *[(1, ("rejoin", topic, changed)) for topic in TOPICS for changed in (True, False)],
        *[(2, ("push", topic, timeout)) for topic in TOPICS for timeout in (None, 2.0)],
        *[(1, ("request", topic)) for topic in TOPICS],
        *[(1, ("push and await", topic)) for topic in TOPICS],
        *[(1, ("await message", topic)) for topic in TOPICS],
        *[(2, ("await join", topic)) for topic in TOPICS],
        *[(2, ("await leave", topic)) for topic in TOPICS],
        (1, ("disconnect",)),
        (1, ("reconnect", None)),
        (1, ("reconnect", 2.0)),
        (1, ("connect",)),
        (1, ("outage",)),
        (1, ("await connect",)),
        (1, ("await disconnect",)),
        (1, ("bug",)),
    ]
)
SERVER_STEPS = weighted(
    [
        (12, ("answer", "ok")),
        (2, ("answer", "error")),
        (1, ("answer", "created")),
        (1, ("answer again", "ok")),
        (1, ("answer again", "error")),
        *[(2, ("say", topic, "push")) for topic in TOPICS],
        *[(2, ("say", topic, "broadcast")) for topic in TOPICS],
        *[(1, ("say", topic, kind)) for topic in TOPICS for kind in ("stale", "elsewhere")],
        *[(1, ("crash channel", topic)) for topic in TOPICS],
        *[(1, ("close channel", topic)) for topic in TOPICS],
        *[(1, ("stale end", topic, e)) for topic in TOPICS for e in ("phx_error", "phx_close")],
        (1, ("unknown reply",)),
    ]
)
NETWORK_STEPS = weighted(
    [
        (2, ("drop",)),
        (1, ("close", 1000)),
        (1, ("close", 1011)),
        (1, ("garbage",)),
        (1, ("refuse", 1)),
        (1, ("refuse", 2)),
        (1, ("mute",)),
    ]
)
WAITS = weighted([(3, (0.5,)), (3, (1.0,)), (2, (2.0,)), (1, (5.0,)), (1, (11.0,)), (1, (31.0,))])


def step_of(kind: str) -> st.SearchStrategy[Any]:
    """Draw a step of that *kind*."""
    match kind:
        case "client":
            return st.tuples(st.just(kind), CLIENT_STEPS)
        case "server":
            return st.tuples(st.just(kind), st.lists(SERVER_STEPS, min_size=1, max_size=4))
        case "network":
            return st.tuples(st.just(kind), NETWORK_STEPS)
        case "wait":
            return WAITS.map(lambda seconds: ("wait", *seconds))
        case _:
            return st.just((kind,))


# Shrinking ends at "rush", which does nothing by itself.
KINDS = ["rush"] * 3 + ["client"] * 8 + ["server"] * 8 + ["network"] + ["wait"] * 3
PROGRAMS = st.lists(st.sampled_from(KINDS).flatmap(step_of), min_size=25, max_size=50)


async def accept_all(world: World, network: MemoryNetwork) -> None:
    """Accept whatever comes; never two connections at once."""
    async with trio.open_nursery() as nursery:
        while True:
            peer = await network.accept(within=10**9)
            wire = Wire(world, len(world.wires) + 1, peer)
            for other in world.wires:
                assert not other.open or other.peer.closed is not None, "two connections at once"
            world.wires.append(wire)
            nursery.start_soon(wire.read)


async def play(h: Harness, world: World, step: Step) -> None:
    """Play one step of a program."""
    wire = world.wires[-1] if world.wires and world.wires[-1].open else None
    match step:
        case ("client", action):
            h.ref.cast(action)
        case ("server", actions):
            if wire is not None:
                frames = [frame for action in actions for frame in wire.frames_of(action)]
                if frames:
                    wire.send(*frames)
        case ("network", ("refuse", times)):
            error = ConnectError("refused", step="upgrade", status=502)
            h.network.refuse(error, times=times)
        case ("network", ("close", code)):
            if wire is not None:
                wire.open = False
                wire.peer.close(code)
                world.ended += 1
        case ("network", ("drop",)):
            if wire is not None:
                wire.open = False
                wire.peer.drop()
                world.ended += 1
        case ("network", ("garbage",)):
            if wire is not None:
                wire.peer.send("[", b"\x07", "[1,2,3,4,5]")
        case ("network", ("mute",)):
            if wire is not None:
                wire.muted = True
        case ("wait", seconds):
            await trio.sleep(seconds)
        case ("rush",):
            pass
        case _:
            raise AssertionError(step)


def check_at_rest(h: Harness, world: World, program: list[Step]) -> None:
    """Check what has to hold once nothing goes on any more."""
    life = world.life
    assert life is not None
    note(f"names: {life.names}")
    if world.broken:
        raise world.broken[0]
    assert not life.due, f"pushes with a deadline that never ended: {life.due}"
    assert all(count <= 1 for count in life.heartbeats.values())
    for earlier in world.lives[:-1]:
        assert earlier.terminated
        assert sum(1 for name in earlier.names if name.startswith("terminate")) == 1
    health = h.ref.health()
    assert health.inbound == 0
    assert health.queued_pushes == 0
    assert h.server.uplink.inbox.waiters == {}
    assert not h.server.uplink.inbox.awaiting
    if len(world.lives) == 1 and not life.awaits_link:
        assert life.connects == len(world.wires), "each connection is told once"
        assert life.disconnects == len(h.network.requests), "each end is told once"
    calm = not any(
        step[0] == "client" and step[1][0] in {"leave", "rejoin", "bug", "disconnect"}
        for step in program
    )
    if calm and not life.awaits_link:
        heard = {abs(number) for number in life.messages}
        assert set(world.owed) <= heard, "a message was lost"


def run_program(program: list[Step], *, helpful: bool, tight: bool) -> None:
    """Run *program* against a client, and check the contract.

    A *helpful* server lets every join and leave in as soon as it comes. A *tight* client reads no
    more while two events lie unread.
    """
    world = World()

    async def scenario() -> None:
        async with (
            harness(
                {"world": world},  # type: ignore[dict-item]  # a bag
                client=Subject,
                supervisor_options={"max_restarts": 1000},
                reconnect=[1.0],
                rejoin=[1.0, 2.0],
                heartbeat_interval=10.0,
                heartbeat_timeout=5.0,
                join_timeout=4.0,
                leave_timeout=3.0,
                inbound_limit=2 if tight else 4096,
            ) as h,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(accept_all, world, h.network)
            await settle()
            for number, step in enumerate(program):
                await play(h, world, step)
                rush = number + 1 < len(program) and program[number + 1] == ("rush",)
                if not rush:
                    await settle()
                    if helpful and world.wires:
                        world.wires[-1].help()
                        await settle()
            # To rest: what was begun comes to its end, then the link is taken down.
            await trio.sleep(60.0)
            h.ref.cast(("disconnect",))
            await trio.sleep(60.0)
            names = list(world.life.names) if world.life is not None else []
            await trio.sleep(1000.0)
            assert world.life is not None
            if not world.broken:
                assert world.life.names == names, "something goes on after a disconnect"
            check_at_rest(h, world, program)
            nursery.cancel_scope.cancel()

    virtual(scenario)


# Programs that a draft got wrong, or that need a meeting which chance rarely arranges.
END_AWAITED_BEFORE_ITS_BEGINNING: list[Step] = [
    ("client", ("join", "a", True)),
    ("network", ("drop",)),
    ("wait", 0.5),
    ("client", ("await join", "a")),
    ("client", ("await disconnect",)),
    ("wait", 0.5),
    ("network", ("drop",)),
]
LEFT_BEFORE_IT_WAS_LET_IN: list[Step] = [
    ("client", ("join", "b", True)),
    ("client", ("leave", "b")),
    ("server", [("answer", "ok"), ("say", "b", "left")]),
]
REJOINED_OVER_A_CRASH: list[Step] = [
    ("client", ("join", "a", True)),
    ("server", [("answer", "ok")]),
    ("client", ("request", "a")),
    ("client", ("rejoin", "a", True)),
    ("server", [("crash channel", "a")]),
    ("wait", 2.0),
    ("server", [("say", "b", "elsewhere")]),
    ("wait", 5.0),
    ("server", [("answer", "ok"), ("say", "a", "push")]),
]
LEFT_OVER_A_BROADCAST: list[Step] = [
    ("client", ("join", "a", True)),
    ("server", [("answer", "ok")]),
    ("client", ("request", "a")),
    ("client", ("leave", "a")),
    ("server", [("say", "a", "broadcast")]),
    ("wait", 5.0),
    ("server", [("answer", "ok"), ("answer", "ok")]),
]

LOST_UNDER_A_PUSH: list[Step] = [
    ("client", ("join", "a", True)),
    ("server", [("answer", "ok")]),
    ("client", ("push", "a", 2.0)),
    ("network", ("drop",)),
]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example(END_AWAITED_BEFORE_ITS_BEGINNING, False, False)
@example(LEFT_BEFORE_IT_WAS_LET_IN, False, False)
@example(REJOINED_OVER_A_CRASH, False, False)
@example(LOST_UNDER_A_PUSH, False, False)
@example(LEFT_OVER_A_BROADCAST, False, False)
@given(PROGRAMS, st.booleans(), st.booleans())
def test_callbacks_keep_the_contract_whatever_happens(
    program: list[Step], helpful: bool, tight: bool
) -> None:
    """Contract invariants 1-8, 10-12."""
    run_program(program, helpful=helpful, tight=tight)
