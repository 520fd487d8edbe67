"""``slipstream demo``: a supervised client loses everything, and gets it back."""

from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import trio
from rich.console import Console
from rich.table import Table
from rich.tree import Tree

from slipstream.client import ClientRef, SlipstreamClient, Socket
from slipstream.config import Config, ReconnectPolicy, RejoinPolicy
from slipstream.otp import SupervisorRef, open_supervisor
from slipstream.reasons import (
    ClosedByServer,
    ConnectFailed,
    DisconnectReason,
    ExitReason,
    TopicCloseReason,
)
from slipstream.testing import Channel, Ok, PhoenixServer, ServerSocket

__all__ = ["run_demo"]

_TOPIC = "rooms:lobby"
_STEP_LIMIT = 3.0
_LIMIT = 14.0


class DemoCrash(Exception):  # noqa: N818 - it reads well in the output
    """What the demo crashes its client with."""


class _Room(Channel):
    """Answers a greeting."""

    async def handle_in(self, event: str, payload: Any, socket: ServerSocket, /) -> Ok | None:
        """Greet back."""
        return Ok({"greeting": f"hello {payload['name']}"}) if event == "greet" else None


class _Story:
    """What the client saw, and when it was last greeted."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = trio.current_time()
        self.seen: list[str] = []
        self.greetings = 0
        self.greeted = trio.Event()

    def saw(self, what: str) -> None:
        """Note a callback, and show it."""
        self.seen.append(what.partition(" ")[0].rstrip(":"))
        seconds = trio.current_time() - self._started
        self._console.print(
            f"  {seconds:5.2f} s  {what}", style="dim", markup=False, soft_wrap=True
        )

    def was_greeted(self, greeting: str) -> None:
        """Note that the server answered the client's greeting: it is all there again."""
        self.greetings += 1
        self.saw(f"greeted by the server: {greeting}")
        self.greeted.set()


class Lobby(SlipstreamClient, restart="permanent"):
    """Joins a room, greets it, and tells what it sees."""

    async def init(self, argument: tuple[Config, _Story], socket: Socket, /) -> None:
        """Connect."""
        config, self._story = argument
        self._story.saw("init")
        socket.connect(config)

    async def handle_connect(self, socket: Socket, /) -> None:
        """Ask for the room."""
        self._story.saw("handle_connect")
        socket.join(_TOPIC)

    async def handle_join(self, topic: str, response: Any, socket: Socket, /) -> None:
        """Greet the room."""
        self._story.saw("handle_join")
        reply = await socket.request(topic, "greet", {"name": "newcomer"})
        self._story.was_greeted(reply.response["greeting"])

    async def handle_disconnect(self, reason: DisconnectReason, socket: Socket, /) -> None:
        """Tell of it."""
        self._story.saw(f"handle_disconnect: {_in_words(reason)}")

    async def handle_topic_close(
        self, topic: str, reason: TopicCloseReason, socket: Socket, /
    ) -> None:
        """Tell of it."""
        self._story.saw(f"handle_topic_close: {type(reason).__name__}")

    async def handle_info(self, message: Any, socket: Socket, /) -> None:
        """Crash, as asked."""
        raise DemoCrash(message)

    async def terminate(self, reason: ExitReason, socket: Socket, /) -> None:
        """Tell of it."""
        self._story.saw("terminate")


@attrs.frozen
class _Step:
    """Something that is done to the client, and what must follow."""

    name: str
    says: str
    act: Callable[[], Awaitable[None]]


@attrs.frozen
class _Outcome:
    """What came of a step; *seconds* to recovery, ``None`` for never."""

    name: str
    seen: str
    seconds: float | None


def run_demo(console: Console) -> int:
    """Run the demo; give the exit code."""
    return trio.run(_demo, console)


