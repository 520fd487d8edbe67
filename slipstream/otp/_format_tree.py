"""A tree of processes as text."""

from collections.abc import Iterator
from typing import Final

from ._child_spec import Start
from ._children import Child, ChildStatus
from ._ref import ServerRef, statistics_of, target_of
from ._shell import Phase, Shell

__all__ = ["format_tree"]

_TEES: Final = ("├── ", "│   ")
_ELBOWS: Final = ("└── ", "    ")


def format_tree(ref: ServerRef) -> str:
    """Draw the process that *ref* leads to and all below it, in the order of their start.

    Each line has the name or id, the class, the status, how often it was restarted, and how many
    messages wait in its mailbox::

        root  Supervisor  running  restarts=0 mailbox=0
        ├── store  Store  running  restarts=2 mailbox=14
        └── rooms  Supervisor  running  restarts=0 mailbox=0
            └── lobby  Room  restarting  restarts=3
    """
    target = target_of(ref)
    found = target.live() or target
    assert isinstance(found, Shell | Child)  # noqa: S101 - for the type checkers
    return "\n".join(_lines(found))


def _lines(node: Shell | Child) -> Iterator[str]:
    yield _describe(node)
    process = node.live()
    nodes = [] if process is None else list(process.below())
    for place, below in enumerate(nodes, 1):
        first, rest = _ELBOWS if place == len(nodes) else _TEES
        for line in _lines(below):
            yield first + line
            first = rest


def _describe(node: Shell | Child) -> str:
    process, statistics = node.live(), statistics_of(node)
    numbers = f"restarts={statistics.restarts}"
    if process is not None:
        numbers += f" mailbox={statistics.waiting}"
    return f"{_line_of(node.label)}  {_class_of(node, process)}  {_status_of(node)}  {numbers}"


def _class_of(node: Shell | Child, process: Shell | None) -> str:
    if process is not None and process.instance() is not None:
        return type(process.instance()).__name__
    start = node.spec.start
    return start.cls.__name__ if isinstance(start, Start) else node.spec.type


def _status_of(node: Shell | Child) -> str:
    process = node.live()
    if process is None:
        return node.status if isinstance(node, Child) else ChildStatus.DOWN
    if process.stopping or process.phase is Phase.ENDING:
        return ChildStatus.STOPPING
    if process.phase is Phase.STARTING:
        return ChildStatus.STARTING
    return "suspended" if process.suspended else ChildStatus.RUNNING


def _line_of(label: str) -> str:
    """Give *label* without anything that would break the line."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in label)
