"""``slipstream demo``: a supervised client loses everything, and gets it back."""

import sys
from collections.abc import Awaitable, Callable
from typing import Any, cast

import attrs
import trio
from rich.console import Console
from rich.table import Table
from rich.tree import Tree

from slipstream.client import ClientRef, SlipstreamClient, Socket
from slipstream.config import Config, ReconnectPolicy, RejoinPolicy
from slipstream.errors import SlipstreamError
from slipstream.otp import SupervisorRef, open_supervisor
from slipstream.reasons import (
    ClosedByServer,
    ConnectFailed,
    Crashed,
    DisconnectReason,
    ExitReason,
    TopicCloseReason,
)
from slipstream.testing import Channel, Ok, PhoenixServer, ServerSocket

__all__ = ["run_demo"]

_TOPIC = "rooms:lobby"
_STEP_LIMIT = 3.0
_LIMIT = 14.0
_TIME_TO_READ = 0.8  # before each step, where somebody watches
_pause = trio.sleep


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
        raise DemoCrash

    async def terminate(self, reason: ExitReason, socket: Socket, /) -> None:
        """Tell of it."""
        why = repr(reason.exception) if isinstance(reason, Crashed) else "stopped"
        self._story.saw(f"terminate: {why}")


@attrs.frozen
class _Step:
    """Something that is done to the client, and the callbacks that must follow, in this order."""

    name: str
    says: str
    expects: tuple[str, ...]
    act: Callable[[], Awaitable[None]]


@attrs.frozen
class _Outcome:
    """What came of a step; *seconds* to recovery, ``None`` for never."""

    name: str
    seen: str
    seconds: float | None


def run_demo(console: Console) -> int:
    """Run the demo; give the exit code."""
    code = 1
    try:
        code = trio.run(_demo, console)
    except* KeyboardInterrupt:
        console.print("Interrupted.")
        code = 130
    except* (SlipstreamError, OSError) as group:
        # Not on the console, which may be what failed.
        print(f"The demo failed: {_innermost(group)}", file=sys.stderr)
    return code


def _innermost(error: Exception) -> Exception:
    if isinstance(error, ExceptionGroup):
        return _innermost(cast("ExceptionGroup[Exception]", error).exceptions[0])
    return error


async def _demo(console: Console) -> int:
    outcomes: list[_Outcome] = []
    tree = Tree("demo")
    with trio.move_on_after(_LIMIT) as limit:
        async with PhoenixServer({"rooms:*": _Room}) as server:
            console.print(
                f"A Phoenix server runs on this machine, at {server.url}.\n"
                "A supervised client will join a room of it and greet. Then everything goes wrong, "
                "one thing after\nthe other, and nobody mends it: after each, the client has to "
                "greet again by itself.",
                soft_wrap=True,
            )
            story = _Story(console)
            async with open_supervisor([], name="demo") as supervisor:
                for number, step in enumerate(_steps(server, supervisor, story), 1):
                    outcomes.append(await _take(number, step, story, console))
                    if outcomes[-1].seconds is None:
                        break  # what follows would fail by this one
                tree = _tree(supervisor)
                console.print("\nThe end: the supervisor stops the client.", style="bold")
    failed = [outcome.name for outcome in outcomes if outcome.seconds is None]
    if limit.cancelled_caught:
        failed.append(f"the demo ran out of time after {_LIMIT:g} s")
    console.print()
    console.print(_table(outcomes))
    console.print("\nThe supervision tree, as it stands after all this:")
    console.print(tree)
    console.print()
    if failed:
        console.print(f"Not recovered: {', '.join(failed)}.", style="bold red")
        return 1
    console.print("Everything came back.", style="bold green")
    return 0


def _in_words(reason: DisconnectReason) -> str:
    match reason:
        case ClosedByServer(code=code):
            return f"the server closed with code {code}"
        case ConnectFailed(error=error):
            return f"could not connect: {error.__cause__ or error}"
        case _:
            return "the connection broke"


def _steps(server: PhoenixServer, supervisor: SupervisorRef, story: _Story) -> list[_Step]:
    config = Config(
        server.url,
        proxy=None,  # the server is in this process
        reconnect=ReconnectPolicy(delays=[0.3, 0.3, 0.5]),
        rejoin=RejoinPolicy(delays=[0.3, 0.3, 0.5]),
    )

    async def start() -> None:
        await supervisor.start_child((Lobby, (config, story)))

    async def drop() -> None:
        await trio.lowlevel.checkpoint()
        server.drop()

    async def crash_channel() -> None:
        await trio.lowlevel.checkpoint()
        server.crash(_TOPIC)

    async def crash_client() -> None:
        await trio.lowlevel.checkpoint()
        supervisor.child(Lobby).send("crash")

    async def restart() -> None:
        await server.restart(down_for=0.5)

    joins = ("handle_connect", "handle_join")
    return [
        _Step(
            "start",
            "The supervisor starts the client: it connects, joins the room and greets.",
            ("init", *joins),
            start,
        ),
        _Step(
            "connection cut",
            "The connection is cut without a word: the client reconnects, and its room is rejoined.",
            ("handle_disconnect", *joins),
            drop,
        ),
        _Step(
            "channel crashed",
            "The room crashes on the server: the connection stays, the room is joined again.",
            ("handle_topic_close", "handle_join"),
            crash_channel,
        ),
        _Step(
            "client crashed",
            "The client itself crashes, by a bug: its supervisor starts a new one.",
            ("terminate", "init", *joins),
            crash_client,
        ),
        _Step(
            "server restarted",
            "The server restarts, and is away for half a second: the client tries until it is back.",
            ("handle_disconnect", *joins),
            restart,
        ),
    ]


async def _take(number: int, step: _Step, story: _Story, console: Console) -> _Outcome:
    console.print(f"\n{number}. {step.says}", style="bold", soft_wrap=True)
    if console.is_terminal:
        await _pause(_TIME_TO_READ)
    story.seen.clear()
    story.greeted = trio.Event()
    started = trio.current_time()
    seconds = None
    with console.status(step.name), trio.move_on_after(_STEP_LIMIT):
        await step.act()
        await story.greeted.wait()
        if _in_order(step.expects, story.seen):
            seconds = trio.current_time() - started
    return _Outcome(step.name, _shorten(story.seen), seconds)


def _in_order(expected: tuple[str, ...], seen: list[str]) -> bool:
    """Tell whether what was *expected* happened, in that order, whatever lies between."""
    rest = iter(seen)
    return all(name in rest for name in expected)


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