async def _demo(console: Console) -> int:
    outcomes: list[_Outcome] = []
    expected = 0
    with trio.move_on_after(_LIMIT) as limit:
        async with PhoenixServer({"rooms:*": _Room}) as server:
            console.print(f"A Phoenix server listens on {server.url}.")
            story = _Story(console)
            config = Config(
                server.url,
                reconnect=ReconnectPolicy(delays=[0.3, 0.3, 0.5]),
                rejoin=RejoinPolicy(delays=[0.3, 0.3, 0.5]),
            )
            async with open_supervisor([(Lobby, (config, story))], name="demo") as supervisor:
                client = supervisor.child(Lobby)
                assert isinstance(client, ClientRef)  # noqa: S101 - for the type checkers
                steps = _steps(server, client)
                expected = len(steps)
                for step in steps:
                    outcomes.append(await _take(step, story, console))  # noqa: PERF401 - kept where time runs out
                console.print()
                console.print(_table(outcomes))
                console.print(_tree(supervisor))
    failed = [outcome.name for outcome in outcomes if outcome.seconds is None]
    if failed or limit.cancelled_caught or len(outcomes) < expected or not expected:
        console.print(f"Not recovered: {', '.join(failed) or 'the demo ran out of time'}.")
        return 1
    console.print("Everything came back.")
    return 0


def _in_words(reason: DisconnectReason) -> str:
    match reason:
        case ClosedByServer(code=code):
            return f"the server closed with code {code}"
        case ConnectFailed():
            return "could not connect"
        case _:
            return "the connection broke"


def _steps(server: PhoenixServer, client: ClientRef) -> list[_Step]:
    async def wait() -> None:
        await trio.lowlevel.checkpoint()

    async def drop() -> None:
        await trio.lowlevel.checkpoint()
        server.drop()

    async def crash_channel() -> None:
        await trio.lowlevel.checkpoint()
        server.crash(_TOPIC)

    async def crash_client() -> None:
        await trio.lowlevel.checkpoint()
        client.send("crash")

    async def restart() -> None:
        await server.restart(down_for=0.5)

    return [
        _Step("start", "The supervisor starts the client: it connects, joins and greets.", wait),
        _Step("connection cut", "The server cuts the connection, without a word.", drop),
        _Step("channel crashed", "The channel crashes on the server.", crash_channel),
        _Step(
            "client crashed", "The client itself crashes: its supervisor restarts it.", crash_client
        ),
        _Step("server restarted", "The server restarts: it is away for half a second.", restart),
    ]


async def _take(step: _Step, story: _Story, console: Console) -> _Outcome:
    console.print()
    console.print(step.says, style="bold")
    story.seen.clear()
    if story.greetings:
        story.greeted = trio.Event()
    started = trio.current_time()
    with console.status(step.name), trio.move_on_after(_STEP_LIMIT):
        await step.act()
        await story.greeted.wait()
        return _Outcome(step.name, _shorten(story.seen), trio.current_time() - started)
    return _Outcome(step.name, _shorten(story.seen), None)


def _shorten(seen: list[str]) -> str:
    return ", ".join(name for name in seen if name != "greeted")


def _table(outcomes: list[_Outcome]) -> Table:
    table = Table("what was done", "what the client saw", "seconds to recovery")
    table.columns[2].justify = "right"
    for outcome in outcomes:
        seconds = "never" if outcome.seconds is None else f"{outcome.seconds:.2f}"
        table.add_row(outcome.name, outcome.seen, seconds)
    return table


def _tree(supervisor: SupervisorRef) -> Tree:
    tree = Tree(f"{supervisor.name or 'root'} (supervisor)")
    _grow(tree, supervisor)
    return tree


def _grow(tree: Tree, supervisor: SupervisorRef) -> None:
    for child in supervisor.which_children():
        name = child.id.__name__ if isinstance(child.id, type) else str(child.id)
        branch = tree.add(f"{name} ({child.type}, {child.restart}, {child.status})")
        if isinstance(child.ref, SupervisorRef):
            _grow(branch, child.ref)
        elif isinstance(child.ref, ClientRef) and child.ref.connections is not None:
            _grow(branch.add("connections (supervisor)"), child.ref.connections)
