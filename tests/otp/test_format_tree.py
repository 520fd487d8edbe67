"""A tree of processes as text."""

from typing import Any

import pytest
import trio

from slipstream.otp import (
    Caller,
    ChildSpec,
    GenServer,
    Ignore,
    Reply,
    Start,
    Supervisor,
    SupervisorRef,
    format_tree,
    open_server,
    open_supervisor,
    sys,
)
from tests.otp.support import (
    Boom,
    Flaky,
    Puppet,
    Role,
    crash,
    puppet,
    settle,
    sleep_then,
    virtual,
)


class Owner(GenServer):
    async def handle_call(self, request: Any, caller: Caller) -> Any:
        await self.start_owned(puppet("first"))
        await self.start_owned(puppet("second"))
        return Reply(None)


@virtual
async def test_a_tree_is_drawn_in_the_order_of_the_start() -> None:
    """Nested supervisors, owned processes, children that are down, restarting and stopping."""
    rooms = Supervisor.child_spec(
        [
            puppet("lobby", backoff=lambda *_: 50.0),
            puppet("cellar"),
            puppet("attic", terminate=sleep_then(4.0)),
        ],
        id="rooms",
    )
    children: list[Any] = [
        Owner.child_spec(id="owner"),
        rooms,
        puppet("ignored", init=lambda _: Ignore()),
        puppet(1),  # type: ignore[arg-type]  # any id
        puppet("held"),
    ]
    async with open_supervisor(children, name="app") as supervisor, trio.open_nursery() as nursery:
        inner = supervisor.child("rooms")
        assert isinstance(inner, SupervisorRef)
        await supervisor.child("owner").call("start")
        inner.child("lobby").cast(crash())
        await settle()
        await inner.terminate_child("cellar")
        nursery.start_soon(inner.terminate_child, "attic")
        supervisor.child(1).cast(crash())
        await settle()
        nursery.start_soon(supervisor.start_child, puppet("late", init=sleep_then(2.0)))
        await trio.sleep(1.0)
        supervisor.child(1).cast(sleep_then(2.0))
        await settle()
        supervisor.child(1).cast("one")
        supervisor.child(1).cast("two")
        await sys.suspend(supervisor.child("held"))
        drawn = format_tree(supervisor)
        assert drawn.splitlines() == [
            "app  Supervisor  running  restarts=0 mailbox=0",
            "├── owner  Owner  running  restarts=0 mailbox=0",
            "│   ├── first  Puppet  running  restarts=0 mailbox=0",
            "│   └── second  Puppet  running  restarts=0 mailbox=0",
            "├── rooms  Supervisor  running  restarts=0 mailbox=0",
            "│   ├── lobby  Puppet  restarting  restarts=0",
            "│   ├── cellar  Puppet  down  restarts=0",
            "│   └── attic  Puppet  stopping  restarts=0 mailbox=0",
            "├── ignored  Puppet  down  restarts=0",
            "├── 1  Puppet  running  restarts=1 mailbox=2",
            "├── held  Puppet  suspended  restarts=0 mailbox=0",
            "└── late  Puppet  starting  restarts=0 mailbox=0",
        ]
        assert format_tree(inner).splitlines() == [line[4:] for line in drawn.splitlines()[4:8]]
        assert sys.format_tree is format_tree
        one = supervisor.child("held").pin()
        await sys.resume(one)
        await supervisor.terminate_child("held")
        assert format_tree(one) == "held  Puppet  down  restarts=0"


class Odd:
    """An id that cannot be shown."""

    def __repr__(self) -> str:
        raise Boom("no repr")


@pytest.mark.parametrize(
    ("id_", "label"),
    [
        (Odd(), "<Odd instance at"),
        (("rooms", "a\nb"), "('rooms', 'a\\nb')  "),
        ("a\nb\x1b[31m", "a\\nb\\x1b[31m  "),
        ("ünï code", "ünï code  "),
        (Role, "Role  "),
    ],
    ids=["no repr", "a tuple", "control characters", "unicode", "a class"],
)
@virtual
async def test_no_id_breaks_a_tree(id_: Any, label: str) -> None:
    """A line each, whatever it is; such a child is started, crashes and is restarted like any."""
    async with open_supervisor([ChildSpec(id_, Start(Puppet))]) as supervisor:
        supervisor.child(id_).cast(crash())
        await settle()
        _, line = format_tree(supervisor).splitlines()
        assert line.startswith(f"└── {label}")
        assert line.endswith("Puppet  running  restarts=1 mailbox=0")


@virtual
async def test_a_tree_may_be_one_process_or_have_no_class_yet() -> None:
    def late() -> Start:
        return Start(Puppet, (Role(init=Flaky(None, Boom("down"))),))

    async with open_server(Puppet, name="alone") as ref:
        assert format_tree(ref) == "alone  Puppet  running  restarts=0 mailbox=0"
    async with open_supervisor([ChildSpec("late", late)]) as supervisor:
        assert "late  Puppet  running" in format_tree(supervisor)
        await supervisor.terminate_child("late")
        assert "late  worker  down" in format_tree(supervisor)


@virtual
async def test_a_server_that_its_start_function_has_not_made_yet_has_a_line() -> None:
    async def start() -> Start:
        await trio.sleep(2.0)
        return Start(Puppet)

    async with open_supervisor([]) as supervisor, trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.start_child, ChildSpec(id="slow", start=start))
        await trio.sleep(1.0)
        line = format_tree(supervisor).splitlines()[1]
        assert "starting" in line, line
